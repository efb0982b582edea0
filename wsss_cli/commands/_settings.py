"""The settings file as messages name it: with the line that a setting stands in."""

from __future__ import annotations

import re
from dataclasses import dataclass

import click
from click.core import ParameterSource

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"\s*([\w.\"'-]+)\s*=")


@dataclass(frozen=True)
class Settings:
    """The settings file.

    Attributes:
        path: its path as given.
        text: what it says.
    """

    path: str
    text: str = ""

    def at(self, table: str, key: str | None = None) -> str:
        """``PATH:LINE`` of a table, or of a key in it; the path alone if it cannot be told.

        Args:
            table: name of the command, ``index.voc`` for one of several.
            key: name of the option, with dashes or underscores.
        """
        wanted = _plain(table if key is None else f"{table}.{key}")
        within = ""
        for number, line in enumerate(self.text.splitlines(), start=1):
            if header := _HEADER.match(line):
                within = _plain(header[1])
                found = within
            elif setting := _KEY.match(line):
                found = f"{within}.{_plain(setting[1])}".lstrip(".")
            else:
                continue
            if found == wanted:
                return f"{self.path}:{number}"
        return self.path


def origin(context: click.Context, option: str | None) -> str:
    """``PATH:LINE: `` of an option's value that comes from the settings file; else nothing.

    Args:
        context: of the command.
        option: name of the option, or None.
    """
    if context.get_parameter_source(option or "") is not ParameterSource.DEFAULT_MAP:
        return ""
    settings = context.find_root().obj
    table = ".".join(context.command_path.split()[1:])
    return f"{settings.at(table, option)}: " if isinstance(settings, Settings) else ""


def _plain(name: str) -> str:
    return re.sub(r"[\"'\s]", "", name).replace("-", "_")
