"""Pictures: sizes, colours at known points, legends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss_cli import files
from wsss_cli.errors import WsssError
from wsss_cli.tools import view
from wsss_cli.tools.view import Viewer


@pytest.fixture
def record(workdir: Path) -> dict[str, Any]:
    Image.new("RGB", (80, 40), (90, 90, 90)).save("a.png")
    labels = np.zeros((40, 80), np.uint8)
    labels[:, 40:] = 2
    labels[:, 70:] = 255
    meta = files.provenance("t", {}, classes=["cat", "dog"])
    files.write_label_map("l.png", labels, meta)
    cam = np.zeros((2, 10, 20))
    cam[0, :, :10] = 1
    files.write_maps("c.npz", cam, ["cat", "dog"], (40, 80), meta)
    return {"id": "a é", "image": "a.png", "pseudo": "l.png", "cam": "c.npz", "labels": ["cat"]}


def test_overlay_is_hot_where_the_map_is(record: dict[str, Any]) -> None:
    cell = Viewer(keys=("cam",), width=80).row(record)[0][0]
    pixels = np.asarray(cell.picture).astype(int)
    assert cell.names[0][0] == "cat"
    assert pixels[20, 10, 0] > pixels[20, 70, 0]


def test_label_maps_show_voc_colours_and_a_legend(record: dict[str, Any]) -> None:
    cell = Viewer(keys=("pseudo",), width=80).row(record)[0][0]
    assert cell.names == [("dog", (0, 128, 0))]
    red, green, blue = np.asarray(cell.picture)[20, 55].tolist()
    assert green > max(red, blue)
    grey = np.asarray(cell.picture)[20, 10]
    assert len(set(grey.tolist())) == 1


def test_a_key_keeps_its_columns_down_the_sheet(record: dict[str, Any]) -> None:
    viewer = Viewer(keys=("image", "cam", "pseudo"), width=80)
    bare = {"id": "b", "image": "a.png"}
    one = viewer.sheet([("a", viewer.row(record))])
    two = viewer.sheet([("b", viewer.row(bare)), ("a", viewer.row(record))])
    assert two.width == one.width == view.GAP + 4 * (80 + view.GAP)
    assert two.height > one.height


def test_a_tall_photograph_is_not_taller_than_wide_ones_are_wide(workdir: Path) -> None:
    Image.new("RGB", (10, 400)).save("tall.png")
    cell = Viewer(keys=("image",), width=80).row({"id": "t", "image": "tall.png"})[0][0]
    assert cell.picture.size == (2, 80)


def test_no_maps_say_so_and_no_rows_are_refused(workdir: Path, record: dict[str, Any]) -> None:
    files.write_maps("none.npz", np.zeros((0, 4, 4)), [], (40, 80), {})
    cells = Viewer(keys=("cam",)).row({**record, "cam": "none.npz"})[0]
    assert cells[0].names[0][0] == "no labels"
    with pytest.raises(WsssError, match="nothing to draw"):
        Viewer(keys=("image",)).sheet([])


def test_a_record_of_any_size_gives_a_picture_of_bounded_size(record: dict[str, Any]) -> None:
    viewer = Viewer(keys=("image",), width=80)
    few = {**record, "labels": [f"class {n}" for n in range(20)]}
    many = {**few, "labels": [f"class {n}" * 1000 for n in range(100_000)]}
    one, other = (viewer.strip(r["id"], viewer.row(r)) for r in (few, many))
    line = max(round(80 / 17), 11) + 6
    assert other.size == (one.width, one.height + line)  # and 99,980 more
    strange = {
        **record,
        "id": "i" * 10_000,
        "labels": ["a\nb", "\x1b[31m", "\u202eevil", "é", "猫"],
    }
    again = viewer.strip(strange["id"], viewer.row(strange))
    assert again.height < one.height


def test_many_maps_are_counted(record: dict[str, Any]) -> None:
    names = [f"class {n}" for n in range(60)]
    files.write_maps("c.npz", np.ones((60, 4, 4)), names, (40, 80), {"classes": names})
    cells = Viewer(keys=("cam",), width=80).row(record)[0]
    assert len(cells) == 24
    assert [text for text, _ in cells[-1].names] == ["class 23", "and 36 more maps"]


@pytest.mark.parametrize("value", [["cat"], 3, {"a": 1}])
def test_a_key_that_is_no_path(value: Any, record: dict[str, Any]) -> None:
    with pytest.raises(WsssError, match="'x' is no path of a picture"):
        Viewer(keys=("x",), width=80).row({**record, "x": value})


def test_names_stay_within_their_columns(record: dict[str, Any]) -> None:
    """They ran into the names of the next picture."""
    viewer = Viewer(keys=("image", "cam"), width=80)
    long = ["w" * 59, "x" * 300]
    files.write_maps("c.npz", np.zeros((2, 4, 4)), long, (40, 80), {})
    page = viewer.strip("i" * 300, viewer.row({**record, "labels": long}))
    pixels = np.asarray(page)
    for gap in (slice(0, 10), slice(90, 100), slice(180, 190), slice(270, 280)):
        below = pixels[40 + 34 :, gap]
        assert (below == 255).all()
    assert (pixels[:17, -10:] == 255).all()
    assert (pixels[80:, 10:90] < 255).any()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("pseudo", "label map is 6x4, its image 80x40"),
        ("cam", "maps of an image of 6x4, but this one is 80x40"),
    ],
)
def test_what_belongs_to_another_photograph_is_not_stretched(
    key: str, said: str, record: dict[str, Any]
) -> None:
    files.write_label_map("l.png", np.zeros((4, 6), np.uint8), {})
    files.write_maps("c.npz", np.ones((1, 2, 3)), ["cat"], (4, 6), {})
    with pytest.raises(WsssError, match=said):
        Viewer(keys=(key,), width=80).row(record)


def test_a_map_of_255_alone_says_so(record: dict[str, Any]) -> None:
    files.write_label_map("l.png", np.full((40, 80), 255, np.uint8), {})
    cell = Viewer(keys=("pseudo",), width=80).row(record)[0][0]
    assert [name for name, _ in cell.names] == ["nothing but 255, to ignore"]


def test_classes_beyond_the_list_are_numbers(record: dict[str, Any]) -> None:
    labels = np.zeros((40, 80), np.uint8)
    labels[:, :20], labels[:, 60:] = 2, 200
    files.write_label_map("l.png", labels, files.provenance("t", {}, classes=["cat", "dog"]))
    cell = Viewer(keys=("pseudo",), width=80).row(record)[0][0]
    assert [name for name, _ in cell.names] == ["dog", "class 200"]


def test_a_saliency_map_is_shown_as_other_tools_see_it(record: dict[str, Any]) -> None:
    """One of 0 and 1 was black."""
    values = np.zeros((40, 80), np.uint8)
    values[:, 40:] = 1
    Image.fromarray(values).save("s.png")
    cell = Viewer(keys=("saliency",), width=80).row({**record, "saliency": "s.png"})[0][0]
    pixels = np.asarray(cell.picture.convert("L"))
    assert pixels[20, [5, 75]].tolist() == [0, 255]


def test_the_pictures_of_a_record_have_a_bound(
    record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "_MOST_PIXELS", 3 * 80 * 40)
    files.write_maps("c.npz", np.ones((9, 4, 4)), [f"class {n}" for n in range(9)], (40, 80), {})
    cells = Viewer(keys=("cam",), width=80).row(record)[0]
    assert [name for name, _ in cells[-1].names] == ["class 2", "and 6 more maps"]
    with pytest.raises(WsssError, match="give a smaller --width or fewer --keys"):
        Viewer(keys=("image",) * 5, width=80).row(record)


def test_a_sheet_heads_each_column_once(record: dict[str, Any]) -> None:
    viewer = Viewer(keys=("image", "cam"), width=80)
    row = viewer.row(record)
    headings = np.asarray(viewer.sheet([("", row)]))[:20]
    pixels = np.asarray(viewer.sheet([("", row), ("", row)]))
    assert (pixels[:20] == headings).all()
    assert (headings[:, 10:90] < 200).any()
    line = max(round(80 / 17), 11) + 6
    first = pixels[5 + line : 5 + line + viewer.height(row, headed=False)]
    assert (
        first[2 * line + 3 :][: line - 3] != 255
    ).any()  # the picture begins where headings were
    alone = np.asarray(viewer.strip("", row))
    assert len(alone) == len(first) + line


def test_there_is_no_hole_where_a_class_has_no_map(record: dict[str, Any]) -> None:
    files.write_maps("one.npz", np.zeros((1, 10, 20)), ["cat"], (40, 80), {})
    viewer = Viewer(keys=("image", "cam", "pseudo"), width=80)
    few = {"id": "b", "image": "a.png", "cam": "one.npz"}
    page = np.asarray(viewer.sheet([("a", viewer.row(record)), ("b", viewer.row(few))]))
    below = page[17 + viewer.height(viewer.row(record), headed=False) :]
    for column in (2, 3):
        left = view.GAP + column * (80 + view.GAP)
        assert (below[30:45, left : left + 80] != 255).all()


def test_a_true_mask_shares_the_names_of_the_other_files(record: dict[str, Any]) -> None:
    labels = np.full((40, 80), 2, np.uint8)
    files.write_label_map("m.png", labels)
    viewer = Viewer(keys=("mask",), width=80)
    assert viewer.row({**record, "mask": "m.png"})[0][0].names == [("dog", (0, 128, 0))]
    alone = {"id": "a", "image": "a.png", "mask": "m.png"}
    assert viewer.row(alone)[0][0].names == [("class 2", (0, 128, 0))]


def test_instances_have_colours_and_scores_of_their_own(record: dict[str, Any]) -> None:
    ids = np.zeros((40, 80), np.uint8)
    ids[:, 40:55], ids[:, 55:70], ids[:, 70:] = 1, 2, 255
    objects = [{"id": 1, "class": "dog", "score": 0.912}, {"id": 2, "class": "dog", "score": 0.5}]
    files.write_instance_map("i.png", ids, objects)
    cell = Viewer(keys=("instances",), width=80).row({**record, "instances": "i.png"})[0][0]
    assert cell.names == [("dog 0.91", (128, 0, 0)), ("dog 0.50", (0, 128, 0))]
    pixels = np.asarray(cell.picture).astype(int)
    assert pixels[20, 45].argmax() == 0
    assert pixels[20, 60].argmax() == 1
    files.write_label_map("i.png", ids)  # as VOC's own
    cell = Viewer(keys=("instances",), width=80).row({**record, "instances": "i.png"})[0][0]
    assert [name for name, _ in cell.names] == ["instance 1", "instance 2"]
