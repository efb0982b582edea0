"""A record whose maps are known, and a CRF that changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss_cli import files, inputs

META = {"classes": ["cat", "cow", "dog"]}
STILL: dict[str, Any] = {
    "steps": 0
}  # a CRF that changes nothing, so that what is around it can be seen
LEFT = np.where(np.arange(16) < 8, 1.0, 0.0) * np.ones((12, 1))


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """A photograph of 48 x 64 whose left half is a dog for sure."""
    Image.new("RGB", (64, 48), (90, 120, 40)).save(tmp_path / "a.png")
    files.write_maps(tmp_path / "a.npz", LEFT[None], ("dog",), (48, 64), META)
    return {"id": "a", "image": str(tmp_path / "a.png"), "cam": str(tmp_path / "a.npz")}


@pytest.fixture
def shown(photographs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records with maps, pseudo-masks and true masks that differ, all with provenance."""
    Path("runs").mkdir()
    Path("runs/cam.pt").write_text("a checkpoint")
    classes = ["cat", "dog"]
    for number, record in enumerate(photographs):
        height, width = files.image_size(record["image"])
        truth = np.zeros((height, width), np.uint8)
        guess = truth.copy()
        for name in record["labels"]:
            start = 6 if name == "cat" else 26
            truth[10:30, start : start + 16] = 1 + classes.index(name)
            guess[10 + 3 * number : 30, start : start + 16 - 2 * number] = 1 + classes.index(name)
        truth[0] = 255
        record["mask"] = f"mask {number}.png"
        files.write_label_map(record["mask"], truth)
        made = inputs.inputs(record, ["image", "labels"])
        made_by = files.provenance(
            "make-cam", {"flip": True}, checkpoint=inputs.digest("runs/cam.pt")
        )
        cam = np.array([truth[::4, ::4] == 1 + classes.index(name) for name in record["labels"]])
        cam = cam.reshape(-1, *truth[::4, ::4].shape) * (0.9 - 0.2 * number)
        record["cam"] = f"runs/{number}.npz"
        of_cam = {**made_by, "inputs": made}
        listed = {**of_cam, "classes": classes}
        files.write_maps(record["cam"], cam, record["labels"], (height, width), listed)
        record["pseudo"] = f"pseudo {number}.png"
        meta = files.provenance("crf", {"steps": 10 + number // 3}, classes=classes)
        meta |= {"inputs": made, "from": {"cam": of_cam}}
        files.write_label_map(record["pseudo"], guess, meta)
    return photographs
