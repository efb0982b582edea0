"""The EPS classifier and the reading of its maps. On photographs: tests/tools/test_make_cam.py."""

from __future__ import annotations

import torch

from wsss_cli.models.backbones import build_backbone
from wsss_cli.models.eps import EpsNetwork, Probabilities


def test_the_background_has_a_map_and_no_score() -> None:
    network = EpsNetwork(build_backbone("efficientnet-lite0"), 2)
    assert network.classify.weight.shape[0] == 3
    maps = torch.tensor([[[[1.0, 3.0, 99.0]], [[-1.0, 0.0, 99.0]], [[7.0, 7.0, 7.0]]]])
    inside = torch.tensor([[[[True, True, False]]]])
    assert network.scores(maps, inside).tolist() == [[2.0, -0.5]]
    torch.testing.assert_close(network.scores(maps), maps[:, :2].mean((2, 3)))


def test_probabilities_sum_to_one_over_the_background_and_the_classes_asked_for() -> None:
    reading = Probabilities()
    kept = reading.keep(torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(0)), [[1]])
    evidence = reading.evidence(kept[0], [1])
    torch.testing.assert_close(evidence, kept[0].softmax(0)[[3, 1]])
    torch.testing.assert_close(reading.maps(evidence), kept[0][[3, 1]].softmax(0))
    torch.testing.assert_close(reading.scores(kept[0]), kept[0, :3].mean((1, 2)))
    assert reading.first == ("background",)
