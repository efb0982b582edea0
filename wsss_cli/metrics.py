"""Segmentation metrics from one confusion matrix over the whole set, as PASCAL VOC counts.

Numpy only: measuring needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


class Confusion:
    """Pixels by true class (rows) and predicted class (columns).

    The last column holds pixels without a prediction (the ignore value in the predicted map): they
    are missed by their true class and claimed by none.

    Args:
        num_classes: C, background included.
        ignore: pixels with this true label are not counted. If it is the number of a class, that
            class is left out of every mean.

    >>> confusion = Confusion(2)
    >>> confusion.update(np.array([[0, 1, 1]]), np.array([[0, 0, 1]]))
    >>> confusion.iou().tolist(), confusion.miou()
    ([0.5, 0.5], 0.5)
    """

    def __init__(self, num_classes: int, ignore: int = 255) -> None:
        if not 1 <= num_classes <= 255:
            raise ValueError(f"num_classes must lie between 1 and 255, not {num_classes}")
        self.num_classes, self.ignore = num_classes, ignore
        self.counts: Counts = np.zeros((num_classes, num_classes + 1), np.int64)

    def update(self, prediction: npt.NDArray[Any], truth: npt.NDArray[Any]) -> None:
        """Count one image.

        Args:
            prediction: class numbers, or the ignore value where there is none, (H, W).
            truth: class numbers, or the ignore value, (H, W).

        Raises:
            ValueError: the shapes differ, or a number is neither a class nor the ignore value.
        """
        if prediction.shape != truth.shape:
            raise ValueError(f"prediction is {prediction.shape}, truth {truth.shape}")
        pairs, pixels = _pairs(_bytes(prediction, "prediction"), _bytes(truth, "truth"))
        places = _places(self.num_classes, self.ignore)
        row, column = places[pairs >> 8], places[pairs & 255]
        for numbers, place, what in (
            (pairs >> 8, row, "truth"),
            (pairs & 255, column, "prediction"),
        ):
            if (wrong := place > self.num_classes).any():
                _refuse(numbers[wrong], what, self.num_classes)
        known = row < self.num_classes
        np.add.at(self.counts, (row[known], column[known]), pixels[known])

    def merge(self, other: Confusion) -> None:
        """Add what another one counted.

        Raises:
            ValueError: it counts other classes or ignores another value.
        """
        if (self.num_classes, self.ignore) != (other.num_classes, other.ignore):
            raise ValueError("confusion matrices of different classes cannot be merged")
        self.counts += other.counts

    def iou(self) -> Values:
        """Intersection over union of each class; NaN where it is neither true nor predicted."""
        hit = np.diag(self.counts)
        return _ratio(hit, self.counts.sum(1) + self.counts[:, : self.num_classes].sum(0) - hit)

    def miou(self) -> float:
        """Mean IoU over the classes that are true or predicted anywhere; NaN if there is none."""
        return mean(self.iou())

    def precision(self) -> Values:
        """Of the pixels predicted as each class, the share that is right."""
        return _ratio(np.diag(self.counts), self.counts[:, : self.num_classes].sum(0))

    def recall(self) -> Values:
        """Of the pixels of each class, the share that is found."""
        return _ratio(np.diag(self.counts), self.counts.sum(1))

    def pixel_accuracy(self) -> float:
        """Share of all counted pixels that are right."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """As plain data, to be stored and merged elsewhere."""
        return {
            "num_classes": self.num_classes,
            "ignore": self.ignore,
            "counts": self.counts.tolist(),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """For worker processes: of one image nearly all counts are 0."""
        places = np.flatnonzero(self.counts)
        return _unpacked, (self.num_classes, self.ignore, places, self.counts.flat[places])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Confusion:
        """The reverse of :meth:`to_dict`.

        Raises:
            ValueError: the data are not those of a confusion matrix.
        """
        try:
            made = cls(int(data["num_classes"]), int(data["ignore"]))
            counts = np.array(data["counts"], np.int64)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("not a confusion matrix") from error
        if counts.shape != made.counts.shape or counts.min() < 0:
            raise ValueError(f"a confusion matrix of shape {counts.shape}, not {made.counts.shape}")
        made.counts = counts
        return made


def _unpacked(num_classes: int, ignore: int, places: Counts, values: Counts) -> Confusion:
    made = Confusion(num_classes, ignore)
    made.counts.flat[places] = values
    return made


class ThresholdSweep:
    """Confusion matrices of maps under many background thresholds, in one pass over the images.

    A pixel is its best class where that score exceeds the threshold, background elsewhere. So one
    histogram over (true class, best class, number of thresholds exceeded) holds them all.

    Args:
        count: number of thresholds, T.
        num_classes: C, background included.
        ignore: as of :class:`Confusion`.
    """

    def __init__(self, count: int, num_classes: int, ignore: int = 255) -> None:
        self.num_classes, self.ignore = num_classes, ignore
        self.counts: Counts = np.zeros((num_classes, num_classes, count + 1), np.int64)

    def add(self, histogram: Counts, class_numbers: Sequence[int]) -> None:
        """Count an image.

        Args:
            histogram: of :func:`threshold_histogram` with the same settings.
            class_numbers: of the K classes, each once.
        """
        self.counts[:, class_numbers] += histogram

    def confusions(self) -> list[Confusion]:
        """The confusion matrix at each threshold."""
        at_most = self.counts.cumsum(2)[..., :-1]
        exceeded = self.counts.sum(2)[..., None] - at_most
        made = []
        for place in range(at_most.shape[2]):
            confusion = Confusion(self.num_classes, self.ignore)
            counts = confusion.counts
            counts[:, :-1] = exceeded[..., place]
            counts[:, 0] += at_most[..., place].sum(1)
            if 0 <= self.ignore < self.num_classes:
                counts[:, -1], counts[:, self.ignore] = counts[:, self.ignore].copy(), 0
            made.append(confusion)
        return made


def threshold_histogram(
    maps: npt.NDArray[np.float32],
    truth: npt.NDArray[np.uint8],
    thresholds: Sequence[float],
    *,
    num_classes: int,
    ignore: int = 255,
) -> Counts:
    """What one image adds to a :class:`ThresholdSweep`.

    Args:
        maps: scores of K >= 1 classes, (K, H, W).
        truth: class numbers, or the ignore value, (H, W).
        thresholds: T background scores, ascending.
        num_classes: C, background included.
        ignore: pixels with this true label are not counted.

    Returns:
        Pixels by true class, best of the K classes, thresholds exceeded: (C, K, T + 1).

    Raises:
        ValueError: a true number is neither a class nor the ignore value.
    """
    kinds, levels = len(maps), len(thresholds) + 1
    row = _places(num_classes, ignore)[truth]
    if (row > num_classes).any():
        _refuse(truth[row > num_classes], "truth", num_classes)
    exceeded = np.searchsorted(np.array(thresholds, np.float32), maps.max(0).ravel())
    index = (row * kinds + maps.argmax(0)).ravel() * levels + exceeded
    found = np.bincount(index, minlength=(num_classes + 1) * kinds * levels)
    return found.reshape(-1, kinds, levels)[:-1]


def mean(values: Values) -> float:
    """Mean of the values that are numbers; NaN if there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _pairs(
    prediction: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[Any]]:
    """Runs of equal pairs, 256 × truth + prediction, and how long each is.

    Label maps are areas, so there are a hundred times fewer runs than pixels.
    """
    pairs = truth.astype(np.uint16)
    pairs <<= 8
    pairs |= prediction
    pairs = pairs.ravel()
    starts = np.concatenate(([0], np.flatnonzero(pairs[1:] != pairs[:-1]) + 1))[: pairs.size]
    return pairs[starts], np.diff(starts, append=pairs.size)


def _bytes(values: npt.NDArray[Any], what: str) -> npt.NDArray[np.uint8]:
    if values.dtype != np.uint8 and values.size and (values.min() < 0 or values.max() > 255):
        raise ValueError(f"{what} holds a class number outside 0 to 255")
    return values.astype(np.uint8, copy=False)


def _places(num_classes: int, ignore: int) -> npt.NDArray[np.intp]:
    """Row or column of each byte: a class its own, the ignore value C, anything else C + 1."""
    places = np.full(256, num_classes + 1)
    places[:num_classes] = range(num_classes)
    if 0 <= ignore <= 255:
        places[ignore] = num_classes
    return places


def _refuse(numbers: npt.NDArray[Any], what: str, num_classes: int) -> None:
    raise ValueError(
        f"{what} holds class number {numbers.min()}; "
        f"{num_classes} classes have the numbers 0 to {num_classes - 1}"
    )


def _ratio(part: Counts, whole: Counts) -> Values:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


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
