"""Loading and training, in images per second, beside the plain way to do them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from wsss_cli import memory
from wsss_cli.datasets.augment import Jitter, random_view
from wsss_cli.datasets.samples import Samples, batches, shuffled
from wsss_cli.models import efficientnet
from wsss_cli.models.batchnorm import freeze_batchnorm
from wsss_cli.models.device import choose
from wsss_cli.models.networks import build_network

BATCH, CROP, STEPS = 16, 320, 4


def loading(folder: Path, workers: int) -> float:
    """Images per second through decoding, random view and colour jitter."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    records = []
    for number in range(16):
        path = folder / f"{number}.jpg"
        Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
        records.append({"id": str(number), "image": str(path)})
    view = partial(random_view, crop=CROP, long_side=(CROP, 2 * CROP))
    samples = Samples(records, view=view, jitter=Jitter())
    started = time.perf_counter()
    count = sum(
        len(loaded)
        for loaded in batches(
            samples, shuffled(samples.groups, batch=BATCH, steps=20), workers=workers
        )
    )
    return count / (time.perf_counter() - started)


def training(plain: bool, backbone: str = "efficientnet-lite0") -> float:
    """Images per second of a step with frozen batch normalisation."""

    def two_layers(images: Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d) -> Tensor:
        output: Tensor = bn(conv(images))
        return output

    folded: Callable[..., Tensor] = efficientnet.conv_bn
    efficientnet.conv_bn = two_layers if plain else folded
    compute = choose("cpu")
    network = build_network("cam", backbone, ["cat"] * 20, {"output_stride": 16})
    network.to(memory_format=torch.channels_last).train()
    freeze_batchnorm(network.backbone)
    images = torch.randn(BATCH, 3, CROP, CROP).to(memory_format=torch.channels_last)
    times = []
    for _ in range(STEPS):
        started = time.perf_counter()
        with compute.autocast():
            loss = network(images).float().square().mean()
        loss.backward()
        times.append(time.perf_counter() - started)
    efficientnet.conv_bn = folded
    return BATCH / min(times)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            rate = loading(Path(folder), workers)
            print(
                f"loading, crops of {CROP} from 500x375, {workers} thread(s): {rate:.0f} images/s"
            )
    plain, given_back = training(plain=True), training(plain=False)
    memory.keep_freed()  # as every trainer does on a CPU
    ours = training(plain=False)
    print(
        f"training step, EfficientNet-Lite0, {CROP} px, batch {BATCH}, {choose('cpu').precision}: "
        f"{ours:.1f} images/s; memory given back after each step {given_back:.1f}, plain layers "
        f"too {plain:.1f}: {ours / plain:.1f} times as fast"
    )
    for backbone in ("efficientnet-lite1", "efficientnet-lite2"):
        print(f"training step, {backbone}: {training(False, backbone):.1f} images/s")


if __name__ == "__main__":
    main()
