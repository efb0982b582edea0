"""Maps that make-cam writes by the papers' settings against those of the papers' public code.

The numbers are of tests/models/make_map_references.py: each repository's script on a photograph.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.conftest import Run
from tests.models import formula
from tests.models.make_map_references import EVERY, FILE
from tests.models.test_published import names_and_shapes
from wsss_cli import files
from wsss_cli.classes import BACKGROUND, VOC
from wsss_cli.cli import cli
from wsss_cli.files import Checkpoint
from wsss_cli.models import inference
from wsss_cli.models.networks import build_network

REFERENCES = json.loads(FILE.read_text())
PAPERS = Path(__file__).parents[2] / "examples" / "papers"


def assert_maps_are_theirs(inside: Run, name: str, checkpoint: str, classes: Sequence[str]) -> None:
    """What make-cam writes of the photograph, by the settings of the paper."""
    theirs = REFERENCES[name]
    Image.fromarray(formula.photograph(*theirs["size"])).save("a.png")
    labels = [each for each in classes if each != BACKGROUND]
    call = ["--config", PAPERS / f"{name}.toml", "make-cam", "-c", checkpoint, "-o", "out"]
    call += ["--scales", ",".join(map(str, theirs["scales"])), "--device", "cpu", "-q"]
    (record,) = inside(*call, input=[{"id": "a", "image": "a.png", "labels": labels}]).records
    ours = files.read_maps(record["cam"])
    assert list(ours.classes) == classes
    apart = np.abs(ours.cam[:, ::EVERY, ::EVERY] - np.array(theirs["values"]))
    assert apart.max() < 1e-3  # float16


def test_maps_of_sipe_from_an_imported_checkpoint(inside: Run) -> None:
    """Four scales, in which seeds are sought; a seed more or less would change a whole map."""
    shapes = names_and_shapes("sipe").items()
    tensors = {name: formula.named(name, shape) for name, shape in shapes}
    torch.save({"net": tensors}, "published.pth")
    with pytest.raises(SystemExit, match=r"^0$"):
        cli(["import", "published.pth", "-o", "imported.pt"], prog_name="wsss")
    classes = [(BACKGROUND, *VOC)[number] for number in REFERENCES["sipe"]["maps"]]
    assert_maps_are_theirs(inside, "sipe", "imported.pt", classes)


@pytest.fixture(scope="module")
def resnet38() -> dict[str, Tensor]:
    shapes = names_and_shapes("psa-cam").items()
    return {name: formula.named(name, shape) for name, shape in shapes if name != "fc8.weight"}


@pytest.mark.parametrize(("name", "kind", "maps"), [("psa", "cam", 20), ("eps", "eps", 21)])
def test_maps_of_resnet38(
    name: str,
    kind: str,
    maps: int,
    resnet38: dict[str, Tensor],
    inside: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with torch.device("meta"):
        network = build_network(kind, "resnet38", VOC, {})
    state = {f"backbone.{key}": value for key, value in resnet38.items()}
    state["classify.weight"] = formula.named("fc8.weight", (maps, 4096, 1, 1))
    for key in network.state_dict().keys() - state.keys():
        assert key.endswith("num_batches_tracked")
        state[key] = torch.tensor(0)
    network.load_state_dict(state, assign=True)
    # Not through a file, which takes longer than the rest: half a gigabyte.
    made = Checkpoint(kind, "resnet38", VOC, {"output_stride": 8}, {}, "")
    monkeypatch.setattr(files, "load_checkpoint", lambda *_: made)
    monkeypatch.setattr(inference, "restored", lambda _: network)
    Path("in-memory.pt").touch()
    classes = [VOC[number] for number in REFERENCES[name]["maps"]]
    assert_maps_are_theirs(inside, name, "in-memory.pt", classes)
