"""The CAM classifier and the reading of its maps. On photographs: tests/tools/test_make_cam.py."""

from __future__ import annotations

import torch

from tests.models.conftest import images
from wsss_cli.models.backbones import build_backbone
from wsss_cli.models.cam import CamNetwork, ClassMaps


def test_maps_averaged_are_the_scores_of_averaged_features() -> None:
    torch.manual_seed(0)
    network = CamNetwork(build_backbone("efficientnet-lite0"), 3).eval()
    assert network.classify.bias is None
    image = images(2, 65, 50)
    with torch.inference_mode():
        maps = network(image)
        pooled = network.backbone(image)[-1].mean((2, 3))
        expected = pooled @ network.classify.weight[:, :, 0, 0].T
    assert network.scores(maps).shape == (2, 3)
    torch.testing.assert_close(network.scores(maps), expected, rtol=1e-3, atol=1e-5)


def test_class_maps_are_positive_logits_divided_by_their_maximum() -> None:
    reading = ClassMaps()
    output = torch.tensor([[[[1.0, 4.0]], [[-1.0, -2.0]], [[3.0, -3.0]]]])
    kept = reading.keep(output, [[0, 2]])[0]
    assert reading.scores(kept).tolist() == [2.5, -1.5, 0.0]
    evidence = reading.evidence(kept, [2, 0])
    assert evidence.tolist() == [[[3.0, 0.0]], [[1.0, 4.0]]]
    torch.testing.assert_close(reading.maps(evidence), torch.tensor([[[1.0, 0]], [[0.25, 1]]]))
    assert (reading.first, reading.params) == ((), {})
