"""Soft labels: the distribution that the scores of a record give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsss_cli import files
from wsss_cli.datasets.augment import random_view, whole_view
from wsss_cli.datasets.soft import of_labels, of_scores
from wsss_cli.errors import WsssError

CLASSES = ("cat", "dog", "cow")
SIZE = (12, 18)
HELD = np.zeros(SIZE, np.uint8)
RNG = np.random.default_rng(0)
WHOLE = whole_view(SIZE, RNG)


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """A photograph labelled cow and cat, with scores of all classes, at its own size."""
    path = tmp_path / "a.npz"
    scores = np.random.default_rng(0).random((4, *SIZE)).astype(np.float16)
    scores[:, 3, 5] = 0
    files.write_maps(path, scores, ("cow", "background", "dog", "cat"), SIZE, {})
    return {"id": "a", "labels": ["cow", "cat"], "scores": str(path)}


def test_the_shares_of_background_and_the_labels(record: dict[str, Any]) -> None:
    scores = files.read_maps(record["scores"]).cam.astype(float)
    soft = of_scores(record, SIZE, WHOLE, CLASSES, HELD)
    assert soft.numbers.tolist() == [3, 0, 1]
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            total = scores[0, y, x] + scores[1, y, x] + scores[3, y, x]
            for place, plane in enumerate((0, 1, 3)):
                expected = scores[plane, y, x] / total if total else 0
                assert soft.probabilities[place, y, x] == pytest.approx(expected, abs=1e-6)
    assert not soft.probabilities[:, 3, 5].any()


def test_of_all_classes_where_there_are_no_labels(record: dict[str, Any]) -> None:
    del record["labels"]
    soft = of_scores(record, SIZE, WHOLE, CLASSES, HELD)
    assert soft.numbers.tolist() == [3, 0, 2, 1]
    total = soft.probabilities.sum(0)
    assert total[3, 5] == 0
    total[3, 5] = 1
    np.testing.assert_allclose(total, 1, atol=1e-6)
    # A class that is nowhere likely takes no memory; background stays.
    scores = np.zeros((4, *SIZE))
    scores[0], scores[2, 4, 4] = 1, 0.005
    files.write_maps(record["scores"], scores, ("cow", "background", "dog", "cat"), SIZE, {})
    soft = of_scores(record, SIZE, WHOLE, CLASSES, HELD)
    assert soft.numbers.tolist() == [3, 0]
    scores[2, 4, 4] = 0.02
    files.write_maps(record["scores"], scores, ("cow", "background", "dog", "cat"), SIZE, {})
    assert of_scores(record, SIZE, WHOLE, CLASSES, HELD).numbers.tolist() == [3, 0, 2]


@pytest.mark.parametrize("seed", range(8))
def test_a_view_of_scores_is_resampled_before_it_is_divided(seed: int, tmp_path: Path) -> None:
    """Where one class alone has scores, the view has it with certainty, and nothing outside."""
    path = tmp_path / "b.npz"
    scores = np.zeros((2, 10, 15))
    scores[0, :, :7], scores[1, :, 8:] = 0.001, 0.9  # sides far apart in strength
    files.write_maps(path, scores, ("background", "dog"), (40, 60), {})
    record = {"id": "b", "labels": ["dog"], "scores": str(path)}
    view = random_view((40, 60), np.random.default_rng(seed), crop=48, long_side=(40, 90))
    soft = of_scores(record, (40, 60), view, CLASSES, np.zeros((40, 60), np.uint8))
    assert soft.numbers.tolist() == [0, 2]
    top, left, bottom, right = view.area
    columns = np.arange(left, right)
    place = (columns + 0.5 - left) / (right - left)
    place = 1 - place if view.mirrored else place
    on_map = (view.box[0] + place * (view.box[2] - view.box[0])) * 15  # cell i: from i to i + 1
    certain = soft.probabilities[:, top:bottom, left:right]
    assert (certain[0][:, on_map < 6.4] == 1).all()
    assert (certain[1][:, on_map > 8.6] == 1).all()
    assert ((on_map < 6.4) | (on_map > 8.6)).any()
    outside = soft.probabilities.copy()
    outside[:, top:bottom, left:right] = 0
    assert not outside.any()


def test_a_true_label_map_is_certain() -> None:
    labels = np.array([[2, 255], [2, 3]], np.uint8)
    soft = of_labels(labels)
    assert soft.numbers.tolist() == [0, 2, 3]
    assert soft.probabilities.tolist() == [[[0, 0], [0, 0]], [[1, 0], [1, 0]], [[0, 0], [0, 1]]]
    empty = of_labels(np.full((2, 2), 255, np.uint8))
    assert empty.numbers.tolist() == [0]
    assert not empty.probabilities.any()


def rewritten(record: dict[str, Any], names: tuple[str, ...], size: tuple[int, int] = SIZE) -> None:
    files.write_maps(record["scores"], np.full((len(names), *SIZE), 0.5), names, size, {})


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("cow", "cat"), "no scores of 'background'"),
        (("background", "cow"), "no scores of 'cat', which the record needs"),
        (("background", "cow", "cat", "cowe"), "label 'cowe' is not in the class list; did you"),
        (("background", "cow", "cat"), "no scores of 'dog'"),  # which the label map has
    ],
)
def test_scores_of_other_classes(record: dict[str, Any], names: tuple[str, ...], said: str) -> None:
    rewritten(record, names)
    held = np.full(SIZE, 2, np.uint8)
    held[0] = 255
    with pytest.raises(WsssError, match=said) as error:
        of_scores(record, SIZE, WHOLE, CLASSES, held)
    assert str(error.value).startswith(f"{record['scores']}: ")


def test_scores_that_cannot_be_used(record: dict[str, Any]) -> None:
    rewritten(record, ("background", "cow", "cat"), (24, 36))
    with pytest.raises(WsssError, match="maps of an image of 36x24, but this one is 18x12"):
        of_scores(record, SIZE, WHOLE, CLASSES, HELD)
    values = np.full((3, *SIZE), 0.5, np.float16)
    values[1, 2, 3] = np.nan
    arrays = {"classes": np.array(["background", "cow", "cat"]), "size": np.array(SIZE)}
    np.savez(record["scores"], cam=values, meta=np.array("{}"), **arrays)
    with pytest.raises(WsssError, match="maps hold NaN or values outside 0 to 1"):
        of_scores(record, SIZE, WHOLE, CLASSES, HELD)
    record["scores"] = 3
    with pytest.raises(WsssError, match="'scores' is not a path but 3"):
        of_scores(record, SIZE, WHOLE, CLASSES, HELD)
