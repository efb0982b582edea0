"""The settings of the papers in examples/papers: accepted, documented, and run from end to end."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import Run
from wsss_cli import files
from wsss_cli.datasets.toy import make_toy

PAPERS = Path(__file__).parents[1] / "examples" / "papers"
# The tables of each file, in the order in which the paper runs its commands.
CHAINS = {
    "psa": "train-cam make-cam make-aff-labels train-aff random-walk train-seg predict",
    "ae-psl": "train-cam make-cam erase train-seg predict",
    "eps": "eps-train make-cam crf train-seg predict",
    "eps++": "eps-train make-cam crf train-seg predict",
    "irn": "train-cam make-cam make-aff-labels irn-train random-walk train-seg predict",
    "sipe": "sipe-train make-cam make-aff-labels irn-train random-walk train-seg predict",
}


def test_each_paper_has_a_file_and_each_file_a_test() -> None:
    assert {path.stem for path in PAPERS.glob("*.toml")} == set(CHAINS)


@pytest.mark.parametrize("paper", CHAINS)
def test_every_setting_is_accepted_and_says_where_it_stands(paper: str, run: Run) -> None:
    path = PAPERS / f"{paper}.toml"
    tables = tomllib.loads(path.read_text())
    assert list(tables) == CHAINS[paper].split()
    shown = run("--config", path, "config", "--changed", *tables, check=0).out.splitlines()
    names = {line.split(" = ")[0] for line in shown if line.endswith("# file")}
    assert names == {f"{table}.{name}" for table, options in tables.items() for name in options}
    explained = set()
    for line in path.read_text().splitlines():
        setting = re.match(r"(\w+ = \S+)[^#]*(# \S.*)?$", line)
        if setting:  # one without a comment repeats one that has been explained
            assert setting[2] or setting[1] in explained, line
            explained.add(setting[1])


# In place of what takes a GPU; the networks and all other settings are the paper's.
TRAINING = "--steps 2 --batch-size 2 --crop 32 --device cpu --workers 0"
SMALL = {
    **dict.fromkeys(("train-cam", "eps-train", "sipe-train"), f"{TRAINING} --resize 32,48"),
    **dict.fromkeys(("train-aff", "irn-train"), f"{TRAINING} --weights none"),
    "train-seg": TRAINING,
    **dict.fromkeys(("make-cam", "predict"), "--scales 0.5 --device cpu --workers 1"),
    "random-walk": "--device cpu --workers 1",
}
SMALL_AFTER = {  # of the commands that start a network
    name: ["--weights", "none", "--classes", "toy/classes.txt"]
    for name in ("train-cam", "eps-train", "sipe-train", "train-seg")
}


@pytest.fixture
def small(inside: Run) -> Callable[..., list[dict[str, Any]]]:
    """``small("psa", "make-cam", records, "-c", "cam.pt")``: that command as the paper runs it, on
    a CPU; the records that it prints."""

    def call(paper: str, name: str, records: Any, *args: str) -> list[dict[str, Any]]:
        given = [*SMALL.get(name, "").split(), *SMALL_AFTER.get(name, []), "-q", *args]
        settings = PAPERS / f"{paper}.toml"
        return inside("--config", settings, name, *given, input=records, check=0).records

    return call


@pytest.fixture
def photographs(run: Run) -> list[dict[str, Any]]:
    """Records of eight toy photographs with saliency."""
    make_toy("toy", train=8, val=0, seed=0, size=64)
    listed = ("index", "voc", "toy", "--split", "train", "--saliency", "Saliency", "-q")
    return run(*listed, check=0).records


def trained(path: str, backbone: str) -> None:
    """A network on the paper's backbone has been trained for two steps, and diverged in neither."""
    checkpoint = torch.load(path, weights_only=True, mmap=True)  # half a gigabyte: not read
    assert checkpoint["backbone"] == backbone
    assert checkpoint["config"]["training"]["steps"] == 2
    log = Path(path).with_suffix(".log.jsonl").read_text().splitlines()
    assert all(0 < json.loads(line)["loss"] < 10 for line in log)


def masks(records: list[dict[str, Any]], key: str) -> None:
    """Each of the eight records has a label map under the key, of classes that it may have."""
    assert len(records) == 8
    for record in records:
        assert set(np.unique(files.read_label_map(record[key]))) <= {*range(6), 255}


def network(small: Any, paper: str, backbone: str, learnt: list[dict[str, Any]]) -> None:
    """The last stages of every paper: a network learns the masks and predicts some."""
    small(paper, "train-seg", learnt, "-o", "seg.pt")
    trained("seg.pt", backbone)
    masks(small(paper, "predict", learnt, "-c", "seg.pt", "-o", "pred"), "pred")


@pytest.mark.parametrize(
    ("paper", "trainer", "relations", "backbone", "segmenting"),
    [
        ("psa", "train-cam", "train-aff", "resnet38", "resnet38"),
        ("irn", "train-cam", "irn-train", "resnet50-undilated", "resnet50"),
        ("sipe", "sipe-train", "irn-train", "resnet50-undilated", "resnet101"),
    ],
)
def test_maps_walk_to_masks(
    paper: str,
    trainer: str,
    relations: str,
    backbone: str,
    segmenting: str,
    small: Any,
    photographs: Any,
) -> None:
    small(paper, trainer, photographs, "-o", "cam.pt")
    trained("cam.pt", backbone)
    maps = small(paper, "make-cam", photographs, "-c", "cam.pt", "-o", "cam")
    regions = small(paper, "make-aff-labels", maps, "-o", "aff")
    masks(regions, "aff_label")
    start = ("-c", "cam.pt") if relations == "train-aff" else ()
    small(paper, relations, regions, *start, "-o", "aff.pt")
    trained("aff.pt", backbone)
    walked = small(paper, "random-walk", regions, "-c", "aff.pt", "-o", "pseudo")
    masks(walked, "pseudo")
    network(small, paper, segmenting, walked)


@pytest.mark.parametrize("paper", ["eps", "eps++"])
def test_maps_are_cut_to_masks(paper: str, small: Any, photographs: Any) -> None:
    small(paper, "eps-train", photographs, "-o", "eps.pt")
    trained("eps.pt", "resnet38")
    maps = small(paper, "make-cam", photographs, "-c", "eps.pt", "-o", "cam")
    cut = small(paper, "crf", maps, "-o", "crf")
    masks(cut, "pseudo")
    for record in cut:  # no step of the CRF: the foreground is where a map reaches 0.2
        share = (files.read_maps(record["cam"]).cam.max(0) >= 0.2).mean()
        foreground = files.read_label_map(record["pseudo"]) != 0
        assert foreground.mean() == pytest.approx(share, abs=0.1)
    network(small, paper, "resnet101", cut)


def test_mined_regions_are_learnt(small: Any, photographs: Any) -> None:
    small("ae-psl", "train-cam", photographs, "-o", "cam.pt")
    trained("cam.pt", "vgg16-largefov")
    maps = small("ae-psl", "make-cam", photographs, "-c", "cam.pt", "-o", "s1/cam")
    mined = small("ae-psl", "erase", maps, "-o", "s1")
    masks(mined, "mined")
    small("ae-psl", "train-cam", mined, "--image-key", "erased", "-o", "s2.pt")
    trained("s2.pt", "vgg16-largefov")
    again = small(
        "ae-psl", "make-cam", mined, "--image-key", "erased", "-c", "s2.pt", "-o", "s2/cam"
    )
    grown = small("ae-psl", "erase", again, "-o", "s2")
    masks(grown, "pseudo")
    network(small, "ae-psl", "vgg16-largefov", grown)
