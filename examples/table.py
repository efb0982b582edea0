"""Print the table of a recipe's results: the mIoU of each stage.

    table.py RUN ROW…

A row NAME:SPLIT:TITLE shows the mIoU in RUN/NAME.json, measured on SPLIT. A row
PART%WHOLE:SPLIT:TITLE shows the mIoU in RUN/PART.json as a percentage of that in RUN/WHOLE.json.
A row NAME=FIGURE:SPLIT:TITLE gives the FIGURE that was published too, in a column of its own.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    run = Path(sys.argv[1])

    def read(name: str) -> Any:
        return json.loads((run / f"{name}.json").read_text())

    rows = [row.split(":", 2) for row in sys.argv[2:]]
    compared = any("=" in name for name, _, _ in rows)
    print("| stage | measured on | images | mIoU |" + " published |" * compared)
    print("|---|---|---:|---:|" + "---:|" * compared)
    for name, split, title in rows:
        name, _, figure = name.partition("=")
        published = f" {figure or '–'} |" * compared
        if "%" in name:
            part, whole = (read(stage)["miou"] for stage in name.split("%"))
            print(f"| {title} | {split} | | {100 * part / whole:.1f} % |{published}")
        else:
            result = read(name)
            miou = f"{100 * result['miou']:.1f}"
            print(f"| {title} | {split} | {result['images']} | {miou} |{published}")


if __name__ == "__main__":
    main()
