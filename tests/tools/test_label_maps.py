"""From maps to label maps, piece by piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from wsss_cli import files
from wsss_cli.errors import WsssError
from wsss_cli.files import Maps
from wsss_cli.methods.crf import dense_crf
from wsss_cli.tools import label_maps


def maps(classes: tuple[str, ...], meta: dict[str, Any] | None = None) -> Maps:
    rng = np.random.default_rng(0)
    cam = rng.random((len(classes), 6, 8)).astype(np.float16)
    return Maps(cam, classes, (24, 32), {"classes": ["cat", "cow", "dog"]} | (meta or {}))


def test_numbers_count_from_one_in_the_class_list() -> None:
    assert label_maps.class_numbers(maps(("dog", "cat")), None) == [3, 1]
    assert label_maps.class_numbers(maps(("background", "dog")), None) == [3]
    assert label_maps.class_numbers(maps(("dog",)), ["dog", "cat"]) == [1]
    assert label_maps.class_numbers(maps(()), None) == []


def test_numbers_of_no_list_or_a_stranger() -> None:
    with pytest.raises(WsssError, match="do not say their class list; give --classes"):
        label_maps.class_numbers(maps(("dog",), {"classes": None}), None)
    assert label_maps.class_numbers(maps((), {"classes": None}), None) == []
    with pytest.raises(WsssError, match="'dgo' is not in the class list; did you mean dog"):
        label_maps.class_numbers(maps(("dgo",)), None)


@pytest.mark.parametrize("size", [(24, 32), (23, 31), (6, 8)])
def test_resizing_is_bilinear_between_the_centres_of_pixels(size: tuple[int, int]) -> None:
    given = maps(("cat", "dog")).cam
    tensor = torch.from_numpy(given.astype(np.float32))[None]
    expected = functional.interpolate(tensor, size, mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(label_maps.resize(given, size), expected, atol=1e-6)
    assert label_maps.resize(given[:0], size).shape == (0, *size)


def test_labels_are_resized_to_the_nearest_and_never_mixed() -> None:
    labels = np.array([[0, 7], [255, 3]], np.uint8)
    large = label_maps.resize_labels(labels, (6, 8))
    np.testing.assert_array_equal(large, np.kron(labels, np.ones((3, 4))))
    np.testing.assert_array_equal(label_maps.resize_labels(large, (2, 2)), labels)
    assert label_maps.resize_labels(labels, (2, 2)) is labels


def test_a_background_of_its_own_is_told_from_the_classes() -> None:
    given = maps(("dog", "background", "cat"))
    classes, own = label_maps.split_background(given)
    assert classes.classes == ("dog", "cat")
    np.testing.assert_array_equal(classes.cam, given.cam[[0, 2]])
    assert own is not None
    np.testing.assert_array_equal(own, given.cam[1])
    plain, none = label_maps.split_background(maps(("dog",)))
    assert (plain.classes, none) == (("dog",), None)


def test_background_is_a_threshold_else_its_own_else_from_alpha() -> None:
    cam = np.array([[[0.0, 0.5, 1.0]], [[0.25, 0.0, 0.5]]], np.float32)
    own = np.array([[0.1, 0.2, 0.3]], np.float16)

    def background(own: Any, threshold: float | None) -> list[float]:
        scores = label_maps.with_background(cam, own, alpha=2, threshold=threshold)
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(scores[1:], cam)
        return scores[0, 0].tolist()

    assert background(None, None) == pytest.approx([0.75**2, 0.5**2, 0])
    assert background(own, None) == pytest.approx([0.1, 0.2, 0.3], abs=1e-3)
    assert background(own, 0.4) == pytest.approx([0.4] * 3)


def test_the_largest_score_gives_the_number() -> None:
    scores = np.array([[[0.5, 0.1, 0.1]], [[0.4, 0.8, 0.2]], [[0.4, 0.3, 0.9]]], np.float32)
    labels = label_maps.label_map(scores, [9, 4])
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 9, 4]]
    assert label_maps.label_map(scores[:1], []).tolist() == [[0, 0, 0]]


def test_refining_leaves_out_what_cannot_win() -> None:
    """The same posterior as without the hopeless class, which keeps its place with zeros."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    scores = rng.uniform(0.2, 1, (3, 12, 16)).astype(np.float32)
    scores[1] = 0.01
    settings = {"steps": 3, "bilateral_sxy": 20.0}
    found = label_maps.refine(image, scores, settings)
    np.testing.assert_allclose(found[[0, 2]], dense_crf(image, scores[[0, 2]], **settings))
    assert not found[1].any()
    scores[1, 3, 3] = scores[:, 3, 3].max()
    np.testing.assert_allclose(
        label_maps.refine(image, scores, settings), dense_crf(image, scores, **settings)
    )


def test_without_a_crf_or_a_class_nothing_is_refined() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    scores = np.random.default_rng(0).random((2, 4, 4)).astype(np.float32)
    assert label_maps.refine(image, scores, None) is scores
    assert label_maps.refine(image, scores[:1], {}).shape == (1, 4, 4)


def test_photograph_and_maps_must_match(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), (90, 120, 40)).save(tmp_path / "a.png")
    files.write_maps(tmp_path / "a.npz", np.ones((1, 12, 16)), ("dog",), (48, 64), {})
    record = {"image": str(tmp_path / "a.png"), "cam": str(tmp_path / "a.npz")}
    image, maps = label_maps.read_matching(record, "cam")
    assert image.shape == (48, 64, 3)
    assert maps.classes == ("dog",)
    image, maps = label_maps.read_matching(record, "cam", 32)
    assert image.shape == (24, 32, 3)
    assert maps.size == (48, 64)
    Image.new("RGB", (48, 64)).save(record["image"])
    with pytest.raises(WsssError, match="maps of an image of 64x48, but this one is 48x64"):
        label_maps.read_matching(record, "cam")


def test_the_unknown_stays_unknown_where_labels_tie() -> None:
    scores = np.array([[[0.5, 0.5, 0.2, 0.4]], [[0.5, 0.5, 0.8, 0.2]], [[0.1, 0.1, 0.1, 0.4]]])
    scores = scores.astype(np.float32)
    labels = label_maps.label_map(scores, [7, 9])
    label_maps.leave_undecided(labels, scores, np.array([[True, False, True, True]]))
    assert labels.tolist() == [[255, 0, 7, 255]]
    only = np.zeros((1, 1), np.uint8)
    label_maps.leave_undecided(only, scores[:1, :, :1], np.array([[True]]))
    assert only.tolist() == [[0]]
