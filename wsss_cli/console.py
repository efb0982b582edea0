"""Messages and progress for people, on stderr; results, on stdout.

The options ``-q``, ``-v`` and ``--debug`` of every command are set once by :func:`configure` and
apply to the whole process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from wsss_cli.terminal import Pipe

_LONGEST = 1000  # characters of a message; longer ones are shown in part
_LOG_INTERVAL = 30.0  # seconds between progress lines when stderr is not a terminal

# Set in the environment of a tool whose caller shows the progress: it is told in lines that begin
# with MARK, which no message does.
TELL, MARK = "WSSS_TELL_PROGRESS", "\x1e"
WHOLE = "whole"  # key of the line of a tool whose file is whole though records failed
_TELL_INTERVAL = 0.2

_level = 0  # -1 quiet, 0 normal, 1 verbose
_debug = False


def configure(*, quiet: bool = False, verbose: bool = False, debug: bool = False) -> None:
    """Set which messages are printed for the rest of the process."""
    global _level, _debug
    _level = 1 if verbose else -1 if quiet else 0
    _debug = debug


def quiet() -> bool:
    """Whether only warnings and errors are to be printed (``-q``)."""
    return _level < 0


def verbose() -> bool:
    """Whether explanations are to be printed (``-v``)."""
    return _level > 0


def debugging() -> bool:
    """Whether tracebacks are to be printed (``--debug``)."""
    return _debug


def warn(tool: str, text: str) -> None:
    """Print a warning or an error, also with ``-q``, so that no failed record goes unnamed."""
    _print(f"wsss {tool}: {text}")


def note(tool: str, text: str) -> None:
    """Print a message of general interest; silent with ``-q``."""
    if not quiet():
        _print(f"wsss {tool}: {text}")


def detail(tool: str, text: str) -> None:
    """Print an explanation; only with ``-v``."""
    if verbose():
        _print(f"wsss {tool}: {text}")


def relay(line: str) -> None:
    """Print a line as it is, such as one that another tool printed."""
    _print(line)


def result(lines: bytes) -> None:
    """Print whole lines on stdout, at once.

    Raises:
        OSError: they cannot be written; BrokenPipeError: whoever read them has gone.
    """
    from wsss_cli import terminal  # not needed by any help

    if screen := terminal.of(sys.stdout):
        sys.stdout.flush()
        screen.write(lines)
    else:
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()


def clean(text: str) -> str:
    """``text`` as a terminal may be shown it: one line, bounded, without control characters.

    Paths, labels and ids come from files of others. What is not printable (control characters,
    those that turn the direction of writing) is shown as an escape sequence of Python.

    >>> clean("a\\x1b[31m\\u202eb")
    'a\\\\x1b[31m\\\\u202eb'
    """
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 4 :]} ({len(text)} characters)"
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def listed(names: Sequence[str], most: int = 20) -> str:
    """The names, the first ``most`` of them and the number of the others."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return ", ".join(names)


def _print(line: str) -> None:
    """Write a whole line at once, above the lines that show progress if there are any."""
    from wsss_cli import terminal

    line = clean(line)
    with suppress(OSError):  # a terminal that has been closed ends no work
        if screen := terminal.of(sys.stderr):
            screen.write((line + "\n").encode(sys.stderr.encoding, "backslashreplace"))
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


class Progress(Protocol):
    """Yielded by :func:`progress`: ``update(n, loss=0.3)`` adds n and shows the loss."""

    def update(self, count: int = 1, **shown: Any) -> None: ...


@contextmanager
def progress(
    tool: str,
    *,
    total: int | None = None,
    unit: str = "image",
    initial: int = 0,
    pipe: Pipe | None = None,
) -> Iterator[Progress]:
    """Report progress: a line that changes on a terminal, a new line every 30 seconds in a log,
    nothing with ``-q``; to the caller if it asks, see ``TELL``.

    Args:
        tool: name of the tool, printed first.
        total: expected number of units, or None if it is unknown (a stream).
        unit: the unit that is counted, in the singular.
        initial: units that a resumed run has already done.
        pipe: that the units come from or go to, so that the next tool learns how many there are.
    """
    from wsss_cli import terminal

    if os.environ.get(TELL):
        yield _Told(total, unit, initial)
    elif quiet():
        yield SILENT
    elif screen := terminal.of(sys.stderr):
        line = terminal.Line(
            screen, tool, total=total, unit=unit, initial=initial, pipe=pipe or terminal.Pipe()
        )
        try:
            yield line
        finally:
            line.close()
    else:
        yield _Lines(tool, total, unit, initial)


class _Silent:
    def update(self, count: int = 1, **shown: Any) -> None:
        pass


SILENT = _Silent()


class _Told:
    """Progress for the caller, who shows it."""

    def __init__(self, total: int | None, unit: str, initial: int) -> None:
        self._told = {"total": total, "unit": unit}
        self._done, self._last = initial, -_TELL_INTERVAL

    def update(self, count: int = 1, **shown: Any) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._last >= _TELL_INTERVAL:
            self._last = now
            _tell({**self._told, "done": self._done, "shown": shown})


def tell_whole() -> None:
    """Tell the caller, if it asks, that what this tool makes is whole though records failed."""
    if os.environ.get(TELL):
        _tell({WHOLE: True})


def _tell(what: dict[str, Any]) -> None:
    with suppress(OSError):  # the caller has gone
        sys.stderr.write(f"{MARK}{json.dumps(what, default=str)}\n")
        sys.stderr.flush()


class _Lines:
    def __init__(self, tool: str, total: int | None, unit: str, initial: int) -> None:
        self._tool, self._total, self._unit = tool, total, unit
        self._initial, self._done = initial, initial
        self._started = self._last = time.monotonic()

    def update(self, count: int = 1, **shown: Any) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._last < _LOG_INTERVAL:
            return
        self._last = now
        rate = (self._done - self._initial) / max(now - self._started, 1e-9)
        parts = [f"{self._done}" + (f"/{self._total}" if self._total else "") + f" {self._unit}s"]
        parts.append(f"{rate:.2f}/s")
        if self._total and rate > 0:
            parts.append(f"{(self._total - self._done) / rate:.0f} s left")
        parts += [f"{key} {value}" for key, value in shown.items()]
        note(self._tool, ", ".join(parts))
