"""Print the table of a run of a recipe: what each of its stages is worth.

    table.py RUN ROW…

A row is NAME:SPLIT:TITLE and shows the mIoU in RUN/NAME.json, which was measured on SPLIT; or
PART%WHOLE:SPLIT:TITLE, the mIoU in PART.json as a share of that in WHOLE.json.
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
        if "%" not in name:
            found = read(name)
            print(f"| {title} | {split} | {found['images']} | {100 * found['miou']:.1f} |")
        else:
            part, whole = (read(one)["miou"] for one in name.split("%"))
            print(f"| {title} | {split} | | {100 * part / whole:.1f} % |")


if __name__ == "__main__":
    main()
