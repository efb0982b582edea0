"""Options and the frame that commands share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("given", "rounds"), [(None, "0"), ("ACTIVE", "30000000000")])
@pytest.mark.parametrize("tool", ["make-cam", "random-walk", "predict"])
def test_threads_of_torch_sleep_when_they_wait(
    tool: str, given: str | None, rounds: str, tmp_path: Path
) -> None:
    if sys.platform != "linux":
        pytest.skip("libgomp only tells its settings")
    environment = {**os.environ, "OMP_DISPLAY_ENV": "verbose"}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        environment.pop(name, None)
    if given:
        environment["OMP_WAIT_POLICY"] = given
    (tmp_path / "empty.pt").touch()
    done = subprocess.run(
        [sys.executable, "-m", "wsss_cli", tool, "-c", "empty.pt"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 2
    assert f"GOMP_SPINCOUNT = '{rounds}'" in done.stderr  # 300000 if nothing is said
