"""The plot of a training run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from wsss_cli.training.plot import plot_metrics, read_curves, smooth, ticks


def write(path: Path, rows: list[dict[str, float]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_one_panel_without_scores_two_with(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    write(log, [{"epoch": e / 10, "loss": 1 / (1 + e)} for e in range(100)])
    plot_metrics(log, tmp_path / "a.png")
    first = np.asarray(Image.open(tmp_path / "a.png"))
    with open(log, "a") as stream:
        stream.write('{"epoch": 1, "val_miou": 0.5}\n{"epoch": 2, "val_miou": 0.6}\n')
    plot_metrics(log, tmp_path / "b.png")
    second = np.asarray(Image.open(tmp_path / "b.png"))
    assert first.shape == second.shape == (380, 900, 3)
    blue = (np.abs(second.astype(int) - (38, 84, 190)).sum(2) < 30).any(0)
    assert blue[:450].any()  # the loss on the left
    assert blue[450:].any()  # the score on the right
    assert (first != second).any()


def test_broken_lines_and_other_quantities_are_passed_over(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"epoch": 1, "loss": 2, "lr": 3}\n{"epoch"\n{"epoch": 2, "loss": NaN}\n')
    assert read_curves(log) == {"loss": [(1.0, 2.0)]}
    log.write_text("")
    plot_metrics(log, tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()


def test_ticks_are_round_and_span() -> None:
    assert ticks(0, 8) == [0, 2, 4, 6, 8]
    assert ticks(0, 0.034)[-1] >= 0.034
    assert ticks(1, 1)[0] <= 1 <= ticks(1, 1)[-1]


def test_smoothing_keeps_the_mean_of_a_constant() -> None:
    points = [(float(x), 3.0) for x in range(200)]
    assert smooth(points) == points
