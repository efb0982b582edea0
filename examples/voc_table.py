"""Print the table of a run of voc.mk: what each stage is worth."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROWS = [
    ("cam", "CAM, best threshold", "train"),
    ("crf", "CAM + dense CRF", "train"),
    ("walk", "CAM + AffinityNet, random walk", "train"),
    ("weak", "network trained on the pseudo-masks", "val"),
    ("full", "network trained on the true masks (ceiling)", "val"),
]


def main() -> None:
    run = Path(sys.argv[1])
    found = {name: json.loads((run / f"{name}.json").read_text()) for name, _, _ in ROWS}
    print("| stage | measured on | images | mIoU |")
    print("|---|---|---:|---:|")
    for name, title, split in ROWS:
        print(f"| {title} | {split} | {found[name]['images']} | {100 * found[name]['miou']:.1f} |")
    ratio = found["weak"]["miou"] / found["full"]["miou"]
    print(f"| weak / full supervision | val | | {100 * ratio:.1f} % |")


if __name__ == "__main__":
    main()
