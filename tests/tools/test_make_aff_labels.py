"""Confident regions of a record; as a tool: tests/commands/test_make_aff_labels.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tools.conftest import LEFT, META, STILL
from wsss_cli import console, files
from wsss_cli.stage import Job
from wsss_cli.tools.make_aff_labels import RegionFinder


@pytest.mark.parametrize("bound", [0, 40])
def test_regions_are_numbered_named_and_measured(
    record: dict[str, Any], bound: int, capsys: pytest.CaptureFixture[str]
) -> None:
    half = np.stack([LEFT, 0.2 * (1 - LEFT)])
    files.write_maps(record["cam"], half, ("dog", "cat"), (48, 64), META)
    path = Path(record["image"]).with_name("out.png")
    finder = RegionFinder(low_alpha=4, high_alpha=32, crf=STILL, max_side=bound)
    console.configure(verbose=True)
    finder.work(Job(record, {"aff_label": path}, {"tool": "test"}))
    labels = files.read_label_map(path, (48, 64))
    assert (labels[:, :28] == 3).all()  # sure: nothing is background there
    assert (labels[:, 40:] == 255).all()  # 0.2 against 0.8^4 = 0.41 and 0.8^32 < 0.001
    words = "0% background, 52% dog, 0% cat, 48% neutral"
    assert capsys.readouterr().err == f"wsss make-aff-labels: a: {words}\n"
