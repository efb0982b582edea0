"""The landscape of the toy set: ground, sky, trees, grass, and props that belong to no class."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from wsss_cli.datasets.toy.shapes import (
    Colour,
    Field,
    Layer,
    Piece,
    Points,
    blend,
    ellipse,
    fractal,
    limb,
    noise,
    scaled,
)

GRASS = 255  # part number of grass and flowers, which do not count as props


class Biome(NamedTuple):
    """Colours of a landscape: the sky, the distance, three of the ground, two of the grass."""

    sky: Colour
    far: Colour
    ground: tuple[Colour, Colour, Colour]
    grass: tuple[Colour, Colour]


_BIOMES: tuple[Biome, ...] = (
    Biome(
        (176, 206, 232),
        (70, 104, 72),
        ((98, 132, 58), (126, 150, 74), (84, 98, 48)),
        ((74, 116, 40), (150, 172, 88)),
    ),  # meadow
    Biome(
        (150, 172, 150),
        (44, 66, 46),
        ((84, 76, 48), (62, 82, 44), (112, 92, 62)),
        ((56, 88, 40), (104, 112, 62)),
    ),  # wood
    Biome(
        (214, 206, 196),
        (150, 96, 52),
        ((156, 108, 60), (122, 84, 50), (178, 134, 72)),
        ((190, 124, 50), (132, 74, 38)),
    ),  # autumn
    Biome(
        (206, 218, 232),
        (116, 128, 142),
        ((226, 230, 238), (196, 206, 222), (168, 170, 172)),
        ((148, 138, 110), (112, 108, 96)),
    ),  # snow
    Biome(
        (188, 196, 212),
        (96, 84, 108),
        ((112, 94, 92), (96, 104, 66), (132, 104, 116)),
        ((146, 104, 136), (98, 104, 62)),
    ),  # heath
    Biome(
        (222, 212, 184),
        (132, 122, 80),
        ((190, 164, 108), (166, 138, 90), (206, 184, 132)),
        ((200, 178, 104), (146, 126, 70)),
    ),  # savanna
    Biome(
        (182, 198, 208),
        (92, 102, 100),
        ((132, 130, 126), (104, 106, 108), (156, 150, 140)),
        ((96, 112, 66), (122, 116, 84)),
    ),  # scree
)


def paint_place(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Field, Biome, float]:
    """An empty landscape.

    Returns:
        The picture, float32 (3, H, W) of about 0 to 255; its biome; the first row of the ground.
    """
    height = shape[0]
    biome = _BIOMES[rng.integers(len(_BIOMES))]
    horizon = height * rng.uniform(0.15, 0.42) if rng.random() < 0.75 else 0.0
    grain = 1 + noise(rng, shape, (1.2, 2.2)) * np.float32(0.12)
    grain += fractal(rng, shape, 7, 2) * np.float32(0.2)
    mix = fractal(rng, shape, height / 3, 3)
    shares = np.stack([-mix, 1 - abs(mix), mix]).clip(0, 1)
    ground = np.tensordot(np.array(biome.ground, np.float32).T, shares, 1)
    ground *= grain
    if horizon > 0:
        _paint_distance(rng, ground[:, : int(horizon) + 6], biome, horizon)
    return ground, biome, horizon


def _paint_distance(rng: np.random.Generator, above: Field, biome: Biome, horizon: float) -> None:
    """Paint sky and trees over the upper rows of the picture, in place."""
    shape = height, width = above.shape[1], above.shape[2]
    rows = np.arange(height, dtype=np.float32)[:, None]
    sky = 1.1 - 0.2 * rows / height + 0.14 * noise(rng, shape, (width / 9, width / 5)).clip(0, 1)
    trees = 1 + np.float32(0.55) * fractal(rng, shape, 12, 2)
    tone = blend(biome.far, biome.sky, rng.uniform(0, 0.35))
    crowns = _line(rng, width, 9) * 0.35 + _line(rng, width, width / 4) * 0.65
    top = horizon * (1 - rng.uniform(0.2, 0.9)) + crowns * horizon * 0.22
    is_ground = (rows - horizon - _line(rng, width, 4) * 3).clip(0, 1).astype(np.float32)
    is_trees = (rows - top).clip(0, 1).astype(np.float32)
    for plane, blue, green in zip(above, biome.sky, tone, strict=True):
        distant = sky * np.float32(blue)
        distant += (trees * np.float32(green) - distant) * is_trees
        plane += (distant - plane) * (1 - is_ground)


def _line(rng: np.random.Generator, width: int, waves: float) -> Field:
    """A wavy line: a value of about -1 to 1 for each column."""
    line: Field = noise(rng, (2, width), (2, width / waves))[0]
    return line


def scatter(rng: np.random.Generator, layer: Layer, biome: Biome, horizon: float) -> None:
    """Paint grass and flowers all over the ground."""
    height, width = layer.shape
    count = int(rng.integers(20, 100))
    x = rng.uniform(0, width, count)
    y = np.sort(rng.uniform(horizon + 4, height + 6, count))
    tall = rng.uniform(3, 9, count) * (0.5 + 0.8 * y / height)
    lean = rng.uniform(-0.5, 0.5, count) * tall
    blades = np.stack([x, y, x + lean, y - tall], axis=1).reshape(count, 2, 2)
    for blade, tone, light in zip(
        blades, rng.uniform(0, 1, count), rng.uniform(0.75, 1.2, count), strict=True
    ):
        layer.stroke(blade, scaled(blend(*biome.grass, tone), light), GRASS, 0.8)
    if rng.random() < 0.4:
        hue = scaled(_FLOWERS[rng.integers(len(_FLOWERS))], rng.uniform(0.8, 1.1))
        for px, py in zip(
            rng.uniform(0, width, 14), rng.uniform(horizon + 6, height, 14), strict=True
        ):
            layer.paint(Piece(ellipse(px, py, 1.5, 1.3), hue, GRASS))


_FLOWERS: tuple[Colour, ...] = (
    (236, 214, 90),
    (232, 232, 236),
    (196, 90, 120),
    (150, 120, 200),
    (214, 80, 54),
)


# ---- props ---------------------------------------------------------------------------------------
# Each is about 1 unit high and stands on (0, 0).

Maker = Callable[[np.random.Generator, Biome], list[tuple[Points, Colour, bool]]]


def _stone(rng: np.random.Generator, biome: Biome) -> list[tuple[Points, Colour, bool]]:
    tone = blend((138, 132, 126), (150, 116, 84), rng.uniform(0, 1))
    turn = np.linspace(0, 2 * np.pi, 11, endpoint=False)
    reach = rng.uniform(0.75, 1.1, 11)
    outline = np.stack([np.cos(turn) * reach * 0.75, np.sin(turn) * reach * 0.5 - 0.4], axis=1)
    lit = outline * (0.7, 0.55) + (-0.08, -0.25)
    return [(outline, scaled(tone, 0.82), True), (lit, scaled(tone, 1.12), False)]


def _bush(rng: np.random.Generator, biome: Biome) -> list[tuple[Points, Colour, bool]]:
    pieces = []
    for _ in range(9):
        x, y = rng.uniform(-0.6, 0.6), rng.uniform(-0.85, -0.15)
        colour = scaled(blend(*biome.grass, rng.uniform(0, 1)), 0.6 + 0.5 * -y)
        pieces.append((ellipse(x * (1.1 + y / 2), y, 0.36, 0.3), colour, False))
    return pieces


def _trunk(rng: np.random.Generator, biome: Biome) -> list[tuple[Points, Colour, bool]]:
    bark = scaled(blend((112, 84, 62), (128, 122, 114), rng.uniform(0, 1)), rng.uniform(0.7, 1.1))
    lean = rng.uniform(-0.12, 0.12)
    stem = limb([(0, 0.02), (lean / 3, -0.5), (lean, -9)], [0.46, 0.34, 0.3])
    lit = limb([(-0.07, 0), (lean / 3 - 0.06, -0.5), (lean - 0.05, -9)], [0.14, 0.1, 0.08])
    return [(stem, bark, True), (lit, scaled(bark, 1.25), False)]


def _log(rng: np.random.Generator, biome: Biome) -> list[tuple[Points, Colour, bool]]:
    bark = scaled((124, 92, 64), rng.uniform(0.75, 1.2))
    tilt = rng.uniform(-0.12, 0.12)
    side = rng.choice([-1, 1])
    stem = limb([(-1.0, -0.3 - tilt), (0, -0.3), (1.0, -0.3 + tilt)], [0.56, 0.54, 0.56])
    end = ellipse(side * 1.0, -0.3 + side * tilt, 0.17, 0.28)
    core = ellipse(side * 1.0, -0.3 + side * tilt, 0.08, 0.14)
    wood: Colour = (206, 172, 122)
    return [(stem, bark, True), (end, wood, True), (core, scaled(wood, 0.8), False)]


def _toadstools(rng: np.random.Generator, biome: Biome) -> list[tuple[Points, Colour, bool]]:
    pieces: list[tuple[Points, Colour, bool]] = []
    for x in rng.uniform(-0.8, 0.8, 3):
        tall = rng.uniform(0.5, 1.0)
        pieces.append((limb([(x, 0), (x, -tall)], [0.2, 0.14]), (232, 222, 202), False))
        cap = ellipse(x, -tall, 0.36, 0.27)
        cap[:, 1] = np.minimum(cap[:, 1], -tall + 0.08)
        pieces.append((cap, (188, 56, 42), True))
        for dx, dy in ((-0.14, -0.1), (0.12, -0.14), (0.0, -0.02)):
            pieces.append((ellipse(x + dx, -tall + dy, 0.06, 0.05), (244, 236, 226), False))
    return pieces


def _fence(rng: np.random.Generator, biome: Biome) -> list[tuple[Points, Colour, bool]]:
    wood = scaled((152, 128, 100), rng.uniform(0.75, 1.15))
    pieces: list[tuple[Points, Colour, bool]] = []
    for y in (-0.75, -0.4):
        rail = limb([(-1.9, y + rng.uniform(-0.06, 0.06)), (1.9, y)], [0.12, 0.12])
        pieces.append((rail, scaled(wood, 0.9), True))
    for x in (-1.6, -0.55, 0.5, 1.55):
        pieces.append((limb([(x, 0.02), (x, -1.0)], [0.17, 0.15]), wood, True))
    return pieces


PROPS: dict[
    str, tuple[Maker, float, float]
] = {  # maker; least and greatest height, as a share of the picture's
    "stone": (_stone, 0.1, 0.26),
    "bush": (_bush, 0.18, 0.42),
    "trunk": (_trunk, 0.3, 0.55),
    "log": (_log, 0.12, 0.3),
    "toadstools": (_toadstools, 0.1, 0.2),
    "fence": (_fence, 0.2, 0.34),
}


def make_prop(
    rng: np.random.Generator, name: str, biome: Biome, part: int, *, scale: float
) -> list[Piece]:
    """A prop standing on (0, 0), in pixels.

    Args:
        rng: random generator.
        name: one of :data:`PROPS`.
        biome: the landscape it stands in.
        part: its part number in the layer.
        scale: factor of the heights in :data:`PROPS`, in pixels: the height of the picture, or less
            for a prop farther away.
    """
    maker, low, high = PROPS[name]
    size = scale * rng.uniform(low, high)
    return [
        Piece(points * size, colour, part, edged) for points, colour, edged in maker(rng, biome)
    ]
