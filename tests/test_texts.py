"""Text files with a bound."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wsss_cli.classes import load_classes
from wsss_cli.cli import cli
from wsss_cli.errors import ConfigurationError
from wsss_cli.texts import read_text
from wsss_cli.tools.report import load_counts


def test_a_text_is_read_with_its_mark(workdir: Path) -> None:
    Path("a.txt").write_bytes("\ufeffé\n".encode())
    assert read_text("a.txt", encoding="utf-8-sig") == "é\n"
    assert read_text("a.txt", most=6).endswith("é\n")
    with pytest.raises(ValueError, match="6 bytes, more than such a file can have"):
        read_text("a.txt", most=5)
    with pytest.raises(FileNotFoundError):
        read_text("none.txt")


def test_what_never_ends_is_refused(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A class list of 3 GB of zeros took minutes, a device all memory."""
    os.mkfifo("pipe")
    Path("sparse").touch()
    os.truncate("sparse", 1 << 40)
    for name in ("/dev/zero", "pipe", ".", "sparse"):
        with pytest.raises(ValueError, match=r"not a regular file|1,099,511,627,776 bytes"):
            read_text(name)
        with pytest.raises(ConfigurationError, match="not voc, coco or a readable text file"):
            load_classes(name)
        with pytest.raises(ConfigurationError, match=f"cannot read {name}: "):
            load_counts(name)
        with pytest.raises(SystemExit) as ended:
            cli(["--config", name, "config"], prog_name="wsss")
        assert ended.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
