"""Folded convolutions compute and learn as the two layers do; frozen layers stay frozen."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from tests.models.conftest import build, images
from wsss_cli.models.batchnorm import conv_bn, fold_once, freeze_batchnorm


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_frozen_layers_fold_exactly(groups: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=groups, bias=False).double()
    bn = nn.BatchNorm2d(8).double()
    for values in (bn.weight, bn.bias, bn.running_mean):
        nn.init.normal_(values)
    nn.init.uniform_(bn.running_var, 0.5, 2)
    bn.eval()
    image = torch.randn(2, 8, 9, 9, dtype=torch.float64, requires_grad=True)
    inputs = [image, conv.weight, bn.weight, bn.bias]
    ours, theirs = conv_bn(image, conv, bn), bn(conv(image))
    torch.testing.assert_close(ours, theirs)
    gradient = torch.randn_like(theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs, gradient), torch.autograd.grad(theirs, inputs, gradient)
    )


def test_statistics_are_still_learned_in_training() -> None:
    conv, bn = nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)
    conv_bn(torch.randn(2, 3, 5, 5) + 3, conv, bn)
    assert bn.running_mean.abs().sum() > 0


@pytest.mark.parametrize("short", [False, True])
def test_what_is_kept_is_what_is_folded(short: bool) -> None:
    torch.manual_seed(0)
    conv, bn = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
    nn.init.uniform_(bn.running_var, 0.5, 2)
    nn.init.normal_(bn.running_mean)
    keys = list(bn.state_dict())
    pair = nn.ModuleList([conv, bn]).eval().requires_grad_(False)
    image = torch.randn(2, 8, 9, 9)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=short):
        expected = conv_bn(image, conv, bn)
        fold_once(pair)
        for _ in range(2):
            torch.testing.assert_close(conv_bn(image, conv, bn), expected, rtol=0, atol=0)
        conv.weight.zero_()  # and is not folded again
        torch.testing.assert_close(conv_bn(image, conv, bn), expected, rtol=0, atol=0)
    assert list(bn.state_dict()) == keys


# ---- frozen ------------------------------------------------------------------------------------


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_frozen_layers_stay_through_training() -> None:
    network = build("segmentation", "deeplabv3plus")
    freeze_batchnorm(network.backbone)
    network.train()
    before = [layer.running_mean.clone() for layer in norms(network.backbone)]
    network(images(2, 40, 40)).square().mean().backward()
    assert not any(layer.training for layer in norms(network.backbone))
    for layer, mean in zip(norms(network.backbone), before, strict=True):
        assert torch.equal(layer.running_mean, mean)
        assert layer.weight.grad is None
        assert not layer.weight.requires_grad
        assert not layer.bias.requires_grad
    assert all(layer.training and layer.weight.requires_grad for layer in norms(network.head))
    assert any(layer.running_mean.abs().sum() > 0 for layer in norms(network.head))
    network.eval()
    assert not any(layer.training for layer in network.modules())


def test_scale_and_shift_may_go_on_learning() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    freeze_batchnorm(network, affine=False)
    network.train()(images(2, 4, 4) + 5).sum().backward()
    assert torch.equal(network[1].running_mean, torch.zeros(4))
    assert network[1].bias.grad is not None


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_copies_are_frozen_too(duplicate: object) -> None:
    network = nn.Sequential(nn.BatchNorm2d(4))
    freeze_batchnorm(network)
    twin = duplicate(network)  # type: ignore[operator]
    assert twin.train()[0].train() is twin[0]
    assert not twin[0].training
    assert twin[0] is not network[0]
