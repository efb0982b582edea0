"""What values of foreign label maps mean: every form of the map, and whatever is wrong with one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wsss_cli.datasets.meanings import load_meanings
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.pictures import Values

NUMBERS = np.array([[0, 7, 8], [33, 255, 7]], np.int32)
COLOURS = np.array([[[0, 0, 0], [128, 64, 128], [1, 2, 3]]], np.uint8)


def applied(text: str, values: np.ndarray, classes: tuple[str, ...] | None = None) -> list[object]:
    Path("map.txt").write_text(text)
    given = Values(values, None) if values.ndim == 2 else Values(None, values)
    made = load_meanings("map.txt", classes).applied(given, "a.png")
    assert made.dtype == np.uint8
    listed: list[object] = made.tolist()
    return listed


@pytest.fixture(autouse=True)
def inside(workdir: Path) -> None:
    pass


def test_numbers_become_those_of_the_names() -> None:
    text = "# ids\n7 road\n\n 8  traffic light \n33 road\n0 background\n255 ignore\n"
    assert applied(text, NUMBERS) == [[0, 1, 2], [1, 255, 1]]
    assert load_meanings("map.txt").classes == ("road", "traffic light")
    assert applied(text, NUMBERS, ("traffic light", "x", "road")) == [[0, 3, 1], [3, 255, 3]]


def test_all_others() -> None:
    assert applied("7 road\n* ignore", NUMBERS) == [[255, 1, 255], [255, 255, 1]]
    assert applied("7 road\n* other", NUMBERS) == [[2, 1, 2], [2, 2, 1]]
    assert applied("0 Ignore\n* =", np.array([[0, 1, 3, 255]]), ("a", "b", "c")) == [
        [255, 1, 3, 255]
    ]
    with pytest.raises(WsssError, match=r"a\.png: 4 is not listed in --values"):
        applied("0 ignore\n* =", np.array([[4]]), ("a", "b", "c"))


def test_colours() -> None:
    assert applied("128,64,128 road\n0, 0, 0 background\n* ignore", COLOURS) == [[0, 1, 255]]
    with pytest.raises(
        WsssError, match=r"a\.png: 1,2,3 is not listed in --values; '\* ignore' would"
    ):
        applied("128,64,128 road\n0,0,0 background", COLOURS)


def test_the_list_of_cvat() -> None:
    text = (
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\n__ignore__:1,2,3::"
    )
    assert applied(text, COLOURS) == [[0, 1, 255]]


def test_cityscapes() -> None:
    known = load_meanings("cityscapes")
    assert (len(known.classes), known.classes[0], known.classes[-1]) == (19, "road", "bicycle")
    made = known.applied(Values(np.array([[0, 7, 8], [33, 32, 7]], np.int32), None), "a.png")
    assert made.tolist() == [[255, 1, 2], [19, 18, 1]]
    for other in (255, 26001):  # of train ids, of instances
        with pytest.raises(WsssError, match=f"{other} is not listed"):
            known.applied(Values(np.array([[0, other]], np.int32), None), "a.png")


def test_a_palette_is_read_by_what_the_map_lists() -> None:
    values = Values(np.array([[1]], np.int32), np.array([[[9, 9, 9]]], np.uint8))
    for line in ("1 road", "9,9,9 road"):
        Path("map.txt").write_text(line)
        assert load_meanings("map.txt").applied(values, "a.png").tolist() == [[1]]


def test_numbers_are_no_colours() -> None:
    with pytest.raises(WsssError, match="holds numbers, but --values lists colours"):
        applied("1,2,3 road", NUMBERS)
    with pytest.raises(WsssError, match="holds colours, but --values lists numbers"):
        applied("1 road", COLOURS)


@pytest.mark.parametrize(
    ("text", "classes", "problem"),
    [
        ("road", None, "map.txt:1: 'road' is neither 'NUMBER NAME'"),
        ("1 road\n1,2 x", None, "map.txt:2: '1,2 x' is neither"),
        ("1,2,256 road", None, "map.txt:1: no colour: 1,2,256"),
        ("1 road\n1 car", None, "1 stands on two lines"),
        ("1 road\n1,2,3 car", None, "lists numbers and colours"),
        ("1 road\n* a\n* b", None, "map.txt:3: a second line for all others"),
        ("1 road\n* =", None, "'* =' is for numbers, and --classes names them"),
        ("1 road", ("car",), "'road' is not in the class list"),
        ("1 road\n* =", None, "names them: give --classes"),
        ("1,2,3 road\n* =", ("road",), "names them: these lines are colours"),
        ("", None, "the class list is empty"),
        ("", None, "map.txt: no line names a class"),
        ("# 1 road\n", ("road",), "map.txt: no line says what a value means"),
        ("0 ignore", None, "the class list is empty"),
    ],
)
def test_what_is_no_map(text: str, classes: tuple[str, ...] | None, problem: str) -> None:
    Path("map.txt").write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load_meanings("map.txt", classes)
    assert problem in str(refused.value)


def test_no_map_at_all() -> None:
    for name, content in (("gone.txt", None), ("x.png", b"\x89PNG\xff")):
        if content:
            Path(name).write_bytes(content)
        with pytest.raises(ConfigurationError, match="not cityscapes or a readable text file"):
            load_meanings(name)


def test_a_comma_behind_a_number_makes_no_colour_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Pixel Value, Class\n0, background\n7,big dog\n")
    assert load_meanings(str(path)).numbers == {0: 0, 7: 1}
    path.write_text("128,64 road\n")  # a colour that lacks a number
    with pytest.raises(ConfigurationError, match="is neither 'NUMBER NAME'"):
        load_meanings(str(path))
