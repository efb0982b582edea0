"""Fault injection: kills, damage, hostile records, shared folders, full disks, stale files.

    make faults                     all, in at most 15 minutes on two cores
    python -m tests.faults --only kills
    python -m tests.faults --quick  a quarter of the cases
    python -m tests.faults --seed 7

Every case has a seed and runs the tools as their users do. The table counts cases and violations of
what README promises; each violation is told with what is needed to see it again. Exits with 1 if
there is one. What the machine does not allow is a row that says so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults import damage, disk, hostile, interruption, memory, namespaces, stale
from tests.faults.ground import Ground, Row

KINDS = {
    "kills": interruption.kills,
    "signals": interruption.signals,
    "flips": damage.flips,
    "truncations": damage.truncations,
    "hostile": hostile.records,
    "stale": stale.inputs,
    "namespaces": namespaces.shards,
    "disk": disk.full,
    "memory": memory.bombs,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--only", nargs="+", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--quick", action="store_true", help="a quarter of the cases")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rows: list[Row] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="wsss-faults-") as name:
        ground = Ground(Path(name), given.seed, given.quick)
        for kind in given.only or KINDS:
            before, required = time.monotonic(), ""
            for row in _rows(kind, ground):
                rows.append(row)
                required = row.required = row.required or required
                took = time.monotonic() - before
                print(f"{kind}: {row.what}: {row.shown()} ({took:.0f} s)", file=sys.stderr)
                for violation in row.violations:  # at once: a run that is ended loses its table
                    print(f"{kind}: {row.what}: {violation}", file=sys.stderr)
                before = time.monotonic()
    width = max(len(row.what) for row in rows)
    print(f"\n{'fault':{width}}  cases  violations  required")
    for row in rows:
        print(f"{row.what:{width}}  {row.shown()}  {row.required}")
    cases, found = (sum(numbers) for numbers in zip(*map(Row.counts, rows), strict=True))
    print(f"{'all':{width}}  {cases:5}  {found:10}")
    print(f"seed {given.seed}, {(time.monotonic() - started) / 60:.1f} minutes")
    for row in rows:
        for violation in row.violations:
            print(f"\n{row.what}: {violation}")
    sys.exit(any(row.violations for row in rows))


def _rows(kind: str, ground: Ground) -> Iterator[Row]:
    """The rows of a kind; the others are tried even if it cannot go on."""
    try:
        yield from KINDS[kind](ground)
    except Exception as error:
        yield Row(f"{kind}: ended early", "", 1, [f"{type(error).__name__}: {error}"])


if __name__ == "__main__":
    main()
