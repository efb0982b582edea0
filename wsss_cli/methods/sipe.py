"""Image-specific prototypes: CAMs from the similarity of each location to a prototype per class.

Chen et al., "Self-supervised Image-specific Prototype Exploration for Weakly Supervised Semantic
Segmentation", CVPR 2022 (SIPE), sec. 3.2 and 3.3. Maps have background first and the C classes
after it; h×w is the grid of the CAMs, h'×w' that of the hierarchical features, which may be finer.

``valid`` marks where a class is possible: 1 for background and the labelled classes inside the
image, 0 for all other classes and in padding.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from wsss_cli.methods.cam import normalise

SeedsFrom = Literal["last", "hierarchical"]

SCRATCH = 16 << 20  # bytes of similarities held at a time
BLOCKS = 8  # at least so many: with fewer, more of the symmetric matrix is computed twice


def general_cam(maps: Tensor, valid: Tensor, *, over_all: bool = False) -> Tensor:
    """The CAMs of an image, with background where no class is activated.

    M_c = relu(m_c) / max relu(m_c), the maximum over the valid cells, and M_bg = 1 - max_c M_c over
    the valid classes; all are 0 where they are not valid.

    Args:
        maps: class maps (logits), shape (N, C, h, w), C >= 1.
        valid: 0 or 1, shape (N, C + 1, h, w), background first.
        over_all: take that maximum over all C classes, as the authors' code does. Each map is
            divided by its own maximum, so also classes that are not in the image leave no
            background somewhere.

    Returns:
        Activations in [0, 1], shape (N, C + 1, h, w), background first. Gradients pass.
    """
    valid = valid.to(maps)
    cam = normalise(maps.relu() * (valid[:, :1] if over_all else valid[:, 1:]))
    return torch.cat([1 - cam.amax(1, keepdim=True), cam], 1) * valid


@torch.no_grad()
def seed_regions(
    cam: Tensor,
    features: Tensor,
    valid: Tensor,
    *,
    background: float = 0.5,
    scratch: int = SCRATCH,
) -> Tensor:
    """Structure-aware seed locating (sec. 3.2.1).

    The structure of cell i is its similarity to all cells j of the image, s_ij = relu(cos(f_i,
    f_j)). The cell becomes a seed of the class whose CAM overlaps its structure most, by the soft
    intersection over union

        IoU_ic = sum_j s_ij M_cj / (sum_j s_ij + sum_j M_cj - sum_j s_ij M_cj),

    with that of background multiplied by ``background``. Products stand for intersections, as in
    the authors' code.

    The similarities are (hw)² numbers. They are computed for blocks of cells i: an eighth of the
    cells, or as many as fit ``scratch`` bytes, but at least one. So their memory is bounded for
    grids of any size: by ``scratch``, or by 4 hw bytes if that is more.

    Args:
        cam: activations in [0, 1], shape (N, C + 1, h, w), background first.
        features: semantic features f, shape (N, D, h, w).
        valid: 1 where a class is possible, 0 elsewhere, of a shape that broadcasts to that of
            ``cam``. Cells that are valid for no class (padding) are left out.
        background: weight of the background's IoU, > 0.
        scratch: bytes of similarities held at a time, > 0.

    Returns:
        One-hot seeds, 1 for the class of each cell, of the shape, type and device of ``cam``,
        without gradient. Cells that are valid for no class are 0 in all maps.

    Raises:
        ValueError: shapes that do not fit, or a setting that is not positive.
    """
    if cam.ndim != 4 or features.ndim != 4 or cam[:, :1].shape != features[:, :1].shape:
        raise ValueError(f"features {tuple(features.shape)} for CAMs {tuple(cam.shape)}")
    if not (background > 0 and scratch > 0):
        raise ValueError(f"not positive: background {background}, scratch {scratch}")
    allowed = valid.expand_as(cam) != 0
    activations = (cam.float() * allowed).flatten(2)
    cells = allowed.any(1, keepdim=True).float().flatten(2)
    # One product gives both sums over j: s_ij M_cj with the maps, and s_ij with a map of ones.
    columns = torch.cat([activations, cells], 1).transpose(1, 2)  # (N, hw, C + 2)
    unit = functional.normalize(features.float().flatten(2), dim=1)
    # An exported network has no loops.
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        sums = ((unit.transpose(1, 2) @ unit).relu() @ columns).transpose(1, 2)
    else:
        sums = torch.stack(
            [_similarity_product(*image, scratch) for image in zip(unit, columns, strict=True)]
        ).transpose(1, 2)
    intersection, structure = sums[:, :-1], sums[:, -1:]
    union = structure + activations.sum(2, keepdim=True) - intersection
    iou = (intersection / union.clamp(min=torch.finfo(union.dtype).tiny)).view_as(cam)
    iou[:, 0] *= background
    winner = iou.masked_fill_(~allowed, -1).argmax(1, keepdim=True)
    return torch.zeros_like(cam).scatter_(1, winner, 1) * allowed


def _similarity_product(unit: Tensor, columns: Tensor, scratch: int) -> Tensor:
    """The matrix s = relu(FᵀF) times ``columns``, computed in blocks of rows of s.

    s is symmetric, so a block holds only the part of its rows from the diagonal on. Its transpose
    adds the part of the rows below that lies left of the diagonal.

    Args:
        unit: F, features of unit length, shape (D, hw).
        columns: shape (hw, K).
        scratch: largest size of a block, bytes.

    Returns:
        Shape (hw, K).
    """
    count = unit.shape[1]
    most = scratch // (unit.element_size() * count)
    block = max(1, min(most, -(-count // BLOCKS)))
    memory = unit.new_empty(block * count)  # for all blocks in turn
    total = columns.new_zeros(columns.shape)
    for start in range(0, count, block):
        rows = unit[:, start : start + block].T
        end, rest = start + len(rows), count - start
        similar = memory[: len(rows) * rest].view(len(rows), rest)
        torch.mm(rows, unit[:, start:], out=similar).relu_()
        total[start:end] += similar @ columns[start:]
        total[end:] += similar[:, len(rows) :].T @ columns[start:end]
    return total


def prototypes(seeds: Tensor, hierarchical: Tensor) -> Tensor:
    """Background-aware prototypes: the mean feature of each seed region (sec. 3.2.2).

    p_c = sum_i S_ci f_i / sum_i S_ci. Seeds are resized to the grid of the features by the nearest
    cell.

    Args:
        seeds: 0 or 1, shape (N, C + 1, h, w).
        hierarchical: features f, shape (N, E, h', w').

    Returns:
        Shape (N, C + 1, E), 0 for a class without a seed. Gradients pass to the features.

    Raises:
        ValueError: seeds and features of different numbers of images.
    """
    if len(seeds) != len(hierarchical):
        raise ValueError(f"seeds of {len(seeds)} images, features of {len(hierarchical)}")
    regions = _nearest(seeds, hierarchical).flatten(2)
    total = regions @ hierarchical.flatten(2).transpose(1, 2)
    return total / regions.sum(2, keepdim=True).clamp(min=1)


def _nearest(seeds: Tensor, like: Tensor) -> Tensor:
    """Seeds resized to the grid of ``like`` and converted to its type."""
    size = (like.shape[2], like.shape[3])
    return functional.interpolate(seeds.to(like), size, mode="nearest")


def image_specific_cam(prototypes: Tensor, hierarchical: Tensor) -> Tensor:
    """The image-specific CAM: the similarity of each cell to each class's prototype (sec. 3.2.2).

    IS_ci = relu(cos(f_i, p_c)).

    Args:
        prototypes: p, shape (N, C + 1, E).
        hierarchical: features f, shape (N, E, h', w').

    Returns:
        Activations in [0, 1], shape (N, C + 1, h', w'), 0 where prototype or feature is 0.
        Gradients pass to both.

    Raises:
        ValueError: prototypes and features of different length or numbers of images.
    """
    if prototypes.shape[::2] != hierarchical.shape[:2]:
        raise ValueError(
            f"prototypes {tuple(prototypes.shape)} for features {tuple(hierarchical.shape)}"
        )
    lengths = torch.linalg.vector_norm(hierarchical, dim=1, keepdim=True).clamp(min=1e-12)
    unit = functional.normalize(prototypes, dim=2)
    cosines: Tensor = torch.einsum("nce,nehw->nchw", unit, hierarchical) / lengths
    return torch.clamp(cosines, 0, 1)  # a cosine may exceed 1 by rounding


def explore(
    maps: Tensor,
    features: Tensor,
    hierarchical: Tensor,
    valid: Tensor,
    fine_valid: Tensor,
    *,
    background: float = 0.5,
    over_all: bool = False,
    seeds_from: SeedsFrom = "last",
) -> tuple[Tensor, Tensor]:
    """The CAM and the image-specific CAM of images: CAM, seeds, prototypes, similarity (sec. 3.2).

    Args:
        maps: class maps (logits), shape (N, C, h, w), C >= 1.
        features: semantic features, shape (N, D, h, w).
        hierarchical: hierarchical features, shape (N, E, h', w').
        valid, fine_valid: 0 or 1, of a shape that broadcasts to (N, C + 1, h, w), and to the same
            on the finer grid.
        background: weight of the background's soft IoU, as of :func:`seed_regions`.
        over_all: as of :func:`general_cam`.
        seeds_from: the features whose similarities are the structure: the semantic ones, "last", as
            in the paper's figure 2 and in the authors' training; or the "hierarchical" ones at the
            same cells, as in the authors' inference.

    Returns:
        M of shape (N, C + 1, h, w), as of :func:`general_cam`, and IS of shape (N, C + 1, h', w'),
        as of :func:`image_specific_cam`; both are 0 where they are not valid.
    """
    cam = general_cam(maps, valid, over_all=over_all)
    if seeds_from == "hierarchical":  # cell 0 of both grids looks at pixel 0
        rows, columns = (
            _step(int(fine), int(coarse))  # int: also of the tensors that these are when traced
            for fine, coarse in zip(hierarchical.shape[2:], maps.shape[2:], strict=True)
        )
        features = hierarchical[:, :, ::rows, ::columns]
    seeds = seed_regions(cam, features, valid, background=background)
    regions = _nearest(seeds, hierarchical) * fine_valid
    specific = image_specific_cam(prototypes(regions, hierarchical), hierarchical)
    return cam, specific * fine_valid


def _step(fine: int, coarse: int) -> int:
    """Cells of the finer grid to one of the coarser, a power of two, by how many each has."""
    step = 1
    while -(-fine // step) > coarse:
        step *= 2
    return step


def gsc_loss(cam: Tensor, image_specific: Tensor, valid: Tensor | None = None) -> Tensor:
    """General-specific consistency: the mean of |M - IS| (sec. 3.3).

    Gradients pass to both: the CAM learns to cover the regions that resemble its seeds, the
    features learn to separate the regions.

    Args:
        cam, image_specific: activations M and IS, both of shape (N, C + 1, h, w).
        valid: weights of the mean, of a shape that broadcasts to theirs: 1 for background and
            labelled classes inside the image, 0 elsewhere. None gives all the same weight.

    Returns:
        A scalar, at least 0; 0 if all weights are 0.

    Raises:
        ValueError: maps of different shapes.
    """
    if cam.shape != image_specific.shape:
        raise ValueError(f"CAMs {tuple(cam.shape)}, image-specific {tuple(image_specific.shape)}")
    difference = (cam - image_specific).abs()
    if valid is None:
        return difference.mean()
    weights = valid.expand_as(difference).to(difference)
    return (difference * weights).sum() / weights.sum().clamp(min=1)
