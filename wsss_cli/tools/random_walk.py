"""``random-walk``: pseudo-masks from CAMs and the affinities of an AffinityNet or IRNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wsss_cli import files
from wsss_cli.classes import BACKGROUND
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.files import Maps
from wsss_cli.methods import grids
from wsss_cli.methods.cam import normalise
from wsss_cli.methods.grids import Places
from wsss_cli.methods.instances import instances, split
from wsss_cli.methods.random_walk import random_walk
from wsss_cli.methods.tiles import blend, lay
from wsss_cli.models.affinity import FeatureLinks
from wsss_cli.models.inference import Image, Runner
from wsss_cli.models.links import Links, Ties
from wsss_cli.stage import BatchTool, Job
from wsss_cli.tools import label_maps
from wsss_cli.tools.photographs import read

_TIES, _INSTANCES = ".affinity.png", ".instances.png"
_BAND = 64  # rows of pixels at which maps are compared at a time


@dataclass(frozen=True)
class Walk:
    """A photograph and its maps, before and after the walk.

    Attributes:
        image: uint8 (H, W, 3), the photograph or, limited by ``max_side``, a smaller one; None if
            it is seen in tiles, and not read yet.
        maps: its activation maps, background taken out.
        background: the method's own background map, or None.
        numbers: class numbers of the maps.
        path: file of the photograph.
        scores: float32 (1 + K, H, W), background first, when walked. Of one seen in tiles as wide
            as stored maps, and no scores unless they are to be stored.
        affinity: float32 (H, W) in [0, 1], how strongly each pixel is tied to its neighbours, or by
            an IRNet how surely it is no class boundary, when walked and asked for.
        labels: of one seen in tiles, uint8 (H, W), when walked.
        cut: maps of classes and instances on the feature grid, (M, h, w), when walked and asked
            for.
        rows: the place of the class of each of these.
    """

    image: Image | None
    maps: Maps
    background: npt.NDArray[np.float16] | None
    numbers: list[int]
    path: str = ""
    scores: npt.NDArray[np.float32] | None = None
    affinity: npt.NDArray[np.float32] | None = None
    labels: npt.NDArray[np.uint8] | None = None
    cut: Tensor | None = None
    rows: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class Walker(BatchTool):
    """Random walk of CAMs along learned affinities (Ahn & Kwak 2018, sec. 3.4).

    Attributes:
        runner: the network.
        kind: how its output links the cells.
        beta: exponent of the affinities.
        steps: steps of the walk.
        power: exponent of the maps, background included, on the grid before the walk.
        radius: radius of the affinities on the feature grid, as in training.
        alpha: exponent of the background score, which walks along with the classes; None for the
            threshold of the links, where the maps have no background of their own.
        threshold: constant background compared with the walked maps instead, or None.
        floor: a class is only where its walked map has at least this share of its maximum.
        exact: do all steps one by one.
        crf: arguments of :func:`wsss_cli.methods.crf.dense_crf`, or None for no CRF.
        store_scores: write the walked maps too.
        store_affinity: write the mean affinity of each pixel too.
        instances: cut the maps apart by objects before they walk (Ahn, Cho & Kwak 2019, sec. 5),
            and write an instance map too.
        class_list: class list given by the user, or None for that of the maps.

    Raises:
        ConfigurationError: a network that knows no instances, or too small an overlap of tiles.
    """

    runner: Runner
    kind: type[Links] = FeatureLinks
    beta: float = 8
    steps: int = 256
    power: float = 1
    radius: int = 5
    alpha: float | None = 16
    threshold: float | None = None
    floor: float = 0
    exact: bool = False
    crf: Mapping[str, Any] | None = None
    store_scores: bool = False
    store_affinity: bool = False
    instances: bool = False
    class_list: Sequence[str] | None = None

    name = "random-walk"
    needs = ("image", "cam")

    def __post_init__(self) -> None:
        if self.instances and not self.kind.tells_instances:
            raise ConfigurationError(
                f"--instances: {self.runner.path} has no displacement field, by which objects are "
                "told apart; give a checkpoint of irn-train"
            )
        self.links.prepare(self.runner.network)
        reach = self.links.reach * self.runner.network.stride
        if self.runner.tile and self.runner.overlap < reach:
            raise ConfigurationError(
                f"--overlap {self.runner.overlap}: the affinities reach {reach} pixels, which "
                "neighbouring tiles must share at least"
            )

    @property
    def links(self) -> Links:
        return self.kind(self.radius, instances=self.instances)

    @property
    def outputs(self) -> Mapping[str, str]:
        return {
            "pseudo": ".png",
            **({"scores": ".npz"} if self.store_scores else {}),
            **({"affinity": _TIES} if self.store_affinity else {}),
            **({"instances": _INSTANCES} if self.instances else {}),
        }

    @property
    def checkpoint(self) -> str:
        return self.runner.digest

    @property
    def classes(self) -> Sequence[str]:
        return self.class_list or self.runner.classes

    @property
    def batch_size(self) -> int:
        return self.runner.abreast

    @property
    def params(self) -> dict[str, Any]:
        background: dict[str, Any] = {"threshold": self.threshold}
        if self.threshold is None:
            background = {"alpha": self.alpha}
            if self.alpha is None:
                background["else_threshold"] = self.links.threshold
        return {
            "beta": self.beta,
            "steps": self.steps,
            "radius": self.radius,
            **background,
            "exact": self.exact,
            **self.runner.bounds,
            "crf": dict(self.crf) if self.crf is not None else None,
            "classes": self.class_list,
            # Not named where they change nothing, as in files of earlier versions.
            **({"power": self.power} if self.power != 1 else {}),
            **({"floor": self.floor} if self.floor else {}),
            **({"instances": True} if self.instances else {}),
        }

    def load(self, job: Job) -> Walk:
        name = job.record["id"]
        for key, suffix in self.outputs.items():
            if suffix in (_TIES, _INSTANCES) and name.lower().endswith(suffix[:-4]):
                what = f"{key} of {name[: 4 - len(suffix)]}"
                raise WsssError(f"its pseudo-mask would be the {what}")
        path = job.record["image"]
        image, size = read(path, self.runner)
        maps = label_maps.read_maps(job.record, "cam", size, self.class_list)
        numbers = label_maps.class_numbers(maps, self.class_list)
        maps, background = label_maps.split_background(maps)
        return Walk(image, maps, background, numbers, path)

    def group(self, item: Walk) -> int:
        return id(item) if item.image is None else 0

    def compute(self, items: Sequence[Walk]) -> list[Walk]:
        """``items`` with scores at the size at which the network sees the photographs."""
        if items[0].image is None:
            return [self._walk_in_tiles(item) for item in items]
        return self.runner.spread(self._walk, items)

    def save(self, job: Job, result: Walk) -> Mapping[str, Any]:
        if "scores" in job.paths:
            assert result.scores is not None
            quarter = result.maps.cam.shape[1:]
            small = label_maps.resize(result.scores, (quarter[0], quarter[1]))
            top = max(float(small.max(initial=0)), 1e-9)
            names = (BACKGROUND, *result.maps.classes)
            path = job.paths["scores"]
            files.write_maps(path, small / max(top, 1), names, result.maps.size, job.meta)
        if "affinity" in job.paths:
            assert result.affinity is not None
            grey = (255 * label_maps.resize(result.affinity[None], result.maps.size)[0]).round()
            files.write_image(job.paths["affinity"], grey.astype(np.uint8), job.meta)
        labels = result.labels
        if labels is None:
            assert result.scores is not None
            labels = label_maps.label_map(result.scores, result.numbers)
            labels = label_maps.resize_labels(labels, result.maps.size)
        files.write_label_map(job.paths["pseudo"], labels, job.meta)
        if "instances" not in job.paths:
            return {}
        ids, found = instances(labels, *self._owners(result, labels))
        named = dict(zip(result.numbers, result.maps.classes, strict=True))
        objects = [
            {"id": place, "class": named[each.number], "score": round(min(each.score, 1), 4)}
            for place, each in enumerate(found, start=1)
        ]
        files.write_instance_map(job.paths["instances"], ids, objects, job.meta)
        return {"objects": objects}

    def reused(self, job: Job) -> Mapping[str, Any]:
        path = job.paths.get("instances")
        return {"objects": files.read_objects(path)} if path else {}

    def _walk(self, item: Walk) -> Walk:
        image = item.image
        assert image is not None
        size = (image.shape[0], image.shape[1])
        if not item.numbers and not self.store_affinity:
            return replace(item, scores=np.ones((1, *size), np.float32))
        views = self.runner.views([image], [1.0], self.links.flip, self.links.keep)
        ties = self.links.ties(self.links.planes(views, self.runner.network.stride))
        if self.store_affinity:
            shown = self.on_image(ties.shown(self.radius)[None], size)[0]
            item = replace(item, affinity=shown.clamp(0, 1).cpu().numpy())
        if not item.numbers:
            return replace(item, scores=np.ones((1, *size), np.float32))
        walked, rows = self._walked(item, ties, size)
        if rows is not None:
            item = self._keep_cut(item, walked, rows)
        found = self._scores(item, self._joined(walked, rows, len(item.numbers), size))
        found = self._floored(found)
        scores = label_maps.refine(image, found.cpu().numpy(), self.crf)
        return replace(item, scores=scores)

    def _constant(self, item: Walk) -> float | None:
        """The background that the walked maps are compared with, or None if one walks along."""
        if self.threshold is None and self.alpha is None and item.background is None:
            return self.links.threshold
        return self.threshold

    def _walked(
        self, item: Walk, ties: Ties, size: tuple[int, int]
    ) -> tuple[Tensor, list[int] | None]:
        """The maps on the feature grid after the walk, (1 + K, h, w); without the background if
        that is a threshold. With instances, of each class and cluster one, and the place of the
        class of each, counted without the background."""
        affinity = ties.affinity
        grid = (affinity.shape[1], affinity.shape[2])
        cam = torch.from_numpy(item.maps.cam.astype(np.float32)).to(affinity.device)
        if self._constant(item) is None:
            own = None if item.background is None else np.asarray(item.background)
            joined = label_maps.with_background(
                cam.cpu().numpy(), own, alpha=self.alpha or 1, threshold=None
            )
            cam = torch.from_numpy(joined).to(affinity.device)
        start, rows = self.on_grid(cam, grid, size) ** self.power, None
        if ties.clusters is not None:
            before = len(start) - len(item.numbers)  # the background is no object
            cut, rows = split(start[before:], ties.clusters)
            start = torch.cat([start[:before], cut])
        if not len(start):
            return start, rows
        walked = random_walk(
            start if ties.passing is None else start * ties.passing,
            affinity,
            self.beta,
            self.steps,
            self.radius,
            exact=self.exact,
        )
        return walked.clamp(min=0), rows

    def _keep_cut(self, item: Walk, walked: Tensor, rows: list[int]) -> Walk:
        """``item`` with the walked maps of classes and instances, as they are compared."""
        cut = walked[len(walked) - len(rows) :]
        if self._constant(item) is not None and len(cut):
            cut = normalise(cut.flatten(0, 1)).view_as(cut)
        return replace(item, cut=cut.cpu(), rows=rows)

    def _joined(
        self, walked: Tensor, rows: list[int] | None, classes: int, at: Places | tuple[int, int]
    ) -> Tensor:
        """Walked maps at the pixels of the image, for each class that of its best instance."""
        if rows is None:
            return self.on_image(walked, at)
        own = len(walked) - len(rows)
        where = at if isinstance(at, Places) else Places.pixels(at)
        joined = walked.new_zeros(own + classes, len(where.rows), len(where.columns))
        for place, values in zip([*range(own), *(own + row for row in rows)], walked, strict=True):
            torch.maximum(joined[place], self.on_image(values[None], at)[0], out=joined[place])
        return joined

    def _owners(
        self, item: Walk, labels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Which map of a class and an instance wins each pixel among those of the pixel's class,
        and its score; -1 and 0 where there is none."""
        owners, best = np.full(labels.shape, -1), np.zeros(labels.shape, np.float32)
        if item.cut is None:
            return owners, best
        size = item.maps.size
        for top in range(0, size[0], _BAND):
            rows = torch.arange(top, min(top + _BAND, size[0]))
            at = Places(rows, torch.arange(size[1]), size)
            part = slice(top, top + _BAND)
            for place, (row, values) in enumerate(zip(item.rows, item.cut, strict=True)):
                found = self.on_image(values[None], at)[0].numpy()
                wins = (labels[part] == item.numbers[row]) & (found > best[part])
                owners[part][wins], best[part][wins] = place, found[wins]
        return owners, best

    def _scores(self, item: Walk, walked: Tensor) -> Tensor:
        """The walked maps with a background, (1 + K, …)."""
        constant = self._constant(item)
        if constant is None:
            return walked
        if self.links.share_maximum:
            walked = normalise(walked.flatten(0, 1)).view_as(walked)
        else:
            walked = normalise(walked)
        background = walked.new_full((1, *walked.shape[1:]), constant)
        return torch.cat([background, walked])

    def _floored(self, scores: Tensor, maxima: Tensor | None = None) -> Tensor:
        """Scores (1 + K, h, w) that are 0 where a class has less than its share of its maximum; of
        a part of the image, given the maxima (K,) of the whole."""
        if not self.floor:
            return scores
        least = self.floor * (_maxima(scores) if maxima is None else maxima)[:, None, None]
        return torch.cat([scores[:1], scores[1:].where(scores[1:] >= least, 0)])

    def _walk_in_tiles(self, item: Walk) -> Walk:
        """``item``, a photograph that the network sees in tiles, with its labels.

        Only the network's view is divided. The affinities of the tiles are blended, and the walk,
        which reaches further than tiles overlap, is one over the whole grid.
        """
        image, size = files.read_image(item.path), item.maps.size
        if not item.numbers and not self.store_affinity:
            quarter = item.maps.cam.shape[1:]
            scores, labels = np.ones((1, *quarter), np.float32), np.zeros(size, np.uint8)
            return replace(item, scores=scores, labels=labels)
        ties = self.links.ties(self._blended(image))
        shown = ties.shown(self.radius)[None]
        walked, of, maxima = torch.ones_like(shown), None, shown.new_zeros(0)
        if item.numbers:
            # Each cell looks at a pixel: the maximum over the cells is that over the pixels.
            walked, of = self._walked(item, ties, size)
            if of is not None:
                item = self._keep_cut(item, walked, of)
                of = [*of, len(item.numbers)]  # the affinities come last
            walked = self._scores(item, walked)
            maxima = _maxima(walked, of and of[:-1]).cpu()
        laid = torch.cat([walked, shown])
        tiles, quarter = self.runner.tiles(size), label_maps.map_size(size)
        parts = (self._part(laid, of, maxima, span, image, size) for span in tiles.spans)
        labels = np.empty(size, np.uint8)
        narrow, tied = [], np.empty(size, np.float32)
        for rows, band in blend(parts, lay(tiles, Places.pixels(size))):
            scores = band[:-1].numpy()
            labels[rows] = label_maps.label_map(scores, item.numbers)
            if self.store_scores:  # Pillow too goes on with rows of the new width
                narrow.append(label_maps.resize(scores, (scores.shape[1], quarter[1])))
            if self.store_affinity:
                tied[rows] = band[-1].clamp(0, 1).numpy()
        return replace(
            item,
            labels=labels,
            scores=np.concatenate(narrow, 1) if narrow else None,
            affinity=tied if self.store_affinity else None,
        )

    def _part(
        self,
        laid: Tensor,
        of: list[int] | None,
        maxima: Tensor,
        span: tuple[slice, slice],
        image: Image,
        size: tuple[int, int],
    ) -> Tensor:
        """Scores and mean affinity at the pixels of a tile, of maps on the grid of the whole."""
        rows, columns = (torch.arange(pixels.start, pixels.stop) for pixels in span)
        found = self._joined(laid, of, max(of or [0]) + 1, Places(rows, columns, size)).cpu()
        found[:-1] = self._floored(found[:-1], maxima)
        if self.crf is not None:
            refined = label_maps.refine(image[span], found[:-1].numpy(), self.crf)
            found[:-1] = torch.from_numpy(refined)
        return found

    def _blended(self, image: Image) -> Tensor:
        """The planes of a photograph, (Q, h, w), from those of its tiles."""
        size, stride = (image.shape[0], image.shape[1]), self.runner.network.stride
        rows, columns = (
            grids.places(-(-seen // stride), seen, side, stride=stride)
            for seen, side in zip(self.runner.seen_size(size), size, strict=True)
        )
        layout = lay(self.runner.tiles(size), Places(rows, columns, size))
        parts = self.runner.tile_views(
            image,
            [1.0],
            self.links.flip,
            self.links.keep,
            together=self.batch_size,
        )
        planes = (self.links.planes(views, stride).cpu() for views in parts)
        bands = blend(planes, layout, self.links.weights)
        return torch.cat([band for _, band in bands], 1).to(self.runner.device)

    # Cell i of the grid looks at pixel i · stride of the image seen, not at the middle of a part of
    # that side; resizing the maps as pictures would leave the walk half a cell off its features.

    def on_grid(self, maps: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Maps of the whole image, (C, h, w), at the cells of the feature grid."""
        rows, columns = (
            grids.places(cells, whole, extent, stride=self.runner.network.stride)
            for cells, extent, whole in zip(
                grid, maps.shape[1:], self.runner.seen_size(size), strict=True
            )
        )
        return grids.sample(maps[None], rows, columns)[0]

    def on_image(self, walked: Tensor, at: Places | tuple[int, int]) -> Tensor:
        """Maps on the feature grid, (C, h, w), at the pixels of the image, or at places of it."""
        size = at.of if isinstance(at, Places) else at
        seen, stride = self.runner.seen_size(size), self.runner.network.stride
        return grids.on_image(walked[None], at, seen, stride)[0]


def _maxima(scores: Tensor, rows: Sequence[int] | None = None) -> Tensor:
    """The maximum of each class, (K,), in scores (1 + K, h, w); with rows, the classes of the maps
    after the background, that of all maps of a class."""
    found = scores[1:].amax((1, 2))
    if rows is None:
        return found
    of = torch.tensor(rows, dtype=torch.int64, device=found.device)
    return found.new_zeros(max(rows, default=-1) + 1).scatter_reduce(0, of, found, "amax")
