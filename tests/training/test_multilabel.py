"""Scores of multi-label classifiers against slow referees."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss_cli.metrics import average_precision, f1, mean_average_precision


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


def test_known_values() -> None:
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
