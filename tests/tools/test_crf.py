"""What crf and make-aff-labels do with one record; as tools: tests/commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss_cli import files
from wsss_cli.errors import WsssError
from wsss_cli.tools.crf import Refiner
from wsss_cli.tools.label_maps import read_matching
from wsss_cli.tools.make_aff_labels import RegionFinder

META = {"classes": ["cat", "cow", "dog"]}
STILL = {"steps": 0}  # a CRF that changes nothing, so that what is around it can be seen
LEFT = np.where(np.arange(16) < 8, 1.0, 0.0) * np.ones((12, 1))


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """A photograph of 48 x 64 whose left half is a dog for sure."""
    Image.new("RGB", (64, 48), (90, 120, 40)).save(tmp_path / "a.png")
    files.write_maps(tmp_path / "a.npz", LEFT[None], ("dog",), (48, 64), META)
    return {"id": "a", "image": str(tmp_path / "a.png"), "cam": str(tmp_path / "a.npz")}


def refiner(**changed: Any) -> Refiner:
    settings: dict[str, Any] = {
        "key": "cam",
        "crf": STILL,
        "alpha": 16.0,
        "threshold": None,
        "certainty": 0.7,
        "max_side": 0,
        "classes": None,
    }
    return Refiner(**settings | changed)


def refined(record: dict[str, Any], **changed: Any) -> Any:
    path = Path(record["image"]).with_name("out.png")
    refiner(**changed)(record, path, {"tool": "test"})
    assert files.read_meta(path) == {"tool": "test"}
    return files.read_label_map(path, files.image_size(record["image"]))


def test_photograph_and_maps_must_match(record: dict[str, Any]) -> None:
    image, maps = read_matching(record, "cam")
    assert image.shape == (48, 64, 3)
    assert maps.classes == ("dog",)
    image, maps = read_matching(record, "cam", 32)
    assert image.shape == (24, 32, 3)
    assert maps.size == (48, 64)
    Image.new("RGB", (48, 64)).save(record["image"])
    with pytest.raises(WsssError, match="maps of an image of 64x48, but this one is 48x64"):
        read_matching(record, "cam")


@pytest.mark.parametrize("bound", [0, 40])
def test_maps_become_numbers_at_the_photographs_size(record: dict[str, Any], bound: int) -> None:
    labels = refined(record, max_side=bound)
    assert (labels[:, :28] == 3).all()
    assert (labels[:, 36:] == 0).all()
    assert (refined(record, classes=["dog"])[:, :28] == 1).all()


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
    with pytest.raises(WsssError, match="not the path of maps or of a label map"):
        refined({**record, "pred": ["x"]}, key="pred")


def test_no_class_is_all_background(record: dict[str, Any]) -> None:
    files.write_maps(record["cam"], LEFT[None][:0], (), (48, 64), {})
    assert not refined(record).any()


@pytest.mark.parametrize("bound", [0, 40])
def test_regions_are_numbered_named_and_measured(record: dict[str, Any], bound: int) -> None:
    half = np.stack([LEFT, 0.2 * (1 - LEFT)])
    files.write_maps(record["cam"], half, ("dog", "cat"), (48, 64), META)
    path = Path(record["image"]).with_name("out.png")
    finder = RegionFinder(low_alpha=4, high_alpha=32, crf=STILL, max_side=bound, classes=None)
    words = finder(record, path, {"tool": "test"})
    labels = files.read_label_map(path, (48, 64))
    assert (labels[:, :28] == 3).all()  # sure: nothing is background there
    assert (labels[:, 40:] == 255).all()  # 0.2 against 0.8^4 = 0.41 and 0.8^32 < 0.001
    assert words == "0% background, 52% dog, 0% cat, 48% neutral"
