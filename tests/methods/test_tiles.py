"""Tiles, their weights and their blend, beside slow references pixel by pixel."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from wsss_cli.methods.grids import Places
from wsss_cli.methods.tiles import Layout, Side, blend, covered, lay, tiles, weights

SHAPES = [(1, 1), (63, 64), (100, 64), (65, 200), (257, 130), (90, 1000)]


def on_pixels(height: int, width: int, tile: int, overlap: int, align: int = 1) -> Layout:
    return lay(tiles(height, width, tile, overlap, align), Places.pixels((height, width)))


def whole(parts: list[torch.Tensor], layout: Layout) -> torch.Tensor:
    bands = list(blend(parts, layout))
    ends = [0, *(rows.stop for rows, _ in bands)]
    # Each row once, from top to bottom.
    assert [(rows.start, rows.stop) for rows, _ in bands] == list(pairwise(ends))
    return torch.cat([band for _, band in bands], 1)


# ---- tiles ---------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(
    length=st.integers(1, 5000),
    overlap=st.integers(0, 300),
    align=st.sampled_from([1, 2, 7, 32, 64]),
    more=st.integers(0, 1000),
)
def test_tiles_are_equal_aligned_and_cover_all(
    length: int, overlap: int, align: int, more: int
) -> None:
    tile = overlap + 2 * align + more
    side = tiles(length, 1, tile, overlap, align).rows
    assert side.size <= tile
    assert side.starts[0] == 0
    assert side.starts[-1] + side.size == length
    assert all(start % align == 0 for start in side.starts)
    assert [(length - start - side.size) % align for start in side.starts] == [0] * len(side.starts)
    for first, second in pairwise(side.starts):
        assert first < second <= first + side.size - overlap
    if length <= tile:
        assert side == Side(length, length, (0,))
    else:  # no fewer would do, and no larger steps
        count, step = len(side.starts), side.starts[1]
        for fewer in range(2, count):
            steps = range(align, length // (fewer - 1), align)
            assert not [s for s in steps if s + overlap <= length - (fewer - 1) * s <= tile]
        assert length - count * (step + align) < overlap


def test_tiles_of_a_photograph() -> None:
    made = tiles(2250, 3000, 1024, 128, 64)
    assert made.rows == Side(2250, 842, (0, 704, 1408))
    assert made.columns == Side(3000, 888, (0, 704, 1408, 2112))
    assert made.size == (842, 888)
    assert len(made.spans) == 12
    assert made.spans[5] == (slice(704, 1546), slice(704, 1592))


@pytest.mark.parametrize(
    ("tile", "overlap", "align"), [(10, 9, 1), (100, 0, 64), (10, -1, 1), (0, 0, 1), (8, 0, 0)]
)
def test_tiles_that_cannot_be(tile: int, overlap: int, align: int) -> None:
    with pytest.raises(ValueError, match="no tiles of"):
        tiles(100, 100, tile, overlap, align)


# ---- weights -------------------------------------------------------------------------------------


def slow_weights(side: Side, positions: list[float]) -> list[list[float]]:
    """The formula, tile by tile and position by position."""
    table = []
    for tile, start in enumerate(side.starts):
        shared = side.size - (side.starts[1] - side.starts[0])
        row = []
        for position in positions:
            value = 1.0
            if tile > 0:
                value = min(value, (position + 0.5 - start) / shared)
            if tile < len(side.starts) - 1:
                value = min(value, (start + side.size - 0.5 - position) / shared)
            row.append(max(value, 0.0))
        table.append(row)
    sums = [sum(column) for column in zip(*table, strict=True)]
    return [[value / total for value, total in zip(row, sums, strict=True)] for row in table]


@pytest.mark.parametrize(
    ("length", "tile", "overlap"), [(100, 60, 10), (100, 40, 30), (99, 98, 96), (1000, 64, 1)]
)
@pytest.mark.parametrize("stride", [1, 4, 3.7])
def test_weights_are_ramps(length: int, tile: int, overlap: int, stride: float) -> None:
    side = tiles(length, 1, tile, overlap).rows
    positions = torch.arange(0, length - 0.5, stride)
    found = weights(side, positions)
    expected = torch.tensor(slow_weights(side, positions.tolist()))
    torch.testing.assert_close(found, expected, atol=3e-6, rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("overlap", [0, 1, 16, 40])
def test_weights_add_up_to_one_everywhere(height: int, width: int, overlap: int) -> None:
    layout = on_pixels(height, width, 64, overlap)
    total = torch.zeros(height, width)
    for vertical in layout.vertical:
        for horizontal in layout.horizontal:
            total += vertical[:, None] * horizontal
    torch.testing.assert_close(total, torch.ones(height, width), atol=1e-5, rtol=0)


def test_a_tile_between_the_places() -> None:
    with pytest.raises(ValueError, match="without a place"):
        covered(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))


# ---- blend ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("overlap", [0, 16, 40])
def test_where_tiles_agree_it_is_what_they_say_to_the_last_bit(
    height: int, width: int, overlap: int
) -> None:
    """A constant, and the output of a network that looks at single pixels."""
    image = torch.rand(2, height, width, generator=torch.Generator().manual_seed(0))
    layout = on_pixels(height, width, 64, overlap)
    spans = tiles(height, width, 64, overlap).spans
    same = whole([torch.full((1, *image[0, r, c].shape), 0.1) for r, c in spans], layout)
    assert torch.equal(same, torch.full((1, height, width), 0.1))
    pointwise = whole([(3 * image[:, r, c] - 1).relu().sqrt() for r, c in spans], layout)
    assert torch.equal(pointwise, (3 * image - 1).relu().sqrt())


def test_where_they_differ_it_is_the_weighted_mean() -> None:
    layout = on_pixels(150, 200, 64, 20)
    spans = tiles(150, 200, 64, 20).spans
    generator = torch.Generator().manual_seed(0)
    parts = [torch.rand(3, 64, 64, generator=generator)[:, : r.stop - r.start] for r, c in spans]
    parts = [part[..., : c.stop - c.start] for part, (_, c) in zip(parts, spans, strict=True)]
    expected = torch.zeros(3, 150, 200, dtype=torch.float64)
    shares = [v[:, None] * h for v in layout.vertical for h in layout.horizontal]
    for part, (rows, columns), share in zip(parts, spans, shares, strict=True):
        expected[:, rows, columns] += part.double() * share[rows, columns]
    torch.testing.assert_close(whole(parts, layout), expected.float(), atol=1e-5, rtol=0)


def test_a_step_between_tiles_becomes_a_ramp() -> None:
    """One tile says 0, its neighbour 1: the result rises by equal steps over what they share."""
    layout = on_pixels(1, 110, 60, 10)
    row = whole([torch.zeros(1, 1, 60), torch.ones(1, 1, 60)], layout)[0, 0]
    expected = ((torch.arange(110) - 49.5) / 10).clamp(0, 1)
    torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("reach", [0, 1, 5])
def test_a_network_of_small_field_gives_the_whole_away_from_seams(reach: int) -> None:
    """Further from the ends of its tile than the field reaches, a tile says what the whole does."""
    height, width = 150, 230
    image = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(0))
    kernel = torch.rand(2, 1, 2 * reach + 1, 2 * reach + 1, generator=torch.manual_seed(1))

    def network(pixels: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(pixels, kernel, padding=reach)[0]

    cut = tiles(height, width, 100, 32)
    found = whole(
        [network(image[..., r, c]) for r, c in cut.spans], on_pixels(height, width, 100, 32)
    )
    inner = torch.ones(height, width, dtype=torch.bool)
    for side, at in ((cut.rows, 0), (cut.columns, 1)):
        for place, span in enumerate(side.spans):
            for end, seam in ((span.start, place > 0), (span.stop, place < len(side.starts) - 1)):
                if seam:
                    inner.narrow(at, end - reach, 2 * reach).fill_(False)
    expected = network(image)
    torch.testing.assert_close(found[:, inner], expected[:, inner])
    assert inner.float().mean() > 0.4
    if reach:  # and near them it is not, or this test would find nothing
        assert (found - expected).abs().amax() > 0.01


def test_places_of_a_coarser_grid_lie_on_the_tile() -> None:
    """Every fourth pixel: each tile is asked for those that it covers, at its own positions."""
    cut = tiles(150, 230, 100, 32)
    rows, columns = torch.arange(0, 150, 4), torch.arange(0, 230, 4)
    layout = lay(cut, Places(rows, columns, (150, 230)))
    image = torch.rand(1, 150, 230, generator=torch.Generator().manual_seed(0))
    parts = []
    for where, span in zip(layout.places, cut.spans, strict=True):
        tile = image[:, *span]
        assert where.of == tuple(tile.shape[1:])
        parts.append(tile[:, where.rows][:, :, where.columns])
    assert torch.equal(whole(parts, layout), image[:, ::4, ::4])


def test_values_may_have_weights_of_their_own() -> None:
    """Values that tiles do not know have weight 0 there, and are 0 if no tile knows them."""
    layout = on_pixels(1, 110, 60, 10)

    def of_three(share: torch.Tensor) -> torch.Tensor:
        without_last = share.clone()
        without_last[:, -5:] = 0
        return torch.stack([share, without_last, torch.zeros_like(share)])

    found = whole(list(blend_parts(torch.tensor([[1.0], [1.0], [1.0]]), (60, 60))), layout)
    assert torch.equal(found, torch.ones(3, 1, 110))
    parts = blend_parts(torch.tensor([[2.0], [2.0], [2.0]]), (60, 60))
    found = torch.cat([band for _, band in blend(parts, layout, of_three)], 1)
    assert torch.equal(found[0], torch.full((1, 110), 2.0))
    assert torch.equal(found[1, 0, :105], torch.full((105,), 2.0))
    assert torch.equal(found[1, 0, 105:], torch.zeros(5))
    assert torch.equal(found[2], torch.zeros(1, 110))


def blend_parts(values: torch.Tensor, widths: tuple[int, ...]) -> list[torch.Tensor]:
    return [values[:, :, None].expand(-1, 1, width) for width in widths]


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([torch.zeros(1, 1, 60)], "no part for"),
        ([torch.zeros(1, 1, 60)] * 3, "more parts than tiles"),
        ([torch.zeros(1, 1, 60), torch.zeros(1, 1, 59)], r"a part of \(1, 1, 59\) for \(1, 60\)"),
    ],
)
def test_parts_that_do_not_fit(parts: list[torch.Tensor], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        whole(parts, on_pixels(1, 110, 60, 10))


def test_no_more_than_a_row_of_tiles_is_held() -> None:
    """Bands are there before the next row of tiles is asked for, and none is long."""
    cut = tiles(300, 150, 100, 20)
    layout, spans = on_pixels(300, 150, 100, 20), cut.spans
    asked: list[int] = []

    def parts():  # type: ignore[no-untyped-def]
        for number, (rows, columns) in enumerate(spans):
            asked.append(number)
            yield torch.zeros(1, rows.stop - rows.start, columns.stop - columns.start)

    across = len(layout.horizontal)
    for rows, _ in blend(parts(), layout):
        needed = sum(start < rows.stop for start in cut.rows.starts)
        assert len(asked) == needed * across
        assert rows.stop - rows.start <= 64
