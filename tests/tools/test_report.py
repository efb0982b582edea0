"""The result of eval: kept and added up, shown, and what it says about how it came to be."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsss_cli import files
from wsss_cli.errors import ConfigurationError
from wsss_cli.metrics import BoundaryCounts, Confusion
from wsss_cli.tools.report import (
    Measured,
    as_json,
    facts,
    image_values,
    lineage,
    load_counts,
    merged,
    render,
    save_counts,
)

MADE = files.provenance("make-cam", {"scales": [0.5, 1.0], "x": None}, checkpoint="ab")


def confusion(counts: Any) -> Confusion:
    return Confusion.from_dict({"num_classes": len(counts), "ignore": 255, "counts": counts})


def measured(**changes: Any) -> Measured:
    """One class against background: 3 of 4 true pixels found, 1 wrongly."""
    given: dict[str, Any] = {
        "key": "pred",
        "truth": "mask",
        "classes": ("background", "a|b [c]"),
        "confusions": [confusion([[5, 1, 0], [1, 3, 0]])],
        "images": 2,
        "made_by": [MADE],
    }
    return Measured(**{**given, **changes})


def swept(*hits: int, **changes: Any) -> Measured:
    """A sweep that finds ``hits`` of 10 pixels at each threshold."""
    return measured(
        confusions=[confusion([[10, 0, 0], [10 - hit, hit, 0]]) for hit in hits],
        thresholds=tuple((1 + place) / 10 for place in range(len(hits))),
        rule=f"best of {len(hits)} thresholds",
        **changes,
    )


def test_the_best_threshold_is_reported() -> None:
    result = swept(2, 9, 5)
    assert result.threshold == 0.2
    assert result.confusion.counts[1, 1] == 9
    data = as_json(result)
    assert data["threshold"] == 0.2
    assert list(data["sweep"]) == ["0.1", "0.2", "0.3"]
    assert data["sweep"]["0.2"] == data["miou"] == max(data["sweep"].values())
    assert "sweep" not in as_json(measured())
    assert measured().threshold is None


def test_a_threshold_where_nothing_was_counted_is_not_the_best() -> None:
    empty = confusion([[0, 0, 0], [0, 0, 0]])
    result = measured(confusions=[empty, confusion([[1, 0, 0], [0, 0, 0]])], thresholds=(0.1, 0.2))
    assert result.threshold == 0.2


def test_saved_and_loaded_it_is_the_same(workdir: Path) -> None:
    result = swept(2, 9, 5, failed=3, made_by=[None, MADE])
    save_counts("a.json", result)
    again = load_counts("a.json")
    assert as_json(again) == as_json(result)
    assert (again.made_by, again.failed, again.thresholds) == (
        result.made_by,
        result.failed,
        result.thresholds,
    )


def test_the_best_threshold_of_the_sum_is_that_of_the_whole() -> None:
    # Alone the parts are best at 0.1 and 0.3; together they are at 0.2.
    one, other = swept(9, 8, 0), swept(0, 8, 9, images=5, failed=1)
    assert (one.threshold, other.threshold) == (0.1, 0.3)
    total = merged([one, other])
    assert total.threshold == 0.2
    assert total.confusion.counts.tolist() == [[20, 0, 0], [4, 16, 0]]
    assert (total.images, total.failed, total.made_by) == (7, 1, [MADE])
    assert one.confusions[0].counts[1, 1] == 9  # as it was


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"key": "cam"}, "key is pred in one, cam in another"),
        ({"truth": "mask2"}, "truth is mask in one, mask2 in another"),
        ({"classes": ("background", "cat")}, "classes is background, a|b [c] in one"),
        ({"rule": "(1 - max)^4"}, r"background is None in one, \(1 - max\)\^4 in another"),
        ({"confusions": [Confusion(2, ignore=9)]}, "ignore is 255 in one, 9 in another"),
    ],
)
def test_different_things_are_not_added_up(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem.replace("|", r"\|").replace("[", r"\[")):
        merged([measured(), measured(**change)])


def near_contours(share: float = 0.02) -> BoundaryCounts:
    counts = BoundaryCounts(2, share)
    counts.counts[:] = [[6, 2], [8, 4], [8, 3]]
    return counts


def test_contours_are_saved_and_added_up() -> None:
    total = merged([measured(boundary=near_contours()), measured(boundary=near_contours())])
    assert total.boundary is not None
    assert total.boundary.counts.tolist() == [[12, 4], [16, 8], [16, 6]]
    data = as_json(total)
    assert [row["boundary_iou"] for row in data["classes"].values()] == [0.6, 0.4]
    assert data["boundary_iou"] == 0.5
    for other in (None, near_contours(0.05)):
        with pytest.raises(ConfigurationError, match=r"boundary is 0\.02 in one, (None|0\.05) in"):
            merged([measured(boundary=near_contours()), measured(boundary=other)])


def test_columns_on_request() -> None:
    result = measured(boundary=near_contours())
    assert render(measured(), "csv").startswith("class,IoU,precision,recall\n")
    lines = render(result, "csv", dice=True).splitlines()
    assert lines[0] == "class,IoU,boundary IoU,Dice,precision,recall"
    assert lines[-1].split(",")[2] == "0.5"
    for layout in ("table", "markdown"):
        assert "boundary IoU" in render(result, layout)
        assert "Dice" not in render(result, layout)
    assert "boundary: up to 0.02 of the diagonal from a contour" in facts(result)


def test_different_thresholds_are_not_added_up() -> None:
    one, other = measured(thresholds=(0.5,), rule="constant"), measured(thresholds=(0.3,))
    with pytest.raises(ConfigurationError, match="background is constant in one, None"):
        merged([one, other])
    other = measured(thresholds=(0.3,), rule="constant")
    with pytest.raises(ConfigurationError, match=r"thresholds is 0\.5 in one, 0\.3 in another"):
        merged([one, other])


@pytest.mark.parametrize(
    "change",
    [
        {"format": "wsss-confusion-1"},
        {"confusions": []},
        {"confusions": [{"num_classes": 2}]},
        {"unknown": 1},
        {"thresholds": [0.1, 0.2]},
        {"classes": None},
    ],
)
def test_a_file_that_holds_no_result(change: dict[str, Any], workdir: Path) -> None:
    save_counts("a.json", measured())
    Path("a.json").write_text(json.dumps({**json.loads(Path("a.json").read_text()), **change}))
    with pytest.raises(ConfigurationError, match=r"cannot read a\.json: "):
        load_counts("a.json")


WRONG = [None, True, -1, 1.5, "x", [], {}, [None], 10**30, float("nan"), float("inf")]
RIGHT = {  # what a field may be beside its value
    "rule": [None, "x"],
    "boundary": [None],
    "key": ["x"],
    "truth": ["x"],
    "made_by": [[], [None]],
    "thresholds": [[]],
}


def damaged(data: Any) -> Iterator[tuple[str, Any]]:
    """The file with each of its values replaced by each wrong one, or left out."""
    for name, value in data.items():
        for wrong in WRONG:
            if not any(wrong == right for right in RIGHT.get(name, [])) and wrong != value:
                yield f"{name} = {wrong}", {**data, name: wrong}
        if name != "boundary":  # as in files of earlier versions
            yield f"no {name}", {key: value for key, value in data.items() if key != name}
    matrix = data["confusions"][0]
    for name in matrix:
        for wrong in WRONG:
            yield f"{name} = {wrong}", {**data, "confusions": [{**matrix, name: wrong}]}
    for wrong in [*(value for value in WRONG if value is not True), 2**53 + 1]:
        counts = [[wrong, *matrix["counts"][0][1:]], *matrix["counts"][1:]]
        yield f"a count is {wrong}", {**data, "confusions": [{**matrix, "counts": counts}]}
    if near := data["boundary"]:
        for name in near:
            for wrong in [*WRONG, [[1, 1], [1, 1]], [[2, 0], [1, 0], [2, 0]], [[0], [0], [0]]]:
                yield f"boundary.{name} = {wrong}", {**data, "boundary": {**near, name: wrong}}
    yield "not square", {**data, "confusions": [{**matrix, "counts": [[1, 2], [3]]}]}
    yield "twice", {**data, "confusions": [matrix, matrix]}
    yield "other classes", {**data, "classes": ["background"]}
    yield "the same class twice", {**data, "classes": ["background", "background"]}


@pytest.mark.parametrize("boundary", [False, True])
def test_no_damage_is_added_up(boundary: bool, workdir: Path) -> None:
    save_counts("a.json", measured(boundary=near_contours() if boundary else None))
    good = json.loads(Path("a.json").read_text())
    load_counts("a.json")
    for what, data in damaged(good):
        Path("a.json").write_text(json.dumps(data))
        with pytest.raises(ConfigurationError, match=r"\Acannot read a\.json: [^\n]+\Z"):
            pytest.fail(f"accepted: {what}: {load_counts('a.json')}")


def test_deep_endless_and_special_files(workdir: Path) -> None:
    Path("deep.json").write_text('{"a":' * 100_000)
    os.mkfifo("pipe.json")
    Path("folder.json").mkdir()
    for name in ("deep.json", "pipe.json", "folder.json", "none.json"):
        with pytest.raises(ConfigurationError, match=f"cannot read {name}: "):
            load_counts(name)


def test_a_strange_provenance_is_no_obstacle() -> None:
    for strange in (
        {"tool": 3, "params": 5, "from": []},
        {"params": [1], "from": {"cam": 7}},
        {"from": {"cam": {"params": None}}},
    ):
        facts(measured(made_by=[strange]))


@pytest.mark.parametrize("text", ["[]", "", "{", "\x00", None])
def test_a_file_that_is_none(text: str | None, workdir: Path) -> None:
    if text is not None:
        Path("d.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"cannot read d\.json: ") as caught:
        load_counts("d.json")
    assert "\n" not in str(caught.value)


# ---- shown ----


def test_every_layout_shows_the_same_values() -> None:
    result = measured()
    data = json.loads(render(result, "json"))
    assert data["classes"]["a|b [c]"] == {
        "iou": 0.6,
        "dice": 0.75,
        "precision": 0.75,
        "recall": 0.75,
    }
    assert data["miou"] == pytest.approx((5 / 7 + 0.6) / 2, abs=1e-6)
    rows = list(csv.reader(io.StringIO(render(result, "csv"))))
    assert rows[0] == ["class", "IoU", "precision", "recall"]
    assert rows[2] == ["a|b [c]", "0.6", "0.75", "0.75"]
    assert float(rows[-1][1]) == data["miou"]
    text = render(result, "markdown")
    assert "| a\\|b [c] | 60.00 | 75.00 | 75.00 |" in text
    assert "- made by make-cam" in text
    table = render(result, "table").splitlines()
    assert table[0].split() == ["class", "IoU", "precision", "recall"]
    assert table[2].split() == ["a|b", "[c]", "60.00", "75.00", "75.00"]


def test_classes_that_do_not_occur_are_left_out() -> None:
    result = measured(
        classes=("background", "cat", "dog"),
        confusions=[confusion([[3, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]])],
    )
    data = as_json(result)
    assert list(data["classes"]) == ["background", "dog"]
    assert data["classes"]["dog"] == {
        "iou": 0.0,
        "dice": 0.0,
        "precision": None,
        "recall": 0.0,
    }
    assert ["dog", "0.00", "–", "0.00"] in [
        line.split() for line in render(result, "table").splitlines()
    ]
    assert "dog,0.0,,0.0" in render(result, "csv")


def test_nothing_counted_is_shown_as_nothing() -> None:
    result = measured(confusions=[Confusion(2)])
    data = json.loads(render(result, "json"))
    assert (data["miou"], data["classes"]) == (None, {})
    for layout in ("table", "markdown", "csv"):
        assert "nan" not in render(result, layout)


def test_facts_say_what_was_measured() -> None:
    lines = facts(
        swept(
            2,
            9,
            failed=4,
        )
    )
    assert lines == [
        "2 images, 'pred' against 'mask', pixels labelled 255 ignored",
        "4 records could not be measured",
        "mean over the 2 classes that occur, without background 90.00; pixel accuracy 95.00",
        "background: best of 2 thresholds: 0.2",
        f"made by make-cam {MADE['version']}: scales 0.5/1, checkpoint ab",
    ]
    assert facts(measured(made_by=[None, MADE]))[-1] == "made by: mixed (2 kinds of provenance)"
    assert len(facts(measured(made_by=[None]))) == 2


@pytest.mark.parametrize(
    ("meta", "lines"),
    [
        (None, []),
        ({}, []),
        ({"classes": ["cat"]}, ["another program"]),
        ({"tool": "relabel", "params": {}}, ["relabel"]),
        ({"tool": "crf", "version": "1", "checkpoint": "ab"}, ["crf 1: checkpoint ab"]),
        (
            {"tool": "crf", "version": "1", "from": {"cam": {"params": {"a": 1}}}},
            ["crf 1", "another program: a 1"],
        ),
    ],
)
def test_lineage_says_no_more_than_is_known(meta: Any, lines: list[str]) -> None:
    assert lineage(meta) == lines


def test_lineage_tells_the_whole_chain() -> None:
    walk = {**files.provenance("random-walk", {"crf": {"steps": 10}}), "from": {"cam": MADE}}
    lines = lineage(walk)
    assert lines[0].endswith("crf (steps 10)")
    assert lines[1].endswith("scales 0.5/1, checkpoint ab")
    assert lineage(None) == []


def test_values_of_one_image() -> None:
    values = image_values("x", ("background", "cat"), confusion([[5, 1, 0], [1, 3, 0]]))
    assert values == {
        "id": "x",
        "miou": pytest.approx(0.657143, abs=1e-6),
        "pixel_accuracy": 0.8,
        "iou": {"background": pytest.approx(0.714286, abs=1e-6), "cat": 0.6},
    }
    assert np.isfinite(values["miou"])
