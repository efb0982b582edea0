"""Kills and signals at random moments, then the same command again."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults.ground import STREAMING, TRAINING, Done, Ground, Row, fresh, quiet, whole_files
from wsss_cli import files

KILLS, KILLS_OF_TRAINERS = 6, 3  # of each tool
WAYS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WHOLE = "files whole, printed records have theirs; a rerun ends as a run left alone"
LEAVES = "128 + number, no traceback, no process left; whole records; a state to go on from"


def kills(ground: Ground) -> Iterator[Row]:
    """Whatever the moment: files are whole, records printed have their files, and a rerun ends so
    as a run left alone."""
    for tool, (_, options) in STREAMING.items():
        yield _streaming(ground, tool, options)
    for tool, options in TRAINING.items():
        yield _training(ground, tool, options)


def _more(folder: str, pattern: str, number: int) -> Callable[[], bool]:
    """A moment: so many more files in a folder than now."""
    goal = number + len(list(Path(folder).glob(pattern)))
    return lambda: len(list(Path(folder).glob(pattern))) >= goal


def _streaming(ground: Ground, tool: str, options: tuple[str, ...]) -> Row:
    row = Row(f"kill -9 of {tool}", WHOLE)
    command = (tool, ground.stream, *options, "--skip-existing", "-o")
    ground.run(*command, fresh(f"left/{tool}"), check=0)
    wanted = whole_files(f"left/{tool}")
    out = fresh(f"killed/{tool}")
    for number in range(ground.several(KILLS)):
        rng = ground.rng("kill", tool, number)
        files_more, after = rng.randrange(5), rng.uniform(0, 0.1)
        done, struck = ground.interrupted(
            *(*command, out),
            how=signal.SIGKILL,
            after=after if files_more else 5 * after,
            ready=_more(out, "**/[!.]*.*", files_more),
        )
        row.cases += struck
        where = (
            f"{' '.join(command)} {out}, killed {after:.3f} s after {files_more} files "
            f"(kill {number})"
        )
        for name, content in whole_files(out).items() if Path(out).exists() else ():
            row.check(content == wanted.get(name), f"{name} is not as left alone: {where}")
        _printed(row, done, out, where)
    row.check(not (left := ground.left_over()), f"processes are left of {tool}: {left}")
    ended = ground.run(*command, out)
    row.check(ended.code == 0, f"the run after the kills: {ended.code}, {ended.err}")
    row.check(whole_files(out) == wanted, f"after all kills {out} is not left/{tool}")
    return row


def _printed(row: Row, done: Done, out: str, where: str) -> None:
    """Check that stdout holds whole records, whose new files are there."""
    for line in done.out.splitlines(keepends=True):
        if row.check(line.endswith("}\n"), f"half a record was printed: {line!r}: {where}"):
            for value in json.loads(line).values():
                named = isinstance(value, str) and value.startswith(f"{out}/")
                row.check(not named or Path(value).exists(), f"{value} does not exist: {where}")


def _training(ground: Ground, tool: str, options: tuple[str, ...]) -> Row:
    row = Row(f"kill -9 of {tool}", WHOLE)
    command = (tool, ground.stream, *options, "--resume", "-o")
    started = time.monotonic()
    ground.run(*command, f"{fresh(f'left/{tool}')}/net.pt", check=0)
    takes = time.monotonic() - started
    out = f"{fresh(f'killed/{tool}')}/net.pt"
    for number in range(ground.several(KILLS_OF_TRAINERS)):
        after = ground.rng("kill", tool, number).uniform(0.0, 0.4) * takes
        _, struck = ground.interrupted(
            *(*command, out),
            how=signal.SIGKILL,
            after=after,
            ready=_more(f"killed/{tool}", "*.log.jsonl", 0 if number else 1),
        )
        row.cases += struck
        where = f"{' '.join(command)} {out}, killed {after:.3f} s later (kill {number})"
        for path in Path(out).parent.glob("net*.pt"):
            try:
                files.load_tensors(path, "file")
            except Exception as error:
                row.violations.append(f"{error}: {where}")
    row.check(not (left := ground.left_over()), f"processes are left of {tool}: {left}")
    ended = ground.run(*command, out)
    where = f"{' '.join(command)} {out}, after {row.cases} kills"
    if row.check(ended.code == 0, f"{where}: {ended.code}, {ended.err}"):
        row.check(_same(out, f"left/{tool}/net.pt"), f"{where}: other weights than left alone")
        kept = sorted(path.name for path in Path(out).parent.glob("[!.]*"))
        row.check(kept == ["net.log.jsonl", "net.png", "net.pt"], f"{where}: {kept}")
    return row


def _same(one: str, other: str) -> bool:
    import torch

    states = [files.load_checkpoint(path).state_dict for path in (one, other)]
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][key], states[1][key]) for key in states[0]
    )


def signals(ground: Ground) -> Iterator[Row]:
    """One line or none, the exit code of the signal, and a state to go on from."""
    for how in WAYS:
        row = Row(f"{how.name} to a streaming tool", LEAVES)
        for tool, (_, options) in STREAMING.items():
            for number, start in enumerate((False, True)[: ground.several(2)]):
                rng = ground.rng(how, tool, number)
                after = rng.uniform(0.0, 0.5 if start else 0.02)
                out = fresh(f"signalled/{tool}")
                command = (tool, ground.stream, *options, "-o", out)
                ready = _more(out, "**/[!.]*.*", 0 if start else 2)
                done, struck = ground.interrupted(*command, after=after, how=how, ready=ready)
                row.cases += struck and done.code != 0  # it had just finished
                where = f"{' '.join(command)}, {how.name} after {after:.3f} s, start {start}"
                _left(row, done, how, struck, where)
                _printed(row, done, out, where)
        row.check(not (left := ground.left_over()), f"processes are left: {left}")
        row.check(2 * row.cases >= len(STREAMING), "most signals had no effect")
        yield row
        row = Row(f"{how.name} to a trainer", LEAVES)
        for number, tool in enumerate(list(TRAINING)[: ground.several(len(TRAINING))]):
            out = f"{fresh(f'signalled/{tool}')}/net.pt"
            command = (tool, ground.stream, *TRAINING[tool], "--epochs", "60", "-o", out)
            after = ground.rng(how, tool, number).uniform(0, 2)
            ready = _more(f"signalled/{tool}", "*.log.jsonl", 1)
            done, struck = ground.interrupted(*command, after=after, how=how, ready=ready)
            row.cases += struck
            where = f"{' '.join(command)}, {how.name} {after:.2f} s after the start of the log"
            _left(row, done, how, struck, where)
            row.check("--resume goes on" in done.err, f"no line says how to go on: {where}")
            state = Path(out).with_name("net.resume.pt")
            row.check(state.exists(), f"no state was saved: {where}: {done.err[-300:]}")
        row.check(not (left := ground.left_over()), f"processes are left: {left}")
        yield row


def _left(row: Row, done: Done, how: signal.Signals, struck: bool, where: str) -> None:
    """Check the exit code and the messages of a tool that got a signal.

    Killed by the signal, a shell gives 128 + number too. A tool may just have finished.
    """
    allowed = (-how, 128 + how, 0)
    row.check(not struck or done.code in allowed, f"exit code {done.code}: {where}: {done.err}")
    row.check(not quiet(done), f"{quiet(done)}: {where}")
    if done.code == 128 + how:
        told = [line for line in done.err.splitlines() if "interrupted" in line]
        row.check(len(told) == 1, f"{len(told)} lines say so: {done.err!r}: {where}")
