"""Seeds of one image of 512×512: blocked, and plainly from all correlations, on one core."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn import functional

from wsss_cli.methods.sipe import BLOCKS, SCRATCH, seed_regions

CLASSES, CHANNELS = 21, 2048
SIZE = 512


def scene(stride: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """CAMs and features like those of ResNet-50."""
    cells = SIZE // stride
    generator = torch.Generator().manual_seed(0)
    cam = torch.rand(1, CLASSES, cells, cells, generator=generator)
    features = torch.rand(1, CHANNELS, cells, cells, generator=generator)
    return cam, features, torch.ones(1, CLASSES, 1, 1)


def plain(cam: torch.Tensor, features: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """As the formula stands there."""
    unit = functional.normalize(features.flatten(2), dim=1)
    similar = (unit.transpose(1, 2) @ unit).relu()
    seen = (cam * valid).flatten(2).transpose(1, 2)
    both = similar @ seen
    iou = both / (similar.sum(2, keepdim=True) + seen.sum(1, keepdim=True) - both)
    iou[:, :, 0] *= 0.5
    winner = iou.argmax(2, keepdim=True)
    return torch.zeros_like(iou).scatter_(2, winner, 1).transpose(1, 2).view_as(cam)


def best(function: Callable[[], object], runs: int = 3) -> float:
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        function()
        taken.append(time.perf_counter() - started)
    return min(taken)


def main() -> None:
    torch.set_num_threads(1)
    print("| stride | cells | all correlations | held | plain | blocked | ratio | seeds apart |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for stride in (16, 8):
        given = scene(stride)
        cells = (SIZE // stride) ** 2
        every = 4 * cells**2
        held = min(every / BLOCKS, max(SCRATCH, 4 * cells))
        apart = (plain(*given) != seed_regions(*given)).any(1).float().mean()
        whole = best(lambda given=given: plain(*given))  # type: ignore[misc]
        parts = best(lambda given=given: seed_regions(*given))  # type: ignore[misc]
        print(
            f"| {stride} | {cells} | {every / 2**20:.0f} MiB | {held / 2**20:.1f} MiB "
            f"| {whole:.3f} s | {parts:.3f} s | {parts / whole:.2f} | {100 * apart:.2f} % |"
        )


if __name__ == "__main__":
    main()
