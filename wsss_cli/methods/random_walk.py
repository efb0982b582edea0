"""Random walk of class scores along affinities (Ahn & Kwak, CVPR 2018, sec. 3.4).

T = D^-1 W^beta (entrywise power), D the row sums, and the scores become T^t scores (eq. 7, 8). The
N × N matrix never exists: each pixel has links to its P neighbours each way, and a product with T
is one sparse product.

T^t does not need t products either. W is symmetric, so T is similar to S = D^-1/2 W D^-1/2, whose
spectrum lies in [-1, 1], and on that interval

    x^t = sum_k c_k T_k(x),    c_k = 2^(1-t) C(t, (t-k)/2),   k = t, t-2, …   (c_0 halved)

with T_k the Chebyshev polynomials. The c_k are a binomial distribution and die out beyond a few
standard deviations sqrt(t): dropping those whose sum is below the tolerance leaves about 70 of 256
products.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from wsss_cli.methods.affinity import neighbour_offsets, pair_slices


def random_walk(
    scores: Tensor,
    affinity: Tensor,
    beta: float = 8,
    steps: int = 256,
    radius: int = 5,
    tolerance: float = 1e-4,
    *,
    exact: bool = False,
) -> Tensor:
    """Scores after a random walk of ``steps`` steps.

    Args:
        scores: shape (N, C, h, w) or (C, h, w); any range.
        affinity: shape (N, P, h, w) or (P, h, w), not negative, as
            :func:`wsss_cli.methods.affinity.pairwise_affinity` gives it; 0 is no link. Every pixel
            is linked to itself with 1.
        beta: exponent of the affinities (the paper's beta, 8).
        steps: number of steps t (the paper's 256).
        radius: neighbours are nearer than this; fixes P.
        tolerance: bound on the part of the expansion that is dropped. The walk then differs from
            the exact one by at most this times the Euclidean norm of the scores, each pixel weighed
            with the square root of its row sum relative to the result's.
        exact: do all ``steps`` products instead of the expansion.

    Returns:
        The walked scores, of the shape, dtype and device of ``scores`` (float32 at least).

    Raises:
        ValueError: shapes that do not fit, NaN or negative affinities, steps < 0, beta < 0.
    """
    single = scores.ndim == 3
    if single:
        scores, affinity = scores[None], affinity[None]
    _check(scores, affinity, beta, steps, radius)
    real = torch.promote_types(scores.dtype, torch.float32)
    walked = [
        _walk(one.to(real), links.to(real), beta, steps, radius, tolerance, exact)
        for one, links in zip(scores, affinity, strict=True)
    ]
    return walked[0] if single else torch.stack(walked) if walked else scores.to(real)


def _check(scores: Tensor, affinity: Tensor, beta: float, steps: int, radius: int) -> None:
    pairs = len(neighbour_offsets(radius))
    if scores.ndim != 4 or affinity.ndim != 4:
        raise ValueError("scores must be (N, C, h, w) or (C, h, w), affinity the same with P")
    count, _, height, width = scores.shape
    if affinity.shape != (count, pairs, height, width):
        raise ValueError(
            f"scores {tuple(scores.shape)} with radius {radius} need affinities "
            f"{(count, pairs, height, width)}, not {tuple(affinity.shape)}"
        )
    if not bool((affinity >= 0).all()):
        raise ValueError("affinities must not be negative or NaN")
    if not bool(torch.isfinite(scores).all()):
        raise ValueError("scores hold NaN or infinite values")
    if steps < 0 or beta < 0:
        raise ValueError(f"steps and beta must not be negative: {steps}, {beta}")


def _walk(
    scores: Tensor, affinity: Tensor, beta: float, steps: int, radius: int, tolerance: float,
    exact: bool,
) -> Tensor:  # fmt: skip
    """One image: scores (C, h, w), affinity (P, h, w)."""
    links, degrees = _links(affinity, beta, radius)
    flat = scores.flatten(1).T  # (h w, C): a product with a sparse matrix from the left
    if exact:
        transition = _sparse(links, degrees.reciprocal(), torch.ones_like(degrees))
        for _ in range(steps):
            flat = transition @ flat
        return flat.T.reshape(scores.shape).contiguous()
    half = degrees.rsqrt()
    symmetric = _sparse(links, half, half)
    flat = _power(symmetric, flat / half[:, None], steps, tolerance) * half[:, None]
    return flat.T.reshape(scores.shape).contiguous()


Links = tuple[Tensor, Tensor, Tensor]


def _links(affinity: Tensor, beta: float, radius: int) -> tuple[Links, Tensor]:
    """W^beta with its diagonal as CSR, and its row sums.

    Offsets are visited in rising order, so that each row's entries lie sorted by column.
    """
    height, width = affinity.shape[1:]
    powered = torch.where(affinity > 0, affinity**beta, torch.zeros_like(affinity))
    offsets = neighbour_offsets(radius)
    shape = (height, width, 2 * len(offsets) + 1)
    weights = affinity.new_zeros(shape)
    inside = torch.zeros(shape, dtype=torch.bool, device=affinity.device)
    own = len(offsets)
    weights[..., own], inside[..., own] = 1, True
    # Sorted by offset, not by step: in a narrow image two offsets may be the same step apart.
    ways = [(dy, dx, place, 0) for place, (dy, dx) in enumerate(offsets)]
    ways += [(-dy, -dx, place, 1) for dy, dx, place, _ in ways]
    steps = []
    for dy, dx, place, end in sorted(ways):
        column = len(steps) + (len(steps) >= own)
        ends = pair_slices(*offsets[place], height, width)
        weights[(*ends[end], column)] = powered[place][ends[0]]
        inside[(*ends[end], column)] = True
        steps.append(dy * width + dx)
    steps.insert(own, 0)
    cells = torch.arange(height * width, device=affinity.device)[:, None]
    cells = cells + torch.tensor(steps, device=affinity.device)
    keep = inside.flatten(0, 1)
    starts = torch.zeros(height * width + 1, dtype=torch.int64, device=affinity.device)
    starts[1:] = keep.sum(1).cumsum(0)
    flat = weights.flatten(0, 1)
    return (starts, cells[keep], flat[keep]), flat.sum(1)


def _sparse(links: Links, rows: Tensor, columns: Tensor) -> Tensor:
    """diag(rows) W diag(columns) as a CSR matrix."""
    starts, cells, weights = links
    values = weights * rows.repeat_interleave(starts.diff()) * columns[cells]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            starts.int(), cells.int(), values, (len(rows), len(rows)), check_invariants=False
        )


def _power(matrix: Tensor, vectors: Tensor, steps: int, tolerance: float) -> Tensor:
    """matrix^steps vectors by Chebyshev's recurrence T_k = 2 x T_(k-1) - T_(k-2)."""
    weights = chebyshev_power(steps, tolerance)
    before, now = vectors, vectors
    total = vectors * weights[0]
    for degree, weight in enumerate(weights[1:], start=1):
        product = matrix @ now
        before, now = now, product if degree == 1 else product.mul_(2).sub_(before)
        if weight:
            total += weight * now
    return total


def chebyshev_power(steps: int, tolerance: float) -> list[float]:
    """Weights c_0 … c_K with |x^steps - sum_k c_k T_k(x)| <= tolerance on [-1, 1].

    The weights are positive and add up to one, so K is the first degree whose remaining weights add
    up to no more than the tolerance.

    >>> [round(weight, 6) for weight in chebyshev_power(2, 0)]
    [0.5, 0.0, 0.5]
    """
    log_two = math.log(2)
    weights = [0.0] * (steps + 1)
    for degree in range(steps % 2, steps + 1, 2):
        lower = (steps - degree) // 2
        log_binomial = (
            math.lgamma(steps + 1) - math.lgamma(lower + 1) - math.lgamma(steps - lower + 1)
        )
        weights[degree] = math.exp(log_binomial + (1 - steps) * log_two if degree else
                                   log_binomial - steps * log_two)  # fmt: skip
    dropped = 0.0
    while len(weights) > 1 and dropped + weights[-1] <= tolerance:
        dropped += weights.pop()
    return weights
