"""The CAM classifier (Zhou et al. 2016) and how its output is read as maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wsss_cli.methods.cam import normalise
from wsss_cli.models.base import Backbone, Network


class CamNetwork(Network):
    """Classifier with global average pooling, whose class maps are the CAMs (Zhou et al. 2016).

    The 1×1 convolution has no bias, so that its maps, averaged, are the class scores (Ahn & Kwak
    2018, eq. 1).

    Args:
        backbone: the backbone.
        num_classes: number of maps.
        dropout: share of the backbone's last channels that training drops, in [0, 1).
    """

    def __init__(self, backbone: Backbone, num_classes: int, *, dropout: float = 0) -> None:
        super().__init__()
        self.backbone, self.stride = backbone, backbone.strides[-1]
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(backbone.channels[-1], num_classes, 1, bias=False)
        nn.init.xavier_uniform_(self.classify.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Class maps (logits), shape (N, C, h, w), of normalised images (N, 3, H, W)."""
        maps: Tensor = self.classify(self.dropout(self.backbone(images)[-1]))
        return maps

    def scores(self, output: Any, inside: Tensor | None = None) -> Tensor:
        """Class scores (logits), shape (N, C): the means of the class maps.

        Args:
            output: result of ``forward`` for N images.
            inside: bool (N, 1, h, w), the cells to average over; None takes all.
        """
        maps: Tensor = output
        if inside is None:
            return maps.mean((2, 3))
        cells = inside.sum((2, 3)).clamp(min=1)
        return torch.where(inside, maps, 0).sum((2, 3)) / cells


class Reading(Protocol):
    """How the output of a kind of network is read as maps.

    Attributes:
        first: names of the maps that come before those of the classes.
        specific: whether the part that is kept of the output depends on the classes asked for.
        params: the settings that change the maps, for their provenance.
    """

    first: tuple[str, ...]
    specific: bool
    params: dict[str, Any]

    def stride(self, network: Any) -> int:
        """Pixels of the image per cell of the part that is kept."""
        ...

    def keep(self, output: Any, wanted: Sequence[list[int] | None]) -> Tensor:
        """The part of the network's output that the maps are made from, shape (N, C', h, w).

        Args:
            output: of the network, for N images.
            wanted: indices of the classes asked for, for each image; None where not known yet.
        """
        ...

    def scores(self, kept: Tensor) -> Tensor:
        """Class scores (logits) of one image, shape (C,), from its kept part (C', h, w)."""
        ...

    def evidence(self, kept: Tensor, wanted: list[int]) -> Tensor:
        """Evidence of one view for the K maps asked for, at least 0, shape (K, h, w)."""
        ...

    def maps(self, mean: Tensor) -> Tensor:
        """Maps in [0, 1], shape (K, H, W), from the mean of the evidence over all views."""
        ...


class ClassMaps:
    """Maps of a plain classifier: positive logits, each map divided by its maximum."""

    first: tuple[str, ...] = ()
    specific = False

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def stride(self, network: CamNetwork) -> int:
        return network.stride

    def keep(self, output: Tensor, wanted: Sequence[list[int] | None]) -> Tensor:
        return output

    def scores(self, kept: Tensor) -> Tensor:
        return kept.mean((1, 2))

    def evidence(self, kept: Tensor, wanted: list[int]) -> Tensor:
        return kept[wanted].relu()

    def maps(self, mean: Tensor) -> Tensor:
        return normalise(mean)


class Roots(ClassMaps):
    """Maps as in the public code of Ahn & Kwak 2018 on VGG-16: square roots of positive logits.

    The root comes before the mean over the views, and makes weak parts of an object stronger.
    """

    def __init__(self) -> None:
        self.params = {"map": "root"}

    def evidence(self, kept: Tensor, wanted: list[int]) -> Tensor:
        return super().evidence(kept, wanted).sqrt()
