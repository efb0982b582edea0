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
