"""Maps on different grids over the same image: resampling, and means over scales and mirror images.

A network whose padding is symmetric centres cell (y, x) of its output on pixel (stride y, stride x)
of the image it sees. Every function here keeps to that rule, so that maps of several scales,
strides and mirror images lie on the image without a shift against each other. Plain resizing of the
maps would shift them by up to half a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Places(NamedTuple):
    """The crossings of some rows and columns of an image.

    Attributes:
        rows, columns: positions, float (h,) and (w,), in pixels: 0 is the middle of the first.
        of: (H, W) of the image.
    """

    rows: Tensor
    columns: Tensor
    of: tuple[int, int]

    @classmethod
    def pixels(cls, size: tuple[int, int]) -> Places:
        """All pixels of an image of ``size`` (H, W)."""
        return cls(torch.arange(size[0]), torch.arange(size[1]), size)


# ---- from one grid to another --------------------------------------------------------------------


def places(
    cells: int, seen: int, onto: int, *, stride: float = 1, onto_stride: float = 1
) -> Tensor:
    """Positions of the cells of one grid on a second grid, along one side of the image.

    The first grid sees the side resized to ``seen`` pixels, the second to ``onto`` pixels. Cell i
    of the first is at the fraction (stride · i + 1/2) / seen of the side.

    Args:
        cells: number of cells of the first grid.
        seen: length of the side that the first grid sees, pixels.
        onto: length of the side that the second grid sees, pixels.
        stride: pixels from cell to cell of the first grid.
        onto_stride: pixels from cell to cell of the second grid.

    Returns:
        Positions in cells of the second grid, float32 (cells,), as :func:`sample` takes them. They
        may lie beyond its first and last cell.
    """
    return resized(stride * torch.arange(cells), seen, onto) / onto_stride


def resized(positions: Tensor, seen: int, onto: int) -> Tensor:
    """Positions on a side of ``seen`` pixels as positions on the same side of ``onto`` pixels."""
    # Resizing keeps the fraction at which a pixel's centre, at index + 1/2, lies on the side.
    return (positions + 0.5) * (onto / seen) - 0.5


def sample(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear values of maps at the crossings of the given rows and columns.

    Args:
        maps: shape (N, C, h, w).
        rows: shape (H,), positions in cells: 0 is the centre of the first row, h - 1 of the last;
            beyond them the edge is repeated.
        columns: shape (W,), likewise.

    Returns:
        Shape (N, C, H, W), of the type and on the device of ``maps``.
    """
    # grid_sample without align_corners counts from -1 to 1 between the outer edges of the map.
    y = (2 * rows.to(maps) + 1) / maps.shape[2] - 1
    x = (2 * columns.to(maps) + 1) / maps.shape[3] - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    return functional.grid_sample(
        maps, grid.expand(maps.shape[0], -1, -1, -1), padding_mode="border", align_corners=False
    )


def on_image(
    maps: Tensor,
    size: tuple[int, int] | Places,
    seen: tuple[int, int],
    stride: float,
    *,
    mirrored: bool = False,
) -> Tensor:
    """The output of a network for an image, at the pixels of the image.

    Args:
        maps: shape (N, C, h, w).
        size: (H, W) of the image, or places of it alone.
        seen: (H', W') of the image as the network saw it; cell (y, x) is centred on its pixel
            (stride y, stride x).
        stride: pixels of the image seen from cell to cell.
        mirrored: whether the network saw the mirror image, whose pixel x shows pixel W' - 1 - x.

    Returns:
        Shape (N, C, H, W), of the type and on the device of ``maps``.
    """
    where = size if isinstance(size, Places) else Places.pixels(size)
    rows, columns = (
        resized(side, extent, onto) / stride
        for side, extent, onto in zip((where.rows, where.columns), where.of, seen, strict=True)
    )
    return sample(maps, rows, (seen[1] - 1) / stride - columns if mirrored else columns)


def on_finer(maps: Tensor, cells: tuple[int, int], ratio: float) -> Tensor:
    """Maps of a network at the cells of a finer map of the same network.

    Args:
        maps: shape (N, C, h', w').
        cells: (h, w) of the finer map.
        ratio: stride of ``maps`` divided by that of the finer map. Cell 0 of both is centred on
            pixel 0.

    Returns:
        Shape (N, C, h, w), of the type and on the device of ``maps``.
    """
    if ratio == 1:
        return maps
    rows, columns = (torch.arange(count) / ratio for count in cells)
    # In float32, since half precision cannot tell neighbouring positions on a large map apart.
    return sample(maps.float(), rows, columns).to(maps.dtype)


# ---- means over views: scaled and mirrored copies of an image ------------------------------------


def average_views(
    maps: Sequence[Tensor],
    size: tuple[int, int] | Places,
    flipped: Sequence[bool],
    *,
    seen: Sequence[tuple[int, int]] | None = None,
    stride: int = 1,
) -> Tensor:
    """Mean of the maps of several views of an image, each laid onto the image.

    Mirrored maps are turned back and all are resampled to the image, bilinear.

    Args:
        maps: of each view, shape (C, h_i, w_i); at least one view.
        size: (H, W) of the image, or places of it alone.
        flipped: whether each view is the mirror image.
        seen: (H_i, W_i) of each view, whose pixel (stride y, stride x) cell (y, x) is centred on.
            None if each map covers the image cell by cell, as a resized image would.
        stride: pixels of a view from cell to cell of its maps.

    Returns:
        float32 of shape (C, H, W), on the device of ``maps``.

    Raises:
        ValueError: no maps, maps of different classes, or not one flag (and size) per view.
    """
    return _mean_over_views(maps, size, flipped, seen, stride)


def vote(
    logits: Sequence[Tensor],
    size: tuple[int, int] | Places,
    flipped: Sequence[bool],
    *,
    seen: Sequence[tuple[int, int]] | None = None,
    stride: int = 1,
) -> Tensor:
    """Mean class probabilities of several views of an image.

    p = mean_i softmax_c(x^i), each x^i turned back and resampled first: the multi-scale inputs of
    DeepLab (Chen et al., PAMI 2018, sec. 4.1), with the mean where the paper takes the maximum.

    Args:
        logits: x^i of each view, shape (C, h_i, w_i); at least one view.
        size, flipped, seen, stride: as of :func:`average_views`.

    Returns:
        Probabilities, float32 of shape (C, H, W), which add up to 1 over C.

    Raises:
        ValueError: as :func:`average_views`.
    """
    return _mean_over_views(logits, size, flipped, seen, stride, softmax=True)


def _mean_over_views(
    maps: Sequence[Tensor],
    size: tuple[int, int] | Places,
    flipped: Sequence[bool],
    seen: Sequence[tuple[int, int]] | None,
    stride: int,
    *,
    softmax: bool = False,
) -> Tensor:
    if seen is None:
        seen = [(view.shape[-2], view.shape[-1]) for view in maps]
    if not maps or not len(maps) == len(flipped) == len(seen):
        raise ValueError(f"{len(maps)} maps with {len(flipped)} flags and {len(seen)} sizes")
    if len(counts := {view.shape[0] for view in maps}) > 1:
        raise ValueError(f"maps of {sorted(counts)} classes")
    # Added up view by view, so that memory does not grow with the number of views.
    where = size if isinstance(size, Places) else Places.pixels(size)
    shape = (len(maps[0]), len(where.rows), len(where.columns))
    total = torch.zeros(shape, device=maps[0].device)
    for view, mirrored, extent in zip(maps, flipped, seen, strict=True):
        if total.numel():  # grid_sample refuses maps without a class
            large = on_image(view[None].float(), where, extent, stride, mirrored=mirrored)[0]
            total += large.softmax(0) if softmax else large
    return total / len(maps)
