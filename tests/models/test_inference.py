"""Whole photographs through a network: normalised, scaled, mirrored, bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from wsss_cli.errors import ConfigurationError
from wsss_cli.files import Checkpoint
from wsss_cli.models.inference import Runner
from wsss_cli.models.networks import build_network

Looking = Callable[..., Runner]


def photographs(count: int, height: int, width: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def test_a_view_is_what_the_network_makes_of_the_normalised_photograph(
    cam_checkpoint: Checkpoint,
) -> None:
    runner = Runner(cam_checkpoint, device="cpu", precision="fp32")
    network = build_network(
        "cam", cam_checkpoint.backbone, cam_checkpoint.classes, cam_checkpoint.config
    ).eval()
    network.load_state_dict(cam_checkpoint.state_dict)
    images = photographs(2, 48, 64)
    plain, mirrored = runner.views(images, [1.0], True)
    assert (plain.mirrored, mirrored.mirrored) == (False, True)
    assert plain.seen == mirrored.seen == (48, 64)
    for number, image in enumerate(images):
        pixels = (image / 255 - network.backbone.mean) / network.backbone.std
        given = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            expected, turned = network(given)[0], network(given.flip(-1))[0]
        torch.testing.assert_close(plain.output[number], expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(mirrored.output[number], turned, rtol=1e-3, atol=1e-4)
    alone = runner(images[0])
    torch.testing.assert_close(alone, plain.output[0], rtol=1e-3, atol=1e-4)
    assert not alone.requires_grad
    assert alone.dtype == torch.float32


def test_scales_come_in_order_each_with_its_mirror(looking: Looking) -> None:
    views = looking(1).views(photographs(1, 60, 81), [0.5, 1.0, 2.0], True)
    assert [(view.seen, view.mirrored) for view in views] == [
        ((33, 40), False),
        ((33, 40), True),  # below 33 pixels there is nothing to see
        ((60, 81), False),
        ((60, 81), True),
        ((120, 162), False),
        ((120, 162), True),
    ]
    for view in views:
        assert tuple(view.output.shape) == (1, 3, *view.seen)
    for plain, mirrored in zip(views[::2], views[1::2], strict=True):
        torch.testing.assert_close(mirrored.output.flip(-1), plain.output)
    assert len(looking(1).views(photographs(1, 60, 81), [0.5, 1.0, 2.0], False)) == 3


def test_joined_views_are_the_mean_with_the_mirror_image_before_anything_is_kept(
    cam_checkpoint: Checkpoint,
) -> None:
    runner = Runner(cam_checkpoint, device="cpu", precision="fp32")
    images = photographs(2, 48, 65)
    separate = runner.views(images, [0.75, 1.0], True)
    joined = runner.views(images, [0.75, 1.0], True, joined=True)
    assert [(view.seen, view.mirrored) for view in joined] == [((36, 49), False), ((48, 65), False)]
    for view, plain, mirrored in zip(joined, separate[::2], separate[1::2], strict=True):
        expected = (plain.output + mirrored.output.flip(-1)) / 2
        torch.testing.assert_close(view.output, expected, rtol=1e-3, atol=1e-4)
    kept = runner.views(images, [1.0], True, lambda output, part: output.relu(), joined=True)
    torch.testing.assert_close(kept[0].output, joined[1].output.relu(), rtol=1e-3, atol=1e-4)
    alone = runner.views(images, [1.0], False, joined=True)  # nothing to join
    torch.testing.assert_close(alone[0].output, separate[2].output, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_bicubic_is_that_of_pillow(looking: Looking, scale: float) -> None:
    image = photographs(1, 80, 100)[0]
    runner = looking(1)
    runner.resize = "bicubic"
    (view,) = runner.views([image], [scale], False)
    size = (round(100 * scale), round(80 * scale))
    expected = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    seen = view.output[0].permute(1, 2, 0).numpy() * 255
    np.testing.assert_allclose(seen, expected, atol=1e-3)


def test_smaller_views_are_means_and_not_every_other_pixel(looking: Looking) -> None:
    image = np.zeros((80, 80, 3), np.uint8)
    image[::2] = 255
    (view,) = looking(1).views([image], [0.5], False)
    assert (view.output - 0.5).abs().max() < 0.15


@pytest.mark.parametrize(
    ("size", "bound", "seen"),
    [
        ((60, 80), 0, (60, 80)),
        ((60, 80), 80, (60, 80)),
        ((60, 80), 40, (33, 40)),
        ((3000, 4000), 1024, (768, 1024)),
        ((20, 20_000), 1024, (33, 1024)),
        ((7, 5), 0, (33, 33)),
    ],
)
def test_the_size_a_photograph_is_seen_at(
    looking: Looking, size: tuple[int, int], bound: int, seen: tuple[int, int]
) -> None:
    runner = looking(1, bound)
    assert runner.seen_size(size) == seen
    if max(size) < 100:
        assert runner.views(photographs(1, *size), [1.0], False)[0].seen == seen


@pytest.mark.parametrize(
    ("size", "max_side", "tile", "tiled"),
    [
        ((300, 400), 400, 0, False),
        ((300, 401), 400, 0, False),
        ((300, 400), 400, 256, False),
        ((300, 401), 400, 256, True),
        ((401, 300), 400, 256, True),
        ((300, 401), 0, 256, True),
        ((200, 256), 0, 256, False),
        ((300, 400), 100, 400, False),  # a tile is never seen smaller
        ((300, 401), 100, 400, True),
    ],
)
def test_photographs_beyond_the_limit_are_seen_in_tiles_and_not_smaller(
    looking: Looking, size: tuple[int, int], max_side: int, tile: int, tiled: bool
) -> None:
    runner = looking(16, max_side, tile=tile, overlap=64 if tile else 0)
    assert runner.in_tiles(size) == tiled
    seen = runner.seen_size(size)
    assert (seen == size) == (tile > 0 or max(size) <= max_side)
    if tile:
        assert runner.bounds == {"max_side": max(max_side, tile), "tile": tile, "overlap": 64}
    else:
        assert runner.bounds == {"max_side": max_side}


@pytest.mark.parametrize("together", [1, 4])
def test_views_of_tiles_are_those_of_their_pixels(looking: Looking, together: int) -> None:
    runner = looking(1, tile=256, overlap=64)
    (image,) = photographs(1, 260, 600)
    spans = runner.tiles((260, 600)).spans
    assert len(spans) == 8
    assert all(start % runner.align == 0 for span in spans for start in (s.start for s in span))
    found = list(runner.tile_views(image, [0.5, 1.0], True, together=together))
    assert len(found) == 8
    for views, span in zip(found, spans, strict=True):
        alone = runner.views([image[span]], [0.5, 1.0], True)
        assert [view[1:] for view in views] == [view[1:] for view in alone]
        for view, expected in zip(views, alone, strict=True):
            assert torch.equal(view.output, expected.output)


def test_an_overlap_that_leaves_no_tiles_is_refused(looking: Looking) -> None:
    with pytest.raises(ConfigurationError, match=r"--tile 255: with --overlap 128, a tile has at "):
        looking(tile=255, overlap=128)
    assert looking(tile=256, overlap=128).align == 64


def test_weights_of_another_network_are_refused(cam_checkpoint: Checkpoint) -> None:
    with pytest.raises(ConfigurationError, match=r"do not fit its network \(efficientnet-lite0\)"):
        Runner(replace(cam_checkpoint, classes=("cat",)), device="cpu")


def test_weights_that_are_no_numbers_are_refused(cam_checkpoint: Checkpoint) -> None:
    state = dict(cam_checkpoint.state_dict)
    state["classify.weight"] = torch.full_like(state["classify.weight"], torch.nan)
    with pytest.raises(ConfigurationError, match="holds NaN or infinite values"):
        Runner(replace(cam_checkpoint, state_dict=state), device="cpu")


@pytest.fixture
def four_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_side_by_side_items_keep_their_order_and_share_the_cores(
    looking: Looking, four_cores: None, count: int
) -> None:
    result = looking(1).spread(lambda item: (item, torch.get_num_threads()), range(count))
    assert result == [(item, 4 // min(count, 4)) for item in range(count)]
    assert torch.get_num_threads() == 4


def test_what_goes_wrong_side_by_side_is_told(looking: Looking, four_cores: None) -> None:
    runner = looking(1)
    with pytest.raises(ZeroDivisionError):
        runner.spread(lambda item: 1 // item, [2, 1, 0])
    assert runner.spread(lambda item: 1 // item, [2, 1]) == [0, 1]


def test_views_are_the_same_on_any_number_of_cores(
    cam_checkpoint: Checkpoint, four_cores: None
) -> None:
    images = photographs(3, 48, 64)
    side_by_side = Runner(cam_checkpoint, device="cpu", precision="fp32")
    torch.set_num_threads(1)
    in_turn = Runner(cam_checkpoint, device="cpu", precision="fp32")
    assert (side_by_side.abreast, in_turn.abreast) == (4, 1)
    for ours, theirs in zip(
        side_by_side.views(images, [0.75, 1.0], True),
        in_turn.views(images, [0.75, 1.0], True),
        strict=True,
    ):
        assert ours[1:] == theirs[1:]
        torch.testing.assert_close(ours.output, theirs.output)
