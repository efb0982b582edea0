"""Batch normalisation with frozen statistics: folded into the convolution before it, or kept so."""

from __future__ import annotations

from functools import partial

import torch
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
        bn: the normalisation after it; frozen means that it is in evaluation mode.
    """
    if bn.training or bn.running_var is None or bn.running_mean is None:
        output: Tensor = bn(conv(input))
        return output
    kept = bn.__dict__.get(_KEPT)
    weight, bias = kept or _fold(conv, bn, bn.running_mean, bn.running_var)
    if kept == ():
        bn.__dict__[_KEPT] = weight, bias = _in_autocast(weight), _in_autocast(bias)
    if conv.groups == conv.in_channels == conv.out_channels > 1 and conv.kernel_size[0] > 1:
        padding = int(conv.padding[0])
        return depthwise_conv2d(input, weight, bias, conv.stride[0], padding, conv.dilation[0])
    return functional.conv2d(
        input, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups
    )


def fold_once(network: nn.Module) -> None:
    """Let :func:`conv_bn` fold each layer only once, for a network that is no longer trained.

    After its first pass the network must stay on its device and at its precision.
    """
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.__dict__[_KEPT] = ()


_KEPT = "_folded"  # on the batch normalisation: (weight, bias), or () before the first pass


def _fold(
    conv: nn.Conv2d, bn: nn.BatchNorm2d, mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    scale = bn.weight * (variance + bn.eps).rsqrt()
    return conv.weight * scale[:, None, None, None], bn.bias - mean * scale


def _in_autocast(tensor: Tensor) -> Tensor:
    """``tensor`` in the type that autocast computes in, if it is on."""
    device = tensor.device.type
    return (
        tensor.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else tensor
    )


def freeze_batchnorm(module: nn.Module, *, affine: bool = True) -> None:
    """Keep every batch normalisation in ``module`` in evaluation mode, also through ``train()``.

    Its statistics are used and never updated. Meant for a pretrained backbone: new layers have no
    statistics yet.

    Args:
        module: changed in place.
        affine: freeze scale and shift too, as the public code of Ahn & Kwak 2018 does.
    """
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
            layer.train = partial(_stay, layer)  # type: ignore[method-assign, assignment]
            if affine:
                layer.requires_grad_(False)


def _stay(layer: nn.Module, mode: bool = True) -> nn.Module:
    return layer
