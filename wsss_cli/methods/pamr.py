"""Pixel-adaptive mask refinement (PAMR): maps that follow image edges, without a dense CRF.

Araslanov & Roth, "Single-Stage Semantic Segmentation from Image Labels", CVPR 2020, sec. 4. Each
pixel becomes the mean of its neighbours, weighted by the similarity of their colours, several times
over.

The neighbours of all maps are never held in memory side by side. Only their weights are; the maps
are added up neighbour by neighbour, in bands of rows that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

DILATIONS = (1, 2, 4, 8, 12, 24)

BAND = 2**18  # values in a band of rows for each CPU core, few enough for its caches

_SHARPNESS = 0.1  # factor of the standard deviation; as _TINY, from the authors' code
_TINY = 1e-8


def pamr(
    image: Tensor, maps: Tensor, iterations: int = 10, dilations: Sequence[int] = DILATIONS
) -> Tensor:
    """Maps refined by the local similarity of colours (Araslanov & Roth 2020, sec. 4).

    m_i <- sum_j alpha_ij m_j, repeated, with alpha_i = softmax_j k(i, j) over the 8 neighbours of a
    pixel at each dilation d, those at (±d or 0, ±d or 0), and

        k(i, j) = mean_c -|x_ic - x_jc| / (1e-8 + 0.1 s_ic)

    over the colours c. s_ic is the unbiased standard deviation over the neighbours and the pixel
    itself, which counts once per dilation, as in the authors' code. Beyond the border the nearest
    pixel is repeated. The weights add up to 1, so each map stays between its smallest and largest
    value, and maps that add up to 1 over C still do.

    Args:
        image: x, shape (N, 3, H, W). Its range does not matter (0 to 1, 0 to 255 or normalised),
            as s scales with it.
        maps: m, shape (N, C, h, w); any finite values. They are resized to the image first,
            bilinear with the corners aligned.
        iterations: number of iterations; 0 only resizes.
        dilations: distances of the neighbours in pixels, each at least 1; they may exceed the
            image.

    Returns:
        Shape (N, C, H, W), on the device of ``maps``, in float32 at least, also for half precision
        and under autocast. No gradient flows through it.

    Raises:
        ValueError: shapes or devices that do not fit, an empty image, negative iterations, no
            dilation or one below 1.
    """
    _check(image, maps, iterations, dilations)
    real = torch.promote_types(maps.dtype, torch.float32)
    size = (image.shape[2], image.shape[3])
    if not maps.numel():
        return torch.zeros(*maps.shape[:2], *size, dtype=real, device=maps.device)
    # Single images fit a CPU's caches; a GPU needs few large steps.
    together = 1 if image.device.type == "cpu" else len(image)
    with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
        result = functional.interpolate(
            maps.to(real), size, mode="bilinear", align_corners=True
        ).contiguous()
        if iterations:
            parts = (torch.split(batch, together) for batch in (image, result))
            for pixels, part in zip(*parts, strict=True):
                weights = neighbour_weights(pixels.to(real).contiguous(), dilations)
                for _ in range(iterations):
                    _step(part, weights, dilations)
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
    if not dilations or any(d < 1 or d != int(d) for d in dilations):
        raise ValueError(f"dilations must be whole numbers from 1 on, not {tuple(dilations)}")


def neighbour_weights(image: Tensor, dilations: Sequence[int] = DILATIONS) -> Tensor:
    """alpha_ij of :func:`pamr`, the weights of the neighbours of each pixel.

    Args:
        image: float, shape (N, 3, H, W).
        dilations: distances of the neighbours in pixels.

    Returns:
        In [0, 1], shape (N, 8 len(dilations), H, W), adding up to 1 over the neighbours, which are
        in the order of the dilations and, within each, row by row.
    """
    count, _, height, width = image.shape
    steps, reach = _neighbours(dilations), max(dilations)
    padded = _padded(image, reach)
    weights = image.new_empty(count, len(steps), height, width)
    values = 9 * len(dilations)
    for rows in _bands(weights):
        own = image[:, :, rows]
        # s² = (sum v² - (sum v)² / n) / (n - 1), with v relative to the pixel's own value: of the
        # plain values it would be a small difference of large numbers in bright regions.
        total, squares = torch.zeros_like(own), torch.zeros_like(own)
        for step in steps:
            contrast = _view(padded, reach, step, rows, width) - own
            total += contrast
            squares.addcmul_(contrast, contrast)
        variance = squares.addcmul_(total, total, value=-1 / values).div_(values - 1)
        # -1 / 3 of the mean over the colours goes into the scale.
        scale = variance.clamp_(min=0).sqrt_().mul_(_SHARPNESS).add_(_TINY).reciprocal_().div_(-3)
        kernel = own.new_empty(count, len(steps), *own.shape[2:])
        for neighbour, step in enumerate(steps):
            contrast = (_view(padded, reach, step, rows, width) - own).abs_().mul_(scale)
            torch.sum(contrast, 1, out=kernel[:, neighbour])
        weights[:, :, rows] = kernel.softmax(1)
    return weights


def _step(maps: Tensor, weights: Tensor, dilations: Sequence[int]) -> None:
    """One iteration m_i <- sum_j alpha_ij m_j, in place."""
    steps, reach = _neighbours(dilations), max(dilations)
    padded = _padded(maps, reach)
    for rows in _bands(maps):
        band = maps[:, :, rows].zero_()
        for neighbour, step in enumerate(steps):
            view = _view(padded, reach, step, rows, maps.shape[3])
            band.addcmul_(weights[:, neighbour, None, rows], view)


def _neighbours(dilations: Sequence[int]) -> list[tuple[int, int]]:
    """Offsets (dy, dx) of all neighbours."""
    return [
        (d * dy, d * dx) for d in dilations for dy, dx in product((-1, 0, 1), repeat=2) if dy or dx
    ]


def _padded(maps: Tensor, reach: int) -> Tensor:
    return functional.pad(maps, (reach,) * 4, mode="replicate")


def _view(padded: Tensor, reach: int, step: tuple[int, int], rows: slice, width: int) -> Tensor:
    """The pixels that are ``step`` = (dy, dx) away from those of the given rows."""
    top, left = reach + step[0], reach + step[1]
    return padded[:, :, rows.start + top : rows.stop + top, left : left + width]


def _bands(maps: Tensor) -> Iterator[slice]:
    """The rows of maps (N, C, H, W) in bands that fit a CPU's caches; all in one on a GPU."""
    height, width = maps.shape[2:]
    rows = height
    if maps.device.type == "cpu":
        rows = max(BAND * torch.get_num_threads() // (len(maps) * maps.shape[1] * width), 1)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
