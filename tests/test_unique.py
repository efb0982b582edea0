"""A compact set against Python's own."""

from __future__ import annotations

import random
import sys

from wsss_cli.unique import Ids, Seen


def test_it_knows_what_came_before() -> None:
    rng = random.Random(0)
    seen, known = Seen(), set()
    for _ in range(20_000):
        text = f"images/{rng.randrange(9_000)}"
        assert (text in seen) == (text in known)
        assert seen.add(text) == (text in known)
        known.add(text)
        assert len(seen) == len(known)


def test_any_text_will_do() -> None:
    seen = Seen()
    texts = ["", "a", "A", "é", "e\u0301", "\0", "\ud800", "x" * 100_000, "a" * 7, "a" * 8, "a" * 9]
    assert not any(map(seen.add, texts))
    assert all(map(seen.add, texts))


def test_equal_digests_are_told_apart_by_their_neighbours() -> None:
    """Values that fall on the same place, the last one of the table among them."""
    seen = Seen()
    size = len(seen._table)
    values = [place + lap * size for place in (1, size - 1) for lap in range(1, 40)]
    assert not any(map(seen._put, values))
    assert all(map(seen._put, values))
    assert not seen._put(40 * size + 1)


def test_its_memory() -> None:
    """At most 24 bytes a text."""
    seen = Seen()
    for number in range(50_000):
        seen.add(str(number))
    assert sys.getsizeof(seen._table) <= 24 * 50_000


def test_an_id_may_come_again_with_the_same_record() -> None:
    ids, record = Ids(), {"id": "a", "labels": ["cat"]}
    assert not ids.taken("a", record)
    assert not ids.taken("a", dict(record))
    assert not ids.taken("b", {"id": "b"})
    assert ids.taken("a", {**record, "labels": ["dog"]})
