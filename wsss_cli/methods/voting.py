"""One prediction a pixel from what a segmentation network sees at several scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wsss_cli.methods.sampling import on_image


def vote(
    logits: Sequence[Tensor],
    size: tuple[int, int],
    flipped: Sequence[bool],
    *,
    seen: Sequence[tuple[int, int]] | None = None,
    stride: int = 1,
) -> Tensor:
    """Mean class probabilities over scales and mirrored images (Chen 2018, sec. 4.1).

    p = mean_i softmax_c(x^i), each x^i turned back if mirrored and resized (bilinear).

    Args:
        logits: x^i, each of shape (C, h_i, w_i); at least one.
        size: (H, W) of the result.
        flipped: whether each of ``logits`` is of the mirrored image.
        seen, stride: where the logits look, as of :func:`wsss_cli.methods.cam.fuse`.

    Returns:
        Probabilities, float32 of shape (C, H, W), which add up to 1 over C.

    Raises:
        ValueError: no logits, or not one flag (and size) each.
    """
    seen = [(one.shape[-2], one.shape[-1]) for one in logits] if seen is None else seen
    if not logits or not len(logits) == len(flipped) == len(seen):
        raise ValueError(f"{len(logits)} logits with {len(flipped)} flags and {len(seen)} sizes")
    total = torch.zeros(logits[0].shape[0], *size, device=logits[0].device)
    for one, mirrored, shape in zip(logits, flipped, seen, strict=True):
        large = on_image(one[None].float(), size, shape, stride, mirrored=mirrored)
        total += large[0].softmax(0)
    return total / len(logits)
