"""Outlines of the regions of a map along the sides of their pixels, made simpler, filled again.

Points are (x, y) in pixels; (0, 0) is the corner of the picture, (0.5, 0.5) the centre of its first
pixel. A ring is closed: its last point is joined to its first. Walking along it, the region lies to
the right as pictures are seen: rings around a region turn clockwise, those around a hole in it the
other way.

Simplification: Douglas & Peucker, "Algorithms for the reduction of the number of points required to
represent a digitized line or its caricature", Cartographica 10(2), 1973.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]
Ring = npt.NDArray[np.float64]  # (N, 2)


def outlines(regions: Ints) -> dict[int, list[Ring]]:
    """The outlines of regions, exactly.

    Args:
        regions: (H, W), the region of each pixel; negative for pixels of none. A region's pixels
            must be connected by their sides.

    Returns:
        By region the corners of its rings: of that around it, then of its holes. Pixels that touch
        at a corner only are not joined.
    """
    corners = _corners(regions)
    number, x, y = corners[:3]
    following = _following(corners).tolist()
    seen = [False] * len(following)
    found: dict[int, list[Ring]] = {}
    for first in range(len(following)):
        if seen[first]:
            continue
        walk, place = [], first
        while not seen[place]:
            seen[place] = True
            walk.append(place)
            place = following[place]
        ring = np.stack([x[walk], y[walk]], 1).astype(np.float64)
        rings = found.setdefault(int(number[first]), [])
        rings.insert(0 if _area(ring) > 0 else len(rings), ring)
    return found


def _corners(regions: Ints) -> npt.NDArray[np.intp]:
    """All corners of rings, a column each.

    Its rows: region, x, y; whether the horizontal line at it goes right from it, and whether the
    region is below that; whether the vertical line goes down, and whether the region is right of
    that.
    """
    around = np.pad(regions, 1, constant_values=-1)
    # The four pixels that meet at each point, by whether they are below and right of it.
    meeting = {
        (down, right): around[down : down + len(regions) + 1, right : right + regions.shape[1] + 1]
        for down in (0, 1)
        for right in (0, 1)
    }
    parts = []
    for (down, right), own in meeting.items():
        beside, above = meeting[down, 1 - right], meeting[1 - down, right]
        across = meeting[1 - down, 1 - right]
        out = (own >= 0) & (own != beside) & (own != above)
        # The other three are one region, which turns around this pixel.
        into = (across >= 0) & (own != across) & (beside == across) & (above == across)
        for turn, numbers, below, rightmost in (
            (out, own, down, right),
            (into, across, 1 - down, 1 - right),
        ):
            y, x = np.nonzero(turn)
            part = np.empty((7, len(x)), np.intp)
            part[:3] = numbers[y, x], x, y
            part[3:] = np.array([right, below, down, rightmost])[:, None]
            parts.append(part)
    return np.concatenate(parts, 1)


def _following(corners: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """For each corner the next one of its ring."""
    _, x, y, goes_right, below, goes_down, rightmost = corners
    following = np.empty(len(x), np.intp)
    # On one line, with regions on one side of it, ends and beginnings alternate.
    order = np.lexsort((goes_right, x, below, y))
    left, right = order[0::2], order[1::2]
    forward = below[left] == 1
    following[np.where(forward, left, right)] = np.where(forward, right, left)
    order = np.lexsort((goes_down, y, rightmost, x))
    top, bottom = order[0::2], order[1::2]
    forward = rightmost[top] == 0
    following[np.where(forward, top, bottom)] = np.where(forward, bottom, top)
    return following


def _area(ring: Ring) -> float:
    """The area inside a ring; negative if it turns anticlockwise."""
    x, y = ring.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def inset(ring: Ring) -> Ring:
    """A ring of :func:`outlines` through the centres of the region's pixels along it."""
    step = np.sign(np.roll(ring, -1, axis=0) - ring)
    both = step + np.roll(step, 1, axis=0)  # of the lines before and behind a corner
    return ring + 0.5 * np.stack([-both[:, 1], both[:, 0]], 1)


def simplified(ring: Ring, tolerance: float) -> Ring:
    """A ring without the points that lie at most ``tolerance`` pixels from the line without them.

    One of which fewer than three would be left stays as it is; with a tolerance of 0, all do.
    """
    if tolerance <= 0 or len(ring) < 4:
        return ring
    one = int(((ring - ring[0]) ** 2).sum(1).argmax())
    ring = np.roll(ring, -one, axis=0)
    other = int(((ring - ring[0]) ** 2).sum(1).argmax())
    closed = np.concatenate([ring, ring[:1]])
    kept = np.zeros(len(closed), np.bool_)
    kept[[0, other]] = True
    parts = [(0, other), (other, len(ring))]
    while parts:
        start, end = parts.pop()
        if end - start < 2:
            continue
        away = _distances(closed[start + 1 : end], closed[start], closed[end])
        if away.max() > tolerance:
            middle = start + 1 + int(away.argmax())
            kept[middle] = True
            parts += [(start, middle), (middle, end)]
    fewer = ring[kept[:-1]]
    return fewer if len(fewer) > 2 else ring


def _distances(points: Ring, start: Ring, end: Ring) -> npt.NDArray[np.float64]:
    """Distances of points from the line between two others."""
    along = end - start
    length = float(along @ along)
    share = ((points - start) @ along / length).clip(0, 1) if length else np.zeros(len(points))
    away: npt.NDArray[np.float64] = np.hypot(*(points - start - share[:, None] * along).T)
    return away


def joined(rings: Sequence[Ring]) -> Ring:
    """A region as one ring: its holes are tied to the ring around it by cuts of no width.

    Filled by the even-odd or the winding rule it is the same; formats without holes need it.

    Args:
        rings: that around the region, then those of its holes.
    """
    whole = rings[0]
    # To the left of a hole's leftmost point lies the outer ring, or a hole that is tied already.
    for hole in sorted(rings[1:], key=lambda ring: float(ring[:, 0].min())):
        hole = np.roll(hole, -int(hole[:, 0].argmin()), axis=0)
        place, point = _left_of(whole, hole[0])
        tie = np.concatenate([point[None], hole, hole[:1], point[None]])
        whole = np.concatenate([whole[: place + 1], tie, whole[place + 1 :]])
    repeated = (whole == np.roll(whole, 1, axis=0)).all(1)
    return whole if len(whole) - repeated.sum() < 3 else whole[~repeated]


def _left_of(ring: Ring, point: Ring) -> tuple[int, Ring]:
    """The next point of a ring on the left of a point, and the number of its line; if there is
    none, the nearest corner."""
    ahead = np.roll(ring, -1, axis=0)
    low, high = np.minimum(ring[:, 1], ahead[:, 1]), np.maximum(ring[:, 1], ahead[:, 1])
    lines = np.flatnonzero((low <= point[1]) & (point[1] <= high) & (low < high))
    start, end = ring[lines], ahead[lines]
    x = start[:, 0] + (point[1] - start[:, 1]) / (end - start)[:, 1] * (end - start)[:, 0]
    if not (reached := x <= point[0]).any():
        nearest = int(((ring - point) ** 2).sum(1).argmin())
        return nearest, ring[nearest]
    best = int(np.where(reached, x, -np.inf).argmax())
    return int(lines[best]), np.array([x[best], point[1]])


def filled(ring: Ring, size: tuple[int, int]) -> tuple[slice, slice, npt.NDArray[np.bool_]]:
    """The pixels whose centres lie inside a ring by the even-odd rule.

    Args:
        ring: (N, 2); may leave the picture.
        size: (H, W) of the picture.

    Returns:
        Rows and columns of a part of the picture that holds them all, and the pixels there.
    """
    bounds = np.array([size[1], size[0]])
    left, top = np.floor(ring.min(0)).clip(0, bounds).astype(int).tolist()
    right, bottom = np.ceil(ring.max(0)).clip(0, bounds).astype(int).tolist()
    height, width = bottom - top, right - left
    start, end = ring, np.roll(ring, -1, axis=0)
    # The rows whose centres a line crosses: of its two ends, one counts.
    rows = np.ceil(np.stack([start[:, 1], end[:, 1]]) - 0.5).clip(top, bottom).astype(np.intp)
    first, count = rows.min(0), np.abs(rows[1] - rows[0])
    line = np.repeat(np.arange(len(ring)), count)
    row = np.arange(len(line)) - np.repeat(count.cumsum() - count, count) + first[line]
    slope = (end - start)[line]
    x = start[line, 0] + (row + 0.5 - start[line, 1]) / slope[:, 1] * slope[:, 0]
    column = np.ceil(x - 0.5).clip(left, right).astype(np.intp)
    turns = np.zeros((height, width + 1), np.int32)
    np.add.at(turns, (row - top, column - left), 1)
    inside = turns.cumsum(1)[:, :-1] % 2 == 1
    return slice(top, bottom), slice(left, right), inside
