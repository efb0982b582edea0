"""Joined activation maps against slow references; where they lie on the image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wsss_cli.methods.cam import background_score, fuse, normalise


def between(values: list[list[float]], y: float, x: float) -> float:
    """The bilinear value of a map at (y, x), its edge repeated beyond it."""
    y, x = min(max(y, 0.0), len(values) - 1.0), min(max(x, 0.0), len(values[0]) - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, len(values) - 1), min(left + 1, len(values[0]) - 1)
    above = values[top][left] * (1 - x + left) + values[top][right] * (x - left)
    below = values[bottom][left] * (1 - x + left) + values[bottom][right] * (x - left)
    return above * (1 - y + top) + below * (y - top)


def slow_fuse(
    maps: list[Tensor],
    size: tuple[int, int],
    flipped: list[bool],
    seen: list[tuple[int, int]],
    stride: int,
) -> Tensor:
    """Ahn & Kwak 2018, eq. 1, pixel by pixel: where each pixel lies on each map is looked up."""
    total = torch.zeros(maps[0].shape[0], *size)
    for view, mirrored, (height, width) in zip(maps, flipped, seen, strict=True):
        for number, plane in enumerate(view.clamp(min=0).tolist()):
            for y in range(size[0]):
                for x in range(size[1]):
                    row = (y + 0.5) / size[0] * height - 0.5
                    column = (x + 0.5) / size[1] * width - 0.5
                    if mirrored:
                        column = width - 1 - column
                    total[number, y, x] += between(plane, row / stride, column / stride)
    for plane in total:
        if plane.max() > 0:
            plane /= plane.max()
    return total


@pytest.mark.parametrize("size", [(12, 20), (7, 11)])
def test_maps_of_several_scales_and_mirrors_against_a_loop(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    maps = [torch.randn(3, 3, 5), torch.randn(3, 3, 5), torch.randn(3, 6, 9)]
    maps[0][1], maps[1][1], maps[2][1] = -1, -2, 0  # a class that is nowhere
    flags = [False, True, True]
    shapes = [(view.shape[1], view.shape[2]) for view in maps]
    expected = slow_fuse(maps, size, flags, shapes, stride=1)
    torch.testing.assert_close(fuse(maps, size, flags), expected)
    assert not expected[1].any()
    assert expected[0].max() == expected[2].max() == 1

    seen, stride = [(33, 66), (33, 66), (81, 130)], 16
    expected = slow_fuse(maps, size, flags, seen, stride)
    torch.testing.assert_close(fuse(maps, size, flags, seen=seen, stride=stride), expected)


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("length", [224, 225, 239, 240, 241])
@pytest.mark.parametrize("mirrored", [False, True])
def test_one_cell_lights_up_the_pixel_it_looks_at(stride: int, length: int, mirrored: bool) -> None:
    """At sizes that are whole strides, one more, one less: cell i at pixel stride · i."""
    cells = -(-length // stride)
    for cell in (1, cells // 2, cells - 2):
        delta = torch.zeros(1, cells, cells)
        delta[0, cell, cell] = 1
        result = fuse([delta], (length, length), [mirrored], seen=[(length, length)], stride=stride)
        row, column = divmod(int(result.argmax()), length)
        pixel = stride * cell
        assert (row, column) == (pixel, length - 1 - pixel if mirrored else pixel)


@pytest.mark.parametrize("length", [224, 225, 239, 375])
def test_an_image_and_its_mirror_image_are_one(length: int) -> None:
    """A ramp seen at two scales, both ways, is the ramp: no view is shifted against another."""
    maps, flags, seen = [], [], []
    for scale in (1.0, 2.0):
        whole = round(length * scale)
        pixels = torch.arange(-(-whole // 16)) * 16.0
        for mirrored in (False, True):
            places = whole - 1 - pixels if mirrored else pixels
            maps.append(((places + 0.5) / scale - 0.5).expand(1, 4, -1))
            flags.append(mirrored)
            seen.append((64, whole))
    result = fuse(maps, (4, length), flags, seen=seen, stride=16)[0, 0]
    inner = result[32:-32] / (result[33] - result[32])
    torch.testing.assert_close(inner - inner[0], torch.arange(length - 64.0), atol=1e-2, rtol=1e-4)


def test_half_precision_is_joined_in_single() -> None:
    result = fuse([torch.full((1, 2, 2), 300.0, dtype=torch.float16)] * 300, (2, 2), [False] * 300)
    assert result.dtype == torch.float32
    assert torch.equal(result, torch.ones(1, 2, 2))


def test_no_class_gives_no_map() -> None:
    assert fuse([torch.zeros(0, 3, 4)], (6, 8), [False]).shape == (0, 6, 8)


@pytest.mark.parametrize(
    ("maps", "flags", "seen", "said"),
    [
        ([], [], None, "0 maps"),
        ([torch.zeros(2, 3, 3)], [], None, "1 maps with 0 flags"),
        ([torch.zeros(2, 3, 3)], [False], [(3, 3), (3, 3)], "2 sizes"),
        ([torch.zeros(2, 3, 3), torch.zeros(1, 3, 3)], [False, False], None, r"\[1, 2\] classes"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    maps: list[Tensor], flags: list[bool], seen: list[tuple[int, int]] | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        fuse(maps, (3, 3), flags, seen=seen)


def test_each_map_has_its_own_maximum() -> None:
    maps = torch.tensor([[[1.0, 4.0]], [[0.0, 0.0]], [[0.5, 0.25]]])
    expected = torch.tensor([[[0.25, 1.0]], [[0.0, 0.0]], [[1.0, 0.5]]])
    assert torch.equal(normalise(maps), expected)
    assert torch.equal(normalise(maps[None])[0], expected)
    assert normalise(torch.zeros(0, 3, 4)).shape == (0, 3, 4)


def test_background_is_where_no_class_is() -> None:
    cam = torch.tensor([[[0.0, 0.5, 1.0]], [[0.0, 0.25, 0.75]]])
    for alpha in (0.5, 1, 4, 32):
        expected = [[1.0, 0.5**alpha, 0.0]]
        torch.testing.assert_close(background_score(cam, alpha), torch.tensor(expected))


@pytest.mark.parametrize(
    ("cam", "alpha", "said"),
    [
        (torch.zeros(0, 2, 2), 4, "at least one class"),
        (torch.zeros(2, 2), 4, "at least one class"),
        (torch.full((1, 2, 2), 1.5), 4, "outside"),
        (torch.full((1, 2, 2), float("nan")), 4, "NaN"),
        (torch.zeros(1, 2, 2), 0, "positive"),
        (torch.zeros(1, 2, 2), float("nan"), "positive"),
    ],
)
def test_background_of_what_is_no_cam(cam: Tensor, alpha: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        background_score(cam, alpha)
