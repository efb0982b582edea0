"""Commands called in the process of the tests: much faster where torch would be imported anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Result, Run, as_lines
from wsss_cli.cli import cli


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
