"""crf and make-aff-labels over two processes beside one, on photographs of VOC's size."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from wsss_cli import files

HEIGHT, WIDTH, COUNT = 375, 500, 64
META = {"classes": ["cat", "dog"]}


def made_up(folder: Path, count: int = COUNT) -> Path:
    """Records of ``count`` photographs with colours and noise like real ones, and of two CAMs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:94, :125]
    lines = []
    for number in range(count):
        image, cam = folder / f"{number % 8}.jpg", folder / f"{number % 8}.npz"
        if number < 8:
            coarse = Image.fromarray(rng.integers(0, 256, (15, 20, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
            noisy = smooth + rng.normal(0, 6, smooth.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(image, quality=90)
            blobs = [np.exp(-((y - 47) ** 2 + (x - at) ** 2) / 500) for at in (40, 85)]
            files.write_maps(cam, np.array(blobs), ("cat", "dog"), (HEIGHT, WIDTH), META)
        lines.append(json.dumps({"id": f"{number:03}", "image": str(image), "cam": str(cam)}))
    path = folder / "in.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def seconds(tool: str, records: Path, workers: int) -> float:
    """Wall time of the whole command, its start included."""
    started = time.perf_counter()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "wsss_cli",
            tool,
            records,
            "-q",
            "--workers",
            str(workers),
            "--out",
            records.parent / f"{tool}{workers}",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        records = made_up(Path(folder))
        for tool, wish in (("crf", "; asked for: 1.8"), ("make-aff-labels", "")):
            one, two = (seconds(tool, records, workers) for workers in (1, 2))
            print(
                f"{tool}, {COUNT} images of {WIDTH}x{HEIGHT}, 2 classes: 1 process "
                f"{COUNT / one:.2f}/s, 2 processes {COUNT / two:.2f}/s, "
                f"{one / two:.2f} times as fast{wish}"
            )


if __name__ == "__main__":
    main()
