"""The random walk against dense matrices in float64, and what must hold for any walk."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wsss_cli.methods.affinity import neighbour_offsets
from wsss_cli.methods.random_walk import chebyshev_power, random_walk


def transition(affinity: Tensor, beta: float, radius: int) -> Tensor:
    """T = D^-1 W^beta as a dense matrix, filled pair by pair."""
    _, height, width = affinity.shape
    matrix = torch.eye(height * width, dtype=torch.float64)
    for p, (dy, dx) in enumerate(neighbour_offsets(radius)):
        for y in range(height - dy):
            for x in range(max(0, -dx), min(width, width - dx)):
                link = float(affinity[p, y, x])
                i, j = y * width + x, (y + dy) * width + x + dx
                matrix[i, j] = matrix[j, i] = link**beta if link > 0 else 0.0
    return matrix / matrix.sum(1, keepdim=True)


def dense_walk(
    scores: Tensor, affinity: Tensor, beta: float = 8, steps: int = 256, radius: int = 5
) -> Tensor:
    power = torch.linalg.matrix_power(transition(affinity, beta, radius), steps)
    return (power @ scores.double().flatten(1).T).T.reshape(scores.shape)


def made(kind: str, height: int, width: int, radius: int = 5, seed: int = 0) -> Tensor:
    """Affinities (P, h, w) of a kind that could be hard for the expansion."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(neighbour_offsets(radius)), height, width)
    noise = torch.rand(shape, generator=generator)
    if kind == "learned":
        return noise**0.2
    if kind == "uniform":
        return torch.ones(shape)
    if kind == "weak":
        return noise / 4
    if kind == "sparse":
        return (noise > 0.97).float()
    if kind == "regions":  # two halves hardly linked
        place = torch.arange(width) > width // 2
        ends = [place ^ place.roll(-dx) for _, dx in neighbour_offsets(radius)]
        return torch.where(torch.stack(ends)[:, None], 1e-3, 0.95).expand(shape).clone()
    if kind == "chain":
        only = torch.zeros(shape)
        only[0] = 1
        return only
    assert kind == "nothing"
    return torch.zeros(shape)


KINDS = ("learned", "uniform", "weak", "sparse", "regions", "chain", "nothing")


def ranges(scores: Tensor) -> Tensor:
    flat = scores.flatten(-2)
    return (flat.amax(-1) - flat.amin(-1))[..., None, None]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_walk_is_the_matrix_power(kind: str, exact: bool) -> None:
    affinity = made(kind, 12, 15)
    scores = torch.rand(3, 12, 15, generator=torch.Generator().manual_seed(1))
    expected = dense_walk(scores, affinity)
    result = random_walk(scores, affinity, exact=exact)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), expected, atol=1e-4, rtol=0)


def test_the_size_of_a_photograph_against_float64() -> None:
    affinity = made("learned", 18, 22)
    scores = torch.rand(2, 18, 22, generator=torch.Generator().manual_seed(1)) ** 8
    expected = dense_walk(scores, affinity)
    torch.testing.assert_close(random_walk(scores, affinity).double(), expected, atol=1e-4, rtol=0)


def test_scipy_agrees() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    affinity = made("learned", 12, 14)
    scores = torch.rand(2, 12, 14, generator=torch.Generator().manual_seed(1))
    step = sparse.csr_matrix(transition(affinity, 4, 5).numpy())
    walked = scores.double().flatten(1).numpy().T
    for _ in range(100):
        walked = step @ walked
    result = random_walk(scores, affinity, beta=4, steps=100, tolerance=1e-6)
    np.testing.assert_allclose(result.flatten(1).numpy().T, walked, atol=5e-6)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 4, 7, 8, 31, 100, 1000])
@pytest.mark.parametrize("exact", [False, True])
def test_any_number_of_steps(steps: int, exact: bool) -> None:
    affinity = made("learned", 7, 6).double()
    scores = torch.rand(2, 7, 6, dtype=torch.float64)
    result = random_walk(scores, affinity, steps=steps, tolerance=1e-9, exact=exact)
    assert result.dtype == torch.float64
    torch.testing.assert_close(result, dense_walk(scores, affinity, steps=steps), atol=1e-9, rtol=0)


@pytest.mark.parametrize("beta", [0, 0.5, 1, 2, 3, 7.25, 8, 13, 24])
def test_any_exponent(beta: float) -> None:
    affinity = made("learned", 8, 9) * (made("learned", 8, 9, seed=3) > 0.5)
    scores = torch.rand(1, 8, 9)
    expected = dense_walk(scores, affinity, beta=beta)
    result = random_walk(scores, affinity, beta=beta)
    torch.testing.assert_close(result.double(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("radius", [2, 3, 8])
@pytest.mark.parametrize("size", [(6, 9), (1, 20), (20, 1), (3, 3), (1, 1), (2, 30)])
def test_any_radius_and_grid(radius: int, size: tuple[int, int]) -> None:
    affinity = made("learned", *size, radius)
    scores = torch.rand(2, *size)
    expected = dense_walk(scores, affinity, steps=64, radius=radius)
    result = random_walk(scores, affinity, steps=64, radius=radius)
    torch.testing.assert_close(result.double(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("classes", range(1, 10))
def test_any_number_of_classes(classes: int, exact: bool) -> None:
    affinity = made("learned", 5, 7)
    scores = torch.rand(classes, 5, 7, generator=torch.Generator().manual_seed(classes))
    expected = dense_walk(scores, affinity)
    result = random_walk(scores, affinity, exact=exact)
    torch.testing.assert_close(result.double(), expected, atol=1e-4, rtol=0)
    for each, alone in zip(result, scores, strict=True):
        torch.testing.assert_close(each, random_walk(alone[None], affinity, exact=exact)[0])


def test_links_that_lead_outside_are_none() -> None:
    affinity, scores = made("learned", 6, 5).double(), torch.rand(2, 6, 5, dtype=torch.float64)
    inside = torch.zeros_like(affinity)
    for p, (dy, dx) in enumerate(neighbour_offsets(5)):
        for y in range(6 - dy):
            for x in range(max(0, -dx), min(5, 5 - dx)):
                inside[p, y, x] = 1
    assert 0 < inside.mean() < 1
    huge = torch.where(inside > 0, affinity, 1e300)  # its power is infinite
    torch.testing.assert_close(random_walk(scores, huge), random_walk(scores, affinity * inside))


def test_batches_are_walked_one_by_one() -> None:
    affinity = torch.stack([made("learned", 5, 6, seed=seed) for seed in range(3)])
    scores = torch.rand(3, 2, 5, 6)
    together = random_walk(scores, affinity)
    assert together.shape == (3, 2, 5, 6)
    for n in range(3):
        assert torch.equal(together[n], random_walk(scores[n], affinity[n]))


@pytest.mark.parametrize("shape", [(0, 2, 4, 5), (1, 0, 4, 5)])
def test_no_images_and_no_classes(shape: tuple[int, ...]) -> None:
    affinity = made("learned", 4, 5).expand(shape[0], -1, -1, -1)
    assert random_walk(torch.zeros(shape), affinity).shape == shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_types_are_computed_in_full(dtype: torch.dtype) -> None:
    affinity, scores = made("learned", 6, 6).to(dtype), torch.rand(1, 6, 6).to(dtype)
    result = random_walk(scores, affinity)
    assert result.dtype == torch.float32
    assert torch.equal(result, random_walk(scores.float(), affinity.float()))


def test_under_autocast_and_without_gradients() -> None:
    affinity, scores = made("learned", 6, 6).requires_grad_(), torch.rand(1, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        result = random_walk(scores, affinity)
    assert not result.requires_grad
    assert torch.equal(result, random_walk(scores, affinity))


def test_arguments_stay_as_they_are() -> None:
    affinity, scores = made("learned", 6, 6), torch.rand(1, 6, 6)
    copies = affinity.clone(), scores.clone()
    random_walk(scores, affinity, steps=1)
    random_walk(scores, affinity, steps=0)
    assert torch.equal(affinity, copies[0])
    assert torch.equal(scores, copies[1])


# ---- what holds for any walk -------------------------------------------------------------------

walks = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "height": st.integers(1, 8),
        "width": st.integers(1, 8),
        "seed": st.integers(0, 1000),
        "steps": st.integers(0, 300),
        "beta": st.sampled_from([0.5, 1, 8]),
    }
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(walk=walks, tolerance=st.sampled_from([1e-2, 1e-4, 1e-8]), peak=st.booleans())
def test_the_tolerance_bounds_every_pixel(
    walk: dict[str, int], tolerance: float, peak: bool
) -> None:
    height, width, seed = walk["height"], walk["width"], walk["seed"]
    affinity = made(str(walk["kind"]), height, width, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(2, height, width, generator=generator, dtype=torch.float64) * 5 - 2
    if peak:
        scores = (scores == scores.amax((1, 2), keepdim=True)).double()
    expected = dense_walk(scores, affinity, walk["beta"], walk["steps"])
    result = random_walk(scores, affinity, walk["beta"], walk["steps"], tolerance=tolerance)
    assert ((result - expected).abs() <= tolerance * ranges(scores) + 1e-11).all()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(walk=walks)
def test_constants_stay_and_walks_are_linear(walk: dict[str, int]) -> None:
    height, width, seed = walk["height"], walk["width"], walk["seed"]
    affinity = made(str(walk["kind"]), height, width, seed=seed)
    a, b = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(seed))

    def walked(scores: Tensor) -> Tensor:
        return random_walk(scores, affinity, walk["beta"], walk["steps"], tolerance=0.01)

    torch.testing.assert_close(walked(a * 0 + 3), a * 0 + 3, atol=2e-6, rtol=0)
    torch.testing.assert_close(walked(2 * a - b), 2 * walked(a) - walked(b), atol=2e-6, rtol=0)


def test_a_pixel_without_links_keeps_its_score() -> None:
    affinity = made("uniform", 6, 6)
    for p, (dy, dx) in enumerate(neighbour_offsets(5)):
        affinity[p, 3, 2] = 0
        if dy <= 3 and 0 <= 2 - dx < 6:
            affinity[p, 3 - dy, 2 - dx] = 0
    scores = torch.rand(1, 6, 6)
    result = random_walk(scores, affinity)
    assert result[0, 3, 2].item() == pytest.approx(scores[0, 3, 2].item(), abs=1e-6)
    rest = torch.ones(6, 6).bool()
    rest[3, 2] = False
    assert result[0][rest].max() - result[0][rest].min() < 1e-3  # all the others are mixed


def test_what_is_not_linked_does_not_mix() -> None:
    affinity = made("uniform", 6, 10)
    for p, (_, dx) in enumerate(neighbour_offsets(5)):
        for x in range(10):
            if (x < 4) != (x + dx < 4):
                affinity[p, :, x] = 0
    scores = torch.zeros(1, 6, 10)
    scores[:, :, :4] = 1
    torch.testing.assert_close(random_walk(scores, affinity), scores, atol=1e-5, rtol=0)


def test_a_long_walk_reaches_the_stationary_mean() -> None:
    affinity = made("learned", 6, 7)
    scores = torch.rand(1, 6, 7)
    raw = transition(affinity, 8, 5)
    # The stationary distribution is in proportion to the row sums of W, 1 / T_ii here.
    weight = 1 / raw.diagonal()
    mean = (weight * scores.flatten().double()).sum() / weight.sum()
    result = random_walk(scores, affinity, steps=100_000)
    torch.testing.assert_close(result.double(), mean.expand(1, 6, 7), atol=1e-3, rtol=0)


# ---- the expansion -----------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 10, 17, 256, 1001])
@pytest.mark.parametrize("tolerance", [0, 1e-8, 1e-4, 0.1])
def test_the_expansion_is_near_the_power_everywhere(steps: int, tolerance: float) -> None:
    x = np.linspace(-1, 1, 4001)
    weights = chebyshev_power(steps, tolerance)
    result = np.polynomial.chebyshev.chebval(x, weights)
    assert np.abs(result - x**steps).max() <= tolerance + 1e-12 * max(steps, 1)
    assert sum(weights) == pytest.approx(1, abs=1e-12)
    assert len(weights) <= steps + 1


def test_the_expansion_is_short_and_exact_in_its_head() -> None:
    weights = chebyshev_power(256, 1e-4)
    assert 60 <= len(weights) <= 75
    for degree in (0, 2, 10, 40):
        exact = math.comb(256, (256 - degree) // 2) / 2 ** (256 - (degree > 0))
        assert weights[degree] == pytest.approx(exact, rel=1e-10)
    assert not any(weights[1::2])


def test_the_expansion_of_a_huge_number_of_steps_is_quick() -> None:
    weights = chebyshev_power(10_000_000, 1e-4)
    assert len(weights) < 20_000
    assert sum(weights) == pytest.approx(1)


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "affinity", "message"),
    [
        (torch.zeros(4, 5), torch.zeros(34, 4, 5), "scores must be"),
        (torch.zeros(1, 4, 5), torch.zeros(4, 5), "affinity the same"),
        (torch.zeros(1, 4, 5), torch.zeros(33, 4, 5), "need affinities"),
        (torch.zeros(1, 4, 5), torch.zeros(34, 5, 4), "need affinities"),
        (torch.zeros(2, 1, 4, 5), torch.zeros(1, 34, 4, 5), "need affinities"),
        (torch.zeros(1, 4, 5), torch.full((34, 4, 5), -0.1), "negative"),
        (torch.zeros(1, 4, 5), torch.full((34, 4, 5), math.nan), "NaN"),
        (torch.zeros(1, 4, 5), torch.full((34, 4, 5), math.inf), "infinite"),
        (torch.zeros(1, 4, 5), torch.full((34, 4, 5), 3e38), "too large"),
        (torch.full((1, 4, 5), math.nan), torch.zeros(34, 4, 5), "scores hold NaN"),
        (torch.full((1, 4, 5), math.inf), torch.zeros(34, 4, 5), "scores hold NaN"),
    ],
)
def test_bad_tensors(scores: Tensor, affinity: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_walk(scores, affinity)


@pytest.mark.parametrize(
    "setting",
    [
        {"steps": -1},
        {"beta": -1.0},
        {"tolerance": -1e-4},
        {"tolerance": math.nan},
        {"radius": 1},
        {"steps": 2.5},
    ],
)
def test_bad_settings(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"may be negative|radius|steps"):
        random_walk(torch.zeros(1, 4, 5), torch.zeros(34, 4, 5), **setting)  # type: ignore[arg-type]
