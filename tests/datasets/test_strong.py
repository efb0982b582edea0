"""Which records are marked as strongly labelled."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from typing import Any

import pytest

from wsss_cli.datasets.strong import mark_strong

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
    found = strong(made(1000), "1/4")
    counts = [sum(f"{n:04}" in found for n in range(start, start + 250)) for start in (0, 250, 500)]
    assert all(45 <= count <= 80 for count in counts)
    assert strong(made(3), "1/3") == {"0001"}  # for good: later versions mark the same
