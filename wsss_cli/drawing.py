"""Colours, font, scales and overlays that the contact sheet and the plots share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFont

from wsss_cli.classes import IGNORE, palette

INK, PALE, PAPER = (34, 34, 38), (120, 120, 128), (255, 255, 255)
GRID = (228, 228, 232)
CURVES = ((38, 84, 190), (214, 94, 30), (40, 140, 90), (150, 60, 160))
_BLEND = 0.65  # share of the label colours over the photograph
_MOST_LETTERS = 200  # of a text; no picture is wide enough for more

# Control points of a heat map that stays readable over a photograph: clear, blue, yellow, red.
_HEAT = np.array([[0, 0, 130], [0, 120, 255], [60, 230, 160], [255, 220, 0], [230, 20, 0]], float)


def font(size: int) -> Any:
    """Pillow's own outline font."""
    return ImageFont.load_default(size)


def fitted(text: str, style: Any, width: float) -> str:
    """A text in one line of printable characters, shortened to a width.

    Args:
        text: any text; names and ids come from files of others.
        style: its font.
        width: pixels that it may take.
    """
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:_MOST_LETTERS])
    whole = len(text) <= _MOST_LETTERS
    if whole and style.getlength(shown) <= width:
        return shown
    while shown and style.getlength(shown + "…") > width:
        # All letters are about as wide; the last few one by one.
        shown = shown[: min(len(shown) - 1, int(len(shown) * 1.2 * width / style.getlength(shown)))]
    return shown + "…"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that span low to high.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if high - low <= 1e-9 * max(abs(high), abs(low)):
        high = low + max(abs(low), 1)
    elif high - low < 1e-100:
        high = low + 1
    rough = (high - low) / count
    power: float = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{place * step:.10g}") for place in range(first, last + 1)]


def heat(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Colours of values in [0, 1]: uint8 (H, W, 3) for (H, W)."""
    place = np.clip(values, 0, 1).astype(float) * (len(_HEAT) - 1)
    low = np.minimum(place.astype(int), len(_HEAT) - 2)
    part = (place - low)[..., None]
    mixed: npt.NDArray[np.uint8] = (_HEAT[low] * (1 - part) + _HEAT[low + 1] * part).astype(
        np.uint8
    )
    return mixed


def overlay(image: Image.Image, values: npt.NDArray[Any]) -> Image.Image:
    """A photograph under a heat map, (h, w) in [0, 1], that is clearer where it is weaker."""
    plane = Image.fromarray(values.astype(np.float32)).resize(image.size, Image.Resampling.BILINEAR)
    strength = np.clip(np.asarray(plane), 0, 1)
    share = (0.25 + 0.5 * strength)[..., None]
    mixed = np.asarray(image) * (1 - share) + heat(strength) * share
    return Image.fromarray(mixed.astype(np.uint8))


def colour_labels(image: Image.Image, labels: npt.NDArray[np.uint8]) -> Image.Image:
    """A label map in VOC colours over the photograph; background dimmed, ignored pixels hatched."""
    colours = palette()[labels].astype(float)
    photo = np.asarray(image.resize(labels.shape[::-1])).astype(float)
    grey = photo.mean(2, keepdims=True) * 0.45 + 110
    shown = photo * (1 - _BLEND) + colours * _BLEND
    shown = np.where((labels == 0)[..., None], grey, shown)
    rows, columns = np.indices(labels.shape)
    stripe = ((rows + columns) // 4 % 2 == 0)[..., None]
    neutral = np.where(stripe, grey * 0.5 + 120, grey)
    shown = np.where((labels == IGNORE)[..., None], neutral, shown)
    return Image.fromarray(shown.clip(0, 255).astype(np.uint8))
