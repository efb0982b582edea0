"""Explicit pseudo-pixel supervision: the labelled classes' maps together match the saliency map.

EPS: Lee et al., "Railroad Is Not a Train: Saliency as Pseudo-Pixel Supervision for Weakly
Supervised Semantic Segmentation", CVPR 2021, sec. 3. EPS++: Lee et al., "Saliency as Pseudo-Pixel
Supervision for Weakly and Semi-Supervised Semantic Segmentation", PAMI 2023, inconsistent region
drop.

The network has C + 1 class maps, the last of which is background; M_1 … M_{C+1} are their softmax.
NaN stands for unknown values: pixels whose saliency is NaN (padding, images without a saliency map)
are left out of every mean, and an image whose labels are NaN may show any class.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

MEANS = ("images", "pixels")  # that :func:`eps_loss` takes over


def foreground_map(cam_logits: Tensor, labels: Tensor) -> Tensor:
    """M_fg = sum_c y_c M_c, the sum of the softmax maps of the labelled classes.

    Args:
        cam_logits: class maps, background last, shape (N, C + 1, h, w).
        labels: y, 1 for the classes of the image and 0 for the others, shape (N, C); NaN, unknown,
            counts as 1.

    Returns:
        M_fg in [0, 1], shape (N, 1, h, w); 0 in an image without any of the classes.

    Raises:
        ValueError: shapes that do not fit.
    """
    _check(cam_logits, labels)
    return _sum(cam_logits.softmax(1)[:, :-1], labels)


def overlap(cam_logits: Tensor, saliency: Tensor) -> Tensor:
    """O_c = |B(M_c) ∩ B(M_s)| / |B(M_c)|, the salient share of a class's map (CVPR 2021, eq. 4).

    B(M) is 1 where M is above one half and 0 elsewhere.

    Args:
        cam_logits: class maps, background last, shape (N, C + 1, h, w).
        saliency: M_s in [0, 1] or NaN, shape (N, 1, h, w).

    Returns:
        In [0, 1], shape (N, C), without gradient; 0 for a class whose map is nowhere above one
        half.
    """
    maps = cam_logits.detach().softmax(1)[:, :-1].round() * ~saliency.isnan()
    salient = (maps * saliency.nan_to_num().round()).sum((2, 3))
    return salient / maps.sum((2, 3)).clamp(min=1e-4)


def eps_loss(
    cam_logits: Tensor,
    saliency: Tensor,
    labels: Tensor,
    tau: float = 0.4,
    lam: float = 0.5,
    *,
    mean_over: str = "images",
) -> Tensor:
    """The saliency loss of EPS (CVPR 2021, eq. 2 to 5), to be added to the classification loss.

    M_fg is the sum of the maps of the labelled classes with O_c > τ, M_bg that of the other
    labelled classes and of background. M̂_s = λ M_fg + (1 - λ)(1 - M_bg) is the estimated saliency,
    and the loss is the mean of (M_s - M̂_s)².

    Args:
        cam_logits: class maps, background last, shape (N, C + 1, h, w).
        saliency: M_s in [0, 1], shape (N, 1, H, W), resized to (h, w) by the nearest pixel; NaN
            where it is unknown.
        labels: shape (N, C): 1, 0, or NaN where unknown.
        tau: τ, from 0 to 1.
        lam: λ, from 0 to 1.
        mean_over: ``images``, the mean over the pixels of each image and then over the images with
            a saliency map; or ``pixels``, that over the pixels of all images, so that an image with
            much padding counts less. The authors' public code has the latter.

    Returns:
        A scalar; 0 if no image has a saliency map.

    Raises:
        ValueError: shapes that do not fit, or another ``mean_over``.
    """
    _check(cam_logits, labels, saliency)
    saliency = _resized(saliency, cam_logits)
    maps = cam_logits.softmax(1)
    labelled = labels.nan_to_num(1)
    # A class whose map lies mostly outside the salient region is one that the saliency map misses:
    # as part of the background, it is not pushed into the salient region.
    salient = labelled * (overlap(cam_logits, saliency) > tau)
    foreground = _sum(maps[:, :-1], salient)
    background = _sum(maps[:, :-1], labelled - salient) + maps[:, -1:]
    estimate = lam * foreground + (1 - lam) * (1 - background)
    return _mean_square(estimate, saliency, ~saliency.isnan(), mean_over)


def eps_pp_loss(
    cam_logits: Tensor,
    refined: Tensor,
    saliency: Tensor,
    labels: Tensor,
    *,
    sure: Tensor | None = None,
    above: float = 0.5,
    lam: float = 1.0,
    mean_over: str = "images",
) -> Tensor:
    """The saliency loss of EPS++ with inconsistent region drop (PAMI 2023).

    Pixels where the refined foreground M_r and the saliency map disagree, N = B(M_r) ⊕ B(M_s), are
    left out: sum (1 - N)(M_s - M̂_s)² / |1 - N|, with M̂_s = λ M_fg + (1 - λ)(1 - M_{C+1}).

    Args:
        cam_logits: class maps, background last, shape (N, C + 1, h, w).
        refined: the softmax of the class maps after refinement with
            :func:`wsss_cli.methods.pamr.pamr`, (N, C + 1, h, w); or M_r itself, the refined
            :func:`foreground_map`, (N, 1, h, w), which gives the same, as PAMR is linear in the
            maps. It gets no gradient.
        saliency: M_s in [0, 1], shape (N, 1, H, W), resized to (h, w) by the nearest pixel; NaN
            where it is unknown.
        labels: shape (N, C): 1, 0, or NaN where unknown.
        sure: bool (N,), True for images with a ground-truth saliency map, where nothing is left
            out.
        above: distance of M_r from B(M_s) above which a pixel is left out; see
            :func:`inconsistent`.
        lam: λ, from 0 to 1; 1 makes M̂_s the foreground map alone.
        mean_over: ``images``, with |1 - N| of each image and the mean over those with a pixel left;
            or ``pixels``, with |1 - N| of all images together. The paper does not say which, and
            its authors' code of EPS has the latter.

    Returns:
        A scalar; 0 if no pixel is left.

    Raises:
        ValueError: shapes that do not fit, or another ``mean_over``.
    """
    _check(cam_logits, labels, saliency)
    grid = (len(cam_logits), cam_logits.shape[1], *cam_logits.shape[2:])
    if refined.shape not in (grid, (grid[0], 1, *grid[2:])):
        raise ValueError(f"refined maps {tuple(refined.shape)} for maps {tuple(cam_logits.shape)}")
    saliency = _resized(saliency, cam_logits)
    if refined.shape[1] > 1:
        refined = _sum(refined[:, :-1], labels)
    counts = ~saliency.isnan() & ~inconsistent(refined, saliency, sure, above)
    maps = cam_logits.softmax(1)
    estimate = lam * _sum(maps[:, :-1], labels) + (1 - lam) * (1 - maps[:, -1:])
    return _mean_square(estimate, saliency, counts, mean_over)


def inconsistent(
    refined: Tensor, saliency: Tensor, sure: Tensor | None = None, above: float = 0.5
) -> Tensor:
    """N = B(M_r) ⊕ B(M_s), the pixels where refined foreground and saliency map disagree.

    Args:
        refined: M_r in [0, 1], shape (N, 1, h, w).
        saliency: M_s in [0, 1], shape (N, 1, h, w).
        sure: bool (N,), True for images in which no pixel is inconsistent.
        above: from 0.5 to 1. If larger than 0.5, M_r must also differ from B(M_s) by more than
            this: at 0.9 a salient pixel is inconsistent where M_r is below 0.1; at 1 none is.

    Returns:
        bool (N, 1, h, w).
    """
    refined, rounded = refined.detach(), saliency.round()
    differs = refined.round() != rounded
    if above > 0.5:
        differs &= (refined - rounded).abs() > above
    return differs if sure is None else differs & ~sure[:, None, None, None]


def _sum(maps: Tensor, labels: Tensor) -> Tensor:
    """Sum over the classes of maps (N, C, h, w), each times its label, shape (N, 1, h, w)."""
    weights = labels.nan_to_num(1)[:, :, None, None]
    return (maps * weights).sum(1, keepdim=True)


def _resized(saliency: Tensor, cam_logits: Tensor) -> Tensor:
    size = cam_logits.shape[2:]
    if saliency.shape[2:] == size:
        return saliency
    return functional.interpolate(saliency, (size[0], size[1]), mode="nearest")


def _mean_square(estimate: Tensor, saliency: Tensor, counts: Tensor, mean_over: str) -> Tensor:
    """Mean squared difference over the pixels in ``counts``, of each image first or of all."""
    if mean_over not in MEANS:
        raise ValueError(f"a mean over {' or '.join(MEANS)}, not over {mean_over}")
    # NaN is taken out before the square: 0 times NaN would be NaN in the gradient.
    square = torch.where(counts, estimate - saliency.nan_to_num(), 0) ** 2
    if mean_over == "pixels":
        return square.sum() / counts.sum().clamp(min=1)
    pixels = counts.sum((1, 2, 3))
    losses = square.sum((1, 2, 3)) / pixels.clamp(min=1)
    return losses.sum() / (pixels > 0).sum().clamp(min=1)


def _check(cam_logits: Tensor, labels: Tensor, saliency: Tensor | None = None) -> None:
    if cam_logits.ndim != 4 or labels.shape != (len(cam_logits), cam_logits.shape[1] - 1):
        raise ValueError(
            f"maps (N, C + 1, h, w) and labels (N, C) are needed, not "
            f"{tuple(cam_logits.shape)} and {tuple(labels.shape)}"
        )
    if saliency is not None and (saliency.ndim != 4 or saliency.shape[:2] != (len(labels), 1)):
        raise ValueError(f"saliency must be ({len(labels)}, 1, H, W), not {tuple(saliency.shape)}")
