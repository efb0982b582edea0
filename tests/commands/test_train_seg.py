"""train-seg its targets, its class list, and what it refuses."""

from __future__ import annotations

import json
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


def test_label_maps_that_are_border_all_over_teach_nothing(inside: Run, masked: Records) -> None:
    for record in masked:
        size = files.image_size(record["image"])
        files.write_label_map(record["pseudo"], np.full(size, 255, np.uint8))
    inside("train-seg", *SMALL, "--classes", "names.txt", input=masked, check=0)
    lines = [json.loads(line) for line in Path("seg.log.jsonl").read_text().splitlines()]
    assert {line["loss"] for line in lines} == {0}
