"""toy as a process: what it says, what it refuses, and that a killed run is completed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Run

SMALL = ("--num-train", "3", "--num-val", "2", "--size", "64")


def test_makes_once_and_keeps(run: Run) -> None:
    done = run("toy", "my toy", *SMALL, check=0)
    assert done.out == ""
    assert done.err == "wsss toy: my toy: 5 pictures made\n"
    times = {path: path.stat().st_mtime_ns for path in Path("my toy").rglob("*.jpg")}
    assert len(times) == 5
    done = run("toy", "my toy", *SMALL, check=0)
    assert done.err == "wsss toy: my toy: 0 pictures made, 5 kept\n"
    assert times == {path: path.stat().st_mtime_ns for path in times}
    assert run("toy", "my toy", *SMALL, "-q", check=0).err == ""
    assert len(run("index", "voc", "my toy", "--split", "val", check=0).records) == 2


def test_refuses_what_is_not_its_own(run: Run, workdir: Path) -> None:
    (workdir / "home").mkdir()
    (workdir / "home/thesis.tex").write_text("mine")
    done = run("toy", "home", *SMALL, check=2)
    assert done.err == "wsss toy: home: the folder is not empty; name a new one\n"
    assert [path.name for path in (workdir / "home").iterdir()] == ["thesis.tex"]
    run("toy", "toy", *SMALL, check=0)
    done = run("toy", "toy", *SMALL, "--seed", "1", check=2)
    assert done.err == (
        "wsss toy: toy: holds a toy set made otherwise (seed 0); name a new folder\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("toy", "--seed", "-1"),
            "Invalid value for '--seed': -1 is not in the range 0<=x<=4294967295. "
            "('wsss toy --help' lists the options)",
        ),
        (
            ("toy", "--num-train", "-1"),
            "Invalid value for '--num-train': -1 is not in the range x>=0. "
            "('wsss toy --help' lists the options)",
        ),
        (
            ("file",),
            "Invalid value for 'DIR': Directory 'file' is a file. "
            "('wsss toy --help' lists the options)",
        ),
        ((), "Missing argument 'DIR'. ('wsss toy --help' lists the options)"),
    ],
)
def test_wrong_usage(run: Run, arguments: tuple[str, ...], message: str) -> None:
    Path("file").write_text("")
    assert run("toy", *arguments, check=2).err == f"wsss toy: {message}\n"
    assert not Path("toy").exists()


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_is_completed(run: Run, sent: signal.Signals) -> None:
    options = ["--num-train", "30", "--num-val", "1", "--size", "64"]
    process = subprocess.Popen(
        [sys.executable, "-m", "wsss_cli", "toy", "toy", *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while len(list(Path("toy").glob("Annotations/*.xml"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(sent)
    _, error = process.communicate(timeout=30)
    if sent == signal.SIGINT:
        assert process.returncode == 130
        assert error == "wsss toy: interrupted; what is finished is safe\n"
    done = run("toy", "toy", *options, check=0)
    made, kept = (int(word) for word in done.err.split() if word.isdigit())
    assert made + kept == 31
    assert kept >= 5
    run("toy", "whole", *options, check=0)
    for path in Path("whole").rglob("*.*"):
        assert (Path("toy") / path.relative_to("whole")).read_bytes() == path.read_bytes()
