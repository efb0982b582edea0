"""How well a classifier finds the classes of photographs that may show several."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def average_precision(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Area under the precision-recall curve of one class, not interpolated.

    AP = sum_k (R_k - R_{k-1}) P_k over the distinct scores, from high to low.

    Args:
        scores: shape (N,), higher where the class is more likely.
        truth: shape (N,), True where the class is there.

    Returns:
        The area in [0, 1]; NaN if the class is nowhere.
    """
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    scores, truth = scores[order], truth[order]
    last = np.append(scores[1:] != scores[:-1], True)  # equal scores are accepted together
    hits = np.cumsum(truth)[last]
    precision = hits / (np.flatnonzero(last) + 1)
    recall = hits / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def mean_average_precision(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Mean of :func:`average_precision` over the classes that are there, or NaN if none is.

    Args:
        scores: shape (N, C).
        truth: shape (N, C).
    """
    each = [average_precision(scores[:, c], truth[:, c]) for c in range(truth.shape[1])]
    known = [value for value in each if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def f1(scores: NDArray[np.floating], truth: NDArray[np.bool_], threshold: float = 0.0) -> float:
    """Mean over classes of F1 = 2 TP / (2 TP + FP + FN).

    Args:
        scores: shape (N, C).
        truth: shape (N, C).
        threshold: a class is said to be there where its score is above this; for logits, 0 is a
            probability of one half.

    Returns:
        The mean in [0, 1] over the classes that are somewhere, in truth or by their scores; NaN if
        there are none.
    """
    said = scores > threshold
    hits = 2 * np.sum(said & truth, axis=0)
    all_ = np.sum(said, axis=0) + np.sum(truth, axis=0)
    return float(np.mean(hits[all_ > 0] / all_[all_ > 0])) if (all_ > 0).any() else float("nan")
