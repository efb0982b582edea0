"""Print one table of all methods: mIoU at three stages, share of the ceiling, and minutes.

    summary.py RUN ROW…

A row is NAME:RECIPE:MAPS:MASKS:NETWORK:FILES. The mIoU of MAPS is read from RUN/MAPS.json, those of
MASKS and NETWORK likewise; each of the three may be empty. The ceiling is the mIoU in
RUN/full.json. FILES are patterns of file names in RUN. The minutes are those of the commands in
RUN/times.tsv (see timed.sh) that wrote one of FILES, interrupted attempts included.
"""

from __future__ import annotations

import json
import re
import sys
from fnmatch import fnmatch
from pathlib import Path


def output(command: str) -> str:
    """The file that a command of a recipe writes: the last one after ``>`` or ``-o``."""
    return ["", *re.findall(r"(?:>|-o) *(\S+)", command)][-1]


def main() -> None:
    run = Path(sys.argv[1])
    rows = [row.split(":") for row in sys.argv[2:]]
    times = run / "times.tsv"
    lines = times.read_text().splitlines() if times.exists() else []
    timed = [(output(line), int(line.split("\t")[0])) for line in lines]

    def miou(stage: str) -> float | None:
        path = run / f"{stage}.json"
        return json.loads(path.read_text())["miou"] if stage and path.exists() else None

    ceiling = miou("full")
    print(
        "| method | recipe | maps, train | pseudo-masks, train | network, val | of full | minutes |"
    )
    print("|---|---|---:|---:|---:|---:|---:|")
    for name, recipe, maps, masks, network, files in rows:
        results = [miou(stage) for stage in (maps, masks, network)]
        cells = ["–" if result is None else f"{100 * result:.1f}" for result in results]
        share = "–" if None in (results[2], ceiling) else f"{100 * results[2] / ceiling:.1f} %"
        patterns = [f"{run}/{pattern}" for pattern in files.split()]
        seconds = [took for file, took in timed if any(fnmatch(file, p) for p in patterns)]
        minutes = f"{sum(seconds) / 60:.0f}" if seconds else "–"
        print(f"| {name} | `make {recipe}` | {' | '.join([*cells, share, minutes])} |")


if __name__ == "__main__":
    main()
