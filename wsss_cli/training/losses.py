"""Losses that several trainers share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wsss_cli.classes import IGNORE
from wsss_cli.methods.grids import sample


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
) -> Tensor:
    """Cross entropy, the weighted mean over the pixels that have a label.

    Args:
        logits: shape (N, C, h, w); cell (y, x) looks at pixel (stride y, stride x), and between the
            cells they are bilinear.
        labels: int64 (N, H, W): 0 to C - 1, or `ignore`.
        stride: of the logits on the labels.
        weights: weight of the pixels of each image, shape (N,), at least 0; by default 1.
        every: compare every n-th row and column, beginning at random ones: the same on average,
            at a fraction of the cost.
        ignore: the label of pixels that do not count.

    Returns:
        The mean; 0 if no pixel has a label.
    """
    rows, columns = random_grid(labels, every)
    logits = sample(logits.float(), rows / stride, columns / stride)
    labels = labels[:, rows[:, None], columns]
    each = functional.cross_entropy(logits, labels, ignore_index=ignore, reduction="none")
    if weights is None:
        weights = each.new_ones(len(each))
    total = weights @ each.sum((1, 2))
    return total / (weights @ (labels != ignore).sum((1, 2)).float()).clamp(min=1e-6)


def random_grid(labels: Tensor, every: int) -> tuple[Tensor, Tensor]:
    """Numbers of every n-th row and column of label maps (N, H, W), beginning at random ones."""
    rows, columns = (
        torch.arange(int(torch.randint(min(every, size), ())), size, every, device=labels.device)
        for size in labels.shape[1:]
    )
    return rows, columns
