"""Multi-scale CAMs of one 375×500 image beside plain float32, one pass a scale and mirror image."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch.nn import functional

from wsss_cli.files import load_checkpoint, save_checkpoint
from wsss_cli.models.inference import Runner
from wsss_cli.models.networks import build_network

SCALES, RUNS = (0.5, 1.0, 1.5, 2.0), 3


def usual(x: torch.Tensor, conv: torch.nn.Conv2d, bn: torch.nn.BatchNorm2d) -> torch.Tensor:
    """Convolution and normalisation as PyTorch's own networks have them."""
    return bn(conv(x))


def plain(network: torch.nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    found = []
    with torch.no_grad(), patch(f"{type(network.backbone).__module__}.conv_bn", usual):
        for scale in SCALES:
            small = functional.interpolate(image, scale_factor=scale, mode="bilinear")
            found += [network(small), network(small.flip(-1)).flip(-1)]
    return found


def medians(*functions: Callable[[], object]) -> list[float]:
    """Seconds that each takes, measured in turns, so that other work on the machine meets all."""
    taken: list[list[float]] = [[] for _ in functions]
    for run in range(1 + RUNS):  # the first warms up
        for function, times in zip(functions, taken, strict=True):
            started = time.perf_counter()
            function()
            times += [time.perf_counter() - started] if run else []
    return [sorted(times)[RUNS // 2] for times in taken]


def main() -> None:
    image = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    for backbone in ("resnet50", "efficientnet-lite0"):
        network = build_network("cam", backbone, ["a"] * 20, {"output_stride": 16}).eval()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cam.pt"
            save_checkpoint(
                path,
                kind="cam",
                backbone=backbone,
                classes=list(map(str, range(20))),
                config={"output_stride": 16},
                state_dict=network.state_dict(),
            )
            runner = Runner(load_checkpoint(path))
        ours, slow = medians(
            partial(runner.views, [image], SCALES, True), partial(plain, network, tensor)
        )
        print(
            f"make-cam, {backbone}, 4 scales + flip: {1 / ours:.2f} images/s, "
            f"plain fp32 {1 / slow:.2f} images/s, {slow / ours:.1f}x"
        )


if __name__ == "__main__":
    main()
