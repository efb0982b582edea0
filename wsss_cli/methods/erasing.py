"""Adversarial erasing: mine the most activated region of each class, erase it, and mine again.

Wei et al., "Object Region Mining with Adversarial Erasing: A Simple Classification to Semantic
Segmentation Approach", CVPR 2017, sec. 3.1 (AE-PSL). These functions are one step of it; the next
step mines the activation maps of a classifier trained on the erased images.

A map of mined regions holds 0 where nothing is mined, class numbers from 1, and 255 where two
classes claim a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_cli.classes import IGNORE

Labels = npt.NDArray[np.uint8]


def mine(
    cam: npt.NDArray[np.floating[Any]],
    numbers: Sequence[int],
    *,
    top: float = 0.2,
    threshold: float | None = None,
) -> Labels:
    """The most activated region of each class (sec. 3.1).

    The region of a class is the share ``top`` of the image's pixels, those with the largest values,
    and all pixels that equal the smallest of these. Pixels with activation 0 are never mined, so a
    class that is erased completely, whose map is 0, mines nothing. Pixels that two classes claim
    are 255.

    Args:
        cam: activations of K classes, shape (K, H, W), at least 0; K may be 0.
        numbers: class numbers of the K maps, each from 1 to 254.
        top: share of the pixels, above 0 and at most 1.
        threshold: instead of ``top``, the region is where a map reaches this share of its maximum,
            from 0 to 1.

    Returns:
        The mined regions, uint8 (H, W).

    Raises:
        ValueError: shapes that do not fit, a setting or number out of range, or activations that
            are negative or NaN.
    """
    if cam.ndim != 3 or len(cam) != len(numbers):
        raise ValueError(f"{len(numbers)} class numbers for maps of shape {cam.shape}")
    if not 0 < top <= 1 or not (threshold is None or 0 <= threshold <= 1):
        raise ValueError(f"shares out of range: top {top}, threshold {threshold}")
    if not all(0 < number < IGNORE for number in numbers):
        raise ValueError(f"class numbers must be 1 to 254: {list(numbers)}")
    mined = np.zeros(cam.shape[1:], np.uint8)
    for plane, number in zip(cam, numbers, strict=True):
        if not plane.size:
            continue
        peak = plane.max()
        if not (plane.min() >= 0 and peak >= 0):  # NaN fails both
            raise ValueError("activations must be at least 0 and not NaN")
        if peak > 0:
            least = _least_of_top(plane, top) if threshold is None else threshold * peak
            region = plane >= least if least > 0 else plane > 0
            mined = join(mined, region * np.uint8(number))
    return mined


def join(before: Labels, now: Labels) -> Labels:
    """The regions mined in earlier steps together with those of this step (sec. 3.1).

    Args:
        before, now: uint8 (H, W).

    Returns:
        uint8 (H, W), 255 where two classes claim a pixel, in the same step or in different steps.

    Raises:
        ValueError: shapes that do not fit.
    """
    if before.shape != now.shape:
        raise ValueError(f"regions of shape {before.shape} and {now.shape}")
    # Where one number is 0, or both are equal, the bits of both are the number; the rest are
    # conflicts.
    both: Labels = before | now
    both[(before != 0) & (now != 0) & (before != now)] = IGNORE
    return both


def _least_of_top(plane: npt.NDArray[np.floating[Any]], top: float) -> float:
    """The smallest of the largest values, a share ``top`` of all, rounded up to whole pixels."""
    # 0.07 * 100 is 7.000000000000001, which ceil alone would make 8.
    count = math.ceil(round(top * plane.size, 6))
    return float(np.partition(plane, plane.size - count, axis=None)[plane.size - count])


def erase(image: Labels, mined: Labels, fill: Sequence[int]) -> Labels:
    """The image with the mined regions of all classes filled with one colour (sec. 3.1).

    Args:
        image: uint8 (H, W, 3).
        mined: regions mined so far, uint8 (H, W).
        fill: red, green and blue, 0 to 255; the paper fills with the training set's mean.

    Returns:
        A new array, uint8 (H, W, 3).

    Raises:
        ValueError: shapes that do not fit, or an invalid colour.
    """
    if image.shape != (*mined.shape, 3):
        raise ValueError(f"an image of shape {image.shape} for regions of {mined.shape}")
    if len(fill) != 3 or not all(0 <= value <= 255 for value in fill):
        raise ValueError(f"fill must be red, green and blue from 0 to 255: {list(fill)}")
    erased = image.copy()
    covered = mined != 0
    for channel, value in enumerate(fill):  # ten times as fast as all channels at once
        erased[..., channel][covered] = value
    return erased


def merge(
    mined: Labels, saliency: npt.NDArray[np.floating[Any]], *, background: float = 0.06
) -> Labels:
    """The segmentation mask S: mined regions, and background where saliency is low (sec. 3.1).

    All other pixels are ignored (255): those that two classes claim, mined pixels of low saliency,
    and pixels of higher saliency that are not mined.

    Args:
        mined: regions mined so far, uint8 (H, W).
        saliency: in [0, 1], shape (H, W).
        background: saliency below this is low.

    Returns:
        uint8 (H, W): 0 background, class numbers, 255 ignored.

    Raises:
        ValueError: shapes that do not fit, or saliency that is NaN.
    """
    if saliency.shape != mined.shape:
        raise ValueError(f"saliency of shape {saliency.shape} for regions of {mined.shape}")
    if np.isnan(saliency).any():
        raise ValueError("saliency is NaN somewhere")
    # Not mined and of low saliency, or mined and salient.
    agree = (mined == 0) == (saliency < background)
    return np.where(agree, mined, np.uint8(IGNORE))
