"""The mean colour of a data set."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from wsss_cli import files
from wsss_cli.errors import WsssError
from wsss_cli.pool import in_threads


def mean_colour(photographs: Iterable[str], *, threads: int = 1) -> tuple[int, int, int] | None:
    """The mean of all pixels of all photographs, in constant memory.

    Args:
        photographs: paths; photographs that cannot be read are skipped.
        threads: number of photographs read at the same time.

    Returns:
        Red, green and blue, 0 to 255, or None if no photograph can be read.
    """
    total, pixels = np.zeros(3), 0
    for result in in_threads(_mean, photographs, threads=threads):
        if result is not None:
            mean, count = result
            total += mean * count
            pixels += count
    if not pixels:
        return None
    red, green, blue = (round(value) for value in (total / pixels).tolist())
    return red, green, blue


def _mean(path: str) -> tuple[npt.NDArray[np.float64], int] | None:
    """Mean colour and number of pixels of a photograph."""
    try:
        height, width = files.image_size(path)
        # A JPEG is decoded at an eighth of its size: each pixel there is the mean of a block.
        small = files.open_rgb(path, at_least=1)
    except (WsssError, OSError):
        return None  # reported when the tool comes to the record
    return np.asarray(small).mean((0, 1), dtype=np.float64), height * width
