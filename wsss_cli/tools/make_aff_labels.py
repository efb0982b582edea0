"""Confident regions of CAMs, the training labels of AffinityNet; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsss_cli import files
from wsss_cli.methods import crf
from wsss_cli.tools import label_maps
from wsss_cli.tools.label_maps import read_matching


@dataclass(frozen=True, kw_only=True)
class RegionFinder:
    """Confident regions of CAMs (Ahn & Kwak 2018, sec. 3.2).

    Attributes:
        low_alpha, high_alpha: exponents of the strong and the weak background score.
        crf: arguments of :func:`wsss_cli.methods.crf.dense_crf`.
        max_side: photographs with a longer side are looked at at this size; 0 is no bound.
        classes: class list given by the user, or None for that of the maps.
    """

    low_alpha: float
    high_alpha: float
    crf: Mapping[str, Any]
    max_side: int
    classes: Sequence[str] | None

    def __call__(self, record: Mapping[str, Any], path: Path, meta: dict[str, Any]) -> str:
        """Write the regions of the CAMs of ``record`` as the label map ``path``.

        Returns:
            Their shares of the image, in words.
        """
        image, maps = read_matching(record, "cam", self.max_side)
        numbers = label_maps.class_numbers(maps, self.classes)
        classes, own = label_maps.split_background(maps)
        size = image.shape[:2]
        regions = crf.confident_regions(
            image,
            label_maps.resize(classes.cam, size),
            self.low_alpha,
            self.high_alpha,
            background=None if own is None else label_maps.resize(own[None], size)[0],
            **self.crf,
        )
        table = np.full(256, files.IGNORE, np.uint8)
        table[: len(numbers) + 1] = [0, *numbers]
        files.write_label_map(path, label_maps.resize_labels(table[regions], maps.size), meta)
        names = {0: "background", 255: "neutral"} | dict(enumerate(classes.classes, start=1))
        return ", ".join(f"{(regions == n).mean():.0%} {names[n]}" for n in sorted(names))
