"""Print the loss and the share of mined pixels after each step of adversarial erasing.

    ae_steps.py OUT/step1.jsonl OUT/step2.jsonl … > growth.jsonl

The classifier of step N is OUT/stepN/cam.pt; `stepN.jsonl=cam.pt` names another one. The table is
printed to stderr. The records of the last step are printed to stdout, with the mined regions after
each step as `mined1`, `mined2` …, for `wsss view --keys image,mined1,mined2`.
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
    mined_by_id: dict[str, dict[str, str]] = {}
    records: list[dict[str, str]] = []
    print("| step | classification loss | pixels mined |\n|---|---:|---:|", file=sys.stderr)
    for step, argument in enumerate(sys.argv[1:], start=1):
        name, _, checkpoint = argument.partition("=")
        path = Path(name)
        records = [json.loads(line) for line in path.read_text().splitlines()]
        mined = pixels = 0
        for record in records:
            mined_by_id.setdefault(record["id"], {})[f"mined{step}"] = record["mined"]
            with Image.open(record["mined"]) as image:
                regions = np.asarray(image)
            mined, pixels = mined + np.count_nonzero(regions), pixels + regions.size
        loss = last_loss(Path(checkpoint) if checkpoint else path.with_suffix("") / "cam.pt")
        share = 100 * mined / max(pixels, 1)
        print(f"| {step} | {loss:.4f} | {share:.1f} % |", file=sys.stderr)
    for record in records:
        print(json.dumps({**record, **mined_by_id[record["id"]]}, ensure_ascii=False))


if __name__ == "__main__":
    main()
