"""The loss of SIPE: what takes part in it, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from wsss_cli.methods.cam import normalise
from wsss_cli.methods.grids import on_finer
from wsss_cli.methods.sipe import explore, gsc_loss
from wsss_cli.models.networks import build_network
from wsss_cli.models.sipe import Explored, SipeNetwork
from wsss_cli.training.batch import Batch
from wsss_cli.training.cam import class_scores
from wsss_cli.training.losses import multilabel_loss
from wsss_cli.training.sipe import sipe_loss

Losses = dict[str, Tensor]


@pytest.fixture(scope="module")
def network() -> SipeNetwork:
    made: SipeNetwork = build_network("sipe", "efficientnet-lite0", ("cat", "dog", "cow"), {})
    return made


def given(side: int = 96) -> tuple[Explored, Batch]:
    """What a network makes of two square photographs, of a dog and of a cat and a cow."""
    torch.manual_seed(0)
    coarse, fine = side // 16, side // 8
    output = Explored(
        torch.randn(2, 3, coarse, coarse),
        torch.randn(2, 5, coarse, coarse),
        torch.randn(2, 7, fine, fine),
    )
    labels = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    valid = torch.tensor([[0, 0, side, side]] * 2)
    return output, Batch(torch.zeros(2, 3, side, side), torch.ones(2), valid, labels)


def losses(network: SipeNetwork, output: Explored, batch: Batch, gsc: float = 1.0) -> Losses:
    forward: Callable[[Tensor], Any] = lambda images: output  # noqa: E731
    parts = sipe_loss(network, gsc)(forward, batch)
    assert isinstance(parts, dict)
    return parts


def test_both_losses_by_their_parts(network: SipeNetwork) -> None:
    output, batch = given()
    assert batch.labels is not None
    valid = torch.cat([torch.ones(2, 1), batch.labels], 1)[:, :, None, None]
    cam, specific = explore(*output, valid, valid)
    cam = on_finer(cam, (12, 12), 2)
    parts = losses(network, output, batch, gsc=0.5)
    assert set(parts) == {"classes", "gsc"}
    torch.testing.assert_close(parts["gsc"], 0.5 * gsc_loss(cam, normalise(specific), valid))
    expected = multilabel_loss(output.maps.mean((2, 3)), batch.labels, torch.ones(2))
    torch.testing.assert_close(parts["classes"], expected)
    assert losses(network, output, batch, gsc=0.0)["gsc"] == 0


def test_padding_takes_part_in_nothing(network: SipeNetwork) -> None:
    """A photograph in a larger crop has the losses of the photograph alone."""
    output, batch = given()
    inner = Explored(
        output.maps[:, :, 2:5, 1:6],
        output.features[:, :, 2:5, 1:6],
        output.hierarchical[:, :, 4:10, 2:12],
    )
    alone = replace(
        batch, images=batch.images[:, :, :48, :80], valid=torch.tensor([[0, 0, 48, 80]] * 2)
    )
    crop = replace(batch, valid=torch.tensor([[32, 16, 80, 96]] * 2))
    expected, parts = losses(network, inner, alone), losses(network, output, crop)
    for name in ("classes", "gsc"):
        torch.testing.assert_close(parts[name], expected[name])
    assert parts["gsc"] != losses(network, output, batch)["gsc"]
    torch.testing.assert_close(class_scores(network, output, crop), inner.maps.mean((2, 3)))


def test_a_photograph_of_none_of_the_classes_teaches_the_classes_only(network: SipeNetwork) -> None:
    output, batch = given()
    assert batch.labels is not None
    alone = losses(
        network,
        Explored(*(part[:1] for part in output)),
        Batch(batch.images[:1], batch.weights[:1], batch.valid[:1], batch.labels[:1]),
    )
    empty = replace(batch, labels=batch.labels * torch.tensor([[1.0], [0.0]]))
    both = losses(network, output, empty)
    torch.testing.assert_close(both["gsc"], alone["gsc"])
    assert both["classes"] != alone["classes"]
    none = losses(network, output, replace(batch, labels=torch.zeros(2, 3)))
    assert none["gsc"] == 0
    assert none["classes"] > 0


def test_a_class_without_a_seed_does_not_count(network: SipeNetwork) -> None:
    """Else its CAM would learn to vanish, as its image-specific CAM is 0."""
    output, batch = given()
    features = torch.ones(2, 5, 6, 6)  # every cell is like every other: one class has all seeds
    cow = torch.full((6, 6), -1.0).index_put((torch.tensor(2), torch.tensor(3)), torch.tensor(1.0))
    maps = torch.stack([torch.ones(2, 6, 6), torch.full((2, 6, 6), -1.0), cow.expand(2, 6, 6)], 1)
    seen = Explored(maps, features, output.hierarchical)
    cat = replace(batch, labels=torch.tensor([[1.0, 0.0, 0.0]] * 2))
    cat_and_cow = replace(batch, labels=torch.tensor([[1.0, 0.0, 1.0]] * 2))
    # The cat is everywhere, so there is no background to be seen, and one cell of cow is no seed.
    specific = explore(*seen, torch.ones(2, 4, 1, 1), torch.ones(2, 4, 1, 1))[1]
    assert (specific.amax((2, 3)) > 0).tolist() == [[False, True, False, False]] * 2
    torch.testing.assert_close(
        losses(network, seen, cat_and_cow)["gsc"], losses(network, seen, cat)["gsc"]
    )
    # No class has a seed: there is nothing to agree with.
    nothing = Explored(torch.stack([cow] * 3).expand(2, 3, 6, 6), features, output.hierarchical)
    assert losses(network, nothing, cat)["gsc"] == 0


def test_a_photograph_that_could_not_be_read_does_not_count(network: SipeNetwork) -> None:
    output, batch = given()
    assert batch.labels is not None
    alone = losses(
        network,
        Explored(*(part[:1] for part in output)),
        Batch(batch.images[:1], batch.weights[:1], batch.valid[:1], batch.labels[:1]),
    )
    lost = replace(
        batch, weights=torch.tensor([1.0, 0.0]), valid=torch.tensor([[0, 0, 96, 96], [0, 0, 0, 0]])
    )
    both = losses(network, output, lost)
    for name in ("classes", "gsc"):
        torch.testing.assert_close(both[name], alone[name])


@pytest.mark.parametrize(("progress", "follows"), [(0.2, False), (0.3, True)])
def test_the_cams_follow_later_than_the_features(
    network: SipeNetwork, progress: float, follows: bool
) -> None:
    output, batch = given()
    output = Explored(*(part.requires_grad_() for part in output))
    early = replace(batch, progress=progress)
    parts = sipe_loss(network, 1.0, after=0.3)(lambda images: output, early)
    assert isinstance(parts, dict)
    torch.testing.assert_close(parts["gsc"], losses(network, output, batch)["gsc"])
    to_cams, to_features = torch.autograd.grad(
        parts["gsc"], (output.maps, output.hierarchical), allow_unused=True
    )
    assert to_features.abs().sum() > 0
    assert (to_cams is not None and bool(to_cams.abs().sum() > 0)) == follows


def test_both_sides_learn_from_the_consistency(network: SipeNetwork) -> None:
    torch.manual_seed(0)
    batch = replace(given()[1], images=torch.randn(2, 3, 96, 96))
    network.zero_grad()
    parts = sipe_loss(network, 1.0)(network, batch)
    assert isinstance(parts, dict)
    parts["gsc"].backward()
    for layer in (network.classify, *network.side):
        assert layer.weight.grad is not None
        assert layer.weight.grad.abs().sum() > 0
    assert any(value.grad is not None for value in network.backbone.parameters())


def test_padding_takes_part_in_the_class_scores_where_asked_for(network: SipeNetwork) -> None:
    """And in nothing else."""
    output, batch = given()
    batch = replace(batch, valid=torch.tensor([[0, 0, 96, 96], [0, 32, 64, 96]]))
    assert batch.labels is not None
    without = losses(network, output, batch)
    parts = sipe_loss(network, 1.0, padding=True)(lambda images: output, batch)
    assert isinstance(parts, dict)
    expected = multilabel_loss(output.maps.mean((2, 3)), batch.labels, batch.weights)
    torch.testing.assert_close(parts["classes"], expected)
    assert without["classes"] != parts["classes"]
    assert without["gsc"] == parts["gsc"]
