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
from wsss_cli.training.loop import Loss
from wsss_cli.training.losses import multilabel_loss


def sipe_loss(network: SipeNetwork, gsc: float, *, after: float = 0.0) -> Loss:
    """The losses of a batch with labels under ``network`` (sec. 3.3).

    ``classes``: the multi-label loss. ``gsc``: the consistency of CAM and image-specific CAM, times
    its weight ``gsc``. Cells that look at padding take part in nothing, not even in the mean that
    is the class score. A photograph that shows none of the classes has no regions to tell apart: it
    takes part in the first loss alone.

    Before the share ``after`` of the training the consistency teaches the features alone, not the
    CAM. A CAM that knows nothing yet may look beside the objects; drawn to all that is like what it
    looks at, it would never leave again: a class is learnt as well by what surrounds it.

    A departure from the authors' code: a class without a seed does not count in the second loss.
    Its image-specific CAM is 0, and agreeing with that would make its CAM smaller, until no class
    has a seed anywhere.
    """

    def loss(forward: Callable[[Tensor], Any], batch: Batch) -> dict[str, Tensor]:
        assert batch.labels is not None
        # Seeds are an arg max of nearly equal numbers, which bfloat16 would not tell apart.
        found = Explored(*(part.float() for part in forward(batch.images)))
        with torch.autocast(batch.images.device.type, enabled=False):
            scores = class_scores(network, found, batch)
            cells = batch.cells(found.maps, network.stride).float()
            fine_cells = batch.cells(found.hierarchical, network.fine_stride).float()
            some = (batch.labels.amax(1) * batch.weights)[:, None]
            present = torch.cat([some, some * batch.labels], 1)[:, :, None, None]
            cam, specific = explore(*found, present * cells, present * fine_cells)
            # Drawn from cells that are no padding alone.
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


def class_scores(network: SipeNetwork, found: Explored, batch: Batch) -> Tensor:
    """Class scores (N, C) of what the network makes of a batch, without its padding."""
    return network.scores(found.maps, batch.cells(found.maps, network.stride))


def _seeded(specific: Tensor) -> Tensor:
    """1 for the maps (N, C + 1, h, w) that have a seed, background only beside a class that has."""
    some = (specific.detach().amax((2, 3), keepdim=True) > 0).float()
    return torch.cat([some[:, :1] * some[:, 1:].amax(1, keepdim=True), some[:, 1:]], 1)
