"""Several items at once on a CPU, each with its share of the cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_ABREAST = 4  # each pass holds its activations; 4 at once are 1 GB at 1500 x 2000 pixels


class SideBySide:
    """Calls a function of each of several items; on a CPU, several side by side.

    torch splits every layer between all cores, and layers of one image are so short that much of
    the time goes into waiting for the slowest core: on a machine that does other work too, such as
    the next tool of a pipe, most of it. Items side by side, each with its share of the cores, wait
    for each other once.

    Args:
        device: where the function computes.

    Attributes:
        abreast: how many calls run side by side.
    """

    def __init__(self, device: torch.device) -> None:
        self._cores = torch.get_num_threads() if device.type == "cpu" else 1
        self.abreast = min(self._cores, _MOST_ABREAST)
        self._pool = ThreadPoolExecutor(self.abreast, thread_name_prefix="wsss-see")

    def __call__(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """``function`` of each item, in order.

        Args:
            function: must not spread several items itself.
            items: what it is called with.
        """
        abreast = min(len(items), self.abreast)
        if abreast < 2:
            return [function(item) for item in items]

        def alone(item: Item) -> Result:
            torch.set_num_threads(self._cores // abreast)  # of this thread only
            return function(item)

        return list(self._pool.map(alone, items))
