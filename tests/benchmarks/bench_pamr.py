"""PAMR of one 375x500 image with 21 maps beside the plain formulation: time and memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor
from torch.nn import functional

from wsss_cli.methods.pamr import DILATIONS, pamr

HEIGHT, WIDTH, MAPS, ITERATIONS = 375, 500, 21, 10


def scene(height: int, width: int, maps: int) -> tuple[Tensor, Tensor]:
    """A photograph with colours and noise like a real one, and maps at a quarter of its size."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 15, 20, generator=generator)
    image = functional.interpolate(coarse, (height, width), mode="bicubic")
    image = (image + 0.03 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    small = torch.rand(1, maps, -(-height // 4), -(-width // 4), generator=generator)
    return image, small


def stacked(values: Tensor, kernels: Tensor) -> Tensor:
    """All neighbours side by side, (N, C, 8 or 9 a dilation, H, W), by dilated convolutions."""
    count, channels, height, width = values.shape
    planes = values.reshape(count * channels, 1, height, width)
    found = [
        functional.conv2d(functional.pad(planes, (d, d, d, d), "replicate"), kernels, dilation=d)
        for d in DILATIONS
    ]
    return torch.cat(found, 1).view(count, channels, -1, height, width)


def plain(image: Tensor, maps: Tensor) -> Tensor:
    """The formula as it stands, with all neighbours of all maps in memory."""
    maps = functional.interpolate(maps, image.shape[2:], mode="bilinear", align_corners=True)
    window = torch.eye(9).view(9, 1, 3, 3)
    around = window[[0, 1, 2, 3, 5, 6, 7, 8]]
    spread = stacked(image, window).std(2, keepdim=True)
    contrast = stacked(image, around - window[4]).abs()
    alpha = (-contrast / (1e-8 + 0.1 * spread)).mean(1, keepdim=True).softmax(2)
    for _ in range(ITERATIONS):
        maps = (stacked(maps, around) * alpha).sum(2)
    return maps


WAYS = {"plain": plain, "ours": pamr}


def measure(way: str, threads: int, maps: int) -> None:
    """In a process of its own: seconds on the clock and of the cores, and the peak of memory."""
    torch.set_num_threads(threads)
    image, given = scene(HEIGHT, WIDTH, maps)
    taken = [0.0, 0.0]
    if way in WAYS:
        with torch.no_grad():
            WAYS[way](*scene(16, 16, 1))  # what the first call loads is not its own
            started = time.perf_counter(), time.process_time()
            WAYS[way](image, given)
            taken = [time.perf_counter() - started[0], time.process_time() - started[1]]
    print(json.dumps([*taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def asked(way: str, threads: int, maps: int) -> list[float]:
    done = subprocess.run(
        [sys.executable, __file__, way, str(threads), str(maps)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[float] = json.loads(done.stdout)
    return found


def main() -> None:
    with torch.no_grad():
        image, maps = scene(60, 80, 3)
        wrong = (plain(image, maps) - pamr(image, maps)).abs().max()
    idle = asked("nothing", 1, MAPS)[2]
    for threads, maps in ((1, MAPS), (2, MAPS), (1, 3)):
        ours, other = asked("ours", threads, maps), asked("plain", threads, maps)
        added, theirs = ours[2] - idle, other[2] - idle
        wish = "; asked for: 4 and 8" if (threads, maps) == (1, MAPS) else ""
        print(
            f"pamr, {WIDTH}x{HEIGHT}, {maps} maps, {threads} threads: {ours[0]:.2f} s "
            f"({ours[1]:.2f} s of cores), {added:.0f} MiB; plain {other[0]:.1f} s "
            f"({other[1]:.1f}), {theirs:.0f} MiB: {other[0] / ours[0]:.1f} times as fast "
            f"({other[1] / ours[1]:.1f} by cores), 1/{theirs / added:.0f} of the memory{wish}",
            flush=True,
        )
    print(f"largest difference {wrong:.1e}")


if __name__ == "__main__":
    if sys.argv[1:]:
        measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
