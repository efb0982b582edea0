"""From photographs to activation maps: what ``make-cam`` does with a trained classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from wsss_cli import files, records
from wsss_cli.classes import numbers
from wsss_cli.methods.grids import overlay
from wsss_cli.models.cam import Reading
from wsss_cli.models.inference import Image, Runner, View
from wsss_cli.models.sipe import General
from wsss_cli.tools.label_maps import map_size


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
            [seen.image for seen in batch],
            self.scales,
            self.flip,
            lambda found, part: reading.keep(found, wanted[part]),
        )

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
