"""Convolution and frozen batch normalisation as one convolution."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from wsss_cli.models.depthwise import depthwise_conv2d


def conv_bn(input: Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d) -> Tensor:
    """``bn(conv(input))``; one convolution where the statistics of ``bn`` are frozen.

    With s = gamma / sqrt(variance + eps), bn(conv(x, w)) = conv(x, s w) + (beta - s mean). This
    saves two passes over the activations each way, and gradients reach w, gamma and beta as before.

    Args:
        input: shape (N, C, H, W).
        conv: a convolution without bias.
        bn: what follows it; frozen means it is in evaluation mode.
    """
    if bn.training or bn.running_var is None or bn.running_mean is None:
        output: Tensor = bn(conv(input))
        return output
    scale = bn.weight * (bn.running_var + bn.eps).rsqrt()
    weight, bias = conv.weight * scale[:, None, None, None], bn.bias - bn.running_mean * scale
    if conv.groups == conv.in_channels == conv.out_channels > 1 and conv.kernel_size[0] > 1:
        padding = int(conv.padding[0])
        return depthwise_conv2d(input, weight, bias, conv.stride[0], padding, conv.dilation[0])
    return functional.conv2d(
        input, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups
    )
