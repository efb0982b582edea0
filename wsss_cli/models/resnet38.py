"""The wide ResNet-38, model A1 of Wu et al. 2016, dilated to stride 8 as in Ahn & Kwak 2018.

Pre-activation units; keys are those of the published AffinityNet weights (``conv1a``, ``b2``,
``b2_1``, … ``b7``, ``bn7``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsss_cli.models.base import Backbone


class Unit(nn.Module):
    """Two 3×3 convolutions after batch normalisation and ReLU; 1×1 shortcut where shapes differ."""

    def __init__(
        self,
        inputs: int,
        inner: int,
        outputs: int,
        *,
        stride: int = 1,
        first: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.same = inputs == outputs and stride == 1
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = nn.Conv2d(
            inputs, inner, 3, stride, padding=first, dilation=first, bias=False
        )
        self.bn_branch2b1 = nn.BatchNorm2d(inner)
        self.conv_branch2b1 = nn.Conv2d(
            inner, outputs, 3, padding=dilation, dilation=dilation, bias=False
        )
        if not self.same:
            self.conv_branch1 = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The unit's output and its activated input (the level that AffinityNet taps)."""
        active = self.bn_branch2a(x).relu()
        shortcut = x if self.same else self.conv_branch1(active)
        y = self.conv_branch2b1(self.bn_branch2b1(self.conv_branch2a(active)).relu())
        return shortcut + y, active


class BottleneckUnit(nn.Module):
    """1×1, dilated 3×3 with dropout, 1×1."""

    def __init__(self, inputs: int, outputs: int, *, dilation: int, dropout: float) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = nn.Conv2d(inputs, outputs // 4, 1, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(outputs // 4)
        self.dropout_2b1 = nn.Dropout2d(dropout)
        self.conv_branch2b1 = nn.Conv2d(
            outputs // 4, outputs // 2, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.bn_branch2b2 = nn.BatchNorm2d(outputs // 2)
        self.dropout_2b2 = nn.Dropout2d(dropout)
        self.conv_branch2b2 = nn.Conv2d(outputs // 2, outputs, 1, bias=False)
        self.conv_branch1 = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        active = self.bn_branch2a(x).relu()
        y = self.conv_branch2a(active)
        y = self.conv_branch2b1(self.dropout_2b1(self.bn_branch2b1(y).relu()))
        y = self.conv_branch2b2(self.dropout_2b2(self.bn_branch2b2(y).relu()))
        return self.conv_branch1(active) + y, active


class ResNet38(Backbone):
    """Levels: the ends of b3 (stride 4), b4, b5 and of all (stride 8); below them that of b2."""

    channels = (256, 512, 1024, 4096)
    strides = (4, 8, 8, 8)
    early = (128, 2)

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.conv1a = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        units: dict[str, nn.Module] = {"b2": Unit(64, 128, 128, stride=2)}
        units |= {f"b2_{n}": Unit(128, 128, 128) for n in (1, 2)}
        units["b3"] = Unit(128, 256, 256, stride=2)
        units |= {f"b3_{n}": Unit(256, 256, 256) for n in (1, 2)}
        units["b4"] = Unit(256, 512, 512, stride=2)
        units |= {f"b4_{n}": Unit(512, 512, 512) for n in range(1, 6)}
        units["b5"] = Unit(512, 512, 1024, first=1, dilation=2)
        units |= {f"b5_{n}": Unit(1024, 512, 1024, first=2, dilation=2) for n in (1, 2)}
        units["b6"] = BottleneckUnit(1024, 2048, dilation=4, dropout=0.3)
        units["b7"] = BottleneckUnit(2048, 4096, dilation=4, dropout=0.5)
        for name, unit in units.items():
            self.add_module(name, unit)
        self.bn7 = nn.BatchNorm2d(4096)
        self.stages = {"conv1a": ("conv1a",)}
        for name in units:
            stage = name.partition("_")[0]
            self.stages[stage] = (*self.stages.get(stage, ()), name)
        self._order = tuple(units)

    def levels(self, images: Tensor) -> list[Tensor]:
        x = self.conv1a(images)
        # Pre-activation: a group's features are what the first unit of the next one activates.
        taps: dict[str, Tensor] = {}
        for name in self._order:
            x, active = getattr(self, name)(x)
            if name in ("b3", "b4", "b5", "b6"):
                taps[name] = active
        return [taps["b3"], taps["b4"], taps["b5"], taps["b6"], torch.relu(self.bn7(x))]
