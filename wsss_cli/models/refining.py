"""What ``crf`` and ``make-aff-labels`` do with one record; imports no torch, so that worker
processes start fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_cli import files
from wsss_cli.errors import WsssError
from wsss_cli.files import Maps
from wsss_cli.methods import crf
from wsss_cli.models import pseudo

Labels = npt.NDArray[np.uint8]


def read_matching(
    record: Mapping[str, Any], key: str, max_side: int = 0
) -> tuple[npt.NDArray[np.uint8], Maps]:
    """The photograph of ``record``, made smaller if its long side exceeds ``max_side``, and its
    maps under ``key``.

    Raises:
        WsssError: the maps are of an image of another size.
    """
    maps = files.read_maps(record[key])
    image, size = files.read_bounded(record["image"], max_side)
    if maps.size != size:
        raise WsssError(
            f"{record[key]}: maps of an image of {maps.size[1]}x{maps.size[0]}, "
            f"but this one is {size[1]}x{size[0]}"
        )
    return image, maps


@dataclass(frozen=True, kw_only=True)
class Refiner:
    """Dense CRF on CAMs, scores or a label map, over the classes that are present.

    Attributes:
        key: the record key to refine.
        crf: arguments of :func:`wsss_cli.methods.crf.dense_crf`.
        alpha: exponent of the background score of maps that have no background.
        threshold: constant background instead, or None.
        certainty: trust in the labels of a label map.
        max_side: photographs with a longer side are refined at this size; 0 is no bound.
        classes: class list given by the user, or None for that of the maps.
    """

    key: str
    crf: Mapping[str, Any]
    alpha: float
    threshold: float | None
    certainty: float
    max_side: int
    classes: Sequence[str] | None

    def __call__(self, record: Mapping[str, Any], path: Path, meta: dict[str, Any]) -> None:
        """Refine what ``record`` has under the key into the label map ``path``."""
        source = record[self.key]
        if not isinstance(source, str):
            raise WsssError(f"'{self.key}' is not the path of maps or of a label map")
        from_maps = Path(source).suffix.lower() == ".npz"
        labels = self._from_maps(record) if from_maps else self._from_labels(record)
        files.write_label_map(path, labels, meta)

    def _from_maps(self, record: Mapping[str, Any]) -> Labels:
        image, maps = read_matching(record, self.key, self.max_side)
        size = image.shape[:2]
        numbers = pseudo.class_numbers(maps, self.classes)
        if not numbers:
            return np.zeros(maps.size, np.uint8)
        classes, own = pseudo.split_background(maps)
        scores = pseudo.with_background(
            pseudo.resize(classes.cam, size),
            None if own is None else pseudo.resize(own[None], size)[0],
            alpha=self.alpha,
            threshold=self.threshold,
        )
        labels = pseudo.label_map(pseudo.refine(image, scores, self.crf), numbers)
        return pseudo.resize_labels(labels, maps.size)

    def _from_labels(self, record: Mapping[str, Any]) -> Labels:
        image, size = files.read_bounded(record["image"], self.max_side)
        given = files.read_label_map(record[self.key], size)
        labels = pseudo.resize_labels(given, image.shape[:2])
        scores, present = crf.label_probabilities(labels, certainty=self.certainty)
        refined = pseudo.label_map(pseudo.refine(image, scores, self.crf), present[1:])
        return pseudo.resize_labels(refined, size)


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
        numbers = pseudo.class_numbers(maps, self.classes)
        classes, own = pseudo.split_background(maps)
        size = image.shape[:2]
        regions = crf.confident_regions(
            image,
            pseudo.resize(classes.cam, size),
            self.low_alpha,
            self.high_alpha,
            background=None if own is None else pseudo.resize(own[None], size)[0],
            **self.crf,
        )
        table = np.full(256, files.IGNORE, np.uint8)
        table[: len(numbers) + 1] = [0, *numbers]
        files.write_label_map(path, pseudo.resize_labels(table[regions], maps.size), meta)
        names = {0: "background", 255: "neutral"} | dict(enumerate(classes.classes, start=1))
        return ", ".join(f"{(regions == n).mean():.0%} {names[n]}" for n in sorted(names))
