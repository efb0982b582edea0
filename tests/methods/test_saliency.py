"""The training-free saliency: the objects it finds, its parts against slow references."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from wsss_cli.methods.saliency import (
    background_saliency,
    boundary_connectivity,
    lab,
    optimise,
    otsu,
    salient_scores,
    superpixels,
)


def scene(height: int = 120, width: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A red disc on noisy green ground, and where it is."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    disc = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 4) ** 2
    pixels = np.where(disc[..., None], (200, 40, 40), (60, 130, 60))
    return (pixels + rng.integers(-15, 16, pixels.shape)).clip(0, 255).astype(np.uint8), disc


def test_an_object_on_a_ground_is_found() -> None:
    image, disc = scene()
    result = background_saliency(image)
    assert result.dtype == np.float32
    assert result.shape == disc.shape
    assert result.min() >= 0
    assert result.max() <= 1
    assert result[disc].mean() > 0.9
    assert result[~disc].mean() < 0.1


def test_what_touches_the_border_is_missed() -> None:
    """The limit that its help states."""
    image, _ = scene()
    image[:, :50] = image[60, 80]
    result = background_saliency(image)
    assert result[:, :30].mean() < 0.5 < result[55:65, 75:85].mean()


def test_turned_and_mirrored_is_found_as_well() -> None:
    image, disc = scene()
    for turned, there in ((image[:, ::-1], disc[:, ::-1]), (np.rot90(image), np.rot90(disc))):
        result = background_saliency(np.ascontiguousarray(turned))
        assert (result[there].mean(), result[~there].mean()) == pytest.approx((1, 0), abs=0.1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 3), (16, 16), (40, 33)])
def test_any_size_gives_finite_values(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    result = background_saliency(image)
    assert result.shape == shape
    assert np.isfinite(result).all()


def test_nothing_stands_out_of_one_colour() -> None:
    assert not background_saliency(np.full((60, 80, 3), 77, np.uint8)).any()


def test_what_is_no_colour_image_is_refused() -> None:
    for shape in [(8, 8), (8, 8, 4), (0, 8, 3)]:
        with pytest.raises(ValueError, match="a colour image is needed"):
            background_saliency(np.zeros(shape, np.uint8))


def test_lab_of_known_colours() -> None:
    """White, black, and the primaries of sRGB as colour tables give them."""
    colours = np.array(
        [[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8
    )
    known = [[100, 0, 0], [0, 0, 0], [53.2, 80.1, 67.2], [87.7, -86.2, 83.2], [32.3, 79.2, -107.9]]
    assert np.allclose(lab(colours), known, atol=0.15)


def test_superpixels_are_numbered_and_keep_to_edges() -> None:
    image, disc = scene()
    regions = superpixels(lab(image), 16)
    assert set(np.unique(regions)) == set(range(regions.max() + 1))
    inside = np.bincount(regions.ravel(), disc.ravel()) / np.bincount(regions.ravel())
    mixed = np.minimum(inside, 1 - inside)[regions]
    assert mixed.mean() < 0.01  # of the squares it begins with it is 0.06


def test_boundary_connectivity_against_single_paths() -> None:
    """Sec. 3 by trying every simple path."""
    rng = np.random.default_rng(1)
    count, sigma = 6, 2.0
    distances = np.abs(np.subtract.outer(values := rng.random(count) * 9, values))
    adjacent = np.zeros((count, count), bool)
    for first, second in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5), (1, 4)]:
        adjacent[first, second] = adjacent[second, first] = True
    border = np.array([True, False, False, True, False, False])
    linked = adjacent | np.outer(border, border)
    np.fill_diagonal(linked, False)
    usual = np.mean(
        [min(distances[i, j] for j in range(count) if linked[i, j]) for i in range(count)]
    )

    def geodesic(start: int, end: int) -> float:
        if start == end:
            return 0.0
        others = [node for node in range(count) if node not in (start, end)]
        best = np.inf
        for length in range(len(others) + 1):
            for middle in itertools.permutations(others, length):
                path = [start, *middle, end]
                steps = list(itertools.pairwise(path))
                if all(linked[step] for step in steps):
                    best = min(best, sum(max(distances[step] - usual, 0) for step in steps))
        return best

    expected = []
    for i in range(count):
        near = [np.exp(-(geodesic(i, j) ** 2) / (2 * sigma**2)) for j in range(count)]
        expected.append(sum(np.array(near)[border]) / np.sqrt(sum(near)))
    result = boundary_connectivity(distances, adjacent, border, sigma)
    assert np.allclose(result, expected)


def test_the_optimum_is_the_least_cost() -> None:
    """Eq. 9 written out, at the solution and around it."""
    rng = np.random.default_rng(2)
    count, sigma = 7, 5.0
    contrast, background = rng.random(count), rng.random(count)
    distances = np.abs(np.subtract.outer(values := rng.random(count) * 9, values))
    adjacent = np.eye(count, k=1, dtype=bool) | np.eye(count, k=-1, dtype=bool)
    border = np.zeros(count, bool)
    foreground = [c if c >= otsu(contrast) else 0 for c in contrast]

    def cost(s: np.ndarray) -> float:
        total = 1e-6 * (s**2).sum()
        for i in range(count):
            total += 5 * background[i] * s[i] ** 2 + foreground[i] * (s[i] - 1) ** 2
            for j in range(i):
                if i - j <= 2:  # adjacent, or with one region between
                    weight = np.exp(-(distances[i, j] ** 2) / (2 * sigma**2)) + 0.1
                    total += weight * (s[i] - s[j]) ** 2
        return float(total)

    result = optimise(contrast, background, distances, adjacent, border, sigma)
    for _ in range(50):
        assert cost(result) < cost(result + rng.normal(size=count) * 0.01)


def test_otsu_parts_two_heaps() -> None:
    values = np.concatenate([np.full(30, 0.1), np.full(10, 0.8)])
    assert 0.1 < otsu(values) < 0.8


def test_salient_scores_pixel_by_pixel() -> None:
    rng = np.random.default_rng(0)
    cam = rng.random((3, 4, 5)).astype(np.float32)
    cam[:, 0, 0] = 0
    saliency = rng.random((4, 5)).astype(np.float32)
    scores = salient_scores(cam, saliency)
    assert scores.dtype == np.float32
    for y in range(4):
        for x in range(5):
            s, top = saliency[y, x], max(cam[:, y, x])
            shares = [m / top if top else 1 for m in cam[:, y, x]]
            np.testing.assert_allclose(
                scores[:, y, x], [1 - s, *(s * share for share in shares)], rtol=1e-6
            )
    assert ((scores.argmax(0) > 0) == (saliency > 0.5)).all()


@pytest.mark.parametrize("above", [0.1, 0.3, 0.8])
def test_saliency_is_stretched_so_that_the_cut_is_at_a_half(above: float) -> None:
    saliency = np.linspace(0, 1, 101, dtype=np.float32)[None]
    background, only = salient_scores(np.ones((1, 1, 101), np.float32), saliency, above)
    np.testing.assert_allclose(only, 1 - background, atol=1e-6)
    known = [0, above / 2, above, (1 + above) / 2, 1]
    np.testing.assert_allclose(
        np.interp(known, saliency[0], only[0]), [0, 0.25, 0.5, 0.75, 1], atol=1e-2
    )
    assert (np.diff(only[0]) > 0).all()
    assert ((only > background) == (saliency > np.float32(above))).all()


@pytest.mark.parametrize("above", [0.0, 1.0, float("nan")])
def test_a_cut_of_saliency_is_between_0_and_1(above: float) -> None:
    with pytest.raises(ValueError, match="above must be between 0 and 1"):
        salient_scores(np.ones((1, 2, 2)), np.zeros((2, 2)), above)


@pytest.mark.parametrize(
    ("cam", "saliency"),
    [
        (np.zeros((0, 2, 2)), np.zeros((2, 2))),
        (np.zeros((1, 2, 2)), np.zeros((2, 3))),
        (np.full((1, 2, 2), -1.0), np.zeros((2, 2))),
        (np.full((1, 2, 2), np.nan), np.zeros((2, 2))),
        (np.zeros((1, 2, 2)), np.full((2, 2), 1.5)),
        (np.zeros((1, 2, 2)), np.full((2, 2), np.nan)),
    ],
)
def test_salient_scores_of_nothing_sensible_are_refused(cam: Any, saliency: Any) -> None:
    with pytest.raises(ValueError, match="saliency"):
        salient_scores(cam, saliency)
