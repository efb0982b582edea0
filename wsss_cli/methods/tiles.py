"""Images in overlapping tiles, and the results of the tiles as those of the whole image.

A network whose memory does not suffice for a large image sees it in tiles. Along each side of the
image, tile i covers the pixels from t_i to t_i + T; all tiles are equal, and the last ends where
the image does. At a position p the results of the tiles are averaged with the weights

    w_i(p) = r_i(p) / sum_j r_j(p),    r_i(p) = min(1, d_i(p) / (T - (t_(i+1) - t_i))),

d_i(p) being the distance to the nearer end of the tile that is not an end of the image: a linear
ramp over the pixels that neighbours share. The weight of a tile is the product of those along both
sides, so that weights add up to 1, and are small where a tile knows least of what is around.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from wsss_cli.methods.grids import Places

_BAND = 64  # most rows of a band: what is made of one needs memory too


class Side(NamedTuple):
    """The tiles along one side of an image.

    Attributes:
        length: of the side, pixels.
        size: of each tile, pixels.
        starts: first pixel of each tile, ascending.
    """

    length: int
    size: int
    starts: tuple[int, ...]

    @property
    def spans(self) -> list[slice]:
        """The pixels of each tile."""
        return [slice(start, start + self.size) for start in self.starts]


class Tiles(NamedTuple):
    """The tiles of an image: the crossings of those along its height and along its width."""

    rows: Side
    columns: Side

    @property
    def spans(self) -> list[tuple[slice, slice]]:
        """Rows and columns of each tile, the upper row of tiles first, each from left to right."""
        return [(rows, columns) for rows in self.rows.spans for columns in self.columns.spans]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of each tile."""
        return self.rows.size, self.columns.size


def tiles(height: int, width: int, tile: int, overlap: int, align: int = 1) -> Tiles:
    """Equal tiles that cover an image.

    Along each side there are as few as possible, and they are as small as their number allows. A
    side no longer than ``tile`` is not divided.

    Args:
        height, width: of the image, pixels.
        tile: longest side of a tile, pixels.
        overlap: pixels that neighbours share at least.
        align: tiles begin at multiples of this. As all end together with the image, so do their
            mirror images in the mirror image. A network whose stride divides it then looks at the
            same pixels in a tile as in the whole image.

    Raises:
        ValueError: a tile is less than twice ``align`` longer than the overlap; then an image may
            have no such tiles.
    """
    if not (overlap >= 0 and align >= 1 and tile >= overlap + 2 * align and min(height, width) > 0):
        raise ValueError(
            f"no tiles of {tile} pixels with an overlap of {overlap}, aligned to {align}, "
            f"for {height}x{width} pixels"
        )
    return Tiles(_divide(height, tile, overlap, align), _divide(width, tile, overlap, align))


def _divide(length: int, tile: int, overlap: int, align: int) -> Side:
    if length <= tile:
        return Side(length, length, (0,))
    count = -(-(length - overlap) // (tile - overlap))
    while True:
        step = (length - overlap) // count // align * align
        size = length - (count - 1) * step
        # At the latest when the step is ``align``, where size < overlap + 2 align.
        if size <= tile:
            return Side(length, size, tuple(step * place for place in range(count)))
        count += 1


def weights(side: Side, positions: Tensor) -> Tensor:
    """The weights of n tiles at positions along a side.

    Args:
        side: the tiles.
        positions: p, shape (m,), in pixels: i is the middle of pixel i. From -1/2 to length - 1/2.

    Returns:
        float32 (n, m), 0 outside of a tile. They add up to 1 at each position.
    """
    if len(side.starts) == 1:
        return torch.ones(1, len(positions))
    starts = torch.tensor(side.starts, dtype=torch.float64)[:, None]
    places = positions.double()[None] + 0.5
    after, before = places - starts, starts + side.size - places
    after[0] = before[-1] = side.length  # the ends of the image are no seams
    inside = (after >= 0) & (before > 0)
    shared = side.size - (side.starts[1] - side.starts[0])
    ramp = (torch.minimum(after, before) / max(shared, 1)).clamp(1e-6, 1) * inside
    if shared == 0:
        ramp = inside.double()
    return (ramp / ramp.sum(0)).float()


def covered(weights: Tensor) -> list[slice]:
    """The places at which each tile has a weight, of ``weights`` (n, m): one range each.

    Raises:
        ValueError: a tile has none.
    """
    spans = []
    for each in weights:
        (places,) = each.nonzero(as_tuple=True)
        if not len(places):
            raise ValueError("a tile without a place: the places are further apart than tiles")
        spans.append(slice(int(places[0]), int(places[-1]) + 1))
    return spans


class Layout(NamedTuple):
    """Where the tiles of an image lie on some places of it.

    Attributes:
        vertical, horizontal: :func:`weights` of the tiles at the rows (n, h) and columns (m, w).
        places: of each tile in order, the places that it covers, as places of the tile.
    """

    vertical: Tensor
    horizontal: Tensor
    places: list[Places]


def lay(tiles: Tiles, on: Places) -> Layout:
    """Lay tiles on places of their image.

    Raises:
        ValueError: a tile covers none.
    """
    vertical, horizontal = weights(tiles.rows, on.rows), weights(tiles.columns, on.columns)
    places = [
        Places(on.rows[rows] - top, on.columns[columns] - left, tiles.size)
        for top, rows in zip(tiles.rows.starts, covered(vertical), strict=True)
        for left, columns in zip(tiles.columns.starts, covered(horizontal), strict=True)
    ]
    return Layout(vertical, horizontal, places)


def blend(
    parts: Iterable[Tensor],
    layout: Layout,
    weigh: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """The weighted mean of the results of tiles, in bands of rows.

    Bands come as soon as their last tile has: only the rows that one row of tiles covers are held.
    The mean is a running one, so that where tiles agree it is what they say, to the last bit.

    Args:
        parts: results of the tiles in order, shape (C, h_i, w_j), at their places in ``layout``.
        layout: of the tiles.
        weigh: the weights of a part's values, (C, h_i, w_j), from those of its places, (h_i, w_j);
            None if they are the same. Places of weight 0 in all tiles become 0.

    Yields:
        Rows, and their values (C, rows, w), from top to bottom, which together are (C, h, w).

    Raises:
        ValueError: too few parts, too many, or one of another shape.
    """
    stream, vertical, horizontal = iter(parts), layout.vertical, layout.horizontal
    down, across = covered(vertical), covered(horizontal)
    width, top = horizontal.shape[1], 0
    values = weight = torch.zeros(0)
    for row, rows in enumerate(down):
        for column, columns in enumerate(across):
            part = next(stream, None)
            share = vertical[row, rows, None] * horizontal[column, None, columns]
            if part is None or part.shape[1:] != share.shape:
                found = "no part" if part is None else f"a part of {tuple(part.shape)}"
                raise ValueError(f"{found} for {tuple(share.shape)} places of a tile")
            share = (share if weigh is None else weigh(share)).to(part)
            depth = (len(part), len(share) if share.ndim == 3 else 1)
            if column == 0:
                left, held = (values, weight), values.shape[1] if row else 0
                values = part.new_zeros(depth[0], rows.stop - top, width)
                weight = part.new_zeros(depth[1], rows.stop - top, width)
                if held:
                    values[:, :held], weight[:, :held] = left
                del left
            here = (slice(None), slice(rows.start - top, rows.stop - top), columns)
            weight[here] += share
            part = part - values[here]
            values[here] += part * (share / weight[here].clamp(min=torch.finfo(part.dtype).tiny))
        end = down[row + 1].start if row + 1 < len(down) else rows.stop
        for first in range(top, end, _BAND):
            last = min(first + _BAND, end)
            # A copy: a view would keep all the rows in memory.
            yield slice(first, last), values[:, first - top : last - top].clone()
        values, weight = values[:, end - top :].clone(), weight[:, end - top :].clone()
        top = end
    if next(stream, None) is not None:
        raise ValueError("more parts than tiles")
