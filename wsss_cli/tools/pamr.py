"""What ``crf --method pamr`` does between reading and writing, on a device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from wsss_cli.methods.pamr import pamr
from wsss_cli.models.device import SideBySide, choose
from wsss_cli.tools import label_maps
from wsss_cli.tools.crf import Given, Labels, Refiner
from wsss_cli.tools.label_maps import Scores


class AdaptiveRefiner:
    """Pixel-adaptive mask refinement (Araslanov & Roth 2020, sec. 4) of maps and label maps.

    Args:
        refiner: what is refined, and with which settings.
        device: see :func:`wsss_cli.models.device.choose`; the precision is fp32.

    Attributes:
        abreast: how many photographs are refined side by side.
    """

    def __init__(self, refiner: Refiner, device: str = "auto") -> None:
        self.refiner = refiner
        self.settings = dict(refiner.pamr or {})
        self.device = choose(device, "fp32").device
        self._spread = SideBySide(self.device)
        self.abreast = self._spread.abreast

    def compute(self, batch: Sequence[Given]) -> list[Labels]:
        """The label maps of ``batch``, each of its photograph's size."""
        return self._spread(lambda one: self.refiner.labels(one, self._refine), batch)

    def _refine(self, image: npt.NDArray[np.uint8], scores: Scores) -> Scores:
        return label_maps.among_likely(scores, partial(self._adapt, image))

    def _adapt(self, image: npt.NDArray[np.uint8], scores: Scores) -> Scores:
        pixels = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None]
        maps = torch.from_numpy(scores).to(self.device)[None]
        refined: Scores = pamr(pixels, maps, **self.settings)[0].cpu().numpy()
        return refined
