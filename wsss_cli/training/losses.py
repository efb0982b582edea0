"""Losses that several trainers share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wsss_cli.classes import IGNORE
from wsss_cli.methods.grids import sample
from wsss_cli.training.batch import SoftLabels


def multilabel_loss(scores: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Multi-label soft margin loss, the mean over classes and weighted samples.

    - mean_c [ y_c log s(x_c) + (1 - y_c) log(1 - s(x_c)) ], s the logistic function.

    Args:
        scores: logits x, shape (N, C).
        labels: 0 or 1, shape (N, C).
        weights: at least 0, shape (N,); if all are 0, so is the loss.
    """
    each = functional.multilabel_soft_margin_loss(scores.float(), labels, reduction="none")
    return (each * weights).sum() / weights.sum().clamp(min=1e-6)


def squared_label_loss(scores: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Squared label prediction loss, the mean over weighted samples (AE-PSL, Wei et al. 2017).

    J = sum_c (p_c - y_c / |y|_1)², with p the softmax of the scores over the classes: the labels,
    divided by their number, are a distribution over the classes that the scores are to meet. It is
    that of HCP (Wei et al., PAMI 2016, "CNN: Single-label to Multi-label"), which AE-PSL cites.

    A sample without a label has no such distribution, so it does not count.

    Args:
        scores: logits, shape (N, C).
        labels: y, 0 or 1, shape (N, C).
        weights: at least 0, shape (N,); if all that count are 0, so is the loss.
    """
    number = labels.sum(1, keepdim=True)
    each = (scores.float().softmax(1) - labels / number.clamp(min=1)).square().sum(1)
    weights = weights * (number[:, 0] > 0)
    return (each * weights).sum() / weights.sum().clamp(min=1e-6)


# Losses of class scores, by name: (scores, labels, weights) -> scalar.
CLASS_LOSSES = {"soft-margin": multilabel_loss, "squared": squared_label_loss}


def pixel_loss(
    logits: Tensor,
    labels: Tensor,
    stride: int,
    *,
    weights: Tensor | None = None,
    every: int = 1,
    ignore: int = IGNORE,
    confidence: Tensor | None = None,
) -> Tensor:
    """Cross entropy, the weighted mean over the pixels that have a label.

    - sum_u w_u log f_u(y_u) / sum_u w_u, with f the softmax of the logits, y the labels, and w_u
    the weight of the image times the confidence of the pixel.

    Args:
        logits: shape (N, C, h, w); cell (y, x) looks at pixel (stride y, stride x), and between the
            cells they are bilinear.
        labels: int64 (N, H, W): 0 to C - 1, or `ignore`.
        stride: of the logits on the labels.
        weights: weight of the pixels of each image, shape (N,), at least 0; by default 1.
        every: compare every n-th row and column, beginning at random ones: the same on average,
            at a fraction of the cost.
        ignore: the label of pixels that do not count.
        confidence: of each pixel, shape (N, H, W), at least 0; by default 1.

    Returns:
        The mean; 0 if no pixel has a label.
    """
    rows, columns = random_grid(labels, every)
    logits = sample(logits.float(), rows / stride, columns / stride)
    labels = labels[:, rows[:, None], columns]
    each = functional.cross_entropy(logits, labels, ignore_index=ignore, reduction="none")
    counts = labels != ignore
    if confidence is not None:
        confidence = confidence[:, rows[:, None], columns]
        each, counts = each * confidence, counts * confidence
    return _mean(each.sum((1, 2)), counts.sum((1, 2)).float(), weights)


def soft_pixel_loss(
    logits: Tensor,
    labels: Tensor,
    soft: SoftLabels,
    stride: int,
    *,
    weights: Tensor | None = None,
    every: int = 1,
    ignore: int = IGNORE,
) -> Tensor:
    """Cross entropy against soft labels, the weighted mean over the pixels that have them.

    - sum_u sum_c w p_uc log f_uc / sum_u sum_c w p_uc, with f the softmax of the logits, p the soft
    labels and w the weight of the image. Its gradient is that of the Kullback-Leibler divergence of
    f from p, as in the constrain-to-boundary loss of SEC (Kolesnikov & Lampert 2016), where p is
    the posterior of a CRF; soft targets are those of Hinton et al. 2015. At f = p it is the entropy
    of p, not 0.

    Args:
        logits: as in :func:`pixel_loss`.
        labels: int64 (N, H, W): pixels of `ignore` do not count.
        soft: of the pixels of ``labels``.
        stride: as in :func:`pixel_loss`.
        weights: likewise.
        every: likewise.
        ignore: the label of pixels that do not count.

    Returns:
        The mean; 0 if no pixel has soft labels.
    """
    rows, columns = random_grid(labels, every)
    logs = sample(logits.float(), rows / stride, columns / stride).log_softmax(1)
    counts = labels[:, rows[:, None], columns] != ignore
    wanted = soft.probabilities[:, :, rows[:, None], columns] * counts[:, None]
    places = soft.numbers[:, :, None, None].expand_as(wanted)
    each = -(wanted * logs.gather(1, places)).sum((1, 2, 3))
    return _mean(each, wanted.sum((1, 2, 3)), weights)


def absent_loss(
    logits: Tensor, labels: Tensor, inside: Tensor, *, weights: Tensor | None = None
) -> Tensor:
    """Keeps the classes that an image does not show out of its map: the weighted mean over images.

    - 1 / |A| sum_{c in A} log(1 - max_u f_uc), with f the softmax of the logits and A the classes
    without a label: the term of the absent classes in the image-level losses of Bearman et al. 2016
    ("What's the point", sec. 3) and of SEC (Kolesnikov & Lampert 2016, the expansion loss with
    d_- = 0). Labels say for sure what is absent, also where a pseudo-mask is unknown or wrong, and
    in every crop; what is present may be outside a crop, so there is no term for it.

    A softmax over the labelled classes alone would say the same of the mask but teach nothing: no
    gradient would reach the logits of absent classes.

    Args:
        logits: shape (N, 1 + C, h, w), background first.
        labels: 0 or 1, shape (N, C); NaN where they are not known. An image with such a label, or
            with all of them 1, has the loss 0.
        inside: bool (N, 1, h, w): the cells that count; an image without any has the loss 0.
        weights: weight of each image, shape (N,), at least 0; by default 1.

    Returns:
        The mean; if all weights are 0, so is it.
    """
    # log(1 - f) from the logits at the best cell of each class: exact where f is close to 1.
    logits = logits.float().flatten(2)
    inside = inside.flatten(1)
    with torch.no_grad():
        likely = logits.log_softmax(1)[:, 1:].masked_fill(~inside[:, None], -torch.inf)
        best = likely.argmax(2)  # (N, C)
    at_best = logits.gather(2, best[:, None].expand(-1, logits.shape[1], -1))  # (N, 1 + C, C)
    own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)[:, 1:]
    others = at_best.masked_fill(own, -torch.inf)
    each = at_best.logsumexp(1) - others.logsumexp(1)
    absent = labels == 0
    counts = inside.any(1) & ~labels.isnan().any(1)
    losses = (each * absent).sum(1) / absent.sum(1).clamp(min=1) * counts
    return _mean(losses, torch.ones_like(losses), weights)


def _mean(sums: Tensor, counts: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over N weighted images of what is summed, and counted, in each; 0 if none counts."""
    if weights is None:
        weights = sums.new_ones(len(sums))
    return weights @ sums / (weights @ counts).clamp(min=1e-6)


def random_grid(labels: Tensor, every: int) -> tuple[Tensor, Tensor]:
    """Numbers of every n-th row and column of label maps (N, H, W), beginning at random ones."""
    rows, columns = (
        torch.arange(int(torch.randint(min(every, size), ())), size, every, device=labels.device)
        for size in labels.shape[1:]
    )
    return rows, columns
