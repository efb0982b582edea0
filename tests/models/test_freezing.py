"""Frozen stages, and dropout before the classifier."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models.conftest import CLASSES, build, images
from wsss_cli.errors import ConfigurationError
from wsss_cli.models.backbones import build_backbone
from wsss_cli.models.freezing import freeze_until
from wsss_cli.models.networks import build_network

FROZEN = [  # the stage, and the first layer that still learns
    ("efficientnet-lite0", "stage3", "_blocks.5"),
    ("efficientnet-lite1", "stage5", "_blocks.15"),
    ("efficientnet-lite2", "stage3", "_blocks.7"),
    ("resnet50-undilated", "layer2", "layer3"),
    ("resnet38", "b2", "b3"),
    ("vgg16-largefov", "conv2", "features.10"),
]


@pytest.mark.parametrize(("name", "stage", "first"), FROZEN)
def test_stages_up_to_one_are_frozen_and_all_others_learn(
    name: str, stage: str, first: str
) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name)
    freeze_until(backbone, stage)
    keys = [key for key, _ in backbone.named_parameters()]
    learning = [key for key, value in backbone.named_parameters() if value.requires_grad]
    begin = next(place for place, key in enumerate(keys) if key.startswith(f"{first}."))
    assert 0 < begin < len(keys)
    assert learning == keys[begin:]
    backbone.train()
    below = [
        layer
        for key, layer in backbone.named_modules()
        if isinstance(layer, nn.BatchNorm2d) and f"{key}.weight" in keys[:begin]
    ]
    above = [
        layer
        for layer in backbone.modules()
        if isinstance(layer, nn.BatchNorm2d) and layer not in below
    ]
    assert not any(layer.training for layer in below)
    assert all(layer.training for layer in above)
    assert bool(below) == (not name.startswith("vgg16"))


def test_a_step_changes_nothing_below() -> None:
    torch.manual_seed(0)
    network = build("cam").train()
    freeze_until(network.backbone, "stage2")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=0.1)
    network(images(2, 40, 40)).square().mean().backward()
    optimizer.step()
    changed = {
        key.split(".")[1] + "." + key.split(".")[2]
        for key, value in network.state_dict().items()
        if key.startswith("backbone._blocks") and not torch.equal(value, before[key])
    }
    assert changed == {f"_blocks.{number}" for number in range(3, 16)}
    for key in ("backbone._conv_stem.weight", "backbone._bn0.running_mean"):
        assert torch.equal(network.state_dict()[key], before[key])


def test_an_unknown_stage_lists_what_there_is() -> None:
    with torch.device("meta"):
        backbone = build_backbone("resnet38")
    said = "--freeze-until b2_2: resnet38 has no such stage; it has conv1a, b2, b3, b4, b5, b6, b7"
    with pytest.raises(ConfigurationError, match=said):
        freeze_until(backbone, "b2_2")


@pytest.mark.parametrize("kind", ["cam", "eps", "sipe"])
def test_dropout_drops_whole_channels_before_the_classifier(kind: str) -> None:
    torch.manual_seed(0)
    network = build_network(kind, "efficientnet-lite0", CLASSES, {"dropout": 0.5})
    levels = [
        torch.ones(1, count, 48 // stride, 48 // stride)
        for count, stride in zip(network.backbone.channels, network.backbone.strides, strict=True)
    ]
    network.backbone.forward = lambda images: levels
    network.classify.weight.data.fill_(1)

    def maps() -> torch.Tensor:
        output = network(torch.empty(0))
        return output if kind != "sipe" else output.maps

    network.train()
    dropped = maps()
    assert (dropped == dropped[:, :1, :1, :1]).all()  # the same channels in every cell
    kept = dropped[0, 0, 0, 0].item() / 2  # those kept count twice
    assert 560 < kept < 720  # of 1280
    assert kept == round(kept)
    network.eval()
    assert (maps() == 1280).all()
