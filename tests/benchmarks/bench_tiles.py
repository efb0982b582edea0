"""One photograph of 3000×2250 in tiles of 1024 beside the whole of it at once: time and memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from wsss_cli.files import Checkpoint, write_maps
from wsss_cli.models.cam import ClassMaps
from wsss_cli.models.inference import Runner
from wsss_cli.models.networks import build_network
from wsss_cli.stage import BatchTool, Job
from wsss_cli.tools.make_cam import CamMaker
from wsss_cli.tools.predict import Segmenter
from wsss_cli.tools.random_walk import Walker

SIZE, TILE, OVERLAP = (2250, 3000), 1024, 128
CLASSES = tuple(f"class {number}" for number in range(20))
LABELS = CLASSES[:3]
KINDS = {"make-cam": "cam", "predict": "segmentation", "random-walk": "affinity"}


def built(name: str, tile: int) -> BatchTool:
    """The tool with an untrained network; 0 is no tiles."""
    torch.manual_seed(0)
    config = {"output_stride": 16, "head": "aspp"}
    network = build_network(KINDS[name], "efficientnet-lite0", CLASSES, config)
    checkpoint = Checkpoint(
        KINDS[name], "efficientnet-lite0", CLASSES, config, network.state_dict(), ""
    )
    runner = Runner(checkpoint, device="cpu", tile=tile, overlap=OVERLAP if tile else 0)
    if name == "random-walk":
        return Walker(runner=runner, class_list=CLASSES)
    scales: dict[str, Any] = {"scales": (1.0,), "flip": False}
    if name == "predict":
        return Segmenter(runner=runner, **scales)
    return CamMaker(runner=runner, reading=ClassMaps(), **scales)


def measure(name: str, tile: int, folder: Path) -> None:
    """In a process of its own: seconds, and how much memory the work adds to what is loaded."""
    tool = built(name, tile)
    paths = {key: folder / f"out{suffix}" for key, suffix in tool.outputs.items()}
    small = {"id": "a", "image": str(folder / "small.png"), "cam": str(folder / "small.npz")}
    large = {"id": "a", "image": str(folder / "large.png"), "cam": str(folder / "large.npz")}
    for record in (small, large):  # what the first loads is not counted
        job = Job({**record, "labels": list(LABELS)}, paths, {"tool": name})
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        started = time.perf_counter()
        (result,) = tool.compute([tool.load(job)])
        tool.save(job, result)
        seconds = time.perf_counter() - started
    print(seconds, _status("VmHWM") - before)


def _status(name: str) -> float:
    """A line of this process's status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def main() -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for stem, (height, width) in (("small", (150, 200)), ("large", SIZE)):
            coarse = rng.integers(0, 256, (height // 50, width // 50, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            picture.save(folder / f"{stem}.png")
            maps = rng.random((3, -(-height // 4), -(-width // 4)))
            write_maps(folder / f"{stem}.npz", maps, LABELS, (height, width), {})
        for tool in KINDS:
            found = []
            for tile in (TILE, 0):
                call = [sys.executable, __file__, tool, str(tile), name]
                done = subprocess.run(call, capture_output=True, text=True, check=True)
                found += map(float, done.stdout.split())
            ours, memory, whole, more = found
            print(
                f"{tool}, {SIZE[1]}x{SIZE[0]} in tiles of {TILE}: {ours:.1f} s, {memory:.0f} MiB, "
                f"whole {whole:.1f} s, {more:.0f} MiB; time x{ours / whole:.2f}, "
                f"memory 1/{more / memory:.1f}"
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
