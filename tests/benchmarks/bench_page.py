"""How long the page of ``wsss view`` with 1,000 records takes to make, and to open in Chromium."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from contextlib import suppress
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy reads it

import numpy as np
from PIL import Image, ImageFilter

from tests.browser import CHROMIUM, Browser
from wsss_cli import console, files
from wsss_cli.stage import Failures
from wsss_cli.tools.page import Page, write_page

COUNT, DIFFERENT = 1000, 50
SIZE = 375, 500


def records(folder: Path) -> str:
    """A file of records with photographs, maps and masks about as easy to pack as real ones."""
    rng = np.random.default_rng(0)
    made = []
    meta = files.provenance("make-cam", {}, classes=["cat", "dog"])
    for number in range(DIFFERENT):
        noise = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        soft = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(4))
        pixels = np.asarray(soft, float) * 3 - 255 + noise * 0.15
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg")
        blob = Image.fromarray(noise[..., 0]).filter(ImageFilter.GaussianBlur(25))
        values = np.asarray(blob, float)
        values = (values - values.min()) / np.ptp(values)
        labels = (values > 0.5).astype(np.uint8)
        for key in ("mask", "pseudo"):
            files.write_label_map(folder / f"{key}{number}.png", labels, meta)
        files.write_maps(folder / f"{number}.npz", values[None, ::4, ::4], ["cat"], SIZE, meta)
        made.append(
            {
                "image": str(folder / f"{number}.jpg"),
                "labels": ["cat"],
                "cam": str(folder / f"{number}.npz"),
                **{key: str(folder / f"{key}{number}.png") for key in ("pseudo", "mask")},
            }
        )
    stream = folder / "records.jsonl"
    with stream.open("w") as lines:
        for number in range(COUNT):
            lines.write(json.dumps({"id": f"{number}", **made[number % DIFFERENT]}) + "\n")
    return str(stream)


def memory(process: int) -> dict[str, float]:
    """Megabytes of the processes of a Chromium by their kind, each shared page counted once."""
    parents, kinds = dict[int, int](), dict[int, str]()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            number = int(folder.name)
            parents[number] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            found = re.search(r"--type=(\w+)", (folder / "cmdline").read_text())
            kinds[number] = found[1] if found else "browser"
    used: dict[str, float] = {}
    for number, kind in kinds.items():
        above = number
        while above and above != process:
            above = parents.get(above, 0)
        if above:
            lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
            pss = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            used[kind] = used.get(kind, 0) + pss / 1024
    return used


def main() -> None:
    console.configure(quiet=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stream = records(folder)
        keys = ("image", "cam", "pseudo", "mask")
        for link in (False, True):
            out = folder / "report.html"
            started = time.perf_counter()
            page = Page(keys=keys, width=400, link=link)
            write_page(page, [stream], Failures("view"), out=str(out), limit=None, asked=False)
            seconds = time.perf_counter() - started
            size = out.stat().st_size
            print(
                f"view page{' --link' if link else ''}, {COUNT} records: {COUNT / seconds:.0f}/s, "
                f"{size / 1e6:.1f} MB, {size / COUNT / 1000:.1f} kB a record"
            )
            if CHROMIUM is None:
                print("no Chromium here to open it")
                continue
            with Browser() as browser:
                empty = memory(browser.process.pid)
                started = time.perf_counter()
                browser.open(out)
                browser.wait("document.querySelector('.over')?.complete")
                seconds = time.perf_counter() - started
                full = memory(browser.process.pid)
            print(
                f"  first pictures after {seconds:.2f} s (asked for: 2 s); its process takes "
                f"{full['renderer']:.0f} MB (asked for: 300 MB), without the page "
                f"{empty['renderer']:.0f} MB; all of Chromium {sum(full.values()):.0f} MB, "
                f"{sum(empty.values()):.0f} MB without it"
            )


if __name__ == "__main__":
    main()
