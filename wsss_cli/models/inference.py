"""Running a network over whole images: device, precision, scales, mirror images, in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PIL
from torch import Tensor
from torch.nn import functional

from wsss_cli.errors import ConfigurationError
from wsss_cli.files import Checkpoint
from wsss_cli.methods.tiles import Tiles, tiles
from wsss_cli.models.base import SMALLEST, Network
from wsss_cli.models.batchnorm import fold_once
from wsss_cli.models.device import SideBySide, choose
from wsss_cli.models.networks import restored

Image = npt.NDArray[np.uint8]
Resize = Literal["bilinear", "bicubic"]


class View(NamedTuple):
    """Output of the network for images at one scale, mirrored or not.

    Attributes:
        output: float32 (N, C, h, w).
        mirrored: whether the images were mirrored.
        seen: (H, W) that they were resized to.
        scores: logits of the classes of the whole images, float32 (N, C), of a network with a
            classification branch.
    """

    output: Tensor
    mirrored: bool
    seen: tuple[int, int]
    scores: Tensor | None = None


class Runner:
    """A trained network that can be run on images.

    Args:
        checkpoint: describes the network.
        device, precision: see :func:`wsss_cli.models.device.choose`.
        max_side: photographs with a longer side are reduced to this size; 0 is no limit.
        resize: filter that images are resized with; "bicubic" is Pillow's.
        tile: if given, they are not reduced but seen in tiles of at most so many pixels a side.
        overlap: pixels that neighbouring tiles share at least.

    Raises:
        ConfigurationError: the overlap leaves no tiles, or as :func:`restored` and :func:`choose`.

    Attributes:
        max_side: as given; with tiles the longest side of a photograph that is seen whole.
        align: tiles begin at multiples of so many pixels. It is four strides, so that the network's
            cells look at the same places as in the whole photograph also at scales like 0.75.
        spread: calls a function on several items side by side on a CPU (:class:`SideBySide`).
        abreast: the number of items at the same time.
        digest, classes, path: of the checkpoint.
        mean, std: statistics of the backbone that images are normalised with, (1, 3, 1, 1).
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        precision: str = "auto",
        max_side: int = 0,
        resize: Resize = "bilinear",
        tile: int | None = None,
        overlap: int = 0,
    ) -> None:
        network: Network = restored(checkpoint)
        self.digest, self.classes, self.path = (
            checkpoint.digest,
            checkpoint.classes,
            checkpoint.path,
        )
        self.compute = choose(device, precision)
        self.device = self.compute.device
        self.max_side, self.resize = max(max_side, tile) if tile else max_side, resize
        self.tile, self.overlap = tile or 0, overlap
        self.align = 4 * network.backbone.strides[-1]
        if tile and tile < (least := overlap + 2 * self.align):
            raise ConfigurationError(
                f"--tile {tile}: with --overlap {overlap}, a tile has at least {least} pixels here"
            )
        self.network = network.eval().requires_grad_(False)
        self.network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        fold_once(self.network)
        self.spread = SideBySide(self.device)
        self.abreast = self.spread.abreast
        self.mean = torch.tensor(network.backbone.mean, device=self.device).view(1, 3, 1, 1)
        self.std = torch.tensor(network.backbone.std, device=self.device).view(1, 3, 1, 1)

    @property
    def bounds(self) -> dict[str, int]:
        """What is done with large photographs, for the provenance."""
        tiled = {"tile": self.tile, "overlap": self.overlap} if self.tile else {}
        return {"max_side": self.max_side, **tiled}

    def in_tiles(self, size: tuple[int, int]) -> bool:
        """Whether a photograph of ``size`` (H, W) is seen in tiles."""
        return self.tile > 0 and max(size) > self.max_side

    def tiles(self, size: tuple[int, int]) -> Tiles:
        """The tiles of a photograph of ``size`` (H, W)."""
        return tiles(*size, self.tile, self.overlap, self.align)

    def seen_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) that an image of ``size`` is resized to at scale 1."""
        bounded = self.max_side and not self.in_tiles(size)
        return _scaled(size, min(self.max_side / max(size), 1) if bounded else 1)

    def views(
        self,
        images: Sequence[Image],
        scales: Sequence[float],
        flip: bool,
        keep: Callable[[Any, slice], Tensor] | None = None,
        *,
        joined: bool = False,
    ) -> list[View]:
        """Outputs of the network for images of one size, at each scale, and mirrored.

        Args:
            images: N photographs, uint8 (H, W, 3), all of one size.
            scales: sizes relative to the photograph.
            flip: run the mirrored images too.
            joined: with ``flip``, the output for an image is the mean of those for it and for its
                mirror image turned back, before anything is kept of it.
            keep: reduces the network's output for some of the images, given the output in float32
                and their places in ``images``; None keeps all of it.

        Returns:
            One view per scale; with ``flip``, unless ``joined``, two, the plain one first.
        """
        given = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2).float()
        if self.resize == "bilinear":  # once for all sizes; Pillow resizes whole numbers
            given = self._normalised(given)
        sides = [given, given.flip(-1)] if flip and not joined else [given]
        joined = joined and flip
        size = self.seen_size((given.shape[2], given.shape[3]))
        sizes = [_scaled(size, scale) for scale in scales]
        # On a CPU a batch is no faster than single images, whose activations stay in the cache.
        together = 1 if self.device.type == "cpu" else len(images)
        parts_of = [slice(n, n + together) for n in range(0, len(images), together)]
        passes = [(side, part, to) for to in sizes for side in sides for part in parts_of]
        outputs = self.spread(partial(self._pass, keep, joined), passes)
        views = []
        for to in sizes:
            for mirrored in range(len(sides)):
                parts = [outputs.pop(0) for _ in parts_of]
                output, *scores = (torch.cat(same) for same in zip(*parts, strict=True))
                views.append(View(output, bool(mirrored), to, *scores))
        return views

    def tile_views(
        self,
        image: Image,
        scales: Sequence[float],
        flip: bool,
        keep: Callable[[Any, slice], Tensor] | None = None,
        *,
        joined: bool = False,
        together: int = 4,
    ) -> Iterator[list[View]]:
        """The :meth:`views` of each tile of a photograph, in the order of :attr:`Tiles.spans`.

        Args:
            image: uint8 (H, W, 3).
            scales, flip, keep, joined: as of :meth:`views`; ``keep`` gets tiles as images.
            together: tiles that go through the network together.

        Yields:
            Views of one image each, the tile.
        """
        spans = self.tiles((image.shape[0], image.shape[1])).spans
        for first in range(0, len(spans), together):
            parts = [image[span] for span in spans[first : first + together]]
            views = self.views(parts, scales, flip, keep, joined=joined)
            for n in range(len(parts)):
                one = slice(n, n + 1)
                yield [
                    view._replace(
                        output=view.output[one],
                        scores=None if view.scores is None else view.scores[one],
                    )
                    for view in views
                ]

    def _pass(
        self,
        keep: Callable[[Any, slice], Tensor] | None,
        joined: bool,
        item: tuple[Tensor, slice, tuple[int, int]],
    ) -> tuple[Tensor, ...]:
        """One pass of the network over a part of the images, resized first.

        Args:
            keep, joined: as of :meth:`views`.
            item: images, float32 (N, 3, H, W), normalised or, for bicubic, RGB from 0 to 255; which
                of them; (H', W') to resize to.

        Returns:
            The kept part of its output; without ``keep`` the output, and the scores of the images
            if the network has a branch for them.
        """
        images, part, size = item
        with torch.inference_mode():
            with self.compute.autocast():
                batch = _resized(images[part], size, self.resize)
                batch = batch if self.resize == "bilinear" else self._normalised(batch)
                batch = batch.contiguous(memory_format=torch.channels_last)
                outputs = [
                    self.network(side) for side in ((batch, batch.flip(-1)) if joined else (batch,))
                ]
            output = outputs[0]
            if isinstance(output, tuple):
                output = type(output)(*map(_mean, zip(*outputs, strict=True)))
            else:
                output = _mean(outputs)
            if keep is not None:
                return (keep(output, part),)
            return output if isinstance(output, tuple) else (output,)

    def _normalised(self, images: Tensor) -> Tensor:
        """RGB from 0 to 255 as the backbone takes it."""
        return (images / 255 - self.mean) / self.std

    def __call__(self, image: Image) -> Tensor:
        """The network's output (C, h, w), float32, for one photograph at scale 1."""
        return self.views([image], [1.0], False)[0].output[0]


def _mean(sides: Sequence[Tensor]) -> Tensor:
    """What the network says of images, float32; of two, that of their mirror images is second."""
    if len(sides) == 1:
        return sides[0].float()
    return (sides[0].float() + sides[1].float().flip(-1)) / 2


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(round(size[0] * scale), SMALLEST), max(round(size[1] * scale), SMALLEST)


def _resized(images: Tensor, size: tuple[int, int], mode: Resize) -> Tensor:
    if tuple(images.shape[2:]) == size:
        return images
    if mode == "bicubic":  # by Pillow itself, which rounds and cuts to whole numbers twice
        pixels = images.byte().permute(0, 2, 3, 1).cpu().numpy()
        to = (size[1], size[0])
        resized = [
            np.asarray(PIL.fromarray(each).resize(to, PIL.Resampling.BICUBIC)) for each in pixels
        ]
        return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).to(images)
    smaller = size[0] < images.shape[2]
    return functional.interpolate(images, size, mode=mode, align_corners=False, antialias=smaller)
