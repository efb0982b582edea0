"""Training a classifier whose CAM agrees with image-specific prototypes (SIPE; Chen 2022)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wsss_cli.methods.cam import normalise
from wsss_cli.methods.grids import on_finer
from wsss_cli.methods.sipe import explore, gsc_loss
from wsss_cli.models.sipe import Explored, SipeNetwork
from wsss_cli.training.batch import Batch
from wsss_cli.training.cam import class_scores
from wsss_cli.training.loop import Loss
from wsss_cli.training.losses import multilabel_loss


def sipe_loss(
    network: SipeNetwork,
    gsc: float,
    *,
    after: float = 0.0,
    padding: bool = False,
    over_all: bool = False,
) -> Loss:
    """The losses of a batch with labels (sec. 3.3).

    ``classes``: the multi-label loss. ``gsc``: the consistency of CAM and image-specific CAM, times
    its weight. Cells that look at padding are left out of both. A photograph that shows none of the
    classes has no regions to separate: it takes part in the first loss alone.

    Before the share ``after`` of the training, the consistency trains only the features, not the
    CAM. An untrained CAM may be high beside the objects; trained to agree with everything similar
    to that place, it would stay there: a class can be learned from its surroundings as well.

    A departure from the authors' code: a class without a seed does not count in the second loss.
    Its image-specific CAM is 0, and agreement with it would lower the CAM, until no class has a
    seed anywhere.

    Args:
        network: the network.
        gsc: weight of the consistency, at least 0.
        after: share of the training, in [0, 1].
        padding: cells that look at padding take part in the means that are the class scores.
        over_all: as of :func:`wsss_cli.methods.sipe.general_cam`.
    """

    def loss(forward: Callable[[Tensor], Any], batch: Batch) -> dict[str, Tensor]:
        assert batch.labels is not None
        # Seeds are an arg max of nearly equal numbers, many of them equal in bfloat16.
        output = Explored(*(part.float() for part in forward(batch.images)))
        with torch.autocast(batch.images.device.type, enabled=False):
            scores = class_scores(network, output, batch, padding=padding)
            cells = batch.cells(network.stride).float()
            fine_cells = batch.cells(network.fine_stride).float()
            some = (batch.labels.amax(1) * batch.weights)[:, None]
            present = torch.cat([some, some * batch.labels], 1)[:, :, None, None]
            cam, specific = explore(
                *output, present * cells, present * fine_cells, over_all=over_all
            )
            # The CAM on the fine grid, interpolated between cells that are no padding.
            grid = (specific.shape[2], specific.shape[3])
            ratio = network.stride / network.fine_stride
            near = on_finer(cells, grid, ratio).clamp(min=1e-6)
            general = on_finer(cam, grid, ratio) / near
            if batch.progress < after:
                general = general.detach()
            apart = gsc_loss(general, normalise(specific), _seeded(specific) * fine_cells)
            return {
                "classes": multilabel_loss(scores, batch.labels, batch.weights),
                "gsc": gsc * apart,
            }

    return loss


def _seeded(specific: Tensor) -> Tensor:
    """1 for the maps (N, C + 1, h, w) that have a seed, background only beside a class that has."""
    some = (specific.detach().amax((2, 3), keepdim=True) > 0).float()
    return torch.cat([some[:, :1] * some[:, 1:].amax(1, keepdim=True), some[:, 1:]], 1)
