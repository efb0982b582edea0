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

import numpy as np
from PIL import Image

from wsss_cli import files

HEIGHT, WIDTH, COUNT = 375, 500, 300
META = {"classes": ["cat", "dog"]}


def made_up(folder: Path) -> Path:
    """Records of photographs with noise like real ones, two CAMs and a saliency map each."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:94, :125]
    lines = []
    for number in range(COUNT):
        name = str(folder / str(number % 8))
        if number < 8:
            coarse = Image.fromarray(rng.integers(0, 256, (15, 20, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
            noisy = smooth + rng.normal(0, 6, smooth.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(name + ".jpg", quality=90)
            blobs = [np.exp(-((y - 47) ** 2 + (x - at) ** 2) / 500) for at in (40, 85)]
            files.write_maps(name + ".npz", np.array(blobs), ("cat", "dog"), (HEIGHT, WIDTH), META)
            seen = Image.fromarray((255 * np.maximum(*blobs)).astype(np.uint8))
            seen.resize((WIDTH, HEIGHT)).save(name + ".png")
        paths = {"image": name + ".jpg", "cam": name + ".npz", "saliency": name + ".png"}
        lines.append(json.dumps({"id": f"{number:03}", "labels": ["cat", "dog"], **paths}))
    path = folder / "in.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def spent(*args: object) -> tuple[float, float]:
    """Wall time, and time of the processor, user and system, of the whole command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "wsss_cli", "erase", "-q", "--workers", "0", *map(str, args)],
        check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        records = made_up(Path(folder))
        for fill in ("mean", "124,116,104"):
            wall, busy = spent(records, "--fill", fill, "-o", Path(folder, fill))
            print(
                f"erase --fill {fill}, {COUNT} images of {WIDTH}x{HEIGHT}, 2 classes, saliency, "
                f"one process: {COUNT / wall:.0f}/s ({COUNT / busy:.0f} a second of processor "
                "time; asked for: 50/s)"
            )


if __name__ == "__main__":
    main()
