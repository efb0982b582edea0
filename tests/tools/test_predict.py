"""Label maps of a segmentation network; as a tool: tests/commands/test_predict.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss_cli import files
from wsss_cli.models.inference import Runner
from wsss_cli.stage import Job
from wsss_cli.tools.predict import Photograph, Segmenter

Looking = Callable[..., Runner]
COLOURS = ("green", "blue")  # red is background


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """Green left of column 150, blue right of it."""
    pixels = np.zeros((240, 304, 3), np.uint8)
    pixels[:, :150, 1], pixels[:, 150:, 2] = 255, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def segmenter(runner: Runner, **settings: Any) -> Segmenter:
    runner.classes = COLOURS
    return Segmenter(runner=runner, **settings)


def predicted(tool: Segmenter, path: Path) -> Photograph:
    (result,) = tool.compute([tool.load(Job({"image": path}, {}, {}))])
    return result


@pytest.mark.parametrize(("scales", "flip"), [((1.0,), False), ((0.5, 1.0, 1.5), True)])
def test_probabilities_lie_where_the_colours_are(
    looking: Looking, halves: Path, scales: tuple[float, ...], flip: bool
) -> None:
    """Softmax of the colours: e / (e + 2) for the one there, 1 / (e + 2) for the others."""
    found = predicted(segmenter(looking(), scales=scales, flip=flip), halves).probabilities
    assert found is not None
    assert found.shape == (3, 240, 304)
    left, right = found[:, :, :100].mean((1, 2)), found[:, :, 200:].mean((1, 2))
    high, low = np.e / (np.e + 2), 1 / (np.e + 2)
    np.testing.assert_allclose(left, [low, high, low], atol=1e-3)
    np.testing.assert_allclose(right, [low, low, high], atol=1e-3)
    edge = (found[1] > found[2]).sum(1)
    assert (abs(edge - 150) <= 16).all()  # a cell


@pytest.mark.parametrize("max_side", [0, 152])
def test_files_have_the_photographs_size(
    looking: Looking, halves: Path, tmp_path: Path, max_side: int
) -> None:
    tool = segmenter(looking(16, max_side), store_scores=True)
    assert tool.outputs == {"pred": ".png", "scores": ".npz"}
    result = predicted(tool, halves)
    assert max(result.image.shape) == (max_side or 304)
    paths = {"pred": tmp_path / "p.png", "scores": tmp_path / "p.npz"}
    tool.save(Job({}, paths, {"tool": "test"}), result)
    labels = files.read_label_map(paths["pred"], (240, 304))
    assert (labels[:, :100] == 1).all()
    assert (labels[:, 200:] == 2).all()
    maps = files.read_maps(paths["scores"])
    assert (maps.classes, maps.size) == (("background", *COLOURS), (240, 304))
    assert maps.cam.shape == (3, 60, 76)
    np.testing.assert_allclose(maps.cam.sum(0), 1, atol=2e-3)


def test_what_changes_the_result_is_in_its_provenance(looking: Looking) -> None:
    tool = segmenter(looking(16, 99), scales=(0.5,), flip=True, drop_below=0.2, image_key="erased")
    assert tool.params == {
        "scales": (0.5,),
        "flip": True,
        "max_side": 99,
        "crf": None,
        "drop_below": 0.2,
        "image_key": "erased",
    }
    assert (tool.needs, tool.inputs) == (("erased",), ("erased",))
    assert segmenter(looking()).inputs == ("image",)
