"""``predict``: label maps of photographs from a trained segmentation network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from wsss_cli import files
from wsss_cli.classes import BACKGROUND
from wsss_cli.methods.grids import Places, vote
from wsss_cli.methods.psl import prohibit
from wsss_cli.methods.tiles import blend, lay
from wsss_cli.models.inference import Image, Runner, View
from wsss_cli.stage import Job
from wsss_cli.tools import label_maps
from wsss_cli.tools.photographs import PhotographTool, read

Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Photograph:
    """A photograph on its way through the network.

    Attributes:
        image: uint8 (h, w, 3), the photograph or, limited by ``max_side``, a smaller one; None if
            it is seen in tiles, and not read yet.
        size: (H, W) of the photograph.
        path: its file.
        probabilities: of background and the classes, float32 (1 + C, h', w'), when computed; the
            size is that at which the network sees the image. Of one seen in tiles that of stored
            maps, and no probabilities unless they are to be stored.
        labels: of one seen in tiles, uint8 (H, W), when computed.
    """

    image: Image | None
    size: tuple[int, int]
    path: str = ""
    probabilities: Probabilities | None = None
    labels: Image | None = None


@dataclass(frozen=True, kw_only=True)
class Segmenter(PhotographTool):
    """Multi-scale segmentation (Chen 2018, sec. 4.1).

    Attributes:
        runner: the segmentation network.
        others: further ones (:func:`wsss_cli.tools.photographs.together`): the mean of the
            probabilities of all decides.
        scales: input scales, relative to the photograph.
        flip: average with the mirrored photograph.
        crf: arguments of :func:`wsss_cli.methods.crf.dense_crf`, or None for no CRF.
        drop_below: classes with a smaller probability of being in the photograph are left out (Wei
            et al. 2017, sec. 4.1), of those of a network with a classification branch; None leaves
            out none.
        store_scores: write the probabilities too.
        image_key: record key of the photograph.
        batch_size: photographs of one size that go through the network together.
    """

    runner: Runner
    others: Sequence[Runner] = ()
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    crf: Mapping[str, Any] | None = None
    drop_below: float | None = None
    store_scores: bool = False
    image_key: str = "image"
    batch_size: int = 4

    name = "predict"

    @property
    def checkpoint(self) -> str | list[str]:
        digests = [runner.digest for runner in self.runners]
        return digests if self.others else digests[0]

    @property
    def runners(self) -> Sequence[Runner]:
        """All networks."""
        return (self.runner, *self.others)

    @property
    def outputs(self) -> Mapping[str, str]:
        return {"pred": ".png", **({"scores": ".npz"} if self.store_scores else {})}

    @property
    def params(self) -> dict[str, Any]:
        return {
            "scales": self.scales,
            "flip": self.flip,
            **self.runner.bounds,
            "crf": dict(self.crf) if self.crf is not None else None,
            **({} if self.drop_below is None else {"drop_below": self.drop_below}),
            "image_key": self.image_key,
        }

    def load(self, job: Job) -> Photograph:
        path = job.record[self.image_key]
        return Photograph(*read(path, self.runner), path)

    def compute(self, items: Sequence[Photograph]) -> list[Photograph]:
        """``items``, photographs of one size, with probabilities."""
        images = [item.image for item in items if item.image is not None]
        if not images:
            return [self._in_tiles(item) for item in items]
        size = self.runner.seen_size((images[0].shape[0], images[0].shape[1]))
        views = [runner.views(images, self.scales, self.flip) for runner in self.runners]
        scores = [self._scores([each]) for each in views]
        return [
            replace(item, probabilities=self._mean(views, scores, n, size).cpu().numpy())
            for n, item in enumerate(items)
        ]

    def save(self, job: Job, result: Photograph) -> None:
        if "scores" in job.paths:
            assert result.probabilities is not None
            names = (BACKGROUND, *self.classes)
            small = label_maps.resize(result.probabilities, label_maps.map_size(result.size))
            files.write_maps(job.paths["scores"], small, names, result.size, job.meta)
        labels = result.labels
        if labels is None:
            assert result.probabilities is not None
            assert result.image is not None
            refined, present = self._refined(result.probabilities, result.image)
            labels = label_maps.resize_labels(present[refined.argmax(0)], result.size)
        files.write_label_map(job.paths["pred"], labels, job.meta)

    def _mean(
        self,
        views: Sequence[Sequence[View]],
        scores: Sequence[torch.Tensor | None],
        n: int,
        size: tuple[int, int] | Places,
    ) -> torch.Tensor:
        """Mean probabilities of image ``n``, given the views of each network and its scores."""
        total: torch.Tensor | None = None
        for runner, own, score in zip(self.runners, views, scores, strict=True):
            found = vote(
                [view.output[n] for view in own],
                size,
                [view.mirrored for view in own],
                seen=[view.seen for view in own],
                stride=runner.network.stride,
            )
            if score is not None and self.drop_below is not None:
                found = prohibit(found, score[n], self.drop_below)
            total = found if total is None else total + found
        assert total is not None
        return total / len(self.runners)

    def _scores(self, views: Sequence[Sequence[View]]) -> torch.Tensor | None:
        """Probabilities of the classes of N images by a network's branch, (N, C); of tiles, whose
        views are given one after the other, the largest. None if they are not asked for, or it has
        no branch."""
        if self.drop_below is None or any(view.scores is None for view in views[0]):
            return None
        each = [
            torch.stack([view.scores.sigmoid() for view in own if view.scores is not None]).mean(0)
            for own in views
        ]
        return torch.stack(each).amax(0)

    def _refined(self, probabilities: Probabilities, image: Image) -> tuple[Probabilities, Image]:
        """Probabilities after the CRF, if there is one, and the class numbers they are of."""
        if self.crf is None:
            return probabilities, np.arange(len(probabilities), dtype=np.uint8)
        # A class that wins no pixel before wins none after; leaving it out saves time.
        present = np.union1d([0], np.unique(probabilities.argmax(0))).astype(np.uint8)
        scores = label_maps.resize(probabilities[present], (image.shape[0], image.shape[1]))
        return label_maps.refine(image, scores, self.crf), present

    def _in_tiles(self, item: Photograph) -> Photograph:
        """``item``, a photograph that is seen in tiles, with its labels.

        The probabilities of all classes are never there for the whole photograph, but for a row of
        tiles. A class is left out (``drop_below``) if no tile shows it, not where a tile does not:
        there it would end at a straight line.
        """
        image = files.read_image(item.path)
        tiles = self.runner.tiles(item.size)
        layout = lay(tiles, Places.pixels(item.size))
        outputs: Iterable[tuple[list[View], ...]] = zip(
            *(
                runner.tile_views(image, self.scales, self.flip, together=self.batch_size)
                for runner in self.runners
            ),
            strict=True,
        )
        scores: list[torch.Tensor | None] = [None] * len(self.runners)
        if self.drop_below is not None:
            outputs = list(outputs)
            scores = [self._scores(own) for own in zip(*outputs, strict=True)]
        parts = (
            self._part(views, where, image[span], scores)
            for views, where, span in zip(outputs, layout.places, tiles.spans, strict=True)
        )
        count, small = 1 + len(self.classes), label_maps.map_size(item.size)
        labels, narrow = np.empty(item.size, np.uint8), []
        for rows, band in blend(parts, layout):
            values = band.numpy()
            labels[rows] = values[-count:].argmax(0)
            if self.store_scores:  # Pillow too goes on with rows of the new width
                narrow.append(label_maps.resize(values[:count], (values.shape[1], small[1])))
        probabilities = np.concatenate(narrow, 1) if narrow else None
        return replace(item, probabilities=probabilities, labels=labels)

    def _part(
        self,
        views: Sequence[Sequence[View]],
        where: Places,
        image: Image,
        scores: Sequence[torch.Tensor | None],
    ) -> torch.Tensor:
        """Probabilities of a tile; with a CRF those after it, after those to be stored if any."""
        found = self._mean(views, scores, 0, where)
        if self.crf is None:
            return found.cpu()
        before = found.cpu().numpy()
        refined, present = self._refined(before, image)
        after = np.zeros_like(before)
        after[present] = refined
        return torch.from_numpy(np.concatenate([before, after]) if self.store_scores else after)
