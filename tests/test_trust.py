"""Never silently wrong: what a user changes between two runs of the same commands is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from wsss_cli import files

Records = list[dict[str, Any]]

MAKE_CAM = ("make-cam", "-c", "cam.pt", "--scales", "1", "--device", "cpu", "--skip-existing")
WALK = ("random-walk", "-c", "affinity.pt", "--device", "cpu", "--skip-existing")
SMALL = ("--crop", "64", "--batch-size", "2", "--epochs", "1", "--device", "cpu", "--resume")
CHAIN = {
    "random-walk": (*WALK, "-o", "out/walk"),
    "crf": ("crf", "--workers", "0", "--skip-existing", "-o", "out/crf"),
    "pamr": ("crf", "--method", "pamr", "--device", "cpu", "--skip-existing", "-o", "out/crf"),
    "make-aff-labels": ("make-aff-labels", "--workers", "0", "--skip-existing", "-o", "out/aff"),
    "erase": ("erase", "--workers", "0", "--fill", "9,9,9", "--skip-existing", "-o", "out/erase"),
}


def another_photograph(record: dict[str, Any]) -> None:
    """Under the same path, of the same size."""
    with Image.open(record["image"]) as image:
        size = image.size
    Image.effect_noise(size, 90).convert("RGB").save(record["image"])


@pytest.fixture
def plain(ready: Records) -> Records:
    """The records as `index` prints them."""
    return [
        {key: record[key] for key in ("id", "image", "labels", "mask", "saliency")}
        for record in ready
    ]


def test_corrected_labels_make_new_maps(inside: Run, plain: Records) -> None:
    inside(*MAKE_CAM, "-o", "out/cam", input=plain, check=0)
    assert files.read_maps("out/cam/photo 0 é.npz").classes == ("cat",)
    plain[0]["labels"] = ["dog"]
    result = inside(*MAKE_CAM, "-o", "out/cam", input=plain, check=0)
    assert "wsss make-cam: photo 0 é: labels changed; made again\n" in result.err
    assert "1 records in" in result.err
    assert "3 reused" in result.err
    assert files.read_maps("out/cam/photo 0 é.npz").classes == ("dog",)


@pytest.mark.parametrize(
    ("tool", "options"),
    [
        ("make-cam", ("-c", "cam.pt", "--scales", "1")),
        ("predict", ("-c", "segmentation.pt", "--scales", "1")),
        ("saliency", ()),
    ],
)
def test_another_photograph_under_the_same_path_is_seen(
    tool: str, options: tuple[str, ...], inside: Run, plain: Records
) -> None:
    stream = [{key: record[key] for key in ("id", "image", "labels")} for record in plain]
    command = (tool, *options, "--skip-existing", "-o", "out/x")
    first = inside(*command, input=stream, check=0).records
    key = list(first[1])[-1]
    before = Path(first[1][key]).read_bytes()
    another_photograph(stream[1])
    again = inside(*command, input=stream, check=0)
    assert f"wsss {tool}: photo 1 é: image changed; made again\n" in again.err
    assert "3 reused" in again.err
    after = Path(first[1][key]).read_bytes()
    assert after != before
    # The same as in an empty folder.
    fresh = inside(*command[:-1], "out/fresh", input=stream, check=0).records
    assert Path(fresh[1][key]).read_bytes() == after


@pytest.mark.parametrize("name", CHAIN)
def test_maps_made_anew_make_new_masks(name: str, inside: Run, plain: Records) -> None:
    command = CHAIN[name]
    maps = inside(*MAKE_CAM, "-o", "out/cam", input=plain, check=0).records
    inside(*command, input=maps, check=0)
    assert "4 reused" in inside(*command, input=maps, check=0).err
    others = inside(*MAKE_CAM[:4], "0.5", *MAKE_CAM[5:], "-o", "out/cam", input=plain, check=0)
    assert "4 made again (scales changed)" in others.err
    again = inside(*command, input=others.records, check=0)
    # The maps of a photograph without labels are empty at every scale, but not its provenance.
    assert "4 made again (cam changed)" in again.err


def test_maps_of_another_photograph_are_refused(inside: Run, plain: Records) -> None:
    """Two photographs that had the same id in two runs."""
    maps = inside(*MAKE_CAM, "-o", "out/cam", input=plain, check=0).records
    other = {**maps[0], "image": maps[1]["image"]}
    result = inside(*CHAIN["crf"], input=[other, maps[1]], check=1)
    assert (
        f"photo 0 é: {maps[0]['cam']}: made from another photograph than {other['image']}; "
        "make it again\n"
    ) in result.err
    assert [record["id"] for record in result.records] == ["photo 1 é"]


def test_maps_for_other_labels_are_refused(inside: Run, plain: Records) -> None:
    maps = inside(*MAKE_CAM, "-o", "out/cam", input=plain, check=0).records
    maps[0]["labels"] = ["dog"]
    maps[2]["labels"].reverse()
    result = inside(*WALK, "-o", "out/walk", input=maps, check=1)
    assert (
        "photo 0 é: out/cam/photo 0 é.npz: made for the labels cat, but the record's are dog; "
        "make it again\n"
    ) in result.err
    assert len(result.records) == 3
    every = inside(*MAKE_CAM, "--all", "-o", "out/all", input=plain, check=0).records
    every[0]["labels"] = ["dog"]
    inside(*WALK, "-o", "out/walk", input=every[:1], check=0)


@pytest.mark.parametrize(
    ("trainer", "key", "options"),
    [
        ("train-aff", "aff_label", ("-c", "cam.pt")),
        ("irn-train", "aff_label", ("--weights", "none")),
        ("train-seg", "pseudo", ("--weights", "none")),
        ("eps-train", "saliency", ("--weights", "none", "--classes", "classes.txt")),
        ("train-cam", "image", ("--weights", "none", "--classes", "classes.txt")),
        ("sipe-train", "labels", ("--weights", "none", "--classes", "classes.txt")),
    ],
)
def test_a_finished_training_knows_what_it_learnt_from(
    trainer: str, key: str, options: tuple[str, ...], inside: Run, ready: Records
) -> None:
    command = (trainer, *options, *SMALL, "-o", "net.pt")
    inside(*command, input=ready, check=0)
    # Elsewhere, and with other provenance, the same is the same.
    Path("copies").mkdir()
    for record in ready:
        copy = f"copies/{record['id']}.png"
        Path(copy).write_bytes(Path(record["image"]).read_bytes())
        record["image"] = copy
    assert inside(*command, input=ready, check=0).err.endswith("net.pt: finished already\n")
    if key == "image":
        another_photograph(ready[1])
    elif key == "labels":
        ready[1]["labels"] = ["cat", "dog"]
    else:
        with Image.open(ready[1][key]) as image:
            image.load()
            pixels = np.array(image)
        pixels[:5] = 1
        if key == "saliency":
            Image.fromarray(pixels).save(ready[1][key])
        else:
            files.write_label_map(ready[1][key], pixels, {"classes": ["cat", "dog"]})
    result = inside(*command, input=ready, check=2)
    assert result.err == (
        f"wsss {trainer}: net.pt was trained on other {key}: give another --out, or --replace it\n"
    )
    anew = inside(*command, "--replace", input=ready, check=0)
    assert f"net.pt was trained on other {key}; training anew\n" in anew.err
    again = inside(*command, "--replace", input=ready, check=0)
    assert again.err == f"wsss {trainer}: net.pt: finished already\n"


def test_own_weights_are_told_apart_by_their_content(inside: Run, ready: Records) -> None:
    import torch

    command = ("train-cam", "--classes", "classes.txt", "--weights", "cam.pt", *SMALL)
    inside(*command, "-o", "net.pt", input=ready, check=0)
    assert "finished already" in inside(*command, "-o", "net.pt", input=ready, check=0).err
    data = torch.load("cam.pt", weights_only=True)
    data["state_dict"] = {
        key: value + 0.01 if value.is_floating_point() else value
        for key, value in data["state_dict"].items()
    }
    Path("cam.pt").unlink()  # a hard link
    torch.save(data, "cam.pt")
    refused = inside(*command, "-o", "net.pt", input=ready, check=2)
    assert "weights_digest" in refused.err


def test_a_mask_of_another_photograph_is_not_learnt(inside: Run, plain: Records) -> None:
    maps = inside(*MAKE_CAM, "-o", "out/cam", input=plain, check=0).records
    regions = inside(*CHAIN["make-aff-labels"], input=maps, check=0).records
    regions[0]["image"], regions[1]["image"] = regions[1]["image"], regions[0]["image"]
    result = inside("train-aff", "-c", "cam.pt", *SMALL, "-o", "aff.pt", input=regions, check=1)
    assert "photo 0 é: out/aff/photo 0 é.png: made from another photograph than" in result.err
    assert "nothing was trained" in result.err
    assert not Path("aff.pt").exists()


@pytest.mark.parametrize(
    ("trainer", "options"),
    [
        ("train-seg", ("--weights", "none")),
        ("train-aff", ("-c", "cam.pt")),
        ("irn-train", ("--weights", "none")),
        ("train-cam", ("--weights", "none", "--classes", "classes.txt")),
    ],
)
def test_nothing_learnt_is_no_network(
    trainer: str, options: tuple[str, ...], inside: Run, ready: Records
) -> None:
    """Masks that are 255 all over, photographs that cannot be read."""
    for record in ready:
        if trainer == "train-cam":
            Path(record["image"]).write_bytes(b"")
        for key in ("pseudo", "aff_label"):
            with Image.open(record[key]) as image:
                size = image.size
            files.write_label_map(
                record[key], np.full(size[::-1], 255, np.uint8), {"classes": ["cat", "dog"]}
            )
    command = (trainer, *options, *SMALL, "--batch-size", "8", "-o", "net.pt")
    for _ in range(2):
        result = inside(*command, input=ready, check=1)
        assert "there is nothing to learn from: no " in result.err
        assert "no checkpoint was written" in result.err
        assert not Path("net.pt").exists()
        assert not Path("net.resume.pt").exists()


def test_a_finished_run_keeps_its_exit_code(inside: Run, ready: Records) -> None:
    Path(ready[1]["image"]).write_bytes(b"no picture")
    command = ("train-cam", "--weights", "none", "--classes", "classes.txt", *SMALL, "-o", "net.pt")
    first = inside(*command, input=ready, check=1)
    assert "left out 1 record that cannot be read" in first.err
    again = inside(*command, input=ready, check=1)
    assert "net.pt: finished already\n" in again.err
    assert "left out 1 record that cannot be read" in again.err
