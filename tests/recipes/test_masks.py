"""Which commands ``wsss masks`` plans; running them: tests/commands/test_masks.py."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from wsss_cli.cli import COMMANDS, cli
from wsss_cli.errors import ConfigurationError
from wsss_cli.recipes.masks import FEW, FEW_BY_SALIENCY, Counted, Given, choose, count, make, plan
from wsss_cli.recipes.run import Step


def counted(each: int, **changed: Any) -> Counted:
    usual = {
        "labelled": 2 * each,
        "unlabelled": 0,
        "by_class": {"cat": each, "dog": each},
        "have_saliency": False,
        "alike": False,
    }
    return Counted(**{**usual, **changed})


def commands(given: Given, photographs: Counted) -> list[str]:
    return [step.command("wsss") for step in plan(given, photographs)[1]]


def test_photographs_are_counted_by_label() -> None:
    records = [
        {"id": "a", "labels": ["dog", "cat"], "saliency": "a.png"},
        {"id": "b", "labels": ["dog"], "saliency": "b.png"},
        {"id": "c", "labels": []},
        {"id": "d"},
    ]
    found = count(records)
    assert found == Counted(3, 1, {"cat": 1, "dog": 2}, have_saliency=False, alike=False)
    assert list(found.by_class) == ["cat", "dog"]
    assert found.each == 1.5
    assert count(records[:2]).have_saliency
    assert count([records[1], records[1]]).alike
    assert count([]) == Counted(0, 0, {}, have_saliency=False, alike=False)


@pytest.mark.parametrize("saliency", [False, True])
def test_the_way_follows_the_number_of_photographs_a_class(saliency: bool) -> None:
    few = FEW_BY_SALIENCY if saliency else FEW
    ways = [choose(counted(n), saliency=saliency) for n in (1, few, few + 1)]
    assert ways[0] == ways[1]
    assert ways[2].mask[0] == "random-walk"
    assert all(way.why for way in ways)
    assert choose(counted(4), saliency=True) != choose(counted(4), saliency=False)


@pytest.mark.parametrize(
    ("photographs", "lengths"),
    [
        (102, ["--steps 150", "--steps 150", "--steps 150"]),
        (200, ["--steps 150", "--epochs 8", "--epochs 12"]),  # 150 steps of 8 or 16
        (299, ["--steps 150", "--epochs 8", "--epochs 12"]),
        (300, ["--epochs 8", "--epochs 8", "--epochs 12"]),
    ],
)
@pytest.mark.parametrize("saliency", ["u2netp", None])
def test_every_training_is_long_enough(
    photographs: int, lengths: list[str], saliency: str | None, workdir: Path
) -> None:
    Path("a.jsonl").touch()
    given = Given(photos="a.jsonl", out="out", saliency=saliency, network=True)
    lines = commands(given, counted(FEW + 1, labelled=photographs))
    assert re.findall(r"--(?:epochs|steps) \d+", " ".join(lines)) == lengths


@pytest.mark.parametrize("each", [4, 16, FEW + 1, 130])
@pytest.mark.parametrize("saliency", ["u2netp", None])
def test_every_planned_command_is_one_that_the_tools_take(
    each: int, saliency: str | None, workdir: Path
) -> None:
    (workdir / "photos").mkdir()
    given = Given(photos="photos", out="out", saliency=saliency, network=True, device="cpu")
    for step in plan(given, counted(each))[1]:
        if not step.args:
            continue
        assert step.args[0] in COMMANDS
        for name in ("all", "photos", "saliency", "cam", "regions", "masks"):
            Path(f"out/{name}.jsonl").parent.mkdir(exist_ok=True)
            Path(f"out/{name}.jsonl").touch()
        for name in ("classifier.pt", "affinity.pt", "network.pt"):
            Path("out", name).touch()
        Path("out/classes.txt").write_text("cat\ndog\n")
        command = cli.get_command(None, step.args[0])  # type: ignore[arg-type]
        assert command is not None
        args = list(step.args[1:])
        if step.args[0] == "index":
            command, args = command.commands[args[0]], args[1:]  # type: ignore[attr-defined]
        command.make_context(step.args[0], args)


def test_without_saliency_labels_alone_are_used(workdir: Path) -> None:
    (workdir / "photos").mkdir()
    given = Given(photos="photos", out="my out")
    lines = commands(given, counted(4))
    assert lines[0] == "wsss index folder photos --merge-copies > 'my out/photos.jsonl'"
    assert lines[1] == "printf '%s\\n' cat dog > 'my out/classes.txt'"
    assert not any("saliency" in line for line in lines)
    assert lines[-1] == "wsss view 'my out/masks.jsonl' -o 'my out/report.html'"


def test_saliency_of_the_records_is_taken_as_it_is(workdir: Path) -> None:
    Path("photos.jsonl").touch()
    given = Given(photos="photos.jsonl", out="out", saliency="u2netp")
    lines = commands(given, counted(4, have_saliency=True))
    assert not any("wsss saliency" in line or "index" in line for line in lines)
    assert any("--by-saliency" in line for line in lines)
    alone = commands(Given(photos="photos.jsonl", out="out"), counted(4, have_saliency=True))
    assert not any("saliency" in line for line in alone)


@pytest.mark.parametrize("network", [False, True])
def test_photographs_without_labels_reach_the_network_alone(network: bool, workdir: Path) -> None:
    Path("a.jsonl").touch()
    given = Given(photos="a.jsonl", out="out", network=network)
    lines = commands(given, counted(4, unlabelled=1))
    assert lines[0] == "grep -E '\"labels\" *: *\\[' a.jsonl > out/photos.jsonl"
    rest = [line for line in lines[1:] if "a.jsonl" in line]
    assert [line.split()[1] for line in rest] == ["predict"] * network
    assert not any(line.startswith("grep") for line in commands(given, counted(4)))


def test_the_class_list_and_the_table_are_those_given(workdir: Path) -> None:
    (workdir / "photos").mkdir()
    given = Given(photos="photos", out="out", table="my.csv", classes=["dog", "a cat"])
    lines = commands(given, counted(4, by_class={"a cat": 4, "dog": 4}))
    assert "--csv my.csv" in lines[0]
    assert lines[1] == "printf '%s\\n' dog 'a cat' > out/classes.txt"


def test_only_what_differs_from_the_default_is_said(workdir: Path) -> None:
    Path("a.jsonl").touch()
    said = Given(photos="a.jsonl", out="out", device="cuda:1", seed=3)
    lines = commands(said, counted(4))
    assert sum("--device cuda:1" in line for line in lines) == 2
    assert sum("--seed 3" in line for line in lines) == 1
    usual = Given(photos="a.jsonl", out="out", device="auto", seed=0)
    assert not any("--device" in line or "--seed" in line for line in commands(usual, counted(4)))


@pytest.mark.parametrize(
    ("names", "listed", "said"),
    [
        (["cat", "dog"], ["cat"], "a.jsonl: label 'dog' is not in the class list"),
        (["cat", "Background"], None, "'Background' is always class 0"),
        (["cat", "a\nb"], None, r"the label 'a\\nb' is no name for a class"),
        (["cat", "b "], None, "the label 'b ' is no name for a class"),
        (["cat", "a\0b"], None, "is no name for a class"),
        (["cat", "#1"], None, "the label '#1' is no name for a class"),
        (["1 cat", "2 dog"], None, "the labels make no class list: its lines are numbered"),
        (["names: cat", "dog"], None, "'names: cat' is JSON or YAML; name them otherwise"),
        (["a:1,2,3::", "b"], None, "it holds colours; name them otherwise"),
    ],
)
def test_labels_that_cannot_be_classes_are_refused(
    names: list[str], listed: list[str] | None, said: str, workdir: Path
) -> None:
    Path("a.jsonl").touch()
    with pytest.raises(ConfigurationError, match=said):
        plan(
            Given(photos="a.jsonl", out="out", classes=listed),
            counted(4, by_class=dict.fromkeys(names, 4)),
        )


def test_what_nothing_can_be_learned_from_is_refused(workdir: Path) -> None:
    Path("a.jsonl").touch()
    given = Given(photos="a.jsonl", out="out")
    one = counted(4, by_class={"cat": 8}, alike=True)
    with pytest.raises(ConfigurationError, match="all photographs show cat: nothing to tell apart"):
        plan(given, one)
    plan(Given(photos="a.jsonl", out="out", saliency="u2netp"), one)
    with pytest.raises(
        ConfigurationError, match=r"a\.jsonl: no photograph shows a class; are these"
    ):
        plan(given, counted(4, by_class={}))
    Path("photos").mkdir()
    with pytest.raises(ConfigurationError, match="photos: no photograph shows a class; put the"):
        plan(Given(photos="photos", out="out"), counted(4, by_class={}))


def test_a_step_as_shell() -> None:
    assert Step(("view", "a b.jsonl", "-o", "x"), None).command("w") == "w view 'a b.jsonl' -o x"
    assert Step.labelled("a b.jsonl", "c.jsonl").command("w") == (
        "grep -E '\"labels\" *: *\\[' 'a b.jsonl' > c.jsonl"
    )
    assert Step.labelled("a.jsonl", "c.jsonl", ["x", "d/y.z"]).command("w") == (
        'grep -E \'"labels" *: *\\[\' a.jsonl | grep -v -E \'"id" *: *("x"|"d/y\\.z")\' > c.jsonl'
    )


def test_without_the_crf_nothing_is_begun(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.jsonl").write_text(
        '{"id": "a", "image": "a.jpg", "labels": ["cat"]}\n'
        '{"id": "b", "image": "b.jpg", "labels": ["dog"]}\n'
    )
    for name in ("a.jpg", "b.jpg"):
        Path(name).touch()
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(ConfigurationError, match="pip install pydensecrf2, which needs a C"):
        make(Given(photos="a.jsonl", out="out"))
    assert not Path("out").exists()
