"""Measuring maps and label maps: the best threshold, background rules, class lists, processes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsss_cli import files, inputs
from wsss_cli.stage import Failures
from wsss_cli.tools.eval import Question, Rule, Tally, _tally, evaluate, measure
from wsss_cli.tools.report import Measured, as_json

Records = list[dict[str, Any]]


def save_maps(name: str, cam: Any, names: list[str], listed: Any = ("cat", "dog")) -> str:
    meta = files.provenance("make-cam", {"scales": [1, 2]}, checkpoint="ab", classes=listed)
    files.write_maps(name, np.asarray(cam), names, (16, 24), meta)
    return name


def records_with_maps(background: bool = False, count: int = 4) -> Records:
    """Cats and dogs in turn, seen clearly but not where their maps are 0.1 strong by chance."""
    rng = np.random.default_rng(1)
    made = []
    for number in range(count):
        truth = np.zeros((16, 24), np.uint8)
        truth[4:12, 6:18] = 1 + number % 2
        truth[0, 0] = 255
        name = ["cat", "dog"][number % 2]
        plane = (truth[::4, ::4] % 255 > 0) * 0.8 + 0.1 * rng.random((4, 6))
        names, cam = [name], plane[None]
        if background:
            names, cam = ["background", name], np.stack([0.9 - plane, plane])
        save_maps(f"{number}.npz", cam, names)
        files.write_label_map(f"{number}.png", truth)
        made.append({"id": str(number), "cam": f"{number}.npz", "mask": f"{number}.png"})
    return made


def run(
    records: Records, workers: int = 0, each: bool = False, **options: Any
) -> tuple[Measured, list[str]]:
    """What ``records`` show, and what is said about those that cannot be counted."""
    question = Question(
        **{"key": None, "classes": None, "rule": Rule(thresholds=(0.5,)), **options}
    )
    problems: list[str] = []
    total: Tally | None = None
    for _, part in measure(
        iter(records), question, workers=workers, each=each, on_error=problems.append
    ):
        if total is None:
            total = part
        else:
            total.merge(part)
    assert total is not None
    return total.result(len(problems)), problems


@pytest.mark.parametrize("workers", [0, 2])
def test_the_best_threshold_is_the_best_of_single_ones(workdir: Path, workers: int) -> None:
    records = records_with_maps(count=20)
    thresholds = (0.02, 0.05, 0.1, 0.85)
    swept, _ = run(records, workers, rule=Rule(thresholds=thresholds))
    single = {t: run(records, rule=Rule(thresholds=(t,)))[0].confusion.miou() for t in thresholds}
    assert len(set(single.values())) == 4
    assert swept.confusion.miou() == max(single.values())
    assert swept.threshold == max(single, key=lambda t: single[t])
    assert as_json(swept)["sweep"] == pytest.approx(
        {f"{t:g}": score for t, score in single.items()}, abs=1e-6
    )
    assert swept.rule == "best of 4 thresholds"
    assert [made and made["params"] for made in swept.made_by] == [{"scales": [1, 2]}]


@pytest.mark.parametrize("count", [1, 17, 70])
def test_processes_change_nothing(workdir: Path, count: int) -> None:
    records = list(itertools.islice(itertools.cycle(records_with_maps()), count))
    records[count // 2 :: 9] = [{"id": f"gone {n}"} for n in range(len(records[count // 2 :: 9]))]
    if count == 1:
        records = records_with_maps(count=1)
    rule = Rule(thresholds=(0.05, 0.5))
    alone, problems = run(records, rule=rule)
    for workers, each in ((2, False), (2, True), (0, True)):
        other, same = run(records, workers, each, rule=rule)
        assert same == problems
        assert as_json(other) == as_json(alone)
        for one, another in zip(alone.confusions, other.confusions, strict=True):
            assert np.array_equal(one.counts, another.counts)


def test_records_are_given_back_in_order(workdir: Path) -> None:
    records = list(itertools.islice(itertools.cycle(records_with_maps()), 50))
    question = Question(key="cam", classes=None, rule=Rule(alpha=4.0))
    for each in (False, True):
        found = list(measure(iter(records), question, workers=2, each=each, on_error=pytest.fail))
        assert [record for chunk, _ in found for record in chunk] == records
        assert sum(part.images for _, part in found) == 50
        assert max(len(chunk) for chunk, _ in found) == (1 if each else 16)


def test_the_stream_is_not_read_ahead_without_bound(workdir: Path) -> None:
    record = records_with_maps()[0]
    taken = itertools.count()
    endless = ({**record, "id": str(next(taken))} for _ in itertools.repeat(None))
    question = Question(key="cam", classes=None, rule=Rule(alpha=4.0))
    chunks = measure(endless, question, workers=2, each=False, on_error=pytest.fail)
    for _ in range(3):
        next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert next(taken) < 200


def test_own_background_is_used_when_there_is_one(workdir: Path) -> None:
    records = records_with_maps(background=True)
    result, _ = run(records, rule=Rule(thresholds=(0.01,), own=True))
    assert (result.rule, result.threshold) == ("the maps' own background", None)
    assert result.confusion.miou() > 0.5
    other, _ = run(records, rule=Rule(thresholds=(0.01,)))
    assert (other.rule, other.threshold) == ("constant", 0.01)
    assert other.confusion.miou() < result.confusion.miou()
    none, _ = run(records_with_maps(), rule=Rule(thresholds=(0.01,), own=True))
    assert none.rule == "constant"


def test_alpha_rule(workdir: Path) -> None:
    result, _ = run(records_with_maps(), rule=Rule(alpha=4.0))
    assert result.rule == "(1 - max)^4"
    assert result.confusion.miou() > 0.5
    weak, _ = run(records_with_maps(), rule=Rule(alpha=1000.0))
    assert weak.confusion.recall()[0] < result.confusion.recall()[0]


@pytest.mark.parametrize(
    "rule", [Rule(thresholds=(0.2, 0.5)), Rule(thresholds=(0.0,)), Rule(alpha=9.0)]
)
def test_an_image_without_labels_is_all_background(workdir: Path, rule: Rule) -> None:
    records = records_with_maps(count=1)
    records[0]["cam"] = save_maps("none.npz", np.zeros((0, 4, 6)), [])
    result, _ = run(records, rule=rule)
    assert result.confusion.counts[:, 0].tolist() == [16 * 24 - 96 - 1, 96, 0]
    assert result.confusion.counts[:, 1:].sum() == 0
    labelled, _ = run(records_with_maps(count=2), rule=rule)
    assert (result.rule, result.thresholds) == (labelled.rule, labelled.thresholds)


def test_a_mask_that_is_ignored_all_over_counts_nothing(workdir: Path) -> None:
    records = records_with_maps()
    files.write_label_map("1.png", np.full((16, 24), 255, np.uint8))
    result, problems = run(records)
    assert problems == []
    assert result.images == 4
    assert result.confusion.counts.sum() == 3 * (16 * 24 - 1)
    alone, _ = run(records[1:2])
    assert as_json(alone)["miou"] is None


def test_what_cannot_be_measured_is_named(workdir: Path) -> None:
    records = records_with_maps()
    files.write_label_map("small.png", np.zeros((4, 4), np.uint8))
    records[1]["mask"] = "small.png"
    records[2].pop("mask")
    records[3]["cam"] = "gone.npz"
    for order in (records, records[::-1]):
        result, problems = run(order)
        assert (result.images, result.failed) == (1, 3)
        assert sorted(problems) == [
            "1: 1.npz: maps of an image of 24x16, but its mask is 4x4",
            "2: record has no 'mask' (made by index)",
            "3: cannot read maps: gone.npz: no such file",
        ]


def test_no_record_that_can_be_measured_gives_nothing(workdir: Path) -> None:
    question = Question(key=None, classes=None, rule=Rule(alpha=1.0))
    problems: list[str] = []
    for records in ([], [{"id": "a", "mask": "x.png"}]):
        assert not list(
            measure(iter(records), question, workers=2, each=False, on_error=problems.append)
        )
    assert problems == ["a: record has no 'pred', 'pseudo' or 'cam'; name a key with --key"]


def test_label_maps_without_a_list_have_numbers_for_names(workdir: Path) -> None:
    files.write_label_map("a.png", np.array([[0, 3]], np.uint8))
    result, _ = run([{"id": "a", "pred": "a.png", "mask": "a.png"}])
    assert list(as_json(result)["classes"]) == ["background", "3"]
    assert result.made_by == [None]


def test_maps_without_a_list_need_one(workdir: Path) -> None:
    records = records_with_maps(count=2)
    for record in records:
        save_maps(record["cam"], np.ones((1, 4, 6)), ["cat"], None)
    question = Question(key=None, classes=None, rule=Rule(alpha=1.0))
    problems: list[str] = []
    list(measure(iter(records), question, workers=0, each=False, on_error=problems.append))
    assert problems[0] == "0: 0.npz: the maps do not say their class list; give --classes"
    assert run(records, classes=("cat", "dog"))[0].images == 2


def test_another_class_list_is_refused(workdir: Path) -> None:
    records = records_with_maps()
    save_maps("1.npz", np.ones((1, 4, 6)), ["dog"], ("dog", "cat"))
    _, problems = run(records)
    assert problems == ["1: 1.npz: its class list is not that of the first file"]
    _, problems = run(records, classes=("dog", "cat"))  # maps name their classes
    assert problems == []
    meta = files.provenance("predict", {}, classes=["cat", "dog"])
    files.write_label_map("p.png", np.ones((16, 24), np.uint8), meta)  # numbers do not
    labelled = [{"id": "a", "pred": "p.png", "mask": "0.png"}]
    _, problems = run([*labelled, *labelled], classes=("cat", "dog", "cow"))
    assert problems == []
    found: list[str] = []
    question = Question(key=None, classes=("dog", "cat"), rule=Rule(alpha=1.0))
    list(measure(iter(labelled), question, workers=0, each=False, on_error=found.append))
    assert found == ["a: p.png: class number 1 is 'cat' in this file, but 'dog' in --classes"]


@pytest.mark.parametrize(
    ("listed", "good"),
    [
        (["cat", "dog"], True),
        (["cat"], True),
        (["cat", "dog", "cow"], True),
        (["dog", "cat"], False),
        (["aeroplane", "bicycle"], False),
        (["cat", "bicycle"], False),
    ],
)
@pytest.mark.parametrize("key", ["pred", "mask"])
def test_label_maps_of_other_classes_are_not_counted(
    key: str, listed: list[str], good: bool, workdir: Path
) -> None:
    """Also where no name is in both lists: class 1 is an aeroplane, not a cat."""
    for name in ("pred", "mask"):
        meta = {"classes": listed} if name == key else None
        files.write_label_map(f"{name}.png", np.ones((4, 4), np.uint8), meta)
    problems: list[str] = []
    question = Question(key=None, classes=("cat", "dog"), rule=Rule())
    record = {"id": "a", "pred": "pred.png", "mask": "mask.png"}
    list(measure(iter([record]), question, workers=0, each=False, on_error=problems.append))
    assert len(problems) == (not good)


def test_a_true_mask_of_other_classes_than_the_maps_is_not_counted(workdir: Path) -> None:
    records = records_with_maps(count=2)
    for number, listed in enumerate((["cat", "dog", "cow"], ["dog", "cat"])):
        files.write_label_map(f"{number}.png", np.ones((16, 24), np.uint8), {"classes": listed})
    result, problems = run(records)
    assert result.images == 1
    assert problems == [
        "1: 1.png: class number 1 is 'dog' in this file, but 'cat' in that of 'cam'",
    ]


def test_a_prediction_for_another_photograph_or_other_labels_is_not_counted(workdir: Path) -> None:
    Path("a.jpg").write_bytes(b"a photograph")
    files.write_label_map("t.png", np.ones((4, 4), np.uint8))
    digest = inputs.digest("a.jpg")
    record = {"id": "a", "image": "a.jpg", "pred": "p.png", "mask": "t.png", "labels": ["cat"]}
    for made_from, good in (
        ({"image": digest, "labels": ["cat"]}, True),
        ({"labels": ["cat"]}, True),
        ({"image": "f" * 16}, False),
        ({"image": digest, "labels": ["dog"]}, False),
    ):
        files.write_label_map("p.png", np.ones((4, 4), np.uint8), {"inputs": made_from})
        problems: list[str] = []
        question = Question(key=None, classes=("cat", "dog"), rule=Rule())
        list(measure(iter([record]), question, workers=0, each=False, on_error=problems.append))
        assert len(problems) == (not good)
        assert good or "make it again" in problems[0]
        settled = Question(key="pred", classes=("cat", "dog"), rule=Rule())
        tally, _ = _tally(settled, [record])
        assert tally.images == good
        assert tally.confusion.counts.sum() == 16 * good  # what is named counts nowhere


def test_a_key_that_the_first_record_lacks_is_named(workdir: Path) -> None:
    question = Question(key="found", classes=None, rule=Rule())
    problems: list[str] = []
    stream = iter([{"id": "a", "mask": "t.png"}])
    assert list(measure(stream, question, workers=0, each=False, on_error=problems.append)) == []
    assert problems == ["a: record has no 'found'"]


def test_a_label_beyond_the_list_is_named(workdir: Path) -> None:
    records = records_with_maps()
    files.write_label_map("1.png", np.full((16, 24), 9, np.uint8))
    _, problems = run(records)
    assert problems == [
        "1: 1.npz against 1.png: truth holds class number 9; 3 classes have the numbers 0 to 2"
    ]


def test_provenances_are_told_apart(workdir: Path) -> None:
    records = records_with_maps()
    meta = files.provenance("make-cam", {"scales": [1]}, checkpoint="cd", classes=["cat", "dog"])
    files.write_maps("2.npz", np.ones((1, 4, 6)), ["cat"], (16, 24), meta)
    result, _ = run(records)
    assert sorted(made["checkpoint"] for made in result.made_by if made) == ["ab", "cd"]
    assert as_json(result)["made_by"] == "mixed"


@pytest.mark.parametrize("workers", [0, 2])
def test_classes_that_no_label_names_are_told(
    workers: int, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 40 records, so that several processes count some."""
    records = []
    for record in records_with_maps(count=40):
        place = int(record["id"])
        records.append({**record, "labels": ["cat"] if place % 2 == 0 else []})
    for part in records:  # what shows no cat has no label, but a dog in the mask
        if not part["labels"]:
            save_maps(part["cam"], np.zeros((0, 4, 6)), [])
    told = "the true masks hold dog, which no label of these records names"

    def said(stream: Records) -> str:
        Path("in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in stream))
        question = Question(key="cam", classes=("cat", "dog"), rule=Rule(thresholds=(0.5,)))
        evaluate(["in.jsonl"], question, Failures("eval"), workers=workers)
        return capsys.readouterr().err

    assert told in said(records)
    assert told not in said([{**records[0], "labels": ["cat", "dog"]}, *records[1:]])
    unknown = {key: value for key, value in records[-1].items() if key != "labels"}
    assert told not in said([*records[:-1], unknown])
