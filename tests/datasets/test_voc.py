"""VOC's layout: lists of all kinds, annotations, masks, saliency maps, and their faults."""

from __future__ import annotations

import itertools
import os
import threading
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss_cli import files
from wsss_cli.classes import VOC
from wsss_cli.datasets.voc import object_names, voc_records
from wsss_cli.errors import ConfigurationError


def add(
    root: Path,
    name: str,
    objects: Iterable[str] | None = None,
    mask: np.ndarray | None = None,
    *,
    image: str = "JPEGImages/{}.jpg",
    masks: str = "SegmentationClass",
    saliency: bool = False,
) -> None:
    """Add a picture to a data set in VOC's layout."""
    path = root / image.format(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4)).save(path)
    if objects is not None:
        inner = "".join(f"<object><name>{label}</name></object>" for label in objects)
        path = root / "Annotations" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"<annotation>{inner}</annotation>", encoding="utf-8")
    if mask is not None:
        files.write_label_map(root / masks / f"{name}.png", mask.astype(np.uint8))
    if saliency:
        path = root / "Saliency" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (6, 4)).save(path)


def add_list(root: Path, text: str, name: str = "train", kind: str = "Segmentation") -> Path:
    path = root / "ImageSets" / kind / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("voc")


def read(root: Path, split: str = "train", **options: Any) -> tuple[list[Any], list[str]]:
    """Records and errors."""
    errors: list[str] = []
    return list(voc_records(root, split, errors.append, **options)), errors


def test_a_whole_record(root: Path) -> None:
    add(root, "2007_000032", ["dog", "cat", "dog"], np.zeros((4, 6)), saliency=True)
    add(root, "2007_000039", [])
    add_list(root, "2007_000032\n2007_000039\n")
    records, errors = read(root, saliency="Saliency")
    assert errors == []
    assert records == [
        {
            "id": "2007_000032",
            "image": "voc/JPEGImages/2007_000032.jpg",
            "labels": ["dog", "cat"],
            "mask": "voc/SegmentationClass/2007_000032.png",
            "saliency": "voc/Saliency/2007_000032.png",
        },
        {"id": "2007_000039", "image": "voc/JPEGImages/2007_000039.jpg", "labels": []},
    ]
    assert list(records[0]) == ["id", "image", "labels", "mask", "saliency"]


def test_paths_begin_with_the_root_as_given(root: Path) -> None:
    add(root, "a")
    add_list(root, "a")
    assert read(root.resolve())[0][0]["image"] == str(root.resolve() / "JPEGImages/a.jpg")
    assert read(Path("./voc/"))[0][0]["image"] == "voc/JPEGImages/a.jpg"


def test_names_with_spaces_letters_and_folders(root: Path) -> None:
    names = ["my photo 1", "Größe", "sub/犬 0", "2007_000032"]
    for name in names:
        add(root, name, ["cat"], np.zeros((4, 6)))
    add_list(root, "\ufeff" + "\r\n".join(["", *names, "  ", ""]))
    records, errors = read(root)
    assert [record["id"] for record in records] == names
    assert all(os.path.isfile(record["image"]) and "mask" in record for record in records)
    assert errors == []


def test_other_suffixes(root: Path) -> None:
    for name, suffix in (("a", ".png"), ("b", ".JPG"), ("c", ".jpeg")):
        add(root, name, image="JPEGImages/{}" + suffix)
    add_list(root, "a\nb\nc")
    assert [Path(record["image"]).name for record in read(root)[0]] == ["a.png", "b.JPG", "c.jpeg"]


def test_lists_with_flags(root: Path) -> None:
    for name in "abc":
        add(root, name, [])
    add_list(root, "a  1\nb -1\nc  0\n", "cat_train", kind="Main")
    assert [record["id"] for record in read(root, "cat_train")[0]] == ["a", "c"]


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_list_is_refused(root: Path, text: str) -> None:
    add(root, "a")
    path = add_list(root, text)
    with pytest.raises(ConfigurationError) as caught:
        read(root)
    assert str(caught.value) == f"{path}: an empty list: it names no images"


def test_segmentation_lists_come_first(root: Path) -> None:
    add(root, "a")
    add(root, "b")
    add_list(root, "a", kind="Segmentation")
    add_list(root, "b", kind="Main")
    assert [record["id"] for record in read(root)[0]] == ["a"]


def test_a_mask_that_a_list_names_must_be_there(root: Path) -> None:
    add(root, "a", ["cat"], np.zeros((4, 6)))
    add(root, "b", ["cat"], np.zeros((4, 6)))
    path = add_list(root, "/JPEGImages/a.jpg /SegmentationClass/nope.png\nJPEGImages/b.jpg\n")
    records, errors = read(root, str(path))
    assert [record["id"] for record in records] == ["b"]
    assert len(errors) == 1
    assert "no such mask: voc/SegmentationClass/nope.png" in errors[0]


def test_lists_of_paths(root: Path) -> None:
    add(root, "a", ["cat"], np.zeros((4, 6)), masks="SegmentationClassAug")
    add(root, "b", ["cat"], image="other/{}.jpg")
    add(root, "other/b", ["dog"])
    add(root, "c", ["cat"], np.zeros((4, 6)))
    path = add_list(root, "/JPEGImages/a.jpg /SegmentationClassAug/a.png\nother/b.jpg\nc.jpg\n")
    records, errors = read(root, str(path))
    assert errors == []
    assert [(r["id"], r["image"], r.get("mask")) for r in records] == [
        ("a", "voc/JPEGImages/a.jpg", "voc/SegmentationClassAug/a.png"),
        ("other/b", "voc/other/b.jpg", None),
        ("c", "voc/JPEGImages/c.jpg", "voc/SegmentationClass/c.png"),
    ]


def test_augmented_masks_come_first(root: Path) -> None:
    add(root, "a", [], np.zeros((4, 6)), masks="SegmentationClassAug")
    add(root, "a", [], np.zeros((4, 6)))
    add(root, "b", [], np.zeros((4, 6)))
    add_list(root, "a\nb")
    masks = [record["mask"] for record in read(root)[0]]
    assert masks == ["voc/SegmentationClassAug/a.png", "voc/SegmentationClass/b.png"]


# ---- labels --------------------------------------------------------------------------------------


def test_without_annotations_there_are_no_labels(root: Path) -> None:
    add(root, "a", mask=np.full((4, 6), 8))
    add_list(root, "a")
    assert "labels" not in read(root)[0][0]
    (root / "Annotations").mkdir()
    assert read(root) == (
        [],
        [
            "a: no annotation: voc/Annotations/a.xml (--labels-from masks or none does without)",
        ],
    )
    assert "labels" not in read(root, labels_from="none")[0][0]


def test_labels_from_masks(root: Path) -> None:
    mask = np.zeros((4, 6))
    mask[0, :4] = 255, 15, 8, 8
    add(root, "a", ["sheep"], mask)
    add(root, "b", ["sheep"], np.full((4, 6), 255))
    add(root, "c", ["sheep"])
    add(root, "d", ["sheep"], np.full((4, 6), 21))
    (root / "SegmentationClass/e.png").write_bytes(b"")
    add(root, "e")
    add_list(root, "a\nb\nc\nd\ne")
    records, errors = read(root, labels_from="masks")
    assert [(record["id"], record["labels"]) for record in records] == [
        ("a", ["cat", "person"]),
        ("b", []),
    ]
    assert errors == [
        "c: no mask to take the labels from",
        "d: voc/SegmentationClass/d.png: class number 21, but the list has 20 names",
        "e: cannot read label map: voc/SegmentationClass/e.png: empty file",
    ]
    own = tuple(f"class {number}" for number in range(1, 22))
    assert read(root, labels_from="masks", classes=own)[0][2]["labels"] == ["class 21"]
    assert VOC[7] == "cat"


def test_difficult_objects_count_unless_told_otherwise(root: Path) -> None:
    add(root, "a", [])
    (root / "Annotations/a.xml").write_text(
        "<annotation><object><name>dog</name><difficult>1</difficult></object>"
        "<object><name>cat</name><difficult>0</difficult></object></annotation>"
    )
    add_list(root, "a")
    assert read(root)[0][0]["labels"] == ["dog", "cat"]
    assert read(root, difficult=False)[0][0]["labels"] == ["cat"]


@pytest.mark.parametrize(
    ("xml", "objects"),
    [
        (b"<annotation/>", []),
        (b"<a><object><name> cat\n</name></object></a>", [("cat", False)]),
        (
            b"<a><object><name>person</name><part><name>head</name></part>"
            b"<difficult>1</difficult></object><name>no</name></a>",
            [("person", True)],
        ),
        ("<?xml version='1.0'?><a><object><name>é</name></object></a>".encode(), [("é", False)]),
        (
            b"<?xml version='1.0' encoding='ISO-8859-1'?><a><object><name>\xe9</name></object></a>",
            [("é", False)],
        ),
        (b"<a><object><name>a&amp;b</name></object></a>", [("a&b", False)]),
    ],
)
def test_object_names(xml: bytes, objects: list[tuple[str, bool]]) -> None:
    assert object_names(xml) == objects


LAUGHS = (
    b'<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "'
    + b"&x;" * 99
    + b'">]><a><object><name>&y;</name></object></a>'
)


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (b"", "no element found: line 1, column 0"),
        (b"<a><object>", "no element found: line 1, column 11"),
        (b"\xff\xd8\xff", "not well-formed (invalid token): line 1, column 0"),
        (b"<a><object></object></a>", "an object has no name"),
        (LAUGHS, "a document type declaration; refused"),
        (LAUGHS.decode().encode("utf-16"), "a document type declaration; refused"),
    ],
)
def test_bad_annotations(root: Path, xml: bytes, message: str) -> None:
    add(root, "a", [])
    add(root, "b", ["cat"])
    (root / "Annotations/a.xml").write_bytes(xml)
    add_list(root, "a\nb")
    records, errors = read(root)
    assert [record["id"] for record in records] == ["b"]
    assert errors == [f"a: cannot read annotation: voc/Annotations/a.xml: {message}"]


# ---- what is wrong -------------------------------------------------------------------------------


def test_bad_lines_are_named_and_the_rest_goes_on(root: Path) -> None:
    add(root, "a", [])
    (root / "JPEGImages/\udcff.jpg").write_bytes(b"")
    path = add_list(root, "")
    path.write_bytes(b"missing\n../a\n/etc/x\n\xff\n/etc/passwd.jpg\nb 1\na\n")
    records, errors = read(root)
    assert [record["id"] for record in records] == ["a"]
    assert errors == [
        "missing: no such image: voc/JPEGImages/missing.jpg",
        "../a: unsafe id \"../a\": no empty part, '.' or '..' allowed",
        '/etc/x: unsafe id "/etc/x": it must be a relative name',
        '\udcff: unsafe id "\udcff": control or broken characters',
        "/etc/passwd.jpg: no such image: voc/etc/passwd.jpg",
        "b 1: no such image: voc/JPEGImages/b.jpg",
    ]


def test_what_is_not_there(root: Path) -> None:
    add(root / "VOC2012", "a")
    with pytest.raises(ConfigurationError) as caught:
        read(root)
    assert str(caught.value) == "voc: no folder JPEGImages in it; did you mean voc/VOC2012?"
    with pytest.raises(ConfigurationError) as caught:
        read(root / "VOC2012" / "JPEGImages")
    assert str(caught.value) == (
        "voc/VOC2012/JPEGImages: no folder JPEGImages in it; 'wsss index folder' takes any folder"
    )
    root = root / "VOC2012"
    with pytest.raises(ConfigurationError) as caught:
        read(root)
    assert str(caught.value) == (
        "no split 'train' in voc/VOC2012/ImageSets/Segmentation; "
        "it can also be the path of a list of ids"
    )
    add_list(root, "a", "val")
    add_list(root, "a", "trainval")
    with pytest.raises(ConfigurationError) as caught:
        read(root)
    assert str(caught.value) == (
        "no split 'train' in voc/VOC2012/ImageSets/Segmentation; there are trainval, val"
    )
    with pytest.raises(ConfigurationError) as caught:
        read(root, "val", saliency="sal")
    assert str(caught.value) == "--saliency sal: no such folder, neither here nor in voc/VOC2012"


def test_saliency_folders_here_or_in_the_root(root: Path) -> None:
    add(root, "a", saliency=True)
    add(root, "b")
    add_list(root, "a\nb")
    given = ["Saliency", "voc/Saliency", str((root / "Saliency").resolve())]
    results = [read(root, saliency=folder)[0] for folder in given]
    assert [records[0]["saliency"] for records in results] == [
        "voc/Saliency/a.png",
        "voc/Saliency/a.png",
        f"{given[2]}/a.png",
    ]
    assert "saliency" not in results[0][1]


# ---- streams -------------------------------------------------------------------------------------


def test_a_record_comes_before_the_next_line_is_read(root: Path) -> None:
    add(root, "a", [])
    reading, writing = os.pipe()
    records = voc_records(root, f"/dev/fd/{reading}", pytest.fail)
    first: list[Any] = []
    reader = threading.Thread(target=lambda: first.append(next(records)))
    reader.start()
    os.write(writing, b"a\n")
    reader.join(10)
    assert [record["id"] for record in first] == ["a"]
    os.close(writing)
    assert list(records) == []
    os.close(reading)


def test_an_annotation_that_never_ends_fails_alone(root: Path) -> None:
    for name in ("a", "b", "c"):
        add(root, name, ["cat"])
    add_list(root, "a\nb\nc\n")
    for name in ("a", "b"):
        (root / f"Annotations/{name}.xml").unlink()
    os.mkfifo(root / "Annotations/a.xml")
    (root / "Annotations/b.xml").touch()
    os.truncate(root / "Annotations/b.xml", 1 << 40)
    problems: list[str] = []
    assert [record["id"] for record in voc_records(root, "train", problems.append)] == ["c"]
    assert "a.xml: not a regular file, but a folder, a pipe or a device" in problems[0]
    assert "b.xml: 1,099,511,627,776 bytes" in problems[1]


def test_memory_does_not_grow_with_the_list(root: Path) -> None:
    add(root, "a", ["cat"], np.zeros((4, 6)))

    def peak(count: int) -> int:
        add_list(root, "a\n" * count)
        tracemalloc.start()
        for _ in itertools.islice(voc_records(root, "train", pytest.fail), count):
            pass
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(100)
    assert peak(4000) < peak(1000) + 20_000


def test_what_other_tools_make_of_voc_is_told_its_way(root: Path) -> None:
    """labelme2voc makes no lists, CVAT's "Segmentation mask 1.1" no photographs."""
    add(root, "a")
    (root / "SegmentationClass").mkdir(exist_ok=True)
    with pytest.raises(ConfigurationError) as caught:
        read(root)
    assert str(caught.value) == (
        f"no split 'train' in {root}/ImageSets/Segmentation; it can also be the path of a list of "
        f"ids, or 'wsss index folder {root}/JPEGImages --masks {root}/SegmentationClass "
        "--unlabelled' needs none"
    )
    (root / "JPEGImages").rename(root / "elsewhere")
    (root / "labelmap.txt").write_text("background:0,0,0::\n")
    with pytest.raises(ConfigurationError) as caught:
        read(root)
    assert str(caught.value) == (
        f"{root}: no folder JPEGImages in it; of an export of CVAT: 'wsss index folder PHOTOS "
        f"--masks {root}/SegmentationClass --unlabelled | wsss relabel --values "
        f"{root}/labelmap.txt'"
    )
