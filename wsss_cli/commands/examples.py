"""``wsss examples``: where the recipes lie."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import click

import wsss_cli
from wsss_cli import console
from wsss_cli.commands import _frame
from wsss_cli.errors import ConfigurationError

_ONE = "common.mk"  # in the folder


@_frame.command()
def command() -> None:
    """Print the folder of the recipes: makefiles, scripts, and the settings of the papers.

    Reads no records. README.md in the folder says what each recipe does and what it gave.

    \b
    Example:
      cp -r "$(wsss examples)" recipes
    """
    click.echo(console.clean(str(_folder())))


def _folder() -> Path:
    """The recipes: beside the package in its source, else installed with it."""
    source = Path(wsss_cli.__file__).resolve().parent.parent / "examples"
    if (source / _ONE).is_file():
        return source
    try:
        installed = [Path(str(each.locate())) for each in files("wsss") or () if each.name == _ONE]
    except PackageNotFoundError:
        installed = []
    if not (there := [path for path in installed if path.is_file()]):
        raise ConfigurationError("the recipes are not installed with wsss; they are in its source")
    return there[0].resolve().parent
