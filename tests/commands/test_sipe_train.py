"""sipe-train: what it writes and refuses, and what the tools after it make of its checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.commands.conftest import SMALL as CLASSIFIER
from tests.conftest import Run, as_lines
from wsss_cli import files

Records = list[dict[str, Any]]

SMALL = (*CLASSIFIER, "--precision", "fp32")
SEEN = ("--scales", "1", "--no-flip", "--device", "cpu", "--precision", "fp32")


def test_a_checkpoint_that_describes_itself(inside: Run, photographs: Records) -> None:
    photographs[3]["labels"] = []
    Path("val.jsonl").write_text(as_lines(photographs))
    settings = (*SMALL, "--epochs", "2", "--val", "val.jsonl", "-o", "out/net.pt")
    done = inside("sipe-train", *settings, input=photographs, check=0)
    assert done.out == ""
    assert "wsss sipe-train: epoch 2/2: loss " in done.err
    checkpoint = files.load_checkpoint("out/net.pt", "sipe")
    assert checkpoint.classes[7] == "cat"
    assert checkpoint.config["output_stride"] == 16
    assert checkpoint.config["training"]["gsc"] == 0.1
    assert checkpoint.config["training"]["gsc_after"] == 0.5
    assert checkpoint.state_dict["side.3.weight"].shape == (256, 1280, 1, 1)
    lines = [json.loads(line) for line in Path("out/net.log.jsonl").read_text().splitlines()]
    assert {key for line in lines for key in line} == {
        "step",
        "epoch",
        "loss",
        "loss_classes",
        "loss_gsc",
        "lr",
        "images_per_second",
        "val_map",
        "val_f1",
    }
    again = inside("sipe-train", *settings, "--resume", input=photographs, check=0)
    assert again.err == "wsss sipe-train: out/net.pt: finished already\n"
    other = inside("sipe-train", *settings, "--gsc", "0.5", "--resume", input=photographs)
    assert other.code == 2
    assert "gsc" in other.err


def test_torchrun_with_two_processes_learns_what_one_does(
    inside: Run, photographs: Records
) -> None:
    settings = (*SMALL, "--weights", "imagenet", "--epochs", "1")
    for record in photographs:
        record["labels"] = ["cat"]  # as many cells count in each process as in the other
    command = ["-m", "wsss_cli", "sipe-train", *settings]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            "2",
            *command,
            "--batch-size",
            "1",
            "-o",
            "two.pt",
        ],
        input=as_lines(photographs),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    inside("sipe-train", *settings, "-o", "one.pt", input=photographs, check=0)
    one, two = (files.load_checkpoint(name) for name in ("one.pt", "two.pt"))
    for key in ("classify.weight", "side.0.weight", "side.3.weight"):
        assert (one.state_dict[key] - two.state_dict[key]).abs().max() < 3e-2, key


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": ["kat"]}, "photo 1 é: label 'kat' is not in the class list; did you mean cat?"),
        ({"labels": None}, "photo 1 é: record has no 'labels' (made by index)"),
        ({"image": "none.jpg"}, "photo 1 é: none.jpg: No such file or directory"),
    ],
)
def test_a_record_that_cannot_be_used_is_found_before_training(
    inside: Run, photographs: Records, change: dict[str, Any], said: str
) -> None:
    photographs[1] = {k: v for k, v in {**photographs[1], **change}.items() if v is not None}
    done = inside("sipe-train", *SMALL, input=photographs)
    assert done.code == 1
    assert done.err == (
        f"wsss sipe-train: {said}\nwsss sipe-train: 1 record cannot be used; nothing was trained\n"
    )
    assert not list(Path().glob("sipe*"))


def test_wrong_use(inside: Run) -> None:
    done = inside("sipe-train", *SMALL, "--gsc", "-1")
    assert done.code == 2
    assert "--gsc" in done.err


def test_the_tools_after_it_use_its_maps_and_their_background(
    inside: Run, photographs: Records
) -> None:
    inside("sipe-train", *SMALL, "--epochs", "1", input=photographs, check=0)
    own = inside("make-cam", "-c", "sipe.pt", *SEEN, "-o", "is", input=photographs, check=0)
    general = inside(
        "make-cam", "-c", "sipe.pt", *SEEN, "--map", "cam", "-o", "cam", input=photographs, check=0
    )
    for record, other in zip(own.records, general.records, strict=True):
        maps, cam = files.read_maps(record["cam"]), files.read_maps(other["cam"])
        names = ("background", *record["labels"]) if record["labels"] else ()
        assert maps.classes == cam.classes == names
        assert maps.meta["params"]["map"] == "is-cam"
        assert maps.meta["params"]["seed_background"] == 0.8
        assert cam.meta["params"]["map"] == "cam"
        assert "seed_background" not in cam.meta["params"]
        if names:
            np.testing.assert_allclose(cam.cam[0], 1 - cam.cam[1:].max(0), atol=1e-3)
            assert not np.allclose(maps.cam, cam.cam, atol=0.05)

    # Other weights make other maps, which --skip-existing notices.
    made = (
        "make-cam",
        "-c",
        "sipe.pt",
        *SEEN,
        "--seed-background",
        "1e-9",
        "--skip-existing",
        "-o",
        "is",
    )
    for record in inside(*made, input=photographs, check=0).records:
        if record["labels"]:
            assert not files.read_maps(record["cam"]).cam[0].any()
    wrong = inside("make-cam", "-c", "sipe.pt", *SEEN, "--map", "cam", "--seed-background", "1")
    assert wrong.code == 2
    assert "--seed-background is only for --map is-cam" in wrong.err

    wrong = inside("make-cam", "-c", "sipe.pt", *SEEN, "--map", "cam", "--divide")
    assert "--divide is only for --map is-cam" in wrong.err
    public = (
        *("--seed-background", "0.5", "--seed-features", "hierarchical"),
        *("--background-over", "all", "--divide", "--flip", "--join-mirrored", "--cells", "parts"),
        *("--resize-filter", "bicubic", "--scales", "0.5,1"),
    )
    settings = (*SEEN, *public, "-o", "public")
    made_so = inside("make-cam", "-c", "sipe.pt", *settings, input=photographs, check=0)
    for record in made_so.records:
        maps = files.read_maps(record["cam"])
        if record["labels"]:
            assert {"hierarchical", "all", "parts", "bicubic"} <= set(
                map(str, maps.meta["params"].values())
            )
            # Divided by the maxima over the pixels of the photograph, between which these lie.
            assert all(top == 0 or 0.9 < top <= 1 for top in maps.cam.max((1, 2)))

    shown = ("make-aff-labels", "--workers", "0", "--crf-steps", "1")
    regions = inside(*shown, input=own.records, check=0).records
    inside(
        "train-aff",
        "-c",
        "sipe.pt",
        "--epochs",
        "1",
        "--crop",
        "64",
        "--batch-size",
        "2",
        "--device",
        "cpu",
        input=regions,
        check=0,
    )
    start, aff = files.load_checkpoint("sipe.pt"), files.load_checkpoint("aff.pt", "affinity")
    assert aff.classes == start.classes
    assert {key for key in start.state_dict if key.startswith("backbone.")} == {
        key for key in aff.state_dict if key.startswith("backbone.")
    }
    done = inside("random-walk", "-c", "aff.pt", "--device", "cpu", input=regions, check=0).records
    assert all(Path(record["pseudo"]).exists() for record in done)
    inside("crf", "--workers", "0", "--crf-steps", "1", "-o", "crf", input=own.records, check=0)


def test_the_grid_of_the_hierarchical_features_is_in_the_checkpoint(
    inside: Run, photographs: Records
) -> None:
    settings = (*SMALL, "--epochs", "1", "--fine-stride", "16", "--background-over", "all")
    inside("sipe-train", *settings, input=photographs, check=0)
    checkpoint = files.load_checkpoint("sipe.pt", "sipe")
    assert checkpoint.config["fine_stride"] == 16
    assert checkpoint.config["training"]["background_over"] == "all"
    made = inside("make-cam", "-c", "sipe.pt", *SEEN, input=photographs, check=0)
    assert len(made.records) == len(photographs)
    wrong = inside("sipe-train", *SMALL, "--fine-stride", "5", input=photographs, check=2)
    assert "no level of efficientnet-lite0 has stride 5; there are 8, 16" in wrong.err


def test_map_is_for_its_checkpoints_alone(inside: Run, photographs: Records) -> None:
    inside("train-cam", *SMALL, "--epochs", "1", input=photographs, check=0)
    for option in (("--map", "is-cam"), ("--map", "cam"), ("--seed-background", "0.5")):
        done = inside("make-cam", "-c", "cam.pt", *SEEN, *option, input=photographs)
        assert done.code == 2
        assert option[0] in done.err
        assert "only for checkpoints of sipe-train (cam.pt is of kind cam)" in done.err
        assert done.out == ""
