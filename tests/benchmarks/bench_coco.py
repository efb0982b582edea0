"""Memory and time for a COCO file as large as that of train2017, and those of plain json.load."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGES, ANNOTATIONS, CATEGORIES = 118_000, 860_000, 90

# Peak memory beyond what the imports take (MB), and seconds.
CHILD = """
import json, resource, sys, time
from wsss_cli.datasets.coco import Coco
how, path = sys.argv[1:]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
before, start = peak(), time.perf_counter()
if how == "plain":
    with open(path) as stream:
        kept = json.load(stream)
else:
    kept = Coco(path, print, outlines=how == "masks")
print(peak() - before, time.perf_counter() - start)
"""


def write(path: Path) -> None:
    """A file of images and polygons of twenty points."""
    rng = random.Random(0)
    with path.open("w") as stream:
        stream.write('{"info": {}, "images": [')
        for number in range(IMAGES):
            name = f"{number:012d}.jpg"
            image = {
                "license": 3,
                "file_name": name,
                "coco_url": f"http://images.cocodataset.org/train2017/{name}",
                "height": 360,
                "width": 640,
                "date_captured": "2013-11-14 11:18:45",
                "id": number,
            }
            stream.write((", " if number else "") + json.dumps(image))
        stream.write('], "annotations": [')
        for number in range(ANNOTATIONS):
            annotation = {
                "segmentation": [[round(rng.random() * 360, 2) for _ in range(40)]],
                "area": 100.5,
                "iscrowd": 0,
                "image_id": rng.randrange(IMAGES),
                "bbox": [1.1, 2.2, 3.3, 4.4],
                "category_id": rng.randrange(1, CATEGORIES + 1),
                "id": number,
            }
            stream.write((", " if number else "") + json.dumps(annotation))
        names = [{"id": number, "name": f"c{number}"} for number in range(1, CATEGORIES + 1)]
        stream.write(f'], "categories": {json.dumps(names)}}}')


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instances.json"
        write(path)
        size = path.stat().st_size / 1e6
        print(f"{IMAGES:,} images, {ANNOTATIONS:,} annotations, {size:.0f} MB of JSON")
        for how, shown in (
            ("plain", "json.load"),
            ("labels", "index coco"),
            ("masks", "index coco --masks, before the first mask"),
        ):
            done = subprocess.run(
                [sys.executable, "-c", CHILD, how, str(path)],
                check=True,
                capture_output=True,
                text=True,
            )
            memory, seconds = map(float, done.stdout.split())
            print(f"  {shown}: {memory:.0f} MB, {seconds:.1f} s")


if __name__ == "__main__":
    main()
