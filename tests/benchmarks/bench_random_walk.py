"""The random walk of one 375×500 image beside the power of the dense matrix, on one core."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import torch

from wsss_cli.methods.affinity import neighbour_offsets, pair_slices, pairwise_affinity
from wsss_cli.methods.random_walk import random_walk

GRIDS = {8: (47, 63), 4: (94, 125)}
CLASSES, BETA, STEPS = 3, 8, 256


def scene(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and affinities like a network's: smooth features with edges."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 64, height // 8, width // 8, generator=generator)
    features = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    scores = torch.rand(CLASSES, height, width, generator=generator)
    return scores, pairwise_affinity(features)[0]


def dense(affinity: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """T as an N × N matrix."""
    height, width = affinity.shape[1:]
    cells = torch.arange(height * width).reshape(height, width)
    matrix = torch.eye(height * width, dtype=dtype)
    for plane, (dy, dx) in zip(affinity.to(dtype), neighbour_offsets(), strict=True):
        here, there = pair_slices(dy, dx, height, width)
        weights = plane[here].flatten() ** BETA
        matrix[cells[here].flatten(), cells[there].flatten()] = weights
        matrix[cells[there].flatten(), cells[here].flatten()] = weights
    return matrix / matrix.sum(1, keepdim=True)


def dense_walk(scores: torch.Tensor, affinity: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    matrix = dense(affinity, dtype)
    for _ in range(STEPS.bit_length() - 1):
        matrix = matrix @ matrix
    return (matrix @ scores.flatten(1).T.to(dtype)).T.reshape(scores.shape)


def median(function: object, runs: int) -> float:
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        function()  # type: ignore[operator]
        taken.append(time.perf_counter() - started)
    return sorted(taken)[runs // 2]


def memory(stride: int) -> None:
    """In a process of its own: how much memory the walk adds to that of the process before it."""
    torch.set_num_threads(1)
    random_walk(*scene(16, 16))  # what the first call loads is not the walk's
    scores, affinity = scene(*GRIDS[stride])
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of loading torch
    random_walk(scores, affinity)
    print(_status("VmHWM") - before)


def _status(name: str) -> float:
    """A line of this process's status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def main() -> None:
    torch.set_num_threads(1)
    for stride, grid in GRIDS.items():
        scores, affinity = scene(*grid)
        ours = median(lambda s=scores, a=affinity: random_walk(s, a), 7)
        every = median(lambda s=scores, a=affinity: random_walk(s, a, exact=True), 3)
        added = subprocess.run(
            [sys.executable, __file__, "memory", str(stride)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        line = (
            f"random walk, stride {stride}, {grid[0]}x{grid[1]}: {1000 * ours:.0f} ms, "
            f"every step {1000 * every:.0f} ms, {float(added):.0f} MiB more memory"
        )
        if stride == 8:
            plain = median(lambda s=scores, a=affinity: dense_walk(s, a, torch.float32), 1)
            truth = dense_walk(scores, affinity, torch.float64)
            wrong = (random_walk(scores, affinity).double() - truth).abs().max()
            line += f"; dense {plain:.1f} s, {plain / ours:.0f}x, difference {wrong:.1e}"
        else:
            cells = grid[0] * grid[1]
            line += f"; dense would need {4 * cells * cells / 2**30:.1f} GiB a matrix"
        print(line)


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        memory(int(sys.argv[2]))
    else:
        main()
