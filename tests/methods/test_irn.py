"""Path affinities and displacement losses against loops, and against irn's public code.

`irn.json` holds what the public code gave; `make_irn_references.py` made it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.methods.make_irn_references import RADIUS, SIZE, field, grid, regions, sharp
from wsss_cli.methods.affinity import affinity_loss, affinity_targets, neighbour_offsets
from wsss_cli.methods.irn import displacement_losses, path, path_affinity
from wsss_cli.methods.random_walk import random_walk

THEIRS = json.loads(Path(__file__).with_name("irn.json").read_text())


# ---- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [2, 5, 10])
def test_a_path_has_the_cells_nearer_than_one_to_the_straight_line(radius: int) -> None:
    """Of the rectangle between both ends; the distance by projection, not by a cross product."""
    for dy, dx in neighbour_offsets(radius):
        length = math.hypot(dy, dx)
        near = set()
        for y in range(-radius, radius + 1):
            for x in range(-radius, radius + 1):
                if not (min(0, dy) <= y <= max(0, dy) and min(0, dx) <= x <= max(0, dx)):
                    continue
                along = (y * dy + x * dx) / length
                apart = math.sqrt(max(y * y + x * x - along * along, 0))
                if apart < 1 - 1e-9:
                    near.add((y, x))
        assert set(path(dy, dx)) == near
        assert {(0, 0), (dy, dx)} <= near
        assert len(path(dy, dx)) < 4 * radius


def by_loop(edge: Tensor, radius: int) -> Tensor:
    count, _, height, width = edge.shape
    offsets = neighbour_offsets(radius)
    result = torch.zeros(count, len(offsets), height, width, dtype=edge.dtype)
    for n in range(count):
        for p, (dy, dx) in enumerate(offsets):
            for y in range(height):
                for x in range(width):
                    if y + dy < height and 0 <= x + dx < width:
                        way = [float(edge[n, 0, y + b, x + a]) for b, a in path(dy, dx)]
                        result[n, p, y, x] = 1 - max(way)
    return result


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize(
    ("shape", "radius"),
    [
        ((2, 9, 8), 5),
        ((1, 12, 23), 10),
        ((1, 3, 2), 5),
        ((1, 1, 8), 4),
        ((2, 8, 1), 3),
        ((1, 1, 1), 2),
    ],
)
def test_path_affinities_are_those_of_a_loop(
    shape: tuple[int, int, int], radius: int, learns: bool
) -> None:
    torch.manual_seed(0)
    edge = torch.rand(shape[0], 1, *shape[1:])
    found = path_affinity(edge.clone().requires_grad_(learns), radius)
    torch.testing.assert_close(found.detach(), by_loop(edge, radius))


@pytest.mark.parametrize("radius", [3, 10])
def test_the_gradient_goes_to_the_highest_cell_of_each_path(radius: int) -> None:
    torch.manual_seed(0)
    edge = torch.rand(2, 1, 11, 7, dtype=torch.float64)
    found = path_affinity(edge.requires_grad_(), radius)
    direction = torch.randn_like(found)
    (found * direction).sum().backward()
    expected = torch.zeros_like(edge)
    for n in range(2):
        for p, (dy, dx) in enumerate(neighbour_offsets(radius)):
            for y in range(11):
                for x in range(7):
                    if y + dy < 11 and 0 <= x + dx < 7:
                        way = [(y + b, x + a) for b, a in path(dy, dx)]
                        top = max(
                            way, key=lambda cell: float(edge.detach()[n, 0, cell[0], cell[1]])
                        )
                        expected[n, 0, top[0], top[1]] -= direction[n, p, y, x]
    torch.testing.assert_close(edge.grad, expected)


def test_the_first_of_equal_cells_gets_the_whole_gradient() -> None:
    edge = torch.ones(1, 1, 1, 3, requires_grad=True)
    path_affinity(edge, 3)[0, 1, 0, 0].backward()  # from the first cell to the third
    assert edge.grad is not None
    assert edge.grad.flatten().tolist() == [-1, 0, 0]


def test_a_thin_diagonal_boundary_parts_both_sides() -> None:
    """No path slips through between two of its cells."""
    edge = torch.eye(12)[None, None]
    affinity = path_affinity(edge, 5)[0]
    y, x = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
    side = (x - y).sign()
    for pair, (dy, dx) in zip(affinity, neighbour_offsets(5), strict=True):
        for row in range(12 - dy):
            for column in range(max(0, -dx), 12 - max(0, dx)):
                if side[row, column] != side[row + dy, column + dx]:
                    assert pair[row, column] == 0
    alone = path_affinity(torch.zeros(1, 1, 4, 4), 2)[0]
    assert alone[0, :, :3].eq(1).all()
    assert alone[0, :, 3].eq(0).all()  # its neighbour is outside


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_short_types_and_no_images(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    edge = torch.rand(2, 1, 6, 7).to(dtype)
    found = path_affinity(edge)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), by_loop(edge.float(), 5), atol=0.01, rtol=0)
    assert path_affinity(edge[:0]).shape == (0, 34, 6, 7)
    assert path_affinity(edge[:0].float().requires_grad_()).shape == (0, 34, 6, 7)


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 2, 4, 5)])
def test_a_map_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"edge must be \(N, 1, h, w\)"):
        path_affinity(torch.zeros(shape))


# ---- displacements -------------------------------------------------------------------------------


def displaced_by_loop(values: Tensor, bg: Tensor, fg: Tensor, radius: int) -> tuple[float, float]:
    found: dict[str, list[float]] = {"fg": [], "bg": []}
    for n, p, y, x in ((fg | bg).nonzero()).tolist():
        dy, dx = neighbour_offsets(radius)[p]
        for axis, due in enumerate((dy, dx)):
            apart = float(values[n, axis, y, x] - values[n, axis, y + dy, x + dx])
            if fg[n, p, y, x]:
                found["fg"].append(abs(apart - due))
            else:
                found["bg"].append(abs(apart))
    towards, still = (sum(each) / len(each) if each else 0 for each in found.values())
    return towards, still


@pytest.mark.parametrize("choice", [[0, 1, 2, 255], [0, 255], [1, 255], [255]])
def test_displacement_losses_are_those_of_a_loop(choice: list[int]) -> None:
    torch.manual_seed(0)
    labels = torch.tensor(choice)[torch.randint(0, len(choice), (2, 7, 6))]
    values = torch.randn(2, 2, 7, 6, dtype=torch.float64) * 3
    bg, fg, _ = affinity_targets(labels, 4)
    found = displacement_losses(values, bg, fg, 4)
    assert [float(loss) for loss in found] == pytest.approx(displaced_by_loop(values, bg, fg, 4))


def test_gradients_of_displacement_losses() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (2, 5, 4))
    bg, fg, _ = affinity_targets(labels, 3)
    values = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: displacement_losses(v, bg, fg, 3), (values,))


def test_a_field_that_points_to_one_centroid_costs_nothing() -> None:
    """And neither does one that is the same everywhere in the background."""
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[:, :, :4] = 1
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    towards = torch.stack([4 - y, 1.5 - x])[None]
    towards[..., 4:] = 0.7
    bg, fg, _ = affinity_targets(labels)
    assert [float(loss) for loss in displacement_losses(towards, bg, fg)] == pytest.approx([0, 0])
    away = displacement_losses(-towards, bg, fg)
    assert float(away[0]) > 1


def test_shapes_of_displacements_are_checked() -> None:
    pairs = torch.zeros(1, 34, 5, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"displacement must be \(N, 2, h, w\)"):
        displacement_losses(torch.zeros(1, 3, 5, 5), pairs, pairs)
    with pytest.raises(ValueError, match=r"the pairs must be \(1, 34, 5, 5\)"):
        displacement_losses(torch.zeros(1, 2, 5, 5), pairs, pairs[:, :4])


# ---- the public code -----------------------------------------------------------------------------


def inner(pairs: Tensor) -> Tensor:
    """Of (…, h, w) the cells whose neighbours are all inside, as the public code takes them."""
    reach = RADIUS - 1
    return pairs[..., : SIZE[0] - reach, reach : SIZE[1] - reach]


def test_path_affinities_are_those_of_the_public_code() -> None:
    ours = neighbour_offsets(RADIUS)
    theirs = [tuple(offset) for offset in THEIRS["offsets"]]
    assert sorted(theirs) == ours
    found = inner(path_affinity(sharp(1), RADIUS)[0]).flatten(1)
    order = [ours.index(offset) for offset in theirs]
    torch.testing.assert_close(found.mean(1)[order], torch.tensor(THEIRS["affinity"]))
    torch.testing.assert_close(found[order, ::11], torch.tensor(THEIRS["affinity_picked"]))


def test_losses_and_their_slopes_are_those_of_the_public_code() -> None:
    theirs = THEIRS["losses"]
    sets = [torch.zeros_like(each) for each in affinity_targets(regions(), RADIUS)]
    for kept, each in zip(sets, affinity_targets(regions(), RADIUS), strict=True):
        inner(kept).copy_(inner(each))
    bg, fg, neg = sets
    edge, values = sharp(1).requires_grad_(), field(3).requires_grad_()
    affinity = affinity_loss(path_affinity(edge, RADIUS), bg, fg, neg)
    towards, still = displacement_losses(values, bg, fg, RADIUS)
    wanted = (theirs["bg"] / 2 + theirs["fg"] / 2 + theirs["neg"]) / 2
    assert affinity.item() == pytest.approx(wanted, rel=1e-5)
    assert towards.item() == pytest.approx(theirs["dp_fg"], rel=1e-5)
    assert still.item() == pytest.approx(theirs["dp_bg"], rel=1e-5)
    (affinity + (towards + still) / 2).backward()
    assert edge.grad is not None
    assert values.grad is not None
    near = {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(edge.grad.flatten()[::5], torch.tensor(theirs["edge_slope"]), **near)
    slopes = torch.tensor(theirs["field_slope"])
    torch.testing.assert_close(values.grad.flatten()[::9], slopes, **near)


def test_the_walk_is_that_of_the_public_code() -> None:
    """Theirs multiplies the dense matrix by itself eight times: 256 steps."""
    edge = sharp(1)
    maps = torch.stack([grid(11)[0, 0], grid(12)[0, 0]]) * (1 - edge[0])
    found = random_walk(maps, path_affinity(edge, RADIUS)[0], 10, 256, RADIUS, exact=True)
    theirs = torch.tensor(THEIRS["walked"])
    torch.testing.assert_close(found.flatten(1)[:, ::7], theirs, rtol=1e-3, atol=1e-4)
    quick = random_walk(maps, path_affinity(edge, RADIUS)[0], 10, 256, RADIUS)
    torch.testing.assert_close(quick.flatten(1)[:, ::7], theirs, rtol=1e-3, atol=3e-4)
