"""``crf``: label maps that follow the edges of the photographs; imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from wsss_cli import files, inputs, records
from wsss_cli.classes import IGNORE
from wsss_cli.errors import WsssError
from wsss_cli.files import Maps
from wsss_cli.methods import crf
from wsss_cli.methods.saliency import salient_scores
from wsss_cli.stage import Job, RecordTool
from wsss_cli.tools import label_maps
from wsss_cli.tools.label_maps import Labels, Scores

Refine = Callable[[npt.NDArray[np.uint8], Scores], Scores]


@dataclass(frozen=True)
class Given:
    """A photograph and its maps or label map, to be refined.

    Attributes:
        image: uint8 (H, W, 3), the photograph or, limited by ``max_side``, a smaller one.
        size: (H, W) of the photograph.
        labels: a label map of the image, or None.
        maps: activation maps in its place.
        numbers: class numbers of the maps.
        saliency: float32 (H, W) in [0, 1], the size of ``image``, or None.
    """

    image: npt.NDArray[np.uint8]
    size: tuple[int, int]
    labels: Labels | None = None
    maps: Maps | None = None
    numbers: Sequence[int] = ()
    saliency: Scores | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """The input of a refinement: maps or a label map, read as scores and turned back into labels.

    Attributes:
        key: record key of the maps or label map.
        alpha: exponent of the background score of maps that have no background.
        threshold: constant background instead, or None.
        saliency: whether the record's saliency tells objects from background instead.
        salient_above: the saliency from which a pixel is an object's.
        certainty: probability given to the label of each pixel of a label map.
        max_side: photographs with a longer side are refined at this size; 0 is no limit.
        class_list: class list given by the user, or None for that of the maps.
    """

    key: str = "cam"
    alpha: float = 16.0
    threshold: float | None = None
    saliency: bool = False
    salient_above: float = 0.5
    certainty: float = 0.7
    max_side: int = 1024
    class_list: Sequence[str] | None = None

    @property
    def needs(self) -> Sequence[str]:
        """The record keys that it is made from."""
        return ("image", self.key, *(("saliency",) if self.saliency else ()))

    @property
    def params(self) -> dict[str, Any]:
        """The settings that change the result."""
        by_saliency: dict[str, Any] = {}
        if self.saliency:
            by_saliency = {"saliency": True, "salient_above": self.salient_above}
        return {
            "key": self.key,
            "alpha": self.alpha,
            "threshold": self.threshold,
            **by_saliency,
            "certainty": self.certainty,
            "max_side": self.max_side,
            "classes": self.class_list,
        }

    def load(self, record: Mapping[str, Any]) -> Given:
        """The photograph of ``record`` and its maps or label map under the key."""
        source = records.path(record, self.key)
        if files.holds_maps(source):
            image, maps = label_maps.read_matching(
                record, self.key, self.max_side, classes=self.class_list
            )
            numbers = label_maps.class_numbers(maps, self.class_list)
            saliency = None
            if self.saliency:
                grey = files.read_grey(record["saliency"], maps.size)
                saliency = label_maps.resize(grey[None], image.shape[:2])[0]
            return Given(image, maps.size, maps=maps, numbers=numbers, saliency=saliency)
        if self.saliency:
            raise WsssError(f"{source}: a label map; --by-saliency is for maps (cam, scores)")
        image, size = files.read_bounded(record["image"], self.max_side)
        stored, meta = files.read_labels(source, size)
        listed = self.class_list or inputs.class_list(meta or {})
        if listed:
            inputs.check_numbers(source, meta, listed, "--classes")
            most = int(np.where(stored == IGNORE, 0, stored).max())
            if most > len(listed):
                raise WsssError(
                    f"{source}: holds class number {most}, but there are {len(listed)} in the "
                    "class list"
                )
        labels = label_maps.resize_labels(stored, image.shape[:2])
        if (labels == IGNORE).all():
            raise WsssError(f"{source}: no pixel of it is known, all are {IGNORE}")
        return Given(image, size, labels)

    def labels(self, given: Given, refine: Refine) -> Labels:
        """The label map, at the photograph's size, of refined scores.

        Args:
            given: from :meth:`load`.
            refine: takes the image and scores, float32 (1 + K, H, W), background first; gives
                scores.

        Returns:
            Class numbers; 255 where the label map had it and the refinement does not decide.
        """
        scores, numbers = self._scores(given)
        scores = refine(given.image, scores)
        labels = label_maps.label_map(scores, numbers)
        if given.labels is not None:
            label_maps.leave_undecided(labels, scores, given.labels == IGNORE)
        return label_maps.resize_labels(labels, given.size)

    def _scores(self, given: Given) -> tuple[Scores, Sequence[int]]:
        """Scores at the size of the image, background first, and the numbers of their classes."""
        size = given.image.shape[:2]
        if given.labels is not None:
            scores, present = crf.label_probabilities(given.labels, certainty=self.certainty)
            return scores, present[1:]
        if not given.numbers:
            return np.ones((1, *size), np.float32), ()
        assert given.maps is not None
        classes, own = label_maps.split_background(given.maps)
        if given.saliency is not None:
            cam = label_maps.resize(classes.cam, size)
            return salient_scores(cam, given.saliency, self.salient_above), given.numbers
        scores = label_maps.with_background(
            label_maps.resize(classes.cam, size),
            None if own is None else label_maps.resize(own[None], size)[0],
            alpha=self.alpha,
            threshold=self.threshold,
        )
        return scores, given.numbers


@dataclass(frozen=True, kw_only=True)
class CrfRefiner(RecordTool):
    """Maps or a label map refined by a dense CRF (Krähenbühl & Koltun 2011).

    Attributes:
        source: the input.
        crf: arguments of :func:`wsss_cli.methods.crf.dense_crf`.
    """

    source: Source
    crf: Mapping[str, Any]

    name = "crf"
    outputs: ClassVar = {"pseudo": ".png"}

    @property
    def needs(self) -> Sequence[str]:
        return self.source.needs

    @property
    def class_list(self) -> Sequence[str] | None:
        return self.source.class_list

    @property
    def params(self) -> dict[str, Any]:
        return {"method": "densecrf", "crf": dict(self.crf), **self.source.params}

    def work(self, job: Job) -> None:
        given = self.source.load(job.record)
        labels = self.source.labels(given, partial(label_maps.refine, crf=self.crf))
        files.write_label_map(job.paths["pseudo"], labels, job.meta)
