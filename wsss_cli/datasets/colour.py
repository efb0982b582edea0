"""The mean colour of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import numpy.typing as npt

from wsss_cli import files
from wsss_cli.errors import WsssError

_ABREAST = 64


def mean_colour(photographs: Iterable[str], *, threads: int = 1) -> tuple[int, int, int] | None:
    """The mean of all pixels of all photographs, in constant memory.

    Args:
        photographs: paths; those that cannot be read do not count.
        threads: how many photographs are read at once.

    Returns:
        Red, green and blue, 0 to 255, or None without a photograph that can be read.
    """
    total, pixels = np.zeros(3), 0
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        for paths in _in_parts(photographs):
            for found in pool.map(_mean, paths):
                if found is not None:
                    total += found[0] * found[1]
                    pixels += found[1]
    if not pixels:
        return None
    red, green, blue = (round(value) for value in (total / pixels).tolist())
    return red, green, blue


def _in_parts(paths: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(paths)
    while part := list(islice(remaining, _ABREAST)):
        yield part


def _mean(path: str) -> tuple[npt.NDArray[np.float64], int] | None:
    """Mean colour and number of pixels of a photograph."""
    try:
        height, width = files.image_size(path)
        # A JPEG is decoded at an eighth of its size: each pixel there is the mean of a block.
        small = files.open_rgb(path, at_least=1)
    except (WsssError, OSError):
        return None  # whoever works on the record says so
    return np.asarray(small).mean((0, 1), dtype=np.float64), height * width
