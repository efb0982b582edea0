"""The log of a run: the means in a line, and how it is continued."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from wsss_cli.training.log import Losses, MetricsLog, Speed


def test_a_log_goes_on_where_the_state_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "net.log.jsonl"
    with MetricsLog(path) as log:
        log.write(step=1, epoch=0.5, loss=0.123456789, lr=0.1)
        position = log.position
        log.write(step=2, epoch=1, loss=9)
    with MetricsLog(path, position) as log:
        log.write(step=2, epoch=1, loss=2)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [
        {"step": 1, "epoch": 0.5, "loss": 0.123457, "lr": 0.1},
        {"step": 2, "epoch": 1, "loss": 2.0},
    ]
    with MetricsLog(path):
        pass
    assert path.read_bytes() == b""
    path.unlink()
    with MetricsLog(path, position) as log:
        log.write(step=2, epoch=1)
    assert path.read_text() == '{"step": 2, "epoch": 1}\n'
    with MetricsLog(None) as log:
        log.write(step=1, epoch=1)
        assert log.position == 0


def test_a_line_holds_the_means_since_the_line_before() -> None:
    losses = Losses()
    assert math.isnan(losses.last_loss)
    losses.add(3.0, {"classes": 1.0, "saliency": 2.0})
    losses.add(5.0, {"classes": 4.0, "saliency": 1.0})
    assert losses.mean == 4
    assert losses.take() == {"loss": 4.0, "loss_classes": 2.5, "loss_saliency": 1.5}
    losses.add(1.0, {})
    assert losses.last_loss == 4
    assert losses.take() == {"loss": 1.0}
    assert losses == Losses(last_loss=1.0)


def test_the_speed_is_that_since_the_last_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    speed = Speed(4)
    now = 12.0
    assert speed.at(9) == 2.5
    speed.restart(9)
    now = 16.0
    assert speed.at(10) == 0.25
