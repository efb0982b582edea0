"""One prediction a pixel from what a segmentation network sees at several scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def vote(logits: Sequence[Tensor], size: tuple[int, int], flipped: Sequence[bool]) -> Tensor:
    """Mean class probabilities over scales and mirrored images (Chen 2018, sec. 4.1).

    p = mean_i softmax_c(x^i), each x^i turned back if mirrored and resized (bilinear).

    Args:
        logits: x^i, each of shape (C, h_i, w_i); at least one.
        size: (H, W) of the result.
        flipped: whether each of ``logits`` is of the mirrored image.

    Returns:
        Probabilities, float32 of shape (C, H, W), which add up to 1 over C.

    Raises:
        ValueError: no logits, or as many flags as logits are missing.
    """
    if not logits or len(logits) != len(flipped):
        raise ValueError(f"{len(logits)} logits with {len(flipped)} flags")
    total = torch.zeros(logits[0].shape[0], *size, device=logits[0].device)
    for one, mirrored in zip(logits, flipped, strict=True):
        turned = one.float().flip(-1) if mirrored else one.float()
        large = functional.interpolate(turned[None], size, mode="bilinear", align_corners=False)
        total += large[0].softmax(0)
    return total / len(logits)
