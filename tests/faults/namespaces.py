"""Containers that share a folder: in each of them every process has the same number."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.faults.ground import STREAMING, TRAINING, Ground, Row, fresh, whole_files
from wsss_cli import files

CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")
ROUNDS = 6


def shards(ground: Ground) -> Iterator[Row]:
    """Two shards in two PID namespaces: every file has the content of a run alone."""
    row = Row("two containers write into one folder", "each file as of a run alone")
    try:
        subprocess.run([*CONTAINER, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        row.skipped = "not allowed here"
        yield row
        return
    for tool in ("make-aff-labels", "saliency", "make-cam"):
        _, options = STREAMING[tool]
        ground.run(tool, ground.stream, *options, "-o", fresh("one"), check=0)
        wanted = whole_files("one")
        for number in range(ground.several(ROUNDS // 2)):
            out = fresh("shared")
            command = (tool, ground.stream, *options, "-o", out)
            with ThreadPoolExecutor(2) as pool:
                done = [
                    pool.submit(ground.run, *command, "--shard", f"{k}/2", prefix=CONTAINER)
                    for k in (1, 2)
                ]
            made = whole_files(out)
            row.cases += len(wanted)
            for result in done:
                row.check(result.result().code == 0, f"{tool}, round {number}: {result.result()}")
            for name, content in wanted.items():
                row.check(made.get(name) == content, f"{tool}, round {number}: {name} is another")
    yield row
    yield _trainings(ground)


def _trainings(ground: Ground) -> Row:
    """Two trainings of different seeds, two networks in one folder."""
    row = Row("two containers train into one folder", "each network as of a training alone")
    command = ("train-seg", ground.stream, *TRAINING["train-seg"], "--epochs", "1", "--seed")
    alone, shared = fresh("one"), fresh("shared")
    for seed in ("1", "2"):
        ground.run(*command, seed, "-o", f"{alone}/{seed}.pt", check=0)
    with ThreadPoolExecutor(2) as pool:
        done = [
            pool.submit(ground.run, *command, seed, "-o", f"{shared}/{seed}.pt", prefix=CONTAINER)
            for seed in ("1", "2")
        ]
    for seed, result in zip(("1", "2"), done, strict=True):
        row.cases += 1
        if row.check(result.result().code == 0, f"seed {seed}: {result.result()}"):
            states = [
                files.load_checkpoint(f"{folder}/{seed}.pt").state_dict
                for folder in (alone, shared)
            ]
            same = all(states[0][key].equal(states[1][key]) for key in states[0])
            row.check(same, f"seed {seed}: other weights than alone")
    return row
