"""The dense CRF on maps and label maps; as a tool: tests/commands/test_crf.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.tools.conftest import LEFT, META, STILL
from wsss_cli import files
from wsss_cli.errors import WsssError
from wsss_cli.stage import Job
from wsss_cli.tools.crf import CrfRefiner, Source


def refined(record: dict[str, Any], crf: dict[str, Any] = STILL, **changed: Any) -> Any:
    path = Path(record["image"]).with_name("out.png")
    refiner = CrfRefiner(source=Source(**{"max_side": 0, **changed}), crf=crf)
    refiner.work(Job(record, {"pseudo": path}, {"tool": "test"}))
    assert files.read_meta(path) == {"tool": "test"}
    return files.read_label_map(path, files.image_size(record["image"]))


@pytest.mark.parametrize("bound", [0, 40])
def test_maps_become_numbers_at_the_photographs_size(record: dict[str, Any], bound: int) -> None:
    labels = refined(record, max_side=bound)
    assert (labels[:, :28] == 3).all()
    assert (labels[:, 36:] == 0).all()
    assert (refined(record, class_list=["dog"])[:, :28] == 1).all()


@pytest.mark.parametrize("bound", [0, 40])
def test_label_maps_are_refined_and_their_gaps_filled(record: dict[str, Any], bound: int) -> None:
    labels = np.kron(LEFT, np.full((4, 4), 9)).astype(np.uint8)
    record["pred"] = str(Path(record["image"]).with_name("pred.png"))
    files.write_label_map(record["pred"], labels)
    np.testing.assert_array_equal(refined(record, key="pred", max_side=bound), labels)
    labels[20:24, 4:8] = 255
    files.write_label_map(record["pred"], labels)
    found = refined(record, key="pred", crf={"steps": 5})
    assert (found[20:24, 4:8] == 9).all()
    with pytest.raises(WsssError, match="'pred' is not a path but"):
        refined({**record, "pred": ["x"]}, key="pred")


def test_what_is_unknown_does_not_become_background(record: dict[str, Any]) -> None:
    """Not where no pixel is background, and not where no label stands out."""
    record["pred"] = str(Path(record["image"]).with_name("pred.png"))
    labels = np.full((48, 64), 9, np.uint8)
    labels[:, 40:] = 255
    files.write_label_map(record["pred"], labels)
    for steps in (0, 5):
        assert (refined(record, key="pred", crf={"steps": steps}) == 9).all()
    labels[:, :20] = 0
    files.write_label_map(record["pred"], labels)
    np.testing.assert_array_equal(refined(record, key="pred", crf={"steps": 0}), labels)


def test_a_label_map_of_nothing_known_is_refused(record: dict[str, Any]) -> None:
    record["pred"] = str(Path(record["image"]).with_name("pred.png"))
    files.write_label_map(record["pred"], np.full((48, 64), 255, np.uint8))
    with pytest.raises(WsssError, match=r"pred\.png: no pixel of it is known, all are 255"):
        refined(record, key="pred")


@pytest.mark.parametrize("bound", [0, 40])
def test_saliency_is_the_background(record: dict[str, Any], bound: int) -> None:
    """It overrides what the maps say, and any constant."""
    grey = np.zeros((48, 64), np.uint8)
    grey[:24] = 255
    record["saliency"] = str(Path(record["image"]).with_name("saliency.png"))
    Image.fromarray(grey).save(record["saliency"])
    labels = refined(record, saliency=True, threshold=0.9, max_side=bound)
    assert (labels[:20, :28] == 3).all()
    assert not labels[28:].any()
    cat = np.stack([1 - LEFT, LEFT])
    files.write_maps(record["cam"], cat, ("cat", "dog"), (48, 64), META)
    labels = refined(record, saliency=True, max_side=bound)
    assert (labels[:20, :28] == 3).all()
    assert (labels[:20, 36:] == 1).all()
    assert not labels[28:].any()


def test_saliency_needs_maps(record: dict[str, Any]) -> None:
    record["pred"] = record["saliency"] = str(Path(record["image"]).with_name("pred.png"))
    files.write_label_map(record["pred"], np.zeros((48, 64), np.uint8))
    with pytest.raises(WsssError, match="a label map; --by-saliency is for maps"):
        refined(record, key="pred", saliency=True)
    assert Source(saliency=True).needs == ("image", "cam", "saliency")
    assert "saliency" not in Source().params


def test_no_class_is_all_background(record: dict[str, Any]) -> None:
    files.write_maps(record["cam"], LEFT[None][:0], (), (48, 64), {})
    assert not refined(record).any()
