"""Seeds of one image of 512×512: blocked and all correlations at once, on one core."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from wsss_cli.methods.sipe import SCRATCH, seed_regions

CLASSES, CHANNELS = 21, 2048
SIZE = 512
ALL_AT_ONCE = 1 << 40


def scene(stride: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """CAMs and features like those of ResNet-50."""
    cells = SIZE // stride
    generator = torch.Generator().manual_seed(0)
    cam = torch.rand(1, CLASSES, cells, cells, generator=generator)
    features = torch.rand(1, CHANNELS, cells, cells, generator=generator)
    return cam, features, torch.ones(1, CLASSES, 1, 1)


def best(function: Callable[[], object], runs: int = 3) -> float:
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started)
    return min(taken)


def main() -> None:
    torch.set_num_threads(1)
    print("| stride | cells | all correlations | held at a time | all at once | blocked | ratio |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for stride in (16, 8):
        given = scene(stride)
        cells = (SIZE // stride) ** 2
        every = 4 * cells**2
        held = min(every, max(SCRATCH, 4 * cells))
        whole = best(lambda given=given: seed_regions(*given, scratch=ALL_AT_ONCE))  # type: ignore[misc]
        parts = best(lambda given=given: seed_regions(*given))  # type: ignore[misc]
        print(
            f"| {stride} | {cells} | {every / 2**20:.0f} MiB | {held / 2**20:.0f} MiB "
            f"| {whole:.3f} s | {parts:.3f} s | {parts / whole:.2f} |"
        )


if __name__ == "__main__":
    main()
