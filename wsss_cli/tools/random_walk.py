"""``random-walk``: pseudo-masks from CAMs and the affinities of an AffinityNet."""

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
from wsss_cli.errors import WsssError
from wsss_cli.files import Maps
from wsss_cli.methods import grids
from wsss_cli.methods.affinity import mean_affinity, pairwise_affinity
from wsss_cli.methods.cam import normalise
from wsss_cli.methods.random_walk import random_walk
from wsss_cli.models.inference import Image, Runner
from wsss_cli.stage import BatchTool, Job
from wsss_cli.tools import label_maps

_TIES = ".affinity.png"


@dataclass(frozen=True)
class Walk:
    """A photograph and its maps, before and after the walk.

    Attributes:
        image: uint8 (H, W, 3), the photograph or, limited by ``max_side``, a smaller one.
        maps: its activation maps, background taken out.
        background: the method's own background map, or None.
        numbers: class numbers of the maps.
        scores: float32 (1 + K, H, W), background first, when walked.
        affinity: float32 (H, W) in [0, 1], how strongly each pixel is tied to its neighbours, when
            walked and asked for.
    """

    image: Image
    maps: Maps
    background: npt.NDArray[np.float16] | None
    numbers: list[int]
    scores: npt.NDArray[np.float32] | None = None
    affinity: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class Walker(BatchTool):
    """Random walk of CAMs along learned affinities (Ahn & Kwak 2018, sec. 3.4).

    Attributes:
        runner: the AffinityNet.
        beta: exponent of the affinities.
        steps: steps of the walk.
        radius: radius of the affinities on the feature grid, as in training.
        alpha: exponent of the background score, which walks along with the classes.
        threshold: constant background compared with the walked maps instead, or None.
        exact: do all steps one by one.
        crf: arguments of :func:`wsss_cli.methods.crf.dense_crf`, or None for no CRF.
        store_scores: write the walked maps too.
        store_affinity: write the mean affinity of each pixel too.
        class_list: class list given by the user, or None for that of the maps.
    """

    runner: Runner
    beta: float = 8
    steps: int = 256
    radius: int = 5
    alpha: float = 16
    threshold: float | None = None
    exact: bool = False
    crf: Mapping[str, Any] | None = None
    store_scores: bool = False
    store_affinity: bool = False
    class_list: Sequence[str] | None = None

    name = "random-walk"
    needs = ("image", "cam")

    @property
    def outputs(self) -> Mapping[str, str]:
        return {
            "pseudo": ".png",
            **({"scores": ".npz"} if self.store_scores else {}),
            **({"affinity": _TIES} if self.store_affinity else {}),
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
        background: dict[str, Any] = (
            {"alpha": self.alpha} if self.threshold is None else {"threshold": self.threshold}
        )
        return {
            "beta": self.beta,
            "steps": self.steps,
            "radius": self.radius,
            **background,
            "exact": self.exact,
            "max_side": self.runner.max_side,
            "crf": dict(self.crf) if self.crf is not None else None,
            "classes": self.class_list,
        }

    def load(self, job: Job) -> Walk:
        if self.store_affinity and (name := job.record["id"]).lower().endswith(_TIES[:-4]):
            raise WsssError(f"its pseudo-mask would be the affinity of {name[: 4 - len(_TIES)]}")
        image, maps = label_maps.read_matching(
            job.record, "cam", self.runner.max_side, classes=self.class_list
        )
        numbers = label_maps.class_numbers(maps, self.class_list)
        maps, background = label_maps.split_background(maps)
        return Walk(image, maps, background, numbers)

    def compute(self, items: Sequence[Walk]) -> list[Walk]:
        """``items`` with scores at the size at which the network sees the photographs."""
        return self.runner.spread(self._walk, items)

    def save(self, job: Job, result: Walk) -> None:
        assert result.scores is not None
        if "scores" in job.paths:
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
        labels = label_maps.label_map(result.scores, result.numbers)
        labels = label_maps.resize_labels(labels, result.maps.size)
        files.write_label_map(job.paths["pseudo"], labels, job.meta)

    def _walk(self, item: Walk) -> Walk:
        size = (item.image.shape[0], item.image.shape[1])
        if not item.numbers and not self.store_affinity:
            return replace(item, scores=np.ones((1, *size), np.float32))
        features = self.runner(item.image)
        affinity = pairwise_affinity(features[None], self.radius)[0]
        if self.store_affinity:
            ties = self.on_image(mean_affinity(affinity[None], self.radius), size)[0]
            item = replace(item, affinity=ties.clamp(0, 1).cpu().numpy())
        if not item.numbers:
            return replace(item, scores=np.ones((1, *size), np.float32))
        grid = (features.shape[1], features.shape[2])
        cam = torch.from_numpy(item.maps.cam.astype(np.float32)).to(features.device)
        if self.threshold is None:
            own = None if item.background is None else np.asarray(item.background)
            joined = label_maps.with_background(
                cam.cpu().numpy(), own, alpha=self.alpha, threshold=None
            )
            cam = torch.from_numpy(joined).to(features.device)
        walked = random_walk(
            self.on_grid(cam, grid, size),
            affinity,
            self.beta,
            self.steps,
            self.radius,
            exact=self.exact,
        )
        walked = self.on_image(walked.clamp(min=0), size)
        if self.threshold is not None:
            walked = normalise(walked)
            flat = torch.full_like(walked[:1], self.threshold)
            walked = torch.cat([flat, walked])
        scores = label_maps.refine(item.image, walked.cpu().numpy(), self.crf)
        return replace(item, scores=scores)

    # Cell i of the grid looks at pixel 8 i of the image seen, not at the middle of an eighth of it;
    # resizing the maps as pictures would leave the walk four pixels off its features.

    def on_grid(self, maps: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Maps of the whole image, (C, h, w), at the cells of the feature grid."""
        rows, columns = (
            grids.places(cells, whole, extent, stride=self.runner.network.stride)
            for cells, extent, whole in zip(
                grid, maps.shape[1:], self.runner.seen_size(size), strict=True
            )
        )
        return grids.sample(maps[None], rows, columns)[0]

    def on_image(self, walked: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps on the feature grid, (C, h, w), at the pixels of the image."""
        seen, stride = self.runner.seen_size(size), self.runner.network.stride
        return grids.on_image(walked[None], size, seen, stride)[0]
