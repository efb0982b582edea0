"""``wsss examples``: a folder with the recipes, of the source or of the installation."""

from __future__ import annotations

from importlib.metadata import PackagePath
from pathlib import Path

import pytest

import wsss_cli
from tests.conftest import Run
from wsss_cli.commands import examples
from wsss_cli.errors import ConfigurationError


def test_the_recipes_are_there(run: Run) -> None:
    folder = Path(run("examples", check=0).out.rstrip("\n"))
    for name in ("README.md", "voc.mk", "cpu.toml", "papers/psa.toml", "voc6/val.txt"):
        assert (folder / name).is_file()


def test_those_of_an_installation(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed(PackagePath):
        def locate(self) -> Path:
            return workdir / "v/lib/site-packages" / self

    listed = [Installed("wsss_cli/cli.py"), Installed("../../share/wsss/examples/common.mk")]
    monkeypatch.setattr(examples, "files", lambda name: listed)
    monkeypatch.setattr(wsss_cli, "__file__", str(workdir / "v/lib/site-packages/wsss_cli/x.py"))
    with pytest.raises(ConfigurationError, match="not installed with wsss"):
        examples._folder()
    (workdir / "v/lib/site-packages").mkdir(parents=True)
    there = workdir / "v/share/wsss/examples"
    there.mkdir(parents=True)
    (there / "common.mk").touch()
    assert examples._folder() == there.resolve()
