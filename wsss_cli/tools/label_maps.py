"""From maps to label maps: background, refinement, class numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_cli import files, records
from wsss_cli.classes import BACKGROUND, IGNORE, numbers
from wsss_cli.errors import WsssError
from wsss_cli.files import Maps
from wsss_cli.methods.crf import background_score, dense_crf
from wsss_cli.stage import Halt

Scores = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

SHRINK = 4  # maps are stored at a quarter of the image's size
_HOPELESS = 0.1  # a score below this share of the best one at every pixel wins none
_TIE = 1e-4  # scores that differ by this share are equal up to rounding
_BILINEAR = Image.Resampling.BILINEAR


def read_matching(
    record: Mapping[str, Any],
    key: str,
    max_side: int = 0,
    *,
    classes: Sequence[str] | None = None,
) -> tuple[npt.NDArray[np.uint8], Maps]:
    """The photograph of ``record``, made smaller if its long side exceeds ``max_side``, and its
    maps under ``key``.

    Args:
        record: the record.
        key: of the maps.
        max_side: of the photograph; 0 is no limit.
        classes: as in :func:`read_maps`.

    Raises:
        WsssError: the maps are of an image of another size, or of other labels.
    """
    image, size = files.read_bounded(record["image"], max_side)
    return image, read_maps(record, key, size, classes)


def read_maps(
    record: Mapping[str, Any],
    key: str,
    size: tuple[int, int] | None,
    classes: Sequence[str] | None,
) -> Maps:
    """The maps of a record, which fit its labels.

    Ours say for which labels they were made, see :func:`wsss_cli.inputs.check_source`; those of
    other tools show it.

    Args:
        record: the record.
        key: of the maps.
        size: (H, W) that their image must have, if given.
        classes: class list given by the user, or None; maps of other tools need one.

    Raises:
        Halt: they number their classes, and there is no list.
        WsssError: they cannot be read, are of an image of another size, or of classes that the
            labels do not name.
    """
    is_foreign = files.is_foreign_maps(record[key])
    if is_foreign and not classes:
        raise Halt(files.UNNAMED.format(record[key]), 2)
    maps = files.read_maps(record[key], size, classes)
    labels = records.labels(dict(record))
    if labels is None or not is_foreign:
        return maps
    if others := [name for name in maps.classes if name not in (*labels, BACKGROUND)]:
        raise WsssError(
            f"{record[key]}: a map of {others[0]}, but the labels of the record are "
            f"{', '.join(labels) or 'none'}: it is of another photograph, or its numbers are "
            "those of another list than --classes"
        )
    return maps


def class_numbers(maps: Maps, classes: Sequence[str] | None) -> list[int]:
    """Class numbers of the maps' classes, background left out.

    Args:
        maps: activation maps; their provenance holds the class list of the checkpoint.
        classes: a class list given by the user instead, or None.

    Raises:
        WsssError: there is no class list, or a class is not in it.
    """
    names = [name for name in maps.classes if name != BACKGROUND]
    listed = classes or maps.meta.get("classes")
    if names and not listed:
        raise WsssError("the maps do not say their class list; give --classes")
    return numbers(names, listed or ())


def resize(maps: npt.NDArray[Any], size: tuple[int, int]) -> Scores:
    """Maps (K, h, w) resized (bilinear, corners not aligned) to (K, H, W), float32."""
    wanted = (size[1], size[0])
    resized = np.empty((len(maps), *size), np.float32)
    for place, plane in enumerate(maps):
        seen = Image.fromarray(plane.astype(np.float32))
        resized[place] = np.asarray(seen.resize(wanted, _BILINEAR))
    return resized


def map_size(size: Sequence[int]) -> tuple[int, int]:
    """(h, w) of the stored maps of an image of ``size`` (H, W)."""
    return -(-size[0] // SHRINK), -(-size[1] // SHRINK)


def resize_labels(labels: Labels, size: Sequence[int]) -> Labels:
    """A label map at another size (H, W), each pixel with the number nearest to it."""
    if labels.shape == tuple(size):
        return labels
    wanted = (size[1], size[0])
    return np.array(Image.fromarray(labels).resize(wanted, Image.Resampling.NEAREST))


def split_background(maps: Maps) -> tuple[Maps, npt.NDArray[np.float16] | None]:
    """The classes' maps, and the method's own background map where it has one."""
    if BACKGROUND not in maps.classes:
        return maps, None
    place = maps.classes.index(BACKGROUND)
    keep = [index for index in range(len(maps.classes)) if index != place]
    names = tuple(maps.classes[index] for index in keep)
    return maps._replace(cam=maps.cam[keep], classes=names), maps.cam[place]


def with_background(
    cam: Scores, own: npt.NDArray[Any] | None, *, alpha: float, threshold: float | None
) -> Scores:
    """Maps with background in front: the method's own, a constant, or (1 - max)^alpha.

    Args:
        cam: (K, h, w) in [0, 1], K >= 1.
        own: the method's own background (h, w), used unless a threshold is given.
        alpha: exponent, used if the other two are None.
        threshold: constant background score.
    """
    if threshold is not None:
        background = np.full(cam.shape[1:], threshold, np.float32)
    elif own is not None:
        background = own.astype(np.float32)
    else:
        background = background_score(cam, alpha)
    return np.concatenate([background[None], cam.astype(np.float32)])


def label_map(scores: Scores, class_numbers: Sequence[int]) -> Labels:
    """Class numbers where each score is the largest.

    Args:
        scores: (1 + K, H, W), background first.
        class_numbers: numbers of the K classes.
    """
    table: Labels = np.array([0, *class_numbers], np.uint8)
    labels: Labels = table[scores.argmax(0)]
    return labels


def leave_undecided(labels: Labels, scores: Scores, unknown: npt.NDArray[np.bool_]) -> None:
    """Set ``labels`` to 255 where they are unknown and no score stands out.

    The largest of equal scores would be the first: background.

    Args:
        labels: from :func:`label_map`; changed in place.
        scores: (1 + K, H, W).
        unknown: bool (H, W), the pixels that had no label before.
    """
    if len(scores) > 1 and unknown.any():
        ordered = np.sort(scores[:, unknown], axis=0)
        tied = ordered[-1] - ordered[-2] <= _TIE * ordered[-1]
        labels[unknown] = np.where(tied, IGNORE, labels[unknown])


def refine(image: npt.NDArray[np.uint8], scores: Scores, crf: Mapping[str, Any] | None) -> Scores:
    """``scores`` after a dense CRF over the labels that have a chance anywhere.

    Args:
        image: uint8 (H, W, 3).
        scores: (1 + K, H, W), background first.
        crf: arguments of :func:`wsss_cli.methods.crf.dense_crf`, or None to leave them as they are.

    Returns:
        Posterior, float32 (1 + K, H, W).
    """
    if crf is None:
        return scores
    return among_likely(scores, lambda likely: dense_crf(image, likely, **crf))


def among_likely(scores: Scores, refined: Callable[[Scores], Scores]) -> Scores:
    """``refined`` of the scores of the labels that have a chance anywhere; the others get 0.

    Each label costs time, and one below a tenth of the best at every pixel cannot win any. A single
    label stays as it is.

    Args:
        scores: (1 + K, H, W), background first, which always has a chance.
        refined: takes and gives scores, float32 (L, H, W).
    """
    if len(scores) == 1:
        return scores
    chance = (scores >= _HOPELESS * scores.max(0)).any((1, 2))
    chance[0] = True
    if chance.all():
        return refined(scores)
    result = np.zeros_like(scores, dtype=np.float32)
    result[chance] = refined(scores[chance])
    return result
