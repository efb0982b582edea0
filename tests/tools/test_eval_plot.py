"""The picture of a result; the command: tests/commands/test_eval.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wsss_cli import files
from wsss_cli.drawing import CURVES
from wsss_cli.metrics import Confusion
from wsss_cli.tools.eval_plot import plot_result
from wsss_cli.tools.report import Measured


def result(counts: list[list[list[int]]], thresholds: tuple[float, ...] = ()) -> Measured:
    confusions = []
    for each in counts:
        confusion = Confusion(len(each))
        confusion.counts[:] = np.array(each)
        confusions.append(confusion)
    return Measured(
        key="cam",
        truth="mask",
        classes=tuple(f"class {n}" for n in range(len(counts[0]))),
        confusions=confusions,
        thresholds=thresholds,
        images=3,
        made_by=[None],
    )


def drawn(measured: Measured) -> np.ndarray:
    plot_result("a.png", measured)
    return files.read_image("a.png")


def pixels(picture: np.ndarray, colour: tuple[int, ...]) -> int:
    return int((picture == colour).all(2).sum())


@pytest.fixture(autouse=True)
def inside(workdir: Path) -> None:
    """All pictures are drawn into an empty folder."""


def test_bars_are_as_long_as_the_iou() -> None:
    whole = drawn(result([[[10, 0, 0], [0, 10, 0]]]))
    half = drawn(result([[[10, 0, 0], [10, 10, 0]]]))
    nothing = drawn(result([[[0, 10, 0], [10, 0, 0]]]))
    bars = [pixels(picture[:160, :510], CURVES[0]) for picture in (whole, half, nothing)]
    assert bars[1] == pytest.approx(bars[0] / 2, rel=0.02)
    assert bars[2] < 100


def test_cells_show_the_share_of_the_true_class() -> None:
    """A class of few pixels is as dark as one of many; no prediction has its own column."""
    sure = drawn(result([[[10**9, 0, 0], [0, 10, 0]]]))
    missed = drawn(result([[[10**9, 0, 0], [0, 0, 10]]]))
    columns, second = (652, 682, 712), 288  # the left edges of cells, and the top of a row
    for picture, dark in ((sure, 1), (missed, 2)):
        found = [tuple(picture[second, column]) for column in columns]
        assert found == [CURVES[0] if place == dark else (255, 255, 255) for place in range(3)]
    assert tuple(sure[258, 652]) == tuple(missed[258, 652]) == CURVES[0]


def test_thresholds_are_drawn_where_some_were_tried() -> None:
    right, wrong = [[10, 0, 0], [0, 10, 0]], [[0, 10, 0], [10, 0, 0]]
    one = drawn(result([right], (0.3,)))
    swept = drawn(result([wrong, right, wrong], (0.1, 0.2, 0.3)))
    assert swept.shape[0] > one.shape[0]
    assert pixels(one, CURVES[2]) == 0
    for colour in CURVES[:3]:
        assert pixels(swept[:420, :510], colour) > 50


@pytest.mark.parametrize("classes", [1, 2, 21, 81, 255])
def test_any_number_of_classes_is_drawn(classes: int) -> None:
    counts = np.zeros((classes, classes + 1), int)
    counts[np.arange(classes), np.arange(classes)] = 5
    picture = drawn(result([counts.tolist()]))
    assert picture.shape[0] > classes * 22
    assert picture.shape[0] * picture.shape[1] < 15_000_000


def test_classes_that_do_not_occur_are_left_out() -> None:
    counts = np.zeros((255, 256), int)
    counts[0, 0] = counts[7, 7] = 5
    few = np.diag([5, 5]).tolist()
    expected = drawn(result([[[*row, 0] for row in few]]))
    assert drawn(result([counts.tolist()])).shape == expected.shape
