"""Print the table of a run of ae-psl.mk: what each step of erasing and what PSL is worth."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROWS = [
    ("cam", "CAM, best threshold", "train"),
    ("ae/step1.mined", "mined in 1 step", "train"),
    ("ae/step2.mined", "mined in 2 steps", "train"),
    ("ae/step3.mined", "mined in 3 steps", "train"),
    ("ae/merged", "merged with saliency (pixels ignored count as missed)", "train"),
    ("ae/plain", "network without PSL", "val"),
    ("ae/psl", "network with PSL", "val"),
    ("ae/psl2", "second round with PSL", "val"),
]


def main() -> None:
    run = Path(sys.argv[1])
    print("| stage | measured on | images | mIoU |")
    print("|---|---|---:|---:|")
    for name, title, split in ROWS:
        path = run / f"{name}.json"
        if name == "ae/psl2" and not path.exists():
            continue  # a target of its own
        found = json.loads(path.read_text())
        print(f"| {title} | {split} | {found['images']} | {100 * found['miou']:.1f} |")


if __name__ == "__main__":
    main()
