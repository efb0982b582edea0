"""Kills and signals at random moments, then the same command again."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.ground import STREAMING, TRAINING, Ground, Row, fresh, quiet, whole_files
from wsss_cli import files

KILLS, KILLS_OF_TRAINERS = 6, 3  # of each tool
WAYS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def kills(ground: Ground) -> Iterator[Row]:
    """Whatever the moment: files are whole, records printed have their files, and a rerun ends so
    as a run left alone."""
    for tool, (key, options) in STREAMING.items():
        yield _streaming(ground, tool, key, options)
    for tool, options in TRAINING.items():
        yield _training(ground, tool, options)


def _streaming(ground: Ground, tool: str, key: str, options: tuple[str, ...]) -> Row:
    row = Row(f"kill -9 of {tool}")
    command = (tool, ground.stream, *options, "--skip-existing", "-o")
    started = time.monotonic()
    ground.run(*command, fresh(f"left/{tool}"), check=0)
    takes = time.monotonic() - started
    wanted = whole_files(f"left/{tool}")
    out = fresh(f"killed/{tool}")
    for number in range(KILLS):
        after = ground.rng("kill", tool, number).uniform(0.3, 1) * takes
        done, struck = ground.interrupted(*command, out, after=after, how=signal.SIGKILL)
        row.cases += struck
        where = f"{' '.join(command)} {out}, killed after {after:.2f} s (kill {number})"
        for name, content in whole_files(out).items() if Path(out).exists() else ():
            row.check(content == wanted.get(name), f"{name} is not as left alone: {where}")
        for line in done.out.splitlines(keepends=True):
            row.check(line.endswith("}\n"), f"half a record was printed: {line!r}: {where}")
        for record in done.records if done.out.endswith("\n") else ():
            row.check(Path(record[key]).exists(), f"{record[key]} does not exist: {where}")
    ended = ground.run(*command, out)
    row.check(ended.code == 0, f"the run after the kills: {ended.code}, {ended.err}")
    row.check(whole_files(out) == wanted, f"after all kills {out} is not left/{tool}")
    return row


def _training(ground: Ground, tool: str, options: tuple[str, ...]) -> Row:
    row = Row(f"kill -9 of {tool}")
    command = (tool, ground.stream, *options, "--resume", "-o")
    started = time.monotonic()
    ground.run(*command, f"{fresh(f'left/{tool}')}/net.pt", check=0)
    takes = time.monotonic() - started
    out = f"{fresh(f'killed/{tool}')}/net.pt"
    for number in range(KILLS_OF_TRAINERS):
        after = ground.rng("kill", tool, number).uniform(0.4, 1) * takes
        _, struck = ground.interrupted(*command, out, after=after, how=signal.SIGKILL)
        row.cases += struck
    ended = ground.run(*command, out)
    where = f"{' '.join(command)} {out}, after {KILLS_OF_TRAINERS} kills"
    if row.check(ended.code == 0, f"{where}: {ended.code}, {ended.err}"):
        row.check(_same(out, f"left/{tool}/net.pt"), f"{where}: other weights than left alone")
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
        row = Row(f"{how.name} to a tool with processes")
        for tool in ("erase", "crf", "saliency"):
            _, options = STREAMING[tool]
            for number in range(2):
                after = ground.rng(how, tool, number).uniform(0.2, 1.6)
                out = fresh(f"signalled/{tool}")
                command = (tool, ground.stream, *options, "-o", out)
                done, struck = ground.interrupted(*command, after=after, how=how)
                row.cases += struck
                where = f"{' '.join(command)}, {how.name} after {after:.2f} s"
                row.check(
                    not struck or done.code in (-how, 128 + how, 0),
                    f"exit code {done.code}: {where}: {done.err[-300:]}",
                )
                row.check(not quiet(done), f"{quiet(done)}: {where}")
        yield row
        row = Row(f"{how.name} to a trainer")
        for number, tool in enumerate(("train-cam", "train-seg")):
            out = f"{fresh(f'signalled/{tool}')}/net.pt"
            command = (tool, ground.stream, *TRAINING[tool], "--epochs", "60", "-o", out)
            after = ground.rng(how, tool, number).uniform(6, 9)
            done, struck = ground.interrupted(*command, after=after, how=how)
            row.cases += struck
            where = f"{' '.join(command)}, {how.name} after {after:.2f} s"
            row.check(done.code == 128 + how, f"exit code {done.code}: {where}")
            row.check(not quiet(done), f"{quiet(done)}: {where}")
            state = Path(out).with_name("net.resume.pt")
            row.check(state.exists(), f"no state was saved: {where}: {done.err[-300:]}")
        yield row
