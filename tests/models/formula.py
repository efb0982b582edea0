"""Weights and images from a fixed formula, so that references store neither.

Whole numbers are hashed, which is exact on every machine and in every version of NumPy.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

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


def named(name: str, shape: Sequence[int]) -> Tensor:
    """A tensor of a published network, from its name, such that places of a photograph differ.

    The filters of convolutions add up to 0 and biases are mostly negative, so that what all places
    have in common does not pass, and activations are sparse.
    """
    values = torch.from_numpy(uniform(int(np.prod(shape)), zlib.crc32(name.encode()))).view(*shape)
    if len(shape) == 4:
        centred = values - values.mean((1, 2, 3), keepdim=True)
        return centred * (24 / (shape[1] * shape[2] * shape[3])) ** 0.5
    if name.endswith("running_var"):
        return values + 0.75
    if name.endswith("weight"):
        return values * 0.4 + 0.8
    return values * 0.2 - (0.2 if name.endswith("bias") else 0.1)


def photograph(height: int, width: int, number: int = 0) -> np.ndarray:
    """A ground and two discs of other colours, each with its texture, uint8 (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    noise = uniform(9 * height * width, 2000 + number).reshape(3, height, width, 3)
    pixels = np.array([60, 120, 70]) + 40 * noise[0]
    for row, column, colour, stripes, own in (
        (0.4, 0.3, (200, 40, 30), 50 * (x // 3 % 2), noise[1]),
        (0.6, 0.75, (30, 40, 220), 30 * (y // 4 % 2), noise[2]),
    ):
        inside = ((y / height - row) / 0.3) ** 2 + ((x / width - column) / 0.2) ** 2 < 1
        pixels[inside] = (np.array(colour) + stripes[..., None] * own)[inside]
    return pixels.clip(0, 255).astype(np.uint8)


def normalised(height: int, width: int, count: int) -> Tensor:
    """``count`` such photographs as networks take them, float32 (count, 3, height, width)."""
    pixels = np.stack([photograph(height, width, 5 * number) for number in range(count)])
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((torch.from_numpy(pixels) / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
