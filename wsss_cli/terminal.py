"""The terminal that all tools of a pipe write to: messages above, below them one line a tool.

    wsss crf: b: cannot read image: b.jpg: no such file
                                                            the cursor rests in this free line
    make-cam     ━━━━━━━━━━━━━━━━━━━━━━━━  120/370  9.12image/s  00:27 left
    random-walk  ━━━━━━━━━━━━━━━━━━━━      101/370  8.75image/s  00:30 left

Below the cursor is nothing but these lines. Whoever writes erases what is there, writes, and draws
the lines of all tools again. So nobody needs to know what the screen looks like: what a killed
tool, a narrower window or a line of another program left is gone at the next drawing.

What the lines hold is in a file of the terminal, written by one process at a time. Its lock ends
with the process that holds it, and nobody waits long for it: drawing happens in a thread, and is
left out if it must.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import IO, Any

_FIRST = 0.5  # seconds until a tool has a line: what is done sooner needs none
_TICK = 0.2  # between two looks at whether there is something new to draw
_BEAT = 1.0  # between two drawings without news, for the clocks
_CLOSE = 0.1  # from a drawing to the next one that is not needed
_DEAD = 10.0  # from the last sign of life until a line is given up; a stopped tool gives none
_PATIENCE, _LITTLE = 1.0, 0.05  # waiting for the lock to print a message, to draw
_MOST_PIPES = 50  # of which is known how many records go through
# Lines are written over those that are there, so that none is missing for a moment.
_START, _END_OF_LINE, _BELOW = "\r", "\x1b[K", "\x1b[J"


@dataclass
class Work:
    """What a tool has to do and has done, as its line shows it.

    Attributes:
        tool: its name.
        unit: what is counted, in the singular.
        total: how much there is, or None.
        initial: what was done before it started.
        done: what is done.
        shown: other figures.
        rate: units a second, lately; None before the first.
        started: when, in seconds since 1970.
    """

    tool: str
    unit: str
    total: int | None
    initial: int
    done: int
    shown: Mapping[str, Any]
    rate: float | None
    started: float


class Terminal:
    """A terminal whose cursor can be moved.

    Args:
        number: its file descriptor.
        path: the file that the processes which write to it share.
    """

    def __init__(self, number: int, path: str) -> None:
        self._number, self._path = number, path

    def write(self, text: bytes) -> None:
        """Print whole lines above those of the tools.

        Raises:
            OSError: the terminal has been closed.
        """
        with self._state(_PATIENCE, changes=False) as state:
            if (state is None or state["frame"]) and self._is_ours():
                text = text.replace(b"\n", f"{_END_OF_LINE}\n".encode())
                text = _START.encode() + text + _block(state["frame"] if state else [])
            _write(self._number, text)

    def update(self, key: str, work: Work, pipe: Pipe) -> bool:
        """Show the line of a tool, or show it as it is now.

        Args:
            key: of the line; no other has it.
            work: what it shows; gets the total that the tool before it in the pipe has told.
            pipe: that the tool reads from and writes to.

        Returns:
            Whether that was possible: another process may be drawing.
        """
        with self._state(_LITTLE) as state:
            if state is None:
                return False
            if (learnt := pipe.learn(state["pipes"])) is not None:
                work.total = learnt
            pipe.tell(state["pipes"], work.total, work.shown)
            known = set(state["rows"])
            state["rows"][key] = {
                **vars(work),
                **{"pid": os.getpid(), "group": os.getpgrp(), "seen": time.time()},
                **{"reads": pipe.reads, "writes": pipe.writes},
            }
            _bury(state["rows"])
            if set(state["rows"]) != known or abs(time.time() - state["drawn"]) >= _CLOSE:
                self._draw(state)
        return True

    def remove(self, key: str, work: Work, pipe: Pipe, *, is_drawn: bool = False) -> None:
        """Take the line of a tool away, which has ended.

        Args:
            key, work, pipe: as of :meth:`update`.
            is_drawn: whether it may be on the screen though the file, on a full disk, knows none.
        """
        with self._state(_PATIENCE) as state:
            if state is None:
                return
            pipe.tell(state["pipes"], work.done, work.shown)
            had = state["rows"].pop(key, None)
            _bury(state["rows"])
            if had or is_drawn:
                self._draw(state)

    def _draw(self, state: dict[str, Any]) -> None:
        """Draw the lines of all tools, unless the terminal is another program's now."""
        if not self._is_ours():
            return
        try:
            columns, height = os.get_terminal_size(self._number)
        except OSError:
            columns, height = 0, 0
        works = [_work(row) for row in _in_order([*state["rows"].values()])]
        most = (height or 24) - 2  # the free line, and one to see what is above it
        state["frame"] = frame(works, (columns or 80) - 1, most) if works else []
        state["drawn"] = time.time()
        _write(self._number, _START.encode() + _block(state["frame"]))

    def _is_ours(self) -> bool:
        """Whether no other program has taken the keyboard over.

        A pager, an editor and the prompt of a shell read each key as it is pressed; they would be
        drawn over.
        """
        import termios

        try:
            return bool(termios.tcgetattr(self._number)[3] & termios.ICANON)
        except termios.error:
            return False

    @contextmanager
    def _state(self, patience: float, *, changes: bool = True) -> Iterator[dict[str, Any] | None]:
        """What is shared, to be read and changed by nobody else; None if it cannot be had in time.

        It is opened anew each time: threads exclude each other too, and a child that is forked
        inherits no lock.
        """
        import fcntl

        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            number = os.open(self._path, flags, 0o600)
        except OSError:
            yield None
            return
        try:
            if not _lock(number, patience):
                yield None
                return
            state = _read(number)
            yield state
            if changes:
                text = json.dumps(state, default=str).encode()
                os.pwrite(number, text, 0)
                os.ftruncate(number, len(text))
        finally:
            with suppress(OSError):
                fcntl.flock(number, fcntl.LOCK_UN)  # a child being forked may hold it open too
            os.close(number)


# ---- the terminal of this process ----------------------------------------------------------------


@cache
def at(number: int) -> Terminal | None:
    """The terminal behind a file descriptor; None if it is none, or one that only knows lines."""
    try:
        import fcntl  # noqa: F401  # neither is on Windows
        import termios  # noqa: F401
    except ImportError:
        return None
    try:
        if not os.isatty(number) or os.environ.get("TERM", "dumb") in ("", "dumb"):
            return None
        # Terminals of several containers may have one number, but not the same file system.
        status = os.fstat(number)
        name = f"{status.st_dev:x}-{status.st_ino:x}-{status.st_rdev:x}"
        return Terminal(number, os.path.join(_folder(), name))
    except OSError:
        return None


def of(stream: IO[Any] | None) -> Terminal | None:
    """The terminal that a stream writes to; None if it is none, or one that only knows lines."""
    try:
        return at(stream.fileno()) if stream is not None else None
    except (OSError, ValueError, AttributeError):  # closed, or no file
        return None


def _folder() -> str:
    """Where the shared files lie: a folder that nobody else can write to.

    Raises:
        OSError: there is none.
    """
    import tempfile  # takes its time, which no help needs

    for parent in filter(None, (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir())):
        folder = os.path.join(parent, f"wsss-{os.getuid()}")
        with suppress(OSError):
            os.mkdir(folder, 0o700)
        with suppress(OSError):
            status = os.lstat(folder)
            is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
            if is_own and not status.st_mode & 0o077 and os.access(folder, os.W_OK):
                return folder
    raise PermissionError("no folder for what the tools of a terminal share")


# ---- the pipe ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pipe:
    """Where a tool's records come from and go to, if these are pipes.

    Attributes:
        reads: the pipe that it reads, by which another process knows it too; or empty.
        writes: the pipe that it writes.
        shard: (k, n), if it takes the k-th of every n records, k counted from 1.
        limit: the most records that it takes, or None.
    """

    reads: str = ""
    writes: str = ""
    shard: tuple[int, int] = (1, 1)
    limit: int | None = None

    def part(self, total: int) -> int:
        """How many of a number of records the tool takes.

        >>> Pipe(shard=(3, 3), limit=8).part(100)
        2
        """
        number, of = self.shard
        return len(range(number - 1, total if self.limit is None else min(total, self.limit), of))

    def learn(self, pipes: Mapping[str, Any]) -> int | None:
        """How many records come, if the tools that write them have told."""
        told = pipes.get(self.reads) or {}
        return self.part(sum(told.values())) if told else None

    def tell(self, pipes: dict[str, Any], total: int | None, shown: Mapping[str, Any]) -> None:
        """Tell the next tool how many records will have come."""
        if self.writes and total is not None:
            told = pipes.setdefault(self.writes, {})
            told[str(os.getpid())] = total - int(shown.get("failed", 0))
            for old in list(pipes)[:-_MOST_PIPES]:
                del pipes[old]


def name_of_pipe(number: int) -> str:
    """By which both of its ends know a pipe; empty if it is none."""
    try:
        status = os.fstat(number)
    except OSError:
        return ""
    is_pipe = stat.S_ISFIFO(status.st_mode) and status.st_ino
    return f"{status.st_dev:x}-{status.st_ino:x}" if is_pipe else ""


# ---- the line of a tool --------------------------------------------------------------------------

_keys = count()


class Line:
    """The line of a tool of this process, drawn by a thread until it is closed.

    Args:
        terminal: where it is.
        tool: name of the tool.
        total: expected number of units, or None.
        unit: what is counted, in the singular.
        initial: units done before.
        pipe: what the tool reads and writes.
    """

    def __init__(
        self,
        terminal: Terminal,
        tool: str,
        *,
        total: int | None,
        unit: str,
        initial: int,
        pipe: Pipe,
    ) -> None:
        self._terminal, self._pipe = terminal, pipe
        self._key = f"{os.getpid()}-{next(_keys)}"
        self._work = Work(tool, unit, total, initial, initial, {}, None, time.time())
        self._is_known = False  # to other processes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def update(self, count: int = 1, **shown: Any) -> None:
        """Add to what is done, and show other figures."""
        self._work.done += count
        if shown:
            self._work.shown = {key: str(value) for key, value in shown.items()}

    def close(self) -> None:
        """Take the line away."""
        self._ended.set()
        self._thread.join(_PATIENCE)
        if self._is_known or self._pipe.writes:
            with suppress(OSError):
                self._terminal.remove(self._key, self._work, self._pipe, is_drawn=self._is_known)

    def _follow(self) -> None:
        """In the thread: show what is new."""
        if self._ended.wait(_FIRST):
            return
        from tqdm.std import EMA

        work, drawn = self._work, -_BEAT
        units, seconds = EMA(0.3), EMA(0.3)
        done, since = work.initial, time.monotonic() - (time.time() - work.started)
        is_new = True
        while True:
            now = time.monotonic()
            if work.done != done:
                work.rate = units(work.done - done) / seconds(now - since)
                done, since, is_new = work.done, now, True
            if is_new or now - drawn >= _BEAT:
                self._is_known, is_new, drawn = True, False, now
                with suppress(OSError):
                    is_new = not self._terminal.update(self._key, work, self._pipe)
            if self._ended.wait(_TICK):
                return


# ---- drawing -------------------------------------------------------------------------------------


def frame(works: Sequence[Work], width: int, most: int) -> list[str]:
    """The lines of tools, one below the other in columns.

    Args:
        works: what they show.
        width: of the longest possible line, in characters.
        most: number of lines there is room for; below 1 there is none.
    """
    if most < 1 or width < 12:
        return []
    from io import BytesIO, TextIOWrapper

    from rich.console import Console
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    hidden = len(works) - most + 1 if len(works) > most else 0
    has_bar, has_rate, has_time = width >= 64, width >= 48, width >= 36
    table = Table.grid(padding=(0, 2, 0, 0), expand=has_bar)
    table.add_column(no_wrap=True, overflow="ellipsis", style="bold")
    if has_bar:
        table.add_column(ratio=1, min_width=8)
    for _ in range(1 + has_rate + has_time):
        table.add_column(no_wrap=True, overflow="ellipsis", justify="right")
    if any(work.shown for work in works):
        table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
    for work in works[: len(works) - hidden]:
        done, rate, left = _figures(work)
        bar = ProgressBar(
            total=work.total,
            completed=work.done,
            pulse=work.total is None,
            animation_time=time.time(),
            complete_style="cyan",
            finished_style="green",
        )
        shown = " ".join(f"{name} {value}" for name, value in work.shown.items())
        cells: list[Any] = [work.tool, *([bar] if has_bar else []), done]
        table.add_row(*cells, *([rate] if has_rate else []), *([left] if has_time else []), shown)
    text = TextIOWrapper(BytesIO(), encoding=sys.stderr.encoding or "utf-8", errors="replace")
    console = Console(
        file=text,
        width=width,
        force_terminal=True,
        highlight=False,
        markup=False,
        legacy_windows=False,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
    )
    console.print(table)
    text.seek(0)
    return [*text.read().splitlines(), *([f"and {hidden} more"] if hidden else [])]


def _figures(work: Work) -> tuple[str, str, str]:
    """What is done of how much, how fast, and the time left or else that it took."""
    from tqdm.std import tqdm

    text = tqdm.format_meter(
        work.done,
        work.total,
        max(time.time() - work.started, 0.0),
        unit=work.unit,
        initial=work.initial,
        rate=work.rate,
        bar_format="{n_fmt}|{total_fmt}|{rate_fmt}|{elapsed}|{remaining}",
    )
    done, total, rate, elapsed, remaining = text.split("|")
    is_known = total != "?"
    return (
        f"{done}/{total}" if is_known else done,
        rate.strip() if work.rate is not None else "",
        f"{remaining} left" if is_known and work.rate is not None else elapsed,
    )


def _in_order(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows by the time of their processes, but those of a pipe as its records pass them.

    A shell may start the processes of a pipe in any order.
    """
    placed: dict[int, Mapping[str, Any]] = {}

    def place(row: Mapping[str, Any], after: tuple[int, ...] = ()) -> None:
        source = row.get("reads")
        for other in rows if source and id(row) not in after else ():
            if other.get("writes") == source:
                place(other, (*after, id(row)))
        placed.setdefault(id(row), row)

    for row in sorted(rows, key=lambda row: (row["group"], row["pid"])):
        place(row)
    return [*placed.values()]


def _work(row: Mapping[str, Any]) -> Work:
    return Work(**{name: row[name] for name in Work.__dataclass_fields__})


def _block(lines: Sequence[str]) -> bytes:
    """Draws lines below the cursor, and nothing else; the cursor stays in its line, then free."""
    text = "".join(f"{_END_OF_LINE}\n{line}" for line in lines) + _BELOW
    if lines:
        text += f"\x1b[{len(lines)}A\r"
    return text.encode(sys.stderr.encoding or "utf-8", "replace")


def _write(number: int, data: bytes) -> None:
    while data:
        data = data[os.write(number, data) :]


# ---- what is shared ------------------------------------------------------------------------------


def _lock(number: int, patience: float) -> bool:
    """Whether the file is this process's within so many seconds."""
    import fcntl

    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.005)


def _read(number: int) -> dict[str, Any]:
    """What is in the file; nothing if its writer was killed, as the others write theirs again.

    What another version wrote and this one does not know is left out: it must not stop a tool.
    """
    try:
        state = json.loads(os.pread(number, 1 << 20, 0))
        given = [state[name] for name in ("frame", "rows", "pipes", "drawn")]
    except (ValueError, KeyError, TypeError, RecursionError):
        given = []
    if not _fit(given, (list, dict, dict, int | float)) or not _fit(
        given[0], [str] * len(given[0])
    ):
        return {"frame": [], "rows": {}, "pipes": {}, "drawn": 0.0}
    lines, rows, pipes, drawn = given
    return {
        "frame": lines,
        "rows": {key: row for key, row in rows.items() if _is_row(row)},
        "pipes": {
            key: told
            for key, told in pipes.items()
            if isinstance(told, dict) and _fit([*told.values()], [int] * len(told))
        },
        "drawn": drawn,
    }


def _fit(values: Sequence[Any], kinds: Sequence[Any]) -> bool:
    """Whether values are of these types."""
    return len(values) == len(kinds) and all(map(isinstance, values, kinds))


def _is_row(row: Any) -> bool:
    """Whether this is the row of a tool, with all that is drawn of it."""
    if not isinstance(row, dict):
        return False
    number = int | float
    kinds = {
        **{"tool": str, "unit": str, "total": number | None, "initial": number, "done": number},
        **{"shown": dict, "rate": number | None, "started": number},
        **{"pid": int, "group": int, "seen": number},
    }
    return _fit([row.get(name) for name in kinds], [*kinds.values()]) and 0 < row["pid"] < 1 << 31


def _bury(rows: dict[str, Any]) -> None:
    """Take away the lines of processes that are no more, or have long given no sign of life."""
    now = time.time()
    for key, row in list(rows.items()):
        try:
            os.kill(row["pid"], 0)
            is_alive = True
        except OSError as error:
            is_alive = isinstance(error, PermissionError)
        if not is_alive or abs(now - row["seen"]) > _DEAD:
            del rows[key]
