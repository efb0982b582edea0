"""``wsss erase`` on photographs of VOC's size: images a second of processor time."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_crf import HEIGHT, WIDTH, made_up
from PIL import Image

from wsss_cli import files

COUNT = 300


def with_saliency(records: Path) -> Path:
    """The same records with labels, and a saliency map where either class is active."""
    made = []
    for line in records.read_text().splitlines():
        record = json.loads(line)
        path = Path(record["cam"]).with_suffix(".png")
        if not path.exists():
            seen = Image.fromarray(
                (255 * files.read_maps(record["cam"]).cam.max(0)).astype("uint8")
            )
            seen.resize((WIDTH, HEIGHT)).save(path)
        made.append({**record, "labels": ["cat", "dog"], "saliency": str(path)})
    path = records.with_name("all.jsonl")
    path.write_text("".join(json.dumps(record) + "\n" for record in made))
    return path


def spent(*args: object) -> tuple[float, float]:
    """Wall time, and time of the processor, user and system, of the whole command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "wsss_cli", "erase", "-q", "--workers", "0", *map(str, args)],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        records = with_saliency(made_up(Path(folder), COUNT))
        for fill in ("mean", "124,116,104"):
            wall, busy = spent(records, "--fill", fill, "-o", Path(folder, fill))
            print(
                f"erase --fill {fill}, {COUNT} images of {WIDTH}x{HEIGHT}, 2 classes, saliency, "
                f"one process: {COUNT / wall:.0f}/s ({COUNT / busy:.0f} a second of processor "
                "time; asked for: 50/s)"
            )


if __name__ == "__main__":
    main()
