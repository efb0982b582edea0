"""The loss of AffinityNet on label maps."""

from __future__ import annotations

import pytest
import torch

from wsss_cli.training.affinity import loss_advice, region_loss, to_grid
from wsss_cli.training.batch import Batch


def test_labels_on_the_grid_are_those_at_the_corners_of_its_cells() -> None:
    labels = torch.arange(64 * 48).view(1, 64, 48) % 200
    assert torch.equal(to_grid(labels, (8, 6)), labels[:, ::8, ::8])


def test_region_loss_learns_to_tell_regions_apart() -> None:
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[:, :, 16:] = 1
    alike = torch.zeros(1, 4, 8, 8)
    apart = alike.clone()
    apart[..., 4:] = 9

    def loss(features: torch.Tensor) -> float:
        batch = Batch(
            torch.zeros(1, 3, 32, 32), torch.ones(1), torch.zeros(1, 4), label_maps=labels
        )
        return region_loss(3)(lambda images: features, batch).item()

    assert loss(apart) < 0.01 < 1 < loss(alike)


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        ([0.6] * 30, True),
        ([0.6, 0.59] * 5, True),
        ([0.60 - 0.001 * step for step in range(20)], True),
        ([0.6 - 0.005 * step for step in range(40)], False),
        ([0.6] * 9, False),  # too few to tell
    ],
)
def test_a_loss_that_has_not_fallen_is_told(losses: list[float], told: bool) -> None:
    line = loss_advice(losses)
    assert (line is not None) == told
    if line:
        assert line.startswith("the loss has not fallen (0.")
