"""Processes that train together: what the main one does, what all learn, how all end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wsss_cli.training.distributed import Group, group, local_rank

ROOT = Path(__file__).parents[2]

# One process of two; what it does is given as the body of a function of `joined`.
PROGRAM = """
import sys
from wsss_cli.errors import ConfigurationError
from wsss_cli.training.distributed import group
def fail():
    raise ConfigurationError("no such thing")
with group("cpu") as joined:
    {body}
"""


def test_alone_everything_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with group("cpu") as joined:
        assert joined == Group(0, 1)
        assert joined.main
        assert joined.on_main(lambda: 5) == 5
        assert joined.gather("x") == ["x"]
        assert not torch.distributed.is_initialized()
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_rank() == 3


def both(body: str) -> tuple[list[int], list[str], list[str]]:
    """Exit codes, outputs and errors of two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(body=body)],
            env={
                **os.environ,
                "WORLD_SIZE": "2",
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=120) for process in started]
    codes = [process.returncode for process in started]
    return codes, [out for out, _ in said], [err for _, err in said]


def test_the_main_process_reads_and_all_know() -> None:
    body = (
        "print(joined.on_main(lambda: print('reading') or 'a record'),"
        " joined.gather(joined.rank * 10))"
    )
    codes, outputs, errors = both(body)
    assert codes == [0, 0], errors
    assert outputs == ["reading\na record [0, 10]\n", "a record [0, 10]\n"]


def test_what_fails_on_the_main_process_ends_all_and_is_said_once() -> None:
    codes, outputs, errors = both("joined.on_main(fail); print('never')")
    assert outputs == ["", ""]
    assert "ConfigurationError: no such thing" in errors[0]
    assert "no such thing" not in errors[1]
    assert codes == [1, 2]  # the first by the traceback, which the frame of a command turns into 2
