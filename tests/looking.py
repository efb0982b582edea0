"""A network whose output is its input, so that the steps around a network can be tested."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from wsss_cli.files import Checkpoint
from wsss_cli.models.inference import Runner
from wsss_cli.models.networks import build_network
from wsss_cli.models.sipe import Explored

CONFIG = {"output_stride": 16}


class Look(nn.Module):
    """Cell (y, x) of channel c is colour c, in [0, 1], of pixel (stride y, stride x)."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride, self.calls = stride, 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images[:, :, :: self.stride, :: self.stride]


class LookTwice(nn.Module):
    """The same in the form of a network of the kind sipe, at strides 16 and 8."""

    stride, fine_stride = 16, 8

    def forward(self, images: Tensor) -> Explored:
        maps = images[:, :, ::16, ::16]
        return Explored(maps, maps, images[:, :, ::8, ::8])


@pytest.fixture(scope="session")
def cam_checkpoint() -> Checkpoint:
    """A classifier of cat, dog and cow with random weights."""
    torch.manual_seed(0)
    classes = ("cat", "dog", "cow")
    network = build_network("cam", "efficientnet-lite0", classes, CONFIG)
    return Checkpoint("cam", "efficientnet-lite0", classes, CONFIG, network.state_dict(), "0" * 16)


@pytest.fixture
def looking(cam_checkpoint: Checkpoint) -> Callable[..., Runner]:
    """``looking(stride, max_side)``: a runner whose network is :class:`Look`, colours as given.

    With ``twice`` it is :class:`LookTwice`; ``bounds`` are ``tile`` and ``overlap``.
    """

    def make(stride: int = 16, max_side: int = 0, twice: bool = False, **bounds: int) -> Runner:
        runner = Runner(cam_checkpoint, device="cpu", precision="fp32", max_side=max_side, **bounds)
        runner.network = LookTwice() if twice else Look(stride)  # type: ignore[assignment]
        runner.mean, runner.std = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
        return runner

    return make
