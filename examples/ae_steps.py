"""Print how adversarial erasing goes on: classification loss and share of pixels mined, by step.

    ae_steps.py OUT/step1.jsonl OUT/step2.jsonl … > growth.jsonl

The classifier of a step is OUT/stepN/cam.pt, or the one named behind it: stepN.jsonl=cam.pt.
The table goes to stderr. Printed are the last step's records with the regions mined after each as
`mined1`, `mined2` …, for `wsss view --keys image,mined1,mined2`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def last_loss(checkpoint: Path) -> float:
    """The mean training loss of the last epoch."""
    log = checkpoint.with_name(checkpoint.stem + ".log.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [(line["epoch"], line["loss"]) for line in lines if "loss" in line]
    return float(np.mean([loss for epoch, loss in losses if epoch > losses[-1][0] - 1]))


def main() -> None:
    seen: dict[str, dict[str, str]] = {}
    last: list[dict[str, str]] = []
    print("| step | classification loss | pixels mined |\n|---|---:|---:|", file=sys.stderr)
    for step, given in enumerate(sys.argv[1:], start=1):
        name, _, named = given.partition("=")
        path = Path(name)
        last = [json.loads(line) for line in path.read_text().splitlines()]
        mined = pixels = 0
        for record in last:
            seen.setdefault(record["id"], {})[f"mined{step}"] = record["mined"]
            with Image.open(record["mined"]) as image:
                regions = np.asarray(image)
            mined, pixels = mined + np.count_nonzero(regions), pixels + regions.size
        checkpoint = Path(named) if named else path.with_suffix("") / "cam.pt"
        share = 100 * mined / max(pixels, 1)
        print(f"| {step} | {last_loss(checkpoint):.4f} | {share:.1f} % |", file=sys.stderr)
    for record in last:
        print(json.dumps({**record, **seen[record["id"]]}, ensure_ascii=False))


if __name__ == "__main__":
    main()
