"""What a result depends on: digests, what it was made from, and what changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from wsss_cli import inputs
from wsss_cli.errors import WsssError


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000  # more than is read at a time
    (tmp_path / "a.png").write_bytes(content)
    (tmp_path / "b.png").write_bytes(content)
    wanted = hashlib.sha256(content).hexdigest()[:16]
    assert inputs.digest(tmp_path / "a.png") == inputs.digest(tmp_path / "b.png") == wanted
    (tmp_path / "b.png").write_bytes(content[:-1])
    assert inputs.digest(tmp_path / "b.png") != wanted


def test_what_is_no_file_has_no_digest_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("none.png", "pipe.png", "."):
        assert inputs.digest(tmp_path / name) is None


def test_the_inputs_of_a_record(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    record = {
        "id": "a",
        "image": str(tmp_path / "a.png"),
        "cam": str(tmp_path / "none.npz"),
        "labels": ["ram", "fox", "ram"],
        "strong": True,
        "mask": str(tmp_path / "a.png"),
    }
    assert inputs.inputs(record, ["image", "cam", "labels", "strong", "saliency"]) == {
        "image": hashlib.sha256(b"a").hexdigest()[:16],
        "cam": None,
        "labels": ["ram", "fox"],
        "strong": True,
    }


@pytest.mark.parametrize(
    ("made_from", "message"),
    [
        ({"image": "7f", "labels": ["ram", "fox"]}, None),
        ({"image": "7f"}, None),
        ({}, None),
        ({"image": "8f"}, r"a\.npz: made from another photograph than a\.jpg; make it again"),
        ({"labels": ["ram"]}, r"made for the labels ram, but the record's are fox, ram; make it"),
        ({"labels": []}, r"made for the labels of no class, but the record's are fox, ram"),
    ],
)
def test_a_file_made_for_something_else_is_refused(made_from: Any, message: str | None) -> None:
    record = {"id": "a", "image": "a.jpg", "cam": "a.npz", "labels": ["fox", "ram"]}
    chained = {"tool": "crf", "inputs": {"cam": "1"}, "from": {"cam": {"inputs": made_from}}}
    for meta in ({"inputs": made_from}, chained, {"from": {"pseudo": chained}}):
        if message is None:
            inputs.check_source("cam", meta, "7f", record)
        else:
            with pytest.raises(WsssError, match=message):
                inputs.check_source("cam", meta, "7f", record)


def test_a_record_without_labels_takes_any() -> None:
    record = {"id": "a", "image": "a.jpg", "cam": "a.npz"}
    inputs.check_source("cam", {"inputs": {"labels": ["ram"]}}, None, record)
    inputs.check_source("cam", None, "7f", record)


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ({}, True),
        ({"tool": "crf", "classes": ["fox"], "from": {"cam": {"classes": ["fox"]}}}, True),
        ({"inputs": {"image": "7f", "labels": []}}, True),
        ({"inputs": {"image": None}}, True),
        ([], False),
        (5, False),
        ({"classes": 5}, False),
        ({"classes": "abc"}, False),
        ({"classes": {"a": 1}}, False),
        ({"classes": [1, 2]}, False),
        ({"classes": ["background", "fox"]}, False),
        ({"classes": ["fox", "fox"]}, False),
        ({"classes": [f"c{n}" for n in range(300)]}, False),
        ({"inputs": [1]}, False),
        ({"inputs": {"image": 5}}, False),
        ({"inputs": {"labels": "fox"}}, False),
        ({"from": []}, False),
        ({"from": {"cam": {"classes": 5}}}, False),
    ],
)
def test_what_can_be_a_provenance(value: Any, good: bool) -> None:
    assert inputs.is_provenance(value) is good


def test_a_provenance_without_end_is_none() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"from": {"cam": deep}}
    assert not inputs.is_provenance(deep)


def test_class_numbers_are_compared_with_the_nearest_list() -> None:
    meta = {"tool": "crf", "from": {"pseudo": {"classes": ["fox", "ram"]}}}
    assert inputs.class_list(meta) == ["fox", "ram"]
    for classes in ((), ("fox",), ("fox", "ram"), ("fox", "ram", "deer")):
        inputs.check_numbers("a.png", meta, classes, "--classes")
        inputs.check_numbers("a.png", None, classes, "--classes")
    with pytest.raises(WsssError, match="class number 2 is 'ram' in this file, but 'deer' in --cl"):
        inputs.check_numbers("a.png", meta, ("fox", "deer"), "--classes")


META = {
    "tool": "crf",
    "version": "1",
    "params": {"alpha": 8.0, "crf": {"steps": 10}},
    "checkpoint": "ab",
    "classes": ["fox"],
    "inputs": {"image": "7f", "cam": "11"},
    "from": {"cam": {"tool": "make-cam"}},
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"inputs": {"image": "8f", "cam": "11"}}, ["image"]),
        ({"inputs": {"image": "7f", "cam": "12"}}, ["cam"]),
        ({"inputs": {"image": "7f"}}, ["cam"]),
        ({"params": {"alpha": 8.0, "crf": {"steps": 9}}}, ["crf"]),
        ({"params": {"alpha": 8.0, "crf": {"steps": 10}, "all": True}}, ["all"]),
        ({"params": "x", "inputs": 3}, ["image", "cam", "alpha", "crf"]),
        ({"checkpoint": "cd", "classes": ["ram"]}, ["checkpoint", "class list"]),
        ({"version": "2"}, ["version of wsss"]),
        ({"from": {"cam": {"tool": "other"}}}, ["provenance"]),
    ],
)
def test_what_changed_is_named(change: dict[str, Any], named: list[str]) -> None:
    assert inputs.changes({**META, **change}, META) == named


def test_a_file_that_does_not_say_its_inputs_is_of_an_early_version() -> None:
    early = {key: value for key, value in META.items() if key != "inputs"} | {"version": "0"}
    assert inputs.changes(early, META) == ["version of wsss"]
