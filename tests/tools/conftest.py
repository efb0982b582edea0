"""A record whose maps are known, and a CRF that changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wsss_cli import files

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
