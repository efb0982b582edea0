"""``predict``: label maps of photographs from a trained segmentation network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from wsss_cli import files
from wsss_cli.classes import BACKGROUND
from wsss_cli.methods.grids import vote
from wsss_cli.methods.psl import prohibit
from wsss_cli.models.inference import Image, Runner
from wsss_cli.stage import Job
from wsss_cli.tools import label_maps
from wsss_cli.tools.photographs import PhotographTool


@dataclass(frozen=True)
class Photograph:
    """A photograph on its way through the network.

    Attributes:
        image: uint8 (h, w, 3), the photograph or, limited by ``max_side``, a smaller one.
        size: (H, W) of the photograph.
        probabilities: of background and the classes, float32 (1 + C, h', w'), when computed; the
            size is that at which the network sees the image.
    """

    image: Image
    size: tuple[int, int]
    probabilities: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class Segmenter(PhotographTool):
    """Multi-scale segmentation (Chen 2018, sec. 4.1).

    Attributes:
        runner: the segmentation network.
        scales: input scales, relative to the photograph.
        flip: average with the mirrored photograph.
        crf: arguments of :func:`wsss_cli.methods.crf.dense_crf`, or None for no CRF.
        drop_below: classes with a smaller probability of being in the photograph are left out (Wei
            et al. 2017, sec. 4.1); needs a network with a classification branch; None leaves out
            none.
        store_scores: write the probabilities too.
        image_key: record key of the photograph.
        batch_size: photographs of one size that go through the network together.
    """

    runner: Runner
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    crf: Mapping[str, Any] | None = None
    drop_below: float | None = None
    store_scores: bool = False
    image_key: str = "image"
    batch_size: int = 4

    name = "predict"

    @property
    def outputs(self) -> Mapping[str, str]:
        return {"pred": ".png", **({"scores": ".npz"} if self.store_scores else {})}

    @property
    def params(self) -> dict[str, Any]:
        return {
            "scales": self.scales,
            "flip": self.flip,
            "max_side": self.runner.max_side,
            "crf": dict(self.crf) if self.crf is not None else None,
            **({} if self.drop_below is None else {"drop_below": self.drop_below}),
            "image_key": self.image_key,
        }

    def load(self, job: Job) -> Photograph:
        path = job.record[self.image_key]
        return Photograph(*files.read_bounded(path, self.runner.max_side))

    def compute(self, items: Sequence[Photograph]) -> list[Photograph]:
        """``items``, photographs of one size, with probabilities."""
        views = self.runner.views([item.image for item in items], self.scales, self.flip)
        size = self.runner.seen_size((items[0].image.shape[0], items[0].image.shape[1]))
        probabilities = [
            vote(
                [view.output[n] for view in views],
                size,
                [view.mirrored for view in views],
                seen=[view.seen for view in views],
                stride=self.runner.network.stride,
            )
            for n in range(len(items))
        ]
        if self.drop_below is not None:
            each = [view.scores.sigmoid() for view in views if view.scores is not None]
            scores = torch.stack(each).mean(0)
            probabilities = [
                prohibit(maps, score, self.drop_below)
                for maps, score in zip(probabilities, scores, strict=True)
            ]
        return [
            replace(item, probabilities=maps.cpu().numpy())
            for item, maps in zip(items, probabilities, strict=True)
        ]

    def save(self, job: Job, result: Photograph) -> None:
        assert result.probabilities is not None
        if "scores" in job.paths:
            names = (BACKGROUND, *self.classes)
            small = label_maps.resize(result.probabilities, label_maps.map_size(result.size))
            files.write_maps(job.paths["scores"], small, names, result.size, job.meta)
        labels = self._labels(result.probabilities, result.image)
        labels = label_maps.resize_labels(labels, result.size)
        files.write_label_map(job.paths["pred"], labels, job.meta)

    def _labels(self, probabilities: npt.NDArray[np.float32], image: Image) -> Image:
        labels: Image = probabilities.argmax(0).astype(np.uint8)
        if self.crf is not None:
            # A class that wins no pixel before wins none after; leaving it out saves time.
            present = np.union1d([0], np.unique(labels)).astype(np.uint8)
            scores = label_maps.resize(probabilities[present], (image.shape[0], image.shape[1]))
            labels = present[label_maps.refine(image, scores, self.crf).argmax(0)]
        return labels
