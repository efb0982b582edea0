"""Connected regions against flood filling; run lengths against COCO's own code and its results."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsss_cli.methods.regions import decoded, encoded, mask_of, regions, run_lengths

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))
MAPS = SIZES.flatmap(lambda size: arrays(np.uint8, size, elements=st.integers(0, 3)))


def flooded(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The region of each pixel, found by walking from pixel to pixel."""
    found = np.full(labels.shape, -1)
    for start in np.ndindex(labels.shape):
        if found[start] >= 0:
            continue
        number, waiting = found.max() + 1, [start]
        while waiting:
            y, x = waiting.pop()
            if found[y, x] >= 0:
                continue
            found[y, x] = number
            for b, a in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= b < labels.shape[0] and 0 <= a < labels.shape[1]
                if inside and labels[b, a] == labels[start]:
                    waiting.append((b, a))
    return found


@given(MAPS)
@settings(deadline=None)
def test_regions_are_those_of_flood_filling(labels: npt.NDArray[np.uint8]) -> None:
    ids, numbers = regions(labels)
    assert np.array_equal(ids, flooded(labels))
    assert np.array_equal(numbers[ids], labels)


def test_a_spiral_and_a_comb_are_one_region_each() -> None:
    spiral = np.zeros((41, 41), np.uint8)
    for ring in range(0, 20, 2):
        spiral[ring, ring : 41 - ring] = spiral[ring : 41 - ring, 40 - ring] = 1
        spiral[40 - ring, ring : 41 - ring] = spiral[ring + 2 : 41 - ring, ring] = 1
        spiral[ring + 2, ring : ring + 3] = 1
    comb = np.zeros((30, 60), np.uint8)
    comb[:, ::2] = 1
    comb[29] = 1
    for labels in (spiral, comb, comb[::-1], comb.T):
        ids, numbers = regions(labels)
        assert np.array_equal(ids, flooded(labels))
        assert (numbers == 1).sum() == 1


def test_maps_without_pixels_have_no_regions() -> None:
    for size in ((0, 3), (3, 0)):
        ids, numbers = regions(np.zeros(size, np.uint8))
        assert (ids.shape, numbers.size) == (size, 0)
        assert list(run_lengths(ids)) == []


@given(MAPS)
@settings(deadline=None)
def test_run_lengths_tell_the_pixels_their_number_and_their_box(
    labels: npt.NDArray[np.uint8],
) -> None:
    found = list(run_lengths(labels))
    assert [runs.number for runs in found] == np.unique(labels).tolist()
    for runs in found:
        mask = labels == runs.number
        assert np.array_equal(mask_of(runs.counts, labels.shape), mask)
        assert runs.area == mask.sum()
        y, x = np.nonzero(mask)
        assert runs.box == (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)
        assert decoded(encoded(runs.counts)) == runs.counts


# Made with pycocotools 2.0.11.
RING = np.array([[0, 1, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1]])
LONG = np.zeros((1000, 1), int)
LONG[0] = LONG[700:] = 1
BOX = np.zeros((40, 50), int)
BOX[3:37, 2:48] = 1
STORED = [
    (RING, "3410"),
    (np.ones((3, 2), int), "06"),
    (np.zeros((3, 2), int), "6"),
    (LONG, "01ke0[9"),
    (BOX, "c2R16" + "0" * 89 + "]2"),
]


@pytest.mark.parametrize(("mask", "text"), STORED)
def test_texts_are_those_of_coco(mask: npt.NDArray[Any], text: str) -> None:
    counts = [runs.counts for runs in run_lengths(mask) if runs.number] or [[mask.size]]
    assert encoded(counts[0]) == text
    assert np.array_equal(mask_of(decoded(text), mask.shape), mask)


@given(MAPS)
@settings(deadline=None)
def test_texts_are_those_of_pycocotools(labels: npt.NDArray[np.uint8]) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    for runs in run_lengths(labels):
        theirs = coco.encode(np.asfortranarray(labels == runs.number).astype(np.uint8))
        assert theirs["counts"].decode() == encoded(runs.counts)
        assert coco.toBbox(theirs).tolist() == list(runs.box)


@given(st.lists(st.integers(0, 1 << 40)))
def test_any_counts_come_back(counts: list[int]) -> None:
    assert decoded(encoded(counts)) == counts


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120)) | st.text())
def test_a_text_of_anything_is_read_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert min(decoded(text), default=0) >= 0


@pytest.mark.parametrize("text", ["P", "0\n", "é", "o" * 20, "~", "O", "0O"])
def test_what_is_no_text_of_counts_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        decoded(text)


def test_counts_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="run lengths of 7 pixels for 2x3"):
        mask_of([3, 4], (3, 2))
