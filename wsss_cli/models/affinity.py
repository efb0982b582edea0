"""AffinityNet (Ahn & Kwak 2018, sec. 3.3) and how its output links the cells of the random walk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss_cli.methods.affinity import pair_weights, pairwise_affinity
from wsss_cli.methods.grids import on_finer
from wsss_cli.models.base import Backbone, Network
from wsss_cli.models.links import Links, Ties

if TYPE_CHECKING:
    from wsss_cli.models.inference import View


class AffinityNetwork(Network):
    """AffinityNet (Ahn & Kwak 2018, sec. 3.3): features f_aff from the three upper levels.

    Each level is reduced by a 1×1 convolution (64, 128, 256 channels), brought to the grid of the
    first (stride 8), and all are joined by one more 1×1 convolution (448 channels) and ELU. The
    affinity of two cells is computed from their features by
    :func:`wsss_cli.methods.affinity.pairwise_affinity`.

    Args:
        backbone: its three upper levels are read.
        group_norm: normalise the reduced levels in groups of 8 channels before ELU, as the public
            code does on VGG-16, whose levels have no normalisation of their own.
    """

    widths = (64, 128, 256)

    def __init__(self, backbone: Backbone, *, group_norm: bool = False) -> None:
        super().__init__()
        self.backbone, self.stride = backbone, backbone.strides[1]
        reduce = [
            nn.Conv2d(channels, width, 1, bias=False)
            for channels, width in zip(backbone.channels[1:], self.widths, strict=True)
        ]
        self.reduce = nn.ModuleList(reduce)
        self.norm = nn.ModuleList(
            nn.GroupNorm(width // 8, width) if group_norm else nn.Identity()
            for width in self.widths
        )
        self.join = nn.Conv2d(sum(self.widths), sum(self.widths), 1, bias=False)
        for layer in reduce:
            nn.init.kaiming_normal_(layer.weight)
        # Affinities begin near 0.7. With larger features (the public code has a gain of 4) most
        # channels end where ELU is flat, and the others never learn to separate regions.
        nn.init.xavier_uniform_(self.join.weight, gain=0.3)

    def forward(self, images: Tensor) -> Tensor:
        """f_aff, shape (N, 448, h, w) at stride 8, of normalised images (N, 3, H, W)."""
        maps, strides = self.backbone(images)[1:], self.backbone.strides[1:]
        grid = (maps[0].shape[2], maps[0].shape[3])
        parts = []
        layers = zip(maps, strides, self.reduce, self.norm, strict=True)
        for level, stride, layer, norm in layers:
            part = functional.elu(norm(layer(level)))
            parts.append(on_finer(part, grid, stride / self.stride))
        return functional.elu(self.join(torch.cat(parts, 1)))


class FeatureLinks(Links):
    """Links of cells with similar features (Ahn & Kwak 2018, sec. 3.4)."""

    beta, alpha, threshold = 8.0, 16.0, None

    @property
    def reach(self) -> int:
        return self.radius - 1

    def keep(self, output: Tensor, part: slice) -> Tensor:
        return pairwise_affinity(output, self.radius)

    def planes(self, views: Sequence[View], stride: int) -> Tensor:
        """The affinities, (P, h, w)."""
        return views[0].output[0]

    def weights(self, cells: Tensor) -> Tensor:
        """A pair has the weight of its end that has the smaller one: none in tiles that show one
        end."""
        return pair_weights(cells, self.radius)

    def ties(self, planes: Tensor) -> Ties:
        return Ties(planes)
