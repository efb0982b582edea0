"""How fast the toy set is drawn and written, and indexed, on one core."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy reads it

from wsss_cli.datasets.toy import make_toy
from wsss_cli.datasets.voc import voc_records

COUNT = 300


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "toy")
        wall, cpu = time.perf_counter(), time.process_time()
        make_toy(root, train=COUNT, val=0)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(
            f"toy, {COUNT} pictures of 160 px: {COUNT / wall:.0f}/s "
            f"({COUNT / cpu:.0f} a second of processor time; asked for: 100/s)"
        )
        wall = time.perf_counter()
        for _ in range(10):
            assert sum(1 for _ in voc_records(root, "train", print)) == COUNT
        wall = time.perf_counter() - wall
        print(f"index voc: {10 * COUNT / wall:.0f} records/s, labels from annotations")


if __name__ == "__main__":
    main()
