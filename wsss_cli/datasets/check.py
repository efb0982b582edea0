"""Labels of a record and classes in its mask that disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wsss_cli import console
from wsss_cli.records import Record, labels

_SHOWN = 20  # records named; the rest is only counted


def difference(record: Record, present: Sequence[int], classes: Sequence[str]) -> str:
    """How labels and mask differ, in words; empty if they agree or the labels are not known.

    Args:
        record: the record.
        present: the class numbers in its mask, without background and ignored pixels.
        classes: names of these numbers, counted from 1.

    >>> difference({"id": "a", "labels": ["cat", "cow"]}, [1, 2], ["cat", "dog", "cow"])
    'labels without a pixel in the mask: cow; classes in the mask without a label: dog'
    """
    wanted = labels(record)
    if wanted is None:
        return ""
    shown = [classes[n - 1] if n <= len(classes) else f"class number {n}" for n in present]
    parts = {
        "labels without a pixel in the mask": [name for name in wanted if name not in shown],
        "classes in the mask without a label": [name for name in shown if name not in wanted],
    }
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)


class Differences:
    """Names the first records whose labels and mask differ, and counts them.

    Args:
        tool: the command, as in its messages.
    """

    def __init__(self, tool: str) -> None:
        self.tool, self.count = tool, 0

    def __call__(self, record_id: Any, text: str) -> None:
        """Report a record, if ``text`` says that it differs."""
        if text:
            self.count += 1
            if self.count <= _SHOWN:
                console.warn(self.tool, f"{record_id}: {text}")

    def finish(self, total: int) -> None:
        """Say how many of ``total`` records differ."""
        if self.count:
            console.warn(self.tool, f"labels and mask disagree in {self.count} of {total} records")
