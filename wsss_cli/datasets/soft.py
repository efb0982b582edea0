"""Soft labels: how probable each class is at each pixel of a training sample.

They come from the `scores` of a record, which stay on disk and are read with its sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wsss_cli import files, records
from wsss_cli.classes import BACKGROUND, IGNORE, numbers
from wsss_cli.datasets.augment import View, take_maps
from wsss_cli.errors import WsssError
from wsss_cli.records import Record, RecordError

_LEAST = 0.01  # of a class that is kept where no labels tell which may be: each takes memory


class SoftLabels(NamedTuple):
    """A distribution over some of the classes at each pixel.

    Attributes:
        numbers: int64 (K,), their class numbers, 0 for background; K >= 1.
        probabilities: float32 (K, h, w) in [0, 1]. They add up to 1 over K, or are all 0 where
            nothing is known, as in the padding.
    """

    numbers: NDArray[np.int64]
    probabilities: NDArray[np.float32]


def of_labels(labels: NDArray[np.uint8]) -> SoftLabels:
    """The distribution of a true label map, (h, w): 1 for the label, 0 where it is 255."""
    held = np.setdiff1d(np.append(np.unique(labels), 0), [IGNORE]).astype(np.int64)
    return SoftLabels(held, (labels == held[:, None, None]).astype(np.float32))


def of_scores(
    record: Record,
    size: tuple[int, int],
    view: View,
    classes: Sequence[str],
    labels: NDArray[np.uint8],
) -> SoftLabels:
    """The distribution that the `scores` of a record give, in a view of its photograph.

    p_c = s_c / sum_k s_k over background and the classes that the record's `labels` name, whose
    scores s are resized (bilinear) as the photograph is; over all classes where there are none.

    Args:
        record: the record.
        size: (H, W) of its photograph.
        view: the view.
        classes: the class list, without background.
        labels: uint8 (H, W), its label map.

    Raises:
        WsssError: no readable scores in [0, 1]; of a photograph of another size; of a class that
            the list lacks; or none of background or of a class of the labels or the label map.
    """
    path = records.paths(record, ["scores"])[0]
    maps = files.read_maps(path, size, classes)
    try:
        own = [n for name in maps.classes for n in _numbered(name, classes)]
    except WsssError as error:
        raise RecordError(f"{path}: {error}") from error
    known = records.labels(record)
    may_be = own if known is None else [0, *numbers(known, classes)]
    held = set(np.unique(labels).tolist()) - {IGNORE}
    if lacking := sorted({0, *may_be, *held} - set(own)):
        name = (BACKGROUND, *classes)[lacking[0]]
        raise RecordError(
            f"{path}: no scores of '{name}', which the record needs; make them again, or the masks"
        )
    scores = maps.cam.astype(np.float32)
    keep = np.isin(own, may_be)
    if known is None:
        keep &= (scores > _LEAST * scores.sum(0)).any((1, 2)) | (np.array(own) == 0)
    scores = take_maps(scores[keep], view)
    total = scores.sum(0)
    return SoftLabels(
        np.array(own, np.int64)[keep],
        np.divide(scores, total, out=np.zeros_like(scores), where=total > 0),
    )


def _numbered(name: str, classes: Sequence[str]) -> list[int]:
    return [0] if name == BACKGROUND else numbers([name], classes)
