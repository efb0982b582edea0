"""Mining, erasing and merging against slow loops, and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from wsss_cli.methods.erasing import erase, join, merge, mine


def slow_mine(
    cam: Any, numbers: list[int], before: Any, top: float, threshold: float | None
) -> np.ndarray:
    """Pixel by pixel: who claims it, now or before."""
    _, height, width = cam.shape
    mined = np.zeros((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            claims = {int(before[y, x])} - {0}
            for plane, number in zip(cam, numbers, strict=True):
                value = plane[y, x]
                better = sum(other > value for other in plane.flat)
                if threshold is None:
                    inside = better < math.ceil(top * plane.size)
                else:
                    inside = value >= threshold * max(plane.flat)
                if inside and value > 0:
                    claims.add(number)
            mined[y, x] = 0 if not claims else claims.pop() if len(claims) == 1 else 255
    return mined


def slow_merge(mined: Any, saliency: Any, background: float) -> np.ndarray:
    mask = np.zeros(mined.shape, np.uint8)
    for place in np.ndindex(mined.shape):
        low = saliency[place] < background
        if mined[place] == 255 or (mined[place] and low):  # a conflict
            mask[place] = 255
        elif mined[place]:
            mask[place] = mined[place]
        else:
            mask[place] = 0 if low else 255
    return mask


def test_by_hand() -> None:
    """4 x 4: two classes, a step before, a conflict, and the three rules of sec. 3.1."""
    cat = np.array(
        [[0.9, 0.8, 0.1, 0.0], [0.7, 0.3, 0.1, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    )
    dog = np.array(
        [[0.0, 0.6, 0.9, 0.8], [0.0, 0.1, 0.2, 0.7], [0.0, 0.0, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0]]
    )
    # A quarter of 16 pixels is 4: of the cat .9 .8 .7 .3, of the dog .9 .8 .7 .6.
    first = mine(np.stack([cat, dog]), [3, 7], top=0.25)
    assert first.tolist() == [[3, 255, 7, 7], [3, 3, 0, 7], [0, 0, 0, 0], [0, 0, 0, 0]]
    # The next step finds the cat below and the dog not at all; the cat claims a pixel of the dog.
    below = np.zeros((4, 4))
    below[1, 3], below[2, :3] = 0.5, (0.9, 1.0, 0.2)
    second = join(first, mine(np.stack([below, np.zeros((4, 4))]), [3, 7], top=0.25))
    assert second.tolist() == [[3, 255, 7, 7], [3, 3, 0, 255], [3, 3, 3, 0], [0, 0, 0, 0]]
    assert first[2].tolist() == [0, 0, 0, 0]  # not changed in place

    saliency = np.array(
        [[1, 1, 1, 0.05], [1, 0.06, 1, 1], [1, 1, 0.0, 0.0], [0.5, 0.0, 0.05, 0.06]]
    )
    assert merge(second, saliency).tolist() == [
        [3, 255, 7, 255],
        [3, 3, 255, 255],
        [3, 3, 255, 0],
        [255, 0, 0, 255],
    ]

    image = np.full((4, 4, 3), 9, np.uint8)
    hidden = erase(image, second, (1, 2, 3))
    assert (image == 9).all()
    for place in np.ndindex(4, 4):
        assert hidden[place].tolist() == ([1, 2, 3] if second[place] else [9, 9, 9])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("top", "threshold"), [(0.2, None), (0.31, None), (1, None), (0.2, 0.4), (0.2, 0), (0.2, 1)]
)
def test_mining_against_a_slow_loop(dtype: Any, top: float, threshold: float | None) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        cam = (rng.integers(0, 6, (3, 7, 9)) / 8).astype(dtype)  # many are level, many are 0
        before = rng.choice(np.array([0, 0, 0, 4, 9, 200, 255], np.uint8), (7, 9))
        result = join(before, mine(cam, [4, 9, 1], top=top, threshold=threshold))
        assert np.array_equal(result, slow_mine(cam, [4, 9, 1], before, top, threshold))


def test_merging_against_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    mined = rng.choice(np.array([0, 1, 20, 255], np.uint8), (30, 20))
    saliency = rng.choice(np.array([0, 0.05, 0.06, 0.3, 1]), (30, 20))
    for background in (0.06, 0, 0.5, 2):
        result = merge(mined, saliency, background=background)
        assert np.array_equal(result, slow_merge(mined, saliency, background))


def test_the_order_of_the_classes_does_not_matter() -> None:
    cam = np.random.default_rng(0).random((3, 8, 8))
    assert np.array_equal(mine(cam, [1, 2, 3]), mine(cam[::-1], [3, 2, 1]))


def test_a_class_that_is_not_found_mines_nothing_and_keeps_what_it_has() -> None:
    before = np.zeros((4, 6), np.uint8)
    before[1, 2] = 5
    assert np.array_equal(join(before, mine(np.zeros((1, 4, 6)), [5])), before)
    assert np.array_equal(join(before, mine(np.zeros((0, 4, 6)), [])), before)
    assert not mine(np.zeros((1, 4, 6)), [5], threshold=0).any()
    weak = np.zeros((1, 4, 6))
    weak[0, 0, 0] = 1e-3  # less than a fifth is activated at all
    assert (mine(weak, [5]) != 0).sum() == 1


def test_regions_grow_until_the_image_is_erased_and_stay_there() -> None:
    rng = np.random.default_rng(0)
    mined = np.zeros((10, 10), np.uint8)
    shares = []
    for _ in range(40):
        mined = join(mined, mine(rng.random((1, 10, 10)) + 0.01, [2]))
        shares.append((mined == 2).mean())
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.2, 1.0)
    image = rng.integers(0, 256, (10, 10, 3), dtype=np.uint8)
    assert (erase(image, mined, (7, 8, 9)) == (7, 8, 9)).all()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"numbers": [1]}, "1 class numbers for maps"),
        ({"cam": np.zeros((4, 4))}, "for maps of shape"),
        ({"top": 0}, "out of range"),
        ({"top": 1.1}, "out of range"),
        ({"threshold": -0.1}, "out of range"),
        ({"numbers": [1, 255]}, "1 to 254"),
        ({"numbers": [0, 1]}, "1 to 254"),
        ({"cam": np.full((2, 4, 4), -1.0)}, "at least 0"),
        ({"cam": np.full((2, 4, 4), np.nan)}, "not NaN"),
    ],
)
def test_what_cannot_be_mined(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        mine(**{"cam": np.ones((2, 4, 4)), "numbers": [1, 2], **change})


def test_what_cannot_be_erased_or_merged() -> None:
    mined = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match="an image of shape"):
        erase(np.zeros((4, 5, 3), np.uint8), mined, (0, 0, 0))
    for fill in ((0, 0), (0, 0, 256), (0, -1, 0)):
        with pytest.raises(ValueError, match="red, green and blue"):
            erase(np.zeros((4, 4, 3), np.uint8), mined, fill)
    with pytest.raises(ValueError, match="regions of shape"):
        join(mined, np.zeros((5, 4), np.uint8))
    with pytest.raises(ValueError, match="saliency of shape"):
        merge(mined, np.zeros((5, 4)))
    with pytest.raises(ValueError, match="NaN"):
        merge(mined, np.full((4, 4), np.nan))
