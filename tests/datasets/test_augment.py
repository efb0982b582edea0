"""Random views: image, label map and saliency map stay aligned, and colours change as said."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wsss_cli.datasets.augment import (
    Area,
    Jitter,
    View,
    jitter,
    random_view,
    take_grey,
    take_image,
    take_labels,
    take_maps,
    whole_view,
)

FILL = (10, 20, 30)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    crop=st.integers(8, 96),
    seed=st.integers(0, 99),
)
def test_a_view_lies_in_the_photograph_and_in_the_crop(
    height: int, width: int, crop: int, seed: int
) -> None:
    view = random_view((height, width), rng(seed), crop=crop, long_side=(16, 128))
    left, top, right, bottom = view.box
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    assert 0 <= view.area.top < view.area.bottom <= crop
    assert 0 <= view.area.left < view.area.right <= crop
    assert 15 <= view.long_side <= 129


def test_the_long_side_and_the_scale_take_their_whole_range() -> None:
    chance = rng()
    sides = {
        random_view((30, 40), chance, crop=200, long_side=(50, 53)).long_side for _ in range(200)
    }
    assert sides == {50, 51, 52, 53}
    scaled = [
        random_view((30, 40), chance, crop=200, scale=(0.5, 2.0)).long_side for _ in range(300)
    ]
    assert min(scaled) < 24
    assert max(scaled) > 76


def test_half_of_the_views_are_mirrored() -> None:
    chance = rng()
    mirrored = [random_view((9, 9), chance, crop=9).mirrored for _ in range(400)]
    assert 150 < sum(mirrored) < 250
    assert not any(random_view((9, 9), chance, crop=9, mirror=False).mirrored for _ in range(50))


@pytest.mark.parametrize("seed", range(20))
def test_maps_at_a_quarter_show_what_the_image_does(seed: int) -> None:
    """Ramps down and to the right, as colours of a photograph and as its maps."""
    height, width = 90, 122  # no multiples of four
    down, right = np.mgrid[:height, :width] * 2.0
    image = Image.fromarray(np.stack([down, right, 0 * down], 2).astype(np.uint8))
    quarter = (-(-width // 4), -(-height // 4))
    ramps = [Image.fromarray(ramp.astype(np.float32)) for ramp in (down, right)]
    maps = np.stack([np.asarray(ramp.resize(quarter, Image.Resampling.BILINEAR)) for ramp in ramps])
    view = random_view((height, width), rng(seed), crop=64, long_side=(60, 200))
    pixels = take_image(image, view, fill=FILL)
    crops = take_maps(maps, view)
    assert crops.shape == (2, 64, 64)
    top, left, bottom, right_end = view.area
    outside = np.ones((64, 64), bool)
    outside[top:bottom, left:right_end] = False
    assert not crops[:, outside].any()
    # Within three pixels of an edge of the photograph a map of cells of four repeats its last one.
    inner = ~outside & (pixels[..., 0] > 8) & (pixels[..., 0] < 2 * height - 10)
    inner &= (pixels[..., 1] > 8) & (pixels[..., 1] < 2 * width - 10)
    assert inner.sum() > 500
    for crop, channel in zip(crops, (0, 1), strict=True):
        assert np.abs(crop - pixels[..., channel])[inner].max() < 1.5  # less than a pixel


@pytest.mark.parametrize("seed", range(20))
def test_image_labels_and_saliency_show_the_same(seed: int) -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[20:40, 10:50] = 1
    image = Image.fromarray(np.repeat(labels[..., None] * 200, 3, axis=2).astype(np.uint8))
    view = random_view((60, 80), rng(seed), crop=64, long_side=(40, 120))
    pixels = take_image(image, view, fill=FILL)
    map_ = take_labels(labels, view)
    grey = take_grey(labels.astype(np.float32), view)
    inside = map_ != 255
    assert inside[view.area.top : view.area.bottom, view.area.left : view.area.right].all()
    assert (pixels[~inside] == FILL).all()
    assert np.isnan(grey[~inside]).all()
    # Bilinear and nearest differ within a pixel of the edges only.
    different = inside & ((pixels[..., 0] > 100) != (map_ == 1))
    assert different.sum() <= 0.04 * inside.sum()
    assert (inside & ((grey > 0.5) != (map_ == 1))).sum() <= 0.04 * inside.sum()


def test_a_whole_view_at_its_own_size_is_the_photograph() -> None:
    pixels = rng().integers(0, 256, (17, 23, 3), dtype=np.uint8)
    view = whole_view((17, 23), rng())
    assert (take_image(Image.fromarray(pixels), view, fill=FILL) == pixels).all()
    assert (take_labels(pixels[..., 0], view) == pixels[..., 0]).all()


def test_a_mirrored_view_is_the_photograph_mirrored() -> None:
    pixels = rng().integers(0, 256, (8, 8, 3), dtype=np.uint8)
    view = View((0.0, 0.0, 1.0, 1.0), Area(0, 0, 8, 8), (8, 8), mirrored=True)
    assert (take_image(Image.fromarray(pixels), view, fill=FILL) == pixels[:, ::-1]).all()


def test_a_photograph_fitted_into_a_square_keeps_its_shape() -> None:
    view = whole_view((50, 100), rng(), crop=64)
    assert view.crop == (64, 64)
    assert view.area == Area(16, 0, 48, 64)


def test_a_view_holds_for_the_image_decoded_at_half_its_size() -> None:
    ramp = np.linspace(0, 255, 256).astype(np.uint8)
    full = Image.fromarray(np.repeat(np.tile(ramp, (256, 1))[..., None], 3, axis=2))
    view = random_view((256, 256), rng(3), crop=32, long_side=(64, 64))
    half = full.resize((128, 128), Image.Resampling.BOX)
    a = take_image(full, view, fill=FILL).astype(int)
    b = take_image(half, view, fill=FILL).astype(int)
    assert abs(a - b).max() <= 2


def test_no_jitter_leaves_the_colours() -> None:
    pixels = rng().integers(0, 256, (16, 16, 3), dtype=np.uint8)
    same = np.asarray(jitter(Image.fromarray(pixels), rng(), Jitter(0, 0, 0, 0))).astype(int)
    assert abs(same - pixels).max() <= 1
    assert not Jitter(0, 0, 0, 0)
    assert Jitter()


def test_brightness_multiplies_and_contrast_keeps_the_mean() -> None:
    pixels = rng().integers(80, 140, (32, 32, 3), dtype=np.uint8)
    patch = Image.fromarray(pixels)
    for seed in range(5):
        bright = np.asarray(jitter(patch, rng(seed), Jitter(0.5, 0, 0, 0))).astype(float)
        ratio = bright / pixels
        assert ratio.std() < 0.01
        assert 0.5 <= ratio.mean() <= 1.5
        contrast = np.asarray(jitter(patch, rng(seed), Jitter(0, 0.5, 0, 0))).astype(float)
        assert abs(contrast.mean() - pixels.mean()) < 4
        spread = contrast.std() / pixels.std()
        assert 0.5 <= spread <= 1.5


def test_saturation_keeps_luminance() -> None:
    pixels = rng().integers(60, 180, (16, 16, 3), dtype=np.uint8)
    luma = [0.299, 0.587, 0.114]
    for seed in range(5):
        changed = np.asarray(jitter(Image.fromarray(pixels), rng(seed), Jitter(0, 0, 0.5, 0)))
        assert abs(changed @ luma - pixels @ luma).max() < 1.5


def test_hue_turns_by_the_angle_it_says() -> None:
    """A soft red turned by a sixth of the circle at most stays within it, with its luminance."""
    red = np.full((8, 8, 3), (150, 110, 110), np.uint8)
    hues = []
    for seed in range(40):
        r, g, b = np.asarray(jitter(Image.fromarray(red), rng(seed), Jitter(0, 0, 0, 0.1)))[0, 0]
        hues.append((colorsys.rgb_to_hsv(r, g, b)[0] + 0.5) % 1 - 0.5)
    assert max(hues) > 0.04
    assert min(hues) < -0.04
    assert max(abs(hue) for hue in hues) < 0.13
