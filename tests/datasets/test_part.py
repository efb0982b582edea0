"""Part of the classes: labels, the photographs left out, names that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from wsss_cli.datasets.part import Part, part_of
from wsss_cli.errors import ConfigurationError

RECORDS: list[dict[str, Any]] = [
    {"id": "a", "labels": ["cat", "dog"], "mask": "a.png"},
    {"id": "b", "labels": ["person"]},
    {"id": "c", "labels": []},
    {"id": "d"},
    {"id": "e", "labels": ["dog"]},
]


def only(*names: str) -> Part:
    return Part(option="--only", names=names)


def drop(*names: str) -> Part:
    return Part(option="--drop", names=names, dropped=True)


@pytest.mark.parametrize("part", [only("dog"), drop("cat", "person"), only("dog", "dog")])
def test_labels_that_stay(part: Part) -> None:
    kept, shown = part_of(RECORDS, part)
    assert kept == [
        {"id": "a", "labels": ["dog"], "mask": "a.png"},
        {"id": "c", "labels": []},
        {"id": "d"},
        {"id": "e", "labels": ["dog"]},
    ]
    assert shown == ["cat", "dog", "person"]
    assert RECORDS[0]["labels"] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (only("cta"), "--only: no class 'cta'; did you mean cat?"),
        (drop("DOG"), "--drop: no class 'DOG'; did you mean dog?"),
        (only("dog", "zzz"), "--only: no class 'zzz'; there are cat, dog, person, sheep"),
        (only("sheep"), "--only: no photograph is left; they show cat, dog, person"),
        (drop("cat", "dog", "person"), "--drop: no photograph is left"),
    ],
)
def test_what_cannot_be(part: Part, why: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        part_of(RECORDS, part, known=["sheep", "cat"])
    assert str(refused.value).startswith(why)


def test_without_labels_there_is_no_part() -> None:
    with pytest.raises(ConfigurationError, match="--only: no record has a label"):
        part_of(RECORDS[2:4], only("cat"))


def test_part_of_a_list() -> None:
    assert only("dog", "cat").of_list(["cat", "person", "dog"]) == ("cat", "dog")
    assert drop("person").of_list(["cat", "person", "dog"]) == ("cat", "dog")
    with pytest.raises(ConfigurationError, match="no class is left"):
        drop("cat").of_list(["cat"])
