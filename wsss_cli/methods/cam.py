"""Class activation maps: the maps of scales and mirror images in one, and a background score.

Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016; Ahn & Kwak,
"Learning Pixel-level Semantic Affinity with Image-level Supervision", CVPR 2018, sec. 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wsss_cli.methods.grids import average_views


def fuse(
    maps: Sequence[Tensor],
    size: tuple[int, int],
    flipped: Sequence[bool],
    *,
    seen: Sequence[tuple[int, int]] | None = None,
    stride: int = 1,
) -> Tensor:
    """One activation map per class from the maps of several scales and mirror images.

    M_c = sum_i relu(m_c^i) / max sum_i relu(m_c^i) (Ahn & Kwak 2018, eq. 1): negative evidence is
    dropped, mirrored maps are turned back, all are laid onto the image (bilinear) and added, and
    each class is divided by its own maximum. A class that is nowhere positive stays zero.

    Args:
        maps: m^i, logits or activations of each scale or mirror image, shape (C, h_i, w_i); at
            least one.
        size: (H, W) of the image.
        flipped: whether each of ``maps`` is of the mirror image.
        seen: (H_i, W_i) of the scaled image that each of ``maps`` was made from, whose pixel
            (stride y, stride x) cell (y, x) is centred on. None if each map covers the image cell
            by cell, as a resized image would.
        stride: pixels of the scaled image from cell to cell.

    Returns:
        Activations in [0, 1], float32 of shape (C, H, W), on the device of ``maps``.

    Raises:
        ValueError: no maps, maps of different classes, or not one flag (and size) per map.
    """
    # relu comes first: averaged logits would let the negative evidence of one scale cancel the
    # positive evidence of another. The mean serves as the sum, as each class is normalised.
    evidence = [logits.float().relu() for logits in maps]
    return normalise(average_views(evidence, size, flipped, seen=seen, stride=stride))


def normalise(maps: Tensor) -> Tensor:
    """Maps divided each by its own maximum; maps that are 0 everywhere stay 0.

    Args:
        maps: at least 0, shape (…, h, w).

    Returns:
        In [0, 1], of the same shape. Gradients pass.
    """
    # amax refuses tensors without a value.
    top = maps.flatten(-2).amax(-1)[..., None, None] if maps.numel() else maps.new_ones(())
    return maps / torch.where(top > 0, top, torch.ones_like(top))


def background_score(cam: Tensor, alpha: float) -> Tensor:
    """Background activation from class activations (Ahn & Kwak 2018, eq. 2).

    M_bg = (1 - max_c M_c) ** alpha; a smaller alpha gives more background. For NumPy arrays there
    is :func:`wsss_cli.methods.crf.background_score`, which needs no torch.

    Args:
        cam: activations in [0, 1], shape (C, h, w), C >= 1.
        alpha: the exponent, > 0.

    Returns:
        Background score in [0, 1], shape (h, w).

    Raises:
        ValueError: cam has no class or holds values outside [0, 1], or alpha is not positive.
    """
    if cam.ndim != 3 or cam.shape[0] < 1:
        raise ValueError(f"cam must be (C, h, w) with at least one class, not {tuple(cam.shape)}")
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, not {alpha}")
    if not bool(((cam >= 0) & (cam <= 1)).all()):
        raise ValueError("cam holds values outside [0, 1] or NaN")
    return (1 - cam.amax(0)) ** alpha
