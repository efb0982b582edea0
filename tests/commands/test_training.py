"""The options that trainers share: what each of them sets, and what they refuse."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.commands.conftest import SMALL, same
from tests.conftest import Run
from wsss_cli import files

Records = list[dict[str, Any]]
SHORT = (*SMALL, "--precision", "fp32")


def training(path: str) -> dict[str, Any]:
    found: dict[str, Any] = files.load_checkpoint(path).config["training"]
    return found


def test_the_settings_of_psa_in_one_file(inside: Run, photographs: Records) -> None:
    Path("wsss.toml").write_text(
        "[train-cam]\nsteps = 3\nmomentum = 0\nclip = 0\nbias-lr = 2\ndecay-biases = false\n"
        'jitter = false\npool-padding = true\nloss = "squared"\n'
    )
    inside("train-cam", *SHORT, input=photographs, check=0)
    found = training("cam.pt")
    assert {
        "epochs": None,
        "steps": 3,
        "momentum": 0,
        "clip": 0,
        "bias_lr": 2,
        "decay_biases": False,
        "jitter": False,
        "pool_padding": True,
        "loss": "squared",
    }.items() <= found.items()
    logged = [json.loads(line) for line in Path("cam.log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged] == [1, 2, 3]
    assert logged[-1]["epoch"] == 1.5
    again = inside("train-cam", *SHORT, "--resume", input=photographs, check=0)
    assert again.err == "wsss train-cam: cam.pt: finished already\n"
    other = inside("train-cam", *SHORT, "--resume", "--jitter", input=photographs, check=2)
    assert other.err.startswith("wsss train-cam: cam.pt is of another run (jitter false, now null)")


def test_options_at_their_defaults_leave_a_run_as_it_was(inside: Run, photographs: Records) -> None:
    """A checkpoint of a version without these options is of the same run."""
    inside("train-cam", *SHORT, "--epochs", "1", input=photographs, check=0)
    added = ("jitter", "pool_padding", "loss")
    later = ("steps", "bias_lr", "decay_biases")
    found = training("cam.pt")
    assert not {*added} & {*found}
    assert {found[key] for key in later} == {None}


@pytest.mark.parametrize(
    "option",
    [
        ("--momentum", "0"),
        ("--clip", "1e-9"),
        ("--no-jitter",),
        ("--pool-padding",),
        ("--loss", "squared"),
        ("--backbone", "vgg16", "--bias-lr", "2"),
        ("--backbone", "vgg16", "--no-decay-biases"),
    ],
    ids=" ".join,
)
def test_each_option_changes_the_weights(
    inside: Run, photographs: Records, option: tuple[str, ...]
) -> None:
    few = (*SHORT, "--steps", "2", "--weight-decay", "0.1")
    backbone = option[:2] if option[0] == "--backbone" else ()
    inside("train-cam", *few, *backbone, "-o", "a.pt", input=photographs, check=0)
    inside("train-cam", *few, *option, "-o", "b.pt", input=photographs, check=0)
    assert not same("a.pt", "b.pt")


@pytest.mark.parametrize(
    "tool", ["train-cam", "eps-train", "sipe-train", "train-aff", "irn-train", "train-seg"]
)
@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("--momentum", "1"), "1.0 is not in the range 0<=x<1"),
        (("--momentum", "-0.1"), "-0.1 is not in the range 0<=x<1"),
        (("--momentum", "nan"), "nan is not a number"),
        (("--clip", "-1"), "-1.0 is not in the range x>=0"),
        (("--steps", "0"), "0 is not in the range x>=1"),
        (("--bias-lr", "0"), "0.0 is not in the range x>0"),
        (("--steps", "9", "--epochs", "9"), "--steps and --epochs exclude each other"),
    ],
)
def test_what_trainers_refuse(
    inside: Run, photographs: Records, tool: str, option: tuple[str, ...], told: str
) -> None:
    Path("a.pt").touch()
    needed = ("-c", "a.pt") if tool == "train-aff" else ("--classes", "voc")
    done = inside(tool, *needed, *option, input=photographs, check=2)
    assert told in done.err
    assert len(done.err.splitlines()) == 1
    assert sorted(path.name for path in Path().glob("*.pt")) == ["a.pt"]


@pytest.mark.parametrize(
    ("table", "environment", "options", "steps"),
    [
        ("epochs = 2", None, ("--steps", "3"), 3),
        ("steps = 3", None, ("--epochs", "1"), 2),
        ("steps = 3", None, (), 3),
        ("epochs = 1", "3", (), 3),
        ("steps = 9", "3", ("--epochs", "1"), 2),
    ],
)
def test_the_stronger_of_steps_and_epochs_wins(
    inside: Run,
    photographs: Records,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    environment: str | None,
    options: tuple[str, ...],
    steps: int,
) -> None:
    Path("wsss.toml").write_text(f"[train-cam]\n{table}\n")
    if environment:
        monkeypatch.setitem(os.environ, "WSSS_TRAIN_CAM_STEPS", environment)
    inside("train-cam", *SHORT, *options, input=photographs, check=0)
    logged = Path("cam.log.jsonl").read_text().splitlines()
    assert json.loads(logged[-1])["step"] == steps


def test_squared_label_prediction_needs_a_label(inside: Run, photographs: Records) -> None:
    none = [{**record, "labels": []} for record in photographs]
    done = inside("train-cam", *SHORT, "--loss", "squared", input=none, check=2)
    told = "no record shows a class, and --loss squared learns from those that do"
    assert done.err == f"wsss train-cam: {told}\n"
    assert not list(Path().glob("cam*"))


def test_affinity_at_the_scale_of_the_photographs(inside: Run, photographs: Records) -> None:
    """psa does not rescale: --scale 1,1."""
    inside("train-cam", *SHORT, "--steps", "1", input=photographs, check=0)
    for number, record in enumerate(photographs):
        labels = np.zeros(files.image_size(record["image"]), np.uint8)
        labels[10:30, 10:30] = 8
        record["aff_label"] = f"aff {number}.png"
        files.write_label_map(record["aff_label"], labels)
    few = ("-c", "cam.pt", "--crop", "64", "--device", "cpu", "--steps", "2", "--scale", "1,1")
    inside("train-aff", *few, input=photographs, check=0)
    found = training("aff.pt")
    assert (found["scale"], found["steps"], found["epochs"]) == ([1, 1], 2, None)
