"""eps-train as a process: what it writes and refuses, and that its maps hold a background."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.commands.conftest import SMALL, same
from tests.conftest import Run, as_lines
from wsss_cli import files
from wsss_cli.classes import VOC
from wsss_cli.methods.grids import average_views
from wsss_cli.models.inference import Runner

Records = list[dict[str, Any]]


@pytest.fixture
def salient(photographs: Records) -> Records:
    """Photographs with a saliency map each."""
    rng = np.random.default_rng(1)
    for number, record in enumerate(photographs):
        height, width = files.image_size(record["image"])
        record["saliency"] = f"s{number}.png"
        pixels = rng.integers(0, 256, (height, width), dtype=np.uint8)
        Image.fromarray(pixels).save(record["saliency"])
    return photographs


def lines(path: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.mark.parametrize("variant", ["eps", "eps++"])
def test_a_checkpoint_that_describes_itself(inside: Run, salient: Records, variant: str) -> None:
    Path("val.jsonl").write_text(as_lines(salient))
    done = inside(
        "eps-train",
        *SMALL,
        "--variant",
        variant,
        "--epochs",
        "2",
        "--val",
        "val.jsonl",
        "-o",
        "out/net.pt",
        input=salient,
        check=0,
    )
    assert done.out == ""
    checkpoint = files.load_checkpoint("out/net.pt", "eps")
    assert checkpoint.state_dict["classify.weight"].shape[0] == 21
    training = checkpoint.config["training"]
    assert training["variant"] == variant
    assert training.get("tau") == (0.4 if variant == "eps" else None)
    logged = lines("out/net.log.jsonl")
    assert {key for line in logged for key in line} == {
        "step",
        "epoch",
        "loss",
        "loss_classes",
        "loss_saliency",
        "lr",
        "images_per_second",
        "val_map",
        "val_f1",
    }
    for line in logged:
        if "loss" in line:
            assert line["loss"] == pytest.approx(line["loss_classes"] + line["loss_saliency"])
            assert line["loss_saliency"] > 0
    assert Path("out/net.png").exists()


def test_its_maps_have_a_background_that_the_tools_use(inside: Run, salient: Records) -> None:
    few = ("--epochs", "1", "-o", "eps.pt")
    inside("eps-train", *SMALL, *few, input=salient, check=0)
    done = inside(
        "make-cam", "-c", "eps.pt", "--scales", "1,1.5", "--device", "cpu", input=salient, check=0
    )
    made = done.records
    for record in made:
        maps = files.read_maps(record["cam"])
        if not record["labels"]:
            assert maps.classes == ()
            continue
        assert maps.classes == ("background", *record["labels"])
        np.testing.assert_allclose(maps.cam.astype(float).sum(0), 1, atol=2e-3)
        labels = np.where(np.random.default_rng(0).random(maps.size) < 0.5, 0, 8).astype(np.uint8)
        files.write_label_map(record["id"] + ".mask.png", labels)
        record["mask"] = record["id"] + ".mask.png"
        record["aff_label"] = record["mask"]
    some = [record for record in made if record["labels"]]
    measured = json.loads(inside("eval", "--format", "json", input=some, check=0).out)
    assert measured["background"] == "the maps' own background"
    other = inside("eval", "--format", "json", "--threshold", "0.5", input=some, check=0)
    assert json.loads(other.out)["background"] == "constant"
    # The affinities start from its backbone.
    aff = ("-c", "eps.pt", "--crop", "64", "--epochs", "1", "--device", "cpu", "-o", "aff.pt")
    inside("train-aff", *aff, input=some, check=0)
    start, end = (files.load_checkpoint(name).state_dict for name in ("eps.pt", "aff.pt"))
    key = next(key for key in start if key.endswith("running_mean"))
    assert (start[key] == end[key]).all()


def test_its_maps_as_the_authors_read_them(inside: Run, salient: Records) -> None:
    """The probabilities of each class in the softmax over all, divided by their maximum."""
    learnt = ("--weights", "imagenet", "--epochs", "4", "-o", "eps.pt")
    inside("eps-train", *SMALL, *learnt, input=salient, check=0)
    few = ("-c", "eps.pt", "--scales", "1", "--no-flip", "--device", "cpu", "--precision", "fp32")
    runner = Runner(files.load_checkpoint("eps.pt"), device="cpu", precision="fp32")
    relative = (*few, "--map", "relative", "-o", "rel")
    made = inside("make-cam", *relative, input=salient, check=0).records
    for record in made:
        maps = files.read_maps(record["cam"])
        assert list(maps.classes) == record["labels"]
        shares = runner(np.asarray(Image.open(record["image"]))).softmax(0)
        for name, own in zip(maps.classes, maps.cam.astype(float), strict=True):
            share = shares[VOC.index(name)][None]
            size = (own.shape[0], own.shape[1])
            (large,) = average_views([share], size, [False], seen=[maps.size], stride=16)
            np.testing.assert_allclose(own, large / large.max(), atol=5e-3)
            assert own.min() < 0.95
    for record in made:
        labels = np.zeros(files.image_size(record["image"]), np.uint8)
        files.write_label_map(record["id"] + ".mask.png", labels)
        record["mask"] = record["id"] + ".mask.png"
    some = [record for record in made if record["labels"]]
    inside("eval", "--threshold", "0.2", input=some, check=0)
    assert "reused" in inside("make-cam", *relative, "--skip-existing", input=salient, check=0).err
    again = ("make-cam", *few, "-o", "rel", "--skip-existing")
    assert "3 reused" not in inside(*again, input=salient, check=0).err  # another reading
    refused = inside("make-cam", *few, "--map", "is-cam", input=salient, check=2)
    told = "--map is-cam is only for checkpoints of sipe-train (eps.pt is of kind eps)"
    assert told in refused.err


def test_stretch_and_mean_change_what_is_learnt(inside: Run, salient: Records) -> None:
    settings = (*SMALL, "--weights", "imagenet", "--steps", "2", "--precision", "fp32")
    settings = (*settings, "--drop-above", "0.5")
    choices = {"a": (), "b": ("--no-stretch",), "c": ("--mean-over", "pixels")}
    for name, options in choices.items():
        inside("eps-train", *settings, *options, "-o", f"{name}.pt", input=salient, check=0)
        found = files.load_checkpoint(f"{name}.pt").config["training"]
        assert found.get("stretch") == (False if name == "b" else None)
        assert found.get("mean_over") == ("pixels" if name == "c" else None)
    assert not same("a.pt", "b.pt")
    assert not same("a.pt", "c.pt")


def test_resume_goes_on_with_the_parts_of_the_loss(inside: Run, salient: Records) -> None:
    settings = (*SMALL, "--epochs", "2", "--precision", "fp32")
    inside("eps-train", *settings, "-o", "whole.pt", input=salient, check=0)
    again = inside("eps-train", *settings, "-o", "whole.pt", "--resume", input=salient, check=0)
    assert again.err == "wsss eps-train: whole.pt: finished already\n"
    other = (*settings, "--variant", "eps", "-o", "whole.pt", "--resume")
    done = inside("eps-train", *other, input=salient, check=2)
    assert "whole.pt is of another run (variant" in done.err


def test_torchrun_with_two_processes_learns_what_one_does(inside: Run, salient: Records) -> None:
    settings = (*SMALL, "--weights", "imagenet", "--epochs", "3", "--precision", "fp32")
    settings = (*settings, "--resize", "64,96", "--variant", "eps")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            "2",
            "-m",
            "wsss_cli",
            "eps-train",
            *settings,
            "--batch-size",
            "1",
            "-o",
            "two.pt",
        ],
        input=as_lines(salient),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("wsss eps-train: epoch 3/3") == 1
    inside("eps-train", *settings, "-o", "one.pt", input=salient, check=0)
    one, two = (files.load_checkpoint(name).state_dict for name in ("one.pt", "two.pt"))
    for key, value in one.items():
        assert (value - two[key]).abs().max() < 1e-3, key


def test_saliency_and_labels_are_needed_of_some_only(inside: Run, salient: Records) -> None:
    del salient[0]["saliency"], salient[1]["labels"]
    inside("eps-train", *SMALL, "--epochs", "1", input=salient, check=0)
    assert files.load_checkpoint("eps.pt").kind == "eps"
    for record in salient:
        record.pop("saliency", None)
    salient[1]["labels"] = ["dog"]
    done = inside("eps-train", *SMALL, "-o", "b.pt", input=salient, check=2)
    assert done.err == (
        "wsss eps-train: no record has 'saliency', which eps-train learns from: give its folder to "
        "'wsss index --saliency', or train on labels alone with 'wsss train-cam'\n"
    )
    assert not Path("b.pt").exists()


def test_strong_records_teach_by_their_masks(inside: Run, salient: Records) -> None:
    for record in salient[:2]:
        labels = np.zeros(files.image_size(record["image"]), np.uint8)
        labels[10:30, 10:30], labels[:5] = 8, 255
        record["mask"] = record["id"] + ".mask.png"
        files.write_label_map(record["mask"], labels)
    small = (*SMALL, "--epochs", "1", "--strong-masks")
    done = inside("eps-train", *small, input=salient, check=2)
    assert done.err == (
        "wsss eps-train: no record has 'mask' and 'strong': true, which --strong-masks learns from "
        "('wsss index --strong 0.1' marks a tenth)\n"
    )
    salient[0]["strong"] = True
    Path(salient[1]["mask"]).write_bytes(b"")  # never looked at
    inside("eps-train", *small, "-o", "strong.pt", input=salient, check=0)
    inside("eps-train", *small[:-1], "-o", "weak.pt", input=salient, check=0)
    assert any("loss_mask" in line for line in lines("strong.log.jsonl"))
    assert not any("loss_mask" in line for line in lines("weak.log.jsonl"))
    assert not same("strong.pt", "weak.pt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": ["kat"]}, "label 'kat' is not in the class list; did you mean cat?"),
        ({"labels": None, "saliency": None}, "record has no 'labels' (made by index)"),
        ({"saliency": "none.png"}, "none.png: No such file or directory"),
    ],
)
def test_a_record_that_cannot_be_used_is_found_before_training(
    inside: Run, salient: Records, change: dict[str, Any], said: str
) -> None:
    salient[1] = {k: v for k, v in {**salient[1], **change}.items() if v is not None}
    done = inside("eps-train", *SMALL, input=salient, check=1)
    assert done.err == (
        f"wsss eps-train: photo 1 é: {said}\n"
        "wsss eps-train: 1 record cannot be used; nothing was trained\n"
    )


def test_a_saliency_map_that_cannot_be_read_is_left_out(inside: Run, salient: Records) -> None:
    Image.new("RGB", (64, 48), (255, 0, 0)).save("colour.png")
    salient[0]["saliency"] = "colour.png"
    done = inside("eps-train", *SMALL, "--epochs", "1", input=salient, check=1)
    assert done.err.count("wsss eps-train: photo 0 é: colour.png: ") == 1
    assert done.err.endswith("wsss eps-train: left out 1 record that cannot be read\n")


@pytest.mark.parametrize(
    ("variant", "option", "other"),
    [
        ("eps++", "--tau", "eps"),
        ("eps", "--drop-above", "eps++"),
        ("eps", "--stretch", "eps++"),
    ],
)
def test_settings_of_one_variant_have_no_meaning_with_the_other(
    inside: Run, variant: str, option: str, other: str
) -> None:
    done = inside("eps-train", *SMALL, "--variant", variant, option, "0.6", check=2)
    assert f"{option} is only for --variant {other}" in done.err


def test_how_far_a_contradiction_must_go(inside: Run, salient: Records) -> None:
    """What is left out changes what is learned, and the checkpoint says what was."""
    for above in ("0.5", "1"):
        inside(
            "eps-train", *SMALL, "--drop-above", above, "-o", above + ".pt", input=salient, check=0
        )
    assert not same("0.5.pt", "1.pt")
    training = files.load_checkpoint("1.pt", "eps").config["training"]
    assert training["drop_above"] == 1
    again = (*SMALL, "--drop-above", "1", "-o", "0.5.pt", "--resume")
    refused = inside("eps-train", *again, input=salient, check=2)
    assert "0.5.pt is of another run (drop_above 0.5, now 1.0)" in refused.err


def test_the_old_name_of_strong_masks_works_and_warns(inside: Run, salient: Records) -> None:
    done = inside("eps-train", *SMALL, "--strong", input=salient, check=2)
    assert done.err.splitlines()[0] == "wsss eps-train: --strong is called --strong-masks now"
    assert "which --strong-masks learns from" in done.err
