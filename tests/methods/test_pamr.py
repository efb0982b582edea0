"""Pixel-adaptive mask refinement against loops written from its formula, and its properties."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from wsss_cli.methods import pamr as module
from wsss_cli.methods.pamr import DILATIONS, neighbour_weights, pamr

CASES = [
    (1, 1, 5, 7, (1,)),
    (2, 3, 6, 5, (1, 2)),
    (1, 2, 9, 4, (3, 1)),
    (1, 2, 5, 6, DILATIONS),
    (1, 2, 1, 1, (1, 24)),
]


def scene(count: int, channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height * 100 + width)
    image = torch.rand(count, 3, height, width, generator=generator)
    return image, torch.rand(count, channels, height, width, generator=generator)


def slow(image: Tensor, maps: Tensor, iterations: int, dilations: tuple[int, ...]) -> Tensor:
    """One pixel, one neighbour, one colour after another; double precision; no resizing."""
    count, _, height, width = image.shape
    values, now = image.double().tolist(), maps.double()
    steps = [(dy, dx) for dy, dx in product((-1, 0, 1), repeat=2) if (dy, dx) != (0, 0)]

    def clip(y: int, x: int) -> tuple[int, int]:
        return min(max(y, 0), height - 1), min(max(x, 0), width - 1)

    alphas = {}
    for n, y, x in product(range(count), range(height), range(width)):
        near = [clip(y + d * dy, x + d * dx) for d in dilations for dy, dx in steps]
        contrasts = [0.0] * len(near)
        for c in range(3):
            own = values[n][c][y][x]
            around = [values[n][c][j][i] for j, i in near]
            spread = statistics.stdev(around + [own] * len(dilations))
            for place, other in enumerate(around):
                contrasts[place] -= abs(own - other) / (1e-8 + 0.1 * spread) / 3
        parts = [math.exp(contrast - max(contrasts)) for contrast in contrasts]
        alphas[n, y, x] = [(at, part / sum(parts)) for at, part in zip(near, parts, strict=True)]
    for _ in range(iterations):
        new = torch.zeros_like(now)
        for (n, y, x), weighted in alphas.items():
            for (j, i), alpha in weighted:
                new[n, :, y, x] += alpha * now[n, :, j, i]
        now = new
    return now


@pytest.mark.parametrize(("count", "channels", "height", "width", "dilations"), CASES)
@pytest.mark.parametrize("iterations", [1, 3])
def test_against_loops(
    count: int, channels: int, height: int, width: int, dilations: tuple[int, ...], iterations: int
) -> None:
    image, maps = scene(count, channels, height, width)
    wanted = slow(image, maps, iterations, dilations)
    result = pamr(image, maps, iterations, dilations)
    torch.testing.assert_close(result, wanted.float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pamr(image.double(), maps.double(), iterations, dilations), wanted)


def test_bands_of_rows_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    image, maps = scene(2, 3, 37, 29)
    whole = pamr(image, maps)
    for band in (1, 29 * 3 * 5):  # a row at a time; five rows, and two left over
        monkeypatch.setattr(module, "BAND", band)
        torch.testing.assert_close(pamr(image, maps), whole)


def test_the_defaults_are_the_papers() -> None:
    image, maps = scene(1, 2, 30, 40)
    torch.testing.assert_close(pamr(image, maps), pamr(image, maps, 10, (1, 2, 4, 8, 12, 24)))
    assert (pamr(image, maps) - pamr(image, maps, 9)).abs().max() > 1e-6
    assert (pamr(image, maps) - pamr(image, maps, dilations=(1, 2, 4, 8, 12))).abs().max() > 1e-4


def test_weights_add_up_to_one_and_favour_what_looks_alike() -> None:
    image, _ = scene(2, 1, 20, 31)
    weights = neighbour_weights(image)
    assert weights.shape == (2, 48, 20, 31)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 20, 31))
    halves = torch.zeros(1, 3, 5, 8)
    halves[..., 4:] = 1
    alphas = neighbour_weights(halves, (1,))[0, :, 2, 3]  # beside the edge
    assert alphas.argsort()[:3].sort().values.tolist() == [2, 4, 7]  # those to the right
    assert alphas[[0, 1, 3, 5, 6]].unique().numel() == 1


def test_constant_maps_stay_and_no_value_leaves_the_range() -> None:
    image, maps = scene(1, 3, 33, 50)
    torch.testing.assert_close(pamr(image, torch.full_like(maps, 0.3)), torch.full_like(maps, 0.3))
    result = pamr(image, maps)
    low, high = maps.amin((2, 3)), maps.amax((2, 3))
    assert (result.amin((2, 3)) >= low - 1e-6).all()
    assert (result.amax((2, 3)) <= high + 1e-6).all()
    shares = pamr(image, maps.softmax(1))
    torch.testing.assert_close(shares.sum(1), torch.ones(1, 33, 50))


@pytest.mark.parametrize("grey", [0.0, 0.1, 127.3, 255.0])
def test_on_a_flat_photograph_it_is_the_plain_mean_of_the_neighbours(grey: float) -> None:
    _, maps = scene(1, 2, 12, 15)
    kernel = torch.full((3, 3), 1 / 8)
    kernel[1, 1] = 0
    edged = functional.pad(maps, (1, 1, 1, 1), mode="replicate")
    wanted = functional.conv2d(edged, kernel.expand(2, 1, 3, 3), groups=2)
    result = pamr(torch.full((1, 3, 12, 15), grey), maps, 1, (1,))
    torch.testing.assert_close(result, wanted)


def test_an_edge_stops_what_would_spread() -> None:
    image = torch.zeros(1, 3, 40, 60)
    image[..., 30:] = 1
    maps = torch.zeros(1, 1, 40, 60)
    maps[..., 10:24] = 1  # falls short of the edge
    result = pamr(image, maps)[0, 0]
    assert result[:, :30].mean() > 0.2
    assert result[:, 30:].max() < 0.01
    nowhere = pamr(torch.zeros_like(image), maps)[0, 0]
    assert nowhere[:, 30:].mean() > 0.1


@pytest.mark.parametrize(
    "turn",
    [lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.transpose(-1, -2).contiguous()],
    ids=["left and right", "up and down", "rows and columns"],
)
def test_mirrored_it_gives_the_mirrored(turn: Callable[[Tensor], Tensor]) -> None:
    image, maps = scene(1, 2, 35, 51)
    torch.testing.assert_close(pamr(turn(image), turn(maps)), turn(pamr(image, maps)))


def test_a_batch_is_its_images_one_by_one() -> None:
    image, maps = scene(3, 2, 26, 34)
    single = torch.cat([pamr(image[n : n + 1], maps[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(pamr(image, maps), single, rtol=0, atol=0)
    torch.testing.assert_close(pamr(image, maps[:, 1:]), single[:, 1:])


def test_the_range_of_the_image_does_not_count() -> None:
    image, maps = scene(1, 2, 20, 30)
    wanted = pamr(image, maps)
    bytes_ = (image * 255).round()
    torch.testing.assert_close(pamr(image * 4 - 2, maps), wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(pamr(bytes_.byte(), maps), pamr(bytes_ / 255, maps))


@pytest.mark.parametrize(("height", "width"), [(4, 5), (7, 3), (20, 20), (1, 1)])
def test_maps_of_any_size_are_laid_onto_the_image(height: int, width: int) -> None:
    image, _ = scene(1, 1, 20, 20)
    maps = torch.rand(1, 2, height, width, generator=torch.Generator().manual_seed(1))
    large = pamr(image, maps, 0)
    assert large.shape == (1, 2, 20, 20)
    torch.testing.assert_close(large[..., 0, 0], maps[..., 0, 0])
    torch.testing.assert_close(large[..., -1, -1], maps[..., -1, -1])
    torch.testing.assert_close(pamr(image, maps), pamr(image, large))


def test_nothing_given_is_changed_and_no_gradient_flows() -> None:
    image, maps = scene(1, 2, 20, 20)
    kept = image.clone(), maps.clone()
    result = pamr(image.requires_grad_(), maps.requires_grad_())
    assert not result.requires_grad
    assert torch.equal(image, kept[0])
    assert torch.equal(maps, kept[1])
    assert not torch.equal(result, maps)
    for iterations in (0, 1):  # a result of its own
        assert pamr(image, maps, iterations).data_ptr() != maps.data_ptr()


@pytest.mark.parametrize("short", [torch.bfloat16, torch.float16])
def test_short_types_are_computed_long(short: torch.dtype) -> None:
    image, maps = (each.to(short) for each in scene(1, 2, 24, 30))
    result = pamr(image, maps)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, pamr(image.float(), maps.float()), rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(pamr(image, maps), result, rtol=0, atol=0)


def test_no_map_and_no_image() -> None:
    image, maps = scene(2, 1, 8, 9)
    assert pamr(image, maps[:, :0]).shape == (2, 0, 8, 9)
    assert pamr(image[:0], maps[:0]).shape == (0, 1, 8, 9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_says_the_same() -> None:
    image, maps = scene(3, 4, 70, 90)
    there = pamr(image.cuda(), maps.cuda())
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), pamr(image, maps), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("image", "maps", "settings", "message"),
    [
        ((3, 8, 9), (1, 2, 8, 9), {}, r"image must be \(N, 3, H, W\), not \(3, 8, 9\)"),
        ((1, 1, 8, 9), (1, 2, 8, 9), {}, "image must be"),
        ((1, 3, 0, 9), (1, 2, 8, 9), {}, "image must be"),
        ((2, 3, 8, 9), (1, 2, 8, 9), {}, r"maps must be \(2, C, h, w\), not \(1, 2, 8, 9\)"),
        ((1, 3, 8, 9), (2, 8, 9), {}, "maps must be"),
        ((1, 3, 8, 9), (1, 2, 0, 9), {}, "maps must be"),
        ((1, 3, 8, 9), (1, 2, 8, 9), {"iterations": -1}, "iterations must be 0 or more, not -1"),
        ((1, 3, 8, 9), (1, 2, 8, 9), {"dilations": ()}, "dilations must be"),
        ((1, 3, 8, 9), (1, 2, 8, 9), {"dilations": (1, 0)}, r"from 1 on, not \(1, 0\)"),
    ],
)
def test_what_does_not_fit_is_refused(
    image: tuple[int, ...], maps: tuple[int, ...], settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pamr(torch.rand(image), torch.rand(maps), **settings)  # type: ignore[arg-type]
