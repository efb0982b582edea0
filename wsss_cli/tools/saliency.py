"""``saliency``: maps of the salient object of each photograph; imports no torch."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_cli import files
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.methods.saliency import background_saliency
from wsss_cli.stage import BatchTool, Job, RecordTool

Map = npt.NDArray[np.float32]

WORKING_SIDE = 200  # pixels; the estimate is no better on larger pictures
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_FREE_SIDE = 320  # of networks that take any size: the training size of most of them


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

    Args:
        path: the file.
        side: height and width of its input, for a network that takes any.

    Attributes:
        size: (h, w) of its input.

    Raises:
        ConfigurationError: onnxruntime is not installed, or this is no such network.
    """

    name = "saliency"
    outputs: ClassVar = {"saliency": ".png"}
    batch_size = 1  # onnxruntime has threads of its own, and most networks take one image

    def __init__(self, path: str, side: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigurationError(
                "--model needs onnxruntime: pip install 'wsss[onnx]' (for a GPU: onnxruntime-gpu)"
            ) from error
        # TensorRT would compile for minutes before the first photograph.
        providers = onnxruntime.get_available_providers()
        providers = [name for name in providers if name != "TensorrtExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(path, providers=providers)
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
        return {"input_size": self.size}

    def load(self, job: Job) -> tuple[npt.NDArray[np.float32], tuple[int, int]]:
        """A photograph as the network sees it, float32 (3, h, w), and its own size (H, W)."""
        path = job.record["image"]
        size = files.image_size(path)
        picture = files.open_rgb(path, at_least=max(self.size))
        picture = picture.resize((self.size[1], self.size[0]), Image.Resampling.BILINEAR)
        pixels = (np.asarray(picture, np.float32) / 255 - _MEAN) / _STD
        return pixels.transpose(2, 0, 1).astype(np.float32), size

    def compute(
        self, items: list[tuple[npt.NDArray[np.float32], tuple[int, int]]]
    ) -> list[tuple[Map, tuple[int, int]]]:
        return [(self(pixels), size) for pixels, size in items]

    def save(self, job: Job, result: tuple[Map, tuple[int, int]]) -> None:
        _write(job, *result)

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
