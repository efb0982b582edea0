"""``saliency``: maps of the salient object of each photograph; imports no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_cli import files
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.methods.saliency import background_saliency
from wsss_cli.models.u2netp import U2NETP
from wsss_cli.pool import in_threads
from wsss_cli.stage import BatchTool, Job, RecordTool

Map = npt.NDArray[np.float32]

WORKING_SIDE = 200  # pixels; the estimate is no better on larger pictures
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_FREE_SIDE = 320  # of networks that take any size: the training size of most of them
_MOST_AT_ONCE = 8  # photographs in the network together; U2-Net-P takes 270 MB for each


class Estimator(RecordTool):
    """Training-free maps (Zhu et al. 2014, robust background detection)."""

    name = "saliency"
    outputs: ClassVar = {"saliency": ".png"}
    params: ClassVar = {}

    def work(self, job: Job) -> None:
        pixels, size = files.read_bounded(job.record["image"], WORKING_SIDE)
        _write(job, background_saliency(pixels), size)


class Inverter(RecordTool):
    """The records' own maps, dark where salient, turned into the standard."""

    name = "saliency"
    outputs: ClassVar = {"saliency": ".png"}
    needs = ("image", "saliency")
    params: ClassVar = {"invert": True}

    def work(self, job: Job) -> None:
        size = files.image_size(job.record["image"])
        _write(job, 1 - files.read_grey(job.record["saliency"], size), size)


def _write(job: Job, saliency: Map, size: tuple[int, int]) -> None:
    """Write a map in [0, 1] as 8-bit grey PNG of ``size`` (H, W), 255 = salient."""
    if saliency.shape != size:
        resized = Image.fromarray(saliency).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        saliency = np.asarray(resized)
    pixels = np.rint(255 * saliency.clip(0, 1)).astype(np.uint8)
    files.write_image(job.paths["saliency"], pixels, job.meta)


class SaliencyNetwork(BatchTool):
    """A salient-object network in ONNX, run by onnxruntime on the devices it was built for.

    Its first input is a picture in the colours of ImageNet, float (1, 3, h, w); its first output
    one map, as values in [0, 1] or else as logits. As the authors of U2-Net do, each map is
    stretched to reach from 0 to 1.

    Most networks take one picture, so several go through it side by side, which needs less of the
    processor than one picture on all cores; the maps are the same.

    Args:
        model: the file, or ``u2netp`` for that of :mod:`wsss_cli.models.u2netp`.
        side: height and width of its input, for a network that takes any.
        flip: whether the map is the mean with that of the mirrored photograph.
        at_once: photographs that go through it side by side, on all cores together; at most 8.

    Attributes:
        size: (h, w) of its input.

    Raises:
        ConfigurationError: onnxruntime is not installed, this is no such network, or u2netp cannot
            be had.
    """

    name = "saliency"
    outputs: ClassVar = {"saliency": ".png"}

    def __init__(
        self, model: str, side: int | None = None, *, flip: bool = False, at_once: int = 1
    ) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigurationError(
                "--model needs onnxruntime: pip install onnxruntime (for a GPU: onnxruntime-gpu)"
            ) from error
        path = str(U2NETP.file()) if model == "u2netp" else model
        self._flip = flip
        self._at_once = min(max(at_once, 1), _MOST_AT_ONCE)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max((os.cpu_count() or 1) // self._at_once, 1)
        # TensorRT would compile for minutes before the first photograph.
        providers = onnxruntime.get_available_providers()
        providers = [name for name in providers if name != "TensorrtExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # onnxruntime has a class for each, and no common one
            raise ConfigurationError(f"cannot read model: {path}: {describe(error)}") from error
        taken = self._session.get_inputs()
        shape = list(taken[0].shape) if len(taken) == 1 else []
        if len(shape) != 4 or shape[1] != 3 or (_known(shape[0]) and shape[0] != 1):
            shapes = ", ".join(str(each.shape) for each in taken)
            raise ConfigurationError(
                f"{path}: a network that takes one picture (1, 3, h, w) is needed, not {shapes}"
            )
        if side and any(_known(fixed) and fixed != side for fixed in shape[2:]):
            raise ConfigurationError(
                f"{path}: takes {shape[3]}x{shape[2]} only; leave out --input-size"
            )
        height, width = (fixed if _known(fixed) else side or _FREE_SIDE for fixed in shape[2:])
        self.size = (height, width)
        self._name = taken[0].name
        self._kind = np.float16 if "float16" in taken[0].type else np.float32
        with open(path, "rb") as stream:
            self._digest = hashlib.file_digest(stream, "sha256").hexdigest()[:16]

    @property
    def checkpoint(self) -> str:
        return self._digest

    @property
    def params(self) -> dict[str, Any]:
        return {"input_size": self.size, **({"flip": True} if self._flip else {})}

    @property
    def batch_size(self) -> int:
        return self._at_once

    def load(self, job: Job) -> tuple[npt.NDArray[np.float32], tuple[int, int]]:
        """A photograph as the network sees it, float32 (3, h, w), and its own size (H, W)."""
        path = job.record["image"]
        size = files.image_size(path)
        picture = files.open_rgb(path, at_least=max(self.size))
        picture = picture.resize((self.size[1], self.size[0]), Image.Resampling.BILINEAR)
        pixels = (np.asarray(picture, np.float32) / 255 - _MEAN) / _STD
        return pixels.transpose(2, 0, 1).astype(np.float32), size

    def compute(
        self, items: Sequence[tuple[npt.NDArray[np.float32], tuple[int, int]]]
    ) -> list[tuple[Map, tuple[int, int]]]:
        maps = in_threads(self._mean, [pixels for pixels, _ in items], threads=self._at_once)
        return [(found, size) for found, (_, size) in zip(maps, items, strict=True)]

    def save(self, job: Job, result: tuple[Map, tuple[int, int]]) -> None:
        _write(job, *result)

    def _mean(self, pixels: npt.NDArray[np.float32]) -> Map:
        """The map of a loaded photograph; with ``flip``, the mean with its mirror image's."""
        plain = self(pixels)
        if not self._flip:
            return plain
        mirrored = self(np.ascontiguousarray(pixels[:, :, ::-1]))[:, ::-1]
        mean: Map = np.mean([plain, mirrored], axis=0, dtype=np.float32)
        return mean

    def __call__(self, pixels: npt.NDArray[np.float32]) -> Map:
        """The map of a loaded photograph, float32 (h', w') in [0, 1].

        Raises:
            WsssError: the output is no map.
        """
        outputs = self._session.run(None, {self._name: pixels[None].astype(self._kind)})
        saliency: Map = np.asarray(outputs[0], np.float32)
        shape = saliency.shape
        flat = saliency.size == np.prod(shape[-2:])
        saliency = saliency.reshape(shape[-2:]) if flat else saliency.squeeze()
        if saliency.ndim != 2:
            raise WsssError(f"the model's first output is of shape {shape}, no map")
        if not np.isfinite(saliency).all():
            raise WsssError("the model's map holds NaN")
        if saliency.min() < 0 or saliency.max() > 1:
            # The logistic function, without overflow.
            saliency = ((1 + np.tanh(saliency / 2)) / 2).astype(np.float32)
        saliency -= saliency.min()
        return saliency / max(float(saliency.max()), 1e-6)


def _known(dimension: Any) -> bool:
    """Whether a dimension of the input is a number, not a name or nothing."""
    return isinstance(dimension, int) and dimension > 0
