"""Large photographs with true masks, made of small ones, to measure `--tile` on.

    mosaics.py OUT COUNT [enlarged] < RECORDS > MOSAICS

Pastes 6 x 6 photographs of 500x375 pixels, drawn at random, into each of COUNT pictures of
3000x2250, and their masks likewise. With the word each picture is one photograph, six times as
large.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from wsss_cli import files

HEIGHT, WIDTH, TIMES = 375, 500, 6


def main() -> None:
    enlarged = sys.argv[3:] == ["enlarged"]
    out, count = Path(sys.argv[1]), int(sys.argv[2])
    records = [record for record in map(json.loads, sys.stdin) if "mask" in record]
    fit = [each for each in records if files.image_size(each["image"]) == (HEIGHT, WIDTH)]
    np.random.default_rng(int(enlarged)).shuffle(fit)
    many = 1 if enlarged else TIMES**2
    if len(fit) < many * count:
        sys.exit(f"{len(fit)} photographs of {WIDTH}x{HEIGHT} with a mask: too few")
    out.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        part = fit[many * number : many * (number + 1)]
        if enlarged:
            photograph = Image.fromarray(files.read_image(part[0]["image"]))
            size = (TIMES * WIDTH, TIMES * HEIGHT)
            pixels = np.asarray(photograph.resize(size, Image.Resampling.BICUBIC))
            mask = files.read_label_map(part[0]["mask"]).repeat(TIMES, 0).repeat(TIMES, 1)
        else:
            pixels = pasted([files.read_image(each["image"]) for each in part])
            mask = pasted([files.read_label_map(each["mask"]) for each in part])
        stem = out / f"{'enlarged' if enlarged else 'mosaic'}-{number}"
        Image.fromarray(pixels).save(f"{stem}.jpg", quality=95)
        files.write_label_map(f"{stem}.png", mask)
        labels = sorted({name for each in part for name in each["labels"]})
        made = {"id": stem.name, "image": f"{stem}.jpg", "labels": labels, "mask": f"{stem}.png"}
        print(json.dumps(made))


def pasted(parts: list[np.ndarray]) -> np.ndarray:
    """One picture of all, row by row."""
    rows = [parts[start : start + TIMES] for start in range(0, TIMES**2, TIMES)]
    return np.concatenate([np.concatenate(row, 1) for row in rows])


if __name__ == "__main__":
    main()
