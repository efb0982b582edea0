"""Depthwise convolution with a gradient that is fast on a CPU.

The forward kernels of oneDNN are fast for every depthwise convolution, its backward kernels only
for the gradient of 3×3 weights without dilation. So both gradients are put in those terms, exactly:

- that of the input is a depthwise convolution of the output's gradient, spread out by the stride,
  with the weights turned by 180°;
- that of the weights is made of 3×3 windows: a 5×5 kernel is covered by four, and dilation is
  undone by taking every d-th pixel as an image of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_backward = torch.ops.aten.convolution_backward


def depthwise_conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, dilation: int
) -> Tensor:
    """Each channel convolved with its own kernel, as `functional.conv2d` with C groups.

    Args:
        input: shape (N, C, H, W).
        weight: shape (C, 1, k, k), k odd.
        bias: shape (C,), or None.
        stride: of the output.
        padding: zeros on each side.
        dilation: pixels between the taps; 1 unless the stride is 1.
    """
    if input.device.type == "cpu" and torch.is_grad_enabled():
        if torch.is_autocast_enabled("cpu"):
            short = torch.get_autocast_dtype("cpu")
            input, weight = input.to(short), weight.to(short)
            bias = None if bias is None else bias.to(short)
        output: Tensor = _Depthwise.apply(  # type: ignore[no-untyped-call]
            input, weight, bias, stride, padding, dilation
        )
        return output
    groups = weight.shape[0]
    return functional.conv2d(input, weight, bias, stride, padding, dilation, groups)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: int,
        padding: int,
        dilation: int,
    ) -> Tensor:
        context.save_for_backward(input, weight)
        context.how = stride, padding, dilation
        return functional.conv2d(input, weight, bias, stride, padding, dilation, weight.shape[0])

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = context.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", enabled=False):
            return (
                _input_gradient(gradient, input, weight, *context.how)
                if context.needs_input_grad[0]
                else None,
                _weight_gradient(gradient, input, weight, *context.how)
                if context.needs_input_grad[1]
                else None,
                gradient.sum((0, 2, 3)) if context.needs_input_grad[2] else None,
                None,
                None,
                None,
            )


def _input_gradient(
    gradient: Tensor, input: Tensor, weight: Tensor, stride: int, padding: int, dilation: int
) -> Tensor:
    groups, reach = weight.shape[0], dilation * (weight.shape[2] - 1)
    if stride > 1:
        height, width = (side + 2 * padding - reach for side in input.shape[2:])
        spread = gradient.new_zeros(gradient.shape[0], height, width, groups).permute(0, 3, 1, 2)
        spread[:, :, ::stride, ::stride] = gradient
        gradient = spread
    turned = weight.flip(2, 3)
    return functional.conv2d(gradient, turned, None, 1, reach - padding, dilation, groups)


def _weight_gradient(
    gradient: Tensor, input: Tensor, weight: Tensor, stride: int, padding: int, dilation: int
) -> Tensor:
    groups, side = weight.shape[0], weight.shape[2]
    rows, columns = (dilation * -(-size // dilation) for size in gradient.shape[2:])
    # Padded to exactly the pixels that the kernel covers, so that no call below needs padding.
    reach = dilation * (side - 1)
    below = (rows - 1) * stride + 1 + reach - padding - input.shape[2]
    right = (columns - 1) * stride + 1 + reach - padding - input.shape[3]
    input = functional.pad(input, (padding, right, padding, below))
    if dilation > 1:
        bottom, end = rows - gradient.shape[2], columns - gradient.shape[3]
        gradient = _phases(functional.pad(gradient, (0, end, 0, bottom)), dilation)
        input = _phases(input, dilation)
    covered = [(size - 1) * stride + 3 for size in gradient.shape[2:]]
    result = torch.empty_like(weight)
    window = weight.new_empty(groups, 1, 3, 3)
    for top in range(0, side - 2, 2):
        for left in range(0, side - 2, 2):
            covered_input = input[:, :, top : top + covered[0], left : left + covered[1]]
            result[:, :, top : top + 3, left : left + 3] = _backward(
                gradient,
                covered_input.contiguous(memory_format=torch.channels_last),
                window,
                None,
                [stride, stride],
                [0, 0],
                [1, 1],
                False,
                [0, 0],
                groups,
                [False, True, False],
            )[1]
    return result


def _phases(images: Tensor, step: int) -> Tensor:
    """Every step-th pixel each way as an image of its own: (step² N, C, H / step, W / step)."""
    count, channels, height, width = images.shape
    cells = images.permute(0, 2, 3, 1).reshape(
        count, height // step, step, width // step, step, channels
    )
    pieces = cells.permute(2, 4, 0, 1, 3, 5).reshape(-1, height // step, width // step, channels)
    return pieces.permute(0, 3, 1, 2)
