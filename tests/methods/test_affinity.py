"""Affinities against loops written from the paper's text."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from wsss_cli.methods.affinity import (
    affinity_loss,
    affinity_targets,
    mean_affinity,
    neighbour_offsets,
    pair_weights,
    pairwise_affinity,
)


def test_offsets_of_the_papers_radius() -> None:
    offsets = neighbour_offsets(5)
    assert len(offsets) == 34
    assert offsets[:4] == [(0, 1), (0, 2), (0, 3), (0, 4)]
    assert offsets[4] == (1, -4)
    assert offsets[-1] == (4, 2)
    assert all(a < b for a, b in pairwise(offsets))  # the order that stored affinities rely on


@pytest.mark.parametrize("radius", [2, 3, 5, 8])
def test_offsets_hold_each_pair_of_the_disc_once(radius: int) -> None:
    reach = range(-radius, radius + 1)
    disc = {(y, x) for y in reach for x in reach if 0 < y * y + x * x < radius * radius}
    offsets = neighbour_offsets(radius)
    assert len(set(offsets)) == len(offsets)
    assert disc == set(offsets) | {(-y, -x) for y, x in offsets}
    assert 2 * len(offsets) == len(disc)


@pytest.mark.parametrize("radius", [1, 0, -2])
def test_a_radius_without_neighbours(radius: int) -> None:
    with pytest.raises(ValueError, match="radius"):
        neighbour_offsets(radius)


def by_loop(features: Tensor, radius: int) -> Tensor:
    count, _, height, width = features.shape
    offsets = neighbour_offsets(radius)
    result = torch.zeros(count, len(offsets), height, width, dtype=features.dtype)
    for n in range(count):
        for p, (dy, dx) in enumerate(offsets):
            for y in range(height):
                for x in range(width):
                    if 0 <= y + dy < height and 0 <= x + dx < width:
                        apart = features[n, :, y, x] - features[n, :, y + dy, x + dx]
                        result[n, p, y, x] = math.exp(-float(apart.abs().mean()))
    return result


@pytest.mark.parametrize(
    ("shape", "radius"),
    [((1, 3, 6, 7), 5), ((1, 4, 9, 5), 3), ((1, 2, 3, 2), 5), ((2, 1, 1, 8), 4), ((1, 5, 8, 1), 2)],
)
def test_affinities_are_those_of_the_formula(shape: tuple[int, ...], radius: int) -> None:
    torch.manual_seed(0)
    features = torch.randn(shape)
    torch.testing.assert_close(pairwise_affinity(features, radius), by_loop(features, radius))


def test_affinities_of_alike_and_of_far_pixels() -> None:
    features = torch.zeros(1, 4, 5, 5)
    features[:, :, :, 3:] = 50
    result = pairwise_affinity(features, 2)
    right = result[0, neighbour_offsets(2).index((0, 1))]
    assert right[:, :2].eq(1).all()
    assert right[:, 2].max() < 1e-20
    assert right[:, 4].eq(0).all()  # its neighbour is outside


def test_gradients_of_affinities() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pairwise_affinity(x, 3), (features,))


def test_gradients_are_those_of_autograd_also_where_features_are_equal() -> None:
    torch.manual_seed(0)
    features = torch.randint(0, 2, (2, 3, 6, 5)).float().requires_grad_()
    direction = torch.randn(2, 34, 6, 5)
    (pairwise_affinity(features) * direction).sum().backward()
    plain = features.detach().clone().requires_grad_()
    for p, (dy, dx) in enumerate(neighbour_offsets(5)):
        for y in range(6 - dy):
            for x in range(max(0, -dx), min(5, 5 - dx)):
                apart = plain[:, :, y, x] - plain[:, :, y + dy, x + dx]
                ((-apart.abs().mean(1)).exp() * direction[:, p, y, x]).sum().backward()
    torch.testing.assert_close(features.grad, plain.grad)


def test_layout_and_short_types() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 16, 5, 6)
    expected = pairwise_affinity(features)
    last = features.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(pairwise_affinity(last), expected)
    short = pairwise_affinity(features.bfloat16())
    assert short.dtype == torch.bfloat16
    torch.testing.assert_close(short.float(), expected, atol=0.02, rtol=0.02)


def test_no_images() -> None:
    assert pairwise_affinity(torch.zeros(0, 3, 4, 4)).shape == (0, 34, 4, 4)


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 5), (1, 1, 3, 4, 5)])
def test_features_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="features must be"):
        pairwise_affinity(torch.zeros(shape))


@pytest.mark.parametrize("ignore", [255, 0, -1])
def test_targets_are_those_of_a_loop(ignore: int) -> None:
    generator = torch.Generator().manual_seed(0)
    choices = torch.tensor([0, 1, 7, ignore])
    labels = choices[torch.randint(0, 4, (2, 6, 5), generator=generator)]
    result = affinity_targets(labels, 3, ignore)
    for n in range(2):
        for p, (dy, dx) in enumerate(neighbour_offsets(3)):
            for y in range(6):
                for x in range(5):
                    inside = y + dy < 6 and 0 <= x + dx < 5
                    a = int(labels[n, y, x])
                    b = int(labels[n, y + dy, x + dx]) if inside else ignore
                    known = ignore not in (a, b)
                    wanted = (known and a == b == 0, known and a == b > 0, known and a != b)
                    assert tuple(bool(mask[n, p, y, x]) for mask in result) == wanted


def test_targets_of_bytes_and_of_ignored_maps() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.uint8)
    bg, fg, neg = affinity_targets(labels)
    assert bg.dtype == torch.bool
    assert bg.any()
    assert not fg.any()
    assert not neg.any()
    assert not any(mask.any() for mask in affinity_targets(labels + 255))
    with pytest.raises(ValueError, match="label_map must be"):
        affinity_targets(labels[0])


def test_loss_by_hand() -> None:
    affinity = torch.tensor([0.5, 0.25, 0.9, 0.8, 0.3, 0.6]).reshape(1, 1, 2, 3)
    kinds = torch.tensor([0, 0, 1, 2, 2, 3]).reshape(1, 1, 2, 3)
    result = affinity_loss(affinity, kinds == 0, kinds == 1, kinds == 2)
    bg = -(math.log(0.5) + math.log(0.25)) / 2
    fg = -math.log(0.9)
    neg = -(math.log(0.2) + math.log(0.7)) / 2
    assert float(result) == pytest.approx(bg / 4 + fg / 4 + neg / 2, abs=1e-4)


def test_loss_without_pairs_of_a_kind() -> None:
    affinity = torch.full((1, 1, 2, 2), 0.5, requires_grad=True)
    none, all_ = torch.zeros(1, 1, 2, 2).bool(), torch.ones(1, 1, 2, 2).bool()
    nothing = affinity_loss(affinity, none, none, none)
    nothing.backward()
    assert nothing.item() == 0
    assert affinity.grad is not None
    assert affinity.grad.eq(0).all()
    only = affinity_loss(affinity, none, none, all_)
    assert only.item() == pytest.approx(math.log(2) / 2, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_loss_and_gradient_are_finite_at_the_ends(dtype: torch.dtype) -> None:
    affinity = torch.tensor([0.0, 1.0], dtype=dtype).reshape(1, 1, 1, 2).requires_grad_()
    all_ = torch.ones(1, 1, 1, 2).bool()
    loss = affinity_loss(affinity, all_, all_, all_)
    loss.backward()
    assert 0 < loss.item() < 20
    assert affinity.grad is not None
    assert affinity.grad.float().nan_to_num(posinf=0, neginf=0).abs().max() <= 1e5
    if dtype == torch.float32:
        assert affinity.grad.isfinite().all()


def test_perfect_affinities_cost_nothing() -> None:
    labels = torch.zeros(1, 6, 6, dtype=torch.long)
    labels[:, :, 3:] = 2
    targets = affinity_targets(labels)
    perfect = (targets[0] | targets[1]).float()
    assert float(affinity_loss(perfect, *targets)) == pytest.approx(0, abs=1e-6)
    assert float(affinity_loss(1 - perfect, *targets)) > 10


def test_learning_separates_what_labels_separate() -> None:
    torch.manual_seed(0)
    labels = torch.zeros(1, 6, 6, dtype=torch.long)
    labels[:, :, 3:] = 2
    targets = affinity_targets(labels)
    features = torch.randn(1, 8, 6, 6).requires_grad_()
    optimiser = torch.optim.Adam([features], lr=0.1)
    for _ in range(40):
        optimiser.zero_grad()
        loss = affinity_loss(pairwise_affinity(features), *targets)
        loss.backward()
        optimiser.step()
    learned = pairwise_affinity(features.detach())
    assert learned[targets[0] | targets[1]].mean() > 0.8
    assert learned[targets[2]].mean() < 0.2


def test_loss_of_masks_of_another_shape() -> None:
    mask = torch.zeros(1, 1, 2, 2).bool()
    with pytest.raises(ValueError, match="one shape"):
        affinity_loss(torch.ones(1, 1, 2, 3), mask, mask, mask)


@pytest.mark.parametrize(("size", "radius"), [((5, 7), 3), ((1, 6), 2), ((6, 4), 5), ((1, 1), 3)])
def test_the_mean_affinity_is_that_to_all_neighbours_in_the_grid(
    size: tuple[int, int], radius: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    expected = torch.ones(2, *size, dtype=torch.float64)
    for n in range(2):
        for y in range(size[0]):
            for x in range(size[1]):
                near = [
                    math.exp(-float((features[n, :, y, x] - features[n, :, b, a]).abs().mean()))
                    for b in range(size[0])
                    for a in range(size[1])
                    if 0 < (b - y) ** 2 + (a - x) ** 2 < radius * radius
                ]
                if near:
                    expected[n, y, x] = sum(near) / len(near)
    found = mean_affinity(pairwise_affinity(features, radius), radius)
    torch.testing.assert_close(found, expected)


def test_the_mean_affinity_needs_those_of_its_radius() -> None:
    with pytest.raises(ValueError, match="34 affinities a pixel needed"):
        mean_affinity(torch.zeros(1, 4, 6, 6), 5)


# ---- weights of pairs ----------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width", "radius"), [(6, 9, 3), (2, 3, 5), (1, 1, 2)])
def test_a_pair_weighs_what_its_lighter_end_does(height: int, width: int, radius: int) -> None:
    weights = torch.rand(height, width, generator=torch.Generator().manual_seed(0))
    found = pair_weights(weights, radius)
    for pair, (dy, dx) in zip(found, neighbour_offsets(radius), strict=True):
        for y in range(height):
            for x in range(width):
                inside = y + dy < height and 0 <= x + dx < width
                other = float(weights[y + dy, x + dx]) if inside else 0.0
                assert float(pair[y, x]) == min(float(weights[y, x]), other)
