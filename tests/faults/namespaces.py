"""Containers that share a folder: in each of them every process has the same number."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.faults.ground import STREAMING, Ground, Row, fresh, whole_files

CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")
ROUNDS = 6


def shards(ground: Ground) -> Iterator[Row]:
    """Two shards in two PID namespaces: every file has the content of a run alone."""
    row = Row("two containers write into one folder")
    try:
        subprocess.run([*CONTAINER, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        row.skipped = "not allowed here"
        yield row
        return
    for tool in ("make-aff-labels", "saliency"):
        _, options = STREAMING[tool]
        ground.run(tool, ground.stream, *options, "-o", fresh("one"), check=0)
        wanted = whole_files("one")
        for number in range(ROUNDS // 2):
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
