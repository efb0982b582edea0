"""``--skip-existing`` over 10,000 records of VOC size, with digests of all inputs and without.

Each record has a photograph of 100 KB and CAMs, and a label map is there for it. Everything is in
the page cache, as after the run before; on a cold disk the files must be read once.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
from PIL import Image

from wsss_cli import console, files, inputs
from wsss_cli.stage import Job, RecordTool, Stage

RECORDS, DIFFERENT = 10_000, 20


class Walk(RecordTool):
    """Reads what `random-walk` reads, and writes what it writes, at no cost."""

    name = "random-walk"
    outputs: ClassVar = {"pseudo": ".png"}
    needs = ("image", "cam")
    params: ClassVar = {"beta": 8.0, "steps": 256, "alpha": 16.0}

    def work(self, job: Job) -> None:
        files.write_label_map(job.paths["pseudo"], np.zeros((375, 500), np.uint8), job.meta)


def make_records(folder: Path) -> Path:
    """Photographs, CAMs and the records that name them."""
    rng = np.random.default_rng(0)
    for number in range(DIFFERENT):
        coarse = rng.integers(0, 256, (47, 63, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
        noise = rng.integers(-20, 20, (375, 500, 3))
        pixels = (np.asarray(picture) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)
        meta = files.provenance("make-cam", {"scales": [0.5, 1.0]}, classes=["cat", "dog"])
        files.write_maps(
            folder / f"{number}.npz", rng.random((2, 94, 125)), ["cat", "dog"], (375, 500), meta
        )
    lines = []
    for number in range(RECORDS):
        for suffix in ("jpg", "npz"):
            shutil.copy(
                folder / f"{number % DIFFERENT}.{suffix}", folder / f"r{number:05}.{suffix}"
            )
        record: dict[str, Any] = {"id": f"r{number:05}", "image": str(folder / f"r{number:05}.jpg")}
        lines.append(json.dumps({**record, "cam": str(folder / f"r{number:05}.npz")}))
    (folder / "in.jsonl").write_text("\n".join(lines))
    return folder / "in.jsonl"


def seconds(stream: Path, out: Path) -> float:
    """Time of a run that makes nothing, or all."""
    started = time.perf_counter()
    with redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        stage = Stage(Walk(), out=out, skip_existing=True)
        stage.run([str(stream)])
    took = time.perf_counter() - started
    assert stage.done + stage.reused == RECORDS
    return took


def main() -> None:
    console.configure(quiet=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stream = make_records(folder)
        size = (folder / "0.jpg").stat().st_size + (folder / "0.npz").stat().st_size
        seconds(stream, folder / "out")
        with_digests = seconds(stream, folder / "out")
        with mock.patch.object(inputs, "digest", return_value="0" * 16):
            seconds(stream, folder / "plain")
            without = seconds(stream, folder / "plain")
        print(
            f"--skip-existing, {RECORDS:,} records, {size / 1024:.0f} KiB of inputs each: "
            f"{with_digests:.1f} s; without digests {without:.1f} s "
            f"({with_digests / without:.2f} times)"
        )


if __name__ == "__main__":
    main()
