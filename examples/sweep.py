"""Write sweep.csv and draw sweep.png from the results of sweep.mk, and print a table of them.

    sweep.py FOLDER RESULT…

A RESULT is the output of `wsss eval --format json` in a file NAME-VALUE.json.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw

from wsss_cli.drawing import CURVES, GRID, INK, PALE, PAPER, font, ticks
from wsss_cli.files import provenance, write_image

PANEL, HEIGHT = 320, 300
BLUE = CURVES[0]

Points = list[tuple[float, float]]  # value of the setting, mIoU in percent


def main() -> None:
    folder = Path(sys.argv[1])
    curves: dict[str, Points] = {}
    with open(folder / "sweep.csv", "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["setting", "value", "miou", "precision", "recall", "images"])
        for path in map(Path, sys.argv[2:]):
            name, _, value = path.stem.partition("-")
            result = json.loads(path.read_text())
            figures = [f"{result[key]:.6f}" for key in ("miou", "precision", "recall")]
            table.writerow([name, value, *figures, result["images"]])
            curves.setdefault(name, []).append((float(value), 100 * result["miou"]))
    print("| setting | value | mIoU |\n|---|---:|---:|")
    for name, points in curves.items():
        for value, miou in sorted(points):
            print(f"| {name} | {value:g} | {miou:.1f} |")
    write_image(folder / "sweep.png", drawn(curves), provenance("sweep", {}))
    print(f"\n{folder}/sweep.csv, {folder}/sweep.png")


def drawn(curves: dict[str, Points]) -> Image.Image:
    """One panel a setting, its values at equal distances, with one scale of mIoU for all."""
    page = Image.new("RGB", (60 + PANEL * len(curves), HEIGHT), PAPER)
    draw = ImageDraw.Draw(page)
    every = [miou for points in curves.values() for _, miou in points]
    up = ticks(min(every), max(every))
    top, bottom = 40, HEIGHT - 46

    def height(miou: float) -> float:
        return bottom - (miou - up[0]) / (up[-1] - up[0]) * (bottom - top)

    draw.text((54, 14), "mIoU, %", PALE, font(13), anchor="rt")
    for number, (name, points) in enumerate(curves.items()):
        left = 60 + PANEL * number
        right = left + PANEL - 30
        for miou in up:
            y = height(miou)
            draw.line((left, y, right, y), GRID)
            if number == 0:
                draw.text((left - 8, y), f"{miou:g}", PALE, font(13), anchor="rm")
        room = (right - left) / len(points)
        places = []
        for place, (value, miou) in enumerate(sorted(points)):
            x = left + room * (place + 0.5)
            draw.text((x, bottom + 8), f"{value:g}", PALE, font(13), anchor="mt")
            places.append((x, height(miou)))
        draw.line(places, BLUE, width=3, joint="curve")
        for x, y in places:
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), BLUE)
        draw.text(((left + right) / 2, HEIGHT - 16), name, INK, font(15), anchor="mm")
    return page


if __name__ == "__main__":
    main()
