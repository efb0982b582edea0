"""Pixel-adaptive mask refinement (Araslanov & Roth, "Single-Stage Semantic Segmentation from Image
Labels", CVPR 2020, sec. 4): maps that take on the edges of the photograph, without a dense CRF.

Each pixel becomes the mean of its neighbours, weighted by how alike their colours are, a few times
over. The neighbours of all maps never lie in memory side by side: the weights do once, and the maps
are added up one neighbour after another, in bands of rows that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

DILATIONS = (1, 2, 4, 8, 12, 24)

_SHARPNESS = 0.1  # the standard deviation is multiplied by it; both constants of the authors' code
_TINY = 1e-8
_BAND = 2**18  # values of a band for one core: with what is added to them, near its caches


def pamr(
    image: Tensor, maps: Tensor, iterations: int = 10, dilations: Sequence[int] = DILATIONS
) -> Tensor:
    """Maps refined by the local likeness of colours (Araslanov & Roth 2020, sec. 4).

    m_i <- sum_j alpha_ij m_j, repeated, with alpha_i = softmax_j k(i, j) over the 8 neighbours of a
    pixel at each dilation d, those at (±d or 0, ±d or 0), and

        k(i, j) = mean_c -|x_ic - x_jc| / (1e-8 + 0.1 s_ic)

    over the colours c. s_ic is the unbiased standard deviation of the neighbours' values and the
    pixel's own, which counts once a dilation, as in the authors' code. Beyond the border the
    nearest pixel is repeated. The weights add up to 1, so that maps stay between their smallest and
    largest value, and maps that add up to 1 over C still do.

    Args:
        image: x, shape (N, 3, H, W); any range, for s takes it out (0 to 1, 0 to 255 or
            normalised).
        maps: m, shape (N, C, h, w); any finite values. Resized to the image first, bilinear with
            the corners aligned.
        iterations: how often; 0 only resizes.
        dilations: distances of the neighbours in pixels, each at least 1; they may exceed the
            image.

    Returns:
        Shape (N, C, H, W), on the device of ``maps``; computed and given in float32 at least, also
        for shorter types and within autocast. No gradient flows through it.

    Raises:
        ValueError: shapes or devices that do not fit, an empty image, negative iterations, no
            dilation or one below 1.
    """
    _check(image, maps, iterations, dilations)
    real = torch.promote_types(maps.dtype, torch.float32)
    size = (image.shape[2], image.shape[3])
    if not maps.numel():
        return torch.zeros(*maps.shape[:2], *size, dtype=real, device=maps.device)
    # On a CPU the images one by one; a GPU wants few large steps.
    together = 1 if image.device.type == "cpu" else len(image)
    with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
        result = functional.interpolate(
            maps.to(real), size, mode="bilinear", align_corners=True
        ).contiguous()
        if iterations:
            parts = (torch.split(whole, together) for whole in (image, result))
            for pixels, each in zip(*parts, strict=True):
                weights = neighbour_weights(pixels.to(real).contiguous(), dilations)
                for _ in range(iterations):
                    _step(each, weights, dilations)
    return result


def _check(image: Tensor, maps: Tensor, iterations: int, dilations: Sequence[int]) -> None:
    if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape[2:]:
        raise ValueError(f"image must be (N, 3, H, W), not {tuple(image.shape)}")
    if maps.ndim != 4 or len(maps) != len(image) or 0 in maps.shape[2:]:
        raise ValueError(f"maps must be ({len(image)}, C, h, w), not {tuple(maps.shape)}")
    if image.device != maps.device:
        raise ValueError(f"the image is on {image.device}, the maps on {maps.device}")
    if iterations < 0 or iterations != int(iterations):
        raise ValueError(f"iterations must be 0 or more, not {iterations}")
    if not dilations or any(each < 1 or each != int(each) for each in dilations):
        raise ValueError(f"dilations must be whole numbers from 1 on, not {tuple(dilations)}")


def neighbour_weights(image: Tensor, dilations: Sequence[int] = DILATIONS) -> Tensor:
    """alpha_ij of :func:`pamr`: what each neighbour of a pixel counts.

    Args:
        image: float, shape (N, 3, H, W).
        dilations: distances of the neighbours in pixels.

    Returns:
        Shape (N, 8 len(dilations), H, W), adding up to 1 over the neighbours; these come dilation
        by dilation, row by row.
    """
    count, _, height, width = image.shape
    steps, reach = _neighbours(dilations), max(dilations)
    padded = _padded(image, reach)
    weights = image.new_empty(count, len(steps), height, width)
    values = 9 * len(dilations)
    for rows in _bands(weights):
        own = image[:, :, rows]
        # Shifted by the pixel's own value, the sums lose nothing to rounding in bright regions.
        total, squares = torch.zeros_like(own), torch.zeros_like(own)
        for step in steps:
            contrast = _view(padded, reach, step, rows, width) - own
            total += contrast
            squares.addcmul_(contrast, contrast)
        variance = squares.addcmul_(total, total, value=-1 / values).div_(values - 1)
        scale = variance.clamp_(min=0).sqrt_().mul_(_SHARPNESS).add_(_TINY).reciprocal_().div_(-3)
        kernel = own.new_empty(count, len(steps), *own.shape[2:])
        for place, step in enumerate(steps):
            contrast = (_view(padded, reach, step, rows, width) - own).abs_().mul_(scale)
            torch.sum(contrast, 1, out=kernel[:, place])
        weights[:, :, rows] = kernel.softmax(1)
    return weights


def _step(maps: Tensor, weights: Tensor, dilations: Sequence[int]) -> None:
    """One iteration, in place."""
    steps, reach = _neighbours(dilations), max(dilations)
    padded = _padded(maps, reach)
    for rows in _bands(maps):
        band = maps[:, :, rows].zero_()
        for place, step in enumerate(steps):
            view = _view(padded, reach, step, rows, maps.shape[3])
            band.addcmul_(weights[:, place, None, rows], view)


def _neighbours(dilations: Sequence[int]) -> list[tuple[int, int]]:
    """(dy, dx) of every neighbour."""
    return [
        (d * dy, d * dx) for d in dilations for dy, dx in product((-1, 0, 1), repeat=2) if dy or dx
    ]


def _padded(maps: Tensor, reach: int) -> Tensor:
    return functional.pad(maps, (reach,) * 4, mode="replicate")


def _view(padded: Tensor, reach: int, step: tuple[int, int], rows: slice, width: int) -> Tensor:
    """What lies ``step`` away from each pixel of some rows."""
    top, left = reach + step[0], reach + step[1]
    return padded[:, :, rows.start + top : rows.stop + top, left : left + width]


def _bands(maps: Tensor) -> Iterator[slice]:
    """The rows of maps (N, C, H, W) in parts, on a CPU such as stay in its caches."""
    height, width = maps.shape[2:]
    rows = height
    if maps.device.type == "cpu":
        rows = max(_BAND * torch.get_num_threads() // (len(maps) * maps.shape[1] * width), 1)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
