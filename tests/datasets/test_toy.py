"""The toy set: the same every time, consistent with itself, and hard in the ways it promises."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss_cli import files
from wsss_cli.datasets.toy import CLASSES, make_scene, make_toy
from wsss_cli.datasets.toy.animals import BODY, HEAD, make_animal
from wsss_cli.datasets.voc import object_names
from wsss_cli.errors import ConfigurationError


def digests(root: Path) -> dict[str, str]:
    """SHA-256 of each file below ``root``."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_layout(toy_root: Path) -> None:
    assert sorted(path.name for path in toy_root.iterdir()) == [
        "Annotations",
        "ImageSets",
        "JPEGImages",
        "Saliency",
        "SegmentationClass",
        "classes.txt",
        "toy.json",
    ]
    lists = toy_root / "ImageSets" / "Segmentation"
    train = (lists / "train.txt").read_text().split()
    assert train == [f"train_{n:05d}" for n in range(24)]
    assert (lists / "val.txt").read_text().split() == [f"val_{n:05d}" for n in range(8)]
    assert tuple((toy_root / "classes.txt").read_text().split()) == CLASSES
    for folder, suffix in (
        ("JPEGImages", "jpg"),
        ("Annotations", "xml"),
        ("SegmentationClass", "png"),
        ("Saliency", "png"),
    ):
        assert len(list((toy_root / folder).glob(f"*.{suffix}"))) == 32


def test_files_agree_with_one_another(toy_root: Path) -> None:
    for path in sorted((toy_root / "JPEGImages").iterdir()):
        name = path.stem
        size = files.image_size(path)
        assert max(size) in (140, 160)
        mask = files.read_label_map(toy_root / "SegmentationClass" / f"{name}.png", size)
        assert Image.open(toy_root / "Saliency" / f"{name}.png").mode == "L"
        assert files.read_grey(toy_root / "Saliency" / f"{name}.png").shape == size
        objects = object_names((toy_root / "Annotations" / f"{name}.xml").read_bytes())
        assert objects
        numbers = set(np.unique(mask)) - {0, 255}
        assert numbers == {CLASSES.index(label) + 1 for label, _ in objects}


def test_two_classes_never_touch_without_a_border() -> None:
    for index in range(40):
        mask = make_scene(3, "train", index, 160).mask.astype(int)
        for a, b in ((mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])):
            assert not ((a != b) & (a != 255) & (b != 255)).any()
        assert 0.01 < (mask == 255).mean() < 0.12


def test_objects_lie_in_their_boxes() -> None:
    for index in range(20):
        scene = make_scene(5, "val", index, 160)
        seen = np.zeros_like(scene.mask, bool)
        for _, (left, top, right, bottom) in scene.objects:
            assert 0 <= left < right <= scene.mask.shape[1]
            assert 0 <= top < bottom <= scene.mask.shape[0]
            seen[top:bottom, left:right] = True
        assert not ((scene.mask > 0) & (scene.mask < 255) & ~seen).any()


def test_same_parameters_same_bytes_whatever_the_count(tmp_path: Path) -> None:
    make_toy(tmp_path / "few", train=3, val=2, seed=1, size=96)
    make_toy(tmp_path / "many", train=5, val=2, seed=1, size=96)
    make_toy(tmp_path / "again", train=3, val=2, seed=1, size=96)
    make_toy(tmp_path / "other", train=3, val=2, seed=2, size=96)
    few, many = digests(tmp_path / "few"), digests(tmp_path / "many")
    assert few == digests(tmp_path / "again")
    pictures = [name for name in few if "/" in name and "ImageSets" not in name]
    assert len(pictures) == 20
    assert {name: many[name] for name in pictures} == {name: few[name] for name in pictures}
    other = digests(tmp_path / "other")
    assert not any(other[name] == few[name] for name in pictures if "JPEG" in name)
    assert few["JPEGImages/train_00000.jpg"] != few["JPEGImages/val_00000.jpg"]


def test_only_the_head_tells_the_animals_apart() -> None:
    coats: dict[str, set[object]] = {name: set() for name in CLASSES}
    for seed in range(60):
        bodies, heads = [], []
        for name in CLASSES:
            pieces = make_animal(np.random.default_rng(seed), name)
            bodies.append([p.points.tolist() for p in pieces if p.part != HEAD])
            heads.append([p.points.tolist() for p in pieces if p.part == HEAD])
            coat = next(p.colour for p in pieces if p.part == BODY)
            coats[name].add(tuple(round(c / coat[0], 2) for c in coat))
        assert all(body == bodies[0] for body in bodies)
        assert all(a != b for n, a in enumerate(heads) for b in heads[:n])
    assert len(set.intersection(*coats.values())) >= 5  # any animal may have any coat


def test_pictures_are_varied() -> None:
    scenes = [make_scene(0, "train", index, 160) for index in range(80)]
    counts = [len({name for name, _ in scene.objects}) for scene in scenes]
    assert {1, 2, 3} == set(counts)
    assert {name for scene in scenes for name, _ in scene.objects} == set(CLASSES)
    shares = [((s.mask > 0) & (s.mask < 255)).mean() for s in scenes]
    assert min(shares) < 0.1
    assert max(shares) > 0.3
    assert len({scene.image.shape for scene in scenes}) == 3


def test_saliency_is_good_on_the_whole_and_has_each_fault() -> None:
    missed_class = missed_part = background = 0
    overlaps = []
    for index in range(150):
        scene = make_scene(0, "train", index, 160)
        animals, salient = (scene.mask > 0) & (scene.mask < 255), scene.saliency > 127
        overlaps.append((animals & salient).sum() / max((animals | salient).sum(), 1))
        shares = {
            number: (scene.saliency[scene.mask == number] > 127).mean()
            for number in np.unique(scene.mask[animals])
        }
        missed_class += any(share < 0.05 for share in shares.values())
        missed_part += any(0.3 < share < 0.9 for share in shares.values())
        background += (salient & (scene.mask == 0)).sum() > 100
        soft = (scene.saliency > 60) & (scene.saliency < 160)
        assert soft.sum() > 20 or not salient.any()
    assert 0.65 < np.median(overlaps) < 0.95
    assert min(missed_class, missed_part, background) >= 5


def test_what_was_interrupted_is_completed(tmp_path: Path) -> None:
    options = {"train": 6, "val": 2, "seed": 4, "size": 64}
    make_toy(tmp_path / "whole", **options)
    seen: list[int] = []

    def stop() -> None:
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt

    root = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        make_toy(root, on_image=stop, **options)
    assert not list((root / "ImageSets" / "Segmentation").iterdir())
    (root / "Annotations" / "train_00001.xml").unlink()
    assert make_toy(root, **options) == 6  # three were there, one of them not whole
    assert digests(root) == digests(tmp_path / "whole")
    assert make_toy(root, **options) == 0


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError) as caught:
        make_toy(tmp_path, train=1, val=1)
    assert str(caught.value) == f"{tmp_path}: the folder is not empty; name a new one"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

    root = tmp_path / "toy"
    make_toy(root, train=1, val=0, seed=3, size=64)
    before = digests(root)
    with pytest.raises(ConfigurationError) as caught:
        make_toy(root, train=1, val=2, seed=4, size=64)
    assert str(caught.value) == (
        f"{root}: holds a toy set made otherwise (val 0, seed 3); name a new folder"
    )
    (root / "toy.json").write_text(json.dumps([]))
    with pytest.raises(ConfigurationError, match="made otherwise"):
        make_toy(root, train=1, val=0, seed=3, size=64)
    (root / "toy.json").write_text("{")
    with pytest.raises(ConfigurationError, match="not a folder that a toy set can be in"):
        make_toy(root, train=1, val=0, seed=3, size=64)
    (root / "toy.json").unlink()
    assert digests(root) == {k: v for k, v in before.items() if k != "toy.json"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": -1}, "train -1: must be at least 0"),
        ({"seed": -1}, "seed -1: must be at least 0"),
        ({"size": 63}, "size 63: must be at least 64"),
    ],
)
def test_parameters_out_of_range(tmp_path: Path, changed: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_toy(tmp_path / "toy", **{"train": 1, "val": 1, **changed})
    assert str(caught.value) == message
    assert not (tmp_path / "toy").exists()


@pytest.mark.parametrize("size", [64, 333])
def test_other_sizes(size: int) -> None:
    for index in range(6):
        scene = make_scene(0, "train", index, size)
        assert max(scene.image.shape) in (size, size * 7 // 8)
        assert scene.mask.shape == scene.saliency.shape == scene.image.shape[:2]
