"""Metrics against slow loops, values worked by hand, and one threshold at a time."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss_cli.metrics import (
    BoundaryCounts,
    Confusion,
    ThresholdSweep,
    average_precision,
    f1,
    mean,
    mean_average_precision,
    near_contour,
    threshold_histogram,
)

# ---- label maps ----------------------------------------------------------------------------------


def slow(prediction: np.ndarray, truth: np.ndarray, classes: int, ignore: int) -> np.ndarray:
    counts = np.zeros((classes, classes + 1), np.int64)
    for predicted, true in zip(prediction.ravel(), truth.ravel(), strict=True):
        if true != ignore:
            counts[true, classes if predicted == ignore else predicted] += 1
    return counts


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int16])
def test_counts_equal_a_loop(dtype: type) -> None:
    rng = np.random.default_rng(0)
    confusion = Confusion(4)
    expected = np.zeros((4, 5), np.int64)
    for _ in range(3):
        truth = rng.choice([0, 1, 2, 3, 255], (17, 23)).astype(dtype)
        prediction = rng.choice([0, 1, 2, 3, 255], (17, 23)).astype(dtype)
        confusion.update(prediction, truth)
        expected += slow(prediction, truth, 4, 255)
    assert np.array_equal(confusion.counts, expected)


def test_values_worked_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1], [2, 2, 255, 0]], np.uint8)
    result = np.array([[0, 1, 1, 255], [1, 2, 2, 0]], np.uint8)
    confusion = Confusion(4)
    confusion.update(result, truth)
    # background: 2 right of 3 true, 2 predicted; 1: 1 of 2, 3; 2: 1 of 2, 1
    assert confusion.iou()[:3].tolist() == [2 / 3, 1 / 4, 1 / 2]
    assert math.isnan(confusion.iou()[3])  # neither true nor predicted
    assert confusion.miou() == pytest.approx((2 / 3 + 1 / 4 + 1 / 2) / 3)
    assert confusion.precision()[:3].tolist() == [1, 1 / 3, 1]
    assert confusion.recall()[:3].tolist() == [2 / 3, 1 / 2, 1 / 2]
    assert confusion.pixel_accuracy() == 4 / 7


def test_a_class_found_but_never_true_counts_as_zero() -> None:
    confusion = Confusion(3)
    confusion.update(np.array([[0, 2]]), np.array([[0, 0]]))
    assert confusion.iou()[2] == 0
    assert confusion.miou() == 0.25


def test_one_matrix_over_the_set_is_not_the_mean_over_images() -> None:
    whole, parts = Confusion(2), [Confusion(2), Confusion(2)]
    images = [
        (np.array([[1, 1, 1, 0]]), np.array([[1, 1, 0, 0]])),
        (np.array([[1]]), np.array([[1]])),
    ]
    for part, (result, truth) in zip(parts, images, strict=True):
        whole.update(result, truth)
        part.update(result, truth)
    assert whole.iou()[1] == 3 / 4
    parts[0].merge(parts[1])
    assert np.array_equal(parts[0].counts, whole.counts)


def test_what_does_not_fit_is_refused() -> None:
    confusion = Confusion(3)
    ok = np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match="truth holds class number 3; 3 classes"):
        confusion.update(ok, ok + 3)
    with pytest.raises(ValueError, match="prediction holds class number 7"):
        confusion.update(ok + 7, ok)
    with pytest.raises(ValueError, match=r"prediction is \(2, 2\), truth \(2, 3\)"):
        confusion.update(ok, np.zeros((2, 3), np.uint8))
    with pytest.raises(ValueError, match="outside 0 to 255"):
        confusion.update(np.full((2, 2), -1), np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="different classes"):
        confusion.merge(Confusion(4))
    with pytest.raises(ValueError, match="between 1 and 255"):
        Confusion(0)
    assert not confusion.counts.any()


def test_plain_data_round_trip() -> None:
    confusion = Confusion(2, ignore=9)
    confusion.update(np.array([[0, 1]]), np.array([[1, 1]]))
    again = Confusion.from_dict(confusion.to_dict())
    assert np.array_equal(again.counts, confusion.counts)
    assert again.ignore == 9
    for wrong in ({}, {"num_classes": 2, "ignore": 255, "counts": [[1]]}, {"num_classes": "x"}):
        with pytest.raises(ValueError, match="confusion matrix"):
            Confusion.from_dict(wrong)


def test_nothing_counted_is_not_a_number() -> None:
    confusion = Confusion(2)
    confusion.update(np.full((2, 2), 0), np.full((2, 2), 255))
    assert math.isnan(confusion.miou())
    assert math.isnan(confusion.pixel_accuracy())
    assert mean(np.array([np.nan, 1.0, 0.0])) == 0.5


def test_a_small_ignore_value_takes_the_place_of_a_class() -> None:
    confusion = Confusion(3, ignore=0)
    confusion.update(np.array([[1, 1, 2]]), np.array([[0, 1, 2]]))
    assert confusion.miou() == 1


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (1, 7), (13, 1)])
def test_any_shape_is_counted(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    truth, result = rng.integers(0, 3, (2, *shape))
    confusion = Confusion(3)
    confusion.update(result, truth)
    assert np.array_equal(confusion.counts, slow(result, truth, 3, 255))


def test_a_worker_gives_back_what_it_counted() -> None:
    confusion = Confusion(21, ignore=254)
    confusion.update(np.array([[0, 20, 254, 3]]), np.array([[0, 20, 7, 254]]))
    again = pickle.loads(pickle.dumps(confusion))
    assert np.array_equal(again.counts, confusion.counts)
    assert (again.num_classes, again.ignore) == (21, 254)
    assert again.counts[7, 21] == 1


@pytest.mark.parametrize("ignore", [255, 0, 2])
def test_a_sweep_equals_one_threshold_at_a_time(ignore: int) -> None:
    rng = np.random.default_rng(0)
    thresholds = [0.2, 0.5, 0.75]
    sweep = ThresholdSweep(3, 6, ignore)
    separate = [Confusion(6, ignore) for _ in thresholds]
    for numbers in ([2, 5], [1], [5, 1, 2]):
        maps = (rng.integers(0, 5, (len(numbers), 9, 11)) / 4).astype(np.float32)  # with ties
        truth = rng.choice([0, 1, 2, 5, ignore], (9, 11)).astype(np.uint8)
        histogram = threshold_histogram(maps, truth, thresholds, num_classes=6, ignore=ignore)
        sweep.add(histogram, numbers)
        for threshold, confusion in zip(thresholds, separate, strict=True):
            scores = np.concatenate([np.full((1, 9, 11), threshold, np.float32), maps])
            confusion.update(np.array([0, *numbers])[scores.argmax(0)], truth)
    swept = sweep.confusions()
    assert len(swept) == 3
    for confusion, expected in zip(swept, separate, strict=True):
        assert np.array_equal(confusion.counts, expected.counts)
        assert confusion.ignore == ignore


def test_a_sweep_refuses_a_class_that_is_none() -> None:
    truth = np.array([[0, 9]], np.uint8)
    with pytest.raises(ValueError, match="truth holds class number 9; 3 classes"):
        threshold_histogram(np.ones((1, 1, 2), np.float32), truth, [0.5], num_classes=3)


# ---- image-level labels --------------------------------------------------------------------------


def slow_average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Step through every threshold and add up the rectangles under the curve."""
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        said = [i for i in range(len(scores)) if scores[i] >= threshold]
        right = sum(bool(truth[i]) for i in said)
        now = right / sum(truth.tolist())
        area += (now - recall) * right / len(said)
        recall = now
    return area


@given(
    st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=1, max_size=40).filter(
        lambda rows: any(there for _, there in rows)
    )
)
def test_average_precision_with_ties(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in rows], float)
    truth = np.array([there for _, there in rows])
    assert average_precision(scores, truth) == pytest.approx(slow_average_precision(scores, truth))


def test_average_precision_worked_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    assert average_precision(scores, np.array([1, 1, 0, 0], bool)) == 1
    assert average_precision(scores, np.array([0, 0, 1, 1], bool)) == pytest.approx(
        0.5 * 1 / 3 + 0.5 * 2 / 4
    )


def test_a_class_that_is_nowhere_does_not_count() -> None:
    scores = np.array([[1.0, 3.0], [-1.0, -2.0]])
    truth = np.array([[True, False], [False, False]])
    assert mean_average_precision(scores, truth) == 1
    assert f1(scores, truth) == pytest.approx((1 + 0) / 2)  # class 1 was said to be there
    assert math.isnan(mean_average_precision(scores, np.zeros((2, 2), bool)))


@pytest.mark.parametrize("seed", range(5))
def test_f1_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, truth = rng.normal(size=(30, 4)), rng.random((30, 4)) < 0.3
    each = []
    for c in range(4):
        tp = sum(scores[i, c] > 0 and truth[i, c] for i in range(30))
        fp = sum(scores[i, c] > 0 and not truth[i, c] for i in range(30))
        fn = sum(scores[i, c] <= 0 and truth[i, c] for i in range(30))
        each.append(2 * tp / (2 * tp + fp + fn))
    assert f1(scores, truth) == pytest.approx(sum(each) / 4)


# ---- contours ------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [1, 2, 3, 7, 30])
def test_near_a_contour_as_by_a_loop(distance: int) -> None:
    rng = np.random.default_rng(distance)
    labels = np.kron(rng.integers(0, 3, (3, 4)), np.ones((9, 11))).astype(np.uint8)
    labels[4, 5] = 255
    height, width = labels.shape
    expected = np.zeros(labels.shape, bool)
    for y in range(height):
        for x in range(width):
            rows = range(y - distance, y + distance + 1)
            columns = range(x - distance, x + distance + 1)
            expected[y, x] = any(
                not (0 <= i < height and 0 <= j < width) or labels[i, j] != labels[y, x]
                for i in rows
                for j in columns
            )
    np.testing.assert_array_equal(near_contour(labels, distance), expected)


def test_boundary_iou_as_by_erosion_of_each_class() -> None:
    """As in the paper: G without its erosion by a square, the border being outside."""
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(0)
    counts, both, either = BoundaryCounts(4, share=0.05), np.zeros(4), np.zeros(4)
    for _ in range(3):
        truth, found = (
            np.kron(rng.integers(0, 4, (4, 5)), np.ones((13, 12), int))[:45, :57] for _ in "ab"
        )
        truth[rng.random(truth.shape) < 0.01] = 255
        counts.update(found, truth)
        known = truth != 255
        found = np.where(known, found, 255)
        side = 2 * max(round(0.05 * math.hypot(45, 57)), 1) + 1
        for number in range(4):
            near = [
                mask & ~ndimage.binary_erosion(mask, np.ones((side, side)))
                for mask in (truth == number, found == number)
            ]
            both[number] += (near[0] & near[1]).sum()
            either[number] += (near[0] | near[1]).sum()
    np.testing.assert_allclose(counts.iou(), both / either)


def test_boundary_iou_of_what_is_right_and_of_what_is_shifted() -> None:
    truth = np.zeros((100, 100), np.uint8)
    truth[30:70, 30:70] = 1
    truth[30:70, 70:73] = 255
    right = BoundaryCounts(3)
    right.update(np.where(truth == 255, 1, truth), truth)
    np.testing.assert_array_equal(right.iou()[:2], [1, 1])
    assert math.isnan(right.iou()[2])
    shifted, area = BoundaryCounts(2), Confusion(2)
    for counts in (shifted, area):
        counts.update(np.roll(truth == 1, 3, 0).astype(np.uint8), truth)
    assert shifted.iou()[1] < 0.4 < 0.8 < area.iou()[1]


def test_pixels_without_a_prediction_are_near_nothing() -> None:
    counts = BoundaryCounts(2)
    counts.update(np.full((4, 4), 255), np.ones((4, 4), int))
    assert counts.counts.tolist() == [[0, 0], [0, 12], [0, 0]]


@given(st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_dice_is_twice_the_iou_over_one_plus_it(numbers: list[int]) -> None:
    confusion = Confusion(4)
    confusion.update(np.array([numbers[:6]]), np.array([numbers[6:]]))
    iou = confusion.iou()
    np.testing.assert_allclose(confusion.dice(), 2 * iou / (1 + iou))
