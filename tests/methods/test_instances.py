"""Instances from displacement fields: closed cases, loops, and irn's public code.

`instances.json` holds what the public code gave; `make_instance_references.py` made it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.methods.make_instance_references import BACKGROUND, RADIUS, SIZE, edge, field, maps
from wsss_cli.methods.instances import centroids, clusters, instances, split
from wsss_cli.methods.irn import path_affinity
from wsss_cli.methods.random_walk import random_walk

THEIRS = json.loads(Path(__file__).with_name("instances.json").read_text())


def towards(centres: Any, size: tuple[int, int], share: float = 1) -> Tensor:
    """The field that leads each cell a share of the way to the nearest of some centres."""
    y, x = torch.meshgrid(*map(torch.arange, size), indexing="ij")
    away = torch.stack([(y - row) ** 2 + (x - column) ** 2 for row, column in centres])
    ends = torch.tensor(centres)[away.argmin(0)].permute(2, 0, 1)
    return share * (ends - torch.stack([y, x])).double()


def flooded(of: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The regions of equal numbers that touch at sides, numbered from 0 by rows, by a loop."""
    result = np.full(of.shape, -1)
    count = 0
    for start in np.ndindex(of.shape):
        if result[start] >= 0:
            continue
        stack = [start]
        while stack:
            y, x = stack.pop()
            if result[y, x] >= 0:
                continue
            result[y, x] = count
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= near[0] < of.shape[0] and 0 <= near[1] < of.shape[1]
                if inside and of[near] == of[y, x]:
                    stack.append(near)
        count += 1
    return result


# ---- where ways end ------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1, 0.5, 0.1])
def test_two_objects_of_a_perfect_field_are_two_clusters(share: float) -> None:
    field = towards([(5, 4), (6, 20)], (12, 26), share)
    ends = centroids(field)
    assert ends[:, 0, 0].round().tolist() == [5, 4]
    assert ends[:, 11, 25].round().tolist() == [6, 20]
    found = clusters(field, ends, reach=2.5 * share)
    assert found.unique().tolist() == [0, 1]
    assert (found[:, :12] == 0).all()
    assert (found[:, 13:] == 1).all()  # column 12 is as near to both


def test_a_way_is_followed_step_by_step_by_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 2, 3, 4, generator=generator, dtype=torch.float64)
    field = functional.interpolate(coarse, (9, 13), mode="bicubic")[0]
    for steps in (0, 1, 7):
        ends = centroids(field, steps)
        for row in range(9):
            for column in range(13):
                y, x = float(row), float(column)
                for _ in range(steps):
                    top, left = math.floor(y), math.floor(x)
                    way = [0.0, 0.0]
                    for v, share_v in ((top, 1 - (y - top)), (top + 1, y - top)):
                        for u, share_u in ((left, 1 - (x - left)), (left + 1, x - left)):
                            if share_v * share_u > 0:
                                for axis in (0, 1):
                                    way[axis] += share_v * share_u * float(field[axis, v, u])
                    y, x = min(max(y + way[0], 0), 8), min(max(x + way[1], 0), 12)
                assert ends[:, row, column].tolist() == pytest.approx([y, x], abs=1e-9)


def test_no_way_leaves_the_grid() -> None:
    field = torch.full((2, 4, 6), 3.0)
    assert (centroids(field) == torch.tensor([3.0, 5.0])[:, None, None]).all()
    assert clusters(field, centroids(field)).unique().tolist() == [0]


def test_a_centroid_is_a_region_of_small_displacements() -> None:
    """Of a loop that floods them; a way that ends outside is of a cluster of its own, the first."""
    generator = torch.Generator().manual_seed(1)
    field = torch.randn(2, 10, 14, generator=generator) * 2
    ends = torch.rand(2, 10, 14, generator=generator) * torch.tensor([9.0, 13.0])[:, None, None]
    near = (field[0] ** 2 + field[1] ** 2).sqrt() < 2.5
    ids = flooded(near.numpy())
    of = [
        [
            int(ids[y, x]) if near[y, x] else -1
            for y, x in zip(*ends[:, row].round().int().tolist(), strict=True)
        ]
        for row in range(10)
    ]
    places = {mark: place for place, mark in enumerate(sorted({one for row in of for one in row}))}
    expected = [[places[one] for one in row] for row in of]
    assert clusters(field, ends).tolist() == expected
    assert len(places) > 5
    assert -1 in places


@pytest.mark.parametrize(
    "field", [torch.zeros(3, 4, 4), torch.zeros(2, 0, 4), torch.full((2, 3, 3), torch.nan)]
)
def test_what_is_no_field_is_refused(field: Tensor) -> None:
    with pytest.raises(ValueError, match="displacement"):
        centroids(field)


# ---- maps cut apart ------------------------------------------------------------------------------


def test_maps_are_cut_apart_and_add_up() -> None:
    generator = torch.Generator().manual_seed(2)
    whole = torch.rand(3, 6, 8, generator=generator)
    whole[1] = 0
    whole[2, :, :4] = 0
    parts = torch.zeros(6, 8, dtype=torch.int64)
    parts[:, 4:], parts[3:, 4:] = 1, 2
    cut, rows = split(whole, parts)
    assert rows == [0, 0, 0, 2, 2]  # only where there is something
    for row in range(3):
        of = [values for place, values in zip(rows, cut, strict=True) if place == row]
        assert (sum(of, torch.zeros(6, 8)) == whole[row]).all()
    assert (cut[0, :, 4:] == 0).all()
    assert (cut[4, 3:, 4:] == whole[2, 3:, 4:]).all()
    nothing, none = split(torch.zeros(2, 6, 8), parts)
    assert (nothing.shape, none) == ((0, 6, 8), [])


# ---- instances -----------------------------------------------------------------------------------


def test_touching_objects_of_a_class_are_two_instances() -> None:
    labels, owners = np.zeros((20, 30), np.uint8), np.full((20, 30), -1)
    scores = np.zeros((20, 30), np.float32)
    labels[5:15, 5:25] = 3
    owners[5:15, 5:15], owners[5:15, 15:25] = 1, 4
    scores[5:15, 5:15], scores[5:15, 15:25] = 0.5, 0.7
    scores[9, 20] = 0.9
    ids, found = instances(labels, owners, scores)
    assert [(each.number, round(each.score, 4)) for each in found] == [(3, 0.9), (3, 0.5)]
    assert (ids[5:15, 5:15] == 2).all()
    assert (ids[5:15, 15:25] == 1).all()
    assert (ids[labels == 0] == 0).all()


def test_pixels_that_do_not_touch_are_two_instances_and_fragments_none() -> None:
    labels, owners = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.int64)
    labels[:4, :4] = labels[4:8, 4:8] = 2  # at a corner only
    labels[15, 20:25] = 2  # 5 of 600 pixels: below 1 %
    labels[18, 20:26] = 1  # 6 of them
    owners[18], owners[0, 29] = 1, -1
    labels[0, 29] = 1  # won by no map
    ids, found = instances(labels, owners, np.where(labels == 1, 0.2, 0.6))
    assert [each.number for each in found] == [2, 2, 1]
    assert np.unique(ids[:4, :4]).tolist() == [1]
    assert np.unique(ids[4:8, 4:8]).tolist() == [2]
    assert np.unique(ids[15, 20:25]).tolist() == [255]
    assert np.unique(ids[18, 20:26]).tolist() == [3]
    assert ids[0, 29] == 255
    assert ids.dtype == np.uint8


def test_instances_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(3)
    owners = rng.integers(0, 4, (6, 8)).repeat(4, 0).repeat(4, 1)
    labels = np.array([1, 1, 2, 5], np.uint8)[owners]
    labels[rng.random(labels.shape) < 0.03] = 0
    scores = rng.random(labels.shape)
    ids, found = instances(labels, owners, scores)
    regions = flooded(np.where(labels > 0, owners + 1, 0))
    seen = []
    for region in range(regions.max() + 1):
        inside = regions == region
        if not labels[inside].any():
            assert not ids[inside].any()
        elif inside.sum() < 0.01 * labels.size:
            assert (ids[inside] == 255).all()
        else:
            (one,) = np.unique(ids[inside]).tolist()
            seen.append(one)
            assert (ids == one).sum() == inside.sum()
            assert found[one - 1].number == labels[inside][0]
            assert found[one - 1].score == scores[inside].max()
    assert sorted(seen) == list(range(1, len(found) + 1))
    assert len(found) > 5
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


def test_background_alone_has_no_instance() -> None:
    ids, found = instances(np.zeros((4, 5), np.uint8), np.zeros((4, 5), int), np.ones((4, 5)))
    assert (ids.tolist(), found) == (np.zeros((4, 5)).tolist(), [])
    with pytest.raises(ValueError, match="shapes differ"):
        instances(np.zeros((4, 5), np.uint8), np.zeros((4, 4), int), np.ones((4, 5)))
    with pytest.raises(ValueError, match="smallest 0"):
        instances(np.zeros((4, 5), np.uint8), np.zeros((4, 5), int), np.ones((4, 5)), 0.001)


# ---- the public code -----------------------------------------------------------------------------


def test_ways_and_clusters_are_those_of_the_public_code() -> None:
    ends = centroids(field())
    assert ends.round().int().flatten(1)[:, ::7].tolist() == THEIRS["ends"]
    found = clusters(field(), ends)
    assert found.tolist() == THEIRS["clusters"]
    assert found.unique().tolist() == [0, 1, 2, 3]  # three centres, and a corner that leads to none


def walked() -> tuple[Tensor, list[int]]:
    start = maps() * (1 - edge())
    cut, rows = split(start, clusters(field(), centroids(field())))
    links = path_affinity(edge()[None, None], RADIUS)[0]
    return random_walk(cut, links, 10, 256, RADIUS, exact=True), rows


def test_walks_of_instances_are_those_of_the_public_code() -> None:
    """Where theirs are not zeros; theirs follow class by class, all clusters of each."""
    found, rows = walked()
    assert rows == [0] * 4 + [1] * 4
    expected = torch.tensor(THEIRS["walked"])
    torch.testing.assert_close(found.flatten(1)[:, ::37], expected, atol=2e-5, rtol=1e-3)


def test_instances_are_those_that_the_public_code_detects() -> None:
    found, rows = walked()
    size = (4 * SIZE[0] - 3, 4 * SIZE[1] - 1)
    large = functional.interpolate(found[None], scale_factor=4, mode="bilinear")[0]
    large = large[:, : size[0], : size[1]] / large[:, : size[0], : size[1]].max()
    best, owners = large.max(0)
    labels = np.where(best > BACKGROUND, np.array(rows)[owners] + 1, 0)
    ids, objects = instances(labels, owners.numpy(), best.numpy())
    whole = sorted(
        (one for one in THEIRS["detected"] if one["score"]), key=lambda one: -one["score"]
    )
    assert len(objects) == len(whole) == 3
    y, x = np.mgrid[: size[0], : size[1]]
    for place, (ours, theirs) in enumerate(zip(objects, whole, strict=True), start=1):
        mask = ids == place
        assert ours.number - 1 == theirs["class"]
        assert ours.score == pytest.approx(theirs["score"], abs=1e-4)
        assert (mask.sum(), (mask * y).sum(), (mask * x).sum()) == (
            theirs["area"],
            theirs["rows"],
            theirs["columns"],
        )
    fragments = sum(one["area"] for one in THEIRS["detected"] if not one["score"])
    assert (ids == 255).sum() == fragments
