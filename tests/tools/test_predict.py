"""Label maps of a segmentation network; as a tool: tests/commands/test_predict.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tools.conftest import STILL
from wsss_cli import files
from wsss_cli.models.inference import Runner
from wsss_cli.models.psl import Judged
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


# ---- in tiles ------------------------------------------------------------------------------------


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """Diagonal stripes of the three colours, 400 x 700, one of them wide."""
    place = np.arange(400)[:, None] + np.arange(700)
    pixels = np.zeros((400, 700, 3), np.uint8)
    for number, which in enumerate(
        (place % 300 < 90, place % 300 >= 180, (place % 300) // 90 == 1)
    ):
        pixels[..., number] = 255 * which
    Image.fromarray(pixels).save(tmp_path / "stripes.png")
    return tmp_path / "stripes.png"


def files_of(tool: Segmenter, path: Path, folder: Path) -> tuple[np.ndarray, files.Maps | None]:
    folder.mkdir()
    paths = {key: folder / f"a{suffix}" for key, suffix in tool.outputs.items()}
    tool.save(Job({}, paths, {"tool": "test"}), predicted(tool, path))
    maps = files.read_maps(paths["scores"]) if "scores" in paths else None
    return files.read_label_map(paths["pred"]), maps


@pytest.mark.parametrize("crf", [None, STILL])
@pytest.mark.parametrize("stored", [False, True])
def test_tiles_give_what_the_whole_photograph_gives(
    looking: Looking, stripes: Path, tmp_path: Path, crf: Any, stored: bool
) -> None:
    """Of a network that looks at single pixels: everywhere."""
    settings = {"flip": True, "crf": crf, "store_scores": stored}
    tool = segmenter(looking(1, tile=256, overlap=64), **settings)
    labels, maps = files_of(tool, stripes, tmp_path / "tiles")
    expected, whole = files_of(segmenter(looking(1), **settings), stripes, tmp_path / "whole")
    np.testing.assert_array_equal(labels, expected)
    assert set(np.unique(labels)) == {0, 1, 2}
    assert (maps is None) == (not stored)
    if maps is not None and whole is not None:
        assert maps.classes == whole.classes
        np.testing.assert_allclose(maps.cam, whole.cam, atol=2e-3)


def test_with_a_crf_the_stored_probabilities_are_those_before_it(
    looking: Looking, stripes: Path, tmp_path: Path
) -> None:
    strong = {"steps": 5, "gaussian_compat": 50.0, "gaussian_sxy": 20.0}
    bounds = {"tile": 256, "overlap": 64}
    found = {
        crf is not None: files_of(
            segmenter(looking(16, **bounds), crf=crf, store_scores=True),
            stripes,
            tmp_path / f"{crf is None}",
        )
        for crf in (None, strong)
    }
    assert (found[True][0] != found[False][0]).mean() > 0.002
    np.testing.assert_array_equal(found[True][1].cam, found[False][1].cam)


def test_a_photograph_within_the_limit_is_the_same_to_the_last_bit(
    looking: Looking, halves: Path
) -> None:
    found = predicted(segmenter(looking(16, tile=304, overlap=64)), halves)
    expected = predicted(segmenter(looking(16)), halves)
    assert found.labels is None
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)


class Judging(torch.nn.Module):
    """Colours as logits; a class is in an image that shows more than half of its colour."""

    stride = 1

    def forward(self, images: torch.Tensor) -> Judged:
        return Judged(images, 20 * (images[:, 1:].mean((2, 3)) - 0.5))


def test_a_class_is_dropped_where_no_tile_shows_it(looking: Looking, tmp_path: Path) -> None:
    pixels = np.zeros((256, 900, 3), np.uint8)
    pixels[:, :300, 1], pixels[:, 300:, 0] = 255, 255
    pixels[:, 400:420] = 0, 0, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    labels = {}
    for tile in (0, 256):
        runner = looking(1, tile=tile, overlap=64 if tile else 0)
        runner.network = Judging()
        tool = segmenter(runner, drop_below=0.5)
        labels[tile], _ = files_of(tool, tmp_path / "a.png", tmp_path / f"{tile}")
    assert set(np.unique(labels[0])) == {0}  # of the whole, green is a third
    assert set(np.unique(labels[256])) == {0, 1}
    assert (labels[256][:, :300] == 1).all()  # also in the tile that shows little of it
    assert (labels[256][:, 300:] == 0).all()


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
