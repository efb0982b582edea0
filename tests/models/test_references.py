"""Networks against the public code of the papers: numbers that it gave, see make_references.py."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from tests.models import formula
from tests.models.make_references import FILE, LAST
from wsss_cli.methods.affinity import pairwise_affinity
from wsss_cli.models.backbones import BACKBONES
from wsss_cli.models.networks import build_network

REFERENCES = json.loads(FILE.read_text())
IMAGE = formula.image(*REFERENCES["size"])


def filled(kind: str, backbone: str, last: float = 1) -> nn.Module:
    """A network for twenty classes with the weights of the formula."""
    config = {"group_norm": BACKBONES[backbone].group_norm}
    with torch.device("meta"):
        network = build_network(kind, backbone, [f"class{n}" for n in range(20)], config)
    state = formula.weights(network.state_dict(), last)
    counters = {
        key: torch.tensor(0) for key in network.state_dict() if key.endswith("num_batches_tracked")
    }
    network.load_state_dict(state | counters, assign=True)
    built: nn.Module = network.eval()
    return built


def assert_is(maps: Tensor, name: str) -> None:
    expected = REFERENCES[name]
    assert list(maps.shape) == expected["shape"]
    # Sums in another order; the scale of the map is that of its deviation.
    found, values = formula.picked(maps), expected["values"]
    assert found == pytest.approx(values, rel=1e-4, abs=1e-4 * values[-1])


@pytest.mark.parametrize(
    ("backbone", "names"),
    [
        ("resnet38", {1: "resnet38 conv4", 2: "resnet38 conv5", 3: "resnet38 conv6"}),
        ("vgg16-psa", {1: "vgg16 conv4", 2: "vgg16 conv5", 3: "vgg16 conv5fc"}),
        ("vgg16-largefov", {1: "vgg16 conv4", 2: "vgg16 conv5", 3: "largefov fc7"}),
        ("resnet50-undilated", {3: "resnet50 layer4"}),
    ],
)
def test_levels_are_those_of_the_public_code(backbone: str, names: dict[int, str]) -> None:
    network = filled("cam", backbone)
    with torch.inference_mode():
        levels = network.backbone(IMAGE)
        for level, name in names.items():
            assert_is(levels[level], name)
        if backbone == "resnet38":
            assert_is(network.classify(levels[-1]).relu(), "resnet38 cam")


def test_sipe_has_the_backbone_of_irn() -> None:
    assert REFERENCES["sipe layer4"]["values"] == REFERENCES["resnet50 layer4"]["values"]


@pytest.mark.parametrize("backbone", ["resnet50", "vgg16"])
def test_the_networks_beside_them_are_others(backbone: str) -> None:
    """So that the references tell them apart."""
    name = {"resnet50": "resnet50 layer4", "vgg16": "largefov fc7"}[backbone]
    with torch.inference_mode():
        found = formula.picked(filled("cam", backbone).backbone(IMAGE)[-1])
    assert found != pytest.approx(REFERENCES[name]["values"], rel=0.05)


@pytest.mark.parametrize(
    ("backbone", "name"), [("resnet38", "resnet38"), ("vgg16-psa-aff", "vgg16")]
)
def test_affinities_are_those_of_the_public_code(backbone: str, name: str) -> None:
    """On psa's pairs, which begin four cells from the left, right and lower border."""
    network = filled("affinity", backbone, LAST[name])
    with torch.inference_mode():
        affinity = pairwise_affinity(network(IMAGE))[:, :, :-4, 4:-4]
    assert_is(affinity.flatten(2), f"{name} aff")
