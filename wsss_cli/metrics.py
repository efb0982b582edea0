"""Segmentation metrics from one confusion matrix over the whole set, as PASCAL VOC counts.

Numpy only: measuring needs no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


class Confusion:
    """Pixels by true class (rows) and predicted class (columns).

    The last column holds pixels without a prediction (the ignore value in the predicted map): they
    are missed by their true class and claimed by none.

    Args:
        num_classes: C, background included.
        ignore: pixels with this true label are not counted.

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
        self.add(pair_counts(prediction, truth))

    def add(self, pairs: Counts) -> None:
        """Count the pairs of one image, as :func:`pair_counts` gives them."""
        table = pairs.reshape(256, 256)
        for axis, what in ((1, "truth"), (0, "prediction")):
            seen = np.flatnonzero(table.any(axis))
            wrong = seen[(seen >= self.num_classes) & (seen != self.ignore)]
            if len(wrong):
                raise ValueError(
                    f"{what} holds class number {wrong[0]}; "
                    f"{self.num_classes} classes have the numbers 0 to {self.num_classes - 1}"
                )
        count = self.num_classes
        self.counts[:, :count] += table[:count, :count]
        if self.ignore >= count:
            self.counts[:, count] += table[:count, self.ignore]
        elif self.ignore >= 0:
            self.counts[self.ignore] = 0

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
            "num_classes": self.num_classes, "ignore": self.ignore, "counts": self.counts.tolist()
        }  # fmt: skip

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


def pair_counts(prediction: npt.NDArray[Any], truth: npt.NDArray[Any]) -> Counts:
    """How often each pair of bytes occurs: (65536,), at 256 × truth + prediction."""
    if prediction.dtype == np.uint8 and truth.dtype == np.uint8:
        pairs = np.empty((*truth.shape, 2), np.uint8)
        low, high = (0, 1) if sys.byteorder == "little" else (1, 0)
        pairs[..., low], pairs[..., high] = prediction, truth
        return np.bincount(pairs.view(np.uint16).ravel(), minlength=0x10000)
    for values, what in ((truth, "truth"), (prediction, "prediction")):
        if values.size and (values.min() < 0 or values.max() > 255):
            raise ValueError(f"{what} holds a class number outside 0 to 255")
    joined = truth.astype(np.int64) * 256 + prediction.astype(np.int64)
    return np.bincount(joined.ravel(), minlength=0x10000)


def mean(values: Values) -> float:
    """Mean of the values that are numbers; NaN if there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _ratio(part: Counts, whole: Counts) -> Values:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
