"""Instances from a displacement field (IRNet; Ahn, Cho & Kwak, CVPR 2019, sec. 5.1 and 5.2).

A displacement field tells each cell the way to the centroid of its object. Cells whose way ends at
one place are one object, whatever its class: class maps cut apart by objects walk one by one, and
each pixel belongs to the class and the object with the highest score.

What the paper leaves open (the constants, what is done with cells whose way ends nowhere, which
pixels of a class and an object make one instance) is as in the authors' code.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from wsss_cli.methods.regions import regions

UNKNOWN = 255  # in an instance map: pixels of a class, but of no instance
MOST = 254  # instances of a map


def centroids(displacement: Tensor, iterations: int = 300) -> Tensor:
    """Where each cell's way ends: x <- x + D(x), from the cell itself (sec. 5.1).

    One step seldom leads to the centroid, as pairs of near cells only were learnt. D is
    interpolated between cells, and no step leaves the grid.

    Args:
        displacement: D, cells of the grid, shape (2, h, w): down, then right.
        iterations: number of steps, at least 0; the authors take 300, and any from 100 on will do.

    Returns:
        Rows and columns, float64 (2, h, w), from 0 to h - 1 and w - 1, on the CPU.

    Raises:
        ValueError: a field of another shape, without a cell, or with values that are not finite.
    """
    if displacement.ndim != 3 or displacement.shape[0] != 2 or not displacement.numel():
        raise ValueError(f"displacement must be (2, h, w), not {tuple(displacement.shape)}")
    field = displacement.detach().to("cpu", torch.float64)
    if not bool(torch.isfinite(field).all()):
        raise ValueError("displacement holds NaN or infinite values")
    height, width = field.shape[1:]
    last = torch.tensor([height - 1, width - 1], dtype=field.dtype)[:, None]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([rows, columns]).flatten(1).to(field.dtype)
    for _ in range(iterations):
        # grid_sample counts from -1 to 1 between the first and the last cell, columns first.
        grid = (2 * places / last.clamp(min=1) - 1).flip(0).T[None, None]
        step = functional.grid_sample(field[None], grid, "bilinear", "border", align_corners=True)
        step = step[0, :, 0]
        moved = (places + step).clamp(min=0).minimum(last)
        if torch.equal(moved, places):
            break
        places = moved
    return places.view(2, height, width)


def clusters(displacement: Tensor, ends: Tensor, reach: float = 2.5) -> Tensor:
    """Cells whose ways end at one object (sec. 5.1).

    Near a centroid the displacements are small. The cells with |D| < ``reach`` are joined to
    regions by their sides, a region is a centroid, and all cells whose way ends in it are one
    cluster. Those whose way ends in none are one together.

    Args:
        displacement: D, shape (2, h, w).
        ends: of :func:`centroids`; the nearest cell counts.
        reach: cells of the grid; 2.5 in the authors' code.

    Returns:
        The cluster of each cell, int64 (h, w), numbered from 0 without gaps, on the CPU.
    """
    field = displacement.detach().to("cpu", torch.float64)
    near = (field.square().sum(0).sqrt() < reach).numpy()
    ids, _ = regions(near.astype(np.uint8))
    found = np.where(near, ids, -1)
    rows, columns = ends.round().long().numpy()
    _, numbers = np.unique(found[rows, columns], return_inverse=True)
    return torch.from_numpy(numbers.reshape(near.shape).astype(np.int64))


def split(maps: Tensor, parts: Tensor) -> tuple[Tensor, list[int]]:
    """Maps of classes cut apart by clusters (sec. 5.2).

    Args:
        maps: at least 0, shape (K, h, w).
        parts: of :func:`clusters`, (h, w).

    Returns:
        The maps that are not 0 everywhere, (M, h, w), each that of a class in one cluster, in the
        order of classes, then clusters; and the place of the class of each.
    """
    cut, rows, parts = [], [], parts.to(maps.device)
    for row, values in enumerate(maps):
        for part in torch.unique(parts[values > 0]).tolist():
            cut.append(values * (parts == part))
            rows.append(row)
    return (torch.stack(cut) if cut else maps[:0]), rows


class Instance(NamedTuple):
    """An instance of a map.

    Attributes:
        number: its class.
        score: how sure it is, in [0, 1] where maps are.
    """

    number: int
    score: float


def instances(
    labels: npt.NDArray[np.integer[Any]],
    owners: npt.NDArray[np.integer[Any]],
    scores: npt.NDArray[np.floating[Any]],
    smallest: float = 0.01,
) -> tuple[npt.NDArray[np.uint8], list[Instance]]:
    """The instances of a label map.

    An instance is the pixels of one class and one cluster that touch at their sides; its score is
    the largest of them. Smaller ones than ``smallest`` are fragments: the authors' code gives them
    the score 0, and leaves them out where another network is to learn them.

    Args:
        labels: class numbers, 0 background, shape (H, W).
        owners: the map of :func:`split` that has won the pixel, (H, W); -1 where none has.
        scores: its score, at least 0, (H, W).
        smallest: share of the image; 0.01 in the authors' code.

    Returns:
        The instance map, uint8 (H, W): 0 background, ids from 1 in the order of scores, the largest
        first, and 255 the pixels of fragments; and the instances in that order.

    Raises:
        ValueError: shapes that differ, or a share so small that ids could run out.
    """
    if not labels.shape == owners.shape == scores.shape:
        raise ValueError(f"shapes differ: {labels.shape}, {owners.shape}, {scores.shape}")
    if not smallest >= 1 / MOST:
        raise ValueError(f"smallest {smallest}: at least 1/{MOST}")
    ids, winners = regions(np.where(labels > 0, owners.astype(np.int64) + 1, 0))
    flat, areas = ids.ravel(), np.bincount(ids.ravel(), minlength=len(winners))
    highest = np.zeros(len(winners))
    np.maximum.at(highest, flat, scores.ravel())
    kept = np.flatnonzero((winners > 0) & (areas >= smallest * labels.size) & (highest > 0))
    kept = kept[np.argsort(-highest[kept], kind="stable")]
    table = np.full(len(winners), UNKNOWN, np.uint8)
    table[kept] = np.arange(1, len(kept) + 1)
    number_of = np.zeros(len(winners), np.int64)
    number_of[flat] = labels.ravel()
    found = [Instance(int(number_of[one]), float(highest[one])) for one in kept]
    return np.where(labels > 0, table[ids], 0).astype(np.uint8), found
