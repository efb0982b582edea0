"""``wsss eval`` of 500 VOC-size pairs against a numpy loop with one confusion matrix an image."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from wsss_cli.files import write_label_map

PAIRS, CLASSES = 500, 21


def make_pairs(folder: Path) -> Path:
    """Label maps with blobs like VOC's, 375×500, and the records that name them."""
    rng = np.random.default_rng(0)
    rows, columns = np.indices((375, 500))
    lines = []
    for number in range(PAIRS):
        truth = np.zeros((375, 500), np.uint8)
        for _ in range(3):
            y, x, r = rng.integers(0, 375), rng.integers(0, 500), rng.integers(30, 120)
            inside = (rows - y) ** 2 + (columns - x) ** 2
            truth[inside < r * r] = rng.integers(1, CLASSES)
            truth[(inside >= r * r) & (inside < (r + 3) ** 2)] = 255
        found = np.roll(truth, 5, 1)
        found[found == 255] = 0
        write_label_map(folder / f"t{number}.png", truth)
        write_label_map(folder / f"p{number}.png", found)
        pair = {"id": str(number), "pred": str(folder / f"p{number}.png")}
        lines.append(json.dumps({**pair, "mask": str(folder / f"t{number}.png")}))
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    return folder / "pairs.jsonl"


PLAIN = """
import json, sys
import numpy as np
from PIL import Image
total = np.zeros((21, 21))
for line in open(sys.argv[1]):
    record = json.loads(line)
    truth = np.array(Image.open(record["mask"])).astype(np.int64)
    found = np.array(Image.open(record["pred"])).astype(np.int64)
    matrix = np.zeros((21, 21))
    for true in range(21):
        for other in range(21):
            matrix[true, other] = ((truth == true) & (found == other)).sum()
    total += matrix
hit = np.diag(total)
print((hit / (total.sum(0) + total.sum(1) - hit)).mean())
"""

BINCOUNT = """
import json, sys
import numpy as np
from PIL import Image
total = np.zeros((21, 21))
for line in open(sys.argv[1]):
    record = json.loads(line)
    truth = np.array(Image.open(record["mask"])).astype(np.int64)
    found = np.array(Image.open(record["pred"])).astype(np.int64)
    known = truth < 21
    total += np.bincount(21 * truth[known] + found[known], minlength=441).reshape(21, 21)
hit = np.diag(total)
print((hit / (total.sum(0) + total.sum(1) - hit)).mean())
"""


def fastest(commands: list[list[str]], runs: int, folder: str) -> list[tuple[float, str]]:
    """Seconds of the fastest run of each command, and what it printed.

    They run in turns, so that other work on the machine meets all, and after one that does not
    count, so that all are compiled, as after an installation.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    best = [(math.inf, "")] * len(commands)
    for run in range(1 + runs):
        for number, command in enumerate(commands):
            started = time.perf_counter()
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment
            )
            taken = time.perf_counter() - started
            if run:
                best[number] = min(best[number], (taken, done.stdout))
    return best


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        pairs = str(make_pairs(Path(name)))
        ours = [sys.executable, "-m", "wsss_cli", "eval", pairs, "--format", "json"]
        for title, code, runs in (
            ("a loop over pairs of classes", PLAIN, 1),
            ("one bincount an image", BINCOUNT, 7),
        ):
            numpy = [sys.executable, "-c", code, pairs]
            (took, out), (plain, said) = fastest([ours, numpy], runs, f"{name}/compiled")
            print(
                f"eval of {PAIRS} pairs: {took:.2f} s, numpy, {title}: {plain:.2f} s, "
                f"{plain / took:.1f}x, difference {abs(float(said) - json.loads(out)['miou']):.1e}"
            )


if __name__ == "__main__":
    main()
