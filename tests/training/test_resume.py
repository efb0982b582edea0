"""The state of a run, and the log that is taken up with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.training import resume
from wsss_cli.training.log import MetricsLog

RECORDS = [{"id": "a", "image": "a.jpg", "labels": ["cat"]}, {"id": "b", "image": "b.jpg"}]


def test_a_state_is_read_back_for_the_same_run_only(tmp_path: Path) -> None:
    path = resume.state_path(tmp_path / "net.pt")
    assert path == tmp_path / "net.resume.pt"
    run = resume.identity(RECORDS, ["image", "labels"], lr=0.1, scale=(0.5, 2))
    assert resume.load(path, run) is None
    resume.save(path, run, {"step": 3, "network": {"weight": torch.ones(2)}})
    state = resume.load(path, run)
    assert state is not None
    assert state["step"] == 3
    other = resume.identity(RECORDS, ["image", "labels"], lr=0.2, scale=(0.5, 2))
    with pytest.raises(ConfigurationError) as refused:
        resume.load(path, other)
    assert str(refused.value).startswith(f"{path} is of another run (lr 0.1, now 0.2): ")
    fewer = resume.identity(RECORDS[:1], ["image", "labels"], lr=0.1, scale=(0.5, 2))
    with pytest.raises(ConfigurationError, match="records 2, now 1"):
        resume.load(path, fewer)


def test_other_labels_are_another_run(tmp_path: Path) -> None:
    path = tmp_path / "net.resume.pt"
    resume.save(path, resume.identity(RECORDS, ["labels"]), {})
    changed = [{**RECORDS[0], "labels": ["dog"]}, RECORDS[1]]
    with pytest.raises(ConfigurationError, match="other records"):
        resume.load(path, resume.identity(changed, ["labels"]))


def test_a_file_that_is_no_state(tmp_path: Path) -> None:
    path = tmp_path / "net.resume.pt"
    path.write_bytes(b"junk")
    with pytest.raises(WsssError, match="cannot read state to resume"):
        resume.load(path, {})
    torch.save({"weights": torch.ones(1)}, path)
    with pytest.raises(WsssError, match="no state of a training run"):
        resume.load(path, {})


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
