"""One step of erasing on a record; as a tool: tests/commands/test_erase.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss_cli import console, files
from wsss_cli.errors import WsssError
from wsss_cli.stage import Job
from wsss_cli.tools.erase import Eraser, mean_fill

META = {"classes": ["cat", "dog"]}
LEFT = np.where(np.arange(16) < 4, 1.0, 0.0) * np.ones((12, 1))  # a quarter


@pytest.fixture
def record(workdir: Path) -> dict[str, Any]:
    """A grey photograph of 48 x 64 whose left quarter is a dog."""
    Image.new("RGB", (64, 48), (90, 90, 90)).save("a.png")
    files.write_maps("a.npz", LEFT[None], ("dog",), (48, 64), META)
    return {"id": "a", "image": "a.png", "cam": "a.npz", "labels": ["dog"]}


def erased(record: dict[str, Any], **changed: Any) -> dict[str, np.ndarray]:
    """What is written for the record, by key."""
    settings = {"top": 0.1, "threshold": 0.5, "fill": (1, 2, 3), "background": 0.06, "max_side": 0}
    tool = Eraser(**{**settings, **changed})
    outputs = [key for key in tool.outputs if key != "pseudo" or "saliency" in record]
    paths = {key: Path(f"{key}.png") for key in outputs}
    tool.work(Job(record, paths, {"tool": "test", "from": {}}))
    return {key: np.asarray(Image.open(path)) for key, path in paths.items()}


def test_the_mined_region_is_numbered_and_filled(record: dict[str, Any]) -> None:
    made = erased(record)
    assert (made["mined"][:, :14] == 2).all()
    assert (made["mined"][:, 18:] == 0).all()
    mined = made["mined"] == 2
    assert (made["erased"][mined] == (1, 2, 3)).all()
    assert (made["erased"][~mined] == 90).all()


def test_a_share_of_the_pixels_instead_of_the_maximum(record: dict[str, Any]) -> None:
    slope = np.linspace(1, 0, 16) * np.ones((12, 1))
    files.write_maps("a.npz", slope[None], ("dog",), (48, 64), META)
    mined = erased(record, threshold=None)["mined"]
    assert np.mean(mined == 2) == pytest.approx(0.1, abs=0.02)
    assert (mined[:, :6] == 2).all()


def test_steps_add_up_and_saliency_makes_a_mask(record: dict[str, Any]) -> None:
    before = np.zeros((48, 64), np.uint8)
    before[:, 40:] = 1
    files.write_label_map("before.png", before, META)
    saliency = np.where(np.arange(64) < 32, 255, 0) * np.ones((48, 1))
    Image.fromarray(saliency.astype(np.uint8)).save("saliency.png")
    made = erased({**record, "mined": "before.png", "saliency": "saliency.png"})
    assert (made["mined"][:, 40:] == 1).all()
    assert (made["mined"][:, :14] == 2).all()
    assert (made["pseudo"][:, :14] == 2).all()  # mined and salient
    assert (made["pseudo"][:, 20:30] == 255).all()  # salient, not mined
    assert (made["pseudo"][:, 34:38] == 0).all()  # neither
    assert (made["pseudo"][:, 42:] == 255).all()  # mined, not salient


def test_shares_are_reported_with_v(
    record: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    console.configure(verbose=True)
    erased(record)
    assert capsys.readouterr().err == "wsss erase: a: 25% dog, 75% left\n"


def test_a_label_without_a_map_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(WsssError, match="no map of cat; make the maps again"):
        erased({**record, "labels": ["cat"]})


def test_the_mean_colour_of_a_stream(record: dict[str, Any]) -> None:
    Path("in.jsonl").write_text('{"id": "a", "image": "a.png"}\n{"id": "b"}\nno json\n')
    assert mean_fill(["in.jsonl"], 1) == (90, 90, 90)
    Path("none.jsonl").write_text('{"id": "b", "image": "gone.png"}\n')
    assert mean_fill(["none.jsonl"], 1) == (0, 0, 0)
