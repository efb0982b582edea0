"""The frame of every command: switches, settings file, exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import click

from wsss_cli import console
from wsss_cli.errors import WsssError, describe


class Command(click.Command):
    """A command with ``-q``, ``-v`` and ``--debug`` that tells errors in one line.

    Exit codes: what the error says (1, or 2 for configuration), 130 when interrupted.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(["-q", "--quiet"], is_flag=True, help="Only warnings and errors."),
            click.Option(["-v", "--verbose"], is_flag=True, help="Explain what is done."),
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
        check_settings(self, info_name or "", parent)
        context = super().make_context(info_name, args, parent, **extra)
        for param in self.params:
            value = context.params.get(param.name or "")
            # Click finds NaN in every range.
            if any(each != each for each in (value if isinstance(value, tuple) else (value,))):
                raise click.BadParameter("nan is not a number", ctx=context, param=param)
        return context

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
        except KeyboardInterrupt:
            console.warn(tool, "interrupted; what is finished is safe")
            sys.exit(130)
        except Exception as error:
            if switches["debug"]:
                raise
            if isinstance(error, WsssError):
                console.warn(tool, describe(error))
                sys.exit(error.exit_code)
            if isinstance(error, OSError):
                lost = error.filename is None and error.errno in (errno.ENOSPC, errno.EIO)
                console.warn(tool, ("cannot write: " if lost else "") + describe(error))
            else:
                console.warn(tool, f"internal error: {error!r} (--debug shows where)")
            sys.exit(1)


def command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], Command]:
    """Declare a command of ``wsss``; its docstring is its help text."""
    return click.command(name, cls=Command, **attributes)


def check_settings(declared: click.Command, name: str, parent: click.Context | None) -> None:
    """Raise UsageError if the settings file names an option that the command does not have."""
    table = ((parent and parent.default_map) or {}).get(name, {})
    known = {param.name for param in declared.params if param.name}
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise click.UsageError(
                f"{parent and parent.find_root().obj}: [{name}] has no option '{key}'{hint}"
            )


def sleep_when_idle() -> None:
    """Let torch's threads sleep when they wait; to be called before torch is imported.

    By default they keep their core busy for a while, which the next tool in the pipe needs.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
