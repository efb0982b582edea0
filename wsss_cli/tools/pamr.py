"""``crf --method pamr``: pixel-adaptive mask refinement, on a device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from wsss_cli import files
from wsss_cli.methods.pamr import pamr
from wsss_cli.models.device import SideBySide, choose
from wsss_cli.stage import BatchTool, Job
from wsss_cli.tools import label_maps
from wsss_cli.tools.crf import Given, Source
from wsss_cli.tools.label_maps import Labels, Scores


class PamrRefiner(BatchTool):
    """Maps or a label map refined by PAMR (Araslanov & Roth 2020, sec. 4).

    The certainty of label maps changes nothing here: each pixel takes the label that most of its
    neighbours have, by their weights.

    Args:
        source: the input.
        iterations, dilations: arguments of :func:`wsss_cli.methods.pamr.pamr`.
        device: see :func:`wsss_cli.models.device.choose`; the precision is fp32.
    """

    name = "crf"
    outputs: ClassVar = {"pseudo": ".png"}

    def __init__(
        self, source: Source, *, iterations: int, dilations: Sequence[int], device: str = "auto"
    ) -> None:
        self._source = source
        self._pamr: dict[str, Any] = {"iterations": iterations, "dilations": dilations}
        self._device = choose(device, "fp32").device
        self._spread = SideBySide(self._device)

    @property
    def needs(self) -> Sequence[str]:
        return self._source.needs

    @property
    def class_list(self) -> Sequence[str] | None:
        return self._source.class_list

    @property
    def batch_size(self) -> int:
        return self._spread.abreast

    @property
    def params(self) -> dict[str, Any]:
        common = {key: value for key, value in self._source.params.items() if key != "certainty"}
        return {"method": "pamr", "pamr": self._pamr, **common}

    def load(self, job: Job) -> Given:
        return self._source.load(job.record)

    def compute(self, items: Sequence[Given]) -> list[Labels]:
        """The label maps of ``items``, each of its photograph's size."""
        return self._spread(lambda item: self._source.labels(item, self._refine), items)

    def save(self, job: Job, result: Labels) -> None:
        files.write_label_map(job.paths["pseudo"], result, job.meta)

    def _refine(self, image: npt.NDArray[np.uint8], scores: Scores) -> Scores:
        return label_maps.among_likely(scores, partial(self._adapt, image))

    def _adapt(self, image: npt.NDArray[np.uint8], scores: Scores) -> Scores:
        pixels = torch.from_numpy(image).to(self._device).permute(2, 0, 1)[None]
        maps = torch.from_numpy(scores).to(self._device)[None]
        refined: Scores = pamr(pixels, maps, **self._pamr)[0].cpu().numpy()
        return refined
