"""The SIPE classifier and the reading of its maps. On photographs: tests/tools/test_make_cam.py."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from tests.models.conftest import EVERY, build, images
from wsss_cli.errors import ConfigurationError
from wsss_cli.methods.sipe import explore
from wsss_cli.models.backbones import build_backbone
from wsss_cli.models.networks import build_network
from wsss_cli.models.sipe import Explored, General, ImageSpecific, SipeNetwork


@pytest.mark.parametrize(("name", "stride"), EVERY)
def test_hierarchical_features_of_every_backbone(name: str, stride: int) -> None:
    with torch.device("meta"):
        network = build("sipe", None, name, stride)
        output = network.train()(torch.empty(2, 3, 50, 71))
    assert output.maps.shape == (2, 3, -(-50 // stride), -(-71 // stride))
    assert output.features.shape[1] == network.backbone.channels[-1]
    assert output.features.shape[2:] == output.maps.shape[2:]
    assert output.hierarchical.shape == (2, 768, 7, 9)
    assert network.stride == stride
    (output.maps.sum() + output.hierarchical.sum()).backward()
    assert [key for key, value in network.named_parameters() if value.grad is None] == []
    new = network.parameter_groups()["new"]
    assert sum(value is layer.weight for value in new for layer in network.side) == 4


def test_hierarchical_features_on_the_grid_of_another_level() -> None:
    fine, coarse = (
        build_network("sipe", "efficientnet-lite0", ("cat",), {"fine_stride": stride}).eval()
        for stride in (None, 16)
    )
    assert (fine.fine_stride, coarse.fine_stride) == (8, 16)
    coarse.load_state_dict(fine.state_dict())
    image = images(1, 80, 64)
    with torch.inference_mode():
        both = [network(image) for network in (fine, coarse)]
    assert both[1].hierarchical.shape == (1, 768, 5, 4)
    # The authors' code resizes whole levels: here means of the four cells around a point.
    four = nn.functional.avg_pool2d(both[0].hierarchical[:, 128:256], 2)
    torch.testing.assert_close(both[1].hierarchical[:, 128:256], four)
    torch.testing.assert_close(
        both[1].hierarchical[:, 256:], both[0].hierarchical[:, 256:, ::2, ::2]
    )
    with pytest.raises(ConfigurationError, match="resnet50 has stride 4; there are 8, 16"):
        build_network("sipe", "resnet50", ("cat",), {"fine_stride": 4})


def test_hierarchical_features_are_levels_of_unit_length_at_stride_8() -> None:
    torch.manual_seed(0)
    network = SipeNetwork(build_backbone("efficientnet-lite0"), 3).eval()
    image = images(1, 65, 50).requires_grad_()
    output = network(image)
    levels = network.backbone(image)
    starts = [0, 128, 256, 512, 768]
    parts = [output.hierarchical[:, a:b] for a, b in pairwise(starts)]
    for part, level, layer, stride in zip(
        parts, levels, network.side, network.backbone.strides, strict=True
    ):
        for y, x in ((0, 0), (4, 2), (8, 6)):  # pixel (8 y, 8 x), where all strides have a cell
            cell = layer(level)[:, :, 8 * y // stride, 8 * x // stride]
            torch.testing.assert_close(part[:, :, y, x], nn.functional.normalize(cell))
    torch.testing.assert_close(output.maps, network.classify(levels[-1]))
    assert torch.equal(output.features, levels[-1])
    # They learn without changing the backbone.
    output.hierarchical.square().mean().backward()
    assert all(value.grad is None for value in network.backbone.parameters())


def test_scores_of_the_cells_inside() -> None:
    network = SipeNetwork(build_backbone("efficientnet-lite0"), 2)
    maps = torch.tensor([[[[1.0, 3.0, 99.0]], [[-1.0, 0.0, 99.0]]]])
    output = Explored(maps, maps, maps)
    inside = torch.tensor([[[[True, True, False]]]])
    assert network.scores(output, inside).tolist() == [[2.0, -0.5]]
    assert network.scores(output, ~inside).tolist() == [[99.0, 99.0]]
    assert network.scores(output, inside & False).tolist() == [[0.0, 0.0]]


@pytest.fixture
def output() -> Explored:
    torch.manual_seed(0)
    return Explored(torch.randn(2, 3, 4, 5), torch.randn(2, 6, 4, 5), torch.randn(2, 7, 8, 10))


def test_general_maps_are_cams_and_the_background_they_leave(output: Explored) -> None:
    reading = General()
    kept = reading.keep(output, [[0], [1, 2]])
    assert torch.equal(kept, output.maps)
    maps = reading.maps(reading.evidence(kept[1], [2, 1]))
    assert maps.shape == (3, 4, 5)
    assert maps[1:].amax((1, 2)).tolist() == [1, 1]
    torch.testing.assert_close(maps[0], 1 - maps[1:].amax(0))
    assert (reading.specific, reading.params) == (False, {"map": "cam"})


def test_image_specific_maps_depend_on_the_classes_asked_for(output: Explored) -> None:
    reading = ImageSpecific(0.5)
    kept = reading.keep(output, [[0], [1, 2]])
    valid = torch.tensor([[1.0, 1, 0, 0], [1, 0, 1, 1]])[:, :, None, None]
    expected = explore(*output, valid, valid, background=0.5, seeds_from="hierarchical")[1]
    torch.testing.assert_close(kept, expected)
    assert not kept[0, 2:].any()
    assert torch.equal(reading.evidence(kept[1], [2, 1]), kept[1][[0, 3, 2]])
    assert reading.maps(torch.tensor([0.5, 1.5])).tolist() == [0.5, 1]
    assert (reading.specific, reading.first) == (True, ("background",))
    assert reading.params == {
        "map": "is-cam",
        "seed_background": 0.5,
        "seed_features": "hierarchical",
        "background_over": "labels",
        "divide": False,
    }


def test_image_specific_maps_as_the_authors_read_them(output: Explored) -> None:
    reading = ImageSpecific(0.5, "hierarchical", "all", divide=True)
    kept = reading.keep(output, [[0], [1, 2]])
    valid = torch.tensor([[1.0, 1, 0, 0], [1, 0, 1, 1]])[:, :, None, None]
    every = torch.ones(2, 4, 1, 1)  # the classes that are not asked for take seeds from the others
    authors = explore(*output, every, valid, over_all=True, seeds_from="hierarchical")[1]
    torch.testing.assert_close(kept, authors)
    for other in (ImageSpecific(0.5, "last", "all"), ImageSpecific(0.5, "hierarchical")):
        assert not torch.allclose(kept, other.keep(output, [[0], [1, 2]]))
    maps = reading.maps(torch.tensor([[[0.2, 0.5]], [[0.0, 0.0]], [[0.3, 0.1]]]))
    torch.testing.assert_close(maps, torch.tensor([[[0.4, 1]], [[0, 0]], [[1, 1 / 3]]]))
