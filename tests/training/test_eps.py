"""Training with saliency maps: what is counted, and how the foreground is refined."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from wsss_cli.errors import ConfigurationError
from wsss_cli.methods.eps import eps_loss, eps_pp_loss, foreground_map, inconsistent
from wsss_cli.methods.pamr import pamr
from wsss_cli.models.eps import EpsNetwork
from wsss_cli.models.networks import build_network
from wsss_cli.training.batch import Batch
from wsss_cli.training.cam import class_scores
from wsss_cli.training.eps import (
    check_supervision,
    refined_foreground,
    repeat_edge,
    saliency_loss,
)
from wsss_cli.training.losses import multilabel_loss, pixel_loss

NAN = float("nan")
CLASSES = ("cat", "dog", "cow")
WHOLE = [0, 0, 64, 80]


@pytest.fixture(scope="module")
def network() -> EpsNetwork:
    made: EpsNetwork = build_network("eps", "efficientnet-lite0", CLASSES, {"output_stride": 16})
    return made


def batch(valid: list[int] = WHOLE, **changed: Any) -> Batch:
    """Two images of 64 x 80 pixels, the second of which is padded."""
    draw = torch.Generator().manual_seed(0)
    images = functional.interpolate(torch.randn(2, 3, 16, 20, generator=draw), scale_factor=4)
    made = Batch(
        images,
        torch.ones(2),
        torch.tensor([WHOLE, valid]),
        torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
        grey=torch.rand(2, 1, 64, 80, generator=draw),
    )
    made = replace(made, **changed)
    assert made.grey is not None
    rows, columns = torch.arange(64), torch.arange(80)
    outside = ~made.inside(rows, columns)[:, None]
    return replace(made, grey=torch.where(outside, NAN, made.grey))


def maps() -> Tensor:
    return 3 * torch.randn(2, 4, 4, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("variant", ["eps", "eps++"])
def test_the_loss_is_that_of_the_classes_and_of_the_saliency(
    network: EpsNetwork, variant: str
) -> None:
    given, data = maps(), batch()
    assert data.grey is not None
    assert data.labels is not None
    loss = saliency_loss(network, variant=variant, tau=0.3, lam=0.2, drop_above=0.7)
    result = loss(lambda images: given, data)
    assert isinstance(result, dict)
    assert list(result) == ["classes", "saliency"]
    expected = multilabel_loss(given[:, :-1].mean((2, 3)), data.labels, data.weights)
    torch.testing.assert_close(result["classes"], expected)
    grey = data.grey[:, :, ::16, ::16]
    if variant == "eps":
        expected = eps_loss(given, grey, data.labels, 0.3, 0.2)
    else:
        refined = refined_foreground(given, data, 16)
        expected = eps_pp_loss(given, refined, grey, data.labels, above=0.7, lam=0.2)
    torch.testing.assert_close(result["saliency"], expected)


@pytest.mark.parametrize("variant", ["eps", "eps++"])
def test_padding_takes_part_in_nothing(network: EpsNetwork, variant: str) -> None:
    box = [16, 20, 60, 80]  # cells 1 to 3 of 4 rows, 2 to 4 of 5 columns
    loss = saliency_loss(network, variant=variant, lam=1)
    data, given = batch(box), maps().requires_grad_()
    result = loss(lambda images: given, data)
    assert isinstance(result, dict)
    (gradient,) = torch.autograd.grad(result["classes"] + result["saliency"], given)
    assert gradient[1, :, 1:, 2:].any()
    assert not gradient[1, :, :1].any()
    assert not gradient[1, :, :, :2].any()
    images, other = data.images.clone(), given.detach().clone()
    images[1, :, :16], images[1, :, 60:], images[1, :, :, :20] = 9, -9, 7
    other[1, :, :1], other[1, :, :, :2] = 5, -5
    again = loss(lambda images: other, replace(data, images=images))
    assert isinstance(again, dict)
    assert again == result


def test_what_is_not_known_of_an_image(network: EpsNetwork) -> None:
    """No saliency: it teaches the classes. No labels: where something is. Not read: nothing."""
    loss = saliency_loss(network, variant="eps++", lam=1)
    given = maps()

    def parts(data: Batch, some: Tensor = given) -> dict[str, Tensor]:
        result = loss(lambda images: some, data)
        assert isinstance(result, dict)
        return result

    data = batch()
    assert data.grey is not None
    assert data.labels is not None
    alone = replace(
        data,
        images=data.images[:1],
        weights=data.weights[:1],
        valid=data.valid[:1],
        labels=data.labels[:1],
        grey=data.grey[:1],
    )
    grey, labels = data.grey.clone(), data.labels.clone()
    grey[1], labels[1] = NAN, NAN
    first = parts(alone, given[:1])
    no_saliency, no_labels = parts(replace(data, grey=grey)), parts(replace(data, labels=labels))
    torch.testing.assert_close(no_saliency["saliency"], first["saliency"])
    torch.testing.assert_close(no_saliency["classes"], parts(data)["classes"])
    torch.testing.assert_close(no_labels["classes"], first["classes"])
    assert no_labels["saliency"] != first["saliency"]
    weights, valid = torch.tensor([1.0, 0.0]), torch.tensor([WHOLE, [0, 0, 0, 0]])
    assert parts(replace(data, grey=grey, weights=weights, valid=valid)) == first


def test_a_true_mask_is_perfect_saliency_and_says_the_classes(network: EpsNetwork) -> None:
    given, data = maps(), batch()
    masks = torch.full((2, 64, 80), 255)
    masks[0] = 0
    masks[0, :40, :40], masks[0, :, 60:] = 3, 255
    data = replace(data, label_maps=masks)
    assert data.grey is not None
    assert data.labels is not None
    torch.manual_seed(0)
    result = saliency_loss(network, variant="eps++", lam=1)(lambda images: given, data)
    assert isinstance(result, dict)
    grey = data.grey[:, :, ::16, ::16].clone()
    grey[0] = 0
    grey[0, :, :3, :3], grey[0, :, :, 4:] = 1, NAN
    refined = refined_foreground(given, data, 16)
    sure = torch.tensor([True, False])
    expected = eps_pp_loss(given, refined, grey, data.labels, sure=sure)
    torch.testing.assert_close(result["saliency"], expected)
    assert expected != eps_pp_loss(given, refined, grey, data.labels)
    torch.manual_seed(0)
    background_first = torch.cat([given[:, -1:], given[:, :-1]], 1)
    torch.testing.assert_close(result["mask"], pixel_loss(background_first, masks, 16, every=4))


def test_the_foreground_is_refined_on_a_picture_of_a_quarter_of_the_size() -> None:
    """Its pixels (4 y, 4 x) are the cells of the maps; dilations are a quarter of the paper's."""
    data, given = batch(), maps()
    assert data.labels is not None
    smooth = functional.avg_pool2d(data.images, 5, 4, 2, count_include_pad=False)
    foreground = foreground_map(given, data.labels)
    expected = pamr(smooth[:, :, :13, :17], foreground, 10, (1, 2, 3, 6))[:, :, ::4, ::4]
    for foreground in expected:  # each reaches from 0 to 1
        foreground -= foreground.min().clone()
        foreground /= foreground.max().clone()
    torch.testing.assert_close(refined_foreground(given, data, 16), expected)


def test_not_stretched_it_is_what_pamr_gives(network: EpsNetwork) -> None:
    data, given = batch(), maps()
    assert data.labels is not None
    assert data.grey is not None
    smooth = functional.avg_pool2d(data.images, 5, 4, 2, count_include_pad=False)
    foreground = foreground_map(given, data.labels)
    expected = pamr(smooth[:, :, :13, :17], foreground, 10, (1, 2, 3, 6))[:, :, ::4, ::4]
    torch.testing.assert_close(refined_foreground(given, data, 16, stretch=False), expected)
    assert expected.amax((2, 3)).max() < 1
    loss = saliency_loss(network, variant="eps++", lam=1, stretch=False, mean_over="pixels")
    result = loss(lambda images: given, data)
    assert isinstance(result, dict)
    grey = data.grey[:, :, ::16, ::16]
    wanted = eps_pp_loss(given, expected, grey, data.labels, mean_over="pixels")
    torch.testing.assert_close(result["saliency"], wanted)


def test_the_reach_of_the_refinement_in_pixels_is_the_same_at_any_stride(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As far as the picture, of a pixel for a quarter of a cell, can tell such distances apart."""
    reached = {}

    def telling(image: Tensor, maps: Tensor, *, dilations: list[int]) -> Tensor:
        reached[stride] = [each * stride // 4 for each in dilations]
        return pamr(image, maps, 1, dilations)

    monkeypatch.setattr("wsss_cli.training.eps.pamr", telling)
    for stride in (4, 8, 16, 32):
        size = [-(-side // stride) for side in (64, 80)]
        refined_foreground(torch.randn(2, 4, *size), batch(), stride)
    assert reached == {4: [4, 8, 12, 24], 8: [4, 8, 12, 24], 16: [4, 8, 12, 24], 32: [8, 16, 24]}


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_an_edge_of_the_photograph_becomes_one_of_the_foreground(stride: int) -> None:
    images = torch.zeros(1, 3, 20 * stride, 20 * stride)
    images[..., 10 * stride - stride // 2 :] = 1  # between the centres of cells 9 and 10
    ramp = torch.linspace(2, -2, 20).expand(1, 1, 20, 20)
    data = Batch(
        images + 0.01 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)),
        torch.ones(1),
        torch.tensor([[0, 0, 20 * stride, 20 * stride]]),
        torch.ones(1, 1),
    )
    maps = torch.cat([ramp, torch.zeros_like(ramp)], 1)
    step = -refined_foreground(maps, data, stride).diff(dim=3)[0, 0, 10]
    assert step.argmax() == 9
    assert step[9] > 2 * step[6:9].max()
    assert step[9] > 2 * step[10:13].max()


@pytest.mark.parametrize("variant", ["eps", "eps++"])
def test_the_map_of_the_background_learns_what_is_not_salient(
    network: EpsNetwork, variant: str
) -> None:
    """Also where the classes of the image are nowhere near, and absent ones are strong."""
    start = torch.zeros(2, 4, 4, 5)
    start[:, :3] = 2 * torch.tensor([[1, 0, 1], [0, 1, 0]])[:, :, None, None] - 4.0
    start[0, 1], start[1, ::2] = 3, 3  # the absent ones
    start.requires_grad_()
    data = batch(grey=torch.zeros(2, 1, 64, 80))
    result = saliency_loss(network, variant=variant, lam=0.5)(lambda images: start, data)
    assert isinstance(result, dict)
    (gradient,) = torch.autograd.grad(result["saliency"], start)
    assert (gradient[:, -1] < -1e-4).all()


def test_beyond_a_box_its_edge_is_repeated() -> None:
    given = torch.arange(20.0).view(1, 1, 4, 5)
    result = repeat_edge(given, torch.tensor([[1, 2, 3, 4]]))[0, 0]
    assert result.tolist() == [[7, 7, 7, 8, 8]] * 2 + [[12, 12, 12, 13, 13]] * 2
    assert torch.equal(repeat_edge(given, torch.tensor([[0, 0, 4, 5]])), given)


def test_scores_are_means_over_the_photograph(network: EpsNetwork) -> None:
    given, data = maps(), batch([16, 20, 60, 80])
    result = class_scores(network, given, data)
    torch.testing.assert_close(result[0], given[0, :-1].mean((1, 2)))
    torch.testing.assert_close(result[1], given[1, :-1, 1:, 2:].mean((1, 2)))
    torch.testing.assert_close(network.scores(given), given[:, :-1].mean((2, 3)))
    assert data.labels is not None
    loss = saliency_loss(network, variant="eps", lam=1, padding=True)
    parts = loss(lambda images: given, data)
    assert isinstance(parts, dict)
    over_all = multilabel_loss(given[:, :-1].mean((2, 3)), data.labels, data.weights)
    torch.testing.assert_close(parts["classes"], over_all)
    without = saliency_loss(network, variant="eps", lam=1)(lambda images: given, data)
    assert isinstance(without, dict)
    assert without["classes"] != parts["classes"]
    assert without["saliency"] == parts["saliency"]


def test_what_must_be_known_of_some_record() -> None:
    check_supervision([{"labels": ["cat"]}, {"saliency": "s.png"}], strong_masks=False)
    check_supervision([{"labels": ["cat"]}], strong_masks=True)
    with pytest.raises(ConfigurationError, match="no record has 'saliency', which"):
        check_supervision([{"labels": ["cat"]}], strong_masks=False)
    with pytest.raises(ConfigurationError, match="no record has labels"):
        check_supervision([{"labels": [], "saliency": "s.png"}], strong_masks=False)


def test_a_network_that_sees_no_object_yet_is_not_left_with_background_alone() -> None:
    """Where its foreground is strongest counts as such, though it nowhere reaches one half."""
    data = batch(grey=torch.ones(2, 1, 64, 80))
    assert data.labels is not None
    assert data.grey is not None
    start = 0.1 * maps()
    foreground = foreground_map(start, data.labels)
    assert foreground[1].max() < 0.5
    salient = (foreground > foreground.median()).float()
    refined = refined_foreground(start, data, 16)
    assert 0.2 < (inconsistent(refined, salient) & (salient == 1)).float().mean() * 2 < 0.8
    # A photograph that shows nothing has no foreground, however weak.
    nothing = replace(data, labels=torch.zeros(2, 3))
    assert not refined_foreground(start, nothing, 16).any()
