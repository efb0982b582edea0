"""Random walk of class scores along affinities (Ahn & Kwak, CVPR 2018, sec. 3.4).

T = D^-1 W^beta (entrywise power), D the row sums, and the scores become T^t scores. T is sparse:
each pixel is linked to itself and to its P neighbours in either direction, so that a step of the
walk is one sparse product.

The walk needs fewer than t products. W is symmetric, so T is similar to S = D^-1/2 W^beta D^-1/2,
whose spectrum lies in [-1, 1], and on that interval

    x^t = sum_k c_k T_k(x),    c_k = 2^(1-t) C(t, (t-k)/2),   k = t, t-2, …   (c_0 halved)

with T_k the Chebyshev polynomials. The c_k are a folded binomial distribution and vanish beyond a
few standard deviations sqrt(t): about 85 products are enough for t = 256.

Everything is computed in float64. Where affinities are weak, T is so close to the identity that the
rounding of float32, the same at every step, would add up to more than the expansion leaves out.
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
    """Scores after a random walk of ``steps`` steps, T^t scores (sec. 3.4).

    The rows of T add up to 1, so constant scores stay as they are, whatever the tolerance, and so
    does the score of a pixel without links.

    Args:
        scores: shape (N, C, h, w) or (C, h, w); any finite values.
        affinity: shape (N, P, h, w) or (P, h, w), not negative, as
            :func:`wsss_cli.methods.affinity.pairwise_affinity` returns them; 0 is no link. Every
            pixel is linked to itself with 1.
        beta: exponent of the affinities, at least 0 (the paper's beta, 8).
        steps: number of steps t, at least 0 (256 in the paper).
        radius: neighbours are nearer than this, pixels of the grid; fixes P.
        tolerance: largest error of a score, as a share of the range (largest minus smallest) of the
            scores of its class.
        exact: compute all ``steps`` products instead of the expansion.

    Returns:
        Scores of the shape and on the device of ``scores``, in float32 at least. No gradient flows
        through them.

    Raises:
        ValueError: shapes that do not fit, values that are NaN, infinite or (affinities) negative,
            or a setting out of range.
    """
    single = scores.ndim == 3
    if single:
        scores, affinity = scores[None], affinity[None]
    if beta < 0 or steps < 0 or steps != int(steps) or not tolerance >= 0:
        raise ValueError(f"beta {beta}, steps {steps}, tolerance {tolerance}: none may be negative")
    _check(scores, affinity, radius)
    # Apple's GPUs have neither sparse matrices nor float64.
    device = torch.device("cpu") if scores.device.type == "mps" else scores.device
    real = torch.promote_types(scores.dtype, torch.float32)
    walked = torch.empty(scores.shape, dtype=real, device=scores.device)
    with torch.no_grad(), torch.autocast(scores.device.type, enabled=False):
        for result, image_scores, links in zip(walked, scores, affinity, strict=True):
            if not image_scores.numel():
                continue
            links = _power(links.to(device, torch.float64), beta)
            transition, degrees = _transition(links, radius)
            start = _columns(image_scores.to(device))
            if exact:
                end = start
                for _ in range(int(steps)):
                    end = transition @ end
            else:
                # D^1/2 T D^-1/2 = S, so an expansion with error e changes a pixel by at most
                # e |D^1/2 s|_2 / D_ii^1/2. As constants pass unchanged, s counts from the middle of
                # its range: hence the half.
                bound = float((degrees.sum() / degrees.min()).sqrt()) / 2
                end = _expand(transition, start, chebyshev_power(int(steps), tolerance / bound))
            result.copy_(end[:, : len(image_scores)].T.reshape(image_scores.shape))
    return walked[0] if single else walked


def _check(scores: Tensor, affinity: Tensor, radius: int) -> None:
    pairs = len(neighbour_offsets(radius))
    if scores.ndim != 4 or affinity.ndim != 4:
        raise ValueError("scores must be (N, C, h, w) or (C, h, w), affinity the same with P")
    count, _, height, width = scores.shape
    if affinity.shape != (count, pairs, height, width):
        raise ValueError(
            f"scores {tuple(scores.shape)} with radius {radius} need affinities "
            f"{(count, pairs, height, width)}, not {tuple(affinity.shape)}"
        )
    if not bool(torch.isfinite(scores).all()):
        raise ValueError("scores hold NaN or infinite values")
    if not bool(((affinity >= 0) & (affinity < math.inf)).all()):
        raise ValueError("affinities must not be negative, infinite or NaN")


def _power(links: Tensor, beta: float) -> Tensor:
    """``links`` ** beta, but 0 where there is no link, even for beta = 0."""
    if beta == 0:
        return (links > 0).to(links.dtype)
    if not float(beta).is_integer():
        return links**beta
    result = links
    for digit in f"{int(beta):b}"[1:]:  # by squaring: a power of two floats takes far longer
        result = result * result
        if digit == "1":
            result = result * links
    return result


def _transition(links: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """T, CSR (h w, h w), and D, (h w,), of one image from the upper half of W^beta, (P, h, w).

    T has 2 P + 1 entries in every row. Links to pixels outside the image are zeros in some column
    inside, which is faster than leaving them out.
    """
    height, width = links.shape[1:]
    offsets = neighbour_offsets(radius)
    pairs, size = len(offsets), height * width
    ahead = [dy * width + dx for dy, dx in offsets]
    # CSR has its columns in ascending order: neighbours above, the pixel itself, neighbours below,
    # the last in the order of the offsets.
    band = links.new_zeros(2 * pairs + 1, size)
    band[pairs] = 1
    below = band[pairs + 1 :].view(pairs, height, width)
    for plane, link, offset in zip(below, links, offsets, strict=True):
        here, _ = pair_slices(*offset, height, width)
        plane[here] = link[here]
    for pair, far in enumerate(ahead):
        # Without its rows, the map of a link lies a number of cells from that of the link back;
        # where that leads to another row there is 0.
        if 0 < far < size:
            band[pairs - 1 - pair, far:] = band[pairs + 1 + pair, : size - far]
    degrees = band.sum(0)
    if not bool(torch.isfinite(degrees).all()):
        raise ValueError("affinity ** beta is too large for its number format")
    steps = torch.tensor([-far for far in reversed(ahead)] + [0, *ahead], dtype=torch.int32)
    columns = (torch.arange(size, dtype=torch.int32)[:, None] + steps).clamp_(0, size - 1)
    rows = torch.arange(0, columns.numel() + 1, 2 * pairs + 1, dtype=torch.int32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        matrix = torch.sparse_csr_tensor(
            rows.to(links.device),
            columns.flatten().to(links.device),
            band.div_(degrees).T.flatten(),
            (size, size),
            check_invariants=False,
        )
    return matrix, degrees


def _columns(scores: Tensor) -> Tensor:
    """Scores (C, h, w) as float64 (h w, C or more), in rows that fill the registers of a CPU.

    Its sparse product takes as long for three columns as for four with zeros, or longer.
    """
    count = len(scores)
    fill = -count % 4 if scores.device.type == "cpu" else 0
    columns = scores.new_zeros(scores[0].numel(), count + fill, dtype=torch.float64)
    columns[:, :count] = scores.flatten(1).T
    return columns


def _expand(matrix: Tensor, vectors: Tensor, weights: list[float]) -> Tensor:
    """sum_k c_k T_k(matrix) vectors by the recurrence T_k = 2 x T_(k-1) - T_(k-2).

    It takes the memory of ``vectors``.
    """
    total = vectors * weights[0]
    before, now = vectors, matrix @ vectors
    for degree, weight in enumerate(weights[1:], start=1):
        if degree > 1:
            before, now = now, before.addmm_(matrix, now, beta=-1, alpha=2)
        if weight:
            total.add_(now, alpha=weight)
    return total


def chebyshev_power(steps: int, tolerance: float) -> list[float]:
    """Weights c_0 … c_K with |x^steps - sum_k c_k T_k(x)| <= tolerance on [-1, 1].

    The weights of the full expansion are positive and add up to 1. K is the first degree beyond
    which they add up to no more than half the tolerance, and c_K takes over their sum. So the
    expansion is 1 at x = 1, as x^steps is, and close to x^steps near there, where the eigenvalues
    of slowly varying scores lie.

    Args:
        steps: the exponent, at least 0.
        tolerance: largest error, at least 0; 0 gives the full expansion.

    >>> [round(weight, 6) for weight in chebyshev_power(3, 0)]
    [0.0, 0.75, 0.0, 0.25]
    """
    weights: list[float] = []
    left = 1.0
    for degree in range(steps + 1):
        weight = 0.0
        if (steps - degree) % 2 == 0:
            lower = (steps - degree) // 2
            # log C(t, (t-k)/2): the binomial itself is too large for a float from t = 1030 on.
            choices = (
                math.lgamma(steps + 1) - math.lgamma(lower + 1) - math.lgamma(steps - lower + 1)
            )
            weight = math.exp(choices - (steps - (degree > 0)) * math.log(2))
        weights.append(weight)
        left -= weight
        if weight and left <= tolerance / 2:
            break
    weights[-1] += left
    return weights
