"""Outlines filled again are the regions, by any rule and by other programs' drawing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw

from wsss_cli.methods.outlines import filled, inset, joined, outlines, simplified
from wsss_cli.methods.regions import regions

SIZES = st.tuples(st.integers(1, 11), st.integers(1, 11))
MAPS = SIZES.flatmap(lambda size: arrays(np.uint8, size, elements=st.integers(0, 2)))
POINTS = arrays(np.float64, st.tuples(st.integers(3, 9), st.just(2)), elements=st.floats(-4, 14))


def inside(ring: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Pixels whose centres lie inside, each on its own: a ray to the left crosses lines."""
    found = np.zeros(size, np.bool_)
    for y, x in np.ndindex(size):
        for (ax, ay), (bx, by) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if (ay > y + 0.5) != (by > y + 0.5):
                found[y, x] ^= ax + (y + 0.5 - ay) / (by - ay) * (bx - ax) <= x + 0.5
    return found


def whole(ring: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    found = np.zeros(size, np.bool_)
    rows, columns, part = filled(ring, size)
    found[rows, columns] = part
    return found


@given(POINTS)
@settings(deadline=None)
def test_filling_is_that_of_point_after_point(ring: npt.NDArray[Any]) -> None:
    ring = ring.round(1) + 0.01  # no centre lies on a line by the rounding of one of the two
    assert np.array_equal(whole(ring, (9, 11)), inside(ring, (9, 11)))


@given(MAPS)
@settings(deadline=None)
def test_outlines_filled_are_the_regions(labels: npt.NDArray[np.uint8]) -> None:
    ids, numbers = regions(labels)
    found = outlines(ids)
    assert sorted(found) == list(range(len(numbers)))
    for region, rings in found.items():
        mask = ids == region
        assert np.array_equal(inside(joined(rings), labels.shape), mask)
        assert np.array_equal(whole(joined(rings), labels.shape), mask)
        separate = [whole(ring, labels.shape) for ring in rings]
        assert np.array_equal(np.logical_xor.reduce(separate), mask)
        for ring in rings:  # corners only, along the sides of pixels
            step = np.roll(ring, -1, axis=0) - ring
            assert ((step == 0).sum(1) == 1).all()
            assert ((step[:, 0] == 0) != (np.roll(step, 1, axis=0)[:, 0] == 0)).all()


@given(MAPS)
@settings(deadline=None)
def test_pixels_of_no_region_have_no_outline(labels: npt.NDArray[np.uint8]) -> None:
    ids, numbers = regions(labels)
    kept = outlines(np.where(labels == 1, ids, -1))
    assert sorted(kept) == np.flatnonzero(numbers == 1).tolist()
    everything = outlines(ids)
    for region, rings in kept.items():
        assert all(map(np.array_equal, rings, everything[region]))


@given(MAPS)
@settings(deadline=None)
def test_rings_through_the_centres_are_drawn_as_the_regions(
    labels: npt.NDArray[np.uint8],
) -> None:
    """With their line, as labelme does."""
    ids, _ = regions(labels)
    for region, rings in outlines(ids).items():
        picture = Image.new("1", labels.shape[::-1])
        ring = joined([inset(ring) for ring in rings])
        assert len(ring) > 2
        ImageDraw.Draw(picture).polygon([tuple(p) for p in ring.tolist()], fill=1, outline=1)
        assert np.array_equal(np.array(picture), ids == region)


@given(MAPS)
@settings(deadline=None)
def test_pycocotools_fills_outlines_to_the_regions(labels: npt.NDArray[np.uint8]) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    ids, _ = regions(labels)
    for region, rings in outlines(ids).items():
        coded = coco.frPyObjects([joined(rings).ravel().tolist()], *labels.shape)
        assert np.array_equal(coco.decode(coco.merge(coded)), ids == region)


def distance(point: npt.NDArray[Any], ring: npt.NDArray[Any]) -> float:
    """From a point to a closed line."""
    best = np.inf
    for start, end in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        along = end - start
        share = np.clip((point - start) @ along / max(along @ along, 1e-12), 0, 1)
        best = min(best, float(np.hypot(*(point - start - share * along))))
    return best


@given(MAPS, st.sampled_from([0.3, 0.8, 1.5, 3.0]))
@settings(deadline=None)
def test_no_point_is_further_than_the_tolerance_from_the_simpler_ring(
    labels: npt.NDArray[np.uint8], tolerance: float
) -> None:
    for rings in outlines(regions(labels)[0]).values():
        for ring in rings:
            fewer = simplified(ring, tolerance)
            assert 3 <= len(fewer) <= len(ring)
            corners = {tuple(point) for point in ring.tolist()}
            assert {tuple(point) for point in fewer.tolist()} <= corners
            assert max(distance(point, fewer) for point in ring) <= tolerance + 1e-9


def test_a_stair_becomes_a_line_and_tolerance_0_changes_nothing() -> None:
    stair = np.tril(np.ones((40, 40), np.uint8))
    ring = outlines(np.where(stair > 0, 0, -1))[0][0]
    assert simplified(ring, 0) is ring
    assert len(ring) > 75
    assert len(simplified(ring, 0.8)) <= 5


def test_a_hole_that_simplification_moves_out_of_its_region_is_tied_all_the_same() -> None:
    outer = np.array([[5.0, 0], [9, 5], [5, 9]])
    hole = np.array([[2.0, 4], [3, 6], [4, 4]])
    ring = joined([outer, hole])
    assert len(ring) == len(outer) + len(hole) + 2
    apart = whole(outer, (9, 9)) ^ whole(hole, (9, 9))
    assert np.array_equal(whole(ring, (9, 9)), apart)
