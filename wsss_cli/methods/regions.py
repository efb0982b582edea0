"""Connected regions of a label map, and the run lengths by which COCO stores a mask.

A mask (H, W) is coded column by column: the numbers of pixels outside and inside it in turn, those
outside first. COCO writes such counts into JSON as one text, five bits a character.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]

_FIRST, _LAST = ord("0"), ord("0") + 63  # the characters of a text of counts
_LONGEST = 13  # characters of a count, which has 64 bits


def regions(labels: Ints) -> tuple[npt.NDArray[np.intp], Ints]:
    """The connected regions of a label map.

    Pixels of one label that touch at a side are of one region.

    Args:
        labels: whole numbers (H, W).

    Returns:
        The region of each pixel, (H, W), numbered from 0 by rows; and the label of each region.
    """
    height, width = labels.shape
    if not labels.size:
        return np.zeros((height, width), np.intp), labels.reshape(-1)[:0]
    starts = np.ones((height, width), np.bool_)  # of runs along the rows
    starts[:, 1:] = labels[:, 1:] != labels[:, :-1]
    runs = starts.ravel().cumsum().reshape(height, width) - 1
    above, below = runs[:-1], runs[1:]
    joined = labels[:-1] == labels[1:]
    # Two runs meet along many pixels; the first of them tells.
    joined[:, 1:] &= starts[:-1, 1:] | starts[1:, 1:]
    root = _roots(int(runs[-1, -1]) + 1, above[joined], below[joined])
    first, ids = np.unique(root, return_inverse=True)
    return ids.reshape(-1)[runs], labels.ravel()[np.flatnonzero(starts)[first]]


def _roots(count: int, one: Ints, other: Ints) -> npt.NDArray[np.intp]:
    """The lowest of all numbers that a number is joined to, for the numbers below ``count``."""
    root = np.arange(count)
    while True:
        a, b = root[one], root[other]
        if not (apart := a != b).any():
            return root
        np.minimum.at(root, np.maximum(a, b)[apart], np.minimum(a, b)[apart])
        while not np.array_equal(further := root[root], root):
            root = further


@dataclass(frozen=True)
class Runs:
    """The pixels of one number in a map (H, W).

    Attributes:
        number: the number.
        counts: pixels outside and inside in turn, by columns.
        area: how many are inside.
        box: left, top, width and height of the smallest box around these.
    """

    number: int
    counts: list[int]
    area: int
    box: tuple[int, int, int, int]


def run_lengths(numbers: Ints) -> Iterator[Runs]:
    """The run lengths of each number in a map (H, W), lowest number first."""
    height, size = len(numbers), numbers.size
    if not size:
        return
    flat = numbers.ravel(order="F")
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    ends = np.append(starts[1:], size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(values[order])) + 1):
        start, end = starts[group], ends[group]
        counts = np.empty(2 * len(group), np.int64)
        counts[0::2] = start - np.concatenate(([0], end[:-1]))
        counts[1::2] = end - start
        rest = [size - int(end[-1])] if end[-1] < size else []
        left, right = int(start[0]) // height, (int(end[-1]) - 1) // height
        # A run that goes on in the next column has the last row of one and the first of the other.
        across = bool((start // height != (end - 1) // height).any())
        top = 0 if across else int((start % height).min())
        bottom = height - 1 if across else int(((end - 1) % height).max())
        yield Runs(
            int(values[group[0]]),
            counts.tolist() + rest,
            int(counts[1::2].sum()),
            (left, top, right - left + 1, bottom - top + 1),
        )


def encoded(counts: Sequence[int]) -> str:
    """Counts of at least 0 as COCO's text.

    From the fourth on, a count is stored as its difference to the last but one. Each number is cut
    into groups of five bits, the lowest first; a sixth says that more follow.
    """
    letters = bytearray()
    for place, count in enumerate(counts):
        rest = count - counts[place - 2] if place > 2 else count
        while True:
            bits, rest = rest & 31, rest >> 5
            # The highest bit of the last group is the sign.
            last = rest == (-1 if bits & 16 else 0)
            letters.append(_FIRST + (bits if last else bits | 32))
            if last:
                break
    return letters.decode("ascii")


def decoded(text: str) -> list[int]:
    """The counts in COCO's text.

    Raises:
        ValueError: no such text, or a count below 0.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        if not _FIRST <= ord(letter) <= _LAST or shift >= 5 * _LONGEST:
            raise ValueError("no text of run lengths")
        bits = ord(letter) - _FIRST
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        value += counts[-2] if len(counts) > 2 else 0
        if value < 0:
            raise ValueError("run lengths below 0")
        counts.append(value)
        value = shift = 0
    if shift:
        raise ValueError("run lengths that are cut off")
    return counts


def mask_of(counts: Sequence[int], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask, bool (H, W), that run lengths stand for.

    Raises:
        ValueError: they do not add up to ``size``.
    """
    if sum(counts) != size[0] * size[1]:
        raise ValueError(f"run lengths of {sum(counts)} pixels for {size[1]}x{size[0]}")
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return inside.reshape(size, order="F")
