"""DeepLab: segmentation heads, and the network of a backbone with one of them.

A head turns the maps of a backbone, from low level to high, into logits (N, C, h, w). Dilations are
those of the paper at its output stride; at other strides they are scaled to keep the field of view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss_cli.errors import ConfigurationError
from wsss_cli.methods.grids import on_finer, places, sample
from wsss_cli.models.base import SMALLEST, Backbone, Network


class Classifier(nn.Module):
    """A 1×1 classifier of the backbone's last map.

    On ``vgg16-largefov`` this is DeepLab-LargeFOV (Chen et al. 2015), whose fc6 and fc7, with
    dropout after each, are layers of the backbone.
    """

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(channels[-1], classes, 1)
        nn.init.normal_(self.classify.weight, std=0.01)
        assert self.classify.bias is not None
        nn.init.zeros_(self.classify.bias)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.classify(maps[-1])
        return logits


class TwoConv(nn.Module):
    """The two convolutions of Wu et al. 2016 on ResNet-38 (model A1, "2 conv.").

    3×3 to 512 channels and ReLU, then 3×3 to the classes, both of dilation 12 at stride 8; halved
    at 16 and quartered at 32. Ahn & Kwak 2018 (sec. 5) call the network ResNet38.
    """

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...], classes: int) -> None:
        super().__init__()
        rate = max(12 * 8 // strides[-1], 1)
        self.conv = nn.Conv2d(channels[-1], 512, 3, padding=rate, dilation=rate)
        self.classify = nn.Conv2d(512, classes, 3, padding=rate, dilation=rate)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        logits: Tensor = self.classify(self.conv(maps[-1]).relu())
        return logits


class LargeFOV(nn.Module):
    """DeepLab-LargeFOV (Chen et al. 2015): a widely dilated 3×3 convolution, then the classes.

    Dilation 12 at stride 8; 6 at stride 16, 3 at 32, which covers the same field. For backbones
    that do not end in these layers; VGG-16 does, see :class:`Classifier`.
    """

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...], classes: int) -> None:
        super().__init__()
        dilation = max(12 * 8 // strides[-1], 1)
        self.conv6 = nn.Conv2d(channels[-1], 1024, 3, padding=dilation, dilation=dilation)
        self.conv7 = nn.Conv2d(1024, 1024, 1)
        self.dropout = nn.Dropout2d(0.5)
        self.classify = nn.Conv2d(1024, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        x = self.dropout(self.conv6(maps[-1]).relu())
        x = self.dropout(self.conv7(x).relu())
        logits: Tensor = self.classify(x)
        return logits


class ASPP(nn.Module):
    """DeepLab-v2 (Chen et al. 2018, fig. 7): 3×3 classifiers at four dilations, summed.

    Dilations 6, 12, 18, 24 at stride 8 (ASPP-L); halved at 16 and quartered at 32. The variant for
    ResNet: no hidden layers between the backbone and the classifiers.
    """

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...], classes: int) -> None:
        super().__init__()
        rates = [max(rate * 8 // strides[-1], 1) for rate in (6, 12, 18, 24)]
        branches = [
            nn.Conv2d(channels[-1], classes, 3, padding=rate, dilation=rate) for rate in rates
        ]
        for branch in branches:
            nn.init.normal_(branch.weight, std=0.01)
            assert branch.bias is not None
            nn.init.zeros_(branch.bias)
        self.branches = nn.ModuleList(branches)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.stack([branch(maps[-1]) for branch in self.branches]).sum(0)


class DeepLabV3Plus(nn.Module):
    """DeepLab-v3+ (Chen et al. 2018b): ASPP with image pooling, and a decoder at stride 4.

    Dilations 6, 12, 18 at stride 16; doubled at 8, halved at 32. The 3×3 convolutions are depthwise
    separable, as in the paper's faster variant.
    """

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...], classes: int) -> None:
        super().__init__()
        width = 256
        self.ratio = strides[-1] / strides[0]
        rates = [max(rate * 16 // strides[-1], 1) for rate in (6, 12, 18)]
        self.point = _unit(channels[-1], width, 1)
        self.branches = nn.ModuleList(_separable(channels[-1], width, rate) for rate in rates)
        # No normalisation after pooling: one pixel of one image has no statistics.
        self.pool = nn.Conv2d(channels[-1], width, 1)
        self.project = nn.Sequential(_unit(width * (2 + len(rates)), width, 1), nn.Dropout2d(0.1))
        self.low = _unit(channels[0], 48, 1)
        self.refine = nn.Sequential(_separable(width + 48, width, 1), _separable(width, width, 1))
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        low, high = maps[0], maps[-1]
        pooled = self.pool(high.mean((2, 3), keepdim=True)).relu()
        parts = [self.point(high), *(branch(high) for branch in self.branches)]
        parts.append(pooled.expand(-1, -1, *high.shape[2:]))
        high = self.project(torch.cat(parts, 1))
        high = on_finer(high, (low.shape[2], low.shape[3]), self.ratio)
        logits: Tensor = self.classify(self.refine(torch.cat([high, self.low(low)], 1)))
        return logits


def _unit(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _separable(inputs: int, outputs: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False
        ),
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        *_unit(inputs, outputs, 1),
    )


HEADS: dict[str, Callable[[tuple[int, ...], tuple[int, ...], int], nn.Module]] = {
    "classifier": Classifier,
    "two-conv": TwoConv,
    "largefov": LargeFOV,
    "aspp": ASPP,
    "deeplabv3plus": DeepLabV3Plus,
}


def build_head(
    name: str, channels: tuple[int, ...], strides: tuple[int, ...], classes: int
) -> nn.Module:
    """The head ``name`` for a backbone with these levels.

    Raises:
        ConfigurationError: there is no such head.
    """
    if name not in HEADS:
        raise ConfigurationError(f"no head '{name}'; there are {', '.join(HEADS)}")
    return HEADS[name](channels, strides, classes)


class SegmentationNetwork(Network):
    """DeepLab: a dilated backbone and one of the heads in ``HEADS``.

    With ``scales`` these are the multi-scale inputs (MSC) of DeepLab-v2 (Chen et al. 2018, sec. 4.1
    and its public code): the network runs on the image at scale 1 and at each of these, and the
    logits are fused by their maximum. They are laid onto the grid of scale 1 where their cells
    look; the public code stretches each map to the size of the first, which shifts it a little.

    Args:
        backbone: the backbone.
        num_classes: number of classes, background included.
        head: a key of ``HEADS``.
        scales: sizes of the further inputs relative to the image, such as 0.5 and 0.75.
    """

    def __init__(
        self, backbone: Backbone, num_classes: int, head: str, scales: Sequence[float] = ()
    ) -> None:
        super().__init__()
        self.backbone, self.scales = backbone, tuple(scales)
        self.head = build_head(head, backbone.channels, backbone.strides, num_classes)
        self.stride = backbone.strides[0 if head == "deeplabv3plus" else -1]

    def forward(self, images: Tensor) -> Tensor:
        """Logits, background first, of normalised images (N, 3, H, W).

        Returns:
            Shape (N, C, h, w). In training with S further scales (N, 2 + S, C, h, w): those at
            scale 1, at each further scale on the grid of scale 1, and their maximum.
        """
        logits: Tensor = self.head(self.backbone(images))
        if not self.scales:
            return logits
        every = [logits, *(self._at(scale, images, logits) for scale in self.scales)]
        fused = torch.stack(every, 1).amax(1)
        return torch.stack([*every, fused], 1) if self.training else fused

    def _at(self, scale: float, images: Tensor, logits: Tensor) -> Tensor:
        """Logits of resized images on the grid of ``logits``."""
        size, cells = images.shape[2:], logits.shape[2:]
        seen = [_scaled(side, scale) for side in size]
        resized = functional.interpolate(images, seen, mode="bilinear", align_corners=False)
        stride = self.stride
        rows, columns = (
            places(count, side, onto, stride=stride, onto_stride=stride)
            for count, side, onto in zip(cells, size, seen, strict=True)
        )
        scaled: Tensor = self.head(self.backbone(resized))
        return sample(scaled.float(), rows, columns).to(logits.dtype)


def _scaled(side: int, scale: float) -> Any:
    """Length of a resized side, pixels."""
    # As a tensor, or an exported network would keep this one.
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return torch.as_tensor(side).double().mul(scale).round().long().clamp(min=SMALLEST)
    return max(round(side * scale), SMALLEST)
