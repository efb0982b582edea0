"""Which maps are made of a photograph, and where they lie on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from wsss_cli import files
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.methods.grids import on_image
from wsss_cli.models.cam import ClassMaps
from wsss_cli.models.eps import Probabilities, Relative
from wsss_cli.models.inference import Runner
from wsss_cli.models.sipe import General, ImageSpecific
from wsss_cli.stage import Job
from wsss_cli.tools.label_maps import map_size
from wsss_cli.tools.make_cam import CamMaker, Photograph

Looking = Callable[..., Runner]
COLOURS = ("red", "green", "blue")


def maker(runner: Runner, *, classes: tuple[str, ...] = COLOURS, **changed: Any) -> CamMaker:
    runner.classes = classes
    settings = {"reading": ClassMaps(), "scales": (1.0,), "flip": True, **changed}
    return CamMaker(runner=runner, **settings)


def maps_of(made: CamMaker, path: Path, *records: dict[str, Any]) -> list[Photograph]:
    """The photograph with the maps that each record asks for."""
    return made.compute([made.load(Job({**record, "image": path}, {}, {})) for record in records])


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3))
    return save(tmp_path / "a.png", pixels)


@pytest.mark.parametrize("size", [(225, 300), (240, 299), (231, 303)])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.5), (2.0,)])
@pytest.mark.parametrize("flip", [False, True])
def test_what_is_bright_in_the_photograph_is_bright_in_its_map(
    looking: Looking, tmp_path: Path, size: tuple[int, int], scales: tuple[float, ...], flip: bool
) -> None:
    """A ramp is found where it is, to a pixel: no scale and no mirror image shifts it."""
    ramp = np.arange(size[0])[:, None] / 2 + np.arange(size[1]) / 4
    path = save(tmp_path / "a.png", np.repeat(ramp[..., None], 3, 2).round())
    made = maker(looking(16), scales=scales, flip=flip)
    (seen,) = maps_of(made, path, {"labels": ["green"]})
    assert seen.maps is not None
    found = seen.maps[0]
    height, width = map_size(size)
    rows = (np.arange(height) + 0.5) * size[0] / height - 0.5
    columns = (np.arange(width) + 0.5) * size[1] / width - 0.5
    expected = rows[:, None] / 2 + columns / 4
    inside = np.s_[10:-10, 10:-10]
    scale = expected[inside].mean() / found[inside].mean()
    assert abs(found[inside] * scale - expected[inside]).max() < 0.6


def test_labels_say_which_maps_in_their_order(looking: Looking, photograph: Path) -> None:
    made = maker(looking(), scales=(1.0, 0.5))
    both, none, one = maps_of(
        made, photograph, *({"labels": names} for names in (["blue", "red"], [], ["green"]))
    )
    assert (both.names, none.names, one.names) == (("blue", "red"), (), ("green",))
    for seen in (both, none, one):
        assert seen.maps is not None
        assert seen.maps.shape == (len(seen.names), 12, 16)
        assert seen.maps.dtype == np.float32
        assert [plane.max() for plane in seen.maps] == [1] * len(seen.names)
    (alone,) = maps_of(made, photograph, {"labels": ["red"]})
    assert both.maps is not None
    assert alone.maps is not None
    np.testing.assert_allclose(alone.maps[0], both.maps[1], atol=1e-6)


def test_images_without_labels(looking: Looking, tmp_path: Path) -> None:
    pixels = np.zeros((48, 64, 3))
    pixels[..., 0] = 255  # a mean of 1, the probability 0.73; the others have 0.5
    path = save(tmp_path / "a.png", pixels)

    def names(**settings: Any) -> tuple[str, ...]:
        made = maker(looking(), **settings)
        return maps_of(made, path, {})[0].names

    assert names() == ()
    assert names(all_classes=True) == COLOURS
    assert names(score_above=0.7) == ("red",)
    assert names(score_above=0.5) == COLOURS
    assert names(score_above=0.9) == ()
    made = maker(looking(), score_above=0.7)  # labels that are there count all the same
    assert maps_of(made, path, {"labels": ["blue"]})[0].names == ("blue",)


# ---- image-specific maps -------------------------------------------------------------------------


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """Bright red left of column 150, less red elsewhere, and green there."""
    pixels = np.zeros((240, 304, 3))
    pixels[:, :150, 0], pixels[:, 150:, 0], pixels[:, 150:, 1] = 250, 20, 100
    return save(tmp_path / "halves.png", pixels)


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.5)])
@pytest.mark.parametrize("flip", [False, True])
def test_image_specific_maps_lie_where_the_regions_are(
    looking: Looking, halves: Path, scales: tuple[float, ...], flip: bool
) -> None:
    made = maker(looking(twice=True), reading=ImageSpecific(), scales=scales, flip=flip)
    (seen,) = maps_of(made, halves, {"labels": ["red"]})
    assert seen.names == ("background", "red")
    assert seen.maps is not None
    assert seen.maps.shape == (2, 60, 76)
    background, red = seen.maps
    edge = 150 / 4
    for row in background - red:
        assert abs(np.count_nonzero(row < 0) - edge) <= 2  # cells of the grid are 8 pixels wide
    # Cosines: of red with itself 1, with what is green 20 / |(20, 100)|.
    np.testing.assert_allclose(red[:, :30], 1, atol=2e-3)
    np.testing.assert_allclose(red[:, -30:], 20 / np.hypot(20, 100), atol=0.04)


def test_image_specific_maps_say_how_alike_not_more(looking: Looking, tmp_path: Path) -> None:
    """A prototype of two colours is neither: its map is below 1 and stays so."""
    pixels = np.zeros((240, 304, 3))
    pixels[:, :150, 0], pixels[120:, :150, 2], pixels[:, 150:, 1] = 250, 200, 100
    made = maker(looking(twice=True), reading=ImageSpecific())
    (seen,) = maps_of(made, save(tmp_path / "a.png", pixels), {"labels": ["red"]})
    assert seen.maps is not None
    prototype = np.array([250, 0, 100])
    for part, colour in ((np.s_[:25, :30], [250, 0, 0]), (np.s_[35:, :30], [250, 0, 200])):
        alike = prototype @ colour / np.linalg.norm(prototype) / np.linalg.norm(colour)
        np.testing.assert_allclose(seen.maps[1][part], alike, atol=0.01)


def test_cells_as_parts_of_the_photograph_are_plain_resizing(
    looking: Looking, halves: Path
) -> None:
    for flip in (False, True):
        made = maker(looking(16), flip=flip, cells="parts")
        (seen,) = maps_of(made, halves, {"labels": ["red"]})
        (centred,) = maps_of(maker(looking(16), flip=flip), halves, {"labels": ["red"]})
        views = looking(16).views([files.read_image(halves)], [1.0], flip)
        grids = [view.output[0, :1].relu() for view in views]
        grids[1:] = [grid.flip(-1) for grid in grids[1:]]
        large = [
            torch.nn.functional.interpolate(grid[None], (60, 76), mode="bilinear")[0]
            for grid in grids
        ]
        expected = sum(large) / max(float(sum(large).max()), 1e-9)
        assert seen.maps is not None
        np.testing.assert_allclose(seen.maps, expected, atol=1e-5)
        assert centred.maps is not None
        assert np.abs(centred.maps - seen.maps).max() > 0.1
        assert made.params["cells"] == "parts"


def test_general_maps_leave_a_background(looking: Looking, halves: Path) -> None:
    made = maker(looking(twice=True), reading=General())
    (seen,) = maps_of(made, halves, {"labels": ["red"]})
    plain = maker(looking(16))
    (expected,) = maps_of(plain, halves, {"labels": ["red"]})
    assert seen.names == ("background", "red")
    assert seen.maps is not None
    assert expected.maps is not None
    np.testing.assert_allclose(seen.maps[1], expected.maps[0], atol=1e-6)
    np.testing.assert_allclose(seen.maps[0], 1 - expected.maps[0], atol=1e-6)


def test_image_specific_maps_of_a_batch_and_of_images_without_labels(
    looking: Looking, halves: Path
) -> None:
    made = maker(looking(twice=True), reading=ImageSpecific(), score_above=0.58)
    records: list[dict[str, Any]] = [{}, {"labels": []}, {"labels": ["green", "red"]}]
    found, none, both = maps_of(made, halves, *records)
    assert found.names == ("background", "red")  # its mean of 0.53 is the probability 0.63
    assert none.names == ()
    assert both.names == ("background", "green", "red")
    for seen in (found, both):
        (alone,) = maps_of(made, halves, {"labels": list(seen.names[1:])})
        np.testing.assert_array_equal(alone.maps, seen.maps)


def test_where_nothing_is_wanted_the_network_rests(looking: Looking, photograph: Path) -> None:
    runner = looking()
    made = maker(runner)
    maps_of(made, photograph, {"labels": []}, {})
    assert runner.network.calls == 0


def test_a_label_that_is_no_class(looking: Looking, photograph: Path) -> None:
    with pytest.raises(
        WsssError, match="label 'gren' is not in the class list; did you mean green"
    ):
        maps_of(maker(looking()), photograph, {"labels": ["gren"]})


def test_files_hold_maps_of_the_photographs_size(looking: Looking, tmp_path: Path) -> None:
    """Also where it was read smaller."""
    path = save(tmp_path / "a.jpg", np.random.default_rng(0).integers(0, 256, (401, 602, 3)))
    for bound in (0, 100):
        made = maker(looking(16, bound))
        (seen,) = maps_of(made, path, {"labels": ["red"]})
        assert max(seen.image.shape) == (bound or 602)
        made.save(Job({}, {"cam": tmp_path / "a.npz"}, {"tool": "test"}), seen)
        maps = files.read_maps(tmp_path / "a.npz")
        assert (maps.size, maps.classes, maps.meta) == ((401, 602), ("red",), {"tool": "test"})
        assert maps.cam.shape == (1, 101, 151)


def test_what_changes_the_maps_is_in_their_provenance(looking: Looking) -> None:
    common = {"scales": (1.0,), "image_key": "image", "max_side": 0}
    assert maker(looking()).params == {**common, "flip": True}
    changed = maker(looking(), all_classes=True, score_above=0.5, flip=False).params
    assert changed == {**common, "flip": False, "all": True, "score_above": 0.5}
    runner = looking()
    runner.resize = "bicubic"
    public = maker(runner, join_mirrored=True, cells="parts").params
    other = {"join_mirrored": True, "cells": "parts", "resize_filter": "bicubic"}
    assert public == {**common, "flip": True, **other}


# ---- in tiles ------------------------------------------------------------------------------------


def large(tmp_path: Path, height: int, width: int) -> Path:
    """Colours that change slowly from cell to cell, brightest far right."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, height // 20, width // 20, generator=generator)
    coarse *= torch.linspace(0.2, 1, width // 20)
    smooth = functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    return save(tmp_path / "large.png", (255 * smooth).permute(1, 2, 0).numpy())


def away_from_seams(runner: Runner, size: tuple[int, int], reach: float) -> np.ndarray:
    """Which cells of the stored maps are further than ``reach`` from the seams, in pixels."""
    inner = np.ones(map_size(size), bool)
    for axis, (side, cells) in enumerate(zip(runner.tiles(size), inner.shape, strict=True)):
        place = (np.arange(cells) + 0.5) * side.length / cells
        for start in side.starts[1:]:
            stop = start - side.starts[1] + side.size  # of the tile before
            near = ((place >= start) & (place < start + reach)) | (abs(stop - place) < reach)
            np.moveaxis(inner, axis, 0)[near & (place < max(stop, start + reach))] = False
    return inner


@pytest.mark.parametrize("reading", [ClassMaps, General, Probabilities, Relative])
@pytest.mark.parametrize("size", [(400, 700), (403, 701), (130, 900)])
@pytest.mark.parametrize(("stride", "scales"), [(1, (1.0,)), (16, (1.0,)), (16, (0.5, 0.75, 1.5))])
def test_maps_of_tiles_are_those_of_the_whole_photograph(
    looking: Looking,
    tmp_path: Path,
    reading: type[ClassMaps],
    size: tuple[int, int],
    stride: int,
    scales: tuple[float, ...],
) -> None:
    """Of a network that looks at single pixels, further from seams than a cell is wide.

    So is the scale of each map: a class is brightest in one tile alone.
    """
    path = large(tmp_path, *size)
    settings = {"reading": reading(), "scales": scales}
    classes = COLOURS[:2] if reading in (Probabilities, Relative) else COLOURS
    record = {"labels": ["green", "red"]}
    tiled = maker(Sipe(looking(stride, tile=384, overlap=96)), classes=classes, **settings)
    (found,) = maps_of(tiled, path, record)
    (expected,) = maps_of(maker(Sipe(looking(stride)), classes=classes, **settings), path, record)
    assert found.image is None
    assert expected.image is not None
    assert found.names == expected.names
    assert found.maps is not None
    assert expected.maps is not None
    assert found.maps.shape == expected.maps.shape
    far = np.abs(found.maps - expected.maps)
    # The maximum, which divides, may lie near a seam. The zoom of a side that is no multiple of
    # four differs by half a pixel at most.
    atol = 2e-4 if stride == 1 else 2e-3 if not (size[0] | size[1]) % 4 else 0.02
    reach = 0 if stride == 1 else 16 / min(scales) + 2
    inner = away_from_seams(tiled.runner, size, reach)
    assert inner.mean() > 0.3
    assert far[:, inner].max() < atol
    assert far.max() < (atol if stride == 1 else 0.15)


def Sipe(runner: Runner) -> Runner:
    """The same network, whose output can also be read as that of SIPE."""

    class Both(torch.Tensor):
        @property
        def maps(self) -> torch.Tensor:
            return self.as_subclass(torch.Tensor)

    plain = runner.network.forward
    runner.network.forward = lambda images: plain(images).as_subclass(Both)
    return runner


def test_a_photograph_within_the_limit_is_seen_whole_with_tiles_too(
    looking: Looking, tmp_path: Path
) -> None:
    path = large(tmp_path, 200, 300)
    record = {"labels": ["red"]}
    for bounds in ({"tile": 256, "overlap": 96, "max_side": 300}, {"tile": 320, "overlap": 96}):
        (found,) = maps_of(maker(looking(**bounds)), path, record)
        (expected,) = maps_of(maker(looking()), path, record)
        np.testing.assert_array_equal(found.image, expected.image)
        np.testing.assert_array_equal(found.maps, expected.maps)


def test_classes_of_a_large_photograph_are_those_of_any_tile(
    looking: Looking, tmp_path: Path
) -> None:
    """Red fills one tile: its mean is high there, and low over the whole."""
    pixels = np.zeros((256, 1200, 3))
    pixels[:, 900:, 0] = 255
    path = save(tmp_path / "a.png", pixels)
    whole = maker(looking(), score_above=0.65)
    tiled = maker(looking(tile=256, overlap=64), score_above=0.65)
    assert maps_of(whole, path, {})[0].names == ()
    assert maps_of(tiled, path, {})[0].names == ("red",)
    assert maps_of(tiled, path, {"labels": ["blue"]})[0].names == ("blue",)
    (none,) = maps_of(maker(looking(tile=256, overlap=64), score_above=0.8), path, {})
    assert none.names == ()
    assert none.maps is not None
    assert none.maps.shape == (0, 64, 300)


def test_a_large_photograph_without_labels_is_read_but_not_seen(
    looking: Looking, tmp_path: Path
) -> None:
    path = large(tmp_path, 200, 300)
    runner = looking(tile=256, overlap=64)
    (none,) = maps_of(maker(runner), path, {"labels": []})
    assert none.maps is not None
    assert (none.maps.shape, runner.network.calls) == ((0, 50, 75), 0)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WsssError, match=r"cannot read image: .*truncated"):
        maps_of(maker(runner), path, {"labels": []})


def test_what_cannot_be_read_in_tiles(looking: Looking) -> None:
    runner = looking(tile=256, overlap=64)
    with pytest.raises(ConfigurationError, match="--tile is not for --map is-cam"):
        maker(runner, reading=ImageSpecific())
    with pytest.raises(ConfigurationError, match="--tile is not for --cells parts"):
        maker(runner, cells="parts")
    assert maker(runner).params["tile"] == 256
    assert maker(runner).params["overlap"] == 64
    assert "tile" not in maker(looking()).params


# ---- a classifier with a background --------------------------------------------------------------


def test_softmax_of_the_labels_and_the_background_over_all_views(
    looking: Looking, photograph: Path
) -> None:
    """Mean over the views, then given that no other class is there; background first."""
    made = maker(looking(), reading=Probabilities(), classes=("red", "green"), scales=(1.0, 0.5))
    (seen,) = maps_of(made, photograph, {"labels": ["green"]})
    assert seen.names == ("background", "green")
    assert seen.maps is not None
    assert seen.maps.shape == (2, 12, 16)
    image = torch.from_numpy(seen.image).permute(2, 0, 1)[None].float() / 255
    total = torch.zeros(3, 12, 16)
    for size in ((48, 64), (33, 33)):  # no smaller
        small = functional.interpolate(
            image, size, mode="bilinear", align_corners=False, antialias=True
        )
        for mirrored in (False, True):
            output = (small.flip(-1) if mirrored else small)[..., ::16, ::16].softmax(1)
            total += on_image(output, (12, 16), size, 16, mirrored=mirrored)[0]
    wanted = total[[2, 1]] / 4
    np.testing.assert_allclose(seen.maps, (wanted / wanted.sum(0)).numpy(), atol=1e-3)
    np.testing.assert_allclose(seen.maps.sum(0), 1, atol=1e-5)


def test_a_classifier_with_a_background_maps_nothing_where_nothing_is_wanted(
    looking: Looking, photograph: Path
) -> None:
    runner = looking()
    made = maker(runner, reading=Probabilities(), classes=("red", "green"))
    (seen,) = maps_of(made, photograph, {"labels": []})
    assert seen.maps is not None
    assert (seen.names, len(seen.maps), runner.network.calls) == ((), 0, 0)
    made = maker(runner, reading=Probabilities(), classes=("red", "green"), score_above=0.99)
    assert maps_of(made, photograph, {})[0].names == ()
    made = maker(runner, reading=Probabilities(), classes=("red", "green"), score_above=0.1)
    assert maps_of(made, photograph, {})[0].names == ("background", "red", "green")
