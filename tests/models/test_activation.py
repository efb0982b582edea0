"""Which maps are made of a photograph, and where they lie on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss_cli import files
from wsss_cli.errors import WsssError
from wsss_cli.models.activation import READINGS, CamMaker, map_size
from wsss_cli.models.inference import Runner

Looking = Callable[..., Runner]
COLOURS = ("red", "green", "blue")


def maker(runner: Runner, **changed: Any) -> CamMaker:
    settings = {"reading": READINGS["cam"], "classes": COLOURS, "scales": (1.0,), "flip": True, **changed}
    return CamMaker(runner, **settings)


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
    (seen,) = made.compute([made.load({"labels": ["green"]}, path)])
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
    batch = [made.load({"labels": names}, photograph) for names in (["blue", "red"], [], ["green"])]
    both, none, one = made.compute(batch)
    assert (both.names, none.names, one.names) == (("blue", "red"), (), ("green",))
    for seen in (both, none, one):
        assert seen.maps is not None
        assert seen.maps.shape == (len(seen.names), 12, 16)
        assert seen.maps.dtype == np.float32
        assert [plane.max() for plane in seen.maps] == [1] * len(seen.names)
    (alone,) = made.compute([made.load({"labels": ["red"]}, photograph)])
    assert both.maps is not None
    assert alone.maps is not None
    np.testing.assert_allclose(alone.maps[0], both.maps[1], atol=1e-6)


def test_images_without_labels(looking: Looking, tmp_path: Path) -> None:
    pixels = np.zeros((48, 64, 3))
    pixels[..., 0] = 255  # a mean of 1, the probability 0.73; the others have 0.5
    path = save(tmp_path / "a.png", pixels)

    def names(**settings: Any) -> tuple[str, ...]:
        made = maker(looking(), **settings)
        return made.compute([made.load({}, path)])[0].names

    assert names() == ()
    assert names(all_classes=True) == COLOURS
    assert names(score_above=0.7) == ("red",)
    assert names(score_above=0.5) == COLOURS
    assert names(score_above=0.9) == ()
    made = maker(looking(), score_above=0.7)  # labels that are there count all the same
    assert made.compute([made.load({"labels": ["blue"]}, path)])[0].names == ("blue",)


def test_where_nothing_is_wanted_the_network_rests(looking: Looking, photograph: Path) -> None:
    runner = looking()
    made = maker(runner)
    made.compute([made.load({"labels": []}, photograph), made.load({}, photograph)])
    assert runner.network.calls == 0


def test_a_label_that_is_no_class(looking: Looking, photograph: Path) -> None:
    with pytest.raises(
        WsssError, match="label 'gren' is not in the class list; did you mean green"
    ):
        maker(looking()).load({"labels": ["gren"]}, photograph)


def test_files_hold_maps_of_the_photographs_size(looking: Looking, tmp_path: Path) -> None:
    """Also where it was read smaller."""
    path = save(tmp_path / "a.jpg", np.random.default_rng(0).integers(0, 256, (401, 602, 3)))
    for bound in (0, 100):
        made = maker(looking(16, bound))
        (seen,) = made.compute([made.load({"labels": ["red"]}, path)])
        assert max(seen.image.shape) == (bound or 602)
        made.save(seen, tmp_path / "a.npz", {"tool": "test"})
        maps = files.read_maps(tmp_path / "a.npz")
        assert (maps.size, maps.classes, maps.meta) == ((401, 602), ("red",), {"tool": "test"})
        assert maps.cam.shape == (1, 101, 151)


def test_what_changes_the_maps_is_in_their_provenance(looking: Looking) -> None:
    assert maker(looking()).params == {"scales": (1.0,), "flip": True}
    changed = maker(looking(), all_classes=True, score_above=0.5, flip=False).params
    assert changed == {"scales": (1.0,), "flip": False, "all": True, "score_above": 0.5}
