"""The state of a run, read back for the same run only."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.training import outputs, resume

RECORDS = [{"id": "a", "image": "a.jpg", "labels": ["cat"]}, {"id": "b", "image": "b.jpg"}]


def test_a_state_is_read_back_for_the_same_run_only(tmp_path: Path) -> None:
    path = outputs.state_path(tmp_path / "net.pt")
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
    with pytest.raises(ConfigurationError, match="was trained on other labels:"):
        resume.load(path, resume.identity(changed, ["labels"]))


def test_a_file_that_is_no_state(tmp_path: Path) -> None:
    path = tmp_path / "net.resume.pt"
    path.write_bytes(b"junk")
    with pytest.raises(WsssError, match="cannot read state to resume"):
        resume.load(path, {})
    torch.save({"weights": torch.ones(1)}, path)
    with pytest.raises(WsssError, match="no state of a training run"):
        resume.load(path, {})
