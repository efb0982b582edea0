"""The classification branch of a prohibitive network."""

from __future__ import annotations

import torch

from tests.models.conftest import CLASSES, images
from wsss_cli.models.networks import build_network


def test_the_branch_of_a_prohibitive_network() -> None:
    torch.manual_seed(0)
    config = {"output_stride": 16, "head": "aspp", "psl": True}
    network = build_network("segmentation", "efficientnet-lite0", CLASSES, config).eval()
    plain = build_network("segmentation", "efficientnet-lite0", CLASSES, {**config, "psl": False})
    branch = {"classify.weight", "classify.bias"}
    assert set(network.state_dict()) - set(plain.state_dict()) == branch
    weights = {key: value for key, value in network.state_dict().items() if key not in branch}
    plain.eval().load_state_dict(weights)
    image = images(2, 50, 71)
    with torch.inference_mode():
        logits, scores = network(image)
        assert torch.equal(logits, plain(image))
        assert scores.shape == (2, 3)
        pooled = network.backbone(image)[-1].mean((2, 3))
        torch.testing.assert_close(scores, pooled @ network.classify.weight.T)  # no bias yet
    new = network.parameter_groups()["new"]
    assert any(value is network.classify.weight for value in new)


def test_the_branch_teaches_the_backbone_with_the_mean_over_the_classes() -> None:
    config = {"output_stride": 16, "head": "aspp", "psl": True}
    network = build_network("segmentation", "efficientnet-lite0", CLASSES, config).eval()
    image = images(2, 50, 71)
    last = next(reversed(list(network.backbone.parameters())))
    own = network.classify.weight
    result = torch.autograd.grad(network(image).scores.sum(), [last, own])
    whole = network.classify(network.backbone(image)[-1].mean((2, 3)))
    expected = torch.autograd.grad(whole.sum(), [last, own])
    torch.testing.assert_close(result[0], expected[0] / len(CLASSES))
    torch.testing.assert_close(result[1], expected[1])
