"""A share of a data set marked as strongly labelled, for the semi-supervised setting."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction

from wsss_cli.records import Record


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
