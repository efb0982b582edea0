"""Labels of a record and classes in its mask that disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_cli import console, files, records
from wsss_cli.classes import IGNORE
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.records import Record, labels

_SHOWN = 20  # records named; the rest is only counted
_EVERY = 4  # rows and columns of a mask looked at for its numbering
_LOOKED_AT = 200  # masks, where all need not be read
_FEW = 3  # photographs from which on they can speak for the numbers of the classes


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


class Numbering:
    """Whether foreign masks number their classes in the order of a class list.

    A mask of VOC does not name its classes, and any order gives an mIoU. The labels of the
    photographs tell: a mask in another order holds a class that its photograph does not show, in
    place of one that it shows. Such masks are rare in a sound set, and most of those of a class if
    its number means another.

    Args:
        classes: names of the numbers, counted from 1.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self._number = {name: place for place, name in enumerate(self.classes, start=1)}
        self._shown: Counter[str] = Counter()  # photographs by the classes of their labels
        self._other: Counter[str] = Counter()  # those with an unlabelled class in place of it
        self._photographs = self._strange = 0

    def look(self, record: Record, mask: npt.NDArray[np.uint8], ignore: int = IGNORE) -> None:
        """Count a mask, (H, W) uint8; of a record without labels, or of other classes, nothing."""
        number = self._number
        shown = {name: number[name] for name in labels(record) or () if name in number}
        found = np.bincount(mask[::_EVERY, ::_EVERY].ravel()).nonzero()[0].tolist()
        held = set(found) - {0, ignore}
        if not shown or not held:
            return
        missing = [name for name, place in shown.items() if place not in held]
        other = bool(held - set(shown.values()))
        self._photographs += 1
        self._strange += bool(missing and other)
        self._shown.update(list(shown))
        self._other.update(missing if other else ())

    def merge(self, counted: Numbering) -> None:
        """Add the counts of another."""
        self._shown += counted._shown
        self._other += counted._other
        self._photographs += counted._photographs
        self._strange += counted._strange

    def doubt(self, key: str) -> str:
        """What speaks for another order of the masks under ``key``; empty if nothing does."""
        mostly = self._photographs >= _FEW and 2 * self._strange > self._photographs
        suspects = [
            name
            for name in self.classes
            if 2 * self._other[name] > self._shown[name] and (mostly or self._shown[name] >= _FEW)
        ]
        if not suspects:
            return ""
        most = max(suspects, key=lambda name: self._other[name])
        return (
            f"'{key}' holds another class in place of '{most}' in {self._other[most]} of "
            f"{self._shown[most]} photographs labelled so; give --classes in the order of the masks"
        )


def check_numbering(given: Sequence[Record], key: str, classes: Sequence[str]) -> None:
    """Raise ConfigurationError if masks under ``key`` number their classes in another order.

    Looks at some of them; those that name their classes, or cannot be read, are not its business.
    """
    known = [record for record in given if record.get(key) and record.get("labels")]
    numbering = Numbering(classes)
    for record in known[:: -(-len(known) // _LOOKED_AT) or 1]:
        try:
            path = records.path(record, key)
            if not (files.read_meta(path) or {}).get("classes"):
                numbering.look(record, files.read_labels(path)[0])
        except (WsssError, OSError):
            continue
    if doubt := numbering.doubt(key):
        raise ConfigurationError(doubt)
