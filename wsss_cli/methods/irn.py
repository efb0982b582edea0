"""Inter-pixel relations: affinities from a map of class boundaries, displacements to centroids.

Ahn, Cho & Kwak, "Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations",
CVPR 2019 (IRNet), sec. 4.

Pairs are those of :mod:`wsss_cli.methods.affinity`, and so are their order, the sets of pairs that
confident regions give, and the loss of affinities.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wsss_cli.methods.affinity import neighbour_offsets, pair_slices


@lru_cache(maxsize=1024)
def path(dy: int, dx: int) -> tuple[tuple[int, int], ...]:
    """The cells on the straight path from cell (0, 0) to cell (dy, dx), both ends included.

    They are the cells of the rectangle between the ends whose centre is nearer than one cell to the
    straight line, as in the authors' code: a diagonal path is up to three cells wide, so that no
    thin boundary slips through.

    Args:
        dy, dx: the offset, not both 0.

    >>> path(1, 2)
    ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2))
    """
    rows, columns = (range(min(0, end), max(0, end) + 1) for end in (dy, dx))
    # |dy x - dx y| / |(dy, dx)| is the distance of (y, x) from the line; squared, it is exact.
    reach = dy * dy + dx * dx
    return tuple((y, x) for y in rows for x in columns if (dy * x - dx * y) ** 2 < reach)


def path_affinity(edge: Tensor, radius: int = 5) -> Tensor:
    """Affinities of neighbouring cells: 1 - the maximum of the boundary map on the path (eq. 4).

    Args:
        edge: boundary map in [0, 1], shape (N, 1, h, w).
        radius: neighbours are nearer than this, cells of the grid.

    Returns:
        Affinities in [0, 1], shape (N, P, h, w), in the order of
        :func:`wsss_cli.methods.affinity.neighbour_offsets`; 0 where the neighbour is outside. They
        can be differentiated once; the gradient goes to the first cell of the path that has the
        maximum.

    Raises:
        ValueError: a map of another shape, or radius < 2.
    """
    if edge.ndim != 4 or edge.shape[1] != 1:
        raise ValueError(f"edge must be (N, 1, h, w), not {tuple(edge.shape)}")
    affinity: Tensor = _Path.apply(edge[:, 0], radius)  # type: ignore[no-untyped-call]
    return affinity


class _Path(torch.autograd.Function):
    """Path affinities, whose gradient needs the place of each maximum only.

    At radius 10 there are 152 pairs a cell with up to 28 cells on the path: autograd would keep
    every intermediate maximum.
    """

    @staticmethod
    def forward(context: Any, edge: Tensor, radius: int) -> Tensor:
        count, height, width = edge.shape
        flat = edge.reshape(count, height * width)
        offsets = neighbour_offsets(radius)
        affinity = edge.new_zeros(count, len(offsets), height, width)
        learns, context.radius = context.needs_input_grad[0], radius
        places = affinity.new_zeros(affinity.shape if learns else 0, dtype=torch.int16)
        longest = max(len(path(*offset)) for offset in offsets)
        step = 1 if edge.device.type == "cpu" else max(count, 1)  # single images fit a CPU's caches
        for start in range(0, count, step):
            images = slice(start, start + step)
            coded = _coded(flat[images], longest) if learns else None
            for pair, offset in enumerate(offsets):
                here, _ = pair_slices(*offset, height, width)
                if not edge[:1, *here].numel():
                    continue
                on_path = _flat_path(offset, width)
                if coded is None:
                    highest = _highest([flat[images]] * len(on_path), on_path)
                else:
                    code = _highest(coded, on_path)
                    place = len(coded) - 1 - (code & (len(coded) - 1))
                    highest = flat[images].gather(1, _cells(on_path, place))
                    places[images, pair, *here] = place.view(-1, height, width)[:, *here].short()
                affinity[images, pair, *here] = 1 - highest.view(-1, height, width)[:, *here]
        context.save_for_backward(places)
        return affinity

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (places,) = context.saved_tensors
        count, _, height, width = places.shape
        cells = torch.arange(height * width, device=gradient.device).view(height, width)
        total = gradient.new_zeros(count, height * width)
        for pair, offset in enumerate(neighbour_offsets(context.radius)):
            here, _ = pair_slices(*offset, height, width)
            ahead = torch.tensor(_flat_path(offset, width), device=gradient.device)
            highest = cells[here] + ahead[places[:, pair, *here].int()]
            total.scatter_add_(1, highest.flatten(1), -gradient[:, pair, *here].flatten(1))
        return total.view(count, height, width), None


# Steps over whole paths go along maps without their rows, (N, h w), which is memory without gaps.
# What they give where a path leaves a row, or the map, is not used.


def _flat_path(offset: tuple[int, int], width: int) -> list[int]:
    """The cells of a path in a map without its rows, relative to its first cell."""
    return [y * width + x for y, x in path(*offset)]


def _highest(maps: Sequence[Tensor], on_path: list[int]) -> Tensor:
    """The maximum on the path that begins at each cell, (N, h w); for each of its cells a map."""
    first, end = max(0, -min(on_path)), maps[0].shape[1] - max(0, *on_path)
    result = maps[0].clone()
    inside = result[:, first:end]
    inside.copy_(maps[0][:, first + on_path[0] : end + on_path[0]])
    for values, ahead in zip(maps[1:], on_path[1:], strict=False):
        torch.maximum(inside, values[:, first + ahead : end + ahead], out=inside)
    return result


def _coded(flat: Tensor, longest: int) -> list[Tensor]:
    """Maps, int32 (N, h w), of which one maximum finds the largest value and its place on a path.

    Numbers that are not negative are in the order of their bits, read as integers; their lowest
    bits make room for the place. Values that differ by less than a few millionths count as equal,
    and the first of them is taken.

    Returns:
        For each place a map; their number is a power of 2, and the last bits are its number
        counted from the end.
    """
    most = 1 << (longest - 1).bit_length()
    ordered = flat.float().contiguous().view(torch.int32) & -most
    return [ordered + (most - 1 - place) for place in range(most)]


def _cells(on_path: list[int], place: Tensor) -> Tensor:
    """The cell at a place on the path that begins at each cell, int64 (N, h w)."""
    starts = torch.arange(place.shape[1], device=place.device)
    ahead = torch.tensor(on_path, device=place.device)
    cells = starts + ahead[place.clamp(max=len(on_path) - 1)]
    return cells.clamp(0, place.shape[1] - 1)


def displacement_losses(
    displacement: Tensor, bg_pos: Tensor, fg_pos: Tensor, radius: int = 5
) -> tuple[Tensor, Tensor]:
    """Losses of the displacement field of pairs of equal labels (sec. 4.2.1).

    Two cells of one object point to the same centroid: x_i + D_i = x_j + D_j. Over the pairs of the
    foreground, the first loss is the mean of |(D_i - D_j) - (x_j - x_i)|; over those of the
    background, where there is no object to point into, the second is the mean of |D_i - D_j|. Both
    are means over the two coordinates too, as in the authors' code. An empty set gives 0.

    Args:
        displacement: D, cells of the grid, shape (N, 2, h, w): down, then right.
        bg_pos, fg_pos: P+_bg and P+_fg of :func:`wsss_cli.methods.affinity.affinity_targets`, shape
            (N, P, h, w).
        radius: of the pairs.

    Returns:
        The losses of the foreground and of the background, scalars. They can be differentiated
        once.

    Raises:
        ValueError: shapes that do not fit.
    """
    pairs = len(neighbour_offsets(radius))
    if displacement.ndim != 4 or displacement.shape[1] != 2:
        raise ValueError(f"displacement must be (N, 2, h, w), not {tuple(displacement.shape)}")
    wanted = (displacement.shape[0], pairs, *displacement.shape[2:])
    for mask in (bg_pos, fg_pos):
        if mask.shape != wanted:
            raise ValueError(f"the pairs must be {wanted}, not {tuple(mask.shape)}")
    losses: tuple[Tensor, Tensor] = _Displacement.apply(  # type: ignore[no-untyped-call]
        displacement.to(torch.promote_types(displacement.dtype, torch.float32)),
        fg_pos,
        bg_pos,
        radius,
    )
    return losses


class _Displacement(torch.autograd.Function):
    """Mean distances of pairs, and their slopes, without a tensor of 2 P values a cell."""

    @staticmethod
    def forward(
        context: Any, field: Tensor, fg_pos: Tensor, bg_pos: Tensor, radius: int
    ) -> tuple[Tensor, Tensor]:
        height, width = field.shape[2:]
        sums = field.new_zeros(2)
        slopes = field.new_zeros(2, *field.shape)
        for pair, offset in enumerate(neighbour_offsets(radius)):
            here, there = pair_slices(*offset, height, width)
            apart = field[:, :, *here] - field[:, :, *there]
            between = torch.tensor(offset, dtype=field.dtype, device=field.device)[:, None, None]
            for which, (mask, due) in enumerate(((fg_pos, between), (bg_pos, 0 * between))):
                chosen = mask[:, None, pair, *here]
                wrong = (apart - due) * chosen
                sums[which] += wrong.abs().sum()
                wrong.sign_()
                slopes[which][:, :, *here] += wrong
                slopes[which][:, :, *there] -= wrong
        counts = torch.stack([fg_pos.sum(), bg_pos.sum()]).clamp(min=1) * 2
        context.save_for_backward(slopes / counts.view(2, 1, 1, 1, 1))
        losses = sums / counts
        return losses[0], losses[1]

    @staticmethod
    @once_differentiable
    def backward(
        context: Any, foreground: Tensor, background: Tensor
    ) -> tuple[Tensor, None, None, None]:
        (slopes,) = context.saved_tensors
        return foreground * slopes[0] + background * slopes[1], None, None, None
