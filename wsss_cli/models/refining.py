"""What ``crf`` and ``make-aff-labels`` do with one record; imports no torch, so that worker
processes start fast.
"""

from __future__ import annotations

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


def read_matching(record: dict[str, Any], key: str) -> tuple[npt.NDArray[np.uint8], Maps]:
    """The photograph of ``record`` and the maps under ``key``.

    Raises:
        WsssError: the maps are of an image of another size.
    """
    image = files.read_image(record["image"])
    maps = files.read_maps(record[key])
    if maps.size != image.shape[:2]:
        raise WsssError(
            f"{record[key]}: maps of an image of {maps.size[1]}x{maps.size[0]}, "
            f"but this one is {image.shape[1]}x{image.shape[0]}"
        )
    return image, maps


@dataclass(frozen=True, kw_only=True)
class Refiner:
    """Dense CRF on CAMs, scores or a label map, over the classes that are present.

    Attributes:
        key: the record key to refine.
        crf: settings of :func:`wsss_cli.methods.crf.dense_crf`.
        alpha: exponent of the background score of maps that have no background.
        threshold: constant background instead, or None.
        certainty: trust in the labels of a label map.
        classes: class list given by the user, or None.
    """

    key: str
    crf: dict[str, Any]
    alpha: float
    threshold: float | None
    certainty: float
    classes: str | None

    def __call__(self, record: dict[str, Any], path: Path, meta: dict[str, Any]) -> None:
        """Refine what ``record`` has under the key into the label map ``path``."""
        if Path(record[self.key]).suffix == ".npz":
            labels = self._from_maps(record)
        else:
            labels = self._from_labels(record)
        files.write_label_map(path, labels, meta)

    def _from_maps(self, record: dict[str, Any]) -> npt.NDArray[np.uint8]:
        image, maps = read_matching(record, self.key)
        size = (image.shape[0], image.shape[1])
        numbers = pseudo.class_numbers(maps, self.classes)
        maps, own = pseudo.split_background(maps)
        if not numbers:
            return np.zeros(size, np.uint8)
        scores = pseudo.with_background(
            pseudo.resize(maps.cam, size),
            None if own is None else pseudo.resize(own[None], size)[0],
            alpha=self.alpha,
            threshold=self.threshold,
        )
        return pseudo.label_map(pseudo.refine(image, scores, self.crf), numbers)

    def _from_labels(self, record: dict[str, Any]) -> npt.NDArray[np.uint8]:
        image = files.read_image(record["image"])
        labels = files.read_label_map(record[self.key], (image.shape[0], image.shape[1]))
        scores, present = crf.label_probabilities(labels, certainty=self.certainty)
        return pseudo.label_map(pseudo.refine(image, scores, self.crf), present[1:])


@dataclass(frozen=True, kw_only=True)
class RegionFinder:
    """Confident regions of CAMs (Ahn & Kwak 2018, sec. 3.2).

    Attributes:
        low_alpha, high_alpha: exponents of the strong and the weak background score.
        crf: settings of the dense CRF.
        classes: class list given by the user, or None.
    """

    low_alpha: float
    high_alpha: float
    crf: dict[str, Any]
    classes: str | None

    def __call__(self, record: dict[str, Any], path: Path, meta: dict[str, Any]) -> None:
        """Write the regions of the CAMs of ``record`` as the label map ``path``."""
        image, maps = read_matching(record, "cam")
        size = (image.shape[0], image.shape[1])
        numbers = pseudo.class_numbers(maps, self.classes)
        maps, own = pseudo.split_background(maps)
        regions = crf.confident_regions(
            image,
            pseudo.resize(maps.cam, size),
            self.low_alpha,
            self.high_alpha,
            background=None if own is None else pseudo.resize(own[None], size)[0],
            **self.crf,
        )
        table = np.full(256, files.IGNORE, np.uint8)
        table[: len(numbers) + 1] = [0, *numbers]
        files.write_label_map(path, table[regions], meta)
