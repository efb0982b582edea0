"""What ``crf`` and ``make-aff-labels`` do with one record; imports no torch, so that worker
processes start fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_cli import files
from wsss_cli.errors import WsssError
from wsss_cli.files import Maps
from wsss_cli.methods import crf
from wsss_cli.tools import label_maps
from wsss_cli.tools.label_maps import read_matching

Labels = npt.NDArray[np.uint8]
Refine = Callable[[npt.NDArray[np.uint8], label_maps.Scores], label_maps.Scores]


@dataclass(frozen=True)
class Given:
    """What is to be refined of one photograph.

    Attributes:
        image: uint8 (H, W, 3), the photograph or, bounded by ``max_side``, a smaller one.
        size: (H, W) of the photograph.
        labels: a label map of the image, or None.
        maps: activation maps in its place.
        numbers: class numbers of the maps.
    """

    image: npt.NDArray[np.uint8]
    size: tuple[int, int]
    labels: Labels | None = None
    maps: Maps | None = None
    numbers: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class Refiner:
    """CAMs, scores or a label map refined by a dense CRF or by PAMR, over the classes present.

    Called, it does all with a dense CRF; PAMR needs torch, and what goes before and after it is
    here: :class:`wsss_cli.tools.pamr.AdaptiveRefiner`.

    Attributes:
        key: the record key to refine.
        crf: arguments of :func:`wsss_cli.methods.crf.dense_crf`, or None for PAMR.
        pamr: arguments of :func:`wsss_cli.methods.pamr.pamr`, or None for a dense CRF.
        alpha: exponent of the background score of maps that have no background.
        threshold: constant background instead, or None.
        certainty: trust in the labels of a label map. PAMR gives the same labels for any: the share
            of a pixel's neighbours that bear a label decides.
        max_side: photographs with a longer side are refined at this size; 0 is no bound.
        classes: class list given by the user, or None for that of the maps.
    """

    key: str
    crf: Mapping[str, Any] | None = None
    pamr: Mapping[str, Any] | None = None
    alpha: float
    threshold: float | None
    certainty: float
    max_side: int
    classes: Sequence[str] | None

    @property
    def params(self) -> dict[str, Any]:
        """What changes the result, for its provenance."""
        method, idle = (
            ("pamr", {"crf", "certainty"}) if self.crf is None else ("densecrf", {"pamr"})
        )
        said = {name: value for name, value in vars(self).items() if name not in idle}
        return {"method": method, **said}

    def __call__(self, record: Mapping[str, Any], path: Path, meta: dict[str, Any]) -> None:
        """Refine what ``record`` has under the key into the label map ``path``."""
        labels = self.labels(self.load(record), partial(label_maps.refine, crf=self.crf))
        files.write_label_map(path, labels, meta)

    def load(self, record: Mapping[str, Any]) -> Given:
        """The photograph of ``record`` and what it has under the key."""
        source = record[self.key]
        if not isinstance(source, str):
            raise WsssError(f"'{self.key}' is not the path of maps or of a label map")
        if Path(source).suffix.lower() == ".npz":
            image, maps = read_matching(record, self.key, self.max_side)
            numbers = label_maps.class_numbers(maps, self.classes)
            return Given(image, maps.size, maps=maps, numbers=numbers)
        image, size = files.read_bounded(record["image"], self.max_side)
        labels = files.read_label_map(source, size)
        return Given(image, size, label_maps.resize_labels(labels, image.shape[:2]))

    def labels(self, given: Given, refine: Refine) -> Labels:
        """The label map of the photograph's size that ``refine`` leads to.

        Args:
            given: what :meth:`load` gave.
            refine: takes the image and scores, float32 (1 + K, H, W), background first; gives
                scores.
        """
        scores, numbers = self._scores(given)
        labels = label_maps.label_map(refine(given.image, scores), numbers)
        return label_maps.resize_labels(labels, given.size)

    def _scores(self, given: Given) -> tuple[label_maps.Scores, Sequence[int]]:
        """Scores at the size of the image, background first, and the numbers of their classes."""
        size = given.image.shape[:2]
        if given.labels is not None:
            scores, present = crf.label_probabilities(given.labels, certainty=self.certainty)
            return scores, present[1:]
        if not given.numbers:
            return np.ones((1, *size), np.float32), ()
        assert given.maps is not None
        classes, own = label_maps.split_background(given.maps)
        scores = label_maps.with_background(
            label_maps.resize(classes.cam, size),
            None if own is None else label_maps.resize(own[None], size)[0],
            alpha=self.alpha,
            threshold=self.threshold,
        )
        return scores, given.numbers
