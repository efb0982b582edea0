"""Polygons, noise and layers, from which the pictures of the toy set are made.

Coordinates are (x, y) in pixels, x to the right and y down; colours are 0 to 255.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter

Points = NDArray[np.float64]  # (n, 2), x and y
Field = NDArray[np.float32]  # (H, W), or (3, H, W): separate planes of colour multiply fastest
Colour = tuple[float, float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom

_FINE = 2  # layers are drawn this many times larger and then averaged, for soft edges
_TURN = np.linspace(0, 2 * np.pi, 18, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_COVERED = [0] + [255] * 255  # part number -> 255 where there is any part


class Piece(NamedTuple):
    """A filled polygon.

    Attributes:
        points: its corners.
        colour: its fill.
        part: number, 1 to 255, of the part of the picture that it belongs to.
        edged: whether it has a darker edge, which separates it from pieces of the same colour.
    """

    points: Points
    colour: Colour
    part: int
    edged: bool = False


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> Points:
    """An ellipse around (x, y), rotated clockwise on the screen."""
    return np.add(rotated(_CIRCLE * (rx, ry), degrees), (x, y))


def limb(spine: ArrayLike, widths: ArrayLike) -> Points:
    """A ribbon along the points of ``spine`` with a width at each of them."""
    line = np.asarray(spine, dtype=np.float64)
    along = np.empty_like(line)
    along[1:-1], along[0], along[-1] = line[2:] - line[:-2], line[1] - line[0], line[-1] - line[-2]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    across *= np.asarray(widths)[:, None] / 2 / (np.hypot(*across.T)[:, None] + 1e-9)
    return np.concatenate([line + across, (line - across)[::-1]])


def rotated(points: Points, degrees: float) -> Points:
    """``points`` rotated around the origin, clockwise on the screen."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn: Points = points @ np.array([(cos, sin), (-sin, cos)])
    return turn


def placed(
    pieces: Sequence[Piece], at: tuple[float, float], scale: tuple[float, float] = (1.0, 1.0)
) -> list[Piece]:
    """``pieces`` scaled around the origin and then moved to ``at``."""
    return [
        Piece(np.add(points * scale, at), colour, part, edged)
        for points, colour, part, edged in pieces
    ]


def box(pieces: Sequence[Piece], part: int | None = None) -> Box:
    """Bounding box of the pieces, or of those of a given part."""
    points = np.concatenate([p.points for p in pieces if part is None or p.part == part])
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def scaled(colour: Colour, factor: float) -> Colour:
    """A lighter (factor > 1) or darker colour."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def blend(a: Colour, b: Colour, share: float) -> Colour:
    """A mix of the two colours with a ``share`` of ``b``."""
    return (
        a[0] + (b[0] - a[0]) * share,
        a[1] + (b[1] - a[1]) * share,
        a[2] + (b[2] - a[2]) * share,
    )


def _rgba(colour: Colour, part: int) -> tuple[int, int, int, int]:
    red, green, blue = colour
    return int(min(red, 255)), int(min(green, 255)), int(min(blue, 255)), part


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float]) -> Field:
    """Smooth noise of about -1 to 1 with blobs of ``cell`` = (height, width) pixels.

    It is a random window of a larger field that is computed once, as noise would otherwise take
    most of the time. Sizes of blobs are rounded to powers of sqrt(2).
    """
    height, width = shape
    steps = round(2 * math.log2(cell[0])), round(2 * math.log2(cell[1]))
    side = 1 << math.ceil(math.log2(2 * max(shape)))
    down, across, upside_down, mirrored = rng.random(4).tolist()
    top, left = int(down * (side - height)), int(across * (side - width))
    window = _field(side, steps)[top : top + height, left : left + width]
    return window[:: -1 if upside_down < 0.5 else 1, :: -1 if mirrored < 0.5 else 1]


@functools.lru_cache(maxsize=64)
def _field(side: int, steps: tuple[int, int]) -> Field:
    """Noise of ``side`` × ``side`` pixels with blobs of 2 ** (steps / 2) pixels."""
    rows, columns = (max(2, round(side / 2 ** (step / 2))) for step in steps)
    rng = np.random.default_rng([side, *(step + 99 for step in steps)])
    grid = Image.fromarray(rng.random((rows, columns), dtype=np.float32) * 2 - 1)
    field = np.array(grid.resize((side, side), Image.Resampling.BICUBIC))
    field.flags.writeable = False  # all windows are views of it
    return field


def fractal(rng: np.random.Generator, shape: tuple[int, int], cell: float, octaves: int) -> Field:
    """Sum of noise of about -1 to 1 with blobs of ``cell``, a third of it, a ninth, …"""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        size = cell / 3**octave
        total += noise(rng, shape, (size, size)) * np.float32(0.7 * 0.5**octave)
    return total


def blur(field: Field, radius: float) -> Field:
    """A smoothed field in [0, 1], to 8-bit precision; ``radius`` is about that of a Gaussian."""
    soften = ImageFilter.BoxBlur(radius)  # applied twice, close to a Gaussian and faster
    picture = Image.fromarray((field * 255).astype(np.uint8)).filter(soften).filter(soften)
    return np.asarray(picture) * np.float32(1 / 255)


class Rendered(NamedTuple):
    """A finished layer over an area of h × w pixels of the picture.

    Attributes:
        colour: float32 (3, h, w), multiplied by ``cover``.
        cover: float32 (h, w), the share of each pixel that the layer covers.
        parts: uint8 (h, w), part number of the piece at the pixel's centre, 0 without a piece.
        area: rows and columns of the picture that it covers.
    """

    colour: Field
    cover: Field
    parts: NDArray[np.uint8]
    area: tuple[slice, slice]

    def over(self, picture: Field) -> None:
        """Lay this layer over ``picture`` (3, H, W), in place."""
        below = picture[:, *self.area]
        below *= 1 - self.cover
        below += self.colour


class Layer:
    """Pieces painted over each other on a transparent ground.

    Args:
        shape: (H, W) of the picture.
        around: bounding box of everything that will be painted; None for the whole picture.
    """

    def __init__(self, shape: tuple[int, int], around: Box | None = None) -> None:
        left, top, right, bottom = around or (0, 0, shape[1], shape[0])
        # At least 1 × 1 pixel, also for a box outside the picture.
        x0, y0 = (int(np.clip(v - 1, 0, n - 1)) for v, n in ((left, shape[1]), (top, shape[0])))
        x1, y1 = (
            int(np.clip(right + 2, x0 + 1, shape[1])),
            int(np.clip(bottom + 2, y0 + 1, shape[0])),
        )
        self.area = slice(y0, y1), slice(x0, x1)
        self.shape = y1 - y0, x1 - x0
        self._origin = x0, y0
        self._image = Image.new("RGBA", (self.shape[1] * _FINE, self.shape[0] * _FINE))
        self._draw = ImageDraw.Draw(self._image)

    def _corners(self, points: Points) -> list[float]:
        corners: list[float] = ((points - self._origin) * _FINE).ravel().tolist()
        return corners

    def paint(self, piece: Piece) -> None:
        """Paint a piece over the pieces painted before."""
        corners = self._corners(piece.points)
        self._draw.polygon(corners, fill=_rgba(piece.colour, piece.part))
        if piece.edged:
            edge = _rgba(scaled(piece.colour, 0.68), piece.part)
            self._draw.line([*corners, *corners[:2]], fill=edge, width=_FINE)

    def stroke(self, points: Points, colour: Colour, part: int, width: float) -> None:
        """Paint a line."""
        fill = _rgba(colour, part)
        self._draw.line(self._corners(points), fill=fill, width=max(1, round(width * _FINE)))

    def render(self) -> Rendered:
        """The finished layer, with soft edges."""
        *planes, parts = self._image.split()
        colour = np.empty((3, *self.shape), np.float32)
        for target, plane in zip(colour, planes, strict=True):
            target[:] = np.asarray(plane.reduce(_FINE))
        cover = np.asarray(parts.point(_COVERED).reduce(_FINE)) * np.float32(1 / 255)
        numbers = np.asarray(parts)[_FINE // 2 :: _FINE, _FINE // 2 :: _FINE]
        return Rendered(colour, cover, numbers, self.area)
