"""The five animals of the toy set.

All have the same body: trunk, legs, tail and pose have the same distribution for all animals. Half
of the coats do as well; the other half have the usual colour or pattern of the animal. Only the
head identifies the animal reliably, so a classifier relies on it, and its activation maps cover the
head well and the body poorly, as they do on photographs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wsss_cli.datasets.toy.shapes import (
    Colour,
    Field,
    Piece,
    Points,
    Rendered,
    blend,
    blur,
    ellipse,
    limb,
    noise,
    placed,
    rotated,
    scaled,
)

BODY, LEGS, HEAD = 1, 2, 3  # part numbers

_COATS: tuple[Colour, ...] = (
    (164, 88, 52),
    (176, 116, 66),
    (150, 140, 130),
    (196, 158, 112),
    (92, 68, 54),
    (112, 106, 104),
    (134, 92, 62),
    (120, 112, 84),
    (206, 190, 168),
    (178, 168, 156),
)
_PATTERNS = ("plain", "patches", "spots", "stripes")
_BONE: Colour = (226, 208, 172)
_DARK: Colour = (34, 28, 28)
_WHITE: Colour = (240, 234, 224)
_PINK: Colour = (224, 160, 150)


# ---- heads ---------------------------------------------------------------------------------------
# In units of the skull, a circle of about radius 1 around (0, 0). ``yaw``, from -1 to 1, turns the
# face to the left or right.


def _both(left: Points) -> tuple[Points, Points]:
    return left, left * (-1, 1)


def _eyes(yaw: float, y: float = -0.1, apart: float = 0.4) -> list[Piece]:
    pieces = []
    for side in (-apart, apart):
        x = side + 0.3 * yaw
        pieces.append(Piece(ellipse(x, y, 0.15, 0.18), _DARK, HEAD))
        pieces.append(Piece(ellipse(x + 0.05, y - 0.07, 0.06, 0.06), _WHITE, HEAD))
    return pieces


def _fox(coat: Colour, yaw: float) -> list[Piece]:
    pieces = []
    for ear in _both(np.array([(-0.98, -0.2), (-0.9, -1.65), (-0.1, -0.75)])):
        pieces.append(Piece(ear, coat, HEAD, True))
        pieces.append(Piece(ear * (0.8, 0.78) + (0, -0.12), _DARK, HEAD))
    chin = 0.35 * yaw
    face = [(-0.7, -0.75), (0.7, -0.75), (1.25, 0.2), (chin, 1.25), (-1.25, 0.2)]
    mask = [(-1.2, 0.22), (-0.35, 0.12), (chin * 0.6, 0.5), (0.35, 0.12), (1.2, 0.22), (chin, 1.22)]
    pieces.append(Piece(np.array(face), coat, HEAD, True))
    pieces.append(Piece(np.array(mask), _WHITE, HEAD))
    pieces.append(Piece(ellipse(chin, 1.08, 0.2, 0.16), _DARK, HEAD))
    return pieces + _eyes(yaw)


def _hare(coat: Colour, yaw: float) -> list[Piece]:
    pieces = []
    for turn, x in ((-14, -0.42), (12, 0.42)):
        pieces.append(Piece(ellipse(x, -1.5, 0.3, 1.05, turn), coat, HEAD, True))
        pieces.append(Piece(ellipse(x, -1.45, 0.15, 0.8, turn), _PINK, HEAD))
    pieces.append(Piece(ellipse(0, 0, 0.85, 0.88), coat, HEAD, True))
    for side in (-0.22, 0.22):
        pieces.append(Piece(ellipse(side + 0.35 * yaw, 0.5, 0.3, 0.26), _WHITE, HEAD))
    pieces.append(Piece(ellipse(0.35 * yaw, 0.3, 0.13, 0.1), _PINK, HEAD))
    return pieces + _eyes(yaw)


def _bear(coat: Colour, yaw: float) -> list[Piece]:
    pieces = []
    for side in (-0.78, 0.78):
        pieces.append(Piece(ellipse(side, -0.72, 0.42, 0.42), coat, HEAD, True))
        pieces.append(Piece(ellipse(side, -0.68, 0.22, 0.22), scaled(coat, 0.6), HEAD))
    pieces.append(Piece(ellipse(0, 0, 1.08, 1.0), coat, HEAD, True))
    pieces.append(Piece(ellipse(0.4 * yaw, 0.42, 0.55, 0.46), (222, 188, 140), HEAD))
    pieces.append(Piece(ellipse(0.4 * yaw, 0.22, 0.24, 0.17), _DARK, HEAD))
    return pieces + _eyes(yaw, y=-0.2)


def _deer(coat: Colour, yaw: float) -> list[Piece]:
    pieces = []
    for side in (-1, 1):
        for spine, widths in (
            ([(0.25, -0.7), (0.6, -1.25), (0.85, -1.75), (0.72, -2.3)], [0.26, 0.24, 0.2, 0.12]),
            ([(0.55, -1.2), (1.0, -1.35), (1.3, -1.8)], [0.2, 0.18, 0.1]),
            ([(0.8, -1.65), (0.45, -1.85), (0.35, -2.2)], [0.18, 0.16, 0.1]),
        ):
            antler = limb([(side * x, y) for x, y in spine], widths)
            pieces.append(Piece(antler, _BONE, HEAD, True))
        pieces.append(Piece(ellipse(side * 0.95, -0.42, 0.45, 0.2, -side * 22), coat, HEAD, True))
    pieces.append(Piece(ellipse(0, -0.15, 0.68, 0.75), coat, HEAD, True))
    pieces.append(Piece(ellipse(0.3 * yaw, 0.45, 0.48, 0.72), coat, HEAD))
    pieces.append(Piece(ellipse(0.4 * yaw, 0.85, 0.4, 0.32), scaled(_WHITE, 0.9), HEAD))
    pieces.append(Piece(ellipse(0.4 * yaw, 0.72, 0.24, 0.16), _DARK, HEAD))
    return pieces + _eyes(yaw, apart=0.46)


def _ram(coat: Colour, yaw: float) -> list[Piece]:
    pieces = []
    wool = blend(coat, _WHITE, 0.35)
    face = blend(_DARK, coat, 0.3)
    pieces.append(Piece(ellipse(0, 0.15, 0.6, 0.95), face, HEAD, True))
    pieces.append(Piece(ellipse(0.3 * yaw, 0.85, 0.36, 0.28), scaled(face, 1.35), HEAD))
    for x, y in ((-0.4, -0.6), (0.4, -0.6), (0, -0.8)):
        pieces.append(Piece(ellipse(x, y, 0.45, 0.36), wool, HEAD))
    turn = np.linspace(-2.2, 3.4, 12)
    reach = np.linspace(0.72, 0.22, 12)
    width = np.linspace(0.46, 0.16, 12)
    spiral = np.stack([0.98 + reach * np.cos(turn), reach * np.sin(turn) - 0.1], axis=1)
    for side in (-1, 1):
        curl = spiral * (side, 1)
        pieces.append(Piece(limb(curl, width), _BONE, HEAD, True))
        for step in range(1, 9, 2):
            ridge = limb([curl[step], curl[step] * 0.98 + 0.02], [0.3, 0.3])
            pieces.append(Piece(ridge, scaled(_BONE, 0.62), HEAD))
    return pieces + [piece._replace(colour=_WHITE) for piece in _eyes(yaw, y=0.05, apart=0.34)[::2]]


_HEADS: dict[str, Callable[[Colour, float], list[Piece]]] = {
    "fox": _fox,
    "hare": _hare,
    "bear": _bear,
    "deer": _deer,
    "ram": _ram,
}
CLASSES: tuple[str, ...] = tuple(_HEADS)  # usual coats of class n: the n-th pair of _COATS
_USUAL = dict(zip(CLASSES, ("plain", "patches", "plain", "spots", "stripes"), strict=True))
_ODD = 0.5  # how often the colour, and the pattern, of a coat is drawn from all coats


# ---- bodies --------------------------------------------------------------------------------------


def _leg(x: float, top: float, ground: float, swing: float, coat: Colour) -> list[Piece]:
    knee = (x + 0.35 * swing + 0.03, top + 0.55 * (ground - top))
    shin = limb([(x, top), knee, (x + swing, ground)], [0.21, 0.11, 0.085])
    paw = ellipse(x + swing + 0.03, ground - 0.025, 0.085, 0.045)
    return [Piece(shin, coat, LEGS), Piece(paw, scaled(coat, 0.7), LEGS)]


def make_animal(rng: np.random.Generator, name: str) -> list[Piece]:
    """An animal looking to the right, in units of the length of its trunk, feet at y = 0.

    Args:
        rng: random generator; its draws for the body are the same for every ``name``.
        name: one of :data:`CLASSES`.
    """
    usual = 2 * CLASSES.index(name) + int(rng.integers(2)), int(rng.integers(len(_COATS)))
    coat = scaled(_COATS[usual[int(rng.random() < _ODD)]], rng.uniform(0.85, 1.15))
    fat = rng.uniform(0.85, 1.15)
    lying = rng.random() < 0.2
    ground = 0.2 * fat + (0.06 if lying else rng.uniform(0.26, 0.46))
    swings = rng.uniform(-0.14, 0.14, 4)
    steep = -rng.uniform(20, 80) if lying or rng.random() < 0.75 else rng.uniform(-5, 30)
    reach = rng.uniform(0.32, 0.44)
    size = rng.uniform(0.22, 0.28)

    pieces: list[Piece] = []
    near = [(0.31, 0.05), (-0.34, 0.05)]
    far = [(0.22, 0.0), (-0.25, 0.0)]
    if not lying:
        for (x, top), swing in zip(far, swings[:2], strict=True):
            pieces += _leg(x, top, ground - 0.03, float(swing), scaled(coat, 0.6))
    pieces.append(Piece(_tail(rng), scaled(coat, 0.85), BODY))
    head = 0.42 + reach * np.cos(np.deg2rad(steep)), reach * np.sin(np.deg2rad(steep)) - 0.14
    neck = limb([(0.3, -0.02), (0.45, -0.12), head], [0.5 * fat, 0.4 * fat, size * 1.4])
    for part in (
        ellipse(0, 0, 0.52, 0.25 * fat),
        ellipse(0.27, -0.03, 0.26, 0.28 * fat),
        ellipse(-0.3, -0.01, 0.25, 0.27 * fat),
        neck,
    ):
        pieces.append(Piece(part, coat, BODY))
    for (x, top), swing in zip(near, swings[2:], strict=True):
        if lying:
            paw = ellipse(x + 0.12, ground - 0.06, 0.22, 0.065)
            pieces.append(Piece(paw, scaled(coat, 0.8), LEGS))
        else:
            pieces += _leg(x, top, ground, float(swing), scaled(coat, 0.92))
    roll, yaw = rng.uniform(-14, 14), rng.uniform(-0.8, 1)
    for piece in _HEADS[name](scaled(coat, 1.06), yaw):
        turned = np.add(rotated(piece.points * size, roll), head)
        pieces.append(piece._replace(points=turned))
    return placed(pieces, (0, -ground))


def _tail(rng: np.random.Generator) -> Points:
    length, angle, thick = rng.uniform(0.12, 0.5), rng.uniform(-0.9, 1.1), rng.uniform(0.06, 0.17)
    middle = (-0.46 - 0.55 * length * np.cos(angle), -0.12 + 0.55 * length * np.sin(angle))
    bend = angle + rng.uniform(-0.8, 0.8)
    end = (middle[0] - 0.5 * length * np.cos(bend), middle[1] + 0.5 * length * np.sin(bend))
    return limb([(-0.42, -0.1), middle, end], [0.07, thick, 0.03])


def dress(rng: np.random.Generator, layer: Rendered, name: str, length: float) -> None:
    """Give a painted animal its fur, the pattern of its coat and light from above, in place.

    Args:
        rng: random generator.
        layer: a layer with only the animal.
        name: its class.
        length: length of its trunk, in pixels.
    """
    shape = layer.parts.shape
    fur = noise(rng, shape, (1.6, 4.0)) * np.float32(0.16)
    shade = 1 + fur + noise(rng, shape, (length / 3, length / 3)) * np.float32(0.1)
    rows = np.flatnonzero(layer.parts.any(axis=1))
    if rows.size:
        fall = (np.arange(shape[0]) - rows[0]) / max(rows[-1] - rows[0], 1)
        shade *= (1.18 - 0.42 * fall.clip(0, 1)).astype(np.float32)[:, None]
    round_ = blur(layer.cover, max(length / 16, 1.5))
    lift = max(1, round(length / 22))
    shade += (round_ - np.roll(round_, lift, axis=0)) * np.float32(1.0)  # lit from above
    shade *= 0.72 + 0.28 * round_
    layer.colour[:] *= shade
    kind = _PATTERNS[rng.integers(len(_PATTERNS))]
    pattern = _pattern(rng, kind if rng.random() < _ODD else _USUAL[name], shape, length)
    if pattern is not None:
        weight = np.where(layer.parts == HEAD, np.float32(0.0), pattern)
        tones = rng.uniform(0.45, 1.35) * rng.uniform(0.93, 1.07, 3)
        for plane, tone in zip(layer.colour, tones, strict=True):
            plane *= 1 + weight * np.float32(tone - 1)


def _pattern(
    rng: np.random.Generator, kind: str, shape: tuple[int, int], length: float
) -> Field | None:
    """Share of the coat's second colour by pixel, in [0, 1]; None for a plain coat."""
    if kind == "plain":
        return None
    if kind == "patches":
        field = noise(rng, shape, (length / 4, length / 4)) * 5
    elif kind == "spots":
        field = noise(rng, shape, (length / 14, length / 14)) * 6 - 2
    else:
        wave = np.arange(shape[1], dtype=np.float32) * np.float32(2 * np.pi * 7 / length)
        field = 3 * np.sin(wave + 2.5 * noise(rng, shape, (length / 3, length / 3))) - 1
    return np.asarray(field, dtype=np.float32).clip(0, 1)
