"""Settings in effect: which values the options of a command have, and from where."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from click.core import ParameterSource

from wsss_cli.commands import _frame, _options

_FROM = {
    ParameterSource.ENVIRONMENT: "environment",
    ParameterSource.DEFAULT_MAP: "file",
    ParameterSource.DEFAULT: "default",
}


def lines(
    parent: click.Context, declared: click.Command, name: str, *, changed: bool
) -> Iterator[str]:
    """The settings of a command, or of a group's commands, a line each.

    Args:
        parent: context that the command would be called in.
        declared: the command.
        name: what it is called.
        changed: leave the defaults out.

    Raises:
        UsageError: the file or the environment has an option or a value that it cannot have.
    """
    context = click.Context(declared, parent=parent, info_name=name)
    if isinstance(declared, _frame.Group):
        declared.check_settings(name, parent)
        for sub in declared.list_commands(context):
            inner = declared.get_command(context, sub)
            assert inner is not None
            yield from lines(context, inner, sub, changed=changed)
        return
    if isinstance(declared, _frame.Command):
        declared.rename_settings(name, parent)
    _frame.check_settings(declared, name, parent)
    table = ".".join(context.command_path.split()[1:])
    for param in declared.params:
        if isinstance(param, click.Option) and param.name not in ("quiet", "verbose", "debug"):
            value, source = param.consume_value(context, {})
            context.set_parameter_source(str(param.name), source)  # which errors name
            file = isinstance(param.type, click.Path | _options.ClassList)  # may come to be later
            if source is not ParameterSource.DEFAULT and not file:
                _frame.check_finite(context, param, param.type_cast_value(context, value))
            if not (changed and source is ParameterSource.DEFAULT):
                yield f"{table}.{param.name} = {_shown(value)}  # {_FROM[source]}"


def _shown(value: Any) -> str:
    """The value as TOML would write it; an option that is not set shows as a dash."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else "-"
