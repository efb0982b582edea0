"""A training step of SIPE against the public code: numbers of make_map_references.py."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models import formula
from tests.models.make_map_references import FILE, TRAINED_SIZE
from tests.models.test_published import names_and_shapes
from wsss_cli.methods.cam import normalise
from wsss_cli.methods.sipe import explore, gsc_loss, prototypes, seed_regions
from wsss_cli.models.published import published
from wsss_cli.models.sipe import Explored, SipeNetwork
from wsss_cli.training.batch import Batch
from wsss_cli.training.sipe import sipe_loss

THEIRS = json.loads(FILE.read_text())["sipe step"]
SHOWN = [(image, number) for image, shown in enumerate(THEIRS["labels"]) for number in (-1, *shown)]
PAPER = Path(__file__).parents[2] / "examples" / "papers" / "sipe.toml"


@pytest.fixture(scope="module")
def network() -> SipeNetwork:
    shapes = names_and_shapes("sipe").items()
    found = published({name: formula.named(name, shape) for name, shape in shapes})
    network: SipeNetwork = found.network.eval()
    return network


@pytest.fixture(scope="module")
def output(network: SipeNetwork) -> Explored:
    with torch.inference_mode():
        result: Explored = network(formula.normalised(*TRAINED_SIZE, 2))
    return result


@pytest.fixture
def batch() -> Batch:
    labels = torch.zeros(2, 20)
    for image, shown in enumerate(THEIRS["labels"]):
        labels[image, shown] = 1
    whole = torch.tensor([[0, 0, *TRAINED_SIZE]] * 2)
    return Batch(formula.normalised(*TRAINED_SIZE, 2), torch.ones(2), whole, labels)


def valid_of(batch: Batch) -> Tensor:
    assert batch.labels is not None
    return torch.cat([torch.ones(2, 1), batch.labels], 1)[:, :, None, None]


def shown(maps: Tensor) -> Iterator[Tensor]:
    """The maps of background and labels of both photographs."""
    return (maps[image, number + 1] for image, number in SHOWN)


def stored(name: str) -> Iterator[Tensor]:
    return (torch.tensor(each) for maps in THEIRS[name] for each in maps)


def assert_close(ours: Any, theirs: Any, atol: float = 2e-4) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=atol)


def test_maps_seeds_and_prototypes(output: Explored, batch: Batch) -> None:
    valid = valid_of(batch)
    cam, specific = explore(*output, valid, valid, over_all=True)
    assert_close(shown(cam), stored("cam"), 5e-4)  # their maximum is 1e-5 larger, ours some 0.05
    assert_close(shown(specific), stored("IS_cam"))
    seeds = seed_regions(cam, output.features, valid)
    assert_close(shown(seeds), stored("seeds"), 0)
    assert sorted(int(each.sum()) for each in shown(seeds))[0] == 0
    # Theirs are means over all cells, ours over the seeds.
    share = seeds.mean((2, 3))[:, :, None]
    theirs = prototypes(seeds, output.hierarchical) * share
    assert_close((each[::64] for each in shown(theirs)), stored("prototypes"), 1e-5)


def test_losses_by_the_settings_of_the_paper(
    network: SipeNetwork, output: Explored, batch: Batch
) -> None:
    settings = tomllib.loads(PAPER.read_text())["sipe-train"]
    assert settings["backbone"] == network.backbone.name
    assert settings["fine_stride"] == network.fine_stride
    losses = sipe_loss(
        network,
        settings["gsc"],
        after=settings["gsc_after"],
        padding=settings["pool_padding"],
        over_all=settings["background_over"] == "all",
    )(lambda images: output, batch)
    assert isinstance(losses, dict)
    assert_close(output.maps.mean((2, 3)), torch.tensor(THEIRS["scores"]), 1e-5)
    assert losses["classes"].item() == pytest.approx(THEIRS["lossCLS"], abs=2e-6)

    # Theirs is the mean over all 21 maps of each photograph,
    valid = valid_of(batch)
    cam, specific = explore(*output, valid, valid, over_all=True)
    loss = gsc_loss(cam, normalise(specific)).item()
    assert loss == pytest.approx(THEIRS["lossGSC"], abs=2e-5)
    # ours that over background and labels with a seed, times the weight.
    without = [m.mean() for m, s in zip(shown(cam), shown(specific), strict=True) if s.max() == 0]
    assert len(without) == 1
    count = len(SHOWN) - len(without)
    ours = losses["gsc"].item() / settings["gsc"] * count + sum(without).item()
    assert ours == pytest.approx(2 * 21 * THEIRS["lossGSC"], abs=1e-3)
