"""Steps of a recipe: commands to show, and to run one after another.

Each command is a process of its own, as a reader of the script would run it. Its messages pass
through; its progress becomes one line for the whole.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import wsss_cli
from wsss_cli import console, files, records
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.interrupt import withheld
from wsss_cli.records import Record

LOCK = ".wsss-lock"
_LABELS = r'"labels" *: *\['  # what grep looks for
_SPECIAL = re.compile(r"[][\\^$.|?*+(){}]")  # in its patterns


@dataclass(frozen=True)
class Step:
    """A command of a recipe.

    Attributes:
        args: arguments of ``wsss``; empty for a step that is no tool.
        output: file for what it prints, or None.
        text: lines that the step writes instead.
        source: file of records of which it keeps those with labels and a photograph.
        absent: ids in it whose photograph is not there.
        instead: what to do if it fails, in words.
    """

    args: tuple[str, ...]
    output: str | None = None
    text: tuple[str, ...] = ()
    source: str | None = None
    absent: tuple[str, ...] = ()
    instead: str = "what is finished is kept, and the same command goes on"

    @classmethod
    def lines(cls, text: Sequence[str], output: str) -> Step:
        """Write lines of text to a file."""
        return cls((), output, tuple(text))

    @classmethod
    def labelled(cls, source: str, output: str, absent: Sequence[str] = ()) -> Step:
        """Keep the records with labels, but for those whose photograph is not there."""
        return cls((), output, source=source, absent=tuple(absent))

    @property
    def name(self) -> str:
        return self.args[0] if self.args else Path(self.output or "").name

    @property
    def made(self) -> str:
        """The file or folder that is there after the step."""
        return self.targets[0]

    @property
    def targets(self) -> list[str]:
        """All files and folders that it writes."""
        folder = [self.args[self.args.index("-o") + 1]] if "-o" in self.args else []
        return [*([self.output] if self.output else []), *folder]

    def command(self, wsss: str) -> str:
        """The step as a line of shell; ``wsss`` is what to call."""
        if self.args:
            line = f"{wsss} {shlex.join(self.args)}"
        elif self.source:
            line = f"grep -E {shlex.join((_LABELS, self.source))}"
            if self.absent:
                line += f" | grep -v -E {shlex.quote(_with_ids(self.absent))}"
        else:
            line = f"printf '%s\\n' {shlex.join(self.text)}"
        return line + (f" > {shlex.quote(self.output)}" if self.output else "")


def _with_ids(ids: Iterable[str]) -> str:
    """Pattern of grep for the records with these ids."""
    quoted = (json.dumps(name, ensure_ascii=False) for name in ids)
    either = "|".join(_SPECIAL.sub(r"\\\g<0>", name) for name in quoted)
    return f'"id" *: *({either})'


def absent(record: Record) -> str | None:
    """Why the photograph of a record is not there, or None if it is."""
    try:
        [image] = records.paths(record, ["image"])
        os.stat(image)
    except (WsssError, OSError) as error:
        return f"{record['id']}: {describe(error)}"
    return None


def callable_as() -> str:
    """What to call in a shell to run this program."""
    called = sys.argv[0]
    if os.path.basename(called) == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m wsss_cli"
    found = shutil.which("wsss")
    is_found = found and os.path.realpath(found) == os.path.realpath(called)
    return "wsss" if is_found else shlex.quote(called)


@contextmanager
def locked(out: str) -> Iterator[int]:
    """Hold the folder ``out``, made if it is not there; gives what children are to inherit.

    The lock ends with the last process that holds it, however it ends: a tool that outlives a
    killed parent keeps it until it is done.

    Raises:
        ConfigurationError: another process holds it, or it cannot be made.
    """
    import fcntl

    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        path = os.path.join(out, LOCK)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ConfigurationError(
            f"{out}: cannot be written to: {error.strerror}; give another -o"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip()
            raise ConfigurationError(
                f"{out}: {_who(holder)}; wait for it, or give another -o"
            ) from None
        except OSError:  # a file system without locks
            pass
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _who(holder: str) -> str:
    """Who works in a folder, from what is written in its lock."""
    words = holder.split()
    if len(words) == 4 and words[3] == os.uname().nodename and words[1].isdecimal():
        try:
            os.kill(int(words[1]), 0)
        except ProcessLookupError:
            return f"a tool that {words[0]} {words[1]}, now gone, had started still works in it"
        except (OSError, OverflowError):
            pass
    return f"another 'wsss masks' works in it ({holder or 'unknown process'})"


class Runner:
    """Runs steps one after another.

    Args:
        tool: the recipe, first in its messages.
        steps: how many there will be.
        lock: from :func:`locked`.
        before: arguments of ``wsss`` before the command, such as ``--config``.

    Attributes:
        failed: whether a step had records that failed.
    """

    def __init__(self, tool: str, steps: int, lock: int, before: Sequence[str] = ()) -> None:
        self._tool, self._steps, self._lock = tool, steps, lock
        self._before = tuple(before)
        self._place = 0
        self._is_whole = False  # the running tool said that what it makes is there
        self.failed = False

    def __call__(self, step: Step) -> None:
        """Run a step to its end.

        Raises:
            StepFailed: it gave nothing that the next could work on.
        """
        self._place += 1
        if not step.args:
            self._write(step)
            return
        before = _written(step.made)
        self._is_whole = False
        code = self._run(step)
        # What lies there may be of an earlier run, made from other photographs.
        is_new = self._is_whole or _written(step.made) not in (None, before)
        if code == 1 and is_new and (not step.output or os.path.getsize(step.made)):
            self.failed = True  # of some records
        elif code:
            raise StepFailed(step, code)

    def _write(self, step: Step) -> None:
        assert step.output is not None
        with files.atomic(step.output) as temporary, open(temporary, "wb") as stream:
            if step.source is None:
                stream.writelines(f"{line}\n".encode() for line in step.text)
                return
            for record in records.read([step.source], self._left_out):
                if records.labels(record) is None:
                    continue
                if problem := absent(record):
                    self._left_out(problem)
                else:
                    stream.write(records.as_line(record))

    def _left_out(self, problem: str) -> None:
        self.failed = True
        console.warn(self._tool, problem)

    def _run(self, step: Step) -> int:
        """Exit code of the step; what it printed is in its file unless it is above 1."""
        if step.output is None:
            return self._process(step, None)
        with files.atomic(step.output) as temporary, open(temporary, "wb") as stream:
            code = self._process(step, stream)
            if code not in (0, 1):
                raise StepFailed(step, code)
        return code

    def _process(self, step: Step, stdout: IO[bytes] | None) -> int:
        process: subprocess.Popen[bytes] | None = None
        try:
            with withheld():  # until the process can end in order
                process = subprocess.Popen(
                    [*_python(), "-m", "wsss_cli", *self._before, *step.args, *_switches()],
                    stdin=subprocess.DEVNULL,
                    stdout=stdout or subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env={**os.environ, console.TELL: "1"},
                    pass_fds=[self._lock],
                    process_group=0,  # so that Ctrl-C reaches it once, from here
                )
            assert process.stderr is not None
            self._follow(step, process.stderr)
            return process.wait()
        except BaseException as error:
            if process is None:
                raise
            assert process.stderr is not None
            is_signal = isinstance(error, KeyboardInterrupt)
            process.send_signal(getattr(error, "number", signal.SIGINT if is_signal else 15))
            for line in process.stderr:
                if not line.startswith(console.MARK.encode()):
                    console.relay(line.decode(errors="replace").rstrip("\n"))
            process.wait()
            raise

    def _follow(self, step: Step, stream: IO[bytes]) -> None:
        """Pass messages on, and show progress."""
        heading = f"{self._tool} {self._place}/{self._steps} {step.name}"
        shown: console.Progress | None = None
        of: tuple[Any, ...] = ()  # total and unit of what is shown
        done = 0
        with ExitStack() as stack:
            for raw in stream:
                if not raw.startswith(console.MARK.encode()):
                    console.relay(raw.decode(errors="replace").rstrip("\n"))
                    continue
                if not (told := _progress(raw)):
                    continue
                if console.WHOLE in told:
                    self._is_whole = True
                    continue
                if shown is None or of != (told["total"], told["unit"]) or told["done"] < done:
                    stack.close()
                    of, done = (told["total"], told["unit"]), 0 if shown else told["done"]
                    shown = stack.enter_context(
                        console.progress(heading, total=of[0], unit=of[1], initial=done)
                    )
                shown.update(told["done"] - done, **told["shown"])
                done = told["done"]


class StepFailed(WsssError):
    """A step gave nothing that the next could work on.

    Args:
        step: the step.
        code: its exit code, or minus the number of the signal that killed it.
    """

    def __init__(self, step: Step, code: int) -> None:
        how = f"was killed (signal {-code})" if code < 0 else f"failed (exit code {code})"
        super().__init__(f"{step.name} {how}; {step.instead}")
        self.exit_code = code if code > 0 else 128 - code


def _written(path: str) -> tuple[int, int] | None:
    """What changes when a file is written again; None if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _python() -> list[str]:
    """This Python, without the modules of the working directory, which are the user's."""
    ours = Path(wsss_cli.__file__).resolve().parent.parent
    return [sys.executable, *(["-P"] if ours != Path.cwd() else [])]


def _switches() -> list[str]:
    """What this process was told to say, for its children: their warnings are enough by default."""
    told = ["-v"] if console.verbose() else ["-q"]
    return [*told, *(["--debug"] if console.debugging() else [])]


def _progress(line: bytes) -> dict[str, Any]:
    """What a tool told of its progress; nothing if it was cut short by its end."""
    try:
        told: dict[str, Any] = json.loads(line[len(console.MARK) :])
    except ValueError:
        return {}
    return told
