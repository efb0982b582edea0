"""What crf --method pamr does on a device; as a tool: tests/commands/test_crf.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from wsss_cli.classes import VOC
from wsss_cli.files import Maps
from wsss_cli.methods.pamr import pamr
from wsss_cli.tools import pamr as tool
from wsss_cli.tools.crf import Given, Source
from wsss_cli.tools.pamr import PamrRefiner

SETTINGS: dict[str, Any] = {"iterations": 3, "dilations": (1, 2)}
IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def refiner() -> PamrRefiner:
    return PamrRefiner(Source(key="scores", max_side=0), device="cpu", **SETTINGS)


def probabilities(*present: int) -> Any:
    """Of background and VOC's classes at the image's size; but the present ones are hopeless."""
    scores = np.random.default_rng(1).uniform(0.2, 1, (21, 24, 32)).astype(np.float16)
    scores[[number for number in range(21) if number not in present]] *= 0.01
    return scores


def given(scores: Any) -> Given:
    maps = Maps(scores, ("background", *VOC), (24, 32), {})
    return Given(IMAGE, (24, 32), maps=maps, numbers=range(1, 21))


def test_only_the_classes_present_are_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(image: Any, maps: Any, **settings: Any) -> Any:
        assert settings == SETTINGS
        assert torch.equal(image[0], torch.from_numpy(IMAGE).permute(2, 0, 1))
        seen.append(tuple(maps.shape))
        return pamr(image, maps, **settings)

    monkeypatch.setattr(tool, "pamr", watched)
    scores = probabilities(0, 3, 12)
    (labels,) = refiner().compute([given(scores)])
    assert seen == [(1, 3, 24, 32)]
    assert np.unique(labels).tolist() == [0, 3, 12]
    every = pamr(
        torch.from_numpy(IMAGE).permute(2, 0, 1)[None], torch.from_numpy(scores)[None], **SETTINGS
    )
    np.testing.assert_array_equal(labels, every[0].argmax(0).numpy())


def test_a_batch_keeps_its_order_and_its_sizes() -> None:
    small = Given(IMAGE[:20, :16], (40, 32), labels=np.full((20, 16), 4, np.uint8))
    batch = [given(probabilities(0, number)) for number in (1, 2)] + [small]
    found = refiner().compute(batch)
    assert [np.unique(labels).tolist() for labels in found] == [[0, 1], [0, 2], [4]]
    assert [labels.shape for labels in found] == [(24, 32), (24, 32), (40, 32)]
