"""Networks and images that the tests of several networks use."""

from __future__ import annotations

import torch

from wsss_cli.models.backbones import BACKBONES
from wsss_cli.models.base import Network
from wsss_cli.models.networks import build_network

CLASSES = ("cat", "dog", "cow")
# Every backbone at its default stride, one at all of them.
EVERY = [(name, spec.output_strides[0]) for name, spec in BACKBONES.items()]
EVERY += [("efficientnet-lite0", 8), ("efficientnet-lite0", 32)]


def build(
    kind: str, head: str | None = None, name: str = "efficientnet-lite0", stride: int = 16
) -> Network:
    network: Network = build_network(kind, name, CLASSES, {"output_stride": stride, "head": head})
    return network


def images(count: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))
