"""Print the table of a recipe's results: the mIoU of each stage.

    table.py RUN ROW…

A row NAME:SPLIT:TITLE shows the mIoU in RUN/NAME.json, measured on SPLIT. A row
PART%WHOLE:SPLIT:TITLE shows the mIoU in RUN/PART.json as a percentage of that in RUN/WHOLE.json.
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

    print("| stage | measured on | images | mIoU |")
    print("|---|---|---:|---:|")
    for row in sys.argv[2:]:
        name, split, title = row.split(":", 2)
        if "%" in name:
            part, whole = (read(stage)["miou"] for stage in name.split("%"))
            print(f"| {title} | {split} | | {100 * part / whole:.1f} % |")
        else:
            result = read(name)
            print(f"| {title} | {split} | {result['images']} | {100 * result['miou']:.1f} |")


if __name__ == "__main__":
    main()
