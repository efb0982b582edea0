"""train-cam as a process: its files, its errors, and that an interruption changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commands.conftest import SMALL, same
from tests.conftest import Run, as_lines
from wsss_cli import files

Records = list[dict[str, Any]]


def test_a_checkpoint_that_describes_itself(inside: Run, photographs: Records) -> None:
    Path("val.jsonl").write_text(as_lines(photographs))
    done = inside(
        "train-cam",
        *SMALL,
        "--epochs",
        "2",
        "--val",
        "val.jsonl",
        "-o",
        "out/net.pt",
        input=photographs,
        check=0,
    )
    assert done.out == ""
    checkpoint = files.load_checkpoint("out/net.pt", "cam")
    assert checkpoint.backbone == "efficientnet-lite0"
    assert checkpoint.classes[7] == "cat"
    assert checkpoint.config["output_stride"] == 16
    assert checkpoint.config["training"]["epochs"] == 2
    lines = [json.loads(line) for line in Path("out/net.log.jsonl").read_text().splitlines()]
    assert {key for line in lines for key in line} == {
        "step",
        "epoch",
        "loss",
        "lr",
        "images_per_second",
        "val_map",
        "val_f1",
    }
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "net.log.jsonl",
        "net.png",
        "net.pt",
    ]
    assert "wsss train-cam: epoch 2/2: loss 0." in done.err


def test_kill_9_and_resume_give_the_weights_of_a_run_left_alone(
    run: Run, inside: Run, photographs: Records
) -> None:
    settings = (*SMALL, "--weights", "imagenet", "--epochs", "8", "--precision", "bf16")
    settings = (*settings, "--save-every", "3")
    Path("train.jsonl").write_text(as_lines(photographs))
    run("train-cam", "train.jsonl", *settings, "-o", "whole.pt", check=0)
    log = Path("killed.log.jsonl")
    command = [sys.executable, "-m", "wsss_cli", "train-cam", "train.jsonl", *settings]
    process = subprocess.Popen([*command, "-o", "killed.pt"], stderr=subprocess.DEVNULL)
    for _ in range(600):
        if log.exists() and len(log.read_text().splitlines()) >= 8:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not Path("killed.pt").exists()
    done = run("train-cam", "train.jsonl", *settings, "-o", "killed.pt", "--resume", check=0)
    assert "wsss train-cam: resumed at step " in done.err
    assert same("whole.pt", "killed.pt")
    losses = [
        [json.loads(line)["loss"] for line in Path(name).read_text().splitlines()]
        for name in ("whole.log.jsonl", "killed.log.jsonl")
    ]
    assert losses[0] == losses[1]
    settings = (*settings, "-o", "killed.pt", "--resume")
    again = inside("train-cam", *settings, input=photographs, check=0)
    assert again.err == "wsss train-cam: killed.pt: finished already\n"
    other = inside("train-cam", *settings, input=photographs[:3] + photographs[:1])
    assert (other.code, other.err) == (
        2,
        "wsss train-cam: killed.pt was trained on other records: give another --out, "
        "or --replace it\n",
    )


def test_ctrl_c_saves_the_state(run: Run, photographs: Records) -> None:
    Path("train.jsonl").write_text(as_lines(photographs))
    settings = (*SMALL, "--epochs", "500", "-o", "net.pt")
    process = subprocess.Popen(
        [sys.executable, "-m", "wsss_cli", "train-cam", "train.jsonl", *settings],
        stderr=subprocess.PIPE,
        text=True,
    )
    log = Path("net.log.jsonl")
    for _ in range(600):
        if log.exists() and log.stat().st_size:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode == 130
    assert said.splitlines()[-1].endswith(
        " of 1000; the same command with --resume goes on from there"
    )
    assert Path("net.resume.pt").exists()


def test_torchrun_with_two_processes_learns_what_one_does(
    inside: Run, photographs: Records
) -> None:
    """Twice half a batch is one batch; only the main process reads stdin, writes and speaks."""
    settings = (*SMALL, "--weights", "imagenet", "--epochs", "3", "--precision", "fp32")
    settings = (*settings, "--val", "val.jsonl")
    Path("val.jsonl").write_text(as_lines(photographs))
    command = ["-m", "wsss_cli", "train-cam", *settings]
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
    assert done.stdout == ""
    assert done.stderr.count("wsss train-cam: epoch 3/3") == 1
    inside("train-cam", *settings, "-o", "one.pt", input=photographs, check=0)
    one, two = (files.load_checkpoint(name) for name in ("one.pt", "two.pt"))
    for key, value in one.state_dict.items():
        assert (value - two.state_dict[key]).abs().max() < 1e-3, key
    assert two.config["training"]["processes"] == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": ["kat"]}, "photo 1 é: label 'kat' is not in the class list; did you mean cat?"),
        ({"labels": None}, "photo 1 é: record has no 'labels' (made by index)"),
        ({"image": None}, "photo 1 é: record has no 'image' (made by index)"),
        ({"image": "none.jpg"}, "photo 1 é: none.jpg: No such file or directory"),
    ],
)
def test_a_record_that_cannot_be_used_is_found_before_training(
    inside: Run, photographs: Records, change: dict[str, Any], said: str
) -> None:
    photographs[1] = {k: v for k, v in {**photographs[1], **change}.items() if v is not None}
    done = inside("train-cam", *SMALL, input=photographs)
    assert done.code == 1
    assert done.err == (
        f"wsss train-cam: {said}\nwsss train-cam: 1 record cannot be used; nothing was trained\n"
    )
    assert not list(Path().glob("cam*"))


def test_one_id_is_one_photograph(inside: Run, photographs: Records) -> None:
    photographs[1]["id"] = photographs[0]["id"]
    done = inside("train-cam", *SMALL, input=photographs, check=1)
    said = "photo 0 é: an earlier, different record has this id; give each its own"
    assert f"wsss train-cam: {said}\n" in done.err
    assert not list(Path().glob("cam*"))


def test_a_photograph_that_cannot_be_decoded_is_left_out(inside: Run, photographs: Records) -> None:
    whole = Path(photographs[1]["image"]).read_bytes()
    Path(photographs[1]["image"]).write_bytes(whole[: len(whole) // 2])
    done = inside("train-cam", *SMALL, "--epochs", "2", input=photographs)
    assert done.code == 1
    name = photographs[1]["image"]
    told = f"wsss train-cam: photo 1 é: cannot read image: {name}: truncated file\n"
    assert done.err.count(told) == 1
    assert done.err.endswith("wsss train-cam: left out 1 record that cannot be read\n")
    assert files.load_checkpoint("cam.pt").kind == "cam"
    strict = inside(
        "train-cam", *SMALL, "--epochs", "2", "--strict", "-o", "b.pt", input=photographs
    )
    assert strict.code == 1
    assert strict.err.endswith(
        "wsss train-cam: stopped at the first record that cannot be read (--strict)\n"
    )
    assert not Path("b.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 1, "wsss train-cam: no records to train on: the stream is empty\n"),
        (
            ("--resize", "80,48"),
            2,
            "wsss train-cam: Invalid value for '--resize': 80 is larger than 48 "
            "('wsss train-cam --help' lists the options)\n",
        ),
        (
            ("--backbone", "resnet38", "--output-stride", "16"),
            1,
            "wsss train-cam: no records to train on: the stream is empty\n",
        ),
        (
            ("--device", "cuda:7"),
            2,
            "wsss train-cam: --device cuda:7: this machine has no such device\n",
        ),
        (
            ("--device", "cpu", "--precision", "fp16"),
            2,
            "wsss train-cam: --precision fp16 needs a GPU; on a CPU use bf16 or fp32\n",
        ),
    ],
)
def test_wrong_use(inside: Run, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = inside("train-cam", *SMALL, *arguments)
    assert (done.code, done.err) == (code, said)


def test_a_stride_that_the_backbone_does_not_have(inside: Run, photographs: Records) -> None:
    done = inside("train-cam", *SMALL, "--output-stride", "5", input=photographs)
    assert done.code == 2
    assert done.err == (
        "wsss train-cam: efficientnet-lite0 has no output stride 5; it offers 8, 16, 32\n"
    )


def test_random_weights_learn_their_batch_statistics(inside: Run, photographs: Records) -> None:
    few = ("--classes", "voc", "--weights", "none", "--crop", "64", "--epochs", "1")
    inside("train-cam", *few, "--device", "cpu", input=photographs, check=0)
    assert files.load_checkpoint("cam.pt").config["training"]["freeze_bn"] is False


def test_frozen_stages_keep_their_weights(inside: Run, photographs: Records) -> None:
    """And dropout goes into the config that rebuilds the network."""
    whole = ("--freeze-until", "head", "--epochs", "1")
    done = inside("train-cam", *SMALL, *whole, input=photographs, check=0)
    assert "--freeze-until head keeps random weights; take it away, or give --weights" in done.err
    start = files.load_checkpoint("cam.pt").state_dict
    frozen = ("--freeze-until", "stage2", "--bn-affine", "--dropout", "0.5", "--epochs", "1")
    inside("train-cam", *SMALL, *frozen, "-o", "b.pt", input=photographs, check=0)
    checkpoint = files.load_checkpoint("b.pt")
    assert checkpoint.config["dropout"] == 0.5
    assert checkpoint.config["training"]["freeze_until"] == "stage2"

    def moved(key: str) -> bool:
        return not torch.equal(start[key], checkpoint.state_dict[key])

    assert not moved("backbone._conv_stem.weight")
    assert not moved("backbone._blocks.2._bn1.weight")
    assert moved("backbone._blocks.3._project_conv.weight")
    assert moved("backbone._blocks.3._bn1.weight")  # scale and shift learn,
    assert not moved("backbone._blocks.3._bn1.running_mean")  # statistics do not

    Path("wsss.toml").write_text('[train-cam]\nfreeze_until = "stage2"\n')
    again = ("--epochs", "1", "--freeze-until", "none", "-o", "d.pt")
    inside("train-cam", *SMALL, *again, input=photographs, check=0)
    assert files.load_checkpoint("d.pt").config["training"]["freeze_until"] is None

    wrong = ("--freeze-until", "layer2", "-o", "c.pt")
    done = inside("train-cam", *SMALL, *wrong, input=photographs, check=2)
    assert "--freeze-until layer2: efficientnet-lite0 has no such stage; it has stem" in done.err
    only = ("--bn-affine", "--no-freeze-bn", "-o", "c.pt")
    done = inside("train-cam", *SMALL, *only, input=photographs, check=2)
    assert "--bn-affine is only for --freeze-bn" in done.err
    assert not list(Path().glob("c.*"))
