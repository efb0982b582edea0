"""Commands called in the process of the tests: much faster where torch would be imported anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Result, Run, as_lines
from wsss_cli import files
from wsss_cli.cli import cli

# Options of a classifier's trainer for a short run.
SMALL = (
    "--classes",
    "voc",
    "--weights",
    "none",
    "--crop",
    "64",
    "--resize",
    "48,80",
    "--batch-size",
    "2",
    "--device",
    "cpu",
    "--freeze-bn",
)


@pytest.fixture
def inside(workdir: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """``inside("predict", "-c", "seg.pt", input=records)``: as ``run``, but in this process."""

    def call(*args: str | Path, input: Any = "", check: int | None = None) -> Result:
        stream = workdir / "stream.jsonl"
        stream.write_text(input if isinstance(input, str) else as_lines(input))
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli([*map(str, args), str(stream)], prog_name="wsss", auto_envvar_prefix="WSSS")
        said = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        if check is not None:
            assert ended.value.code == check, said.err
        return Result(ended.value.code, said.out, said.err)

    return call


def same(a: str | Path, b: str | Path) -> bool:
    """Whether two checkpoints have the same weights."""
    import torch

    one, two = (files.load_checkpoint(path).state_dict for path in (a, b))
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
