"""predict label maps, scores, CRF, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import Run
from wsss_cli import files
from wsss_cli.models.networks import build_network

Records = list[dict[str, Any]]


@pytest.fixture
def network(photographs: Records) -> Path:
    """A segmentation checkpoint with random weights that are not all alike."""
    torch.manual_seed(0)
    config = {"output_stride": 16, "head": "aspp"}
    made = build_network("segmentation", "efficientnet-lite0", ("cat", "dog"), config)
    for branch in made.head.branches:
        torch.nn.init.normal_(branch.weight, std=0.2)
    files.save_checkpoint(
        "seg.pt",
        kind="segmentation",
        backbone="efficientnet-lite0",
        classes=("cat", "dog"),
        config=config,
        state_dict=made.state_dict(),
    )
    return Path("seg.pt")


def test_label_maps_for_labelled_and_unlabelled_images(
    inside: Run, photographs: Records, network: Path
) -> None:
    del photographs[3]["labels"]
    done = inside("predict", "-c", network, "-o", "out", input=photographs, check=0)
    assert [record["id"] for record in done.records] == [record["id"] for record in photographs]
    for record in done.records:
        labels = files.read_label_map(record["pred"], files.image_size(record["image"]))
        assert set(np.unique(labels)) <= {0, 1, 2}
    meta = files.read_meta(done.records[0]["pred"])
    assert meta is not None
    assert meta["tool"] == "predict"
    assert meta["classes"] == ["cat", "dog"]
    assert meta["checkpoint"] == files.load_checkpoint(network).digest
    again = inside(
        "predict", "-c", network, "-o", "out", "--skip-existing", input=photographs, check=0
    )
    assert again.out == done.out


def test_scores_are_the_probabilities_the_labels_come_from(
    inside: Run, photographs: Records, network: Path
) -> None:
    settings = ("--scores", "--scales", "1", "--no-flip", "--precision", "fp32")
    done = inside("predict", "-c", network, *settings, input=photographs[:1], check=0)
    maps = files.read_maps(done.records[0]["scores"])
    assert maps.classes == ("background", "cat", "dog")
    assert maps.size == (48, 64)
    assert maps.cam.shape == (3, 12, 16)
    np.testing.assert_allclose(maps.cam.sum(0), 1, atol=0.01)
    labels = files.read_label_map(done.records[0]["pred"])
    coarse = labels[2::4, 2::4]
    assert (maps.cam.argmax(0) == coarse).mean() > 0.85


def test_a_crf_refines(inside: Run, photographs: Records, network: Path) -> None:
    plain = inside("predict", "-c", network, "-o", "a", input=photographs[:1], check=0)
    refined = inside("predict", "-c", network, "-o", "b", "--crf", input=photographs[:1], check=0)
    a, b = (files.read_label_map(done.records[0]["pred"]) for done in (plain, refined))
    assert a.shape == b.shape
    assert set(np.unique(b)) <= set(np.unique(a)) | {0}


def test_large_photographs_are_seen_small_and_answered_large(
    inside: Run, photographs: Records, network: Path
) -> None:
    done = inside("predict", "-c", network, "--max-side", "40", input=photographs[:1], check=0)
    assert files.read_label_map(done.records[0]["pred"]).shape == (48, 64)


@pytest.fixture
def judge(photographs: Records) -> Path:
    """A network that finds the dog everywhere, and whose branch finds it in no photograph."""
    torch.manual_seed(0)
    config = {"output_stride": 16, "head": "aspp", "psl": True}
    made = build_network("segmentation", "efficientnet-lite0", ("cat", "dog"), config)
    for branch in made.head.branches:
        torch.nn.init.zeros_(branch.weight)
        branch.bias.data = torch.tensor([0.0, 0.2, 1.0])
    torch.nn.init.zeros_(made.classify.weight)
    made.classify.bias.data = torch.tensor([0.15, 0.05]).logit()
    files.save_checkpoint(
        "psl.pt",
        kind="segmentation",
        backbone="efficientnet-lite0",
        classes=("cat", "dog"),
        config=config,
        state_dict=made.state_dict(),
    )
    return Path("psl.pt")


def test_classes_that_are_hardly_there_are_dropped(
    inside: Run, photographs: Records, judge: Path
) -> None:
    found = {}
    for least in (None, "0.04", "0.2"):
        chosen = ("--drop-below", least) if least else ()
        done = inside(
            "predict",
            "-c",
            judge,
            *chosen,
            "--scores",
            "-o",
            f"out{least}",
            input=photographs,
            check=0,
        )
        labels = [files.read_label_map(record["pred"]) for record in done.records]
        found[least] = {int(number) for one in labels for number in np.unique(one)}
        maps = files.read_maps(done.records[0]["scores"])
        np.testing.assert_allclose(maps.cam.astype(float).sum(0), 1, atol=0.01)
        assert bool(maps.cam[2].any()) == (least == "0.04")
    assert found == {None: {1}, "0.04": {2}, "0.2": {0}}
    meta = files.read_meta("outNone/photo 0 é.png")
    assert meta is not None
    assert meta["params"]["drop_below"] == 0.1
    again = inside(
        "predict",
        "-c",
        judge,
        "--drop-below",
        "0.1",
        "--scores",
        "-o",
        "outNone",
        "--skip-existing",
        input=photographs,
        check=0,
    )
    assert "4 reused" in again.err


def test_dropping_needs_a_network_that_knows(
    inside: Run, photographs: Records, network: Path
) -> None:
    done = inside("predict", "-c", network, "--drop-below", "0.1", input=photographs, check=2)
    assert "--drop-below is only for networks trained with --psl" in done.err
    inside("predict", "-c", network, "-o", "out", input=photographs[:1], check=0)
    meta = files.read_meta("out/photo 0 é.png")
    assert meta is not None
    assert "drop_below" not in meta["params"]


def test_a_broken_photograph_fails_alone(inside: Run, photographs: Records, network: Path) -> None:
    Path(photographs[1]["image"]).write_bytes(b"")
    done = inside("predict", "-c", network, input=photographs)
    assert done.code == 1
    name = photographs[1]["image"]
    assert f"wsss predict: photo 1 é: cannot read image: {name}: empty file\n" in done.err
    assert [record["id"] for record in done.records] == ["photo 0 é", "photo 2 é", "photo 3 é"]


def test_a_checkpoint_of_another_kind(inside: Run, photographs: Records) -> None:
    made = build_network("cam", "efficientnet-lite0", ("cat",), {"output_stride": 16})
    files.save_checkpoint(
        "cam.pt",
        kind="cam",
        backbone="efficientnet-lite0",
        classes=("cat",),
        config={},
        state_dict=made.state_dict(),
    )
    done = inside("predict", "-c", "cam.pt", input=photographs)
    assert done.code == 2
    assert done.err == (
        "wsss predict: cam.pt: a checkpoint of kind segmentation is needed, this is of kind cam\n"
    )
