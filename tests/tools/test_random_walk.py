"""Where the walk's maps lie on the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from wsss_cli.files import Checkpoint, Maps
from wsss_cli.models.inference import Runner
from wsss_cli.models.networks import build_network
from wsss_cli.tools.random_walk import Walk, Walker


def make(max_side: int = 0, **settings: Any) -> Walker:
    config = {"output_stride": 16}
    network = build_network("affinity", "efficientnet-lite0", ("cat",), config)
    checkpoint = Checkpoint(
        "affinity", "efficientnet-lite0", ("cat",), config, network.state_dict(), ""
    )
    return Walker(runner=Runner(checkpoint, device="cpu", max_side=max_side), **settings)


@pytest.mark.parametrize("max_side", [0, 80])
def test_a_cell_of_the_grid_lies_at_the_pixel_it_looks_at(max_side: int) -> None:
    """A ramp over the image is a ramp over the grid, eight pixels a cell, and comes back itself."""
    walker = make(max_side)
    height, width = 120, 160
    # As make-cam stores it: a quarter of the image's size, each value the mean of 4 x 4 pixels.
    ramp = (torch.arange(width // 4) * 4 + 1.5).expand(1, height // 4, width // 4)
    seen = walker.runner.seen_size((height, width))
    cells = (-(-seen[0] // 8), -(-seen[1] // 8))
    grid = walker.on_grid(ramp, cells, (height, width))
    shrink = width / seen[1]
    expected = (torch.arange(cells[1]) * 8 + 0.5) * shrink - 0.5
    torch.testing.assert_close(grid[0, 0, 1:-1], expected[1:-1])
    back = walker.on_image(grid, (height, width))[0, 0]
    torch.testing.assert_close(back[24:-24], torch.arange(24.0, width - 24))


def walked(walker: Walker, cam: Any, size: tuple[int, int], own: Any = None) -> Any:
    """Scores of the grey image of ``size`` with the given CAM."""
    maps = Maps(np.asarray(cam, np.float16), ("cat",) * len(cam), size, {"classes": ["cat"]})
    background = None if own is None else np.asarray(own, np.float16)
    image = np.full((*size, 3), 128, np.uint8)
    numbers = list(range(1, len(cam) + 1))
    (done,) = walker.compute([Walk(image, maps, background, numbers)])
    return done.scores


@pytest.mark.parametrize("size", [(20, 25), (40, 20), (64, 80)])
def test_an_image_smaller_than_a_network_sees_is_walked_all_the_same(size: tuple[int, int]) -> None:
    """It is seen at 33 pixels; constant maps stay as they are."""
    scores = walked(make(alpha=2), np.full((1, 5, 6), 0.25), size)
    assert scores.shape == (2, *size)
    np.testing.assert_allclose(scores[0], 0.75**2, atol=1e-3)
    np.testing.assert_allclose(scores[1], 0.25, atol=1e-3)


def test_background_walks_along_unless_it_is_a_threshold() -> None:
    cam, own = np.full((2, 12, 16), 0.25), np.full((12, 16), 0.4)
    cam[1] = 0.1
    size = (48, 64)
    np.testing.assert_allclose(walked(make(), cam, size, own)[0], 0.4, atol=1e-3)
    scores = walked(make(threshold=0.3), cam, size, own)
    np.testing.assert_allclose(scores[0], 0.3, atol=1e-6)
    np.testing.assert_allclose(scores[1:], 1, atol=1e-3)  # each divided by its maximum


def test_without_a_class_there_is_background_only() -> None:
    scores = walked(make(), np.zeros((0, 12, 16)), (48, 64))
    assert scores.shape == (1, 48, 64)


def test_what_changes_the_result_is_in_the_provenance() -> None:
    assert make(80, alpha=4, crf={"steps": 2}).params == {
        "beta": 8,
        "steps": 256,
        "radius": 5,
        "alpha": 4,
        "exact": False,
        "max_side": 80,
        "crf": {"steps": 2},
        "classes": None,
    }
    params = make(threshold=0.2, exact=True).params
    assert (params["threshold"], params["exact"], "alpha" in params) == (0.2, True, False)
