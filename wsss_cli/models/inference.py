"""Running a network over whole images: device, precision, scales, mirror images, in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from wsss_cli.errors import ConfigurationError
from wsss_cli.files import Checkpoint
from wsss_cli.models.networks import Network, build_network
from wsss_cli.models.precision import choose

Image = npt.NDArray[np.uint8]


class View(NamedTuple):
    """What the network makes of images seen in one way.

    Attributes:
        output: float32 (N, C, h, w).
        mirrored: whether the images were mirrored.
        seen: (H, W) at which they were seen.
    """

    output: Tensor
    mirrored: bool
    seen: tuple[int, int]


class Runner:
    """A trained network, ready to see images.

    Args:
        checkpoint: what to rebuild the network from.
        device, precision: see :func:`wsss_cli.models.precision.choose`.
        max_side: photographs with a longer side are seen at this size; 0 is no bound.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, device: str = "auto", precision: str = "auto",
        max_side: int = 0,
    ) -> None:  # fmt: skip
        network: Network = build_network(
            checkpoint.kind, checkpoint.backbone, checkpoint.classes, checkpoint.config
        )
        try:
            network.load_state_dict(checkpoint.state_dict)
        except RuntimeError as error:
            raise ConfigurationError(
                f"the checkpoint's weights do not fit its network ({checkpoint.backbone})"
            ) from error
        self.compute = choose(device, precision)
        self.device = self.compute.device
        self.max_side = max_side
        self.network = network.eval().requires_grad_(False)
        self.network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = torch.tensor(network.backbone.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(network.backbone.std, device=self.device).view(1, 3, 1, 1)

    def seen_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) at which an image of ``size`` is seen at scale 1."""
        return _scaled(size, min(self.max_side / max(size), 1) if self.max_side else 1)

    def views(self, images: Sequence[Image], scales: Sequence[float], flip: bool) -> list[View]:
        """What the network makes of images of one size, at each scale, and mirrored.

        Args:
            images: N photographs, uint8 (H, W, 3), all of one size.
            scales: sizes relative to the photograph.
            flip: see the mirrored images too; both go through the network together.

        Returns:
            One view a scale; with ``flip`` two, the plain one first.
        """
        given = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2).float() / 255
        given = (given - self._mean) / self._std
        size = self.seen_size((given.shape[2], given.shape[3]))
        found = []
        with torch.inference_mode(), self.compute.autocast():
            for scale in scales:
                seen = _scaled(size, scale)
                batch = _resized(given, seen)
                if flip:
                    batch = torch.cat([batch, batch.flip(-1)])
                output = self.network(batch.contiguous(memory_format=torch.channels_last)).float()
                found.append(View(output[: len(images)], False, seen))
                if flip:
                    found.append(View(output[len(images) :], True, seen))
        return found

    def __call__(self, image: Image) -> Tensor:
        """The network's output (C, h, w), float32, for one photograph at scale 1."""
        return self.views([image], [1.0], False)[0].output[0]


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    # Below 33 pixels the dilated backbones have nothing left to see.
    return max(round(size[0] * scale), 33), max(round(size[1] * scale), 33)


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[2:]) == size:
        return images
    smaller = size[0] < images.shape[2]
    return functional.interpolate(
        images, size, mode="bilinear", align_corners=False, antialias=smaller
    )
