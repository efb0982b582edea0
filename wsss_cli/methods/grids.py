"""Maps on grids that look at one image: resampling between them, averages over scales and flips."""

from __future__ import annotations

from collections.abc import Sequence

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


def vote(
    logits: Sequence[Tensor],
    size: tuple[int, int],
    flipped: Sequence[bool],
    *,
    seen: Sequence[tuple[int, int]] | None = None,
    stride: int = 1,
) -> Tensor:
    """Mean class probabilities over scales and mirrored images (Chen 2018, sec. 4.1).

    p = mean_i softmax_c(x^i), each x^i turned back if mirrored and resized (bilinear).

    Args:
        logits: x^i, each of shape (C, h_i, w_i); at least one.
        size: (H, W) of the result.
        flipped: whether each of ``logits`` is of the mirrored image.
        seen, stride: where the logits look, as of :func:`wsss_cli.methods.cam.fuse`.

    Returns:
        Probabilities, float32 of shape (C, H, W), which add up to 1 over C.

    Raises:
        ValueError: no logits, or not one flag (and size) each.
    """
    seen = [(one.shape[-2], one.shape[-1]) for one in logits] if seen is None else seen
    if not logits or not len(logits) == len(flipped) == len(seen):
        raise ValueError(f"{len(logits)} logits with {len(flipped)} flags and {len(seen)} sizes")
    total = torch.zeros(logits[0].shape[0], *size, device=logits[0].device)
    for one, mirrored, shape in zip(logits, flipped, seen, strict=True):
        large = on_image(one[None].float(), size, shape, stride, mirrored=mirrored)
        total += large[0].softmax(0)
    return total / len(logits)


def overlay(
    maps: Sequence[Tensor],
    size: tuple[int, int],
    flipped: Sequence[bool],
    *,
    seen: Sequence[tuple[int, int]] | None = None,
    stride: int = 1,
) -> Tensor:
    """The mean of maps of several scales and mirrored images, each laid onto the image.

    Args and errors are those of :func:`fuse`.

    Returns:
        float32 of shape (C, H, W), on the device of ``maps``.
    """
    seen = [(one.shape[-2], one.shape[-1]) for one in maps] if seen is None else seen
    if not maps or not len(maps) == len(flipped) == len(seen):
        raise ValueError(f"{len(maps)} maps with {len(flipped)} flags and {len(seen)} sizes")
    if len({one.shape[0] for one in maps}) > 1:
        raise ValueError(f"maps of {sorted({one.shape[0] for one in maps})} classes")
    total = torch.zeros(maps[0].shape[0], *size, device=maps[0].device)
    for one, mirrored, shape in zip(maps, flipped, seen, strict=True):
        if total.numel():
            total += on_image(one[None].float(), size, shape, stride, mirrored=mirrored)[0]
    return total / len(maps)
