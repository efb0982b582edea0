"""Maps that make-cam writes by the papers' settings against those of the papers' public code.

The numbers are of tests/models/make_map_references.py: each repository's script on a photograph.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Run
from tests.models import formula
from tests.models.make_map_references import EVERY, FILE
from tests.models.test_published import names_and_shapes
from wsss_cli import files
from wsss_cli.classes import BACKGROUND, VOC
from wsss_cli.cli import cli

REFERENCES = json.loads(FILE.read_text())
PAPERS = Path(__file__).parents[2] / "examples" / "papers"


@pytest.mark.parametrize(
    ("name", "form", "first"), [("psa", "psa-cam", 1), ("eps", "eps", 1), ("sipe", "sipe", 0)]
)
def test_maps_are_those_of_the_public_code(name: str, form: str, first: int, inside: Run) -> None:
    theirs = REFERENCES[name]
    shapes = names_and_shapes(form).items()
    torch.save({key: formula.named(key, shape) for key, shape in shapes}, "published.pth")
    with pytest.raises(SystemExit, match="0"):
        cli(["import", "published.pth", "-o", "imported.pt", "-q"], prog_name="wsss")
    Image.fromarray(formula.photograph(*theirs["size"])).save("a.png")
    # psa and EPS count their classes from 0, SIPE from its background.
    names = [(BACKGROUND, *VOC)[number + first] for number in theirs["maps"]]
    labels = [each for each in names if each != BACKGROUND]
    call = ["--config", PAPERS / f"{name}.toml", "make-cam", "-c", "imported.pt", "-o", "out"]
    call += ["--scales", ",".join(map(str, theirs["scales"])), "--device", "cpu", "-q"]
    (record,) = inside(*call, input=[{"id": "a", "image": "a.png", "labels": labels}]).records
    ours = files.read_maps(record["cam"])
    assert list(ours.classes) == names
    apart = np.abs(ours.cam[:, ::EVERY, ::EVERY] - np.array(theirs["values"]))
    assert apart.max() < 1e-3  # float16
