"""Which texts of a long stream came before, in little memory."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any


class Seen:
    """A set of texts that only grows: 12 to 24 bytes each, where Python's needs over 100.

    It keeps 64 bits of a digest of each text, in a table with linear probing. Two different texts
    are taken for the same with a probability of 3e-8 among a million, 3e-6 among ten million.
    """

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * 1024))  # 0 is a free place
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, text: str) -> bool:
        value, last = _digest(text), len(self._table) - 1
        place = value
        while there := self._table[place & last]:
            if there == value:
                return True
            place += 1
        return False

    def add(self, text: str) -> bool:
        """Add ``text``, and return whether it was there."""
        value = _digest(text)
        if self._put(value):
            return True
        self._count += 1
        if 3 * self._count > 2 * len(self._table):
            full, self._table = self._table, array("Q", bytes(16 * len(self._table)))
            for value in full:
                if value:
                    self._put(value)
        return False

    def _put(self, value: int) -> bool:
        """Put ``value`` into the table, and return whether it was there."""
        table, last = self._table, len(self._table) - 1
        place = value & last
        while there := table[place]:
            if there == value:
                return True
            place = (place + 1) & last
        table[place] = value
        return False


class Ids:
    """Which ids of a long stream came before, and whether with the same record."""

    def __init__(self) -> None:
        self._ids, self._records = Seen(), Seen()

    def taken(self, record_id: str, record: Mapping[str, Any]) -> bool:
        """Add a record, and return whether an earlier one had its id without being the same."""
        again = self._ids.add(record_id)
        return not self._records.add(json.dumps(record)) and again


def _digest(text: str) -> int:
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
