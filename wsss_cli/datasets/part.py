"""Part of the classes of a data set: those that stay, and the photographs that show them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from wsss_cli import console
from wsss_cli.errors import ConfigurationError
from wsss_cli.records import Record, labels


@dataclass(frozen=True, kw_only=True)
class Part:
    """Which classes stay.

    Attributes:
        option: the option that names them, for messages.
        names: the names given.
        dropped: whether they are those that do not stay.
    """

    option: str
    names: tuple[str, ...]
    dropped: bool = False

    def checked(self, known: Sequence[str]) -> Part:
        """This part, if its names are among those that are known.

        Names that differ from a known one by capitals alone are refused too, with that name.

        Raises:
            ConfigurationError: one is not.
        """
        for name in self.names:
            if name not in known:
                alike = {each.casefold(): each for each in known}
                near = difflib.get_close_matches(name.casefold(), alike, n=1)
                hint = (
                    f"did you mean {alike[near[0]]}?"
                    if near
                    else f"there are {console.listed(known, 10)}"
                )
                raise ConfigurationError(f"{self.option}: no class '{name}'; {hint}")
        return replace(self, names=tuple(dict.fromkeys(self.names)))

    def stays(self, name: str) -> bool:
        """Whether a class does."""
        return (name in self.names) != self.dropped

    def of_list(self, classes: Sequence[str]) -> tuple[str, ...]:
        """The classes of a list that stay, in its order.

        Raises:
            ConfigurationError: a name is not in the list, or nothing stays.
        """
        part = self.checked(classes)
        if not (kept := tuple(filter(part.stays, classes))):
            raise ConfigurationError(f"{self.option}: no class is left")
        return kept

    def of_labels(self, names: Sequence[str]) -> list[str] | None:
        """The labels of a photograph that stay; None if it shows other classes alone."""
        kept = list(filter(self.stays, names))
        return kept if kept or not names else None


def tell_left_out(tool: str, count: int) -> None:
    """Tell how many photographs show no class that stays, if there are any."""
    if count:
        console.note(tool, f"{count} photographs show other classes alone; left out")


def part_of(
    indexed: Sequence[Record], part: Part, known: Iterable[str] = ()
) -> tuple[list[Record], list[str]]:
    """Records with those of their labels that stay.

    Photographs that show other classes alone are left out. Those without any class, or whose labels
    are not known, stay as they are. Masks stay as they are too.

    Args:
        indexed: all records of the data set.
        part: the classes that stay.
        known: names of classes that need not occur.

    Returns:
        The records, and the names of the classes that occurred before, sorted.

    Raises:
        ConfigurationError: no record has labels, a name is not that of a class, or no photograph
            that shows a class is left.
    """
    shown = sorted({name for record in indexed for name in labels(record) or ()})
    if not shown:
        raise ConfigurationError(f"{part.option}: no record has a label")
    part = part.checked([*shown, *(name for name in known if name not in shown)])
    kept = []
    for record in indexed:
        names = labels(record)
        of_part = None if names is None else part.of_labels(names)
        if names is None:
            kept.append(record)
        elif of_part is not None:
            kept.append({**record, "labels": of_part})
    if not any(record.get("labels") for record in kept):
        raise ConfigurationError(
            f"{part.option}: no photograph is left; they show {console.listed(shown, 10)}"
        )
    return kept, shown
