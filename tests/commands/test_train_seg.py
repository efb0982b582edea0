"""train-seg its targets, its class list, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Run, as_lines
from wsss_cli import files

Records = list[dict[str, Any]]

SMALL = (
    "--weights", "none", "--crop", "64", "--batch-size", "2", "--epochs", "2", "--device", "cpu",
    "--freeze-bn", "--lr", "0.001",
)  # fmt: skip


@pytest.fixture
def masked(photographs: Records) -> Records:
    """Photographs with pseudo-masks that name their classes, two of them with true masks too."""
    Path("names.txt").write_text("cat\ndog\n")
    for number, record in enumerate(photographs):
        labels = np.zeros(files.image_size(record["image"]), np.uint8)
        labels[10:30, 10:30] = 1
        labels[:, 40:44] = 255
        record["pseudo"] = f"pseudo {number}.png"
        meta = files.provenance("random-walk", {}, classes=["cat", "dog"])
        files.write_label_map(record["pseudo"], labels, meta)
        if number < 2:
            record["mask"] = f"mask {number}.png"
            files.write_label_map(record["mask"], np.where(labels == 1, 2, labels).astype(np.uint8))
    return photographs


def test_from_pseudo_masks_with_their_own_class_list(inside: Run, masked: Records) -> None:
    Path("val.jsonl").write_text(as_lines(masked[:2]))
    done = inside("train-seg", *SMALL, "--val", "val.jsonl", input=masked, check=0)
    assert done.out == ""
    checkpoint = files.load_checkpoint("seg.pt", "segmentation")
    assert checkpoint.classes == ("cat", "dog")
    assert checkpoint.config["head"] == "aspp"
    lines = [json.loads(line) for line in Path("seg.log.jsonl").read_text().splitlines()]
    assert sum("val_miou" in line for line in lines) == 2
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)


@pytest.mark.parametrize("head", ["largefov", "deeplabv3plus"])
def test_the_other_heads(inside: Run, masked: Records, head: str) -> None:
    inside("train-seg", *SMALL, "--head", head, "--loss-stride", "1", input=masked, check=0)
    assert files.load_checkpoint("seg.pt").config["head"] == head


def test_true_masks_need_a_class_list(inside: Run, masked: Records) -> None:
    done = inside("train-seg", *SMALL, "--target", "mask", input=masked[:2])
    assert done.code == 2
    assert done.err == (
        "wsss train-seg: the label maps do not name their classes: give --classes\n"
    )
    settings = ("--target", "mask", "--classes", "names.txt")
    inside("train-seg", *SMALL, *settings, input=masked[:2], check=0)


def test_true_masks_where_there_are_some(inside: Run, masked: Records) -> None:
    inside("train-seg", *SMALL, "--target", "mask,pseudo", input=masked, check=0)
    assert files.load_checkpoint("seg.pt").classes == ("cat", "dog")


def test_a_record_with_no_target(inside: Run, masked: Records) -> None:
    del masked[2]["pseudo"]
    done = inside("train-seg", *SMALL, "--target", "mask,pseudo", input=masked)
    assert done.code == 1
    assert done.err == (
        "wsss train-seg: photo 2 é: record has no 'mask' (made by index)\n"
        "wsss train-seg: 1 record cannot be used; nothing was trained\n"
    )


def test_a_class_number_beyond_the_list(inside: Run, masked: Records) -> None:
    Path("names.txt").write_text("cat\n")
    done = inside(
        "train-seg", *SMALL, "--classes", "names.txt", "--target", "mask", input=masked[:2]
    )
    assert done.code == 1
    assert (
        "wsss train-seg: photo 0 é: mask 0.png: class number 2, but the class list ends at 1\n"
    ) in done.err


# ---- prohibitive segmentation learning ----


@pytest.mark.parametrize("weights", [None, "labels"])
def test_psl_learns_masks_and_labels(inside: Run, masked: Records, weights: str | None) -> None:
    Path("val.jsonl").write_text(as_lines(masked[:2]))
    chosen = ("--psl-weights", weights) if weights else ()
    settings = (*SMALL, "--psl", *chosen, "--val", "val.jsonl")
    inside("train-seg", *settings, input=masked, check=0)
    made = files.load_checkpoint("seg.pt", "segmentation")
    assert made.config["psl"] is True
    assert made.config["training"]["psl_weights"] == (weights or "predicted")
    assert made.state_dict["classify.weight"].shape[0] == 2
    lines = [json.loads(line) for line in Path("seg.log.jsonl").read_text().splitlines()]
    assert sum("val_miou" in line for line in lines) == 2
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)
    again = inside("train-seg", *settings, "--resume", input=masked, check=0)
    assert "finished already" in again.err
    other = inside("train-seg", *SMALL, "--val", "val.jsonl", "--resume", input=masked, check=2)
    assert "psl true, now null" in other.err
    found = inside("predict", "-c", "seg.pt", "--scales", "1", input=masked, check=0)
    assert len(found.records) == 4


def test_psl_under_torchrun_learns_what_one_process_does(inside: Run, masked: Records) -> None:
    settings = (*SMALL, "--psl", "--precision", "fp32", "--val", "val.jsonl")
    Path("val.jsonl").write_text(as_lines(masked[:2]))
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
            "-m", "wsss_cli", "train-seg", *settings, "--batch-size", "1", "-o", "two.pt",
        ],
        input=as_lines(masked), capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.count("wsss train-seg: epoch 2/2") == 1
    inside("train-seg", *settings, "-o", "one.pt", input=masked, check=0)
    one, two = (files.load_checkpoint(name) for name in ("one.pt", "two.pt"))
    assert two.config["training"]["processes"] == 2
    for key, value in one.state_dict.items():
        assert (value - two.state_dict[key]).abs().max() < 1e-3, key


def test_a_network_without_psl_does_not_speak_of_it(inside: Run, masked: Records) -> None:
    inside("train-seg", *SMALL, input=masked, check=0)
    assert "psl" not in files.load_checkpoint("seg.pt").config


def test_psl_resumed_is_as_left_alone(
    inside: Run, masked: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from wsss_cli.training.loop import Trainer

    settings = (*SMALL, "--psl", "--save-every", "1")
    inside("train-seg", *settings, "-o", "whole.pt", input=masked, check=0)
    step = Trainer._step

    def stops(self: Trainer, *args: Any) -> float:
        if self.state.step == 2:
            raise RuntimeError("the power went")
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", stops)
        inside("train-seg", *settings, "-o", "cut.pt", input=masked, check=1)
    done = inside("train-seg", *settings, "-o", "cut.pt", "--resume", input=masked, check=0)
    assert "resumed at step 2 of 4" in done.err
    whole, cut = (files.load_checkpoint(path).state_dict for path in ("whole.pt", "cut.pt"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_psl_needs_labels_of_the_class_list(inside: Run, masked: Records) -> None:
    del masked[1]["labels"]
    done = inside("train-seg", *SMALL, "--psl", input=masked, check=1)
    assert "photo 1 é: record has no 'labels' (made by index)\n" in done.err
    masked[1]["labels"] = ["bog"]
    done = inside("train-seg", *SMALL, "--psl", "-q", input=masked, check=1)
    assert done.err == (
        "wsss train-seg: photo 1 é: label 'bog' is not in the class list; did you mean dog?; "
        "nothing was trained\n"
    )
    done = inside("train-seg", *SMALL, "--psl-weights", "labels", input=masked, check=2)
    assert "--psl-weights: has no meaning without --psl" in done.err


def test_psl_leaves_out_what_cannot_be_read(inside: Run, masked: Records) -> None:
    Path(masked[1]["image"]).write_bytes(b"")
    done = inside("train-seg", *SMALL, "--psl", input=masked, check=1)
    assert "left out 1 record that cannot be read" in done.err
    assert files.load_checkpoint("seg.pt").config["psl"] is True


def test_label_maps_that_are_border_all_over_teach_nothing(inside: Run, masked: Records) -> None:
    for record in masked:
        size = files.image_size(record["image"])
        files.write_label_map(record["pseudo"], np.full(size, 255, np.uint8))
    inside("train-seg", *SMALL, "--classes", "names.txt", input=masked, check=0)
    lines = [json.loads(line) for line in Path("seg.log.jsonl").read_text().splitlines()]
    assert {line["loss"] for line in lines} == {0}
