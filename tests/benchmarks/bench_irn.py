"""Path affinities of IRNet and their walk beside plain ones and the walk of AffinityNet, on one
core."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from tests.benchmarks.bench_random_walk import GRIDS, dense_walk, scene
from wsss_cli.methods.affinity import neighbour_offsets, pair_slices
from wsss_cli.methods.irn import path, path_affinity
from wsss_cli.methods.random_walk import random_walk

RUNS = 9


def boundaries(height: int, width: int) -> Tensor:
    """A boundary map like a network's, (1, 1, h, w): smooth, high along thin lines."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 1, height // 8, width // 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (-8 * smooth.abs()).exp()


def gathered(edge: Tensor) -> Tensor:
    """Path affinities as public code has them: the cells of all paths of a pair, then a maximum."""
    height, width = edge.shape[2:]
    offsets = neighbour_offsets()
    affinity = edge.new_zeros(1, len(offsets), height, width)
    cells = torch.arange(height * width).view(height, width)
    for pair, (dy, dx) in enumerate(offsets):
        here, _ = pair_slices(dy, dx, height, width)
        ahead = torch.tensor([y * width + x for y, x in path(dy, dx)])
        on_path = edge.flatten()[cells[here][..., None] + ahead]
        affinity[0, pair, *here] = 1 - on_path.amax(-1)
    return affinity


def both(scores: Tensor, edge: Tensor) -> Tensor:
    """The walk along the affinities of a boundary map."""
    return random_walk(scores, path_affinity(edge)[0])


def fastest(*functions: Callable[[], object]) -> list[float]:
    """Milliseconds of the fastest run of each, measured in turns."""
    best = [math.inf] * len(functions)
    for run in range(1 + RUNS):  # the first warms up
        for number, function in enumerate(functions):
            started = time.perf_counter()
            function()
            if run:
                best[number] = min(best[number], 1000 * (time.perf_counter() - started))
    return best


def main() -> None:
    torch.set_num_threads(1)
    for stride, grid in GRIDS.items():
        edge = boundaries(*grid)
        scores, learned = scene(*grid)
        ours, plain, walk, other = fastest(
            partial(path_affinity, edge),
            partial(gathered, edge),
            partial(both, scores, edge),
            partial(random_walk, scores, learned),
        )
        affinity = path_affinity(edge)
        assert torch.equal(affinity, gathered(edge))
        line = (
            f"path affinities, stride {stride}, {grid[0]}x{grid[1]}: {ours:.1f} ms, gathered "
            f"{plain:.1f} ms, {plain / ours:.1f}x; with their walk {walk:.0f} ms, the walk of "
            f"AffinityNet {other:.0f} ms"
        )
        if stride == 8:
            started = time.perf_counter()
            dense = dense_walk(scores, affinity[0], torch.float32)
            took = 1000 * (time.perf_counter() - started)
            wrong = (random_walk(scores, affinity[0]) - dense).abs().max()
            line += f"; dense {took / walk:.0f}x as long, difference {wrong:.1e}"
        print(line)


if __name__ == "__main__":
    main()
