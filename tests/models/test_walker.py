"""Where the walk's maps lie on the image."""

from __future__ import annotations

import pytest
import torch

from wsss_cli.files import Checkpoint
from wsss_cli.models.inference import Runner
from wsss_cli.models.networks import build_network
from wsss_cli.models.walker import Walker


@pytest.mark.parametrize("max_side", [0, 80])
def test_a_cell_of_the_grid_lies_at_the_pixel_it_looks_at(max_side: int) -> None:
    """A ramp over the image is a ramp over the grid, eight pixels a cell, and comes back itself."""
    config = {"output_stride": 16}
    network = build_network("affinity", "efficientnet-lite0", ("cat",), config)
    checkpoint = Checkpoint(
        "affinity", "efficientnet-lite0", ("cat",), config, network.state_dict(), ""
    )
    walker = Walker(runner=Runner(checkpoint, device="cpu", max_side=max_side))
    height, width = 120, 160
    # As make-cam stores it: a quarter of the image's size, each value the mean of 4 x 4 pixels.
    ramp = (torch.arange(width // 4) * 4 + 1.5).expand(1, height // 4, width // 4)
    seen = walker.runner.seen_size((height, width))
    cells = (-(-seen[0] // 8), -(-seen[1] // 8))
    grid = walker._on_grid(ramp, cells, (height, width))
    shrink = width / seen[1]
    expected = (torch.arange(cells[1]) * 8 + 0.5) * shrink - 0.5
    torch.testing.assert_close(grid[0, 0, 1:-1], expected[1:-1])
    back = walker._on_image(grid, (height, width))[0, 0]
    torch.testing.assert_close(back[24:-24], torch.arange(24.0, width - 24))
