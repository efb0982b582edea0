"""Measuring maps and label maps: the sweep against one threshold at a time, rules, lineage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsss_cli import files
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.evaluation import (
    Evaluation,
    Rule,
    Sweep,
    as_json,
    lineage,
    load_counts,
    measure,
    merged,
    save_counts,
)  # fmt: skip
from wsss_cli.metrics import Confusion


def test_sweep_equals_one_threshold_at_a_time() -> None:
    rng = np.random.default_rng(0)
    thresholds = [0.2, 0.5, 0.75]
    sweep = Sweep(thresholds, 6)
    separate = [Confusion(6) for _ in thresholds]
    for numbers in ([2, 5], [1], []):
        maps = (rng.integers(0, 5, (len(numbers), 9, 11)) / 4).astype(np.float32)
        truth = rng.choice([0, 1, 2, 5, 255], (9, 11)).astype(np.uint8)
        sweep.counts += sweep.histogram(maps, numbers, truth)
        for threshold, confusion in zip(thresholds, separate, strict=True):
            scores = np.concatenate([np.full((1, 9, 11), threshold, np.float32), maps])
            confusion.update(np.array([0, *numbers])[scores.argmax(0)], truth)
    for place, confusion in enumerate(separate):
        assert np.array_equal(sweep.confusion(place).counts, confusion.counts)


def records_with_maps(background: bool = False) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    made = []
    for number in range(4):
        truth = np.zeros((16, 24), np.uint8)
        truth[4:12, 6:18] = 1 + number % 2
        truth[0, 0] = 255
        name = ["cat", "dog"][number % 2]
        plane = (truth[::4, ::4] % 255 > 0) * 0.8 + 0.1 * rng.random((4, 6))
        names, cam = [name], plane[None]
        if background:
            names, cam = ["background", name], np.stack([0.9 - plane, plane])
        meta = files.provenance(
            "make-cam", {"scales": [1, 2]}, checkpoint="ab", classes=["cat", "dog"]
        )
        files.write_maps(f"{number}.npz", cam, names, (16, 24), meta)
        files.write_label_map(f"{number}.png", truth)
        made.append({"id": str(number), "cam": f"{number}.npz", "mask": f"{number}.png"})
    return made


def run(records: list[dict[str, Any]], workers: int = 0, **options: Any) -> Any:
    settings = {
        "key": None,
        "truth": "mask",
        "classes": None,
        "rule": Rule(thresholds=(0.5,)),
        **options,
    }
    evaluation = Evaluation(**settings)
    problems: list[str] = []
    for _ in measure(iter(records), evaluation, workers=workers, on_error=problems.append):
        pass
    result = evaluation.result()
    result.failed = len(problems)
    return result, problems


@pytest.mark.parametrize("workers", [0, 2])
def test_the_best_threshold_is_the_best_of_single_ones(workdir: Path, workers: int) -> None:
    records = records_with_maps()
    thresholds = (0.1, 0.3, 0.5, 0.85)
    swept, _ = run(records, workers, rule=Rule(thresholds=thresholds))
    single = {t: run(records, rule=Rule(thresholds=(t,)))[0].confusion.miou() for t in thresholds}
    assert swept.confusion.miou() == max(single.values())
    assert swept.sweep == pytest.approx(single)
    assert swept.rule == "best of 4 thresholds"
    assert swept.made_by["params"] == {"scales": [1, 2]}


def test_own_background_is_used_when_there_is_one(workdir: Path) -> None:
    result, _ = run(records_with_maps(background=True), rule=Rule(thresholds=(0.01,), own=True))
    assert result.rule == "the maps' own background"
    assert result.confusion.miou() > 0.5
    other, _ = run(records_with_maps(background=True), rule=Rule(thresholds=(0.01,)))
    assert other.rule == "constant"


def test_alpha_rule(workdir: Path) -> None:
    result, _ = run(records_with_maps(), rule=Rule(alpha=4.0))
    assert result.rule == "(1 - max)^4"
    assert result.confusion.miou() > 0.5


def test_what_cannot_be_measured_is_named(workdir: Path) -> None:
    records = records_with_maps()
    files.write_label_map("small.png", np.zeros((4, 4), np.uint8))
    records[1]["mask"] = "small.png"
    records[2].pop("mask")
    records[3]["cam"] = "gone.npz"
    result, problems = run(records)
    assert result.images == 1
    assert problems == [
        "1: 1.npz: maps of an image of 24x16, but its mask is 4x4",
        "2: record has no 'mask' (made by index)",
        "3: cannot read maps: gone.npz: no such file",
    ]
    with pytest.raises(WsssError, match="nothing was measured"):
        run([])


def test_label_maps_without_a_list_have_numbers_for_names(workdir: Path) -> None:
    files.write_label_map("a.png", np.array([[0, 3]], np.uint8))
    result, _ = run([{"id": "a", "pred": "a.png", "mask": "a.png"}])
    assert list(as_json(result)["classes"]) == ["background", "3"]


def test_shards_add_up(workdir: Path) -> None:
    records = records_with_maps()
    whole, _ = run(records)
    for name, part in (("a", records[:1]), ("b", records[1:])):
        save_counts(f"{name}.json", run(part)[0])
    total = merged([load_counts("a.json"), load_counts("b.json")])
    assert np.array_equal(total.confusion.counts, whole.confusion.counts)
    assert (total.images, total.made_by) == (4, whole.made_by)
    save_counts("c.json", run(records, rule=Rule(thresholds=(0.3,)))[0])
    with pytest.raises(ConfigurationError, match=r"threshold is 0\.5 in one, 0\.3 in another"):
        merged([load_counts("a.json"), load_counts("c.json")])
    Path("d.json").write_text("[]")
    with pytest.raises(ConfigurationError, match=r"cannot read d\.json"):
        load_counts("d.json")


def test_lineage_tells_the_whole_chain() -> None:
    cam = files.provenance("make-cam", {"scales": [0.5, 1.0], "x": None}, checkpoint="ab")
    walk = files.provenance("random-walk", {"crf": {"steps": 10}}, sources={"cam": cam})
    lines = lineage(walk)
    assert lines[0].endswith("crf (steps 10)")
    assert lines[1].endswith("scales 0.5/1, checkpoint ab")
    assert lineage(None) == []
