"""A share of a data set marked as strongly labelled, for the semi-supervised setting."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction

from wsss_cli.errors import ConfigurationError
from wsss_cli.records import Record, RecordError


def mark_strong(records: Sequence[Record], share: Fraction, seed: int) -> list[Record]:
    """The records with ``strong`` added: True for a share of those with a ``mask``, else False.

    Who is in the share follows from a hash of seed and id, so it is the same whatever the order,
    and a larger share holds the whole of a smaller one.

    Args:
        records: of a whole data set.
        share: of the records with a ``mask``, above 0 and at most 1; rounded to whole records, but
            not to none.
        seed: another one gives another share.
    """
    ranked = sorted(
        (place for place, record in enumerate(records) if record.get("mask")),
        key=lambda place: hashlib.sha256(f"{seed} {records[place]['id']}".encode()).digest(),
    )
    count = max(int(share * len(ranked) + Fraction(1, 2)), 1)
    chosen = set(ranked[:count])
    return [{**record, "strong": place in chosen} for place, record in enumerate(records)]


def by_strength(given: Sequence[Record], keys: Sequence[str]) -> tuple[list[int], list[int]]:
    """Places of the records that learn their true ``mask``, and of those that learn another map.

    Args:
        given: records as a session reads them.
        keys: keys of the label map, the first that a record has is the one used.
    """
    places: tuple[list[int], list[int]] = ([], [])
    for place, record in enumerate(given):
        used = next(key for key in keys if record.get(key))
        places[used != "mask"].append(place)
    return places


def with_strong_masks(given: Sequence[Record]) -> list[Record]:
    """Records that keep their ``mask`` only where they are marked ``strong``.

    Raises:
        ConfigurationError: none is marked.
    """
    made = [
        record if record.get("strong") is True else {k: v for k, v in record.items() if k != "mask"}
        for record in given
    ]
    if not any(record.get("mask") for record in made):
        raise ConfigurationError(
            "no record has 'mask' and 'strong': true, which --strong learns from "
            "('wsss index --strong 0.1' marks a tenth)"
        )
    return made


def check_strength(record: Record, key: str) -> None:
    """Raise RecordError if a record lacks what its mark says it learns; ``key`` is all it has."""
    if record.get("strong") and not record.get("mask"):
        raise RecordError("marked \"strong\": true, but it has no 'mask'")
    if record.get("strong") is False and key == "mask":
        raise RecordError(
            "marked \"strong\": false, so its 'mask' is only to measure with, "
            "and it has no other map to learn"
        )


def to_learn_from(record: Record) -> Record:
    """``record`` without the ``mask`` that it may be measured with but not trained on.

    That is the mask of a record marked ``"strong": false``.
    """
    if record.get("strong") is not False or "mask" not in record:
        return record
    return {key: value for key, value in record.items() if key != "mask"}
