"""Samples as tensors on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wsss_cli.datasets import soft
from wsss_cli.datasets.samples import Sample
from wsss_cli.models.base import Backbone


class SoftLabels(NamedTuple):
    """Distributions over some of the classes at each pixel of N samples.

    Attributes:
        numbers: int64 [N, K], class numbers, 0 for background. A sample of fewer than K classes has
            further ones of probability 0.
        probabilities: float32 [N, K, h, w]. They add up to 1 over K, or are 0 where nothing
            is known.
    """

    numbers: Tensor
    probabilities: Tensor

    def of(self, labels: Tensor) -> Tensor:
        """The probability of each label, int64 [N, h, w] to float32 [N, h, w]; 0 for others."""
        own = self.numbers[:, :, None, None] == labels[:, None]
        return (self.probabilities * own).sum(1)


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
        soft: soft labels, if the samples have them.
        progress: share of the training that is done, in [0, 1).
    """

    images: Tensor
    weights: Tensor
    valid: Tensor
    labels: Tensor | None = None
    label_maps: Tensor | None = None
    grey: Tensor | None = None
    soft: SoftLabels | None = None
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
    padded = _padded([sample.soft for sample in samples if sample.soft is not None])
    numbers, probabilities = (stack([each[place] for each in padded]) for place in (0, 1))
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
        None if numbers is None or probabilities is None else SoftLabels(numbers, probabilities),
    )


def _padded(given: Sequence[soft.SoftLabels]) -> list[soft.SoftLabels]:
    """Soft labels of as many classes each: those that are lacking have probability 0."""
    most = max((len(each.numbers) for each in given), default=0)
    lacking = [most - len(each.numbers) for each in given]
    return [
        soft.SoftLabels(
            np.pad(each.numbers, (0, more)),
            np.pad(each.probabilities, ((0, more), (0, 0), (0, 0))),
        )
        for each, more in zip(given, lacking, strict=True)
    ]
