"""irn-train from confident regions to an IRNet, and its way into random-walk and import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.commands.conftest import same
from tests.conftest import Run, as_lines
from wsss_cli import files
from wsss_cli.models.networks import build_network

Records = list[dict[str, Any]]
CLASSES = ("cat", "dog")
SMALL = ("--crop", "64", "--batch-size", "2", "--epochs", "2", "--device", "cpu")
START = ("--weights", "none")


@pytest.fixture
def regions(photographs: Records) -> Records:
    """Photographs with confident regions that name their classes."""
    meta = files.provenance("make-aff-labels", {}, classes=list(CLASSES))
    for number, record in enumerate(photographs):
        labels = np.zeros(files.image_size(record["image"]), np.uint8)
        labels[10:30, 10:30] = 1
        labels[:, 40:44] = 255
        record["aff_label"] = f"aff {number}.png"
        files.write_label_map(record["aff_label"], labels, meta)
    return photographs


def test_only_the_branches_learn(inside: Run, regions: Records) -> None:
    torch.manual_seed(0)
    cam = build_network("cam", "efficientnet-lite0", CLASSES, {"output_stride": 16})
    files.save_checkpoint(
        "cam.pt",
        kind="cam",
        backbone="efficientnet-lite0",
        classes=CLASSES,
        config={"output_stride": 16, "training": {}},
        state_dict=cam.state_dict(),
    )
    done = inside("irn-train", *SMALL, "--weights", "cam.pt", input=regions, check=0)
    assert done.out == ""
    end = files.load_checkpoint("irn.pt", "irn")
    assert end.classes == CLASSES  # those that the regions name
    assert end.config["output_stride"] == 16
    for key, value in cam.state_dict().items():
        if key.startswith("backbone."):
            assert end.state_dict[key].equal(value)
    assert end.state_dict["displacement.mean_shift.running_mean"].abs().min() > 0
    lines = [json.loads(line) for line in Path("irn.log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 4
    for line in lines:
        assert line["loss"] == pytest.approx(
            line["loss_affinity"] + line["loss_displacement"], abs=1e-4
        )
    first = inside(
        "irn-train", *SMALL, *START, "--epochs", "1", "-o", "b.pt", input=regions, check=0
    )
    assert first.out == ""
    assert not same("irn.pt", "b.pt")


def test_it_stops_and_goes_on_bit_for_bit(
    inside: Run, regions: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wsss_cli.training import loop

    options = (*SMALL, *START, "--precision", "fp32", "--save-every", "1", "--resume")
    inside("irn-train", *options, "-o", "whole.pt", input=regions, check=0)
    step = loop.Trainer.step

    def stop(self: Any, *args: Any) -> Any:
        if self.state.step == 3:
            raise KeyboardInterrupt
        return step(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Trainer, "step", stop)
        inside("irn-train", *options, "-o", "parts.pt", input=regions, check=130)
    assert not Path("parts.pt").exists()
    done = inside("irn-train", *options, "-o", "parts.pt", input=regions, check=0)
    assert "resumed at step 3 of 4" in done.err
    assert same("whole.pt", "parts.pt")
    other = inside("irn-train", *options, "--radius", "4", "-o", "parts.pt", input=regions, check=2)
    assert "parts.pt is of another run (radius 10, now 4)" in other.err


def test_torchrun_with_two_processes_learns_what_one_does(inside: Run, regions: Records) -> None:
    """Nearly: means are over the pairs of each process, whose crops hold a few more or less."""
    alike = [{**regions[0], "id": str(number)} for number in range(4)]
    settings = ("--crop", "64", "--epochs", "1", "--scale", "1,1", "--no-jitter", *START)
    settings = (*settings, "--device", "cpu", "--precision", "fp32")
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command = ["-m", "wsss_cli", "irn-train", *settings, "--batch-size", "1", "-o", "two.pt"]
    done = subprocess.run(
        [*start, *command],
        input=as_lines(alike),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    inside("irn-train", *settings, "--batch-size", "2", "-o", "one.pt", input=alike, check=0)
    inside("irn-train", *settings, "--lr", "1e-9", "-o", "start.pt", input=alike, check=0)
    one, two, begin = (
        files.load_checkpoint(f"{name}.pt").state_dict for name in ("one", "two", "start")
    )
    learnt = [key for key in one if key.startswith(("boundary.", "displacement."))]
    moved = sum(float((one[key] - begin[key]).square().sum()) for key in learnt)
    apart = sum(float((one[key] - two[key]).square().sum()) for key in learnt)
    assert 0 < apart < 0.05 * moved


@pytest.mark.parametrize(
    "option",
    [
        ("--new-lr", "10"),
        ("--radius", "4"),
        ("--cells", "parts"),
        ("--momentum", "0"),
        ("--clip", "1e-9"),
        ("--scale", "1,1"),
    ],
    ids=" ".join,
)
def test_each_option_changes_the_weights(
    inside: Run, regions: Records, option: tuple[str, ...]
) -> None:
    few = (*SMALL[:-4], *SMALL[-2:], *START, "--steps", "2")
    inside("irn-train", *few, "-o", "a.pt", input=regions, check=0)
    inside("irn-train", *few, *option, "-o", "b.pt", input=regions, check=0)
    assert not same("a.pt", "b.pt")


def test_there_is_nothing_to_freeze_or_to_measure(inside: Run, regions: Records) -> None:
    for option in ("--freeze-bn", "--bn-affine", "--freeze-until", "--val"):
        done = inside("irn-train", *START, option, input=regions, check=2)
        assert f"No such option '{option}'" in done.err


def test_regions_that_name_no_class_need_a_list(inside: Run, regions: Records) -> None:
    for record in regions:
        labels = files.read_label_map(record["aff_label"])
        files.write_label_map(record["aff_label"], labels)
    done = inside("irn-train", *SMALL, *START, input=regions, check=2)
    assert done.err == (
        "wsss irn-train: the label maps do not name their classes: give --classes\n"
    )
    assert not list(Path().glob("irn*"))
    other = inside("irn-train", *SMALL, *START, "--classes", "voc", input=regions, check=2)
    assert "holds another class in place of 'cat'" in other.err
    Path("three.txt").write_text("cat\ndog\ncow\n")
    inside("irn-train", *SMALL, *START, "--classes", "three.txt", input=regions, check=0)
    assert files.load_checkpoint("irn.pt").classes == ("cat", "dog", "cow")


def test_regions_without_any_pair_teach_nothing(inside: Run, regions: Records) -> None:
    meta = files.provenance("make-aff-labels", {}, classes=list(CLASSES))
    for record in regions:
        size = files.image_size(record["image"])
        files.write_label_map(record["aff_label"], np.full(size, 255, np.uint8), meta)
    result = inside("irn-train", *SMALL, *START, input=regions, check=1)
    assert "there is nothing to learn from: no sample has a known label or a pixel" in result.err
    assert not Path("irn.pt").exists()


def test_records_without_regions(inside: Run, regions: Records) -> None:
    del regions[1]["aff_label"]
    done = inside("irn-train", *SMALL, *START, input=regions, check=1)
    assert done.err == (
        "wsss irn-train: photo 1 é: record has no 'aff_label' (made by make-aff-labels)\n"
        "wsss irn-train: 1 record cannot be used; nothing was trained\n"
    )
