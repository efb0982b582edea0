"""The contracts of backbones and networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from wsss_cli.errors import ConfigurationError

SMALLEST = 33  # pixels of a side; below, a dilated backbone has nothing left to see


class Colours(NamedTuple):
    """Statistics that RGB in [0, 1] is normalised with: (RGB - mean) / std."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def colours_of(config: Mapping[str, Any]) -> Colours | None:
    """The statistics that the config of a checkpoint states: ``mean`` and ``std``, three numbers
    each; None if it states none, and those of the backbone's row hold.

    Raises:
        ConfigurationError: they cannot be.
    """
    mean, std = config.get("mean"), config.get("std")
    if mean is None and std is None:
        return None
    colours = Colours(_three(mean), _three(std))
    if min(colours.std) <= 0:
        raise ConfigurationError("a damaged checkpoint: its 'std' is not positive")
    return colours


def _three(values: Any) -> tuple[float, float, float]:
    try:
        red, green, blue = map(float, values)
    except (TypeError, ValueError, OverflowError):
        red = green = blue = math.nan
    if not all(map(math.isfinite, (red, green, blue))):
        raise ConfigurationError("a damaged checkpoint: 'mean' or 'std' is not three numbers")
    return red, green, blue


class Backbone(nn.Module):
    """Turns normalised images (N, 3, H, W) into feature maps, from low level to high.

    Attributes:
        name: its key in ``wsss_cli.models.backbones.BACKBONES``.
        channels, strides: of each feature map.
        early: channels and stride of the map below them, which IRNet reads too.
        mean, std: statistics that RGB in [0, 1] is normalised with.
        imagenet: its ImageNet weights: a downloadable file, a package, or None.
        new_layers: prefixes of the keys that ImageNet weights do not hold.
        stages: its stages from the image on, which can be frozen, by name: the layers in each.
    """

    name: str
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    early: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    imagenet: str | None = None
    new_layers: tuple[str, ...] = ()
    stages: Mapping[str, tuple[str, ...]]

    def forward(self, images: Tensor) -> list[Tensor]:
        """One map per level, shape (N, channels[l], ceil(H / strides[l]), ceil(W / strides[l])).

        Padding is symmetric everywhere, so cell (i, j) of a map is centred on pixel
        (strides[l] i, strides[l] j), not on the middle of a square of that side.
        """
        return self.levels(images)[1:]

    def levels(self, images: Tensor) -> list[Tensor]:
        """The same with one more map in front, that of ``early``."""
        raise NotImplementedError

    @property
    def colours(self) -> Colours:
        """The statistics that images are normalised with."""
        return Colours(self.mean, self.std)

    @colours.setter
    def colours(self, colours: Colours) -> None:
        self.mean, self.std = colours


Groups = dict[str, list[nn.Parameter]]


class Network(nn.Module):
    """A backbone with new layers on it.

    Attributes:
        backbone: the backbone.
        stride: pixels of the image per cell of the output; cell i looks at pixel ``stride`` · i.
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
