"""Prohibitive segmentation learning: image-level scores keep wrong classes out of the masks.

Wei et al., "Object Region Mining with Adversarial Erasing: A Simple Classification to Semantic
Segmentation Approach", CVPR 2017, sec. 3.2 (AE-PSL). Class 0 is background; v are the image-level
scores of the C other classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wsss_cli.classes import IGNORE


def auxiliary_mask(probabilities: Tensor, scores: Tensor) -> Tensor:
    """The auxiliary mask Ŝ = argmax_c ([1, v] ⊗ f)_c, each map times the score of its class.

    Args:
        probabilities: f, in [0, 1], shape (N, 1 + C, h, w), background first.
        scores: v, in [0, 1], shape (N, C): the predicted probability that the image shows the
            class, or the true label. The score of background is 1.

    Returns:
        int64 (N, h, w), from 0 to C; the smallest of equally good classes.

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
    pixels of class c in S, and O the classes of the image and background: the mean over all pixels
    of these classes, for each image on its own. Pixels of other classes and ignored pixels do not
    count.

    Args:
        logits: shape (N, 1 + C, h, w), background first; f is their softmax.
        mask: S, int64 (N, h, w): 0 to C, or ``ignore``.
        auxiliary: Ŝ, likewise.
        labels: shape (N, C), other than 0 for the classes of the image.
        weights: weight of each image, shape (N,), at least 0; 1 by default.
        ignore: the number of ignored pixels.

    Returns:
        A scalar: the sum of both terms, each the weighted mean over the images with a pixel that
        counts; 0 if there is none.

    Raises:
        ValueError: shapes that do not fit.
    """
    if labels.shape != (len(logits), logits.shape[1] - 1):
        raise ValueError(f"labels {tuple(labels.shape)} for maps {tuple(logits.shape)}")
    grid = (len(logits), *logits.shape[2:])
    if mask.shape != grid or auxiliary.shape != grid:
        raise ValueError(f"masks {tuple(mask.shape)}, {tuple(auxiliary.shape)}, not {grid}")
    logs = logits.float().log_softmax(1)
    allowed = torch.cat([labels.new_ones(len(labels), 1), labels], dim=1) != 0
    if weights is None:
        weights = logs.new_ones(len(logs))
    return _mean_loss(logs, mask, allowed, weights, ignore) + _mean_loss(
        logs, auxiliary, allowed, weights, ignore
    )


def _mean_loss(logs: Tensor, mask: Tensor, allowed: Tensor, weights: Tensor, ignore: int) -> Tensor:
    """The weighted mean of J(f, S) over the images of a batch.

    Args:
        logs: log f, shape (N, 1 + C, h, w).
        mask: S, shape (N, h, w).
        allowed: O, bool (N, 1 + C).
        weights: of the images, shape (N,).
        ignore: the number of ignored pixels.
    """
    known = mask != ignore
    numbers = torch.where(known, mask, 0)  # gather needs the number of a class everywhere
    counts = known & allowed.gather(1, numbers.flatten(1)).view_as(mask)
    of_mask = logs.gather(1, numbers[:, None])[:, 0]
    pixels = counts.sum((1, 2))
    losses = -torch.where(counts, of_mask, 0).sum((1, 2)) / pixels.clamp(min=1)
    # The clamp keeps it 0, not NaN, where no image counts.
    return weights @ losses / (weights @ (pixels > 0).float()).clamp(min=1e-6)


def prohibit(probabilities: Tensor, scores: Tensor, least: float = 0.1) -> Tensor:
    """Probabilities without the classes of low image-level score (sec. 4.1: at test time, 0.1).

    Args:
        probabilities: f, in [0, 1], shape (1 + C, ...), adding up to 1 over the classes, background
            first.
        scores: v, in [0, 1], shape (C,).
        least: classes with a smaller score are left out.

    Returns:
        Like ``probabilities``, with 0 for the classes left out; the others add up to 1 again. Where
        they are all 0, that is background.

    Raises:
        ValueError: not one score per class.
    """
    if scores.shape != (len(probabilities) - 1,):
        raise ValueError(f"{tuple(scores.shape)} scores for {len(probabilities) - 1} classes")
    kept = torch.cat([scores.new_ones(1, dtype=torch.bool), scores >= least])
    left = probabilities * kept.view(-1, *[1] * (probabilities.ndim - 1))
    total = left.sum(0)
    nothing = total == 0  # background is below what a float can hold
    left = torch.cat([left[:1] + nothing, left[1:]])
    return left / total.masked_fill(nothing, 1)
