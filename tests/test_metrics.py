"""Metrics against a loop over pixels and values worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wsss_cli.metrics import Confusion, mean, pair_counts


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
    found = np.array([[0, 1, 1, 255], [1, 2, 2, 0]], np.uint8)
    confusion = Confusion(4)
    confusion.update(found, truth)
    # background: 2 right of 3 true, 2 found; 1: 1 of 2, 3 found; 2: 1 of 2, 1 found
    assert confusion.iou()[:3].tolist() == [2 / 3, 1 / 4, 1 / 2]
    assert math.isnan(confusion.iou()[3])  # neither true nor found
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
    for part, (found, truth) in zip(parts, images, strict=True):
        whole.update(found, truth)
        part.update(found, truth)
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


def test_pairs_are_counted_at_256_truth_plus_prediction() -> None:
    counts = pair_counts(np.array([[3, 3]], np.uint8), np.array([[2, 255]], np.uint8))
    assert counts[2 * 256 + 3] == 1
    assert counts[255 * 256 + 3] == 1
    assert counts.sum() == 2
