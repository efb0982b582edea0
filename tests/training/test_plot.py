"""The plot of a training run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss_cli.training.plot import plot_metrics, read_curves, smooth


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


def test_smoothing_keeps_the_mean_of_a_constant() -> None:
    points = [(float(x), 3.0) for x in range(200)]
    assert smooth(points) == points


def test_no_log_ends_a_training(tmp_path: Path) -> None:
    """Whatever stands in it; the plot is drawn after the checkpoint."""
    log = tmp_path / "log.jsonl"
    lines = [
        b'{"epoch": 1, "loss": 1e-300}',
        b'{"epoch": 1e-300, "loss": 1e-13}',
        b'{"epoch": 2, "loss": 1e308, "val_x": -1e99}',
        b'{"epoch": 1e400, "loss": 1}',
        b'{"epoch": 1, "loss": 1' + b"0" * 400 + b"}",
        b'{"epoch": 1, "loss": 1' + b"0" * 9000 + b"}",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"epoch": 1, "val_\\u202e\\n\\u001b[31m' + b"n" * 9000 + b'": 3}',
        b"[1]",
    ]
    for number in range(len(lines)):
        log.write_bytes(b"\n".join(lines[: number + 1]) + b"\n")
        plot_metrics(log, tmp_path / "a.png")
        assert Image.open(tmp_path / "a.png").size == (900, 380)
    assert read_curves(log)["loss"] == [(1, 1e-300), (1e-300, 1e-13)]


def test_a_legend_has_a_bound(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    names = [f"val_{n}" for n in range(100_000)]
    log.write_text(json.dumps({"epoch": 1, **dict.fromkeys(names, 0.5)}) + "\n")
    plot_metrics(log, tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    assert (pixels[:40, 600:] == 255).all()  # it grew beyond the upper edge


def test_smoothing_is_the_mean_of_the_neighbours() -> None:
    points = [(float(x), float(x * x % 17)) for x in range(100)]
    made = smooth(points)
    assert made[0] == (0, pytest.approx((0 + 1 + 4) / 3))
    assert made[50] == (50, pytest.approx(sum(x * x % 17 for x in range(48, 53)) / 5))
    assert len(smooth([(0.0, 1.0)] * 300_000)) == 300_000  # in no time; it took minutes
