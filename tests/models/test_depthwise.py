"""The fast gradient against PyTorch's own, in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from wsss_cli.models.depthwise import depthwise_conv2d


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "padding"),
    [
        ((9, 11), 3, 1, 1, 1),
        ((9, 10), 5, 2, 1, 2),
        ((8, 9), 5, 2, 1, 2),
        ((9, 10), 5, 1, 2, 4),
        ((10, 13), 3, 1, 2, 2),
        ((8, 8), 3, 2, 1, 1),
        ((9, 9), 3, 2, 1, 0),
        ((12, 7), 5, 1, 3, 6),
        ((7, 7), 7, 1, 1, 3),
        ((11, 10), 5, 3, 1, 0),
    ],
)
def test_gradients_are_those_of_conv2d(
    size: tuple[int, int], kernel: int, stride: int, dilation: int, padding: int
) -> None:
    torch.manual_seed(0)
    given = (
        torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True),
        torch.randn(4, 1, kernel, kernel, dtype=torch.float64, requires_grad=True),
        torch.randn(4, dtype=torch.float64, requires_grad=True),
    )
    ours = depthwise_conv2d(*given, stride, padding, dilation)
    theirs = functional.conv2d(*given, stride, padding, dilation, 4)
    assert torch.equal(ours, theirs)
    gradient = torch.randn_like(theirs)
    for a, b in zip(
        torch.autograd.grad(ours, given, gradient),
        torch.autograd.grad(theirs, given, gradient),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_autocast_computes_in_bf16_and_gives_gradients_in_fp32() -> None:
    torch.manual_seed(0)
    given = torch.randn(1, 8, 6, 6, requires_grad=True), torch.randn(8, 1, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        output = depthwise_conv2d(*given, None, 1, 1, 1)
    assert output.dtype == torch.bfloat16
    output.float().square().sum().backward()
    assert [tensor.grad.dtype for tensor in given] == [torch.float32] * 2
    exact = functional.conv2d(*given, None, 1, 1, 1, 8).square().sum()
    for tensor, gradient in zip(given, torch.autograd.grad(exact, given), strict=True):
        assert (tensor.grad - gradient).norm() < 0.02 * gradient.norm()


def test_no_gradient_is_computed_where_none_is_asked_for() -> None:
    image, weight = torch.randn(1, 4, 6, 6), torch.randn(4, 1, 3, 3, requires_grad=True)
    depthwise_conv2d(image, weight, None, 1, 1, 1).sum().backward()
    assert weight.grad is not None
    assert image.grad is None
