"""``make-aff-labels``: confident regions of CAMs, labels for AffinityNet and IRNet; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from wsss_cli import console, files
from wsss_cli.classes import IGNORE
from wsss_cli.errors import WsssError
from wsss_cli.methods.crf import confident_labels, confident_regions
from wsss_cli.stage import Job, RecordTool
from wsss_cli.tools import label_maps


@dataclass(frozen=True, kw_only=True)
class RegionFinder(RecordTool):
    """Confident regions of CAMs (Ahn & Kwak 2018, sec. 3.2; Ahn, Cho & Kwak 2019, sec. 4.2).

    Attributes:
        low_alpha, high_alpha: exponents of the strong and the weak background score.
        thresholds: those of the classes and of the background, in place of scores and of a
            background of the maps; or None.
        own_background: in place of thresholds, factors of the maps' own background; or None.
        certainty: with either, the probability of the label that a pixel begins with.
        crf: arguments of :func:`wsss_cli.methods.crf.dense_crf`.
        window: side of the square that the posterior of the CRF is averaged over, in pixels.
        max_side: photographs with a longer side are processed at this size; 0 is no limit.
        class_list: class list given by the user, or None for that of the maps.
    """

    low_alpha: float
    high_alpha: float
    crf: Mapping[str, Any]
    max_side: int
    thresholds: tuple[float, float] | None = None
    own_background: tuple[float, float] | None = None
    certainty: float = 0.7
    class_list: Sequence[str] | None = None
    window: int = 1

    name = "make-aff-labels"
    outputs: ClassVar = {"aff_label": ".png"}
    needs = ("image", "cam")

    @property
    def params(self) -> dict[str, Any]:
        scores: dict[str, Any] = {"low_alpha": self.low_alpha, "high_alpha": self.high_alpha}
        if self.thresholds is not None:
            scores = {"thresholds": list(self.thresholds), "certainty": self.certainty}
        elif self.own_background is not None:
            scores = {"own_background": list(self.own_background), "certainty": self.certainty}
        return {
            **scores,
            "crf": dict(self.crf),
            "max_side": self.max_side,
            "classes": self.class_list,
            # Not named where it changes nothing, as in files of earlier versions.
            **({"window": self.window} if self.window > 1 else {}),
        }

    def work(self, job: Job) -> None:
        image, maps = label_maps.read_matching(
            job.record, "cam", self.max_side, classes=self.class_list
        )
        numbers = label_maps.class_numbers(maps, self.class_list)
        classes, own = label_maps.split_background(maps)
        size = image.shape[:2]
        cam = label_maps.resize(classes.cam, size)
        common = {"window": self.window, **self.crf}
        background = None if own is None else label_maps.resize(own[None], size)[0]
        if self.thresholds is not None:
            regions = confident_labels(
                image, cam, *self.thresholds, certainty=self.certainty, **common
            )
        elif self.own_background is not None:
            if background is None:
                raise WsssError(
                    f"its maps have no background of their own ({job.record['cam']}): take --cut"
                )
            high, low = (background * np.float32(factor) for factor in self.own_background)
            regions = confident_labels(image, cam, high, low, certainty=self.certainty, **common)
        else:
            regions = confident_regions(
                image, cam, self.low_alpha, self.high_alpha, background=background, **common
            )
        table = np.full(256, IGNORE, np.uint8)
        table[: len(numbers) + 1] = [0, *numbers]
        labels = label_maps.resize_labels(table[regions], maps.size)
        files.write_label_map(job.paths["aff_label"], labels, job.meta)
        names = {0: "background", 255: "neutral"} | dict(enumerate(classes.classes, start=1))
        shares = ", ".join(f"{(regions == n).mean():.0%} {names[n]}" for n in sorted(names))
        console.detail(self.name, f"{job.record['id']}: {shares}")
