"""From photographs to label maps: what ``predict`` does with a trained segmentation network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from wsss_cli import files
from wsss_cli.classes import BACKGROUND
from wsss_cli.methods.grids import vote
from wsss_cli.methods.psl import prohibit
from wsss_cli.models.inference import Image, Runner
from wsss_cli.tools import label_maps
from wsss_cli.tools.label_maps import map_size


@dataclass(frozen=True)
class Segmented:
    """One photograph on its way through the network.

    Attributes:
        image: uint8 (h, w, 3), the photograph or, bounded by ``max_side``, a smaller one.
        size: (H, W) of the photograph.
        probabilities: of background and the classes, float32 (1 + C, h', w'), when computed; the
            size is that at which the image is seen.
    """

    image: Image
    size: tuple[int, int]
    probabilities: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, kw_only=True)
class Segmenter:
    """Multi-scale segmentation (Chen 2018, sec. 4.1).

    Attributes:
        runner: the segmentation network.
        classes: its classes, without background.
        scales: sizes that the photograph is seen at.
        flip: see the mirrored photograph too.
        crf: settings of the dense CRF that refines the probabilities, or None.
        drop_below: classes with a smaller probability of being in the photograph are left out (Wei
            et al. 2017, sec. 4.1); needs a network with a classification branch; None leaves out
            none.
    """

    runner: Runner
    classes: tuple[str, ...]
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    crf: Mapping[str, Any] | None = None
    drop_below: float | None = None

    @property
    def params(self) -> dict[str, Any]:
        """What changes the result, for its provenance."""
        return {
            "scales": self.scales,
            "flip": self.flip,
            "max_side": self.runner.max_side,
            "crf": dict(self.crf) if self.crf is not None else None,
            **({} if self.drop_below is None else {"drop_below": self.drop_below}),
        }

    def load(self, path: str | Path) -> Segmented:
        """The photograph at ``path``."""
        return Segmented(*files.read_bounded(path, self.runner.max_side))

    def compute(self, batch: Sequence[Segmented]) -> list[Segmented]:
        """``batch``, photographs of one size, with probabilities."""
        views = self.runner.views([one.image for one in batch], self.scales, self.flip)
        size = self.runner.seen_size((batch[0].image.shape[0], batch[0].image.shape[1]))
        found = [
            vote(
                [view.output[n] for view in views],
                size,
                [view.mirrored for view in views],
                seen=[view.seen for view in views],
                stride=self.runner.network.stride,
            )
            for n in range(len(batch))
        ]
        if self.drop_below is not None:
            each = [view.scores.sigmoid() for view in views if view.scores is not None]
            scores = torch.stack(each).mean(0)
            found = [
                prohibit(one, score, self.drop_below)
                for one, score in zip(found, scores, strict=True)
            ]
        return [
            replace(one, probabilities=each.cpu().numpy())
            for one, each in zip(batch, found, strict=True)
        ]

    def save(self, one: Segmented, paths: Mapping[str, Path], meta: dict[str, Any]) -> None:
        """Write the label map, and the probabilities if a path for them is given."""
        assert one.probabilities is not None
        if "scores" in paths:
            names = (BACKGROUND, *self.classes)
            small = label_maps.resize(one.probabilities, map_size(one.size))
            files.write_maps(paths["scores"], small, names, one.size, meta)
        labels = self._labels(one.probabilities, one.image)
        files.write_label_map(paths["pred"], label_maps.resize_labels(labels, one.size), meta)

    def _labels(self, probabilities: npt.NDArray[np.float32], image: Image) -> Image:
        labels: Image = probabilities.argmax(0).astype(np.uint8)
        if self.crf is not None:
            # A class that wins no pixel before wins none after; leaving it out saves time.
            present = np.union1d([0], np.unique(labels)).astype(np.uint8)
            scores = label_maps.resize(probabilities[present], (image.shape[0], image.shape[1]))
            labels = present[label_maps.refine(image, scores, self.crf).argmax(0)]
        return labels
