"""Which records are marked as strongly labelled, and what the marks mean to a trainer."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from typing import Any

import pytest

from wsss_cli.datasets.strong import (
    by_strength,
    check_strength,
    mark_strong,
    to_learn_from,
    with_strong_masks,
)
from wsss_cli.errors import ConfigurationError
from wsss_cli.records import RecordError

Records = list[dict[str, Any]]


def made(count: int) -> Records:
    return [{"id": f"{n:04}", "image": "x.jpg", "mask": "x.png"} for n in range(count)]


def strong(records: Records, share: str, seed: int = 0) -> set[str]:
    marked = mark_strong(records, Fraction(share), seed)
    assert all(isinstance(record["strong"], bool) for record in marked)
    return {record["id"] for record in marked if record["strong"]}


@pytest.mark.parametrize(
    ("share", "count"), [("1/16", 50), ("1/8", 100), ("0.1", 80), ("1", 800), ("0.00001", 1)]
)
def test_the_count_is_exact(share: str, count: int) -> None:
    assert len(strong(made(800), share)) == count


def test_halves_are_rounded_up() -> None:
    assert [len(strong(made(10), share)) for share in ("0.14", "0.15", "0.25", "0.35")] == [
        1,
        2,
        3,
        4,
    ]


def test_small_shares_lie_within_large_ones_and_seeds_differ() -> None:
    records = made(300)
    shares = [strong(records, share) for share in ("1/16", "1/8", "1/4", "1/2")]
    assert all(small < large for small, large in itertools.pairwise(shares))
    assert strong(records, "1/4", seed=1) != shares[2]


def test_neither_order_nor_records_without_masks_matter() -> None:
    records = made(100)
    shuffled = random.Random(0).sample(records, 100)
    assert strong(shuffled, "1/4") == strong(records, "1/4")
    bare = [{"id": f"bare {n}", "image": "x.jpg"} for n in range(50)]
    assert strong([*bare, *records], "1/4") == strong(records, "1/4")


def test_the_marked_are_spread_over_the_list() -> None:
    """A quarter of every quarter, about: the hash is no part of the order."""
    result = strong(made(1000), "1/4")
    counts = [
        sum(f"{n:04}" in result for n in range(start, start + 250)) for start in (0, 250, 500)
    ]
    assert all(45 <= count <= 80 for count in counts)
    assert strong(made(3), "1/3") == {"0001"}  # for good: later versions mark the same


# ---- what a trainer makes of marks ---------------------------------------------------------------


def test_who_learns_a_true_mask() -> None:
    given = [{"mask": "a", "pseudo": "b"}, {"pseudo": "b"}, {"mask": "a"}]
    assert by_strength(given, ["mask", "pseudo"]) == ([0, 2], [1])
    assert by_strength(given, ["pseudo", "mask"]) == ([2], [0, 1])


def test_only_strong_records_keep_their_mask() -> None:
    given = [
        {"id": "a", "mask": "a.png", "strong": True},
        {"id": "b", "mask": "b.png"},
        {"id": "c", "mask": "c.png", "strong": False},
        {"id": "d", "strong": True},
    ]
    assert ["mask" in record for record in with_strong_masks(given)] == [True, False, False, False]
    with pytest.raises(ConfigurationError, match="no record has 'mask' and 'strong': true"):
        with_strong_masks(given[1:])


def test_the_mask_of_a_weak_record_is_not_trained_on() -> None:
    weak = {"id": "a", "mask": "a.png", "pseudo": "b.png", "strong": False}
    assert to_learn_from(weak) == {"id": "a", "pseudo": "b.png", "strong": False}
    for other in ({"mask": "a.png"}, {"mask": "a.png", "strong": True}, {"strong": False}):
        assert to_learn_from(other) == other


def test_a_mark_must_fit_the_label_maps() -> None:
    check_strength({"mask": "a.png"}, "mask")
    check_strength({"mask": "a.png", "strong": True}, "mask")
    check_strength({"mask": "a.png", "strong": False}, "pseudo")
    with pytest.raises(RecordError, match="marked \"strong\": true, but it has no 'mask'"):
        check_strength({"pseudo": "b.png", "strong": True}, "pseudo")
    with pytest.raises(RecordError, match="it has no other map to learn"):
        check_strength({"mask": "a.png", "strong": False}, "mask")
