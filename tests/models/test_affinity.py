"""AffinityNet: the levels it joins, and where it begins."""

from __future__ import annotations

import pytest
import torch

from tests.models.conftest import CLASSES, build, images
from wsss_cli.methods.affinity import pairwise_affinity
from wsss_cli.models.affinity import AffinityNetwork
from wsss_cli.models.backbones import build_backbone
from wsss_cli.models.networks import build_network


def test_affinity_features_come_from_three_levels() -> None:
    """64, 128 and 256 channels, as on the ResNet-38 of the paper: 512, 1024 and 4096 in."""
    with torch.device("meta"):
        network = AffinityNetwork(build_backbone("resnet38"))
    assert [tuple(layer.weight.shape) for layer in network.reduce] == [
        (64, 512, 1, 1),
        (128, 1024, 1, 1),
        (256, 4096, 1, 1),
    ]
    assert tuple(network.join.weight.shape) == (448, 448, 1, 1)


@pytest.mark.parametrize("group_norm", [False, True])
def test_affinities_begin_undecided(group_norm: bool) -> None:
    """Neither all alike nor all apart, where nothing would be learned."""
    torch.manual_seed(0)
    network = build_network("affinity", "efficientnet-lite0", CLASSES, {"group_norm": group_norm})
    levels = [torch.randn(1, c, 12, 12).relu() for c in network.backbone.channels]
    network.backbone.forward = lambda images: levels
    affinity = pairwise_affinity(network(torch.empty(0)))
    assert 0.5 < affinity[affinity > 0].mean() < 0.9


def test_affinity_on_vgg16_joins_conv4_conv5_and_fc7() -> None:
    """The upper three levels, before their pooling, as in the public code of the paper."""
    backbone = build_backbone("vgg16").eval()
    with torch.device("meta"):
        network = AffinityNetwork(build_backbone("vgg16"))
    assert [layer.in_channels for layer in network.reduce] == [512, 512, 1024]
    image = images(1, 33, 41)
    with torch.inference_mode():
        maps = backbone(image)
        conv4 = backbone.features[:23](image)  # to the third ReLU of the fourth group
        conv5 = backbone.features[:30](image)
    assert torch.equal(maps[1], conv4)
    assert torch.equal(maps[2], conv5)


def test_affinity_starts_from_the_backbone_of_a_cam_network() -> None:
    cam, affinity = build("cam"), build("affinity")
    affinity.backbone.load_state_dict(cam.backbone.state_dict())
    with torch.inference_mode():
        given = images(1, 40, 40)
        expected = cam.eval().backbone(given)
        torch.testing.assert_close(affinity.eval().backbone(given), expected)
