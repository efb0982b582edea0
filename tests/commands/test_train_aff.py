"""train-aff from confident regions and a CAM checkpoint to an AffinityNet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import Run
from wsss_cli import files
from wsss_cli.classes import VOC
from wsss_cli.models.networks import build_network, restored

Records = list[dict[str, Any]]

SMALL = ("-c", "cam.pt", "--crop", "64", "--batch-size", "2", "--epochs", "2", "--device", "cpu")


@pytest.fixture
def regions(photographs: Records) -> Records:
    """Photographs with confident regions, and a CAM checkpoint."""
    torch.manual_seed(0)
    network = build_network("cam", "efficientnet-lite0", VOC, {"output_stride": 16})
    files.save_checkpoint(
        "cam.pt",
        kind="cam",
        backbone="efficientnet-lite0",
        classes=VOC,
        config={"output_stride": 16, "training": {}},
        state_dict=network.state_dict(),
    )
    for number, record in enumerate(photographs):
        labels = np.zeros(files.image_size(record["image"]), np.uint8)
        labels[10:30, 10:30] = 8
        labels[:, 40:44] = 255
        record["aff_label"] = f"aff {number}.png"
        files.write_label_map(record["aff_label"], labels)
    return photographs


def test_it_starts_from_the_backbone_of_the_cam_and_learns(inside: Run, regions: Records) -> None:
    done = inside("train-aff", *SMALL, input=regions, check=0)
    assert done.out == ""
    start, end = files.load_checkpoint("cam.pt"), files.load_checkpoint("aff.pt", "affinity")
    assert end.classes == VOC
    assert end.config["output_stride"] == 16
    assert end.config["training"]["checkpoint"] == start.digest
    key = "backbone._conv_stem.weight"
    change = (end.state_dict[key] - start.state_dict[key]).norm() / start.state_dict[key].norm()
    assert 0 < change < 0.2
    lines = [json.loads(line) for line in Path("aff.log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["loss"]) for line in lines)


@pytest.mark.parametrize("weights", ["w.pth", "none"])
def test_it_starts_from_other_weights(inside: Run, regions: Records, weights: str) -> None:
    """With a rate too small to change anything: what is stored is the start."""
    torch.manual_seed(1)
    other = build_network("cam", "efficientnet-lite0", VOC, {}).backbone.state_dict()
    torch.save(other, "w.pth")
    slow = ("--steps", "1", "--lr", "1e-12", "--freeze-bn", "--seed", "5", "--weights", weights)
    inside("train-aff", "-c", "cam.pt", *SMALL[2:6], *slow, input=regions, check=0)
    end = files.load_checkpoint("aff.pt", "affinity")
    assert end.config["training"]["weights"] == weights
    key = "_conv_stem.weight"
    kept = end.state_dict[f"backbone.{key}"]
    classifiers = files.load_checkpoint("cam.pt").state_dict[f"backbone.{key}"]
    assert torch.allclose(kept, other[key]) == (weights == "w.pth")
    assert not torch.allclose(kept, classifiers)


def test_weights_that_do_not_fit_are_refused_before_any_work(inside: Run, regions: Records) -> None:
    torch.save({"a": torch.zeros(1)}, "w.pth")
    told = inside("train-aff", *SMALL, "--weights", "w.pth", input=regions, check=2).err
    assert told.startswith("wsss train-aff: w.pth: not weights of efficientnet-lite0: ")
    assert told.count("\n") == 1
    assert not Path("aff.pt").exists()


def test_the_colours_are_those_of_the_weights(inside: Run, regions: Records) -> None:
    """Caffe's, of weights under its names, though the classifier's images are not; and back."""
    colours = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
    data = torch.load("cam.pt", weights_only=True)
    data["config"] |= colours
    torch.save(data, "cam.pt")
    few = ("--steps", "1", "--lr", "1e-6")
    inside("train-aff", "-c", "cam.pt", *SMALL[2:6], *few, input=regions, check=0)
    config = files.load_checkpoint("aff.pt").config
    assert {name: config[name] for name in colours} == colours
    inside(
        "train-aff",
        "-c",
        "cam.pt",
        *SMALL[2:6],
        *few,
        "--weights",
        "none",
        "-o",
        "b.pt",
        input=regions,
        check=0,
    )
    assert not colours.keys() & files.load_checkpoint("b.pt").config.keys()


def test_psas_vgg16_becomes_that_of_its_affinitynet(inside: Run, regions: Records) -> None:
    network = build_network("cam", "vgg16-psa", VOC, {})
    files.save_checkpoint(
        "cam.pt",
        kind="cam",
        backbone="vgg16-psa",
        classes=VOC,
        config={"output_stride": 8, "training": {}},
        state_dict=network.state_dict(),
    )
    few = ("--epochs", "1", "--freeze-until", "conv5", "--lr", "1e-6")
    inside("train-aff", *SMALL, *few, input=regions[:2], check=0)
    end = files.load_checkpoint("aff.pt")
    assert (end.backbone, end.config["group_norm"]) == ("vgg16-psa-aff", True)
    restored(end)
    for layer in ("features.28", "fc6"):
        key = f"backbone.{layer}.weight"
        change = (end.state_dict[key] - network.state_dict()[key]).abs().max()
        assert bool(change) == (layer == "fc6")


def test_regions_without_any_pair_teach_nothing(inside: Run, regions: Records) -> None:
    for record in regions:
        size = files.image_size(record["image"])
        files.write_label_map(record["aff_label"], np.full(size, 255, np.uint8))
    result = inside("train-aff", *SMALL, input=regions, check=1)
    assert "there is nothing to learn from: no sample has a known label or a pixel" in result.err
    assert not Path("aff.pt").exists()


def test_a_checkpoint_of_another_kind(inside: Run, regions: Records) -> None:
    inside("train-aff", *SMALL, "--epochs", "1", input=regions, check=0)
    done = inside("train-aff", "-c", "aff.pt", "-o", "b.pt", input=regions)
    assert done.code == 2
    assert done.err == (
        "wsss train-aff: aff.pt: a checkpoint of kind cam or eps or sipe is needed, "
        "this is of kind affinity\n"
    )


def test_records_without_regions(inside: Run, regions: Records) -> None:
    del regions[1]["aff_label"]
    done = inside("train-aff", *SMALL, input=regions)
    assert done.code == 1
    assert done.err == (
        "wsss train-aff: photo 1 é: record has no 'aff_label' (made by make-aff-labels)\n"
        "wsss train-aff: 1 record cannot be used; nothing was trained\n"
    )


def test_a_region_map_of_another_size_or_in_colours(inside: Run, regions: Records) -> None:
    files.write_label_map(regions[0]["aff_label"], np.zeros((9, 9), np.uint8))
    files.write_image(regions[1]["aff_label"], np.zeros((48, 64, 3), np.uint8))
    done = inside("train-aff", *SMALL, input=regions)
    assert done.code == 1
    assert "wsss train-aff: photo 0 é: aff 0.png: label map is 9x9, its image 64x48\n" in done.err
    assert "wsss train-aff: photo 1 é: aff 1.png: a label map holds class numbers" in done.err
    assert done.err.endswith("wsss train-aff: left out 2 records that cannot be read\n")
