"""Training AffinityNet on confident regions (Ahn & Kwak 2018, sec. 3.3)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from wsss_cli.methods.affinity import affinity_loss, affinity_targets, pairwise_affinity
from wsss_cli.training.batch import Batch
from wsss_cli.training.loop import Loss


def to_grid(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels at the places where a feature grid looks: the top left pixel of each of its cells.

    Args:
        labels: int64 (N, H, W).
        size: height and width of the grid.

    Returns:
        int64 (N, h, w).
    """
    return functional.interpolate(labels[:, None].float(), size, mode="nearest")[:, 0].long()


def region_loss(radius: int) -> Loss:
    """The balanced loss over pairs of a batch with label maps, nearer than ``radius``."""

    def loss(forward: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        assert batch.label_maps is not None
        features = forward(batch.images).float()
        labels = to_grid(batch.label_maps, (features.shape[2], features.shape[3]))
        targets = affinity_targets(labels, radius)
        return affinity_loss(pairwise_affinity(features, radius), *targets)

    return loss
