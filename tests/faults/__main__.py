"""Fault injection: kills, damage, hostile records, shared folders, full disks, stale files.

    make faults                     all, in at most 15 minutes on two cores
    python -m tests.faults kills    one kind
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
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], metavar="KIND")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rows: list[Row] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="wsss-faults-") as name:
        ground = Ground(Path(name), given.seed)
        for kind in given.kinds or KINDS:
            before = time.monotonic()
            for row in KINDS[kind](ground):
                rows.append(row)
                took = time.monotonic() - before
                print(f"{kind}: {row.what}: {row.shown()} ({took:.0f} s)", file=sys.stderr)
                before = time.monotonic()
    width = max(len(row.what) for row in rows)
    print(f"\n{'fault':{width}}  cases  violations")
    for row in rows:
        print(f"{row.what:{width}}  {row.shown()}")
    print(f"seed {given.seed}, {(time.monotonic() - started) / 60:.1f} minutes")
    for row in rows:
        for violation in row.violations:
            print(f"\n{row.what}: {violation}")
    sys.exit(any(row.violations for row in rows))


if __name__ == "__main__":
    main()
