"""Samples as tensors on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wsss_cli.datasets.samples import Sample
from wsss_cli.models.base import Backbone


@dataclass(frozen=True)
class Batch:
    """A batch of N samples.

    Attributes:
        images: float32 [N, 3, h, w] in channels-last order, mean and deviation of the backbone.
        weights: float32 [N], of each sample in the loss, by default 1; 0 for one that could not be
            read.
        valid: int64 [N, 4]: top, left, bottom, right of the part that is no padding.
        labels: float32 [N, C] of 0 and 1, or NaN where not known, if the samples have them.
        label_maps: int64 [N, h, w], 255 ignored, if the samples have them.
        grey: float32 [N, 1, h, w] in [0, 1] or NaN, if the samples have them.
        progress: share of the training that is done, in [0, 1).
    """

    images: Tensor
    weights: Tensor
    valid: Tensor
    labels: Tensor | None = None
    label_maps: Tensor | None = None
    grey: Tensor | None = None
    progress: float = 0.0

    def inside(self, rows: Tensor, columns: Tensor) -> Tensor:
        """bool [N, H, W]: which pixels of the given rows (H) and columns (W) are no padding."""
        top, left, bottom, right = self.valid[:, :, None, None].unbind(1)
        y, x = rows[:, None], columns
        return (y >= top) & (y < bottom) & (x >= left) & (x < right)

    def cells(self, stride: int) -> Tensor:
        """bool [N, 1, h, w]: which cells of the maps at a stride do not look at padding.

        Cell (y, x) looks at pixel (stride y, stride x); h = ceil(H / stride), and so is w.
        """
        rows, columns = (
            torch.arange(0, size, stride, device=self.images.device)
            for size in self.images.shape[2:]
        )
        return self.inside(rows, columns)[:, None]


def collate(samples: Sequence[Sample], *, backbone: Backbone, device: torch.device) -> Batch:
    """One batch from samples of the same size.

    Args:
        samples: at least one.
        backbone: its mean and standard deviation normalise the colours.
        device: where the batch goes.
    """

    def stack(arrays: list[np.ndarray | None]) -> Tensor | None:
        known = [array for array in arrays if array is not None]
        if not known:
            return None
        tensor = torch.from_numpy(np.stack(known))
        if device.type == "cuda":
            return tensor.pin_memory().to(device, non_blocking=True)
        return tensor.to(device)

    pixels = stack([sample.image for sample in samples])
    assert pixels is not None
    label_maps = stack([sample.label_map for sample in samples])
    grey = stack([sample.grey for sample in samples])
    # Bytes travel to the device and are normalised there; [N, h, w, 3] is channels-last already.
    centre = torch.tensor(backbone.mean, device=device) * 255
    scale = 1 / (torch.tensor(backbone.std, device=device) * 255)
    return Batch(
        ((pixels.float() - centre) * scale).permute(0, 3, 1, 2),
        torch.tensor([0.0 if sample.error else sample.weight for sample in samples], device=device),
        torch.tensor([sample.valid for sample in samples], device=device),
        stack([sample.labels for sample in samples]),
        None if label_maps is None else label_maps.long(),
        None if grey is None else grey.unsqueeze(1),
    )
