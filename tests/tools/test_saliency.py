"""Saliency maps of a record; networks and the tool: tests/commands/test_saliency.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss_cli import files
from wsss_cli.errors import ConfigurationError
from wsss_cli.methods.saliency import background_saliency
from wsss_cli.stage import Job
from wsss_cli.tools.saliency import Estimator, Inverter, SaliencyNetwork


@pytest.fixture
def photograph(workdir: Path) -> Path:
    """A red square on a green ground."""
    pixels = np.full((60, 80, 3), (40, 120, 40), np.uint8)
    pixels[20:40, 30:50] = (200, 30, 30)
    Image.fromarray(pixels).save("a.png")
    return Path("a.png")


def test_the_estimate_is_that_of_the_method(photograph: Path) -> None:
    Estimator().work(Job({"image": photograph}, {"saliency": Path("s.png")}, {"tool": "test"}))
    found = np.asarray(Image.open("s.png"))
    expected = background_saliency(files.read_image(photograph))
    assert found.shape == (60, 80)
    np.testing.assert_allclose(found / 255, expected, atol=0.002)
    assert files.read_meta("s.png") == {"tool": "test"}


def test_an_inverted_map_is_resized_to_the_photograph(photograph: Path) -> None:
    half = np.full((30, 40), 255, np.uint8)
    half[:, :20] = 55
    Image.fromarray(half).save("dark.png")
    record = {"image": photograph, "saliency": "dark.png"}
    Inverter().work(Job(record, {"saliency": Path("s.png")}, {}))
    found = np.asarray(Image.open("s.png"))
    assert found.shape == (60, 80)
    assert (found[:, :38] == 200).all()
    assert (found[:, 42:] == 0).all()


def test_a_file_that_is_no_network_is_refused(workdir: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    Path("a.onnx").write_bytes(b"no network")
    with pytest.raises(ConfigurationError, match=r"cannot read model: a\.onnx"):
        SaliencyNetwork("a.onnx")
