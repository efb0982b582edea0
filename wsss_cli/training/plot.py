"""A small plot of a training run from its metrics log, drawn with Pillow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from wsss_cli.drawing import CURVES, GRID, INK, PALE, PAPER, fitted, font, ticks
from wsss_cli.files import provenance, write_image
from wsss_cli.training.outputs import PLOT

_SIZE = (900, 380)
_NOT_SCORES = {"step", "epoch", "loss", "lr", "images_per_second"}
_MOST_CURVES = 12  # of a panel
_LARGEST = 1e100  # a value beyond it is damage, and its squares are infinite

Points = list[tuple[float, float]]


def plot_metrics(log: str | Path, picture: str | Path) -> None:
    """Draw the loss, its parts and the validation scores of a run.

    Args:
        log: JSON lines with ``epoch`` and any of ``loss``, ``loss_…``, ``val_…``; lines that
            cannot be read are passed over.
        picture: the PNG to write; with no score in the log it has one panel.
    """
    curves = read_curves(log)
    loss = {name: curves.pop(name) for name in [*curves] if name.startswith("loss")}
    panels = [("loss", loss)] + ([("score", curves)] if curves else [])
    page = Image.new("RGB", _SIZE, PAPER)
    width = _SIZE[0] // len(panels)
    for place, (title, drawn) in enumerate(panels):
        _panel(page, (place * width, 0, (place + 1) * width, _SIZE[1]), title, drawn)
    write_image(picture, page, provenance(PLOT, {}))


def read_curves(log: str | Path) -> dict[str, Points]:
    """Points (epoch, value) of each quantity in a metrics log."""
    curves: dict[str, Points] = {"loss": []}
    for line in Path(log).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            epoch = row["epoch"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        for name, value in row.items() if _plain(epoch) else ():
            if (name == "loss" or name not in _NOT_SCORES) and _plain(value):
                curves.setdefault(name, []).append((float(epoch), float(value)))
    return curves


def _plain(value: Any) -> bool:
    """Whether a value is a number that can be drawn."""
    return isinstance(value, int | float) and -_LARGEST < value < _LARGEST  # NaN is not


def smooth(points: Points, share: float = 0.02) -> Points:
    """The running mean over about ``share`` of the points."""
    reach = max(int(len(points) * share), 0)
    if not reach:
        return points
    sums = [0.0, *accumulate(value for _, value in points)]
    made = []
    for place, (x, _) in enumerate(points):
        first, last = max(place - reach, 0), min(place + reach + 1, len(points))
        made.append((x, (sums[last] - sums[first]) / (last - first)))
    return made


def _panel(
    page: Image.Image, box: tuple[int, int, int, int], title: str, curves: dict[str, Points]
) -> None:
    draw = ImageDraw.Draw(page)
    left, top, right, bottom = box[0] + 62, box[1] + 44, box[2] - 24, box[3] - 46
    draw.text((left, box[1] + 14), title, INK, font(17))
    shown = dict(islice(curves.items(), _MOST_CURVES))
    lines = len(shown) + (len(curves) > len(shown))
    every = [point for points in shown.values() for point in points]
    if not every:
        draw.text((left, top + 20), "nothing was logged", PALE, font(14))
        return
    across = ticks(0, max(x for x, _ in every))
    lowest = min(y for _, y in every)
    up = ticks(min(0, lowest), max(y for _, y in every))

    def spot(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - across[0]) / (across[-1] - across[0]) * (right - left),
            bottom - (y - up[0]) / (up[-1] - up[0]) * (bottom - top),
        )

    for value in up:
        _, y = spot(across[0], value)
        draw.line((left, y, right, y), GRID)
        draw.text((left - 8, y), f"{value:g}", PALE, font(13), anchor="rm")
    for value in across:
        x, _ = spot(value, up[0])
        draw.line((x, bottom, x, bottom + 4), PALE)
        draw.text((x, bottom + 8), f"{value:g}", PALE, font(13), anchor="mt")
    draw.line((left, bottom, right, bottom), PALE)
    draw.text(((left + right) / 2, box[3] - 16), "epoch", PALE, font(13), anchor="mm")
    style = font(13)
    for place, (name, points) in enumerate(shown.items()):
        colour = CURVES[place % len(CURVES)]
        _curve(draw, [spot(*point) for point in points], [spot(*p) for p in smooth(points)], colour)
        if len(curves) > 1 or name != title:
            x = right - 150
            y = (bottom - 20 * lines + 20 * place) - 6
            draw.line((x, y, x + 18, y), colour, width=3)
            last = f"  {points[-1][1]:.3f}" if abs(points[-1][1]) < 1e6 else ""
            room = right - x - 26 - style.getlength(last)
            text = fitted(name.removeprefix("val_"), style, room) + last
            draw.text((x + 26, y), text, INK, style, anchor="lm")
    if more := len(curves) - len(shown):
        draw.text((right - 124, bottom - 26), f"and {more:,} more", INK, style, anchor="lm")


def _curve(draw: Any, raw: Sequence[Any], smoothed: Sequence[Any], colour: Any) -> None:
    if len(raw) > len(smoothed) or len(raw) > 50:
        pale = tuple((c + 2 * 255) // 3 for c in colour)
        draw.line(list(raw), pale)
    if len(smoothed) > 1:
        draw.line(list(smoothed), colour, width=3, joint="curve")
    if len(raw) <= 50:
        for x, y in raw:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), colour)
