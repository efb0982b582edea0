"""``wsss saliency``, the estimate and U2-Net-P: images a second, side by side and one at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from wsss_cli.models.u2netp import packaged

COUNT, HEIGHT, WIDTH = 20, 375, 500
RUNS = 3  # of each way in turn, so that what else the machine does strikes all alike


def photographs(folder: Path) -> Path:
    """Records of made-up photographs of VOC's size."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(COUNT):
        small = rng.integers(0, 256, (12, 16, 3), np.uint8)
        path = folder / f"{number}.jpg"
        Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path)
        lines.append(json.dumps({"id": str(number), "image": str(path)}))
    (folder / "in.jsonl").write_text("\n".join(lines))
    return folder / "in.jsonl"


def rate(records: Path, *options: str) -> float:
    """Images a second, the start of the command included."""
    command = [sys.executable, "-m", "wsss_cli", "saliency", "-q", str(records), *options]
    started = time.perf_counter()
    out = str(records.parent / "out")
    subprocess.run([*command, "-o", out], check=True, stdout=subprocess.DEVNULL)
    return COUNT / (time.perf_counter() - started)


def main() -> None:
    cores = os.cpu_count() or 1
    models = {"the estimate": ()}
    if find_spec("onnxruntime") and [*packaged()]:
        models["u2netp"] = ("--model", "u2netp")
    else:
        print("saliency --model u2netp: skipped, onnxruntime or the network is not installed")
    with tempfile.TemporaryDirectory() as folder:
        records = photographs(Path(folder))
        for name, model in models.items():
            found: dict[int, list[float]] = {1: [], cores: []}
            for _ in range(RUNS):
                for workers in found:
                    found[workers].append(rate(records, *model, "--workers", str(workers)))
            one, many = (sorted(rates)[len(rates) // 2] for rates in found.values())
            print(
                f"saliency, {name}, {COUNT} images of {WIDTH}x{HEIGHT}, {cores} cores: "
                f"{many:.2f}/s, one at a time: {one:.2f}/s, {many / one:.1f}x"
            )


if __name__ == "__main__":
    main()
