"""make-cam | random-walk | crf in one pipe beside the three one after another, and its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from bench_crf import made_up

CLASSES = ("cat", "dog")
TOOLS = (
    ("make-cam", "-c", "cam.pt"),
    ("random-walk", "-c", "aff.pt"),
    ("crf", "--key", "pseudo", "--workers", "2"),
)
COUNT = 24  # images of VOC's size for the time
SHORT, LONG = 16, 160  # small images for the memory


def networks(folder: Path) -> None:
    """Checkpoints with random weights: what they cost is what trained ones cost."""
    import torch

    from wsss_cli import files
    from wsss_cli.models.networks import build_network

    torch.manual_seed(0)
    for name, kind, stride in (("cam", "cam", 16), ("aff", "affinity", 8)):
        config = {"output_stride": stride}
        network = build_network(kind, "efficientnet-lite0", CLASSES, config)
        files.save_checkpoint(
            folder / f"{name}.pt",
            kind=kind,
            backbone="efficientnet-lite0",
            classes=CLASSES,
            config=config,
            state_dict=network.state_dict(),
        )


def stream(records: Path, count: int, shrink: int = 1) -> Path:
    """``count`` labelled records of the photographs in ``records``, made ``shrink`` times smaller.

    The file lies beside ``records``.
    """
    from PIL import Image

    given = [json.loads(line) for line in records.read_text().splitlines()]
    for path in sorted({record["image"] for record in given}) if shrink > 1 else ():
        with Image.open(path) as image:
            image.reduce(shrink).save(path)
    path = records.parent / f"{count}.jsonl"
    chosen = (given[number % len(given)]["image"] for number in range(count))
    path.write_text(
        "".join(
            json.dumps({"id": f"{number:04}", "image": image, "labels": CLASSES}) + "\n"
            for number, image in enumerate(chosen)
        )
    )
    return path


def start(
    tool: tuple[str, ...], folder: Path, out: str, source: IO[bytes], sink: IO[bytes] | int
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "wsss_cli", *tool, "-q", "-o", f"{out}/{tool[0]}"]
    return subprocess.Popen(command, cwd=folder, stdin=source, stdout=sink)


def end(process: subprocess.Popen[bytes]) -> float:
    """Wait for a tool; its peak memory in MB, without that of its worker processes."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{process.args} failed")
    return usage.ru_maxrss / 1024


def piped(folder: Path, records: Path, out: str) -> list[float]:
    """All tools at once; their peak memory."""
    running: list[subprocess.Popen[bytes]] = []
    with open(records, "rb") as source, open(folder / f"{out}.jsonl", "wb") as last:
        for tool in TOOLS:
            before = running[-1].stdout if running else source
            assert before is not None
            sink = last if tool is TOOLS[-1] else subprocess.PIPE
            running.append(start(tool, folder, out, before, sink))
            if running[1:]:
                before.close()
    return [end(process) for process in running]


def in_turn(folder: Path, records: Path, out: str) -> None:
    """Each tool when the one before has ended."""
    for tool in TOOLS:
        result = folder / f"{out}-{tool[0]}.jsonl"
        with open(records, "rb") as source, open(result, "wb") as sink:
            end(start(tool, folder, out, source, sink))
        records = result


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        networks(folder)
        pictures = made_up(folder)
        records = stream(pictures, COUNT)
        times = []
        for run in (in_turn, piped):
            started = time.perf_counter()
            run(folder, records, run.__name__)
            times.append(time.perf_counter() - started)
        print(
            f"make-cam | random-walk | crf, {COUNT} images of 500x375: in turn {times[0]:.1f} s, "
            f"in a pipe {times[1]:.1f} s, {times[0] / times[1]:.2f} times as fast"
        )
        short = stream(pictures, SHORT, shrink=4)
        few = piped(folder, short, "short")
        many = piped(folder, stream(pictures, LONG), "long")
        shown = ", ".join(
            f"{tool[0]} {a:.0f} -> {b:.0f} MB" for tool, a, b in zip(TOOLS, few, many, strict=True)
        )
        print(f"peak memory in the pipe with {SHORT} -> {LONG} images of 125x94: {shown}")


if __name__ == "__main__":
    main()
