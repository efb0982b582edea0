"""The losses of IRNet on label maps."""

from __future__ import annotations

import pytest
import torch

from tests.models.conftest import build
from wsss_cli.methods.affinity import affinity_loss, affinity_targets
from wsss_cli.methods.irn import displacement_losses, path_affinity
from wsss_cli.models.irn import Relations
from wsss_cli.training.batch import Batch
from wsss_cli.training.irn import relation_losses


def batch(labels: torch.Tensor) -> Batch:
    height, width = labels.shape[1:]
    valid = torch.tensor([[0, 0, height, width - 8]] * len(labels))
    return Batch(
        torch.zeros(len(labels), 3, height, width), torch.ones(len(labels)), valid, None, labels
    )


def test_the_losses_are_those_of_the_cells_of_a_crop() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 255])[torch.randint(0, 3, (2, 32, 40))]
    output = Relations(torch.randn(2, 1, 8, 10), torch.randn(2, 2, 8, 10))
    network = build("irn")
    found = relation_losses(network, 4)(lambda images: output, batch(labels))
    bg, fg, neg = affinity_targets(labels[:, ::4, ::4], 4)
    affinity = path_affinity(output.boundary.sigmoid(), 4)
    torch.testing.assert_close(found["affinity"], affinity_loss(affinity, bg, fg, neg))
    towards, still = displacement_losses(output.displacement, bg, fg, 4)
    torch.testing.assert_close(found["displacement"], (towards + still) / 2)
    # The running mean follows the cells that look at no padding.
    mean = output.displacement[..., :8].mean((0, 2, 3))
    torch.testing.assert_close(network.displacement.mean_shift.running_mean, mean / 10)


@pytest.mark.parametrize("right", [True, False])
def test_a_boundary_between_the_regions_is_cheap(right: bool) -> None:
    labels = torch.zeros(1, 32, 40, dtype=torch.long)
    labels[:, :, 20:] = 1
    boundary = torch.full((1, 1, 8, 10), -9.0)
    boundary[..., 5 if right else 2] = 9
    output = Relations(boundary, torch.zeros(1, 2, 8, 10))
    loss = relation_losses(build("irn"), 4)(lambda images: output, batch(labels))["affinity"]
    assert (loss < 1.5) == right
