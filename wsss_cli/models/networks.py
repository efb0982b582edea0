"""The networks of the toolkit: a backbone and what is put on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss_cli.errors import ConfigurationError
from wsss_cli.methods.sampling import on_finer
from wsss_cli.models.backbones import Backbone, build_backbone
from wsss_cli.models.heads import build_head

Groups = dict[str, list[nn.Parameter]]


class Network(nn.Module):
    """A backbone with new layers on it.

    Attributes:
        backbone: the backbone.
        stride: pixels of the image to a cell of the output; cell i looks at pixel ``stride`` · i.
    """

    backbone: Backbone
    stride: int

    def parameter_groups(self) -> Groups:
        """Parameters under ``backbone`` (they have ImageNet weights) and ``new`` (the rest)."""
        groups: Groups = {"backbone": [], "new": []}
        fresh = tuple(f"backbone.{prefix}." for prefix in self.backbone.new_layers)
        for name, parameter in self.named_parameters():
            old = name.startswith("backbone.") and not (fresh and name.startswith(fresh))
            groups["backbone" if old else "new"].append(parameter)
        return groups


class CamNetwork(Network):
    """Classifier with global average pooling, whose class maps are the CAMs (Zhou et al. 2016).

    The 1×1 convolution has no bias, so that its maps, averaged, are the class scores (Ahn & Kwak
    2018, eq. 1).
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        self.backbone, self.stride = backbone, backbone.strides[-1]
        self.classify = nn.Conv2d(backbone.channels[-1], num_classes, 1, bias=False)
        nn.init.xavier_uniform_(self.classify.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Class maps (logits), shape (N, C, h, w), of normalised images (N, 3, H, W)."""
        maps: Tensor = self.classify(self.backbone(images)[-1])
        return maps

    def scores(self, maps: Tensor, inside: Tensor | None = None) -> Tensor:
        """Class scores (logits), shape (N, C), of class maps (N, C, h, w).

        Args:
            maps: class maps.
            inside: bool (N, 1, h, w), the cells to average over; None takes all.
        """
        if inside is None:
            return maps.mean((2, 3))
        cells = inside.sum((2, 3)).clamp(min=1)
        return torch.where(inside, maps, 0).sum((2, 3)) / cells


class Explored(NamedTuple):
    """What a network of image-specific prototypes makes of images.

    Attributes:
        maps: class maps (logits), shape (N, C, h, w).
        features: semantic features, the backbone's last map, shape (N, D, h, w).
        hierarchical: features of all levels, shape (N, 768, h', w') at stride 8.
    """

    maps: Tensor
    features: Tensor
    hierarchical: Tensor


class SipeNetwork(CamNetwork):
    """Classifier with hierarchical features for prototypes (SIPE: Chen et al. 2022, sec. 3.2.2).

    Each of the four levels of the backbone is reduced by a 1×1 convolution (128, 128, 256, 256
    channels) and brought to unit length in each cell; all are joined at stride 8. They learn
    without changing the backbone.

    Attributes:
        fine_stride: pixels of the image to a cell of the hierarchical features.
    """

    widths = (128, 128, 256, 256)

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__(backbone, num_classes)
        self.fine_stride = backbone.strides[1]
        self.side = nn.ModuleList(
            nn.Conv2d(channels, width, 1, bias=False)
            for channels, width in zip(backbone.channels, self.widths, strict=True)
        )

    def forward(self, images: Tensor) -> Explored:  # type: ignore[override]
        """Class maps and features of normalised images (N, 3, H, W)."""
        levels = self.backbone(images)
        grid = (levels[1].shape[2], levels[1].shape[3])
        parts = []
        for level, stride, layer in zip(levels, self.backbone.strides, self.side, strict=True):
            skip = max(self.fine_stride // stride, 1)
            part = layer(level.detach()[:, :, ::skip, ::skip])
            part = functional.normalize(part.float(), dim=1).to(part.dtype)
            parts.append(on_finer(part, grid, max(stride / self.fine_stride, 1)))
        return Explored(self.classify(levels[-1]), levels[-1], torch.cat(parts, 1))


class EpsNetwork(CamNetwork):
    """Classifier with a map of the background after those of the C classes (Lee et al. 2021)."""

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__(backbone, num_classes + 1)

    def scores(self, maps: Tensor, inside: Tensor | None = None) -> Tensor:
        """Class scores (logits), shape (N, C), of class maps (N, C + 1, h, w).

        Args:
            maps: class maps, background last.
            inside: bool (N, 1, h, w), the cells to average over; None takes all.
        """
        return super().scores(maps[:, :-1], inside)


class AffinityNetwork(Network):
    """AffinityNet (Ahn & Kwak 2018, sec. 3.3): features f_aff from the three upper levels.

    Each level is reduced by a 1×1 convolution (64, 128, 256 channels), brought to the grid of the
    first (stride 8), and all are joined by one more 1×1 convolution (448 channels) and ELU.
    """

    widths = (64, 128, 256)

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone, self.stride = backbone, backbone.strides[1]
        reduce = [
            nn.Conv2d(channels, width, 1, bias=False)
            for channels, width in zip(backbone.channels[1:], self.widths, strict=True)
        ]
        self.reduce = nn.ModuleList(reduce)
        self.join = nn.Conv2d(sum(self.widths), sum(self.widths), 1, bias=False)
        for layer in reduce:
            nn.init.kaiming_normal_(layer.weight)
        # Small: affinities begin near 0.7. From large features (the public code has a gain of 4)
        # most channels end where ELU is flat, and the rest never learn to tell regions apart.
        nn.init.xavier_uniform_(self.join.weight, gain=0.3)

    def forward(self, images: Tensor) -> Tensor:
        """f_aff, shape (N, 448, h, w) at stride 8, of normalised images (N, 3, H, W)."""
        maps, strides = self.backbone(images)[1:], self.backbone.strides[1:]
        grid = (maps[0].shape[2], maps[0].shape[3])
        parts = []
        for level, stride, layer in zip(maps, strides, self.reduce, strict=True):
            part = functional.elu(layer(level))
            parts.append(on_finer(part, grid, stride / self.stride))
        return functional.elu(self.join(torch.cat(parts, 1)))


class SegmentationNetwork(Network):
    """DeepLab: a dilated backbone and one of the heads in ``wsss_cli.models.heads``."""

    def __init__(self, backbone: Backbone, num_classes: int, head: str) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = build_head(head, backbone.channels, backbone.strides, num_classes)
        self.stride = backbone.strides[0 if head == "deeplabv3plus" else -1]

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape (N, C, h, w), background first, of normalised images (N, 3, H, W)."""
        logits: Tensor = self.head(self.backbone(images))
        return logits


class Judged(NamedTuple):
    """What a prohibitive network says of images.

    Attributes:
        logits: shape (N, 1 + C, h, w), background first.
        scores: logits of the classes of the whole image, shape (N, C).
    """

    logits: Tensor
    scores: Tensor


class ProhibitiveNetwork(SegmentationNetwork):
    """DeepLab with a classification branch (AE-PSL: Wei et al. 2017, sec. 3.2).

    The branch is global average pooling of the backbone's last map and one linear layer.
    """

    def __init__(self, backbone: Backbone, num_classes: int, head: str) -> None:
        super().__init__(backbone, num_classes, head)
        self.classify = nn.Linear(backbone.channels[-1], num_classes - 1)
        nn.init.xavier_uniform_(self.classify.weight)
        nn.init.zeros_(self.classify.bias)

    def forward(self, images: Tensor) -> Judged:  # type: ignore[override]
        """Logits of pixels and of images, of normalised images (N, 3, H, W)."""
        maps = self.backbone(images)
        seen = maps[-1].mean((2, 3))
        # The branch's loss is a sum over C classes. With all of it, the backbone would be drawn
        # away from the pixels; with the mean it is not, while the branch itself learns fast.
        softly = seen / self.classify.out_features
        return Judged(self.head(maps), self.classify(softly + (seen - softly).detach()))


def build_network(
    kind: str, backbone: str, classes: Sequence[str], config: Mapping[str, Any]
) -> Any:
    """The network that a checkpoint describes, with random weights.

    Args:
        kind: cam, eps, sipe, affinity or segmentation.
        backbone: name of the backbone.
        classes: class names without background.
        config: plain data: ``output_stride``, and of a segmentation network ``head`` and, if it has
            the classification branch of prohibitive segmentation learning, ``psl``.

    Raises:
        ConfigurationError: there is no such kind, backbone, stride or head.
    """
    body = build_backbone(backbone, output_stride=config.get("output_stride"))
    if kind == "cam":
        return CamNetwork(body, len(classes))
    if kind == "eps":
        return EpsNetwork(body, len(classes))
    if kind == "sipe":
        return SipeNetwork(body, len(classes))
    if kind == "affinity":
        return AffinityNetwork(body)
    if kind == "segmentation":
        family = ProhibitiveNetwork if config.get("psl") else SegmentationNetwork
        return family(body, len(classes) + 1, str(config.get("head")))
    raise ConfigurationError(f"no network of kind '{kind}'")


def freeze_batchnorm(module: nn.Module, *, affine: bool = True) -> None:
    """Keep every batch normalisation in ``module`` as it is, also through ``train()``.

    The layers stay in evaluation mode, so their statistics are used and never updated. Meant for
    the pretrained backbone; new layers have nothing to keep.

    Args:
        module: changed in place.
        affine: keep scale and shift too, as the public code of Ahn & Kwak 2018 does.
    """
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
            layer.train = partial(_stay, layer)  # type: ignore[method-assign, assignment]
            if affine:
                layer.requires_grad_(False)


def _stay(layer: nn.Module, mode: bool = True) -> nn.Module:
    return layer
