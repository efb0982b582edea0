"""The log of a run as TensorBoard reads it, with TensorBoard's own reader."""

from __future__ import annotations

import importlib.util
import json
import math
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import SMALL
from tests.conftest import Run
from wsss_cli.training.events import Events, prepare
from wsss_cli.training.log import MetricsLog

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

FULL = Path("/dev/full")


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return {
        tag: [(point.step, float(f"{point.value:.6g}")) for point in reader.Scalars(tag)]
        for tag in reader.Tags()["scalars"]
    }


def test_a_training_draws_what_its_log_holds(
    inside: Run, photographs: list[dict[str, Any]]
) -> None:
    Path("val.jsonl").write_text("".join(json.dumps(record) + "\n" for record in photographs))
    few = (*SMALL, "--precision", "fp32", "--epochs", "2", "--val", "val.jsonl", "-o", "net/a.pt")
    inside("train-cam", *few, "--tensorboard", "runs", input=photographs, check=0)
    log = [json.loads(line) for line in Path("net/a.log.jsonl").read_text().splitlines()]
    drawn = curves(Path("runs/a"))
    names = {"loss": "loss/total", "lr": "lr", "images_per_second": "images_per_second"}
    names |= {key: key.replace("_", "/", 1) for line in log for key in line if key[:4] == "val_"}
    assert {*names.values()} == {*drawn}
    assert "val/map" in drawn
    for key, tag in names.items():
        held = [(line["step"], line[key]) for line in log if line.get(key) is not None]
        assert [step for step, _ in drawn[tag]] == [step for step, _ in held]
        assert [value for _, value in drawn[tag]] == pytest.approx(
            [value for _, value in held], rel=1e-4
        )


def test_a_run_that_goes_on_replaces_what_it_does_again(tmp_path: Path) -> None:
    with closing(Events(tmp_path)) as events:
        for step in range(1, 6):
            events.write(step=step, loss=float(step))
    with closing(Events(tmp_path, 3)) as events:  # killed after step 5; saved after step 3
        events.write(step=4, loss=40.0)
    assert curves(tmp_path) == {"loss/total": [(1, 1), (2, 2), (3, 3), (4, 40)]}
    with closing(Events(tmp_path)) as events:  # and anew
        events.write(step=1, loss=10.0)
    assert curves(tmp_path) == {"loss/total": [(1, 10)]}


def test_what_was_written_is_there_at_once_and_numbers_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    folder = prepare(tmp_path / "deep", Path("net/run.pt"))
    with MetricsLog(log, 0, Events(folder)) as written:
        written.write(step=1, epoch=0.1, loss=math.nan, lr=0.5)
        assert curves(tmp_path / "deep" / "run") == {"lr": [(1, 0.5)]}
    assert json.loads(log.read_text())["loss"] is None


def test_a_folder_that_cannot_be_made_is_told_before_the_training(
    inside: Run, photographs: list[dict[str, Any]]
) -> None:
    Path("runs").mkdir()
    Path("runs/cam").write_text("a file")
    few = (*SMALL, "--precision", "fp32", "--steps", "2", "--tensorboard", "runs")
    done = inside("train-cam", *few, input=photographs, check=2)
    assert done.err == "wsss train-cam: --tensorboard: runs/cam: not a folder; give another\n"
    assert not Path("cam.pt").exists()


def test_curves_that_are_replaced_are_told(inside: Run, photographs: list[dict[str, Any]]) -> None:
    few = (*SMALL, "--precision", "fp32", "--steps", "2", "--tensorboard", "runs")
    told = "runs/cam holds the curves of an earlier training, which those of this one replace"
    first = inside("train-cam", *few, "-o", "a/cam.pt", input=photographs, check=0)
    assert told not in first.err
    second = inside("train-cam", *few, "-o", "b/cam.pt", input=photographs, check=0)
    assert told in second.err
    resumed = inside("train-cam", *few, "-o", "b/cam.pt", "--resume", input=photographs, check=0)
    assert told not in resumed.err


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_a_full_disk_costs_the_curves_only(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with closing(Events(tmp_path)) as events:
        events.write(step=1, loss=1.0)
        events._writer._writer = FULL.open("wb", buffering=0)
        events.write(step=2, loss=2.0)
        events.write(step=3, loss=3.0)
    assert capfd.readouterr().err.count("No space left on device") == 1
    assert curves(tmp_path) == {"loss/total": [(1, 1)]}


def test_without_the_package_nothing_is_begun(
    inside: Run, photographs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else found(name)
    )
    done = inside("train-cam", *SMALL, "--tensorboard", "runs", input=photographs, check=2)
    assert done.err == (
        "wsss train-cam: --tensorboard needs the package: pip install tensorboard\n"
    )
    assert not [*Path().glob("*.pt"), *Path().glob("runs")]


@pytest.mark.parametrize(("out", "folder"), [("cam", "."), ("a/cam", "a"), ("b.pt", "b.pt/c")])
def test_the_folder_is_not_where_the_checkpoint_goes(
    out: str, folder: str, inside: Run, photographs: list[dict[str, Any]]
) -> None:
    """Or a whole training could not be saved."""
    where = ("-o", out, "--tensorboard", folder)
    done = inside("train-cam", *SMALL, *where, input=photographs, check=2)
    assert "but is the checkpoint" in done.err
    assert not Path(out).exists()
