"""From photographs to activation maps: what ``make-cam`` does with a trained classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wsss_cli import files, records
from wsss_cli.classes import BACKGROUND, numbers
from wsss_cli.methods.cam import normalise, overlay
from wsss_cli.methods.sipe import explore
from wsss_cli.models.inference import Image, Runner, View
from wsss_cli.models.networks import CamNetwork, Explored, SipeNetwork

SHRINK = 4  # maps are stored at a quarter of the image's size


class Reading(Protocol):
    """How the output of a kind of network is read as maps.

    Attributes:
        first: names of the maps that come before those of the classes.
        specific: whether what is kept of a view depends on the classes asked for.
        params: what was chosen, for the provenance of the maps.
    """

    first: tuple[str, ...]
    specific: bool
    params: dict[str, Any]

    def stride(self, network: Any) -> int:
        """Pixels of the image to a cell of what is kept."""
        ...

    def keep(self, found: Any, wanted: Sequence[list[int] | None]) -> Tensor:
        """What is kept of the output for N images and the classes asked for: (N, C', h, w)."""
        ...

    def scores(self, output: Tensor) -> Tensor:
        """Logits of the classes of the whole image, shape (C,)."""
        ...

    def evidence(self, output: Tensor, wanted: list[int]) -> Tensor:
        """What one view says of the maps asked for, at least 0, shape (K, h, w)."""
        ...

    def maps(self, mean: Tensor) -> Tensor:
        """Maps in [0, 1] from the mean of the evidence of all views, shape (K, H, W)."""
        ...


class ClassMaps:
    """A classifier: positive logits, each map divided by its maximum."""

    first: tuple[str, ...] = ()
    specific = False

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}

    def stride(self, network: CamNetwork) -> int:
        return network.stride

    def keep(self, found: Tensor, wanted: Sequence[list[int] | None]) -> Tensor:
        return found

    def scores(self, output: Tensor) -> Tensor:
        return output.mean((1, 2))

    def evidence(self, output: Tensor, wanted: list[int]) -> Tensor:
        return output[wanted].relu()

    def maps(self, mean: Tensor) -> Tensor:
        return normalise(mean)


class Probabilities(ClassMaps):
    """A classifier of the kind eps: of its softmax, background and the classes asked for.

    Divided by their sum, they are the probabilities given that no other class is there.
    """

    first: tuple[str, ...] = (BACKGROUND,)

    def scores(self, output: Tensor) -> Tensor:
        return output[:-1].mean((1, 2))

    def evidence(self, output: Tensor, wanted: list[int]) -> Tensor:
        return output.softmax(0)[[-1, *wanted]]

    def maps(self, mean: Tensor) -> Tensor:
        return mean / mean.sum(0)


class General(ClassMaps):
    """The class maps of a classifier of the kind sipe, and the background that they leave."""

    first: tuple[str, ...] = (BACKGROUND,)

    def __init__(self) -> None:
        self.params = {"map": "cam"}

    def keep(self, found: Explored, wanted: Sequence[list[int] | None]) -> Tensor:  # type: ignore[override]
        return found.maps

    def maps(self, mean: Tensor) -> Tensor:
        cam = super().maps(mean)
        return torch.cat([1 - cam.amax(0, keepdim=True), cam])


class ImageSpecific(General):
    """Likeness to the prototypes of the image (Chen et al. 2022, sec. 3.2).

    What is kept of a view are the maps of background and of all classes, 0 for those that are not
    asked for. A map is the mean over the views. The authors' public code then divides each by its
    maximum, which lifts those that nothing in the image is much like against the others.

    Args:
        seed_background: weight of the background among the seeds, 0.5 in the paper. A larger one
            gives it more of them, so that less of the ground is like a class.
    """

    specific = True

    def __init__(self, seed_background: float = 0.8) -> None:
        self.params = {"map": "is-cam", "seed_background": seed_background}

    def stride(self, network: SipeNetwork) -> int:  # type: ignore[override]
        return network.fine_stride

    def keep(self, found: Explored, wanted: Sequence[list[int] | None]) -> Tensor:  # type: ignore[override]
        count, classes = found.maps.shape[:2]
        valid = found.maps.new_zeros(count, classes + 1, 1, 1)
        for one, indices in zip(valid, wanted, strict=True):
            if indices:
                one[[0, *(index + 1 for index in indices)]] = 1
        return explore(*found, valid, valid, background=self.params["seed_background"])[1]

    def evidence(self, output: Tensor, wanted: list[int]) -> Tensor:
        return output[[0, *(index + 1 for index in wanted)]]

    def maps(self, mean: Tensor) -> Tensor:
        return mean.clamp(max=1)


# How each kind of checkpoint is read, if nothing else is asked for.
READINGS: dict[str, Reading] = {
    "cam": ClassMaps(), "eps": Probabilities(), "sipe": ImageSpecific(),
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """One photograph on its way through the network.

    Attributes:
        image: uint8 (h, w, 3), the photograph or, bounded by ``max_side``, a smaller one.
        size: (H, W) of the photograph.
        wanted: indices of the classes to map, in label order; None means those that score high.
        maps: float32 (K, h, w) in [0, 1], when computed.
        names: the K class names, when computed.
    """

    image: Image
    size: tuple[int, int]
    wanted: list[int] | None
    maps: npt.NDArray[np.float32] | None = None
    names: tuple[str, ...] = ()


class CamMaker:
    """Multi-scale maps of labelled classes (Ahn & Kwak 2018, sec. 3.1).

    Args:
        runner: the classifier.
        reading: how its output is read.
        classes: its classes.
        scales: sizes that the image is seen at.
        flip: see the mirrored image too.
        all_classes: maps of every class instead of the labels.
        score_above: for images without labels, the probability from which a class counts as found.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        reading: Reading,
        classes: Sequence[str],
        scales: Sequence[float],
        flip: bool,
        all_classes: bool = False,
        score_above: float | None = None,
    ) -> None:
        self.runner, self.reading, self.classes = runner, reading, tuple(classes)
        self.scales, self.flip = tuple(scales), flip
        self.all_classes, self.score_above = all_classes, score_above

    @property
    def params(self) -> dict[str, Any]:
        """What changes the maps, for their provenance."""
        chosen = {"scales": self.scales, "flip": self.flip, **self.reading.params}
        if self.all_classes:
            chosen["all"] = True
        if self.score_above is not None:
            chosen["score_above"] = self.score_above
        return chosen

    def load(self, record: Mapping[str, Any], path: str | Path) -> Seen:
        """The photograph at ``path`` and the classes that ``record`` asks for."""
        labels = records.labels(dict(record))
        if self.all_classes:
            wanted: list[int] | None = list(range(len(self.classes)))
        elif labels is not None:
            wanted = [number - 1 for number in numbers(labels, self.classes)]
        else:
            wanted = None if self.score_above is not None else []
        return Seen(*files.read_bounded(path, self.runner.max_side), wanted)

    def compute(self, batch: Sequence[Seen]) -> list[Seen]:
        """``batch``, photographs of one size, with their maps."""
        reading = self.reading
        if all(seen.wanted == [] for seen in batch):
            return [self._fused(seen, place, []) for place, seen in enumerate(batch)]
        if reading.specific and any(seen.wanted is None for seen in batch):
            # The classes are found first: they decide what is kept.
            views = self._views(batch, General())
            batch = [
                replace(seen, wanted=self._wanted(seen, place, views))
                for place, seen in enumerate(batch)
            ]
        views = self._views(batch, reading)
        return [self._fused(seen, place, views) for place, seen in enumerate(batch)]

    def _views(self, batch: Sequence[Seen], reading: Reading) -> list[View]:
        wanted = [seen.wanted for seen in batch]
        return self.runner.views(
            [seen.image for seen in batch], self.scales, self.flip,
            lambda found, part: reading.keep(found, wanted[part]),
        )  # fmt: skip

    def _wanted(self, seen: Seen, place: int, views: Sequence[View]) -> list[int]:
        """The classes to map: those asked for, or those that score high."""
        if seen.wanted is not None:
            return seen.wanted
        assert self.score_above is not None
        means = [self.reading.scores(view.output[place]) for view in views]
        scores = torch.stack(means).mean(0).sigmoid()
        found: list[int] = (scores >= self.score_above).nonzero().flatten().tolist()
        return found

    def _fused(self, seen: Seen, place: int, views: Sequence[View]) -> Seen:
        size = map_size(seen.size)
        wanted = self._wanted(seen, place, views)
        if not wanted:
            return replace(seen, maps=np.zeros((0, *size), np.float32))
        names = (*self.reading.first, *(self.classes[index] for index in wanted))
        mean = overlay(
            [self.reading.evidence(view.output[place], wanted) for view in views],
            size,
            [view.mirrored for view in views],
            seen=[view.seen for view in views],
            stride=self.reading.stride(self.runner.network),
        )
        return replace(seen, maps=self.reading.maps(mean).cpu().numpy(), names=names)

    def save(self, seen: Seen, path: str | Path, meta: dict[str, Any]) -> None:
        """Write the maps as NPZ."""
        assert seen.maps is not None
        files.write_maps(path, seen.maps, seen.names, seen.size, meta)


def map_size(size: Sequence[int]) -> tuple[int, int]:
    """(h, w) of the stored maps of an image of ``size`` (H, W)."""
    return -(-size[0] // SHRINK), -(-size[1] // SHRINK)
