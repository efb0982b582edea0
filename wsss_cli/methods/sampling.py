"""Values of maps at places between their pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def places(
    cells: int, seen: int, onto: int, *, stride: float = 1, onto_stride: float = 1
) -> Tensor:
    """Where the cells of one grid lie on another, along one side of an image that both look at.

    A grid looks at the image resized to so many pixels, from cell i at pixel ``stride`` · i of it,
    as networks do whose padding is symmetric: at the fraction (stride i + 1/2) / seen of the side.

    Args:
        cells: number of cells of the one grid.
        seen, stride: of the one grid.
        onto, onto_stride: of the other.

    Returns:
        Places in cells of the other grid, shape (cells,), as :func:`sample` takes them.
    """
    pixels = (stride * torch.arange(cells) + 0.5) * (onto / seen) - 0.5
    return pixels / onto_stride


def on_image(
    maps: Tensor,
    size: tuple[int, int],
    seen: tuple[int, int],
    stride: float,
    *,
    mirrored: bool = False,
) -> Tensor:
    """What a network makes of an image, at the pixels of the image.

    Args:
        maps: shape (N, C, h, w).
        size: (H, W) of the image.
        seen: (H, W) at which the network saw it; cell (y, x) looks at pixel (stride y, stride x).
        stride: of the maps on the image seen.
        mirrored: whether it saw the mirrored image, where pixel x of the image is pixel W - 1 - x.

    Returns:
        Shape (N, C, H, W), of the type and on the device of ``maps``.
    """
    rows = places(size[0], size[0], seen[0], onto_stride=stride)
    columns = places(size[1], size[1], seen[1], onto_stride=stride)
    return sample(maps, rows, (seen[1] - 1) / stride - columns if mirrored else columns)


def on_finer(maps: Tensor, cells: tuple[int, int], ratio: float) -> Tensor:
    """Maps of a network at the cells of a finer map of the same network.

    Args:
        maps: shape (N, C, h', w').
        cells: (h, w) of the finer map.
        ratio: its stride goes so many times into that of ``maps``; cell 0 of both looks at pixel 0.

    Returns:
        Shape (N, C, h, w), of the type and on the device of ``maps``.
    """
    if ratio == 1:
        return maps
    rows, columns = (torch.arange(count) / ratio for count in cells)
    return sample(maps.float(), rows, columns).to(maps.dtype)


def sample(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear values of maps on the grid of the given rows and columns.

    Args:
        maps: shape (N, C, h, w).
        rows: shape (H,), places in pixels: 0 is the centre of the first row, h - 1 of the last;
            beyond them the edge is repeated.
        columns: shape (W,), likewise.

    Returns:
        Shape (N, C, H, W), of the type and on the device of ``maps``.
    """
    y = (2 * rows.to(maps) + 1) / maps.shape[2] - 1
    x = (2 * columns.to(maps) + 1) / maps.shape[3] - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    return functional.grid_sample(
        maps, grid.expand(len(maps), -1, -1, -1), padding_mode="border", align_corners=False
    )
