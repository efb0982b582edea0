"""Metrics of label maps and of image-level labels.

Label maps are compared in one confusion matrix over the whole set, as PASCAL VOC does. Only NumPy
is needed, no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_cli.classes import IGNORE

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

# ---- label maps ----------------------------------------------------------------------------------


class Confusion:
    """Numbers of pixels by true class (rows) and predicted class (columns).

    The last column counts pixels without a prediction (the ignore value in the predicted map). They
    lower the recall of their true class and the precision of none.

    Args:
        num_classes: C, background included; 1 to 255.
        ignore: pixels with this true label are not counted. If it is the number of a class, that
            class is left out of every mean.

    Raises:
        ValueError: num_classes out of range.

    >>> confusion = Confusion(2)
    >>> confusion.update(np.array([[0, 1, 1]]), np.array([[0, 0, 1]]))
    >>> confusion.iou().tolist(), confusion.miou()
    ([0.5, 0.5], 0.5)
    """

    def __init__(self, num_classes: int, ignore: int = IGNORE) -> None:
        if not 1 <= num_classes <= 255:
            raise ValueError(f"num_classes must lie between 1 and 255, not {num_classes}")
        self.num_classes, self.ignore = num_classes, ignore
        self.counts: Counts = np.zeros((num_classes, num_classes + 1), np.int64)

    def update(self, prediction: npt.NDArray[Any], truth: npt.NDArray[Any]) -> None:
        """Count the pixels of an image.

        Args:
            prediction: class numbers, or the ignore value where there is no prediction, (H, W).
            truth: class numbers, or the ignore value, (H, W).

        Raises:
            ValueError: the shapes differ, or a number is neither a class nor the ignore value.
        """
        if prediction.shape != truth.shape:
            raise ValueError(f"prediction is {prediction.shape}, truth {truth.shape}")
        pairs, pixels = _runs(_bytes(prediction, "prediction"), _bytes(truth, "truth"))
        indices = _indices(self.num_classes, self.ignore)
        row, column = indices[pairs >> 8], indices[pairs & 255]
        for numbers, index, name in (
            (pairs >> 8, row, "truth"),
            (pairs & 255, column, "prediction"),
        ):
            if (wrong := index > self.num_classes).any():
                _refuse(numbers[wrong], name, self.num_classes)
        known = row < self.num_classes
        cells = row[known] * (self.num_classes + 1) + column[known]
        # The sums are of whole numbers below 2^53, so they are exact; np.add.at takes longer.
        counts = np.bincount(cells, pixels[known], minlength=self.counts.size)
        self.counts += counts.astype(np.int64).reshape(self.counts.shape)

    def merge(self, other: Confusion) -> None:
        """Add the counts of another confusion matrix.

        Raises:
            ValueError: it has other classes or another ignore value.
        """
        if (self.num_classes, self.ignore) != (other.num_classes, other.ignore):
            raise ValueError("confusion matrices of different classes cannot be merged")
        self.counts += other.counts

    def iou(self) -> Values:
        """Intersection over union of each class, (C,); NaN if it is neither true nor predicted."""
        hit = np.diag(self.counts)
        return _ratio(hit, self.counts.sum(1) + self.counts[:, : self.num_classes].sum(0) - hit)

    def miou(self) -> float:
        """Mean IoU over the classes that occur in truth or prediction; NaN if there is none."""
        return mean(self.iou())

    def precision(self) -> Values:
        """Share of correct pixels among those predicted as each class, (C,); NaN without any."""
        return _ratio(np.diag(self.counts), self.counts[:, : self.num_classes].sum(0))

    def recall(self) -> Values:
        """Share of correct pixels among those of each true class, (C,); NaN without any."""
        return _ratio(np.diag(self.counts), self.counts.sum(1))

    def dice(self) -> Values:
        """Dice coefficient of each class, the F1 score of its pixels, (C,); NaN as for the IoU."""
        return _ratio(
            2 * np.diag(self.counts), self.counts.sum(1) + self.counts[:, : self.num_classes].sum(0)
        )

    def pixel_accuracy(self) -> float:
        """Share of correct pixels among all counted pixels; NaN without any."""
        total = self.counts.sum()
        return float(np.trace(self.counts) / total) if total else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, from which :meth:`from_dict` makes the same matrix."""
        return {
            "num_classes": self.num_classes,
            "ignore": self.ignore,
            "counts": self.counts.tolist(),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by worker processes as the counts above 0, which are few for a single image."""
        positions = np.flatnonzero(self.counts)
        return _unpickled, (self.num_classes, self.ignore, positions, self.counts.flat[positions])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Confusion:
        """The reverse of :meth:`to_dict`.

        Raises:
            ValueError: the data are not those of a confusion matrix.
        """
        try:
            num_classes, ignore = data["num_classes"], data["ignore"]
            if type(num_classes) is not int or type(ignore) is not int or not 0 <= ignore <= 255:
                raise ValueError("num_classes and ignore are numbers")
            confusion = cls(num_classes, ignore)
            counts = np.array(data["counts"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError("not a confusion matrix") from error
        expected = confusion.counts.shape
        if counts.shape != expected:
            raise ValueError(f"a confusion matrix of shape {counts.shape}, not {expected}")
        # Floats hold numbers up to 2^53 exactly: so many pixels no data set has.
        if counts.dtype.kind != "i" or counts.min() < 0 or counts.sum(dtype=float) > 2**53:
            raise ValueError("a confusion matrix that holds more than numbers of pixels")
        confusion.counts = counts.astype(np.int64)
        return confusion


def _unpickled(num_classes: int, ignore: int, positions: Counts, values: Counts) -> Confusion:
    confusion = Confusion(num_classes, ignore)
    confusion.counts.flat[positions] = values
    return confusion


class ThresholdSweep:
    """Confusion matrices of maps under many background thresholds, in one pass over the images.

    A pixel belongs to its best class if that score exceeds the threshold, else to background. So a
    single histogram over (true class, best class, number of thresholds exceeded) holds all the
    matrices.

    Args:
        count: number of thresholds, T.
        num_classes: C, background included.
        ignore: as of :class:`Confusion`.
    """

    def __init__(self, count: int, num_classes: int, ignore: int = IGNORE) -> None:
        self.num_classes, self.ignore = num_classes, ignore
        self.counts: Counts = np.zeros((num_classes, num_classes, count + 1), np.int64)

    def add(self, histogram: Counts, class_numbers: Sequence[int]) -> None:
        """Add the histogram of an image.

        Args:
            histogram: from :func:`threshold_histogram` with the same settings.
            class_numbers: numbers of its K classes, each once.
        """
        self.counts[:, class_numbers] += histogram

    def confusions(self) -> list[Confusion]:
        """The confusion matrix at each threshold, in their order."""
        at_most = self.counts.cumsum(2)[..., :-1]
        exceeded = self.counts.sum(2)[..., None] - at_most
        confusions = []
        for threshold in range(at_most.shape[2]):
            confusion = Confusion(self.num_classes, self.ignore)
            counts = confusion.counts
            counts[:, :-1] = exceeded[..., threshold]
            counts[:, 0] += at_most[..., threshold].sum(1)
            # A predicted class whose number is the ignore value is no prediction.
            if 0 <= self.ignore < self.num_classes:
                counts[:, -1], counts[:, self.ignore] = counts[:, self.ignore].copy(), 0
            confusions.append(confusion)
        return confusions


def threshold_histogram(
    maps: npt.NDArray[np.float32],
    truth: npt.NDArray[np.uint8],
    thresholds: Sequence[float],
    *,
    num_classes: int,
    ignore: int = IGNORE,
) -> Counts:
    """The histogram of an image, for :meth:`ThresholdSweep.add`.

    Args:
        maps: scores of K >= 1 classes, (K, H, W).
        truth: class numbers, or the ignore value, (H, W).
        thresholds: T background scores, ascending.
        num_classes: C, background included.
        ignore: pixels with this true label are not counted.

    Returns:
        Numbers of pixels by true class, best of the K classes and thresholds exceeded by its score,
        (C, K, T + 1).

    Raises:
        ValueError: a true number is neither a class nor the ignore value.
    """
    kinds, levels = len(maps), len(thresholds) + 1
    row = _indices(num_classes, ignore)[truth]
    if (row > num_classes).any():
        _refuse(truth[row > num_classes], "truth", num_classes)
    exceeded = np.searchsorted(np.array(thresholds, np.float32), maps.max(0).ravel())
    index = (row * kinds + maps.argmax(0)).ravel() * levels + exceeded
    counts = np.bincount(index, minlength=(num_classes + 1) * kinds * levels)
    return counts.reshape(-1, kinds, levels)[:-1]  # the last row is of ignored pixels


class BoundaryCounts:
    """Numbers of pixels near contours, from which the boundary IoU follows (Cheng et al. 2021).

    A pixel of a class is near its contour if another label, or the border of the image, is at most
    ``share`` of the image's diagonal away, along rows and columns. Where the truth is ignored, both
    maps end.

    Args:
        num_classes: C, background included.
        share: of the diagonal; at least one pixel.
        ignore: true label that is not counted.

    Attributes:
        counts: (3, C), by class: near in both maps, in the truth, in the prediction.
    """

    def __init__(self, num_classes: int, share: float = 0.02, ignore: int = IGNORE) -> None:
        self.num_classes, self.share, self.ignore = num_classes, share, ignore
        self.counts: Counts = np.zeros((3, num_classes), np.int64)

    def update(self, prediction: npt.NDArray[Any], truth: npt.NDArray[Any]) -> None:
        """Count the pixels of an image; see :meth:`Confusion.update`."""
        distance = max(round(self.share * float(np.hypot(*truth.shape))), 1)
        known = truth != self.ignore
        found = np.where(known, prediction, self.ignore)
        predicted = known & (found != self.ignore) & near_contour(found, distance)
        true = known & near_contour(truth, distance)
        both = truth[true & predicted & (found == truth)]
        for row, numbers in zip(self.counts, (both, truth[true], found[predicted]), strict=True):
            row += np.bincount(numbers, minlength=self.num_classes)

    def merge(self, other: BoundaryCounts) -> None:
        """Add other counts of the same classes and share."""
        self.counts += other.counts

    def iou(self) -> Values:
        """Boundary IoU of each class, (C,); NaN if it is neither true nor predicted."""
        both, true, predicted = self.counts
        return _ratio(both, true + predicted - both)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, from which :meth:`from_dict` makes the same counts."""
        return {"share": self.share, "ignore": self.ignore, "counts": self.counts.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BoundaryCounts:
        """The reverse of :meth:`to_dict`.

        Raises:
            ValueError: the data are not those of such counts.
        """
        try:
            share, ignore, counts = data["share"], data["ignore"], np.array(data["counts"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError("no counts near contours") from error
        if type(share) is not float or not 0 < share <= 1 or type(ignore) is not int:
            raise ValueError("counts near contours without a share of the diagonal")
        if counts.ndim != 2 or len(counts) != 3 or counts.dtype.kind != "i" or counts.min() < 0:
            raise ValueError("counts near contours that hold more than numbers of pixels")
        if not (counts[0] <= counts[1:]).all() or counts.sum(dtype=float) > 2**53:
            raise ValueError("counts near contours that are none")
        made = cls(counts.shape[1], share, ignore)
        made.counts = counts.astype(np.int64)
        return made


def near_contour(labels: npt.NDArray[Any], distance: int) -> npt.NDArray[np.bool_]:
    """Whether another label or the border is at most ``distance`` rows and columns away, (H, W)."""
    padded = np.pad(labels.astype(np.int16), distance, constant_values=-1)
    size = 2 * distance + 1
    lowest, highest = (_windows(_windows(padded, size, op).T, size, op).T for op in _ENDS)
    near: npt.NDArray[np.bool_] = lowest != highest
    return near


_ENDS = (np.minimum, np.maximum)


def _windows(values: npt.NDArray[np.int16], size: int, op: np.ufunc) -> npt.NDArray[np.int16]:
    """``op`` over each ``size`` rows that follow one another, in about log2(size) steps."""
    count, reach, found = len(values) - size + 1, 1, values
    while 2 * reach <= size:
        found = op(found[:-reach], found[reach:])
        reach *= 2
    return np.asarray(op(found[:count], found[size - reach : size - reach + count]))


def mean(values: Values) -> float:
    """Mean of the values that are not NaN; NaN if there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _runs(
    prediction: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[Any]]:
    """Runs of pixels with the same pair 256 × truth + prediction: the pairs and the lengths.

    Label maps consist of areas, so there are a hundred times fewer runs than pixels.
    """
    true, found = truth.ravel(), prediction.ravel()
    changes = true[1:] != true[:-1]
    changes |= found[1:] != found[:-1]
    ends = np.concatenate(([0], np.flatnonzero(changes) + 1, [true.size]))
    starts = ends[:-1][: true.size]  # none in an empty map
    pairs = true[starts].astype(np.uint16)
    pairs <<= 8
    pairs |= found[starts]
    return pairs, np.diff(ends)[: true.size]


def _bytes(values: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    if values.dtype != np.uint8 and values.size and (values.min() < 0 or values.max() > 255):
        raise ValueError(f"{name} holds a class number outside 0 to 255")
    return values.astype(np.uint8, copy=False)


def _indices(num_classes: int, ignore: int) -> npt.NDArray[np.intp]:
    """Row or column of each number from 0 to 255: C for the ignore value, C + 1 for no class."""
    indices = np.full(256, num_classes + 1)
    indices[:num_classes] = range(num_classes)
    if 0 <= ignore <= 255:
        indices[ignore] = num_classes
    return indices


def _refuse(numbers: npt.NDArray[Any], name: str, num_classes: int) -> None:
    raise ValueError(
        f"{name} holds class number {numbers.min()}; "
        f"{num_classes} classes have the numbers 0 to {num_classes - 1}"
    )


def _ratio(part: Counts, whole: Counts) -> Values:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


# ---- image-level labels --------------------------------------------------------------------------


def average_precision(scores: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_]) -> float:
    """Area under the precision-recall curve of a class, not interpolated.

    AP = sum_k (R_k - R_{k-1}) P_k over the distinct scores, from high to low.

    Args:
        scores: shape (N,), higher for images in which the class is more likely.
        truth: shape (N,), True for the images that show the class.

    Returns:
        The area in [0, 1]; NaN if no image shows the class.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))
    0.8333333333333333
    """
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    scores, truth = scores[order], truth[order]
    # Images with equal scores pass the same threshold together: only the last of them counts.
    last = np.append(scores[1:] != scores[:-1], True)
    hits = np.cumsum(truth)[last]
    precision = hits / (np.flatnonzero(last) + 1)
    recall = hits / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def mean_average_precision(scores: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_]) -> float:
    """Mean of :func:`average_precision` over the classes that an image shows; NaN if there is none.

    Args:
        scores: shape (N, C).
        truth: shape (N, C).
    """
    values = [average_precision(scores[:, c], truth[:, c]) for c in range(truth.shape[1])]
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def f1(
    scores: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_], threshold: float = 0.0
) -> float:
    """Mean over classes of F1 = 2 TP / (2 TP + FP + FN).

    Args:
        scores: shape (N, C).
        truth: shape (N, C).
        threshold: classes with a score above this are predicted; for logits, 0 is a probability of
            one half.

    Returns:
        The mean in [0, 1] over the classes that are true or predicted in an image; NaN if there is
        none.
    """
    predicted = scores > threshold
    hits = 2 * np.sum(predicted & truth, axis=0)
    total = np.sum(predicted, axis=0) + np.sum(truth, axis=0)
    occurs = total > 0
    return float(np.mean(hits[occurs] / total[occurs])) if occurs.any() else float("nan")
