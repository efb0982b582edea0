"""IRNet: the levels that it reads, what learns in it, and the links of its boundaries."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.models.conftest import CLASSES, EVERY, build, images
from wsss_cli.errors import ConfigurationError
from wsss_cli.methods.irn import path_affinity
from wsss_cli.models.backbones import BACKBONES, build_backbone
from wsss_cli.models.inference import View
from wsss_cli.models.irn import BoundaryLinks, IrnNetwork, MeanShift
from wsss_cli.models.networks import build_network


@pytest.mark.parametrize(("name", "stride"), EVERY)
def test_both_branches_at_stride_4_on_every_backbone(name: str, stride: int) -> None:
    with torch.device("meta"):
        network = build("irn", name=name, stride=stride).train()
        output = network(torch.empty(2, 3, 50, 71))
    assert network.stride == 4
    assert output.boundary.shape == (2, 1, 13, 18)
    assert output.displacement.shape == (2, 2, 13, 18)
    (output.boundary.sum() + output.displacement.sum()).backward()
    for key, value in network.named_parameters():
        assert value.requires_grad == (not key.startswith("backbone."))
        assert (value.grad is None) == key.startswith("backbone."), key
    groups = network.parameter_groups()
    for group, branch in (("backbone", "boundary"), ("new", "displacement")):
        expected = [id(v) for k, v in network.named_parameters() if k.startswith(f"{branch}.")]
        assert [id(value) for value in groups[group]] == expected


@pytest.mark.parametrize("name", BACKBONES)
def test_the_earliest_level_is_as_stated(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name)
        first, *others = backbone.levels(torch.empty(1, 3, 50, 71))
        later = backbone(torch.empty(1, 3, 50, 71))
    channels, stride = backbone.early
    assert first.shape == (1, channels, -(-50 // stride), -(-71 // stride))
    assert [level.shape for level in others] == [level.shape for level in later]
    assert stride <= backbone.strides[0]


def test_the_levels_of_resnet50_are_those_of_the_paper() -> None:
    """Strides 4, 4, 8, 16 and 16; 32 channels of each make the boundaries."""
    with torch.device("meta"):
        network = build("irn", name="resnet50-undilated")
    reduced = [(part.conv.in_channels, part.conv.out_channels) for part in network.boundary.reduce]
    assert reduced == [(64, 32), (256, 32), (512, 32), (1024, 32), (2048, 32)]
    backbone = network.backbone
    assert [backbone.early[1], *backbone.strides] == [4, 4, 8, 16, 16]
    assert all(part.norm.num_groups == 4 for part in network.boundary.reduce)


def test_the_backbone_stays_in_evaluation_mode() -> None:
    network = build("irn").train()
    assert not any(module.training for module in network.backbone.modules())
    assert network.boundary.training
    before = {key: value.clone() for key, value in network.backbone.state_dict().items()}
    network(images(2, 40, 50))
    assert all(value.equal(before[key]) for key, value in network.backbone.state_dict().items())


@pytest.mark.parametrize("cells", ["centred", "parts"])
def test_a_coarse_level_lies_where_the_cells_say(cells: str) -> None:
    """A ramp on a grid of stride 16, seen at stride 4."""
    with torch.device("meta"):
        backbone = build_backbone("efficientnet-lite0")
    network = IrnNetwork(backbone, cells=cells)
    ramp = torch.arange(6.0).expand(1, 1, 5, 6)
    found = network._onto(ramp, torch.empty(1, 1, 18, 22), 4)
    assert found.shape == (1, 1, 18, 22)
    cell = torch.arange(22.0)
    place = cell / 4 if cells == "centred" else (cell + 0.5) / 4 - 0.5
    torch.testing.assert_close(found[0, 0, 7], place.clamp(0, 5))


def test_cells_that_there_are_not() -> None:
    with pytest.raises(ConfigurationError, match="no cells 'round': they are centred or parts"):
        build_network("irn", "efficientnet-lite0", CLASSES, {"cells": "round"})


def test_without_displacements_the_boundaries_are_the_same() -> None:
    network = build("irn").eval()
    with torch.inference_mode():
        both = network(images(1, 40, 50))
        network.displaces = False
        alone = network(images(1, 40, 50))
    assert alone.boundary.equal(both.boundary)
    assert alone.displacement.shape == (1, 2, 0, 0)


def test_the_mean_of_displacements_is_taken_away_after_training() -> None:
    torch.manual_seed(0)
    shift = MeanShift().train()
    field = torch.randn(4, 2, 6, 7) + torch.tensor([3.0, -2.0]).view(1, 2, 1, 1)
    cells = torch.ones(4, 1, 6, 7, dtype=torch.bool)
    cells[:, :, 4:] = False
    for _ in range(200):
        shift.update(field, cells)
    assert shift(field) is field
    centred = shift.eval()(field)
    torch.testing.assert_close(centred[:, :, :4].mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    kept = shift.running_mean.clone()
    shift.update(field, torch.zeros_like(cells))
    assert shift.running_mean.equal(kept)


# ---- links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [33, 36, 39])
def test_the_mirror_image_is_turned_back_to_the_pixel(width: int) -> None:
    """Cell x of the mirror image looks at pixel W - 1 - 4 x: also where W - 1 is no multiple."""
    cells = -(-width // 4)
    ramp = torch.arange(width).float()
    plain = ramp[::4].expand(1, 1, 9, cells)
    mirrored = ramp.flip(0)[::4].expand(1, 1, 9, cells)
    views = [View(plain, False, (33, width)), View(mirrored, True, (33, width))]
    found = BoundaryLinks().planes(views, 4)
    inner = slice(1, -1)  # the mirrored cells end before the first and the last pixel
    torch.testing.assert_close(found[..., inner], plain[0].sigmoid()[..., inner])


def test_links_are_path_affinities_and_boundaries_do_not_walk() -> None:
    edge = torch.rand(1, 7, 9, generator=torch.Generator().manual_seed(0))
    ties = BoundaryLinks(3).ties(edge)
    assert ties.affinity.equal(path_affinity(edge[None], 3)[0])
    assert ties.passing is not None
    assert ties.passing.equal(1 - edge[0])
    assert ties.shown(3).equal(1 - edge[0])


def reference(network: IrnNetwork, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The branches written out, with their layers' weights."""

    def part(layer: torch.nn.Module, maps: Tensor) -> Tensor:
        weights = dict(layer.named_parameters())
        reduced = functional.conv2d(maps, weights["conv.weight"])
        groups = layer.norm.num_groups
        n, c, h, w = reduced.shape
        grouped = reduced.reshape(n, groups, -1)
        mean, var = grouped.mean(2, keepdim=True), grouped.var(2, keepdim=True, unbiased=False)
        normal = ((grouped - mean) / (var + 1e-5).sqrt()).view(n, c, h, w)
        return normal * weights["norm.weight"][:, None, None] + weights["norm.bias"][:, None, None]

    def large(maps: Tensor, times: int, like: Tensor) -> Tensor:
        rows, columns = (
            (torch.arange(count) / times).clamp(max=side - 1)
            for count, side in zip(like.shape[2:], maps.shape[2:], strict=True)
        )
        for axis, places in ((2, rows), (3, columns)):
            low = places.floor().long()
            high = (low + 1).clamp(max=maps.shape[axis] - 1)
            share = (places - low).view(-1, 1) if axis == 2 else places - low
            maps = (
                maps.index_select(axis, low) * (1 - share) + maps.index_select(axis, high) * share
            )
        return maps

    edge, dp = network.boundary, network.displacement
    scales = (1, 1, 2, 4, 4)
    seen = [
        large(part(edge.reduce[n], level), scales[n], levels[1]).relu()
        for n, level in enumerate(levels)
    ]
    boundary = edge.join(torch.cat(seen, 1))
    one, two, three, four, five = (part(dp.reduce[n], level) for n, level in enumerate(levels))
    upper = [three.relu(), large(four, 2, three).relu(), large(five, 2, three).relu()]
    raised = large(part(dp.join_upper, torch.cat(upper, 1)), 2, two).relu()
    joined = part(dp.join, torch.cat([one.relu(), two.relu(), raised], 1)).relu()
    return boundary, dp.field(joined)


def test_the_branches_are_those_written_out() -> None:
    torch.manual_seed(0)
    network = build("irn").train()
    levels = [
        torch.randn(2, c, -(-40 // s), -(-52 // s))
        for c, s in zip((16, 24, 40, 112, 1280), (2, 4, 8, 16, 16), strict=True)
    ]
    network.backbone.levels = lambda given: list(levels)  # type: ignore[method-assign]
    with torch.no_grad():
        found = network(torch.empty(0))
        expected = reference(network, [levels[0][:, :, ::2, ::2], *levels[1:]])
    torch.testing.assert_close(found.boundary, expected[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.displacement, expected[1], atol=1e-4, rtol=1e-4)
