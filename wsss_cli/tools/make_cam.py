"""``make-cam``: activation maps of photographs, read from the output of a trained classifier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from wsss_cli import files, records
from wsss_cli.classes import numbers
from wsss_cli.errors import ConfigurationError
from wsss_cli.methods.grids import Places, average_views, places
from wsss_cli.methods.tiles import blend, lay
from wsss_cli.models.cam import Reading
from wsss_cli.models.inference import Image, Runner, View
from wsss_cli.models.sipe import General
from wsss_cli.stage import Job
from wsss_cli.tools.label_maps import map_size
from wsss_cli.tools.photographs import PhotographTool, read, together


@dataclass(frozen=True)
class Photograph:
    """A photograph on its way through the network.

    Attributes:
        image: uint8 (h, w, 3), the photograph or, limited by ``max_side``, a smaller one; None if
            it is seen in tiles, and not read yet.
        size: (H, W) of the photograph.
        wanted: indices of the classes to map, in label order; None means those that score high.
        path: its file.
        maps: float32 (K, h, w) in [0, 1], when computed.
        names: the K class names, when computed.
    """

    image: Image | None
    size: tuple[int, int]
    wanted: list[int] | None
    path: str = ""
    maps: npt.NDArray[np.float32] | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CamMaker(PhotographTool):
    """Multi-scale maps of the labelled classes (Ahn & Kwak 2018, sec. 3.1).

    Attributes:
        runner: the classifier.
        reading: how its output is read as maps.
        scales: input scales, relative to the photograph.
        flip: average with the mirrored photograph.
        all_classes: maps of every class instead of the labels.
        score_above: for images without labels, the smallest probability of a class to be mapped; in
            tiles, in any of them.
        image_key: record key of the photograph.
        batch_size: photographs of one size that go through the network together.
        join_mirrored: with ``flip``, join what the network says of both before it is read as maps.
        cells: where the cells of its maps lie: "centred" on the pixels that they look at, or equal
            "parts" of the photograph, as in public code (up to half a cell further down and right).
            As there, the maps are then computed at the size of the photograph, so that maxima are
            those over its pixels, and stored at a quarter of it.
    """

    runner: Runner
    reading: Reading
    scales: Sequence[float]
    flip: bool
    all_classes: bool = False
    score_above: float | None = None
    image_key: str = "image"
    batch_size: int = 4
    join_mirrored: bool = False
    cells: Literal["centred", "parts"] = "centred"

    name = "make-cam"
    outputs: ClassVar = {"cam": ".npz"}

    def __post_init__(self) -> None:
        if self.runner.tile and self.reading.specific:
            raise ConfigurationError(
                "--tile is not for --map is-cam, whose prototypes are those of a whole photograph; "
                "give --map cam"
            )
        if self.runner.tile and self.cells != "centred":
            raise ConfigurationError(f"--tile is not for --cells {self.cells}")

    @property
    def inputs(self) -> Sequence[str]:
        return (self.image_key,) if self.all_classes else (self.image_key, "labels")

    @property
    def params(self) -> dict[str, Any]:
        chosen = {
            "scales": self.scales,
            "flip": self.flip,
            **self.reading.params,
            "image_key": self.image_key,
            **self.runner.bounds,
        }
        if self.join_mirrored:
            chosen["join_mirrored"] = True
        if self.cells != "centred":
            chosen["cells"] = self.cells
        if self.runner.resize != "bilinear":
            chosen["resize_filter"] = self.runner.resize
        if self.all_classes:
            chosen["all"] = True
        if self.score_above is not None:
            chosen["score_above"] = self.score_above
        return chosen

    def load(self, job: Job) -> Photograph:
        labels = records.labels(job.record)
        if self.all_classes:
            wanted: list[int] | None = list(range(len(self.classes)))
        elif labels is not None:
            wanted = [number - 1 for number in numbers(labels, self.classes)]
        else:
            wanted = None if self.score_above is not None else []
        path = job.record[self.image_key]
        return Photograph(*read(path, self.runner), wanted, path)

    def compute(self, items: Sequence[Photograph]) -> list[Photograph]:
        """``items``, photographs of one size, with their maps."""
        reading = self.reading
        if items[0].image is None:
            return [self._in_tiles(item) for item in items]
        if all(item.wanted == [] for item in items):
            return [self._with_maps(item, place, []) for place, item in enumerate(items)]
        if reading.specific and any(item.wanted is None for item in items):
            # The classes are found first: they decide what is kept of a view.
            views = self._views(items, General())
            items = [
                replace(item, wanted=self._wanted(item, place, views))
                for place, item in enumerate(items)
            ]
        views = self._views(items, reading)
        return [self._with_maps(item, place, views) for place, item in enumerate(items)]

    def save(self, job: Job, result: Photograph) -> None:
        assert result.maps is not None
        files.write_maps(job.paths["cam"], result.maps, result.names, result.size, job.meta)

    def _views(self, items: Sequence[Photograph], reading: Reading) -> list[View]:
        wanted = [item.wanted for item in items]
        return self.runner.views(
            [item.image for item in items if item.image is not None],
            self.scales,
            self.flip,
            lambda output, part: reading.keep(output, wanted[part]),
            joined=self.join_mirrored,
        )

    def _wanted(self, item: Photograph, place: int, views: Sequence[View]) -> list[int]:
        """The classes to map: those asked for, or those that score high."""
        if item.wanted is not None:
            return item.wanted
        return self.high(self._scores(place, views))

    def high(self, scores: Tensor) -> list[int]:
        """Indices of the classes to map, by their probabilities (C,)."""
        assert self.score_above is not None
        found: list[int] = (scores >= self.score_above).nonzero().flatten().tolist()
        return found

    def _scores(self, place: int, views: Sequence[View]) -> Tensor:
        means = [self.reading.scores(view.output[place]) for view in views]
        return torch.stack(means).mean(0).sigmoid()

    def scores(self, items: Sequence[Photograph]) -> list[Tensor]:
        """Probabilities of the classes, float32 (C,), of each of ``items``, photographs of one
        size; of one in tiles the largest of any tile."""
        reading = General() if self.reading.specific else self.reading
        if items[0].image is not None:
            views = self._views(items, reading)
            return [self._scores(place, views) for place in range(len(items))]
        return [
            torch.stack([self._scores(0, views) for views in self._tile_views(item)]).amax(0)
            for item in items
        ]

    def _with_maps(self, item: Photograph, place: int, views: Sequence[View]) -> Photograph:
        size = map_size(item.size)
        wanted = self._wanted(item, place, views)
        if not wanted:
            return replace(item, maps=np.zeros((0, *size), np.float32))
        centred = self.cells == "centred"
        mean = self._mean(views, place, wanted, size if centred else item.size)
        maps = self.reading.maps(mean)
        if not centred:
            maps = functional.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
        return replace(item, maps=maps.cpu().numpy(), names=self._names(wanted))

    def _mean(
        self,
        views: Sequence[View],
        place: int,
        wanted: list[int],
        size: tuple[int, int] | Places,
    ) -> Tensor:
        centred = self.cells == "centred"
        return average_views(
            [self.reading.evidence(view.output[place], wanted) for view in views],
            size,
            [view.mirrored for view in views],
            seen=[view.seen for view in views] if centred else None,
            stride=self.reading.stride(self.runner.network) if centred else 1,
        )

    def _names(self, wanted: Sequence[int]) -> tuple[str, ...]:
        return (*self.reading.first, *(self.classes[index] for index in wanted))

    def _tile_views(self, item: Photograph, image: Image | None = None) -> Iterator[list[View]]:
        """The views of each tile of a photograph, which is read unless it is given."""
        each = [item.wanted] * self.batch_size
        return self.runner.tile_views(
            files.read_image(item.path) if image is None else image,
            self.scales,
            self.flip,
            lambda output, part: self.reading.keep(output, each[part]),
            joined=self.join_mirrored,
            together=self.batch_size,
        )

    def _in_tiles(self, item: Photograph) -> Photograph:
        """``item``, a photograph that is seen in tiles, with its maps.

        The evidence of the tiles is blended before it is read as maps: what divides a map by its
        maximum takes that of the whole photograph. In each tile by itself every class that is
        somewhere would be everywhere.
        """
        image = files.read_image(item.path)
        wanted = item.wanted
        if wanted == []:
            return self._with_maps(item, 0, [])
        outputs: Iterable[list[View]] = self._tile_views(item, image)
        if wanted is None:
            outputs = list(outputs)
            found = {index for views in outputs for index in self._wanted(item, 0, views)}
            if not (wanted := sorted(found)):
                return self._with_maps(replace(item, wanted=[]), 0, [])
        rows, columns = (
            places(cells, cells, side)
            for cells, side in zip(map_size(item.size), item.size, strict=True)
        )
        layout = lay(self.runner.tiles(item.size), Places(rows, columns, item.size))
        parts = (
            self._mean(views, 0, wanted, where).cpu()
            for views, where in zip(outputs, layout.places, strict=True)
        )
        mean = torch.cat([band for _, band in blend(parts, layout)], 1)
        return replace(item, maps=self.reading.maps(mean).numpy(), names=self._names(wanted))


@dataclass(frozen=True)
class CamEnsemble(PhotographTool):
    """The mean of the maps of several classifiers.

    It is the mean of the maps in [0, 1] that each would write alone: activations of one network
    have another scale than those of the next, so that before the division by the maximum the
    network of the largest would decide. The networks are in memory together, the views of one.

    Args:
        makers: one of each checkpoint, at least two, alike but for ``runner`` and ``reading``.

    Raises:
        ConfigurationError: the checkpoints cannot be averaged (:func:`together`), or some
            maps begin with the background and others do not.
    """

    makers: Sequence[CamMaker]

    name = CamMaker.name
    outputs: ClassVar = CamMaker.outputs

    def __post_init__(self) -> None:
        together([maker.runner for maker in self.makers])
        without = [maker.runner.path for maker in self.makers if not maker.reading.first]
        if 0 < len(without) < len(self.makers):
            having = next(maker.runner.path for maker in self.makers if maker.reading.first)
            raise ConfigurationError(
                f"maps of {having} have a background, those of {without[0]} have none, so that "
                "they have no mean; --map relative (of eps-train) reads them without"
            )

    @property
    def runner(self) -> Runner:  # type: ignore[override]
        """That of the first checkpoint, as whose photographs are read: it is so of all."""
        return self.makers[0].runner

    @property
    def image_key(self) -> str:  # type: ignore[override]
        return self.makers[0].image_key

    @property
    def batch_size(self) -> int:
        return self.makers[0].batch_size

    @property
    def inputs(self) -> Sequence[str]:
        return self.makers[0].inputs

    @property
    def checkpoint(self) -> list[str]:
        return [maker.runner.digest for maker in self.makers]

    @property
    def params(self) -> dict[str, Any]:
        """Those of the first, and how each is read."""
        return {
            **self.makers[0].params,
            "readings": [maker.reading.params for maker in self.makers],
        }

    def load(self, job: Job) -> Photograph:
        return self.makers[0].load(job)

    def compute(self, items: Sequence[Photograph]) -> list[Photograph]:
        """``items``, photographs of one size, with their maps."""
        if any(item.wanted is None for item in items):
            # The networks have to agree on what is there before they can be asked where.
            each = [maker.scores(items) for maker in self.makers]
            items = [
                replace(item, wanted=self.makers[0].high(torch.stack(scores).mean(0)))
                if item.wanted is None
                else item
                for item, scores in zip(items, zip(*each, strict=True), strict=True)
            ]
        found = self.makers[0].compute(items)
        totals = [_maps(each) for each in found]
        for maker in self.makers[1:]:
            for total, other in zip(totals, maker.compute(items), strict=True):
                total += _maps(other)
        shares = (total / np.float32(len(self.makers)) for total in totals)
        return [replace(each, maps=maps) for each, maps in zip(found, shares, strict=True)]

    def save(self, job: Job, result: Photograph) -> None:
        self.makers[0].save(job, result)


def _maps(result: Photograph) -> npt.NDArray[np.float32]:
    assert result.maps is not None
    return result.maps
