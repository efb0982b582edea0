"""Help on a terminal: headings bold, names in colour. Imports nothing, as help is to be fast."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import click


class Formatter(click.HelpFormatter):
    """Writes the same text as click; with colours only to a terminal that shows them."""

    def write_heading(self, heading: str) -> None:
        """A heading in bold."""
        super().write_heading(_styled(heading, bold=True))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """A list of names, in colour, and what they mean."""
        coloured = [(_styled(name, fg="cyan"), meaning) for name, meaning in rows]
        super().write_dl(coloured, col_max, col_spacing)


class Context(click.Context):
    """A context whose help is written so."""

    formatter_class = Formatter


def _styled(text: str, *, bold: bool | None = None, fg: str | None = None) -> str:
    shows = os.environ.get("TERM", "dumb") not in ("", "dumb") and not os.environ.get("NO_COLOR")
    if not shows or sys.stdout is None or not sys.stdout.isatty():
        return text
    return click.style(text, bold=bold, fg=fg)
