"""The EPS classifier and the reading of its maps. On photographs: tests/tools/test_make_cam.py."""

from __future__ import annotations

import torch

from wsss_cli.models.backbones import build_backbone
from wsss_cli.models.eps import EpsNetwork, Probabilities, Relative


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


def test_the_reading_of_the_authors() -> None:
    """Softmax over all maps, the classes of the image added over the views, each to maximum 1."""
    reading = Relative()
    views = torch.randn(3, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    views[:, 2] -= 200  # a class whose map is 0 in float32 stays 0
    evidence = [reading.evidence(reading.keep(view[None], [[0, 2]])[0], [0, 2]) for view in views]
    maps = reading.maps(torch.stack(evidence).mean(0))
    total = torch.zeros(2, 3)
    for view in views:
        for y in range(2):
            for x in range(3):
                powers = view[:, y, x].exp()
                total[y, x] += powers[0] / powers.sum()
    torch.testing.assert_close(maps[0], total / total.max())
    assert not maps[1].any()
    assert reading.first == ()
    assert reading.params == {"map": "relative"}
