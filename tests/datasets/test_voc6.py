"""The 6-class subset: its lists, and the script that selects it from a whole VOC."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Result, Run
from wsss_cli import files
from wsss_cli.datasets.voc import voc_records

EXAMPLES = Path(__file__).parents[2] / "examples"


def ids(split: str) -> list[str]:
    return (EXAMPLES / "voc6" / f"{split}.txt").read_text().splitlines()


def test_lists() -> None:
    train, train_aug, val = ids("train"), ids("train_aug"), ids("val")
    assert (len(train), len(train_aug), len(val)) == (370, 800, 150)
    assert len({*train_aug, *val}) == 950
    assert set(train) < set(train_aug)
    assert all(re.fullmatch(r"20\d\d_\d{6}", name) for name in train_aug + val)


@pytest.fixture
def voc(workdir: Path) -> Path:
    """A VOC of four pictures, two with masks of VOC's own."""
    root = workdir / "whole VOC"
    for number, name in enumerate("abcd"):
        (root / "JPEGImages").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4)).save(root / "JPEGImages" / f"{name}.jpg")
        mask = np.full((4, 6), 8, np.uint8)
        mask[0], mask[1] = 0, 15 if number % 2 else 8
        files.write_label_map(root / "SegmentationClassAug" / f"{name}.png", mask)
        mask[2] = 255
        if name in "ab":
            files.write_label_map(root / "SegmentationClass" / f"{name}.png", mask)
    (workdir / "lists").mkdir()
    (workdir / "lists/train.txt").write_text("a\n")
    (workdir / "lists/train_aug.txt").write_text("a\nd\n")
    (workdir / "lists/val.txt").write_text("b\n")
    return root


def select(shell: Run) -> Result:
    wsss = f'#!/bin/sh\\nexec {sys.executable} -m wsss_cli "$@"\\n'
    return shell(
        f"mkdir -p bin; printf '{wsss}' > bin/wsss; chmod +x bin/wsss\n"
        f"export PATH=$PWD/bin:$PATH PYTHONPATH={EXAMPLES.parent}\n"
        f"'{EXAMPLES}/voc6-select.sh' 'whole VOC' out lists"
    )


def test_select(shell: Run, voc: Path) -> None:
    done = select(shell)
    assert (done.code, done.err) == (0, "")
    by_split = {
        split: list(voc_records("out", split, pytest.fail))
        for split in ("train", "train_aug", "val")
    }
    assert {split: [r["id"] for r in records] for split, records in by_split.items()} == {
        "train": ["a"],
        "train_aug": ["a", "d"],
        "val": ["b"],
    }
    a, d = by_split["train_aug"]
    assert (a["labels"], d["labels"]) == (["cat"], ["cat", "person"])
    assert 255 in files.read_label_map(a["mask"])
    assert 255 not in files.read_label_map(d["mask"])
    assert Path(a["image"]).resolve() == voc / "JPEGImages/a.jpg"
    assert select(shell).code == 0  # again, over what is there


def test_select_names_what_is_missing(shell: Run, voc: Path) -> None:
    (voc / "SegmentationClassAug/d.png").unlink()
    done = select(shell)
    assert done.code == 1
    assert done.err == f"voc6-select.sh: no {voc}/SegmentationClassAug/d.png\n"
