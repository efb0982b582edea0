"""Device and precision of a network, and several items side by side on a CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch

from wsss_cli.errors import ConfigurationError

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """A device and a precision.

    Attributes:
        device: the device.
        precision: fp32, bf16 or fp16. Weights are always fp32; with the other two, the layers that
            tolerate it are computed in the shorter type.
    """

    device: torch.device
    precision: str

    def autocast(self) -> AbstractContextManager[object]:
        """A context in which layers compute at this precision."""
        return torch.autocast(
            self.device.type, _TYPES[self.precision], enabled=self.precision != "fp32"
        )

    @property
    def needs_scaler(self) -> bool:
        """Whether small gradients would vanish without scaling the loss up (fp16)."""
        return self.precision == "fp16"


def choose(device: str = "auto", precision: str = "auto", *, local_rank: int = 0) -> Compute:
    """The device and precision for the options ``--device`` and ``--precision``.

    Args:
        device: auto (cuda, else mps, else cpu), cpu, cuda, cuda:N or mps.
        precision: auto (bf16 where the device has instructions for it, else fp32), fp32, bf16 or
            fp16.
        local_rank: number of the CUDA device to use where none is given.

    Raises:
        ConfigurationError: this machine has no such device, or it lacks the precision.
    """
    if device == "auto":
        cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
        device = "cuda" if cuda else "mps" if mps else "cpu"
    if device == "cuda":
        device = f"cuda:{local_rank}"
    chosen = torch.device(device)
    no_cuda = chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count()
    no_mps = chosen.type == "mps" and not torch.backends.mps.is_available()
    if no_cuda or no_mps:
        raise ConfigurationError(
            f"--device {device}: this machine has no such device", option="device"
        )
    if precision == "auto":
        precision = "bf16" if _computes_bf16(chosen) else "fp32"
    if precision == "fp16" and chosen.type == "cpu":
        raise ConfigurationError(
            "--precision fp16 needs a GPU; on a CPU use bf16 or fp32", option="precision"
        )
    return Compute(chosen, precision)


def _computes_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16, so that it is faster than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_ABREAST = 4  # each pass holds its activations; 4 at once are 1 GB at 1500 x 2000 pixels


class SideBySide:
    """Calls a function on each of several items; on a CPU, several at the same time.

    torch splits every layer between all cores, and the layers of one image are so short that much
    of the time is spent waiting for the slowest core, most of it if the machine is busy with the
    next tool of a pipe. Items side by side, each on its share of the cores, wait only once.

    Args:
        device: where the function computes.

    Attributes:
        abreast: how many calls run side by side.
    """

    def __init__(self, device: torch.device) -> None:
        self._cores = torch.get_num_threads() if device.type == "cpu" else 1
        self.abreast = min(self._cores, _MOST_ABREAST)
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(
            self.abreast, "wsss-see", lambda: setattr(self._own, "thread", True)
        )

    def __call__(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """``function`` of each item, in order.

        Args:
            function: where it calls this object itself, it does all items of its own.
            items: its arguments, one call each.
        """
        abreast = min(len(items), self.abreast)
        # One of our threads must not wait for another: none may be left.
        if abreast < 2 or hasattr(self._own, "thread"):
            return [function(item) for item in items]

        def alone(item: Item) -> Result:
            torch.set_num_threads(self._cores // abreast)  # of this thread only
            return function(item)

        return list(self._pool.map(alone, items))
