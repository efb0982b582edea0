"""Class lists and colours."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsss_cli import classes
from wsss_cli.errors import ConfigurationError, WsssError


def test_named_lists() -> None:
    assert len(classes.load_classes("voc")) == 20
    assert len(classes.load_classes("coco")) == 80
    assert classes.numbers(["cat", "cow", "dog", "horse", "person", "sheep"], classes.VOC) == [
        8,
        10,
        12,
        13,
        15,
        17,
    ]


def test_a_file_with_one_name_a_line(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("\ufeff# animals\ncat\n\n  grey wolf \n", encoding="utf-8")
    assert classes.load_classes(str(path)) == ("cat", "grey wolf")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the class list is empty"),
        ("a\nb\na\n", "class named twice: a"),
        ("cat\nbackground\n", "always class 0"),
        ("\n".join(map(str, range(255))), "an 8-bit label map holds 254"),
    ],
)
def test_wrong_lists(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        classes.load_classes(str(path))
    assert problem in str(caught.value)


def test_a_missing_or_binary_list(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    for name in (tmp_path / "none", tmp_path / "b", tmp_path):
        with pytest.raises(ConfigurationError, match="not voc, coco or a readable text file"):
            classes.load_classes(str(name))


def test_an_unknown_label_names_near_misses() -> None:
    with pytest.raises(WsssError, match="label 'persn' is not in the class list; did you mean per"):
        classes.numbers(["cat", "persn"], classes.VOC)


def test_palette_is_that_of_voc() -> None:
    colours = classes.palette().tolist()
    assert colours[0] == [0, 0, 0]
    assert colours[1] == [128, 0, 0]  # aeroplane
    assert colours[8] == [64, 0, 0]  # cat
    assert colours[15] == [192, 128, 128]  # person
    assert colours[20] == [0, 64, 128]  # tvmonitor
    assert colours[255] == [224, 224, 192]  # ignore
    assert len({tuple(colour) for colour in colours}) == 256


# ---- lists of other programs ----


@pytest.mark.parametrize(
    ("text", "names", "left_out"),
    [
        ("__ignore__\n_background_\ncat\ndog\n", ("cat", "dog"), "'__ignore__', '_background_'"),
        ("_background_\ncat\ndog", ("cat", "dog"), "'_background_'"),
        ("Background\ncat\n", ("cat",), "'Background'"),
        ("background\ncat\n", ("cat",), "'background'"),
        (
            "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n",
            ("cat", "dog"),
            "'background'",
        ),
        ("cat:128,0,0:head,tail:sleep\n", ("cat",), ""),
        (
            "background:0,0,0::\n__ignore__:224,224,192::\ncat:128,0,0::\n",
            ("cat",),
            "'background', '__ignore__'",
        ),
        ("traffic: light\nignored\nbackground noise\n", None, ""),
    ],
)
def test_lists_of_labelme_and_cvat_keep_their_numbers(
    text: str,
    names: tuple[str, ...] | None,
    left_out: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "labels.txt").write_text(text)
    found = classes.load_classes(str(tmp_path / "labels.txt"))
    assert found == (names or tuple(text.splitlines()))
    told = capsys.readouterr().err
    assert (f"{left_out} not counted; class 1 is '{found[0]}'\n" in told) == bool(left_out)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("cat\n_background_\ndog\n", "'_background_' stands among the classes"),
        ("cat\nBackground\n", "'Background' stands among the classes"),
        ("cat:128,0,0::\nbackground:0,0,0::\n", "'background' stands among the classes"),
        (
            "cat:255,0,0::\n",
            r"'cat' has the colour \(255, 0, 0\), that of class 1 is \(128, 0, 0\)",
        ),
        ("background:0,0,0::\ndog:0,128,0::\ncat:128,0,0::\n", "'dog' has the colour"),
        ("__ignore__:0,0,0::\ncat:128,0,0::\n", "'__ignore__' has the colour"),
        ("cat:128,0,0::\ndog\n", "'dog' has no colour, other lines have one"),
        ("_background_\n", "the class list is empty"),
    ],
)
def test_lists_whose_numbers_would_shift_are_refused(
    text: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(ConfigurationError, match=problem):
        classes.load_classes(str(tmp_path / "labels.txt"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0: background\n1: fox\n2: ram", "its lines are numbered"),
        ("0 background\n1 fox", "its lines are numbered"),
        ("1. fox\n2. ram", "its lines are numbered"),
        ("0,background\n1,fox", "its lines are numbered"),
        ("background,0,0,0\nfox,128,0,0", "numbers stand behind the names"),
        ('["fox", "ram"]', "is JSON or YAML"),
        ("names: [fox, ram]", "is JSON or YAML"),
        ("names:\n  0: fox", "is JSON or YAML"),
        ("fox, ram", "several names stand on one line"),
        ("fox\t1\nram\t2", "holds a tab"),
        ("fox\u200b\nram", "a character that does not show"),
        ("fox\x1b[31m\nram", "a character that does not show"),
        ("void\nfox", "'void' would be class 1"),
        ("unlabeled\nfox", "'unlabeled' would be class 1"),
        ("Background (0)\nfox", "'Background (0)' would be class 1"),
        ("caf\u00e9\ncafe\u0301", "class named twice"),
    ],
)
def test_lists_of_other_forms_are_refused(text: str, problem: str, tmp_path: Path) -> None:
    """Each would shift the numbers or be names that no label has."""
    path = tmp_path / "list.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as raised:
        classes.load_classes(str(path))
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    "names",
    [
        ["2 door car", "4 door car"],
        ["747", "a320"],
        ["traffic light", "fox (red)"],
        ["Ärger", "大熊猫"],
        ["fox"],
        ["1st", "2nd", "4th"],
    ],
)
def test_names_that_only_look_strange_are_names(names: list[str], tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("\n".join(names), encoding="utf-8")
    assert classes.load_classes(str(path)) == tuple(names)
