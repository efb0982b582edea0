"""Prohibitive segmentation learning: image-level scores keep wrong classes out of the masks.

Wei et al., "Object Region Mining with Adversarial Erasing", CVPR 2017, sec. 3.2 (AE-PSL). Class 0
is background; v are the scores of the C other classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

IGNORE = 255


def auxiliary_mask(probabilities: Tensor, scores: Tensor) -> Tensor:
    """The auxiliary mask Ŝ = argmax_c ([1, v] ⊗ f)_c, each map weighed with its class's score.

    Args:
        probabilities: f, in [0, 1], shape (N, 1 + C, h, w), background first.
        scores: v, in [0, 1], shape (N, C): the predicted probability that the class is there, or
            the true label. Background always weighs 1.

    Returns:
        int64 (N, h, w), from 0 to C; where maps are level, the first of them.

    Raises:
        ValueError: shapes that do not fit.
    """
    if probabilities.ndim != 4 or scores.shape != (len(probabilities), probabilities.shape[1] - 1):
        raise ValueError(
            f"maps (N, 1 + C, h, w) and scores (N, C) are needed, not "
            f"{tuple(probabilities.shape)} and {tuple(scores.shape)}"
        )
    weights = torch.cat([scores.new_ones(len(scores), 1), scores], dim=1)
    return (probabilities * weights[:, :, None, None]).argmax(1)


def psl_loss(
    logits: Tensor,
    mask: Tensor,
    auxiliary: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    ignore: int = IGNORE,
) -> Tensor:
    """The loss of prohibitive segmentation learning, J(f, S) + J(f, Ŝ) (sec. 3.2).

    J(f, S) = -1 / (sum_{c in O} |S_c|) · sum_{c in O} sum_{u in S_c} log f_{u,c}, where S_c are the
    pixels of class c in S, and O the classes of the image and background: the sum over the classes
    is divided by the number of their pixels, in each image by itself. Pixels of other classes, and
    those ignored, do not count.

    Args:
        logits: shape (N, 1 + C, h, w), background first; f is their softmax.
        mask: S, int64 (N, h, w): 0 to C, or ``ignore``.
        auxiliary: Ŝ, likewise.
        labels: shape (N, C), not 0 for the classes of the image.
        weights: how much each image counts, shape (N,), at least 0; by default 1.
        ignore: the number of ignored pixels.

    Returns:
        A scalar: the sum of both, each the weighted mean over the images with a pixel that counts;
        0 where there is none.

    Raises:
        ValueError: shapes that do not fit.
    """
    if labels.shape != (len(logits), logits.shape[1] - 1):
        raise ValueError(f"labels {tuple(labels.shape)} for maps {tuple(logits.shape)}")
    places = (len(logits), *logits.shape[2:])
    if mask.shape != places or auxiliary.shape != places:
        raise ValueError(f"masks {tuple(mask.shape)}, {tuple(auxiliary.shape)}, not {places}")
    likely = logits.float().log_softmax(1)
    allowed = torch.cat([labels.new_ones(len(labels), 1), labels], dim=1) != 0
    if weights is None:
        weights = likely.new_ones(len(likely))
    return _seen(likely, mask, allowed, weights, ignore) + _seen(
        likely, auxiliary, allowed, weights, ignore
    )


def _seen(likely: Tensor, mask: Tensor, allowed: Tensor, weights: Tensor, ignore: int) -> Tensor:
    """J, the weighted mean over the images of a batch.

    Args:
        likely: log f, shape (N, 1 + C, h, w).
        mask: S, shape (N, h, w).
        allowed: O, bool (N, 1 + C).
        weights: of the images, shape (N,).
        ignore: the number of ignored pixels.
    """
    there = mask != ignore
    number = torch.where(there, mask, 0)
    counts = there & allowed.gather(1, number.flatten(1)).view_as(mask)
    each = likely.gather(1, number[:, None])[:, 0]
    pixels = counts.sum((1, 2))
    losses = -torch.where(counts, each, 0).sum((1, 2)) / pixels.clamp(min=1)
    return weights @ losses / (weights @ (pixels > 0).float()).clamp(min=1e-6)


def prohibit(probabilities: Tensor, scores: Tensor, least: float = 0.1) -> Tensor:
    """Probabilities without the classes that are hardly there (sec. 4.1: at test time, below 0.1).

    Args:
        probabilities: in [0, 1], shape (1 + C, ...), adding up to 1 over the classes, background
            first and nowhere 0.
        scores: v, in [0, 1], shape (C,).
        least: a class with a smaller score is left out.

    Returns:
        Like ``probabilities``: 0 for the classes left out, the others add up to 1.

    Raises:
        ValueError: not one score a class.
    """
    if scores.shape != (len(probabilities) - 1,):
        raise ValueError(f"{tuple(scores.shape)} scores for {len(probabilities) - 1} classes")
    kept = torch.cat([scores.new_ones(1, dtype=torch.bool), scores >= least])
    left = probabilities * kept.view(-1, *[1] * (probabilities.ndim - 1))
    return left / left.sum(0)
