"""``wsss eval`` of 500 VOC-size pairs against a numpy loop with one confusion matrix an image."""

from __future__ import annotations

import json
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


def timed(command: list[str], runs: int) -> tuple[float, str]:
    taken, out = [], ""
    for _ in range(runs):
        started = time.perf_counter()
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        taken.append(time.perf_counter() - started)
    return sorted(taken)[len(taken) // 2], out


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        pairs = str(make_pairs(Path(name)))
        ours, out = timed([sys.executable, "-m", "wsss_cli", "eval", pairs, "--format", "json"], 5)
        miou = json.loads(out)["miou"]
        for title, code, runs in (
            ("a loop over pairs of classes", PLAIN, 1),
            ("one bincount an image", BINCOUNT, 5),
        ):
            plain, said = timed([sys.executable, "-c", code, pairs], runs)
            print(
                f"eval of {PAIRS} pairs: {ours:.2f} s, numpy, {title}: {plain:.2f} s, "
                f"{plain / ours:.1f}x, difference {abs(float(said) - miou):.1e}"
            )


if __name__ == "__main__":
    main()
