"""Print what each method is worth at each stage, its share of the ceiling, and how long it took.

    summary.py RUN ROW…

A row is NAME:RECIPE:MAPS:MASKS:NETWORK:FILES. MAPS, MASKS and NETWORK name what was measured, as in
RUN/MAPS.json, and may be empty. The time is that of the commands that wrote FILES (patterns below
RUN) by RUN/times.tsv, all attempts together; what several methods need counts for each.
"""

from __future__ import annotations

import json
import re
import sys
from fnmatch import fnmatch
from pathlib import Path


def written(command: str) -> str:
    """The file that a command of a recipe writes: the last that is redirected to or given by -o."""
    return ["", *re.findall(r"(?:>|-o) *(\S+)", command)][-1]


def main() -> None:
    run = Path(sys.argv[1])
    rows = [row.split(":") for row in sys.argv[2:]]
    times = run / "times.tsv"
    lines = (
        [line.split("\t", 1) for line in times.read_text().splitlines()] if times.exists() else []
    )
    spent = [(written(command), int(seconds)) for seconds, command in lines]

    def measured(name: str) -> float | None:
        path = run / f"{name}.json"
        return json.loads(path.read_text())["miou"] if name and path.exists() else None

    ceiling = measured("full")
    print(
        "| method | recipe | maps, train | pseudo-masks, train | network, val | of full | minutes |"
    )
    print("|---|---|---:|---:|---:|---:|---:|")
    for name, recipe, maps, masks, network, files in rows:
        found = [measured(stage) for stage in (maps, masks, network)]
        cells = ["–" if miou is None else f"{100 * miou:.1f}" for miou in found]
        share = "–" if None in (found[2], ceiling) else f"{100 * found[2] / ceiling:.1f} %"
        patterns = [f"{run}/{pattern}" for pattern in files.split()]
        took = [seconds for file, seconds in spent if any(fnmatch(file, p) for p in patterns)]
        minutes = f"{sum(took) / 60:.0f}" if took else "–"
        print(f"| {name} | `make {recipe}` | {' | '.join([*cells, share, minutes])} |")


if __name__ == "__main__":
    main()
