"""The SIPE classifier (Chen et al. 2022) and how its output is read as maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss_cli.classes import BACKGROUND
from wsss_cli.errors import ConfigurationError
from wsss_cli.methods.cam import normalise
from wsss_cli.methods.grids import on_finer
from wsss_cli.methods.sipe import SeedsFrom, explore
from wsss_cli.models.base import Backbone
from wsss_cli.models.cam import CamNetwork, ClassMaps


class Explored(NamedTuple):
    """Output of a network for N images.

    Attributes:
        maps: class maps (logits), shape (N, C, h, w).
        features: semantic features, the backbone's last map, shape (N, D, h, w).
        hierarchical: features of all levels, shape (N, 768, h', w').
    """

    maps: Tensor
    features: Tensor
    hierarchical: Tensor


class SipeNetwork(CamNetwork):
    """Classifier with hierarchical features for prototypes (SIPE: Chen et al. 2022, sec. 3.2.2).

    Each of the four levels of the backbone is reduced by a 1×1 convolution (128, 128, 256, 256
    channels) and brought to unit length in each cell; all are joined on the grid of one of the
    levels. They learn without changing the backbone.

    Of a level that is finer, the cells that look at the same pixels are taken; on a grid coarser
    than the second level's, means of its cells, as the authors' code resizes it.

    Args:
        backbone: any.
        num_classes: without background.
        fine_stride: pixels of the image to a cell of the hierarchical features, one of the strides
            of the backbone's levels. None is that of the second, 8; the authors' code has 16.

    Attributes:
        fine_stride: as given.

    Raises:
        ConfigurationError: no level has this stride.
    """

    widths = (128, 128, 256, 256)

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        dropout: float = 0,
        fine_stride: int | None = None,
    ) -> None:
        super().__init__(backbone, num_classes, dropout=dropout)
        self.fine_stride = backbone.strides[1] if fine_stride is None else fine_stride
        if self.fine_stride not in backbone.strides[1:] or self.stride < self.fine_stride:
            offered = ", ".join(map(str, sorted({*backbone.strides[1:]})))
            raise ConfigurationError(
                f"no level of {backbone.name} has stride {fine_stride}; there are {offered}"
            )
        self.side = nn.ModuleList(
            nn.Conv2d(channels, width, 1, bias=False)
            for channels, width in zip(backbone.channels, self.widths, strict=True)
        )

    def forward(self, images: Tensor) -> Explored:  # type: ignore[override]
        """Class maps and features of normalised images (N, 3, H, W)."""
        levels = self.backbone(images)
        finest = levels[self.backbone.strides.index(self.fine_stride)]
        grid = (finest.shape[2], finest.shape[3])
        resized = self.fine_stride > self.backbone.strides[1]
        parts = []
        for level, stride, layer in zip(levels, self.backbone.strides, self.side, strict=True):
            skip = 1 if resized else max(self.fine_stride // stride, 1)
            part = layer(level.detach()[:, :, ::skip, ::skip])
            unit = functional.normalize(part.float(), dim=1)
            if resized and stride < self.fine_stride:
                unit = functional.interpolate(unit, grid, mode="bilinear", align_corners=False)
            parts.append(on_finer(unit.to(part.dtype), grid, max(stride / self.fine_stride, 1)))
        return Explored(self.classify(self.dropout(levels[-1])), levels[-1], torch.cat(parts, 1))

    def scores(self, output: Explored, inside: Tensor | None = None) -> Tensor:
        """Class scores (logits), shape (N, C): the means of the class maps over ``inside``."""
        return super().scores(output.maps, inside)


class General(ClassMaps):
    """Maps of the kind sipe without prototypes: CAMs, and 1 minus their maximum as background."""

    first: tuple[str, ...] = (BACKGROUND,)

    def __init__(self) -> None:
        self.params = {"map": "cam"}

    def keep(self, output: Explored, wanted: Sequence[list[int] | None]) -> Tensor:  # type: ignore[override]
        return output.maps

    def maps(self, mean: Tensor) -> Tensor:
        cam = super().maps(mean)
        return torch.cat([1 - cam.amax(0, keepdim=True), cam])


class ImageSpecific(General):
    """Similarity of each location to the prototypes of the image (Chen et al. 2022, sec. 3.2).

    The part kept of a view are the maps of background and of all classes, 0 for the classes that
    are not asked for. A map is the mean over the views.

    Args:
        seed_background: weight of the background score in the choice of seeds, 0.5 in the paper. A
            larger one makes more cells background seeds, so that less of the surroundings is
            similar to a class.
        seed_features: the features that decide on the seeds, see
            :func:`wsss_cli.methods.sipe.explore`. The hierarchical ones, which the authors' code
            takes too, give the better maps; in training "last" decides.
        background_over: whether the classes that leave no background, and compete for seeds, are
            those asked for ("labels") or all of the checkpoint ("all", as in the authors' code,
            where the seeds of the others belong to no map).
        divide: divide each map by its maximum in the end, as the authors' code does. It raises the
            maps of classes that nothing in the image is similar to.
    """

    specific = True

    def __init__(
        self,
        seed_background: float = 0.8,
        seed_features: SeedsFrom = "hierarchical",
        background_over: Literal["labels", "all"] = "labels",
        divide: bool = False,
    ) -> None:
        self.params = {
            "map": "is-cam",
            "seed_background": seed_background,
            "seed_features": seed_features,
            "background_over": background_over,
            "divide": divide,
        }

    def stride(self, network: SipeNetwork) -> int:  # type: ignore[override]
        return network.fine_stride

    def keep(self, output: Explored, wanted: Sequence[list[int] | None]) -> Tensor:  # type: ignore[override]
        count, classes = output.maps.shape[:2]
        valid = output.maps.new_zeros(count, classes + 1, 1, 1)
        for image, indices in zip(valid, wanted, strict=True):
            if indices:
                image[[0, *(index + 1 for index in indices)]] = 1
        over_all = self.params["background_over"] == "all"
        return explore(
            *output,
            torch.ones_like(valid) if over_all else valid,
            valid,
            background=self.params["seed_background"],
            over_all=over_all,
            seeds_from=self.params["seed_features"],
        )[1]

    def evidence(self, kept: Tensor, wanted: list[int]) -> Tensor:
        return kept[[0, *(index + 1 for index in wanted)]]

    def maps(self, mean: Tensor) -> Tensor:
        return normalise(mean) if self.params["divide"] else mean.clamp(max=1)
