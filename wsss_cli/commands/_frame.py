"""The frame of every command: its switches, its settings file, its exit code."""

from __future__ import annotations

import errno
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import click

from wsss_cli import console
from wsss_cli.commands import _options
from wsss_cli.commands._help import Context
from wsss_cli.commands._settings import Settings, origin
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.interrupt import exit_code


class Command(click.Command):
    """A command with ``-q``, ``-v`` and ``--debug`` that reports each error in one line.

    Exit codes: the error's own (1, or 2 for configuration), 130 when interrupted.

    Args:
        renamed: old flags that still work, with a warning, and the new flag of each.
    """

    context_class = Context

    def __init__(self, *args: Any, renamed: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.renamed = dict(renamed or {})
        self.params += [
            click.Option(["-q", "--quiet"], is_flag=True, help="Print only warnings and errors."),
            click.Option(["-v", "--verbose"], is_flag=True, help="Explain each step."),
            click.Option(["--debug"], is_flag=True, help="Show tracebacks."),
        ]
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        name = info_name or ""
        self.rename_settings(name, parent)
        check_settings(self, name, parent)
        try:
            context = super().make_context(name, self._rename_flags(name, args), parent, **extra)
        except WsssError as error:  # of an option's value, such as a class list
            path = f"{parent.command_path} {name}" if parent else name
            console.warn(path.partition(" ")[2] or path, describe(error))
            sys.exit(error.exit_code)
        for param in self.params:
            check_finite(context, param, context.params.get(param.name or ""))
        return context

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click's parser forgets it where a value is missing
            raise

    def _rename_flags(self, name: str, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        renamed = []
        for arg in args[:end]:
            flag, equals, value = arg.partition("=")
            if flag in self.renamed:
                console.warn(name, f"{flag} is called {self.renamed[flag]} now")
                arg = self.renamed[flag] + equals + value
            renamed.append(arg)
        return renamed + args[end:]

    def rename_settings(self, name: str, parent: click.Context | None) -> None:
        """Move settings under old names to the new ones, in the table and the environment."""
        table = ((parent and parent.default_map) or {}).get(name, {})
        for old, new in self.renamed.items():
            before, after = (flag.removeprefix("--").replace("-", "_") for flag in (old, new))
            for settings, key, target in (
                (table, before, after),
                (os.environ, _variable(parent, name, before), _variable(parent, name, after)),
            ):
                if settings.get(key, "") != "":
                    console.warn(name, f"setting {key} is called {target} now")
                    settings.setdefault(target, settings.pop(key))

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(context, formatter)
        if any(param.name == "records" for param in self.params):
            formatter.write_paragraph()
            formatter.write_text(
                "RECORDS are files of records, one JSON object a line; without any, stdin is read."
            )

    def invoke(self, context: click.Context) -> Any:
        tool = context.command_path.partition(" ")[2] or str(context.info_name)
        switches = {name: context.params.pop(name) for name in ("quiet", "verbose", "debug")}
        console.configure(**switches)
        try:
            return super().invoke(context)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError, SystemExit):
            raise
        except KeyboardInterrupt as error:
            console.warn(tool, "interrupted; what is finished is safe")
            sys.exit(exit_code(error))
        except Exception as error:
            if switches["debug"]:
                raise
            if isinstance(error, WsssError):
                option = error.option if isinstance(error, ConfigurationError) else None
                console.warn(tool, origin(context, option) + describe(error))
                sys.exit(error.exit_code)
            if isinstance(error, OSError):
                lost = error.filename is None and error.errno in (errno.ENOSPC, errno.EIO)
                console.warn(tool, ("cannot write: " if lost else "") + describe(error))
            else:
                console.warn(tool, f"internal error: {error!r} (--debug shows where)")
            sys.exit(1)


class Group(click.Group):
    """A command that is several, such as ``index voc`` and ``index folder``."""

    context_class = Context

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        self.check_settings(info_name or "", parent)
        return super().make_context(info_name, args, parent, **extra)

    def check_settings(self, name: str, parent: click.Context | None) -> None:
        """Raise UsageError if the settings file has something else for it than their tables, or
        the environment a variable of none of them."""
        _check_environment(self.commands, name, parent, starts=True)
        for key, value in ((parent and parent.default_map) or {}).get(name, {}).items():
            if key not in self.commands:
                near = get_close_matches(key, self.commands, n=1)
                hint = f"did you mean [{name}.{near[0]}]?" if near else f"write [{name}.COMMAND]"
                problem = f"has no command '{key}'; {hint}"
            elif not isinstance(value, dict):
                problem = f"{key} is not a table; write [{name}.{key}]"
            else:
                continue
            raise _wrong_setting(parent, [name], key, problem)


def command(**attributes: Any) -> Callable[[Callable[..., Any]], Command]:
    """Declare the command of a module: its name is the module's, its help the docstring."""

    def decorate(function: Callable[..., Any]) -> Command:
        named = function.__module__.rpartition(".")[2].replace("_", "-")
        declared: Command = click.command(**{"name": named, "cls": Command, **attributes})(function)
        return declared

    return decorate


def check_settings(declared: click.Command, name: str, parent: click.Context | None) -> None:
    """Raise UsageError if the settings file or the environment names an option that the command
    does not have, or the file gives one a value that it cannot have."""
    _check_environment((p.name for p in declared.params), name, parent)
    table = ((parent and parent.default_map) or {}).get(name, {})
    options = {p.name: p for p in declared.params if p.name and isinstance(p, click.Option)}
    path = [*(parent.command_path.split()[1:] if parent else ()), name]
    for key, value in table.items():
        if key not in options:
            near = get_close_matches(key, options, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise _wrong_setting(parent, path, key, f"has no option '{key}'{hint}")
        if not _fits(options[key], value):
            shown = str(value).lower() if isinstance(value, bool) else repr(value)
            flag = max(options[key].opts, key=len)
            problem = f"{key} = {shown[:80]}: not a value of {flag}"
            raise _wrong_setting(parent, path, key, problem)
        if isinstance(options[key].type, _TEXT) and not isinstance(value, str | bool | list):
            table[key] = str(value)  # as on the command line


def check_finite(context: click.Context, param: click.Parameter, value: Any) -> None:
    """Raise BadParameter if a number is none that can be computed with.

    Click finds NaN in every range, and infinity in those without an end.
    """
    for each in value if isinstance(value, tuple) else (value,):
        if isinstance(each, float) and not math.isfinite(each):
            why = "is not a number" if math.isnan(each) else "is not finite"
            raise click.BadParameter(f"{each} {why}", context, param)


def _check_environment(
    names: Iterable[str | None], name: str, parent: click.Context | None, *, starts: bool = False
) -> None:
    """Raise UsageError if a variable in the environment is that of no option of a command.

    Args:
        names: the options; of a command that is several, the commands.
        starts: whether the variables only begin with these names.
    """
    prefix = _variable(parent, name, "")
    known = [_variable(parent, name, f"{each}_" if starts else f"{each}") for each in names]
    for variable, value in os.environ.items():
        if not value or not variable.startswith(prefix) or variable in known:
            continue
        if not (starts and variable.startswith(tuple(known))):
            near = get_close_matches(variable, known, n=1)
            hint = f"; did you mean {near[0]}{'…' if starts else ''}?" if near else ""
            path = " ".join([*(parent.command_path.split()[1:] if parent else ()), name])
            raise click.UsageError(f"environment: {variable} is no option of {path}{hint}")


def _variable(parent: click.Context | None, name: str, option: str) -> str:
    """The variable of an option in the environment, as click makes it."""
    prefix = parent.auto_envvar_prefix if parent else None
    return f"{prefix}_{name}_{option}".replace("-", "_").upper()


def _wrong_setting(
    parent: click.Context | None, table: list[str], key: str, problem: str
) -> click.UsageError:
    settings = parent.find_root().obj if parent else None
    name = ".".join(table)
    where = settings.at(name, key) if isinstance(settings, Settings) else "settings"
    return click.UsageError(f"{where}: [{name}] {problem}")


_TEXT = (click.types.StringParamType, click.Path, click.Choice)


def _fits(option: click.Option, value: Any) -> bool:
    """Whether a value of a settings file has a type that click can convert for an option."""
    if option.is_flag:
        return isinstance(value, bool | str)
    if isinstance(value, list) and option.multiple:
        return bool(value) and all(isinstance(part, str) and "\0" not in part for part in value)
    if isinstance(value, list):
        takes = isinstance(option.type, _options.Numbers | click.types.UnprocessedParamType)
        return takes and all(type(part) in (int, float) for part in value)
    if isinstance(value, float) and isinstance(option.type, click.types.IntParamType):
        return False  # click would cut it off
    if isinstance(value, str):
        return "\0" not in value  # no path can hold it
    return isinstance(value, int | float) and not isinstance(value, bool)


def sleep_when_idle() -> None:
    """Let torch's threads sleep when they wait; to be called before torch is imported.

    By default they keep their core busy for a while, which the next tool in the pipe needs.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
