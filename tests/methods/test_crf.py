"""The dense CRF against a brute-force mean field, what it must refuse, and confident regions."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tests.methods import make_irn_references
from wsss_cli.errors import ConfigurationError
from wsss_cli.methods import cam as cam_methods
from wsss_cli.methods import crf
from wsss_cli.methods.crf import (
    confident_labels,
    confident_regions,
    dense_crf,
    label_probabilities,
    window_mean,
)

DEFAULTS: dict[str, float] = {
    "gaussian_sxy": 3,
    "gaussian_compat": 3,
    "bilateral_sxy": 80,
    "bilateral_srgb": 13,
    "bilateral_compat": 10,
}
NARROW: dict[str, float] = {
    "gaussian_sxy": 1.5,
    "gaussian_compat": 2,
    "bilateral_sxy": 10,
    "bilateral_srgb": 30,
    "bilateral_compat": 4,
}


def mean_field(image: Any, probabilities: Any, steps: int, settings: dict[str, float]) -> Any:
    """The whole H·W × H·W kernels in float64: slow, plain, and exact."""
    count, height, width = probabilities.shape
    unary = -np.log(probabilities / probabilities.sum(0)).reshape(count, -1)
    y, x = np.mgrid[:height, :width]
    place = np.stack([x, y], -1).reshape(-1, 2).astype(np.float64)
    colour = image.reshape(-1, 3).astype(np.float64)

    def kernel(features: Any) -> Any:
        far = ((features[:, None] - features[None]) ** 2).sum(-1)
        values = np.exp(-far / 2)
        norm = 1 / np.sqrt(values.sum(1))
        return norm[:, None] * values * norm

    smooth = kernel(place / settings["gaussian_sxy"])
    alike = kernel(
        np.hstack([place / settings["bilateral_sxy"], colour / settings["bilateral_srgb"]])
    )
    joined = settings["gaussian_compat"] * smooth + settings["bilateral_compat"] * alike
    belief = np.exp(-unary)
    for _ in range(steps):
        energy = belief @ joined - unary
        belief = np.exp(energy - energy.max(0))
        belief /= belief.sum(0)
    return belief.reshape(probabilities.shape)


def picture(seed: int, height: int = 24, width: int = 30) -> tuple[Any, Any]:
    """Two noisy halves, one with a darker upper third, and unsure probabilities of three labels."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 40, (height, width, 3))
    image[:, width // 2 :] += 120
    image[: height // 3, : width // 2] += 60
    probabilities = rng.random((3, height, width)) * 0.5 + 0.2
    probabilities[0, :, : width // 2] += 0.25
    probabilities[1, :, width // 2 :] += 0.2
    return image.astype(np.uint8), probabilities


@pytest.mark.parametrize("chosen", [DEFAULTS, NARROW], ids=["defaults", "narrow"])
@pytest.mark.parametrize("steps", [0, 1, 2, 10])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_exact_mean_field(chosen: dict[str, float], steps: int, seed: int) -> None:
    image, probabilities = picture(seed)
    exact = mean_field(image, probabilities, steps, chosen)
    result = dense_crf(image, probabilities, steps, **chosen)
    assert result.dtype == np.float32
    # The permutohedral lattice approximates the Gaussians.
    np.testing.assert_allclose(result, exact, atol=0.03)
    assert abs(result - exact).mean() < 0.003
    if steps:
        np.testing.assert_array_equal(result.argmax(0), exact.argmax(0))
        assert (result.argmax(0) != probabilities.argmax(0)).mean() > 0.1


@pytest.mark.parametrize("changed", list(NARROW))
def test_the_referee_would_notice_a_setting_that_is_ignored(changed: str) -> None:
    image, probabilities = picture(0)
    other = {**NARROW, changed: NARROW[changed] / 4}
    exact = mean_field(image, probabilities, 1, other)
    heard = abs(dense_crf(image, probabilities, 1, **other) - exact).mean()
    ignored = abs(dense_crf(image, probabilities, 1, **NARROW) - exact).mean()
    assert heard < ignored / 2


def test_defaults_are_those_of_affinitynet() -> None:
    image, probabilities = picture(2)
    np.testing.assert_array_equal(
        dense_crf(image, probabilities), dense_crf(image, probabilities, 10, **DEFAULTS)
    )


def test_labels_follow_the_edge_of_the_photograph() -> None:
    image = np.full((40, 60, 3), 30, np.uint8)
    image[:, 33:] = 200
    blurred = np.linspace(0.9, 0.1, 60) * np.ones((40, 1))
    labels = dense_crf(image, np.stack([blurred, 1 - blurred])).argmax(0)
    np.testing.assert_array_equal(labels, np.broadcast_to(np.arange(60) >= 33, (40, 60)))


def test_scores_need_not_add_up_to_one() -> None:
    image, probabilities = picture(3)
    probabilities = probabilities / probabilities.sum(0)
    np.testing.assert_allclose(
        dense_crf(image, probabilities * 7), dense_crf(image, probabilities), atol=1e-5
    )


def test_without_weights_or_steps_nothing_changes() -> None:
    image, probabilities = picture(4)
    plain = probabilities / probabilities.sum(0)
    off = dense_crf(image, probabilities, gaussian_compat=0, bilateral_compat=0)
    np.testing.assert_allclose(off, plain, atol=1e-6)
    np.testing.assert_allclose(dense_crf(image, probabilities, 0), plain, atol=1e-6)


def test_order_of_labels_does_not_matter() -> None:
    image, probabilities = picture(5)
    turned = dense_crf(image, probabilities[[2, 0, 1]])
    np.testing.assert_allclose(turned, dense_crf(image, probabilities)[[2, 0, 1]], atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_any_layout_of_memory(dtype: type) -> None:
    image, probabilities = picture(6)
    given = (probabilities * 100).astype(dtype)
    wanted = dense_crf(image, given)
    strided_image = np.repeat(image, 2, axis=1)[:, ::2]
    strided = np.asfortranarray(given)
    for array in (strided_image, strided):
        array.setflags(write=False)
    np.testing.assert_array_equal(dense_crf(strided_image, strided), wanted)


def test_one_label_is_certain() -> None:
    image, _ = picture(0)
    np.testing.assert_array_equal(dense_crf(image, np.zeros((1, 24, 30))), 1)


def test_a_pixel_where_nothing_is_likely_is_open_not_a_crash() -> None:
    image, probabilities = picture(0)
    probabilities[:, 3, 4] = 0
    assert np.isfinite(dense_crf(image, probabilities)).all()


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    count=st.integers(1, 6),
    flat=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_every_small_image_has_a_posterior(
    height: int, width: int, count: int, flat: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 1 if flat else 256, (height, width, 3), dtype=np.uint8)
    posterior = dense_crf(image, rng.random((count, height, width)), 3)
    assert posterior.shape == (count, height, width)
    assert (posterior >= 0).all()
    np.testing.assert_allclose(posterior.sum(0), 1, atol=1e-5)


# ---- what would crash pydensecrf ----


def good() -> dict[str, Any]:
    image, probabilities = picture(0)
    return {"image": image, "probabilities": probabilities}


def with_value(value: float) -> Any:
    _, probabilities = picture(0)
    probabilities[1, 2, 3] = value
    return probabilities


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image": np.zeros((24, 30, 3))}, "must be uint8 (H, W, 3), not float64 (24, 30, 3)"),
        ({"image": np.zeros((24, 30), np.uint8)}, "image must be uint8 (H, W, 3), not uint8"),
        ({"image": np.zeros((24, 30, 4), np.uint8)}, "not uint8 (24, 30, 4)"),
        ({"image": np.zeros((3, 24, 30), np.uint8)}, "not uint8 (3, 24, 30)"),
        ({"image": np.zeros((0, 30, 3), np.uint8)}, "not uint8 (0, 30, 3)"),
        ({"image": np.zeros((30, 24, 3), np.uint8)}, "are (24, 30), their image (30, 24)"),
        ({"probabilities": np.zeros((24, 30))}, "probabilities must be (C, H, W), not (24, 30)"),
        ({"probabilities": np.zeros((0, 24, 30))}, "must be (C, H, W), not (0, 24, 30)"),
        ({"probabilities": np.ones((24, 30, 3))}, "are (30, 3), their image (24, 30)"),
        ({"probabilities": np.ones((256, 24, 30))}, "256 labels; a label map holds 255"),
        ({"probabilities": with_value(np.nan)}, "hold NaN, infinite or negative values"),
        ({"probabilities": with_value(np.inf)}, "hold NaN, infinite or negative values"),
        ({"probabilities": with_value(-0.1)}, "hold NaN, infinite or negative values"),
        ({"steps": -1}, "steps must not be negative, not -1"),
        ({"gaussian_sxy": 0}, "gaussian_sxy must be above 0 and finite, not 0"),
        ({"gaussian_sxy": np.nan}, "gaussian_sxy must be above 0 and finite, not nan"),
        ({"bilateral_sxy": -3}, "bilateral_sxy must be above 0 and finite, not -3"),
        ({"bilateral_srgb": np.inf}, "bilateral_srgb must be above 0 and finite, not inf"),
        ({"bilateral_srgb": 1e-5}, "bilateral_srgb 1e-05 is too small for an image of 1x1"),
        ({"gaussian_sxy": 1e-3}, "gaussian_sxy 0.001 is too small for an image of 30x24"),
        ({"bilateral_sxy": 1e-3}, "bilateral_sxy 0.001 is too small for an image of 30x24"),
        ({"gaussian_compat": -1}, "gaussian_compat must be 0 or more and finite, not -1"),
        ({"bilateral_compat": np.nan}, "bilateral_compat must be 0 or more"),
    ],
)
def test_what_would_crash_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        dense_crf(**{**good(), **changed})


def test_more_values_than_the_lattice_can_count_are_refused() -> None:
    with pytest.raises(ValueError, match="100 labels for 2000x2000 pixels are too much"):
        dense_crf(
            np.zeros((2000, 2000, 3), np.uint8),
            np.broadcast_to(np.array(1, np.uint8), (100, 2000, 2000)),
        )


def test_a_wide_photograph_fits_the_lattice_with_the_defaults() -> None:
    crf.Kernels().check_reach(2000, 20_000)
    posterior = dense_crf(np.zeros((2, 20_000, 3), np.uint8), np.ones((2, 2, 20_000)), 1)
    np.testing.assert_allclose(posterior, 0.5, atol=1e-5)


def test_a_missing_pydensecrf_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(ConfigurationError, match="pip install pydensecrf2"):
        dense_crf(**good())


# ---- label maps ----


def test_probabilities_of_a_label_map() -> None:
    labels = np.array([[0, 7, 7], [12, 255, 0]], np.uint8)
    probabilities, present = label_probabilities(labels, certainty=0.8)
    assert present == [0, 7, 12]
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-6)
    np.testing.assert_allclose(probabilities[:, 0, 1], [0.1, 0.8, 0.1], atol=1e-6)
    np.testing.assert_allclose(probabilities[:, 1, 0], [0.1, 0.1, 0.8], atol=1e-6)
    np.testing.assert_allclose(probabilities[:, 1, 1], 1 / 3, atol=1e-6)


def test_a_label_map_without_classes_is_background() -> None:
    for row in ([0, 0, 0], [0, 255, 0]):
        probabilities, present = label_probabilities(np.array([row, row], np.uint8))
        assert present == [0]
        np.testing.assert_array_equal(probabilities, np.ones((1, 2, 3)))


def test_what_is_unknown_is_one_of_the_labels_that_are_known() -> None:
    probabilities, present = label_probabilities(np.array([[7, 7, 255, 9]], np.uint8))
    assert present == [0, 7, 9]
    np.testing.assert_array_equal(probabilities[:, 0, 2], [0, 0.5, 0.5])
    with pytest.raises(ValueError, match="no pixel of the label map is known"):
        label_probabilities(np.full((2, 3), 255, np.uint8))


@pytest.mark.parametrize("certainty", [0, 0.5, 1, np.nan])
def test_certainty_out_of_range(certainty: float) -> None:
    with pytest.raises(ValueError, match="certainty must lie between"):
        label_probabilities(np.zeros((2, 2), np.uint8), certainty=certainty)


# ---- confident regions ----


def scene() -> tuple[Any, Any]:
    """Three grey areas: the class is sure in the first, unsure in the second, absent in the third.

    Grey levels lie far apart and there is no noise, so that the CRF keeps to the areas.
    """
    image = np.zeros((20, 60, 3), np.uint8)
    cam = np.zeros((1, 20, 60), np.float32)
    for place, (grey, activation) in enumerate([(40, 0.9), (130, 0.25), (220, 0.02)]):
        image[:, 20 * place : 20 * place + 20] = grey
        cam[:, :, 20 * place : 20 * place + 20] = activation
    return image, cam


def test_sure_class_neutral_sure_background() -> None:
    image, cam = scene()
    # Unsure: 0.25 lies below (1 - 0.25)^4 = 0.32 but above (1 - 0.25)^32 = 0.0001.
    regions = confident_regions(image, cam)
    assert regions.dtype == np.uint8
    assert np.unique(regions[:, :20]) == [1]
    assert np.unique(regions[:, 20:40]) == [255]
    assert np.unique(regions[:, 40:]) == [0]


def test_smaller_alphas_give_more_background() -> None:
    image, cam = scene()
    assert np.unique(confident_regions(image, cam, 0.01, 0.02)) == [0]
    assert np.unique(confident_regions(image, cam, 200, 400)[:, :40]) == [1]


def test_regions_are_those_of_two_separate_fields() -> None:
    image, _ = picture(0)
    cam = np.random.default_rng(1).random((2, 24, 30)).astype(np.float32)
    given = {"steps": 5, **NARROW}

    def winner(alpha: float) -> Any:
        background = cam_methods.background_score(torch.from_numpy(cam), alpha).numpy()
        return dense_crf(image, np.concatenate([background[None], cam]), **given).argmax(0)

    wanted = winner(3)
    wanted[wanted == 0] = 255
    wanted[winner(9) == 0] = 0
    result = confident_regions(image, cam, 3, 9, **given)
    np.testing.assert_array_equal(result, wanted)
    assert {1, 2} <= set(np.unique(result))


@pytest.mark.parametrize("window", [1, 2, 5, 8, 100])
def test_a_mean_over_a_window_is_that_of_its_pixels(window: int) -> None:
    maps = np.random.default_rng(0).random((2, 9, 12)).astype(np.float32)
    expected = np.zeros_like(maps)
    for y in range(9):
        for x in range(12):
            rows = [r for r in range(y - window // 2, y - window // 2 + window) if 0 <= r < 9]
            columns = [c for c in range(x - window // 2, x - window // 2 + window) if 0 <= c < 12]
            expected[:, y, x] = maps[:, rows][:, :, columns].mean((1, 2))
    result = window_mean(maps, window)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_a_cell_has_the_label_of_its_mean_posterior() -> None:
    """Label maps read at every 8th pixel: the arg max of the mean over 8×8 pixels, as psa has it.

    psa pools the crop from its corner, so that a cell is the square at its lower right; here the
    cell is the middle of the square, which is 4 pixels further up and left.
    """
    image, _ = picture(0, 40, 48)
    cam = np.random.default_rng(1).random((2, 40, 48)).astype(np.float32) * 0.7
    given = {"steps": 2, **NARROW}

    def winner(alpha: float) -> Any:
        background = cam_methods.background_score(torch.from_numpy(cam), alpha).numpy()
        posterior = dense_crf(image, np.concatenate([background[None], cam]), **given)
        inner = torch.from_numpy(posterior)[None, :, 4:36, 4:44]
        return functional.avg_pool2d(inner, 8)[0].argmax(0).numpy()

    wanted = winner(1)
    wanted[wanted == 0] = 255
    wanted[winner(2) == 0] = 0
    result = confident_regions(image, cam, 1, 2, window=8, **given)
    np.testing.assert_array_equal(result[8:40:8, 8:48:8], wanted)
    by_pixel = confident_regions(image, cam, 1, 2, **given)
    assert (by_pixel[8:40:8, 8:48:8] != wanted).any()
    assert len(np.unique(wanted)) > 1


@pytest.mark.parametrize("height", [1, 0.05])
def test_background_of_its_own_is_weighed_both_ways(height: float) -> None:
    """Whatever the height of the scores: shares count."""
    image, cam = scene()
    # Shares 0.25, 0.55, 0.94: to the power of 0.35 0.61, 0.81, 0.98, of 2.8 0.02, 0.18, 0.84.
    background = np.full((20, 60), 0.3 * height, np.float16)
    regions = confident_regions(image, cam * height, background=background)
    assert np.unique(regions[:, :20]) == [1]
    assert np.unique(regions[:, 20:40]) == [255]
    assert np.unique(regions[:, 40:]) == [0]


def test_no_class_is_all_background() -> None:
    image, cam = scene()
    np.testing.assert_array_equal(confident_regions(image, cam[:0]), 0)
    np.testing.assert_array_equal(confident_regions(image, np.zeros((0, 5, 5))), 0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"low_alpha": 32, "high_alpha": 4}, "alphas must rise from above 0: 32, 4"),
        ({"low_alpha": 0}, "alphas must rise from above 0: 0, 32"),
        ({"cam": np.zeros((20, 60))}, "activations must be (C, H, W), not (20, 60)"),
        ({"cam": np.zeros((1, 5, 15))}, "activations are (5, 15), their image (20, 60)"),
        ({"cam": np.full((1, 20, 60), np.nan)}, "activations hold NaN"),
        ({"cam": np.full((1, 20, 60), 1.5)}, "must lie between 0 and 1"),
        ({"background": np.full((20, 60), 1.5)}, "must lie between 0 and 1"),
        ({"background": np.zeros((5, 15))}, "background scores are (5, 15), their image"),
        ({"background": np.full((20, 60), np.nan)}, "background scores hold NaN"),
        ({"bilateral_srgb": 0}, "bilateral_srgb must be above 0"),
    ],
)
def test_what_regions_refuse(changed: dict[str, Any], message: str) -> None:
    image, cam = scene()
    with pytest.raises(ValueError, match=re.escape(message)):
        confident_regions(**{"image": image, "cam": cam, **changed})


def test_background_score_is_the_one_of_make_cam() -> None:
    cam = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    for alpha in (0.5, 4, 32):
        np.testing.assert_allclose(
            crf.background_score(cam, alpha),
            cam_methods.background_score(torch.from_numpy(cam), alpha).numpy(),
            rtol=1e-4,
            atol=1e-7,
        )


# ---- confident regions of labels (IRNet) ---------------------------------------------------------


def test_confident_labels_are_those_of_the_public_code() -> None:
    """Of irn; see make_irn_references.py."""
    theirs = json.loads(Path(__file__).with_name("irn.json").read_text())["regions"]
    photo, cam = make_irn_references.scene()
    found = confident_labels(photo, cam, bilateral_sxy=50, bilateral_srgb=5)
    assert found.flatten()[::9].tolist() == theirs
    assert set(theirs) == {0, 1, 2, 255}
    other = confident_labels(photo, cam, bilateral_sxy=50, bilateral_srgb=60)
    assert (other != found).any()


def test_confident_labels_of_maps_with_a_background_are_those_of_the_public_code() -> None:
    """Of SIPE; see make_irn_references.py."""
    theirs = json.loads(Path(__file__).with_name("irn.json").read_text())["regions_sipe"]
    (photo, cam), own = make_irn_references.scene(), make_irn_references.own_background()
    found = confident_labels(photo, cam, own, own / 2, bilateral_sxy=50, bilateral_srgb=5)
    assert found.flatten()[::9].tolist() == theirs
    assert set(theirs) == {0, 1, 2, 255}
    constant = confident_labels(photo, cam, np.full_like(own, 0.3), np.full_like(own, 0.05))
    np.testing.assert_array_equal(constant, confident_labels(photo, cam))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("thresholds", [(0.6, 0.2), (0.3, 0.05)])
def test_confident_labels_are_those_of_a_loop(seed: int, thresholds: tuple[float, float]) -> None:
    image, maps = picture(seed)
    cam = np.clip(maps[:2] - 0.2, 0, 1).astype(np.float32)
    runs = []
    for threshold in thresholds:
        shares = np.full((3, *image.shape[:2]), 0.1)
        for y in range(image.shape[0]):
            for x in range(image.shape[1]):
                scores = [threshold, *(float(score) for score in cam[:, y, x])]
                shares[scores.index(max(scores)), y, x] = 0.8
        runs.append(mean_field(image, shares, 3, NARROW).argmax(0))
    found = confident_labels(image, cam, *thresholds, certainty=0.8, steps=3, **NARROW)
    for (y, x), label in np.ndenumerate(found):
        first, second = runs[0][y, x], runs[1][y, x]
        assert label == (first if first else (255 if second else 0))


def test_without_steps_the_labels_of_the_thresholds_stay() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    cam = np.array([[[0.9, 0.3, 0.2, 0.06, 0.05, 0.0]]], np.float32).repeat(4, 1)
    found = confident_labels(image, cam, steps=0)
    assert found[0].tolist() == [1, 255, 255, 255, 0, 0]  # equal to a threshold: background
    assert not confident_labels(image, cam[:0]).any()
    wide = confident_labels(image, cam, 0.25, 0.04, steps=0, window=3)
    assert wide[0].tolist() == [1, 1, 255, 255, 255, 0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"foreground": 0.05, "background": 0.05}, "thresholds must rise within 0 and 1"),
        ({"foreground": 1.1}, "thresholds must rise within 0 and 1"),
        ({"background": -0.1}, "thresholds must rise within 0 and 1"),
        ({"certainty": 0.5}, "certainty must lie between 0.5 and 1"),
        ({"window": 0}, "window must be at least 1"),
        ({"foreground": np.full((4, 6), 0.2), "background": 0.3}, "must not be higher in the sec"),
        ({"foreground": np.full((4, 5), 0.2)}, r"background scores are \(4, 5\)"),
        ({"foreground": np.full((4, 6), np.nan)}, "background scores hold NaN"),
    ],
)
def test_what_confident_labels_refuse(settings: dict[str, Any], said: str) -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(ValueError, match=said):
        confident_labels(image, np.ones((1, 4, 6), np.float32), **settings)
