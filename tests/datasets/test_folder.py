"""Any folder: sub-folders as labels, tables of all kinds, odd names, and what is wrong in them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss_cli.datasets.folder import folder_records
from wsss_cli.datasets.meanings import load_meanings
from wsss_cli.errors import ConfigurationError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    return Path("photos")


def add(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2)).save(root / name)


def read(root: Path, **options: Any) -> tuple[list[Any], list[str]]:
    """Records and errors."""
    errors: list[str] = []
    return list(folder_records(root, errors.append, **options)), errors


def labels(root: Path, table: str | bytes, **options: Any) -> dict[str, Any]:
    """Labels by id, from a table; without errors."""
    path = root / "labels.csv"
    path.write_bytes(table if isinstance(table, bytes) else table.encode())
    records, errors = read(root, table="labels.csv", **options)
    assert errors == []
    return {record["id"]: record.get("labels") for record in records}


# ---- sub-folders ---------------------------------------------------------------------------------


def test_sub_folders_are_labels(root: Path) -> None:
    add(root, "dog/b.jpg", "cat/a 1.jpg", "cat/old/é.PNG", "traffic light/x.webp")
    (root / "cat/notes.txt").write_text("")
    records, errors = read(root)
    assert errors == []
    assert records == [
        {"id": "cat/a 1", "image": "photos/cat/a 1.jpg", "labels": ["cat"]},
        {"id": "cat/old/é", "image": "photos/cat/old/é.PNG", "labels": ["cat"]},
        {"id": "dog/b", "image": "photos/dog/b.jpg", "labels": ["dog"]},
        {
            "id": "traffic light/x",
            "image": "photos/traffic light/x.webp",
            "labels": ["traffic light"],
        },
    ]


def test_a_label_of_hugging_face_may_have_spaces(root: Path) -> None:
    add(root, "a.jpg")
    assert labels(root, "file_name,label\na.jpg,traffic light\n") == {"a": ["traffic light"]}


def test_splits_that_are_taken_for_labels_are_told(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(root, "train/cat/a.jpg", "test/cat/b.jpg")
    assert {record["labels"][0] for record in read(root)[0]} == {"train", "test"}
    assert "the sub-folders test, train are taken for labels" in capsys.readouterr().err


def test_a_table_that_is_not_read_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(root, "a.jpg")
    (root / "metadata.csv").write_text("file_name,label\na.jpg,cat\n")
    with pytest.raises(ConfigurationError, match=r"or name --csv metadata\.csv"):
        read(root)
    add(root, "cat/a.jpg")
    (root / "a.jpg").unlink()
    assert [record["labels"] for record in read(root)[0]] == [["cat"]]
    assert "metadata.csv is not read: labels are the sub-folders' names" in capsys.readouterr().err


def test_unlabelled(root: Path) -> None:
    add(root, "b.jpg", "a.jpg", "sub/c.jpg")
    records, errors = read(root, unlabelled=True)
    assert errors == []
    assert records == [
        {"id": "a", "image": "photos/a.jpg"},
        {"id": "b", "image": "photos/b.jpg"},
        {"id": "sub/c", "image": "photos/sub/c.jpg"},
    ]


def test_hidden_files_are_passed_over(root: Path) -> None:
    add(root, "cat/a.jpg", "cat/._a.jpg", ".thumbnails/a.jpg")
    assert [record["id"] for record in read(root)[0]] == ["cat/a"]


def test_photographs_without_a_label_are_named(root: Path) -> None:
    add(root, "loose.jpg", "cat/a.jpg")
    records, errors = read(root)
    assert [record["id"] for record in records] == ["cat/a"]
    assert errors == ["loose.jpg: lies in no sub-folder, so it has no label"]


def test_ids_are_unique(root: Path) -> None:
    add(root, "cat/a.jpg", "cat/a.png", "cat/a-1.jpg", "dog/a.jpg")
    records, errors = read(root)
    assert [record["id"] for record in records] == ["cat/a-1", "cat/a", "dog/a"]
    assert errors == ["cat/a.png: a.jpg has the same name but for the suffix; move or rename one"]


def test_masks_and_saliency(root: Path) -> None:
    add(root, "cat/a.jpg", "cat/b.jpg", "dog/c.jpg")
    add(root, "masks/cat/a.png", "masks/c.png")
    add(Path("maps"), "cat/b.png")
    records, errors = read(root, masks="masks", saliency="maps")
    assert errors == []
    assert records == [
        {
            "id": "cat/a",
            "image": "photos/cat/a.jpg",
            "labels": ["cat"],
            "mask": "photos/masks/cat/a.png",
        },
        {
            "id": "cat/b",
            "image": "photos/cat/b.jpg",
            "labels": ["cat"],
            "saliency": "maps/cat/b.png",
        },
        {
            "id": "dog/c",
            "image": "photos/dog/c.jpg",
            "labels": ["dog"],
            "mask": "photos/masks/c.png",
        },
    ]


def test_the_same_photograph_in_two_folders_has_both_labels(root: Path) -> None:
    add(root, "cat/a.png", "dog/b.png", "dog/c.jpg", "loose.png")
    Image.new("RGB", (3, 2), (9, 9, 9)).save(root / "dog/d.png")  # as large a file, another picture
    records, errors = read(root, merge_copies=True, keep_unlabelled=True)
    assert errors == []
    assert [(record["id"], record.get("labels")) for record in records] == [
        ("cat/a", ["cat", "dog"]),
        ("dog/c", ["dog"]),
        ("dog/d", ["dog"]),
    ]
    assert len(read(root, keep_unlabelled=True)[0]) == 5


def test_photographs_without_labels_may_be_kept(root: Path) -> None:
    add(root, "cat/a.png", "loose.png")
    assert read(root)[1] == ["loose.png: lies in no sub-folder, so it has no label"]
    records, errors = read(root, keep_unlabelled=True)
    assert errors == []
    assert [(record["id"], record.get("labels")) for record in records] == [
        ("cat/a", ["cat"]),
        ("loose", None),
    ]
    found = labels(root, "loose.png,dog\n", keep_unlabelled=True)
    assert found == {"loose": ["dog"], "cat/a": None}


def test_links_in_a_circle_end(root: Path) -> None:
    add(root, "cat/a.jpg")
    (root / "cat/round").symlink_to(root.resolve(), target_is_directory=True)
    (root / "dog").symlink_to((root / "cat").resolve(), target_is_directory=True)
    (root / "cat/broken.jpg").symlink_to("nothing")
    records, errors = read(root)
    assert [record["id"] for record in records] == ["cat/a", "dog/a"]
    gone = "a link to a file that is not there"
    assert errors == [f"cat/broken.jpg: {gone}", f"dog/broken.jpg: {gone}"]


def test_unsafe_names(root: Path) -> None:
    add(root, "cat/a.jpg", "cat/back\\slash.jpg", "cat/new\nline.jpg", "c:/x.jpg")
    Path(os.fsdecode(b"photos/cat/\xff.jpg")).write_bytes(b"")
    records, errors = read(root)
    assert [record["id"] for record in records] == ["cat/a"]
    assert errors == [
        'c:/x.jpg: unsafe id "c:/x": it must be a relative name',
        'cat/back\\slash.jpg: unsafe id "cat/back\\\\slash": it must be a relative name',
        'cat/new\nline.jpg: unsafe id "cat/new\\nline": control or broken characters',
        'cat/\udcff.jpg: unsafe id "cat/\udcff": control or broken characters',
        "c:: no photograph in this folder",
    ]


def test_folders_that_cannot_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(root, "cat/a.jpg", "dog/b.jpg")
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("cat/"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    records, errors = read(root)
    assert [record["id"] for record in records] == ["dog/b"]
    assert errors == ["photos/cat/: Permission denied", "cat: no photograph in this folder"]


def test_no_photographs(root: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(root)
    message = (
        "photos: no sub-folders that could be labels: make one for each class, or name a table "
        "of labels with --csv ('wsss index folder --unlabelled' does without labels)"
    )
    assert str(caught.value) == message
    add(root, "a.jpg", "masks/a.png")
    with pytest.raises(ConfigurationError) as caught:
        read(root, masks="masks")
    assert str(caught.value) == message
    (root / "a.jpg").unlink()
    with pytest.raises(ConfigurationError) as caught:
        read(root, masks="masks", unlabelled=True)
    assert str(caught.value) == (
        "photos: no photographs in it (.jpg, .jpeg, .jfif, .png, .webp, .bmp, .tif, .tiff, .ppm)"
    )


# ---- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        "a 1.jpg,cat dog\nsub/é.png,\nb.jpg\n",
        "\ufeffa 1.jpg,cat dog\r\n\r\nsub/é.png,\r\nb.jpg",
        "a 1.jpg,cat dog cat\n./sub//é.png,  \nb.jpg\n",
        '"a 1.jpg","cat",dog\n"sub/é.png",,\nb.jpg\n',
        "a 1.jpg;cat;dog\nsub/é.png;\nb.jpg\n",
        "a 1.jpg\tcat dog\nsub/é.png\t\nb.jpg\n",
        "a 1.jpg,cat;dog\nsub/é.png,\nb.jpg\n",
        "file,labels\na 1.jpg,cat dog\nsub/é.png,\nb.jpg\n",
        "width,Label,Image\n3,cat dog,a 1.jpg\n3,,sub/é.png\n",
        "a 1,cat|dog\nsub/é,\nb\n",
        "a 1.jpg,\"['cat', 'dog']\"\nsub/é.png,[]\nb.jpg\n",
        'file_name\tlabels\na 1.jpg\t["cat", "dog"]\nsub/é.png\t\nb.jpg\n',
        "file_name,label\na 1.jpg,cat;dog\nsub/é.png,\nb.jpg\n",
    ],
)
def test_tables(root: Path, table: str) -> None:
    add(root, "a 1.jpg", "sub/é.png", "b.jpg", "not listed.jpg")
    expected = {"a 1": ["cat", "dog"], "sub/é": [], "b": None}
    if "width" in table:  # a column before it cannot be left out
        del expected["b"]
    assert labels(root, table) == expected


@pytest.mark.parametrize("yes", ["1", "1.0", "True"])
def test_a_column_a_class(root: Path, yes: str) -> None:
    add(root, "a.jpg", "b.jpg", "c.jpg")
    table = f"filename, cat ,traffic light\na.jpg,{yes},{yes}\nb.jpg,0, {yes}\nc.jpg,-1,0.0\n"
    assert labels(root, table) == {"a": ["cat", "traffic light"], "b": ["traffic light"], "c": []}


def test_a_cell_of_a_class_that_is_no_number_is_named(root: Path) -> None:
    add(root, "a.jpg", "b.jpg", "c.jpg")
    (root / "t.csv").write_text("file,cat,dog\na.jpg,1,0\nb.jpg,x,0\nc.jpg,0\n")
    records, errors = read(root, table="t.csv")
    assert [record["labels"] for record in records] == [["cat"]]
    assert errors == [
        f"photos/t.csv:{line}: the column '{name}' holds '{cell}', neither 0 nor 1; "
        "--label-column names the column of labels"
        for line, name, cell in ((3, "cat", "x"), (4, "dog", ""))
    ]


def test_a_column_of_labels_by_name(root: Path) -> None:
    add(root, "a.jpg")
    assert labels(root, "file,what it is\na.jpg,cat dog\n", column="what it is") == {
        "a": ["cat", "dog"]
    }
    (root / "t.csv").write_text("file,labels\na.jpg,cat\n")
    with pytest.raises(ConfigurationError, match=r"t\.csv: no column 'x': file, labels"):
        read(root, table="t.csv", column="x")
    (root / "t.csv").write_text("a.jpg,cat\n")
    with pytest.raises(ConfigurationError, match="no header, with a column 'file'"):
        read(root, table="t.csv", column="x")


@pytest.mark.parametrize("cell", ["[1, 2]", "[cat, dog]", "['cat'", "[__import__('os')]"])
def test_what_is_no_list_is_named_or_a_name(root: Path, cell: str) -> None:
    add(root, "a.jpg")
    (root / "t.csv").write_text(f'a.jpg,"{cell}"\n')
    records, errors = read(root, table="t.csv")
    if cell.endswith("]"):
        assert records == []
        assert errors == [f"photos/t.csv:1: no list of labels: {cell}"]
    else:
        assert records[0]["labels"] == [cell]


def test_json_lines(root: Path) -> None:
    add(root, "a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")
    (root / "metadata.jsonl").write_text(
        '{"file_name": "a.jpg", "label": "traffic light", "width": 3}\n\n'
        '{"file_name": "b.jpg", "labels": ["cat", "dog", "cat"]}\n'
        '{"file_name": "c.jpg", "labels": []}\n{"file_name": "d.jpg"}\n'
        '{"file_name": "e.jpg", "label": 3}\n[1]\n{"file_name": "e.jpg", "label": {"x": 1}}\n{"a\n'
        '{"label": "x"}\n'
    )
    records, errors = read(root, table="metadata.jsonl")
    assert {record["id"]: record.get("labels") for record in records} == {
        "a": ["traffic light"],
        "b": ["cat", "dog"],
        "c": [],
        "d": None,
        "e": ["3"],
    }
    assert [error.split(":")[1] for error in errors] == ["7", "8", "9", "10"]
    assert errors[-1] == "photos/metadata.jsonl:10: no file name"
    named, _ = read(root, table="metadata.jsonl", column="width")
    assert named[0]["labels"] == ["3"]
    (root / "last.jsonl").write_text('{"file": "a.jpg"}\n{"file": "b.jpg", "what": "cat"}\n')
    named, _ = read(root, table="last.jsonl", column="what")
    assert [(record["id"], record.get("labels")) for record in named] == [
        ("a", None),
        ("b", ["cat"]),
    ]
    with pytest.raises(ConfigurationError, match="--label-column: no line has 'whta'"):
        read(root, table="last.jsonl", column="whta")


@pytest.mark.parametrize("key", ["file", "file_name"])
@pytest.mark.parametrize(
    "text", ["cat, cow", "cat|cow", "cat;cow", "big cat; cow ", "big cat", "['cat', 'cow']", ""]
)
def test_a_text_in_json_is_split_as_a_cell_is(root: Path, key: str, text: str) -> None:
    add(root, "a.jpg")
    (root / "t.jsonl").write_text(json.dumps({key: "a.jpg", "labels": text}))
    records, errors = read(root, table="t.jsonl")
    assert errors == []
    assert {"a": records[0]["labels"]} == labels(root, f'{key},labels\na.jpg,"{text}"\n')
    if text != "big cat":
        assert len(records[0]["labels"]) == (2 if text else 0)


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ('{"file": "a.jpg", "lbl": "cat"}', "'file', 'lbl'"),
        ('{"file_name": "a.jpg", "objects": {"bbox": []}}\n', "'file_name', 'objects'"),
        ('{"file": "a.jpg"}\n{"x": 1, "file": "b.jpg"}', "'file', 'x'"),
    ],
)
def test_lines_of_json_without_labels_are_refused(root: Path, line: str, keys: str) -> None:
    add(root, "a.jpg", "b.jpg")
    (root / "t.jsonl").write_text(line)
    with pytest.raises(ConfigurationError) as caught:
        read(root, table="t.jsonl")
    assert str(caught.value) == (
        f"photos/t.jsonl: no line has a key 'labels', 'label', 'classes' or 'class', but {keys}; "
        "--label-column names that of the labels, and --unlabelled in place of the table does "
        "without"
    )


def test_labels_that_are_null_are_not_known(root: Path) -> None:
    add(root, "a.jpg", "b.jpg", "c.jpg")
    (root / "t.jsonl").write_text('{"file": "a.jpg"}\n{"file": "b.jpg", "label": null}\n')
    assert [("labels" in record) for record in read(root, table="t.jsonl")[0]] == [False, False]
    # A label that is none still is where labels stand.
    (root / "t.jsonl").write_text('{"file": "a.jpg"}\n{"file": "b.jpg", "label": {}}\n')
    records, errors = read(root, table="t.jsonl")
    assert [record["id"] for record in records] == ["a"]
    assert "labels are {}, not names" in errors[0]


def test_a_dict_of_numbers(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(root, "a.jpg", "b.png", "c.jpg")
    table = {
        "a": np.array([1, 0, 1], np.float32),
        "b": np.zeros(3),
        "elsewhere": np.ones(3),
        "c": np.array([2, 0, 0]),
        "short": np.ones(2),
    }
    np.save(root / "cls_labels.npy", table, allow_pickle=True)  # type: ignore[arg-type]
    records, errors = read(root, table="cls_labels.npy", classes=("cat", "cow", "dog"))
    assert {record["id"]: record["labels"] for record in records} == {"a": ["cat", "dog"], "b": []}
    assert errors == [
        "photos/cls_labels.npy: c: neither 0 nor 1",
        "photos/cls_labels.npy: short: 2 numbers for 3 classes",
    ]
    assert "1 photographs of the table are not in photos" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="--classes names them in their order"):
        read(root, table="cls_labels.npy")
    np.save(root / "t.npy", {"x": np.ones(1), "y": np.ones(1)}, allow_pickle=True)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="none of the 2 photographs of the table is in ph"):
        read(root, table="t.npy", classes=("cat",))


def test_names_with_spaces_and_commas(root: Path) -> None:
    add(root, "a, b.jpg", 'say "x".jpg')
    table = '"a, b.jpg",traffic light;\n"say ""x"".jpg",traffic light; car\n'
    assert labels(root, table) == {
        "a, b": ["traffic light"],
        'say "x"': ["traffic light", "car"],
    }


def test_a_quote_without_end_swallows_no_row_silently(root: Path) -> None:
    (root / "t.csv").write_text('a.jpg,cat\nb.jpg,"dog\nc.jpg,cat\n')
    _, errors = read(root, table="t.csv")
    assert any(error.startswith("photos/t.csv:") and "end of data" in error for error in errors)


def test_a_header_after_blank_lines_is_one(root: Path) -> None:
    (root / "t.csv").write_text("\n\nfile,width,labels\na.jpg,640,cat\n")
    add(root, "a.jpg")
    records, errors = read(root, table="t.csv")
    assert errors == []
    assert [(record["id"], record["labels"]) for record in records] == [("a", ["cat"])]


@pytest.mark.parametrize("text", ["", "file,labels\n", "\n\n", "file,cat,dog\n"])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_an_empty_table_is_refused(root: Path, name: str, text: str) -> None:
    add(root, "a.jpg")
    (root / name).write_text("" if name == "t.jsonl" else text)
    for keep in (False, True):
        with pytest.raises(ConfigurationError) as caught:
            read(root, table=name, keep_unlabelled=keep)
        assert str(caught.value) == f"photos/{name}: an empty table: it lists no photographs"
    (root / name).write_text("[1]\n" if name == "t.jsonl" else text + ",1,0\n")
    records, errors = read(root, table=name)  # not empty, but wrong
    assert records == []
    assert len(errors) == 1


@pytest.mark.parametrize("cell", ["None", "nan", "NaN", "null", "NULL", "<NA>", "cat;None"])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_value_that_is_missing_is_no_class(root: Path, name: str, cell: str) -> None:
    add(root, "a.jpg", "b.jpg")
    lines = [("a.jpg", cell), ("b.jpg", "['None', 'cat']")]
    (root / name).write_text(
        "".join(
            f"{json.dumps({'file': file, 'label': text})}\n"
            if name == "t.jsonl"
            else f'{file},"{text}"\n'
            for file, text in lines
        )
    )
    records, errors = read(root, table=name)
    assert [(record["id"], record["labels"]) for record in records] == [("b", ["None", "cat"])]
    value = cell.removeprefix("cat;")
    assert len(errors) == 1
    assert errors[0].startswith(f"photos/{name}:1: ")
    assert errors[0].endswith(
        f"'{value}' is what programs write for no value: leave the cell empty if the photograph "
        f"shows no class; write ['{value}'] if a class has this name"
    )


def test_a_label_with_a_character_that_does_not_show_is_refused(root: Path) -> None:
    add(root, "a.jpg", "b.jpg", "c.jpg")
    (root / "t.csv").write_text("a.jpg,ca\0t\nb.jpg,\"['a\u202eb']\"\nc.jpg,bébé\n")
    records, errors = read(root, table="t.csv")
    assert [record["labels"] for record in records] == [["bébé"]]
    assert errors == [
        r"photos/t.csv:1: the label 'ca\x00t' holds a character that does not show",
        r"photos/t.csv:2: the label 'a\u202eb' holds a character that does not show",
    ]
    (root / "t.jsonl").write_text(r'{"file": "a.jpg", "label": ["ca\u0000t"]}')
    assert "does not show" in read(root, table="t.jsonl")[1][0]


def test_a_table_elsewhere_and_masks(root: Path) -> None:
    add(root, "a.jpg")
    add(Path("masks"), "a.png")
    Path("t.csv").write_text("a.jpg,cat\n")
    expected = {"id": "a", "image": "photos/a.jpg", "labels": ["cat"], "mask": "masks/a.png"}
    assert read(root, table="t.csv", masks="masks") == ([expected], [])
    assert read(root, table=Path("t.csv").resolve(), masks="masks") == ([expected], [])


def test_bad_lines_are_named_and_the_rest_goes_on(root: Path) -> None:
    add(root, "a.jpg", "b.jpg")
    (root / "t.csv").write_bytes(
        b"a.jpg,cat\na.jpg,dog\nmissing.jpg,cat\n../a.jpg,cat\n/etc/x.jpg,cat\n,cat\n"
        b"\xff.jpg,cat\n" + b"x" * 200_000 + b"\nb.jpg,dog\n"
    )
    records, errors = read(root, table="t.csv")
    assert [(record["id"], record["labels"]) for record in records] == [
        ("a", ["cat", "dog"]),
        ("b", ["dog"]),
    ]
    assert errors == [
        "photos/t.csv:3: no such image: photos/missing.jpg",
        "photos/t.csv:4: unsafe id \"../a.jpg\": no empty part, '.' or '..' allowed",
        'photos/t.csv:5: unsafe id "/etc/x.jpg": it must be a relative name',
        "photos/t.csv:6: no file name",
        "photos/t.csv:7: not UTF-8; save the table as UTF-8",
        "photos/t.csv:8: field larger than field limit (131072)",
    ]


def test_a_latin_1_label_is_refused_and_a_cell_of_several_is_split(root: Path) -> None:
    add(root, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    (root / "t.csv").write_bytes(
        b'a.jpg,"traffic light,dog"\nb.jpg,b\xe9b\xe9\nc.jpg,"a, b;c"\nd.jpg,x y\n'
    )
    records, errors = read(root, table="t.csv")
    assert {record["id"]: record["labels"] for record in records} == {
        "a": ["traffic light", "dog"],
        "c": ["a, b", "c"],
        "d": ["x", "y"],
    }
    assert errors == ["photos/t.csv:2: not UTF-8; save the table as UTF-8"]


def test_empty_files_are_not_copies_of_one_photograph(root: Path) -> None:
    add(root, "cat/a.jpg", "dog/b.jpg")
    for name in ("cat/c.jpg", "dog/d.jpg"):
        (root / name).write_bytes(b"")
    records, _ = read(root, merge_copies=True)
    assert {"cat/c", "dog/d"} <= {record["id"] for record in records}


def test_what_is_not_there(root: Path) -> None:
    add(root, "a.jpg")
    for options, message in (
        ({"table": "t.csv"}, "--csv t.csv: no such file, neither here nor in photos"),
        ({"masks": "m"}, "--masks m: no such folder, neither here nor in photos"),
        ({"saliency": "a.jpg"}, "--saliency a.jpg: no such folder, neither here nor in photos"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            read(root, unlabelled=True, **options)
        assert str(caught.value) == message
    (root / "t.csv").write_text("file,name\na.jpg,cat\n")
    with pytest.raises(ConfigurationError) as caught:
        read(root, table="t.csv")
    assert str(caught.value) == (
        "photos/t.csv: the header names no column 'labels', and the column 'name' holds 'cat', "
        "neither 0 nor 1; --label-column names the column of labels"
    )


# ---- never silently wrong ----


def test_the_rows_of_a_photograph_are_one_record(root: Path) -> None:
    """As in tables with a row an object, in any order."""
    add(root, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    rows = ["a.jpg,cat", "b.jpg,cow", "a.jpg,dog cat", "b.jpg", "c.jpg", "c.jpg,dog", "d.jpg,"]
    table = "\n".join([*rows, "./a.jpg,cow", "d.jpg,", ""])
    assert labels(root, table) == {
        "a": ["cat", "dog", "cow"],
        "b": ["cow"],
        "c": ["dog"],
        "d": [],
    }


def test_contradicting_rows_are_named(root: Path) -> None:
    add(root, "a.jpg", "b.jpg", "b.png")
    (root / "t.csv").write_text("a.jpg,cat\nb.jpg,dog\na.jpg,\nb.png,dog\na.jpg,dog\n")
    records, errors = read(root, table="t.csv")
    assert [(record["id"], record["labels"]) for record in records] == [("b", ["dog"])]
    assert errors == [
        "photos/t.csv:3: a.jpg: shows no class in one line, some in another (photos/t.csv:1)",
        "photos/t.csv:4: b.png: b.jpg has the same name but for the suffix; rename one",
    ]


@pytest.mark.parametrize("key", ["masks", "saliency"])
@pytest.mark.parametrize("table", [False, True])
def test_a_mask_that_could_be_of_two_photographs_is_of_none(
    key: str, table: bool, root: Path
) -> None:
    add(root, "cat/1.jpg", "dog/1.jpg", "dog/2.jpg", "cow/3.jpg", "dog/3.jpg", "1.jpg")
    add(root, "m/1.png", "m/2.png", "m/cow/3.png")
    options: dict[str, Any] = {key: "m", "unlabelled": not table}
    if table:
        names = ("dog/1", "dog/2", "cow/3", "dog/3", "cat/1", "1")
        (root / "t.csv").write_text("".join(f"{name}.jpg,cat\n" for name in names))
        options["table"] = "t.csv"
    records, errors = read(root, **options)
    name = "mask" if key == "masks" else key
    assert {record["id"]: record.get(name) for record in records} == {
        "1": "photos/m/1.png",  # named as the photograph
        "dog/2": "photos/m/2.png",
        "cow/3": "photos/m/cow/3.png",
        "dog/3": None,
    }
    assert sorted(errors) == [
        f"{animal}/1.jpg: photos/m/1.png could be that of several photographs named 1: "
        f"name it photos/m/{animal}/1.png"
        for animal in ("cat", "dog")
    ]


def test_no_class_vanishes(root: Path) -> None:
    add(root, "cat/a.jpg", "cat/b.JFIF", "dog/c.Jpg")
    for name in ("cow/d.heic", "cow/e.HEIC", "cat/f.gif", "cat/notes.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "empty").mkdir()
    records, errors = read(root)
    assert [record["id"] for record in records] == ["cat/a", "cat/b", "dog/c"]
    assert errors == [
        "cow: no photograph in this folder",
        "empty: no photograph in this folder",
        "left out, as they cannot be read: 1 .gif (cat/f.gif), 2 .heic (cow/d.heic, ...); "
        "convert them to JPEG or PNG",
    ]
    for path in root.rglob("*.*"):
        if path.suffix.lower() in (".jpg", ".jfif"):
            path.unlink()
    problem = (
        r"1 \.gif \(cat/f\.gif\), 2 \.heic \(cow/d\.heic, \.\.\.\) cannot be read: convert them"
    )
    with pytest.raises(ConfigurationError, match=problem):
        read(root)


def test_the_letters_of_a_suffix_do_not_matter(root: Path) -> None:
    add(root, "a.jpg", "b.Jpg", "c.JPG", "d.png")
    assert list(labels(root, "a.JPG,cat\nb.jpg,cat\nc.Jpg,cat\n")) == ["a", "b", "c"]
    (root / "t.csv").write_text("d.jpg,cat\n")
    _, errors = read(root, table="t.csv")
    assert errors == ["photos/t.csv:1: no such image: photos/d.jpg"]


def test_a_mask_may_be_that_of_a_photograph_that_no_table_lists(root: Path) -> None:
    add(root, "cat/1.jpg", "dog/1.jpg")
    Path("masks").mkdir()
    Image.new("L", (3, 2)).save("masks/1.png")
    (root / "t.csv").write_text("dog/1.jpg,dog\n")
    records, errors = read(root, table="t.csv", masks="masks")
    assert records == []
    assert "masks/1.png could be that of several photographs named 1" in errors[0]
    (root / "cat/1.jpg").unlink()
    assert read(root, table="t.csv", masks="masks")[0][0]["mask"] == "masks/1.png"


# ---- exports of other tools ----------------------------------------------------------------------


def mask(path: Path, *numbers: int) -> None:
    """A grey mask of the size of the photographs that :func:`add` makes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((2, 3), np.uint8)
    values.flat[: len(numbers)] = numbers
    Image.fromarray(values).save(path)


def test_masks_of_roboflow_lie_beside_their_photographs(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(root, "train/a.jpg", "train/b.jpg", "train/c_mask.png", "other/d.jpg", "other/d_mask.png")
    mask(root / "train/a_mask.png", 2)
    (root / "train/_classes.csv").write_text("Pixel Value, Class\n0, background\n1, cat\n2, dog\n")
    records, errors = read(root, unlabelled=True)
    assert errors == []
    assert {record["id"]: record.get("mask") for record in records} == {
        "other/d": None,
        "other/d_mask": None,  # of another tool: a photograph
        "train/a": "photos/train/a_mask.png",
        "train/b": None,
        "train/c_mask": None,  # without a photograph
    }
    told = "photos/train/a_mask.png is a mask; photos/train/_classes.csv names its numbers"
    assert told in capsys.readouterr().err
    meanings = load_meanings(str(root / "train/_classes.csv"))
    assert (meanings.classes, meanings.numbers) == (("cat", "dog"), {0: 0, 1: 1, 2: 2})
    (root / "masks").mkdir()
    other, _ = read(root, unlabelled=True, masks="masks")
    assert not any("mask" in record for record in other)


def test_labels_are_the_classes_in_the_masks(root: Path) -> None:
    add(root, "a.jpg", "inner/b.jpg", "c.jpg", "d.jpg", "e.jpg")
    mask(Path("masks/a.png"), 2, 1, 255, 2)
    mask(Path("masks/inner/b.png"), 0)
    mask(Path("masks/d.png"), 3)
    Image.new("RGB", (3, 2), (128, 0, 0)).save("masks/e.png")
    records, errors = read(root, masks="masks", labels_from="masks", classes=["cat", "dog"])
    assert {record["id"]: record["labels"] for record in records} == {
        "a": ["cat", "dog"],
        "inner/b": [],
    }
    assert errors[:2] == [
        "c.jpg: no mask to take the labels from",
        "d.jpg: masks/d.png: class number 3, but the list has 2 names",
    ]
    assert "wsss relabel" in errors[2]
    assert len(errors) == 3
    with pytest.raises(ConfigurationError, match=r"no photograph has a mask beside it; .* --masks"):
        read(root, labels_from="masks", classes=["cat", "dog"])


def test_labels_that_are_numbers_get_names(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(root, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    lines = ['"a.jpg", "label": 1', '"b.jpg", "label": [0, 2]', '"c.jpg"', '"d.jpg", "label": 3']
    text = "".join(f'{{"file_name": {line}}}\n' for line in lines)
    (root / "metadata.jsonl").write_text(text)
    names = ["cat", "big dog", "fox"]
    records, errors = read(root, table="metadata.jsonl", label_names=names)
    assert {record["id"]: record.get("labels") for record in records} == {
        "a": ["big dog"],
        "b": ["cat", "fox"],
        "c": None,
    }
    assert errors == ["photos/metadata.jsonl:4: label '3' is no number from 0 to 2"]
    assert capsys.readouterr().err == ""
    records, _ = read(root, table="metadata.jsonl")
    assert records[0]["labels"] == ["1"]
    assert "the labels are numbers, such as 3; --label-names names them" in capsys.readouterr().err
    assert labels(root, "a.jpg,1 0\nb.jpg,\n", label_names=names) == {
        "a": ["big dog", "cat"],
        "b": [],
    }
    assert capsys.readouterr().err == ""
    labels(root, "a.jpg,1\nb.jpg,cat\n")
    assert capsys.readouterr().err == ""
    table = "a.jpg,\"[0, 1]\"\nb.jpg,['2']\nc.jpg,[]\nd.jpg,[2]\n"
    assert labels(root, table, label_names=names) == {
        "a": ["cat", "big dog"],
        "b": ["fox"],
        "c": [],
        "d": ["fox"],
    }
    (root / "t.csv").write_text(f"a.jpg,[3]\nb.jpg,{'9' * 5000}\nc.jpg,[True]\nd.jpg,[-1]\n")
    records, errors = read(root, table="t.csv", label_names=names)
    assert records == []
    assert [error.split(": ")[0] for error in errors] == [f"photos/t.csv:{n}" for n in range(1, 5)]


@pytest.mark.parametrize("at_root", [False, True])
def test_splits_beside_a_table_are_no_classes(root: Path, at_root: bool) -> None:
    """As Hugging Face's imagefolder has them."""
    add(root, "train/a.jpg", "test/b.jpg")
    (root / "metadata.csv" if at_root else root / "train/metadata.jsonl").write_text("")
    with pytest.raises(ConfigurationError) as caught:
        read(root)
    assert str(caught.value) == (
        "photos: test, train are splits, no classes, and a table has the labels: 'wsss index "
        f"folder photos{' --csv metadata.csv' if at_root else '/train --csv metadata.jsonl'}'"
    )
    assert len(read(root, unlabelled=True)[0]) == 2


@pytest.mark.parametrize("name", ["t.csv", "t d.jsonl", "labels"])
def test_windows_names_are_refused_with_a_command_that_mends_them(root: Path, name: str) -> None:
    add(root, "sub/a b.jpg")
    file = "sub\\a b.jpg"
    row = json.dumps({"file": file, "label": "cat"}) if "json" in name else f"{file},cat\n"
    (root / name).write_text(row)
    records, (problem,) = read(root, table=name)
    assert records == []
    assert problem.startswith(f"photos/{name}:1: folders are named as on Windows: sed 's#")
    subprocess.run(["bash", "-ec", problem[problem.index("sed ") :]], check=True)
    stem, suffix = os.path.splitext(name)
    records, errors = read(root, table=f"{stem}-named{suffix}")
    assert errors == []
    assert [(record["id"], record["labels"]) for record in records] == [("sub/a b", ["cat"])]


def test_a_table_in_a_sub_folder_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As Hugging Face's imagefolder has it."""
    add(root, "train/a.jpg", "cat/b.jpg")
    (root / "train/metadata.csv").write_text("file_name,label\na.jpg,cat\n")
    read(root)
    assert (
        "train/metadata.csv is not read; 'wsss index folder photos/train --csv metadata.csv' reads "
        "it" in capsys.readouterr().err
    )
    with pytest.raises(ConfigurationError) as caught:
        read(root, table="metadata.csv")
    assert str(caught.value) == (
        "--csv metadata.csv: no such file, neither here nor in photos; photos/train has one: give "
        "that as ROOT"
    )
