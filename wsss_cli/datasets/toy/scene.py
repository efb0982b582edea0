"""A picture of the toy set: the scene, its ground-truth mask, and a saliency map with faults.

Everything follows from (seed, split, index), so a picture is the same whatever the number of
pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsss_cli.classes import IGNORE
from wsss_cli.datasets.toy.animals import CLASSES, HEAD, LEGS, dress, make_animal
from wsss_cli.datasets.toy.scenery import GRASS, PROPS, Biome, make_prop, paint_place, scatter
from wsss_cli.datasets.toy.shapes import Box, Field, Layer, Piece, blur, box, noise, placed

SPLITS = ("train", "val")
SMALLEST = 64  # long side, in pixels; in smaller pictures heads cannot be recognised

_USUAL = dict(zip(CLASSES, ("log", "toadstools", "trunk", "bush", "fence"), strict=True))
_SHARE = {
    1: (0.72, 1.2),
    2: (0.54, 0.84),
    3: (0.44, 0.62),
}  # size of an animal by the number of animals
_FEWEST_PIXELS = 20  # animals with fewer visible pixels are ignored and not annotated


@dataclass(frozen=True)
class Scene:
    """A picture and its ground truth.

    Attributes:
        image: uint8 (H, W, 3).
        mask: uint8 (H, W): 0 background, class numbers from 1, 255 along the outlines of animals.
        saliency: uint8 (H, W), 255 salient, with faults.
        objects: class and (left, top, right, bottom), in pixels, of each visible animal; ``right``
            and ``bottom`` are outside.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    saliency: NDArray[np.uint8]
    objects: tuple[tuple[str, tuple[int, int, int, int]], ...]


@dataclass(frozen=True)
class _Animal:
    """An animal at its place in the picture; ``length`` is that of its trunk, in pixels."""

    name: str
    pieces: list[Piece]
    length: float
    whole: Box
    head: Box


def make_scene(seed: int, split: str, index: int, size: int) -> Scene:
    """Draw picture ``index`` of a split.

    Args:
        seed: random seed of the whole set, at least 0.
        split: one of :data:`SPLITS`.
        index: at least 0.
        size: the long side in pixels, at least :data:`SMALLEST`.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    short, square = size * 3 // 4, size * 7 // 8
    shape = ((short, size), (short, size), (size, short), (square, square))[rng.integers(4)]
    picture, biome, horizon = paint_place(rng, shape)
    animals = _place_animals(rng, shape, horizon)
    behind, before = _place_props(rng, shape, horizon, biome, animals)

    far = Layer(shape)
    scatter(rng, far, biome, horizon)
    things = _lay_props(rng, picture, far, behind)
    owner = np.zeros(shape, np.uint8)  # number of the animal seen at each pixel, from 1
    parts = np.zeros(shape, np.uint8)
    for number, animal in enumerate(animals, start=1):
        _cast_shadow(picture, animal)
        layer = Layer(shape, animal.whole)
        for piece in animal.pieces:
            layer.paint(piece)
        drawn = layer.render()
        dress(rng, drawn, animal.name, animal.length)
        drawn.over(picture)
        seen = drawn.parts > 0
        owner[drawn.area][seen] = number
        parts[drawn.area][seen] = drawn.parts[seen]
    for pieces in before:
        near = Layer(shape, box(pieces))
        covering = _lay_props(rng, picture, near, [pieces])
        owner[near.area][covering > 0] = 0
        things[near.area][covering > 0] = covering[covering > 0]

    names = [animal.name for animal in animals]
    mask, objects = _truth(owner, names)
    saliency = _saliency(rng, owner, parts, things, names)
    return Scene(_photograph(rng, picture), mask, saliency, objects)


# ---- composition ---------------------------------------------------------------------------------


def _overlap(a: Box, b: Box) -> float:
    """Share of box ``a`` that lies in box ``b``."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    area = (a[2] - a[0]) * (a[3] - a[1])
    return max(width, 0.0) * max(height, 0.0) / area


def _place_animals(
    rng: np.random.Generator, shape: tuple[int, int], horizon: float
) -> list[_Animal]:
    """One to three animals, the farthest first, none of which hides the head of another."""
    height, width = shape
    frame = (1.0, 1.0, width - 1.0, height - 1.0)
    wanted = int(rng.choice([1, 2, 3], p=[0.36, 0.42, 0.22]))
    herd: list[_Animal] = []
    for name in rng.choice(CLASSES, wanted, replace=rng.random() < 0.2):
        pieces = make_animal(rng, name)
        left, top, right, bottom = box(pieces)
        length = min(width / (right - left) * 1.1, height / (bottom - top))
        length *= rng.uniform(*_SHARE[wanted])
        pieces = placed(pieces, (0, 0), (length if rng.random() < 0.5 else -length, length))
        whole, head = box(pieces), box(pieces, HEAD)
        # The whole head must be in the picture; the feet stand on the ground or below the picture.
        left, right = max(0.1 * width, -head[0]), min(0.9 * width, width - head[2])
        top = max(horizon + 0.1 * height, 0.5 * height, -head[1])
        bottom = max(1.04 * height, top + 0.05 * height)
        best, least = None, 0.9  # with a cost below this the animal has room
        for _ in range(8):
            x, y = rng.uniform(left, max(left, right)), rng.uniform(top, bottom)
            whole_here, head_here = _moved(whole, x, y), _moved(head, x, y)
            cost = 1 - _overlap(whole_here, frame)
            for other in herd:
                cost += 2 * _overlap(head_here, other.whole) + _overlap(other.head, whole_here)
                cost += _overlap(whole_here, other.whole) / 2
            if cost < least or (best is None and not herd):
                best, least = (x, y), cost
        if best:
            boxes = _moved(whole, *best), _moved(head, *best)
            herd.append(_Animal(str(name), placed(pieces, best), length, *boxes))
    return sorted(herd, key=lambda animal: animal.whole[3])


def _moved(box: Box, x: float, y: float) -> Box:
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def _place_props(
    rng: np.random.Generator,
    shape: tuple[int, int],
    horizon: float,
    biome: Biome,
    animals: list[_Animal],
) -> tuple[list[list[Piece]], list[list[Piece]]]:
    """Props behind and in front of the animals; each class is often near the same prop."""
    height, width = shape
    names = [_USUAL[animal.name] for animal in animals if rng.random() < 0.5]
    names += [str(name) for name in rng.choice(list(PROPS), rng.integers(1, 5))]
    behind: list[list[Piece]] = []
    before: list[list[Piece]] = []
    for number, name in enumerate(names, start=1):
        is_near = rng.random() < 0.35
        low, high = (0.92, 1.15) if is_near else (horizon / height + 0.04, 0.95)
        for _ in range(4):
            x, y = rng.uniform(0, width), rng.uniform(low, high) * height
            prop = make_prop(rng, name, biome, number, scale=height * (0.5 + 0.5 * y / height))
            prop = placed(prop, (x, y))
            if not is_near:
                behind.append(prop)
                break
            around = box(prop)
            if all(_overlap(animal.head, around) < 0.1 for animal in animals) and all(
                _overlap(animal.whole, around) < 0.4 for animal in animals
            ):
                before.append(prop)
                break
    for props in (behind, before):
        props.sort(key=lambda pieces: box(pieces)[3])
    return behind, before


# ---- painting ------------------------------------------------------------------------------------


def _lay_props(
    rng: np.random.Generator, picture: Field, layer: Layer, props: list[list[Piece]]
) -> NDArray[np.uint8]:
    """Paint props into ``layer``, lay it over the picture, and return each pixel's prop number."""
    for pieces in props:
        for piece in pieces:
            layer.paint(piece)
    drawn = layer.render()
    round_ = blur(drawn.cover, 2.5)
    shade = 1 + np.float32(0.16) * noise(rng, layer.shape, (2.2, 1.6))
    shade += np.float32(0.7) * (round_ - np.roll(round_, 2, axis=0))
    drawn.colour[:] *= shade
    drawn.over(picture)
    return np.where(drawn.parts == GRASS, 0, drawn.parts).astype(np.uint8)


def _cast_shadow(picture: Field, animal: _Animal) -> None:
    """Darken the ground below an animal."""
    left, _, right, bottom = animal.whole
    _, height, width = picture.shape
    rows = (np.arange(height) - bottom + 1) / (0.11 * animal.length)
    columns = (np.arange(width) - (left + right) / 2) / (0.42 * (right - left))
    dark = np.exp(-(rows**2))[:, None] * np.exp(-(columns**4))
    picture *= (1 - 0.5 * dark).astype(np.float32)


def _photograph(rng: np.random.Generator, picture: Field) -> NDArray[np.uint8]:
    """The picture with light, shade and camera noise, uint8 (H, W, 3)."""
    shape = height, width = picture.shape[1], picture.shape[2]
    light = 1 + noise(rng, shape, (height / 2.5, width / 2.5)) * np.float32(rng.uniform(0, 0.28))
    light *= np.linspace(-1, 1, width, dtype=np.float32) * np.float32(rng.uniform(-0.18, 0.18)) + 1
    grain = rng.standard_normal(shape, dtype=np.float32) * np.float32(rng.uniform(1.5, 6))
    gains = rng.uniform(0.72, 1.14) * rng.uniform(0.92, 1.08, 3)
    curve = (255 * (np.arange(256) / 255) ** rng.uniform(0.8, 1.2)).astype(np.uint8)
    image = np.empty((height, width, 3), np.uint8)
    for channel, gain in enumerate(gains):
        plane = picture[channel] * light * np.float32(gain) + grain
        image[..., channel] = curve[plane.clip(0, 255).astype(np.uint8)]
    return image


# ---- ground truth --------------------------------------------------------------------------------


def _truth(
    owner: NDArray[np.uint8], names: list[str]
) -> tuple[NDArray[np.uint8], tuple[tuple[str, tuple[int, int, int, int]], ...]]:
    """Mask and objects from the number of the animal at each pixel."""
    edge = np.zeros(owner.shape, bool)
    down, right = owner[1:] != owner[:-1], owner[:, 1:] != owner[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    inner = np.where(edge, 0, owner)
    number_of = np.zeros(256, np.uint8)
    objects = []
    for number, name in enumerate(names, start=1):
        if np.count_nonzero(inner == number) < _FEWEST_PIXELS:
            number_of[number] = IGNORE
            continue
        number_of[number] = 1 + CLASSES.index(name)
        ys, xs = np.nonzero(owner == number)
        corners = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
        objects.append((name, corners))
    mask = number_of[owner]
    mask[edge] = IGNORE
    return mask, tuple(objects)


def _saliency(
    rng: np.random.Generator,
    owner: NDArray[np.uint8],
    parts: NDArray[np.uint8],
    things: NDArray[np.uint8],
    names: list[str],
) -> NDArray[np.uint8]:
    """A saliency map with the usual faults of a salient-object network.

    It misses a class (in a fifth of the pictures with several classes), misses a part of an animal
    (in a third), marks a prop as salient (in a third), has different strengths for the animals, and
    has soft edges.
    """
    strength = np.zeros(256, np.float32)
    strength[1 : len(names) + 1] = rng.uniform(0.75, 1.0, len(names))
    if rng.random() < (0.2 if len(set(names)) > 1 else 0.03):
        missed = names[rng.integers(len(names))]
        for number, name in enumerate(names, start=1):
            strength[number] = 0 if name == missed else strength[number]
    salient = strength[owner]
    if rng.random() < 0.35:
        here = owner == 1 + rng.integers(len(names))
        lost = rng.integers(3)
        blob = noise(rng, owner.shape, (owner.shape[0] / 4, owner.shape[1] / 4)) > 0.2
        salient[here & (blob if lost == 2 else parts == (HEAD, LEGS)[lost])] *= 0.1
    if rng.random() < 0.35 and things.any():
        seen = np.unique(things[things > 0])
        taken = (things == seen[rng.integers(len(seen))]) & (owner == 0)
        salient[taken] = rng.uniform(0.6, 1.0)
    salient = blur(salient, rng.uniform(0.8, 2.2))
    haze = noise(rng, owner.shape, (owner.shape[0] / 3, owner.shape[1] / 3)) * rng.uniform(0, 0.1)
    return ((salient + haze).clip(0, 1) * 255).astype(np.uint8)
