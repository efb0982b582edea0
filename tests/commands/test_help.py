"""Help on a terminal has colours and is the same text."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.screen import Screen, end

_PLAIN = {"COLUMNS": "100"}


def on_terminal(tmp_path: Path, args: str, environment: Mapping[str, str] = _PLAIN) -> bytes:
    screen = Screen(100, 300)
    process = screen.run(f"wsss {args}", tmp_path, environment)
    try:
        screen.finish(process)
    finally:
        end(process)
        screen.close()
    assert process.returncode == 0
    return screen.sent.replace(b"\r\n", b"\n")


@pytest.mark.parametrize("args", ["--help", "crf --help", "index --help", "index voc --help"])
def test_colours_are_all_that_a_terminal_has_more(args: str, tmp_path: Path) -> None:
    piped = subprocess.run(
        [sys.executable, "-m", "wsss_cli", *args.split()],
        stdout=subprocess.PIPE,
        env={**os.environ, **_PLAIN, "TERM": "xterm"},
    ).stdout
    assert b"\x1b" not in piped
    coloured = on_terminal(tmp_path, args)
    assert b"\x1b[1mOptions\x1b[0m" in coloured
    assert re.sub(rb"\x1b\[\d+m", b"", coloured) == piped
    for other in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert on_terminal(tmp_path, args, {**_PLAIN, **other}) == piped


def test_help_imports_no_rich_and_no_tqdm() -> None:
    code = (
        "import sys\nfrom wsss_cli.cli import cli\n"
        "try: cli(['--help'], prog_name='wsss')\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'rich', 'tqdm', 'torch', 'numpy'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert done.returncode == 0
    assert b"make-cam" in done.stdout
