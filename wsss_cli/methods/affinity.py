"""Semantic affinity of neighbouring pixels: affinities from features, targets from labels, loss.

Ahn & Kwak, "Learning Pixel-level Semantic Affinity with Image-level Supervision", CVPR 2018,
sec. 3.2 and 3.3.

Pairs are stored once: entry [n, p, y, x] joins pixel (y, x) with (y + dy_p, x + dx_p), where
(dy_p, dx_p) are the P offsets of :func:`neighbour_offsets`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def neighbour_offsets(radius: int = 5) -> list[tuple[int, int]]:
    """Offsets (dy, dx) to the neighbours nearer than ``radius``, each pair of pixels once.

    They are half of the disc of sec. 3.2: (0, 1) … (0, r - 1), then dy = 1 … r - 1 with
    dx = -(r - 1) … r - 1 where dx² + dy² < r².

    Args:
        radius: r in pixels of the feature grid, at least 2.

    Raises:
        ValueError: radius < 2.

    >>> neighbour_offsets(2)
    [(0, 1), (1, -1), (1, 0), (1, 1)]
    """
    if radius < 2:
        raise ValueError(f"radius must be at least 2, not {radius}")
    return [(0, dx) for dx in range(1, radius)] + [
        (dy, dx)
        for dy in range(1, radius)
        for dx in range(1 - radius, radius)
        if dx * dx + dy * dy < radius * radius
    ]


def pair_slices(
    dy: int, dx: int, height: int, width: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Rows and columns of both ends of all pairs at one offset in a grid.

    Args:
        dy, dx: the offset; dy >= 0.
        height, width: size of the grid.

    Returns:
        Slices (rows, columns) of the pixels (y, x) and of their neighbours (y + dy, x + dx); empty
        if no pair fits.
    """
    rows, below = slice(0, max(height - dy, 0)), slice(dy, max(height, dy))
    if dx >= 0:
        left, right = slice(0, max(width - dx, 0)), slice(dx, max(width, dx))
    else:
        left, right = slice(-dx, max(width, -dx)), slice(0, max(width + dx, 0))
    return (rows, left), (below, right)


def pairwise_affinity(features: Tensor, radius: int = 5) -> Tensor:
    """Affinities of neighbouring pixels: exp(-mean_d |f_i - f_j|) (eq. 3).

    The paper has the sum over the D channels; the mean, as in the authors' code, keeps the scale
    independent of D.

    Args:
        features: f_aff, shape (N, D, h, w).
        radius: neighbours are nearer than this, pixels of the grid.

    Returns:
        Affinities in (0, 1], shape (N, P, h, w); 0 where the neighbour is outside. They can be
        differentiated once.

    Raises:
        ValueError: features of another shape, or radius < 2.
    """
    if features.ndim != 4:
        raise ValueError(f"features must be (N, D, h, w), not {tuple(features.shape)}")
    affinity: Tensor = _Affinity.apply(features, radius)  # type: ignore[no-untyped-call]
    return affinity


def mean_affinity(affinity: Tensor, radius: int = 5) -> Tensor:
    """How strongly each pixel is tied to its neighbours: the mean of its affinities (cf. fig. 5d).

    Both ends of a pair count it; neighbours outside the grid count for none.

    Args:
        affinity: as of :func:`pairwise_affinity`, shape (N, P, h, w).
        radius: that of the affinities.

    Returns:
        Shape (N, h, w), in [0, 1]; 1 for a pixel without neighbours.

    Raises:
        ValueError: another number of offsets than the radius has.
    """
    offsets = neighbour_offsets(radius)
    if affinity.ndim != 4 or affinity.shape[1] != len(offsets):
        raise ValueError(f"{len(offsets)} affinities a pixel needed, not {tuple(affinity.shape)}")
    height, width = affinity.shape[2:]
    total, count = torch.zeros_like(affinity[:, 0]), affinity.new_zeros(height, width)
    for pair, offset in enumerate(offsets):
        here, there = pair_slices(*offset, height, width)
        for end in (here, there):
            total[:, *end] += affinity[:, pair, *here]
            count[end] += 1
    return torch.where(count > 0, total / count.clamp(min=1), 1)


def pair_weights(weights: Tensor, radius: int = 5) -> Tensor:
    """Weights of pairs from those of cells: the smaller of both ends' weights.

    Args:
        weights: at least 0, shape (h, w).
        radius: of the affinities.

    Returns:
        Shape (P, h, w), in the order of :func:`pairwise_affinity`; 0 where an end is outside.
    """
    offsets = neighbour_offsets(radius)
    result = weights.new_zeros(len(offsets), *weights.shape)
    for pair, (dy, dx) in zip(result, offsets, strict=True):
        here, there = pair_slices(dy, dx, weights.shape[0], weights.shape[1])
        pair[here] = torch.minimum(weights[here], weights[there])
    return result


class _Affinity(torch.autograd.Function):
    """Affinities with a gradient that needs the features only.

    Autograd would store D values for each of the P pairs. With W = exp(-|f_i - f_j|_1 / D),
    dW / df_i = -W sign(f_i - f_j) / D = -dW / df_j.
    """

    @staticmethod
    def forward(context: Any, features: Tensor, radius: int) -> Tensor:
        # Channels last, so that the mean over them runs along memory.
        last = features.permute(0, 2, 3, 1).contiguous()
        count, height, width, _ = last.shape
        offsets = neighbour_offsets(radius)
        affinity = last.new_zeros(count, len(offsets), height, width)
        for images in _parts(last):
            for pair, offset in enumerate(offsets):
                here, there = pair_slices(*offset, height, width)
                distance = (last[images, *here] - last[images, *there]).abs_().mean(-1)
                affinity[images, pair, *here] = distance.neg_().exp_()
        context.save_for_backward(last, affinity)
        context.radius = radius
        return affinity

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        last, affinity = context.saved_tensors
        height, width, channels = last.shape[1:]
        slope = (gradient * affinity).div_(-channels)[..., None]
        total = torch.zeros_like(last)
        for images in _parts(last):
            for pair, offset in enumerate(neighbour_offsets(context.radius)):
                here, there = pair_slices(*offset, height, width)
                change = (last[images, *here] - last[images, *there]).sign_()
                change.mul_(slope[images, pair, *here])
                total[images, *here] += change
                total[images, *there] -= change
        return total.permute(0, 3, 1, 2), None


def _parts(features: Tensor) -> Iterator[slice]:
    """The batch in parts: single images on a CPU, which fit its caches; all at once on a GPU."""
    step = 1 if features.device.type == "cpu" else max(len(features), 1)
    return (slice(start, start + step) for start in range(0, len(features), step))


def affinity_targets(
    label_map: Tensor, radius: int = 5, ignore: int = 255
) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs of pixels with equal and with different labels (sec. 3.2: P+_bg, P+_fg, P-).

    Args:
        label_map: class numbers, shape (N, h, w); 0 is background.
        radius: neighbours are nearer than this, pixels of the grid.
        ignore: label of neutral pixels. Pairs with a neutral pixel, or with a pixel outside the
            map, are in none of the three sets.

    Returns:
        Three bool tensors of shape (N, P, h, w), True where both pixels are background, where both
        are of the same class, and where their labels differ.

    Raises:
        ValueError: label_map of another shape, or radius < 2.
    """
    if label_map.ndim != 3:
        raise ValueError(f"label_map must be (N, h, w), not {tuple(label_map.shape)}")
    height, width = label_map.shape[1:]
    offsets = neighbour_offsets(radius)
    shape = (label_map.shape[0], len(offsets), height, width)
    masks = [torch.zeros(shape, dtype=torch.bool, device=label_map.device) for _ in range(3)]
    for pair, (dy, dx) in enumerate(offsets):
        (rows, left), (below, right) = pair_slices(dy, dx, height, width)
        here, there = label_map[:, rows, left], label_map[:, below, right]
        known = (here != ignore) & (there != ignore)
        alike = known & (here == there)
        for mask, chosen in zip(
            masks, (alike & (here == 0), alike & (here > 0), known & (here != there)), strict=True
        ):
            mask[:, pair, rows, left] = chosen
    return masks[0], masks[1], masks[2]


def affinity_loss(affinity: Tensor, bg_pos: Tensor, fg_pos: Tensor, neg: Tensor) -> Tensor:
    """Cross entropy of affinities, balanced between the three sets of pairs (sec. 3.3).

    L = L+_bg / 4 + L+_fg / 4 + L- / 2, with L+ the mean of -log W over pairs with equal labels and
    L- the mean of -log(1 - W) over pairs with different ones: a quarter of the paper's
    L+_fg + L+_bg + 2 L-. An empty set adds nothing.

    Args:
        affinity: W in [0, 1], shape (N, P, h, w).
        bg_pos, fg_pos, neg: P+_bg, P+_fg and P- of :func:`affinity_targets`, the same shape.

    Returns:
        A scalar, at least 0, in float32 at least.

    Raises:
        ValueError: shapes that differ.
    """
    shapes = {tuple(tensor.shape) for tensor in (affinity, bg_pos, fg_pos, neg)}
    if len(shapes) > 1:
        raise ValueError(f"affinity and its targets must have one shape, not {sorted(shapes)}")
    affinity = affinity.to(torch.promote_types(affinity.dtype, torch.float32))
    tiny = 1e-5  # keeps the logarithms and their gradients finite
    alike = -(affinity + tiny).clamp(max=1).log()
    different = -(1 + tiny - affinity).clamp(max=1).log()
    return _mean(alike, bg_pos) / 4 + _mean(alike, fg_pos) / 4 + _mean(different, neg) / 2


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where ``mask`` is set; 0 where it is nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)
