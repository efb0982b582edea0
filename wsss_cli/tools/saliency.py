"""What ``saliency`` does with one record; imports no torch, so that worker processes start fast."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_cli import files
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.methods.saliency import background_saliency

Map = npt.NDArray[np.float32]

WORKING_SIDE = 200  # pixels; the estimate is no better on larger pictures
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_FREE_SIDE = 320  # of networks that take any size; what most of them were trained at


def estimate(image: str) -> tuple[Map, tuple[int, int]]:
    """A training-free map of a photograph and the size (H, W) to write it at."""
    pixels, size = files.read_bounded(image, WORKING_SIDE)
    return background_saliency(pixels), size


def inverted(image: str, saliency: str) -> tuple[Map, tuple[int, int]]:
    """A map that is dark where it is salient, turned round, and the size (H, W) to write it at."""
    size = files.image_size(image)
    return 1 - files.read_grey(saliency, size), size


def write(path: Path, found: Map, size: tuple[int, int], meta: Mapping[str, Any]) -> None:
    """Write a map in [0, 1] as 8-bit grey PNG of ``size`` (H, W), 255 = salient."""
    if found.shape != size:
        resized = Image.fromarray(found).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        found = np.asarray(resized)
    files.write_image(path, np.rint(255 * found.clip(0, 1)).astype(np.uint8), dict(meta))


class SalientNetwork:
    """A salient-object network in ONNX, run by onnxruntime on whatever that was installed for.

    Its first input is a picture in the colours of ImageNet, float (1, 3, h, w); its first output
    one map, as values in [0, 1] or else as logits. As the authors of U2-Net do, each map is
    stretched to reach from 0 to 1.

    Args:
        path: the file.
        side: height and width of what it sees, for a network that takes any.

    Attributes:
        size: (h, w) of what it sees.
        digest: first 16 hexadecimal digits of the file's SHA-256.

    Raises:
        ConfigurationError: onnxruntime is not installed, or this is no such network.
    """

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
            self.digest = hashlib.file_digest(stream, "sha256").hexdigest()[:16]

    def load(self, image: str) -> tuple[npt.NDArray[np.float32], tuple[int, int]]:
        """A photograph as the network sees it, float32 (3, h, w), and its own size (H, W)."""
        size = files.image_size(image)
        picture = files.open_rgb(image, at_least=max(self.size))
        picture = picture.resize((self.size[1], self.size[0]), Image.Resampling.BILINEAR)
        pixels = (np.asarray(picture, np.float32) / 255 - _MEAN) / _STD
        return pixels.transpose(2, 0, 1).astype(np.float32), size

    def __call__(self, pixels: npt.NDArray[np.float32]) -> Map:
        """The map of what :meth:`load` gave, float32 (h', w') in [0, 1].

        Raises:
            WsssError: what comes out is no map.
        """
        outputs = self._session.run(None, {self._name: pixels[None].astype(self._kind)})
        found: Map = np.asarray(outputs[0], np.float32)
        shape = found.shape
        found = found.reshape(shape[-2:]) if found.size == np.prod(shape[-2:]) else found.squeeze()
        if found.ndim != 2:
            raise WsssError(f"the model's first output is of shape {shape}, no map")
        if not np.isfinite(found).all():
            raise WsssError("the model's map holds NaN")
        if found.min() < 0 or found.max() > 1:
            # The logistic function, without overflow.
            found = ((1 + np.tanh(found / 2)) / 2).astype(np.float32)
        found -= found.min()
        return found / max(float(found.max()), 1e-6)


def _known(dimension: Any) -> bool:
    """Whether a dimension of the input is a number, not a name or nothing."""
    return isinstance(dimension, int) and dimension > 0
