"""Image-specific prototypes against slow loops and an image whose answer is written down."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wsss_cli.methods.sipe import (
    explore,
    general_cam,
    gsc_loss,
    image_specific_cam,
    prototypes,
    seed_regions,
)

SHAPES = [(1, 2, 3, 1, 1), (2, 3, 5, 4, 6), (1, 4, 7, 6, 5)]  # N, C + 1, D, h, w


def scene(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """CAMs, features and where classes are valid: some not labelled, some cells padding."""
    torch.manual_seed(seed)
    n, k, d, h, w = shape
    valid = (torch.rand(n, k, 1, 1) < 0.7).float()
    valid[:, 0] = 1
    padding = torch.rand(n, 1, h, w) < 0.2
    return torch.rand(n, k, h, w), torch.randn(n, d, h, w), valid * ~padding


def cosine(a: Tensor, b: Tensor) -> float:
    lengths = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    return float(a @ b) / lengths if lengths else 0.0


# ---- against loops -------------------------------------------------------------------------------


def general_by_loop(maps: Tensor, valid: Tensor) -> Tensor:
    n, c, h, w = maps.shape
    result = torch.zeros(n, c + 1, h, w)
    for b in range(n):
        for k in range(c):
            seen = [
                max(float(maps[b, k, y, x]), 0.0) * float(valid[b, k + 1, y, x])
                for y in range(h)
                for x in range(w)
            ]
            top = max(seen)
            if top > 0:
                result[b, k + 1] = torch.tensor(seen).reshape(h, w) / top
        for y in range(h):
            for x in range(w):
                if valid[b, 0, y, x]:
                    result[b, 0, y, x] = 1 - max(float(v) for v in result[b, 1:, y, x])
    return result


@pytest.mark.parametrize("shape", SHAPES)
def test_the_general_cam_is_that_of_a_loop(shape: tuple[int, ...]) -> None:
    _, _, valid = scene(shape)
    n, k, _, h, w = shape
    maps = torch.randn(n, k - 1, h, w)
    torch.testing.assert_close(general_cam(maps, valid), general_by_loop(maps, valid))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_background_over_all_classes_is_that_of_a_loop(shape: tuple[int, ...]) -> None:
    """As if all classes were labelled, then nothing is left but the labelled ones."""
    _, _, valid = scene(shape)
    n, k, _, h, w = shape
    maps = torch.randn(n, k - 1, h, w)
    everywhere = valid[:, :1].expand_as(valid)
    expected = general_by_loop(maps, everywhere) * valid
    torch.testing.assert_close(general_cam(maps, valid, over_all=True), expected)


@pytest.mark.parametrize(
    ("size", "step"),
    [((4, 6), 1), ((7, 11), 2), ((8, 12), 2), ((13, 21), 4), ((14, 23), 4), ((16, 24), 4)],
)
def test_seeds_from_the_hierarchical_features_at_the_cells_of_the_cam(
    size: tuple[int, int], step: int
) -> None:
    """A cell of either grid looks at the pixel at stride times its number."""
    torch.manual_seed(0)
    coarse = (4, 6)
    maps, features = torch.randn(2, 3, *coarse), torch.randn(2, 5, *coarse)
    fine = torch.randn(2, 7, *size)
    valid = torch.tensor([[1.0, 1, 1, 0], [1, 1, 0, 1]])[:, :, None, None]
    cam, specific = explore(maps, features, fine, valid, valid, seeds_from="hierarchical")
    there = fine[:, :, ::step, ::step]
    seeds = seed_regions(cam, there, valid)
    expected = image_specific_cam(prototypes(seeds, fine), fine) * valid
    torch.testing.assert_close(specific, expected)
    other = explore(maps, features, fine, valid, valid)[1]
    assert not torch.allclose(specific, other)


def seeds_by_loop(cam: Tensor, features: Tensor, valid: Tensor, weight: float) -> Tensor:
    n, k, h, w = cam.shape
    result = torch.zeros(n, k, h, w)
    for b in range(n):
        cells = [(y, x) for y in range(h) for x in range(w) if valid[b, :, y, x].any()]
        for y, x in cells:
            best, winner = -1.0, None
            s = [max(cosine(features[b, :, y, x], features[b, :, i, j]), 0.0) for i, j in cells]
            for c in range(k):
                if not valid[b, c, y, x]:
                    continue
                m = [float(cam[b, c, i, j]) * float(valid[b, c, i, j]) for i, j in cells]
                both = sum(p * q for p, q in zip(s, m, strict=True))
                iou = both / (sum(s) + sum(m) - both) if both else 0.0
                iou *= weight if c == 0 else 1
                if iou > best:
                    best, winner = iou, c
            result[b, winner, y, x] = 1
    return result


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_seeds_are_those_of_a_loop(shape: tuple[int, ...], weight: float) -> None:
    cam, features, valid = scene(shape)
    result = seed_regions(cam, features, valid, background=weight)
    assert torch.equal(result, seeds_by_loop(cam, features, valid, weight))
    assert torch.equal(result.sum(1), valid.amax(1))  # one class in each cell, none in padding
    assert (result <= valid).all()


@pytest.mark.parametrize("scratch", [1, 4 * 30 * 7, 1 << 30])
def test_blocks_change_nothing(scratch: int) -> None:
    cam, features, valid = scene((2, 4, 7, 6, 5), seed=1)
    expected = seeds_by_loop(cam, features, valid, 0.5)
    assert torch.equal(seed_regions(cam, features, valid, scratch=scratch), expected)


def prototypes_by_loop(seeds: Tensor, features: Tensor) -> Tensor:
    n, k, h, w = seeds.shape
    _, e, fine_h, fine_w = features.shape
    result = torch.zeros(n, k, e)
    for b in range(n):
        for c in range(k):
            members = [
                features[b, :, y, x]
                for y in range(fine_h)
                for x in range(fine_w)
                if seeds[b, c, y * h // fine_h, x * w // fine_w]
            ]
            if members:
                result[b, c] = torch.stack(members).mean(0)
    return result


@pytest.mark.parametrize("fine", [(4, 6), (8, 12), (7, 11)])
def test_prototypes_are_those_of_a_loop(fine: tuple[int, int]) -> None:
    cam, features, valid = scene((2, 3, 5, 4, 6))
    seeds = seed_regions(cam, features, valid)
    hierarchical = torch.randn(2, 9, *fine)
    expected = prototypes_by_loop(seeds, hierarchical)
    torch.testing.assert_close(prototypes(seeds, hierarchical), expected)


def test_the_image_specific_cam_is_that_of_a_loop() -> None:
    torch.manual_seed(0)
    given, features = torch.randn(2, 3, 5), torch.randn(2, 5, 4, 6)
    given[1, 2] = 0  # a class without a seed
    result = image_specific_cam(given, features)
    for b, c, y, x in torch.cartesian_prod(*map(torch.arange, (2, 3, 4, 6))).tolist():
        expected = max(cosine(given[b, c], features[b, :, y, x]), 0.0)
        assert result[b, c, y, x].item() == pytest.approx(expected, abs=1e-6)
    assert (result[1, 2] == 0).all()


def test_the_consistency_loss_is_a_mean_of_differences() -> None:
    cam, specific = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    valid = (torch.rand(2, 3, 4, 5) < 0.5).float()
    pairs = list(zip(cam.flatten().tolist(), specific.flatten().tolist(), strict=True))
    assert gsc_loss(cam, specific).item() == pytest.approx(sum(abs(a - b) for a, b in pairs) / 120)
    some = [abs(a - b) for (a, b), v in zip(pairs, valid.flatten(), strict=True) if v]
    assert gsc_loss(cam, specific, valid).item() == pytest.approx(sum(some) / len(some))
    assert gsc_loss(cam, specific, torch.zeros(2, 3, 1, 1)) == 0
    assert gsc_loss(cam, cam) == 0


# ---- an image with known clusters ----------------------------------------------------------------


def test_seeds_and_prototypes_of_known_clusters() -> None:
    """Ground on the left, an animal of head and body on the right, a column of padding.

    The classifier sees the head only. Head and body have one semantic feature, ground another at a
    right angle, so the structure of each animal cell is the animal: its 4 cells, of which the CAM
    has 2. IoU with the class 2 / (4 + 2 - 2) = 1/2, with the background 2 / (4 + 6 - 2) = 1/4,
    weighed 1/8. For ground: 0, and 4 / (4 + 6 - 4) = 2/3, weighed 1/3.
    """
    picture = ["ggHH#", "ggBB#"]  # ground, Head, Body, padding
    semantic = {"g": (1.0, 0.0), "H": (0.0, 2.0), "B": (0.0, 1.0), "#": (9.0, 9.0)}
    fine = {"g": (1.0, 0.0, 0.0), "H": (0.0, 0.8, 0.6), "B": (0.0, 0.8, -0.6), "#": (7.0, 7.0, 7.0)}

    def drawn(values: dict[str, tuple[float, ...]]) -> Tensor:
        return torch.tensor([[values[cell] for cell in row] for row in picture]).permute(2, 0, 1)[
            None
        ]

    head = drawn({"g": (0.0,), "H": (1.0,), "B": (0.0,), "#": (5.0,)})
    # A second class, which is not labelled, sees the ground.
    other = drawn({"g": (3.0,), "H": (0.0,), "B": (0.0,), "#": (0.0,)})
    cells = drawn({"g": (1.0,), "H": (1.0,), "B": (1.0,), "#": (0.0,)})
    valid = cells * torch.tensor([1.0, 1.0, 0.0])[None, :, None, None]

    cam = general_cam(torch.cat([head, other], 1), valid)
    assert cam[0, 0].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]
    assert cam[0, 1].tolist() == [[0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]
    assert (cam[0, 2] == 0).all()

    seeds = seed_regions(cam, drawn(semantic), valid)
    assert seeds[0, 0].tolist() == [[1, 1, 0, 0, 0]] * 2
    assert seeds[0, 1].tolist() == [[0, 0, 1, 1, 0]] * 2  # the body too
    assert (seeds[0, 2] == 0).all()

    result = prototypes(seeds, drawn(fine))
    expected = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.8, 0.0], [0.0, 0.0, 0.0]]])
    torch.testing.assert_close(result, expected)

    specific = image_specific_cam(result, drawn(fine)) * valid
    ground = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0]] * 2)
    torch.testing.assert_close(specific[0, 0], ground)
    torch.testing.assert_close(specific[0, 1], torch.tensor([[0.0, 0.0, 0.8, 0.8, 0.0]] * 2))
    maps = torch.cat([head, other], 1)
    result = explore(maps, drawn(semantic), drawn(fine), valid, valid)
    assert torch.equal(result[0], cam)
    torch.testing.assert_close(result[1], specific)
    # |M - IS|: background 1 in 2 of 8 cells, class 0.2 in 2 of 8, 0.8 in 2.
    assert gsc_loss(cam, specific, valid).item() == pytest.approx(4 / 16)


# ---- properties ----------------------------------------------------------------------------------


def test_the_background_loses_against_a_class_half_as_good() -> None:
    features = torch.ones(1, 2, 1, 2)
    for share, winner in ((0.40, 0), (0.60, 1)):
        # S is 1 everywhere, so the IoU of a map is its mean.
        cam = torch.stack([torch.full((1, 2), 1.0), torch.full((1, 2), share)])[None]
        seeds = seed_regions(cam, features, torch.ones(1, 2, 1, 1))
        assert seeds[0, winner].tolist() == [[1, 1]]


@pytest.mark.parametrize("value", [0.0, 1e6])
def test_padding_and_absent_classes_take_part_in_nothing(value: float) -> None:
    cam, features, valid = scene((2, 4, 5, 6, 7), seed=3)
    maps, fine = torch.randn(2, 3, 6, 7), torch.randn(2, 9, 6, 7)
    padding = ~valid.bool().any(1, keepdim=True)
    assert padding.any()
    assert (valid.amax((2, 3)) == 0).any()
    plain = explore(maps, features, fine, valid, valid)
    other = explore(
        torch.where(valid[:, 1:] == 0, value, maps),
        torch.where(padding, value, features),
        torch.where(padding, value, fine),
        valid,
        valid,
    )
    for before, after in zip(plain, other, strict=True):
        torch.testing.assert_close(before, after)
    seeds = seed_regions(torch.where(valid == 0, value, cam), features, valid)
    assert torch.equal(seeds, seed_regions(cam, features, valid))


def test_images_of_a_batch_do_not_meet() -> None:
    cam, features, valid = scene((3, 3, 5, 4, 6), seed=4)
    together = seed_regions(cam, features, valid)
    for n in range(3):
        alone = seed_regions(cam[n : n + 1], features[n : n + 1], valid[n : n + 1])
        assert torch.equal(alone[0], together[n])


def test_lengths_of_features_do_not_matter() -> None:
    cam, features, valid = scene((1, 3, 5, 6, 6), seed=5)
    longer = features * torch.rand(1, 1, 6, 6).add(0.1)
    assert torch.equal(seed_regions(cam, features, valid), seed_regions(cam, longer, valid))


def test_cells_without_a_feature_are_background() -> None:
    cam, features, valid = scene((1, 3, 5, 6, 6), seed=6)
    seeds = seed_regions(cam, torch.zeros_like(features), valid)
    assert torch.equal(seeds[:, 0], valid[:, 0])


def test_seeds_carry_no_gradient_and_the_rest_does() -> None:
    cam, features, valid = scene((1, 3, 5, 4, 4), seed=7)
    hierarchical = torch.randn(1, 6, 8, 8, requires_grad=True)
    seeds = seed_regions(cam.requires_grad_(), features.requires_grad_(), valid)
    assert not seeds.requires_grad
    specific = image_specific_cam(prototypes(seeds, hierarchical), hierarchical)
    gsc_loss(torch.rand(1, 3, 8, 8), specific).backward()
    assert hierarchical.grad is not None
    assert hierarchical.grad.isfinite().all()
    assert hierarchical.grad.abs().sum() > 0
    assert features.grad is None

    maps = torch.randn(1, 2, 4, 4, requires_grad=True)
    general, _ = explore(maps, features, hierarchical.detach(), valid, torch.ones(1, 3, 1, 1))
    gsc_loss(general, torch.rand(1, 3, 4, 4), valid).backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
    assert maps.grad.abs().sum() > 0


def test_the_gradient_is_that_of_differences() -> None:
    torch.manual_seed(8)
    seeds = torch.zeros(1, 2, 3, 3).scatter_(1, torch.randint(0, 2, (1, 1, 3, 3)), 1)
    target = torch.rand(1, 2, 3, 3, dtype=torch.double)

    def loss(hierarchical: Tensor) -> Tensor:
        return gsc_loss(target, image_specific_cam(prototypes(seeds, hierarchical), hierarchical))

    features = torch.rand(1, 4, 3, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(loss, features)


def test_what_does_not_fit_is_refused() -> None:
    cam, features, valid = scene((1, 3, 5, 4, 4))
    with pytest.raises(ValueError, match="features"):
        seed_regions(cam, features[..., 1:], valid)
    for setting in ({"background": 0.0}, {"scratch": 0}):
        with pytest.raises(ValueError, match="not positive"):
            seed_regions(cam, features, valid, **setting)
    with pytest.raises(ValueError, match="2 images"):
        prototypes(torch.zeros(2, 3, 4, 4), features)
    with pytest.raises(ValueError, match="prototypes"):
        image_specific_cam(torch.zeros(1, 3, 4), features)
    with pytest.raises(ValueError, match="image-specific"):
        gsc_loss(cam, cam[..., 1:])
