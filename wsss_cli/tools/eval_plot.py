"""The picture of ``wsss eval``: thresholds, classes and confusions, drawn with Pillow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from wsss_cli import files
from wsss_cli.drawing import CURVES, GRID, INK, PALE, PAPER, fitted, font, ticks
from wsss_cli.errors import ConfigurationError
from wsss_cli.tools.report import TOOL, Measured, facts

_LEFT, _MARGIN, _HEAD = 520, 24, 92  # pixels: width of the left half, around it, above it
_SWEEP = 330  # height of the thresholds
_BAR = 22  # height of the row of a class
_NAMES = 130  # width of class names


def check_picture(path: str | None) -> None:
    """Raise ConfigurationError if the picture would not be a PNG."""
    if path is not None and not path.lower().endswith(".png"):
        raise ConfigurationError(f"{path}: --plot is a picture, its name ends in .png")


def plot_result(path: str, measured: Measured) -> None:
    """Draw a result as PNG.

    On the left, where thresholds were tried, the mIoU and the means of precision and recall over
    the classes that occur at each of them; below, the IoU of each class. On the right the confusion
    matrix: the share of each true class's pixels (a row, which adds up to 1) by predicted class.

    Args:
        path: the file, which is replaced.
        measured: the result; classes that do not occur are left out.
    """
    iou = measured.confusion.iou()
    shown = [index for index in range(len(iou)) if not math.isnan(iou[index])]
    names = [measured.classes[index] for index in shown]
    shares, columns = _shares(measured, shown)
    cell = max(min(30, 620 // max(len(columns), 1)), 6)
    swept = len(measured.confusions) > 1
    bars_top = _HEAD + (_SWEEP if swept else 0)
    matrix_right = _LEFT + _NAMES + cell * len(columns) + _MARGIN
    bottom = max(bars_top + 50 + _BAR * len(names), _HEAD + _NAMES + 40 + cell * len(names))
    page = Image.new("RGB", (max(matrix_right, _LEFT + 420), bottom + 40), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, 14), f"mIoU {100 * measured.confusion.miou():.2f}", INK, font(22))
    lines = [line for line in facts(measured) if not line.startswith(("mean over", "made by"))]
    small = font(13)
    for place, line in enumerate(lines[:2]):
        room = page.width - 2 * _MARGIN
        draw.text((_MARGIN, 46 + 18 * place), fitted(line, small, room), PALE, small)
    if swept:
        _draw_sweep(draw, (_MARGIN, _HEAD, _LEFT - _MARGIN, bars_top), measured)
    _draw_bars(draw, bars_top, names, [float(iou[index]) for index in shown])
    _draw_matrix(page, cell, names, columns, shares)
    files.write_image(path, page, files.provenance(TOOL, {}))


def _shares(measured: Measured, shown: list[int]) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Shares of the pixels of each class that occurs, and the names of the columns."""
    counts = measured.confusion.counts
    columns = [measured.classes[index] for index in shown]
    if counts[:, -1].any():
        shown_columns, columns = [*shown, counts.shape[1] - 1], [*columns, "no prediction"]
    else:
        shown_columns = shown
    some = counts[np.ix_(shown, shown_columns)]
    return some / np.maximum(counts[shown].sum(1, keepdims=True), 1), columns


def _draw_sweep(draw: Any, box: tuple[int, int, int, int], measured: Measured) -> None:
    left, top, right, bottom = box[0] + 38, box[1] + 34, box[2], box[3] - 62
    small = font(13)
    draw.text((box[0], box[1]), "Background threshold", INK, font(17))
    low, high = measured.thresholds[0], measured.thresholds[-1]
    across = ticks(low, high)

    def spot(x: float, y: float) -> tuple[float, float]:
        along = (x - across[0]) / (across[-1] - across[0])
        return left + along * (right - left), bottom - y * (bottom - top)

    for value in ticks(0, 1):
        _, y = spot(across[0], value)
        draw.line((left, y, right, y), GRID)
        draw.text((left - 6, y), f"{100 * value:.0f}", PALE, small, anchor="rm")
    for value in across:
        x, _ = spot(value, 0)
        draw.line((x, bottom, x, bottom + 4), PALE)
        draw.text((x, bottom + 8), f"{value:g}", PALE, small, anchor="mt")
    place = measured.best
    best = measured.thresholds[place]
    draw.line((*spot(best, 0), *spot(best, 1)), PALE)
    draw.text((spot(best, 1)[0] + 5, top + 2), f"best {best:g}", PALE, small)
    x = float(left)
    for (name, values), colour in zip(measured.curves().items(), CURVES, strict=False):
        known = [
            spot(*point)
            for point in zip(measured.thresholds, values, strict=True)
            if not math.isnan(point[1])
        ]
        if len(known) > 1:
            draw.line(known, colour, width=3, joint="curve")
        draw.line((x, bottom + 38, x + 18, bottom + 38), colour, width=3)
        text = f"{name} {100 * values[place]:.2f}"
        draw.text((x + 24, bottom + 38), text, INK, small, anchor="lm")
        x += 24 + small.getlength(text) + 22


def _draw_bars(draw: Any, top: int, names: list[str], values: list[float]) -> None:
    small = font(13)
    draw.text((_MARGIN, top), "IoU of each class", INK, font(17))
    left, right, first = _MARGIN + _NAMES, _LEFT - _MARGIN - 46, top + 34
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        y = first + place * _BAR
        draw.text((left - 8, y + 8), fitted(name, small, _NAMES - 10), INK, small, anchor="rm")
        draw.rectangle((left, y, right, y + 16), GRID)
        draw.rectangle((left, y, left + value * (right - left), y + 16), CURVES[0])
        draw.text((right + 8, y + 8), f"{100 * value:.1f}", INK, small, anchor="lm")
    if values:
        x = left + sum(values) / len(values) * (right - left)
        draw.line((x, first - 4, x, first + len(values) * _BAR), CURVES[1], width=2)
        draw.text((x, first + len(values) * _BAR + 3), "mean", CURVES[1], small, anchor="ma")


def _draw_matrix(
    page: Image.Image,
    cell: int,
    names: list[str],
    columns: list[str],
    shares: npt.NDArray[np.float64],
) -> None:
    draw = ImageDraw.Draw(page)
    small = font(min(13, max(cell - 2, 7)))
    draw.text((_LEFT, _HEAD), "Confusion matrix, per cent of the true class", INK, font(17))
    left, top = _LEFT + _NAMES, _HEAD + 34 + _NAMES
    for place, name in enumerate(columns):
        text = fitted(name, small, _NAMES - 10)
        strip = Image.new("RGB", (_NAMES - 8, cell), PAPER)
        ImageDraw.Draw(strip).text((0, cell / 2), text, INK, small, anchor="lm")
        page.paste(strip.rotate(90, expand=True), (left + place * cell, top - _NAMES + 2))
    for row, name in enumerate(names):
        y = top + row * cell
        text = fitted(name, small, _NAMES - 10)
        draw.text((left - 8, y + cell / 2), text, INK, small, anchor="rm")
        for column in range(len(columns)):
            share = float(shares[row, column])
            colour = tuple(round(255 + share * (c - 255)) for c in CURVES[0])
            x = left + column * cell
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), colour)
            if cell >= 20 and share >= 0.005:
                ink = PAPER if share > 0.5 else INK
                spot = (x + cell / 2 - 1, y + cell / 2 - 1)
                draw.text(spot, f"{100 * share:.0f}", ink, font(11), anchor="mm")
    draw.text((left, top + len(names) * cell + 8), "rows: true, columns: predicted", PALE, font(13))
