"""Random augmentation of a training photograph: scale, crop, mirror, colours.

A `View` holds the part of a photograph that is cut out, its place in the crop, and whether it is
mirrored. It is drawn once per sample and applied to the image, its label map, saliency map and
class scores alike, so that they stay aligned. Its coordinates are fractions of the photograph, so
they also fit an image decoded at a reduced size, and maps stored at one. Scaling and cropping are a
single resampling of the part, not of the whole image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsss_cli.classes import IGNORE

T = TypeVar("T", bound=np.generic)

# Weights of red, green and blue in luminance (ITU-R BT.601), as in Pillow's conversion to grey.
_LUMA = np.array([0.299, 0.587, 0.114])
# RGB to YIQ: a rotation of the (I, Q) plane rotates the hue and keeps the luminance.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_RGB = np.linalg.inv(_YIQ)


class Area(NamedTuple):
    """The part of a crop that the photograph fills, in pixels; the rest is padding."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class View:
    """Part of a photograph and its place in a crop.

    Attributes:
        box: the part (left, top, right, bottom), as fractions of the photograph's size.
        area: its place in the crop, in pixels, after mirroring.
        crop: height and width of the crop in pixels.
        mirrored: whether left and right are exchanged.
    """

    box: tuple[float, float, float, float]
    area: Area
    crop: tuple[int, int]
    mirrored: bool = False

    @property
    def long_side(self) -> int:
        """Long side of the whole photograph at the scale of this view, in pixels, rounded up."""
        left, top, right, bottom = self.box
        height = (self.area.bottom - self.area.top) / (bottom - top)
        width = (self.area.right - self.area.left) / (right - left)
        return math.ceil(max(height, width))


def random_view(
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    crop: int,
    long_side: tuple[int, int] | None = None,
    scale: tuple[float, float] = (1.0, 1.0),
    mirror: bool = True,
) -> View:
    """A view at a random scale and place, mirrored or not.

    A photograph that is smaller than the crop at the drawn scale is used whole, at a random place.

    Args:
        size: height and width of the photograph in pixels.
        rng: random generator.
        crop: side of the square crop in pixels.
        long_side: range of the photograph's long side after scaling in pixels, both ends included.
        scale: range of the scale factor; used if `long_side` is None.
        mirror: whether to mirror half of the views.
    """
    if long_side is not None:
        factor = int(rng.integers(long_side[0], long_side[1] + 1)) / max(size)
    else:
        factor = rng.uniform(*scale)
    (top, bottom), rows = _stretch(size[0], factor, crop, rng)
    (left, right), columns = _stretch(size[1], factor, crop, rng)
    mirrored = bool(mirror and rng.random() < 0.5)
    if mirrored:
        columns = (crop - columns[1], crop - columns[0])
    area = Area(rows[0], columns[0], rows[1], columns[1])
    return View((left, top, right, bottom), area, (crop, crop), mirrored)


def _stretch(
    length: int, factor: float, crop: int, rng: np.random.Generator
) -> tuple[tuple[float, float], tuple[int, int]]:
    """Along an axis: the part of the photograph (fractions) and its place in the crop (pixels)."""
    scaled = max(1, round(length * factor))
    if scaled > crop:
        start = int(rng.integers(0, scaled - crop + 1))
        return (start / scaled, (start + crop) / scaled), (0, crop)
    start = int(rng.integers(0, crop - scaled + 1))
    return (0.0, 1.0), (start, start + scaled)


def whole_view(size: tuple[int, int], rng: np.random.Generator, *, crop: int | None = None) -> View:
    """The whole photograph: at its size, or fitted into the middle of a square crop (validation).

    Args:
        size: height and width of the photograph in pixels.
        rng: not used; here so that it can take the place of :func:`random_view`.
        crop: side of the square in pixels; None keeps the photograph's own size.
    """
    height, width = size
    if crop is None:
        return View((0.0, 0.0, 1.0, 1.0), Area(0, 0, height, width), (height, width))
    factor = crop / max(size)
    height, width = max(1, round(height * factor)), max(1, round(width * factor))
    top, left = (crop - height) // 2, (crop - width) // 2
    return View((0.0, 0.0, 1.0, 1.0), Area(top, left, top + height, left + width), (crop, crop))


@dataclass(frozen=True)
class Jitter:
    """Strength of random colour changes.

    Attributes:
        brightness: the image is multiplied by a factor from [1 - brightness, 1 + brightness].
        contrast: likewise its difference from the mean luminance.
        saturation: likewise its difference from grey.
        hue: the largest rotation of the hues, as a fraction of the colour circle, 0 to 0.5.
    """

    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    hue: float = 0.1

    def __bool__(self) -> bool:
        return any((self.brightness, self.contrast, self.saturation, self.hue))


def jitter(patch: Image.Image, rng: np.random.Generator, by: Jitter) -> Image.Image:
    """Change brightness, contrast, saturation and hue of an RGB image at random.

    Args:
        patch: RGB image.
        rng: random generator.
        by: strength of the changes.
    """
    # All four changes are linear in the colours: a single 3×4 matrix, one pass over the pixels.
    brightness, contrast, saturation = (
        rng.uniform(max(0.0, 1 - span), 1 + span)
        for span in (by.brightness, by.contrast, by.saturation)
    )
    angle = 2 * np.pi * rng.uniform(-by.hue, by.hue)
    turn = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    # Every fourth row and column is enough for the mean luminance.
    mean = np.asarray(patch)[::4, ::4].reshape(-1, 3).mean(axis=0) @ _LUMA * brightness
    colours = saturation * np.eye(3) + (1 - saturation) * _LUMA
    colours = contrast * brightness * (_RGB @ turn @ _YIQ @ colours)
    matrix = np.column_stack([colours, np.full(3, (1 - contrast) * mean)])
    return patch.convert("RGB", tuple(matrix.ravel().tolist()))


def take_image(
    image: Image.Image,
    view: View,
    *,
    fill: Sequence[int],
    colours: tuple[Jitter, np.random.Generator] | None = None,
) -> NDArray[np.uint8]:
    """The crop of an image that a view describes.

    Args:
        image: the photograph, RGB, decoded at any size.
        view: the view.
        fill: red, green and blue of the padding, 0 to 255.
        colours: strength of the colour changes and their random generator; None for no changes.

    Returns:
        uint8 (h, w, 3), the size of the crop.
    """
    patch = _resample(image, view, Image.Resampling.BILINEAR)
    if colours is not None:
        patch = jitter(patch, colours[1], colours[0])
    crop = np.empty((*view.crop, 3), dtype=np.uint8)
    crop[:] = np.asarray(fill, dtype=np.uint8)
    return _place(crop, patch, view)


def take_labels(labels: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """The crop of a label map: uint8 (H, W) to (h, w); the padding is ignored (255)."""
    patch = _resample(Image.fromarray(labels), view, Image.Resampling.NEAREST)
    return _place(np.full(view.crop, IGNORE, dtype=np.uint8), patch, view)


def take_grey(grey: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """The crop of a saliency map: float32 (H, W) to (h, w); the padding is NaN."""
    patch = _resample(Image.fromarray(grey), view, Image.Resampling.BILINEAR)
    return _place(np.full(view.crop, np.nan, dtype=np.float32), patch, view)


def take_maps(maps: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """The crop of maps of a photograph, stored at any size: float32 (K, H', W') to (K, h, w).

    They cover the whole photograph; the padding is 0.
    """
    crops: NDArray[np.float32] = np.zeros((len(maps), *view.crop), dtype=np.float32)
    for crop, plane in zip(crops, maps, strict=True):
        _place(crop, _resample(Image.fromarray(plane), view, Image.Resampling.BILINEAR), view)
    return crops


def _resample(image: Image.Image, view: View, filter: Image.Resampling) -> Image.Image:
    """The part of the image that a view takes, at its size in the crop, mirrored if the view is."""
    size = (view.area.right - view.area.left, view.area.bottom - view.area.top)
    left, top, right, bottom = view.box
    box = (left * image.width, top * image.height, right * image.width, bottom * image.height)
    if size != image.size or box != (0, 0, *size):
        # reducing_gap: a much larger image is first reduced quickly, with no visible difference.
        gap = None if filter is Image.Resampling.NEAREST else 2.0
        image = image.resize(size, filter, box=box, reducing_gap=gap)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.mirrored else image


def _place(crop: NDArray[T], patch: Image.Image, view: View) -> NDArray[T]:
    top, left, bottom, right = view.area
    crop[top:bottom, left:right] = np.asarray(patch)
    return crop
