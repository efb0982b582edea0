"""Weights and images from a fixed formula, so that references store neither.

Whole numbers are hashed, which is exact on every machine and in every version of NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def uniform(count: int, number: int) -> np.ndarray:
    """``count`` values that look random, in [0, 1), float32; ``number`` chooses which."""
    bits = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B1)
    bits += np.uint32((number * 0x85EBCA77) & 0xFFFFFFFF)
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        bits ^= bits >> np.uint32(shift)
        bits *= np.uint32(factor)
    return ((bits >> np.uint32(8)) / np.float32(2**24)).astype(np.float32)


def weights(own: Mapping[str, Tensor], last: float = 1) -> dict[str, Tensor]:
    """Weights for the tensors of a state dict, by their order and shape and the end of their key.

    Convolutions keep the variance (He et al. 2015), biases and means are small, and scales and
    variances lie between 0.5 and 1.5. The last tensor is multiplied by ``last``.
    """
    state = {}
    key = ""
    floating = (item for item in own.items() if item[1].is_floating_point())
    for number, (key, tensor) in enumerate(floating):
        value = uniform(tensor.numel(), number)
        if tensor.ndim > 1:
            value = (value * 2 - 1) * np.float32(np.sqrt(6 / tensor[0].numel()))
        elif key.endswith(("bias", "running_mean")):
            value = (value * 2 - 1) * np.float32(0.1)
        else:
            value = value + np.float32(0.5)
        state[key] = torch.from_numpy(value).view(tensor.shape)
    state[key] *= last
    return state


def image(height: int, width: int) -> Tensor:
    """A normalised image (1, 3, height, width): coarse blocks of colour with noise on them."""
    noise = uniform(3 * height * width, 1000).reshape(1, 3, height, width)
    blocks = uniform(3 * 16 * 16, 1001).reshape(1, 3, 16, 16).repeat(16, 2).repeat(16, 3)
    return torch.from_numpy(3 * blocks[:, :, :height, :width] + noise - 2)


def picked(maps: Tensor) -> list[float]:
    """Twelve values of maps, spread over them, and the mean and deviation of all."""
    flat = maps.float().flatten()
    places = (torch.arange(12) * (len(flat) - 1)) // 11
    return [*flat[places].tolist(), float(flat.mean()), float(flat.std())]
