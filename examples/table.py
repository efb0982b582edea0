"""Print the table of a recipe's results: the mIoU of each stage.

    table.py [--seeds 'N N…'] RUN ROW…

A row NAME:SPLIT:TITLE shows the mIoU in RUN/NAME.json, measured on SPLIT. A row
PART%WHOLE:SPLIT:TITLE shows the mIoU in RUN/PART.json as a percentage of that in RUN/WHOLE.json.
A row NAME=FIGURE:SPLIT:TITLE gives the FIGURE that was published too, in a column of its own.

With --seeds, the results are those in RUN/seedN/NAME.json for each seed N, and their mean and
sample standard deviation are shown; a percentage is taken within each seed first.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any


def main() -> None:
    args = sys.argv[1:]
    seeds = args[1].split() if args[0] == "--seeds" else []
    run, *rows = args[2:] if seeds else args
    runs = [Path(run, f"seed{seed}") for seed in seeds] or [Path(run)]

    def read(name: str) -> list[Any]:
        return [json.loads((each / f"{name}.json").read_text()) for each in runs]

    def shown(values: list[float]) -> str:
        figure = f"{100 * mean(values):.1f}"
        return f"{figure} ± {100 * stdev(values):.1f}" if seeds else figure

    parts = [row.split(":", 2) for row in rows]
    compared = any("=" in name for name, _, _ in parts)
    miou = f"mIoU, {len(seeds)} seeds" if seeds else "mIoU"
    print(f"| stage | measured on | images | {miou} |" + " published |" * compared)
    print("|---|---|---:|---:|" + "---:|" * compared)
    for name, split, title in parts:
        name, _, figure = name.partition("=")
        published = f" {figure or '–'} |" * compared
        if "%" in name:
            part, whole = (read(stage) for stage in name.split("%"))
            shares = [a["miou"] / b["miou"] for a, b in zip(part, whole, strict=True)]
            print(f"| {title} | {split} | | {shown(shares)} % |{published}")
        else:
            results = read(name)
            counts = sorted({result["images"] for result in results})
            if len(counts) > 1:
                sys.exit(f"{name}: measured on {counts} images, which cannot be averaged")
            values = [result["miou"] for result in results]
            print(f"| {title} | {split} | {counts[0]} | {shown(values)} |{published}")


if __name__ == "__main__":
    main()
