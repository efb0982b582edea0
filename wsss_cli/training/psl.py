"""Training with a classification branch (prohibitive segmentation learning, Wei et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wsss_cli.classes import IGNORE
from wsss_cli.methods.grids import sample
from wsss_cli.methods.psl import auxiliary_mask, psl_loss
from wsss_cli.training.batch import Batch
from wsss_cli.training.loop import Loss
from wsss_cli.training.losses import multilabel_loss, random_grid


def prohibitive_loss(stride: int, every: int, *, weights: str) -> Loss:
    """The loss of a network with a classification branch on a batch with label maps and labels.

    J(f, S) + J(f, Ŝ) of Wei et al. 2017, sec. 3.2, at the pixels that :func:`pixel_loss` compares,
    and the multi-label loss of the branch, summed over the classes: averaged over twenty classes it
    is too small beside the losses of pixels, the branch stays undecided, and Ŝ becomes all
    background. The padding of a photograph is in neither mask.

    Args:
        stride: of the logits on the labels.
        every: compare every n-th row and column.
        weights: the weights of the maps in Ŝ: ``predicted`` scores, or the true ``labels``, which
            is the paper's upper bound.
    """

    def loss(forward: Callable[[Tensor], Any], batch: Batch) -> Tensor:
        assert batch.label_maps is not None
        assert batch.labels is not None
        logits, scores = forward(batch.images)
        rows, columns = random_grid(batch.label_maps, every)
        logits = sample(logits.float(), rows / stride, columns / stride)
        mask = batch.label_maps[:, rows[:, None], columns]
        with torch.no_grad():
            given = batch.labels if weights == "labels" else scores.float().sigmoid()
            auxiliary = auxiliary_mask(logits.softmax(1), given)
            auxiliary[~batch.inside(rows, columns)] = IGNORE
        masks = psl_loss(
            logits, mask, auxiliary, batch.labels, weights=batch.weights, ignore=IGNORE
        )
        classes = multilabel_loss(scores, batch.labels, batch.weights)
        return masks + batch.labels.shape[1] * classes

    return loss
