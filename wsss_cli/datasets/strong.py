"""Strong and weak records: which learn from their true mask, for the semi-supervised setting.

``index --strong`` marks records: ``"strong": true`` may train on its ``mask``, ``"strong": false``
only be measured with it. A record without a mark may do both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction

from wsss_cli.errors import ConfigurationError
from wsss_cli.records import Record, RecordError, first_key

# ---- marking -------------------------------------------------------------------------------------


def mark_strong(records: Sequence[Record], share: Fraction, seed: int) -> list[Record]:
    """The records with ``strong`` added: True for a share of those with a ``mask``, else False.

    The choice follows from a hash of seed and id: it does not depend on the order of the records,
    and a larger share contains every smaller one.

    Args:
        records: of a whole data set.
        share: of the records with a ``mask``, above 0 and at most 1; rounded to whole records, but
            not to none.
        seed: random seed.
    """
    ranked = sorted(
        (place for place, record in enumerate(records) if record.get("mask")),
        key=lambda place: hashlib.sha256(f"{seed} {records[place]['id']}".encode()).digest(),
    )
    count = max(int(share * len(ranked) + Fraction(1, 2)), 1)
    chosen = set(ranked[:count])
    return [{**record, "strong": place in chosen} for place, record in enumerate(records)]


# ---- reading marked records ----------------------------------------------------------------------


def to_learn_from(record: Record) -> Record:
    """``record`` as a trainer may see it: without its ``mask`` if it is marked weak."""
    return _without_mask(record) if record.get("strong") is False else record


def check_strength(record: Record, key: str) -> None:
    """Check the mark of a record against the label map that a trainer would use.

    Args:
        record: as read.
        key: key of that label map, the first of the trainer's keys that the record may use.

    Raises:
        RecordError: marked strong, but without a ``mask``; or marked weak, with no map but that.
    """
    if record.get("strong") and not record.get("mask"):
        raise RecordError("marked \"strong\": true, but it has no 'mask'")
    if record.get("strong") is False and key == "mask":
        raise RecordError(
            "marked \"strong\": false, so its 'mask' is only to measure with, "
            "and it has no other map to learn"
        )


def by_strength(records: Sequence[Record], keys: Sequence[str]) -> tuple[list[int], list[int]]:
    """Places of the records that learn their true ``mask``, and of those that learn another map.

    Args:
        records: each with one of ``keys``, as a training session reads them.
        keys: keys of the label map, the first that a record has is the one used.
    """
    strong: list[int] = []
    weak: list[int] = []
    for place, record in enumerate(records):
        (strong if first_key(record, keys) == "mask" else weak).append(place)
    return strong, weak


def with_strong_masks(records: Sequence[Record]) -> list[Record]:
    """The records, of which only those marked strong keep their ``mask``.

    Raises:
        ConfigurationError: none of them has a mask then.
    """
    kept = [record if record.get("strong") is True else _without_mask(record) for record in records]
    if not any(record.get("mask") for record in kept):
        raise ConfigurationError(
            "no record has 'mask' and 'strong': true, which --strong-masks learns from "
            "('wsss index --strong 0.1' marks a tenth)"
        )
    return kept


def _without_mask(record: Record) -> Record:
    return {key: value for key, value in record.items() if key != "mask"}
