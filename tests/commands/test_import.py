"""wsss import: from a published file to masks, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import Evil, Result, Run
from tests.models.test_published import names_and_shapes, weight
from wsss_cli import files
from wsss_cli.classes import VOC
from wsss_cli.cli import cli

Records = list[dict[str, Any]]


def tensors(form: str) -> dict[str, Tensor]:
    return {name: weight(name, shape) for name, shape in names_and_shapes(form).items()}


@pytest.fixture(scope="module")
def irn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as irn publishes its classifier."""
    path = tmp_path_factory.mktemp("published") / "res50_cam.pth"
    torch.save(tensors("irn"), path)
    return path


def labelled(photographs: Records) -> Records:
    return [
        {**record, "labels": ["cat", "dog"][: number + 1]}
        for number, record in enumerate(photographs[:2])
    ]


@pytest.fixture
def importing(workdir: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """``importing("a.pth", "-o", "cam.pt")``: the command in this process."""

    def call(*args: str | Path, check: int) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli(["import", *map(str, args)], prog_name="wsss", auto_envvar_prefix="WSSS")
        said = capfd.readouterr()
        assert ended.value.code == check, said.err
        return Result(check, said.out, said.err)

    return call


def test_published_files_make_masks(run: Run, irn: Path, photographs: Records) -> None:
    """irn's classifier, and psa's AffinityNet on VGG-16, whose images are normalised otherwise."""
    torch.save(tensors("psa-vgg-affinity"), "vgg16_aff.pth")
    made = run("import", irn, "-o", "cam.pt", check=0)
    assert made.out == ""
    assert made.err == (
        "wsss import: cam.pt: kind cam, backbone resnet50-undilated, 20 classes (voc), from irn\n"
    )
    told = run("import", "vgg16_aff.pth", "-o", "aff.pt", check=0).err
    assert "aff.pt: kind affinity, backbone vgg16-psa-aff, 20 classes (voc), from psa" in told
    given = labelled(photographs)
    maps = run("make-cam", "-c", "cam.pt", "--scales", "1", input=given, check=0)
    walked = run("random-walk", "-c", "aff.pt", input=maps.out, check=0)
    for record, source in zip(walked.records, given, strict=True):
        cam = files.read_maps(record["cam"])
        assert cam.classes == tuple(source["labels"])
        assert cam.meta["classes"] == list(VOC)
        labels = files.read_label_map(record["pseudo"])
        assert labels.shape == files.image_size(source["image"])
        assert set(labels.flatten()) <= {0, *(VOC.index(name) + 1 for name in source["labels"])}


def test_the_checkpoint_says_where_it_is_from(run: Run, irn: Path) -> None:
    run("import", irn, "-o", "cam.pt", "--backbone", "resnet50", "--kind", "cam", check=0)
    made = files.load_checkpoint("cam.pt", "cam")
    assert (made.backbone, made.classes) == ("resnet50", VOC)
    assert made.config["output_stride"] == 16
    origin = made.config["imported"]
    assert (origin["file"], origin["repository"]) == ("res50_cam.pth", "irn")
    assert len(origin["digest"]) == 16


def test_it_is_trained_on(run: Run, irn: Path, photographs: Records) -> None:
    run("import", irn, "-o", "cam.pt", check=0)
    size = ["--crop", "33", "--epochs", "1", "--batch-size", "2", "--workers", "0"]
    for record in photographs:
        files.write_label_map(
            f"{record['id']}.png",
            torch.zeros(files.image_size(record["image"]), dtype=torch.uint8).numpy(),
        )
        record["aff_label"] = f"{record['id']}.png"
    run("train-aff", "-c", "cam.pt", "-o", "aff.pt", *size, input=photographs, check=0)
    assert files.load_checkpoint("aff.pt", "affinity").backbone == "resnet50-undilated"


# ---- what is there -------------------------------------------------------------------------------


def test_only_an_imported_checkpoint_is_replaced(
    importing: Run, irn: Path, networks: dict[str, Path]
) -> None:
    other = networks["cam"].read_bytes()
    for content in (other, other[:1000], b"notes", b""):
        Path("cam.pt").write_bytes(content)
        told = importing(irn, "-o", "cam.pt", check=2)
        assert told.err == (
            "wsss import: cam.pt: exists, and is no checkpoint that was imported; name another "
            "file\n"
        )
        assert Path("cam.pt").read_bytes() == content
    Path("cam.pt").unlink()
    for backbone in ("resnet50", "resnet50-undilated"):
        importing(irn, "-o", "cam.pt", "--backbone", backbone, check=0)
        assert files.load_checkpoint("cam.pt").backbone == backbone


def test_a_checkpoint_from_another_file_is_not_replaced(importing: Run, irn: Path) -> None:
    """Even if that has the same name."""
    importing(irn, "-o", "cam.pt", check=0)
    before = Path("cam.pt").read_bytes()
    Path("other").mkdir()
    other = changed(**{"classifier.weight": torch.zeros(20, 2048, 1, 1)})
    torch.save(other, f"other/{irn.name}")
    told = importing(f"other/{irn.name}", "-o", "cam.pt", check=2).err
    assert told == (
        "wsss import: cam.pt: exists, and was imported from another file, res50_cam.pth; name "
        "another file\n"
    )
    assert Path("cam.pt").read_bytes() == before


def test_the_file_itself_is_not_overwritten(importing: Run, irn: Path) -> None:
    Path("cam.pth").write_bytes(irn.read_bytes())
    told = importing("cam.pth", "-o", "./cam.pth", check=2).err
    assert "would overwrite its own input" in told
    assert Path("cam.pth").read_bytes() == irn.read_bytes()


# ---- what is refused -----------------------------------------------------------------------------


def changed(**change: Any) -> dict[str, Any]:
    return {key: value for key, value in {**tensors("irn"), **change}.items() if value is not None}


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (lambda: {}, [], "no checkpoint of psa, irn, EPS or SIPE"),
        (lambda: {"a": torch.zeros(1)}, [], "it begins with a; they fit no backbone"),
        (lambda: changed(**{"classifier.weight": None}), [], "the nearest backbone is resnet50"),
        (lambda: changed(**{"resnet50.conv1.weight": None}), [], "lacks resnet50.conv1.weight"),
        (lambda: changed(), ["--kind", "sipe"], "lacks side.0.weight|lacks side1.weight"),
        (lambda: changed(), ["--kind", "affinity"], "of kind affinity: no layers on top"),
        (lambda: changed(), ["--backbone", "resnet101"], "lacks layer3.6|lacks resnet50.layer3.6"),
        (lambda: changed(), ["--backbone", "resnet5"], "no backbone 'resnet5'; there are"),
        (lambda: changed(), ["--classes", "coco"], "20 maps, so 20 classes .*; the class list has"),
        (lambda: {"net": Evil()}, [], "refused, it holds more than tensors"),
        (lambda: [torch.zeros(1)], [], "not a dict of tensors"),
    ],
)
def test_what_is_no_published_checkpoint_is_refused_in_one_line(
    importing: Run, content: Callable[[], Any], options: list[str], said: str
) -> None:
    torch.save(content(), "net.pth")
    told = importing("net.pth", "-o", "out/cam.pt", *options, check=2)
    assert told.err.count("\n") == 1
    assert told.err.startswith("wsss import: ")
    assert re.search(said, told.err)
    assert told.out == ""
    assert not list(Path("out").glob("*"))
    assert not Path("evil-ran").exists()


def test_a_file_cut_short_is_refused_in_one_line(importing: Run, irn: Path) -> None:
    whole = irn.read_bytes()
    for length in (0, 3, 1000, len(whole) // 2, len(whole) - 1):
        Path("net.pth").write_bytes(whole[:length])
        told = importing("net.pth", "-o", "cam.pt", check=2)
        assert told.err.count("\n") == 1
        assert "cannot read checkpoint: net.pth: " in told.err
        assert not Path("cam.pt").exists()


def test_a_checkpoint_of_ours_needs_no_import(importing: Run, networks: dict[str, Path]) -> None:
    told = importing(networks["cam"], "-o", "cam.pt", check=2)
    assert "a checkpoint of wsss already; use it as it is" in told.err
    assert not Path("cam.pt").exists()
