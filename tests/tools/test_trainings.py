"""Logs are found by the digest of their checkpoint, and nothing else is read for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import as_lines
from wsss_cli import inputs
from wsss_cli.tools import trainings


def trained(path: str, content: str) -> str:
    """Make a checkpoint with its log; its digest."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)
    Path(path).with_suffix(".log.jsonl").write_text(as_lines([{"epoch": 1, "loss": 0.5}]))
    Path(path).with_suffix(".png").write_text("its plot")
    return inputs.digest(path) or ""


def test_logs_are_found_by_the_digest_of_their_checkpoint(workdir: Path) -> None:
    one, two = trained("a/cam.pt", "1"), trained("b/c/aff.pth", "2")
    trained("a/other.pt", "3")
    folders = [Path("gone"), Path("a"), Path("b/c")]
    assert trainings.find_logs([one, two, "0"], folders) == {
        one: Path("a/cam.log.jsonl"),
        two: Path("b/c/aff.log.jsonl"),
    }
    assert trainings.find_logs([one, two], folders[:2]) == {one: Path("a/cam.log.jsonl")}


def test_only_files_beside_a_log_are_read(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = trained("cam.pt", "1")
    for name in ("photo.jpg", "records.jsonl", "cam2.pt"):
        Path(name).touch()
    os.mkfifo("pipe.log.jsonl")
    Path("pipe.pt").touch()
    read = []
    monkeypatch.setattr(inputs, "digest", lambda path: read.append(str(path)) or "0")
    assert trainings.find_logs([digest], [Path()]) == {}
    assert read == ["cam.pt"]


def test_a_search_ends(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "_MOST_CHECKPOINTS", 3)
    monkeypatch.setattr(trainings, "_MOST_FOLDERS", 2)
    made = [trained(f"a/{n}.pt", str(n)) for n in range(5)]
    assert list(trainings.find_logs(made, [Path("a")])) == made[:3]
    digest = trained("b/b.pt", "b")
    assert trainings.find_logs([digest], [Path("c"), Path("d"), Path("b")]) == {}


def test_the_folders_of_a_record_and_two_levels_above(workdir: Path) -> None:
    record: dict[str, Any] = {"cam": "out/cam/a/b.npz", "pseudo": "out/p.png", "pred": None}
    found = trainings.folders_of(record, ["cam", "pseudo", "pred", "nix"])
    assert sorted(map(str, found)) == [".", "out", "out/cam", "out/cam/a"]


def test_a_long_log_becomes_a_short_curve(workdir: Path) -> None:
    lines = [{"epoch": n, "loss": 1.0, "lr": 3, "val_miou": n / 1000} for n in range(1001)]
    Path("a.log.jsonl").write_text(as_lines(lines) + "damage\n")
    curves = trainings.curves(Path("a.log.jsonl"))
    assert list(curves) == ["loss", "val_miou"]
    assert 150 < len(curves["loss"]) <= 201
    assert {value for _, value in curves["loss"]} == {1.0}
    assert [curves["val_miou"][place][0] for place in (0, -1)] == [0, 1000]
    assert trainings.curves(Path("gone.log.jsonl")) == {}
