"""IRNet (Ahn, Cho & Kwak 2019, sec. 4.1) and how its output links the cells of the random walk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss_cli.methods.grids import on_finer, sample
from wsss_cli.methods.instances import centroids, clusters
from wsss_cli.methods.irn import path_affinity
from wsss_cli.models.base import Backbone, Groups, Network
from wsss_cli.models.links import Links, Ties

if TYPE_CHECKING:
    from wsss_cli.models.inference import View


class Relations(NamedTuple):
    """Output of IRNet for N images.

    Attributes:
        boundary: class boundaries, logits (N, 1, h, w).
        displacement: from each cell to the centroid of its object, cells, (N, 2, h, w): down, then
            right.
    """

    boundary: Tensor
    displacement: Tensor


class Reduce(nn.Module):
    """A 1×1 convolution, normalised in groups."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.GroupNorm(groups, outputs)

    def forward(self, maps: Tensor) -> Tensor:
        reduced: Tensor = self.norm(self.conv(maps))
        return reduced


class Boundary(nn.Module):
    """The branch of class boundaries: 32 channels of each of the five levels, joined into one."""

    width = 32

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(Reduce(inputs, self.width, 4) for inputs in channels)
        self.join = nn.Conv2d(len(channels) * self.width, 1, 1)


class Displacement(nn.Module):
    """The branch of the displacement field: the upper three levels are joined first, then all."""

    widths = ((64, 8), (128, 16), (256, 16), (256, 16), (256, 16))  # and groups

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(
            Reduce(inputs, width, groups)
            for inputs, (width, groups) in zip(channels, self.widths, strict=True)
        )
        self.join_upper = Reduce(3 * 256, 256, 16)
        self.join = Reduce(64 + 128 + 256, 256, 16)
        self.field = nn.Conv2d(256, 2, 1, bias=False)
        self.mean_shift = MeanShift()


class MeanShift(nn.Module):
    """Takes the mean of the displacements away, but not in training.

    The losses see differences of displacements only, so that training leaves their mean to chance.
    """

    rate = 0.1

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(2))
        self.running_mean: Tensor

    def forward(self, field: Tensor) -> Tensor:
        """The field (N, 2, h, w) as it is in training, else without the running mean."""
        return field if self.training else field - self.running_mean.view(1, 2, 1, 1)

    @torch.no_grad()
    def update(self, field: Tensor, cells: Tensor) -> None:
        """Move the running mean by a tenth towards that of a batch.

        Args:
            field: displacements (N, 2, h, w).
            cells: bool (N, 1, h, w), the cells that count; if none does, the mean stays.
        """
        count = cells.sum()
        mean = (field.float() * cells).sum((0, 2, 3)) / count.clamp(min=1)
        self.running_mean += self.rate * (count > 0) * (mean - self.running_mean)


class IrnNetwork(Network):
    """IRNet (Ahn, Cho & Kwak 2019, sec. 4.1): class boundaries and displacements at stride 4.

    Two branches of 1×1 convolutions read five levels of a backbone that does not learn. Of a level
    finer than stride 4, the cells that look at the same pixels are taken.

    Args:
        backbone: any; its weights stay as they are, and it is always in evaluation mode.
        cells: how a level is brought onto a finer grid. "centred": cells lie on the pixels that
            they look at; "parts": they are equal parts of the image, as in the authors' code, whose
            levels of stride 16 lie 6 pixels off.

    Attributes:
        displaces: whether the displacement branch is run; without it the field is empty.
    """

    def __init__(self, backbone: Backbone, *, cells: str = "centred") -> None:
        super().__init__()
        self.backbone, self.stride, self.cells = backbone, backbone.strides[0], cells
        backbone.requires_grad_(False)
        channels = (backbone.early[0], *backbone.channels)
        self.boundary, self.displacement = Boundary(channels), Displacement(channels)
        self.displaces = True

    def train(self, mode: bool = True) -> IrnNetwork:
        super().train(mode)
        self.backbone.eval()
        return self

    def parameter_groups(self) -> Groups:
        """The boundary branch, which has the rate of a backbone, under ``backbone``; and the
        displacement branch under ``new``; the rates are 1 and 10 in the authors' code."""
        return {
            "backbone": list(self.boundary.parameters()),
            "new": list(self.displacement.parameters()),
        }

    def forward(self, images: Tensor) -> Relations:
        """Boundaries and displacements of normalised images (N, 3, H, W); h = ceil(H / 4)."""
        with torch.no_grad():
            levels = self.backbone.levels(images)
        strides = [self.backbone.early[1], *self.backbone.strides]
        for place, stride in enumerate(strides):
            if stride < self.stride:
                skip = self.stride // stride
                levels[place], strides[place] = levels[place][:, :, ::skip, ::skip], self.stride
        edges = [
            self._onto(layer(level), levels[1], stride / self.stride).relu()
            for layer, level, stride in zip(self.boundary.reduce, levels, strides, strict=True)
        ]
        boundary = self.boundary.join(torch.cat(edges, 1))
        if not self.displaces:
            return Relations(boundary, boundary.new_zeros(len(boundary), 2, 0, 0))
        branch = self.displacement
        parts = [layer(level) for layer, level in zip(branch.reduce, levels, strict=True)]
        upper = [
            self._onto(part, levels[2], stride / strides[2]).relu()
            for part, stride in zip(parts[2:], strides[2:], strict=True)
        ]
        joined = branch.join_upper(torch.cat(upper, 1))
        raised = self._onto(joined, levels[1], strides[2] / self.stride)
        joined = branch.join(torch.cat([parts[0], parts[1], raised], 1).relu()).relu()
        return Relations(boundary, branch.mean_shift(branch.field(joined)))

    def _onto(self, maps: Tensor, finer: Tensor, ratio: float) -> Tensor:
        """Maps at the cells of a level that is ``ratio`` times as fine."""
        height, width = finer.shape[2:]
        if self.cells == "centred" or ratio == 1:
            return on_finer(maps, (height, width), ratio)
        large = functional.interpolate(maps.float(), scale_factor=ratio, mode="bilinear")
        return large[:, :, :height, :width].to(maps.dtype)


class BoundaryLinks(Links):
    """Links of cells that no class boundary parts (Ahn, Cho & Kwak 2019, sec. 5.2)."""

    beta, alpha, threshold = 10.0, None, 0.25
    flip = True
    share_maximum = True
    tells_instances = True

    def keep(self, output: Relations, part: slice) -> Tensor:
        boundary = output.boundary.float()
        return torch.cat([boundary, output.displacement.float()], 1) if self.instances else boundary

    def prepare(self, network: Any) -> None:
        network.displaces = self.instances

    def planes(self, views: Sequence[View], stride: int) -> Tensor:
        """The boundary map in [0, 1]: of the mean logits of an image and its mirror image, turned
        back; with instances, the displacement field of the image after it. (1 or 3, h, w)."""
        plain, mirrored = views[0].output, views[1]
        rows, columns = (torch.arange(cells, device=plain.device) for cells in plain.shape[2:])
        columns = (mirrored.seen[1] - 1) / stride - columns
        logits = (plain[:, :1] + sample(mirrored.output[:, :1], rows, columns)) / 2
        return torch.cat([logits[0].sigmoid(), plain[0, 1:]])

    def weights(self, cells: Tensor) -> Tensor:
        return cells[None]

    def ties(self, planes: Tensor) -> Ties:
        parts = None
        if self.instances:
            parts = clusters(planes[1:], centroids(planes[1:]))
        return Ties(path_affinity(planes[None, :1], self.radius)[0], 1 - planes[0], parts)
