"""The mean colour of photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss_cli.datasets.colour import mean_colour


def test_each_pixel_counts_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [
        rng.integers(low, 256, (height, 50, 3), dtype=np.uint8)
        for low, height in ((0, 30), (100, 90), (200, 10))
    ]
    paths = []
    for number, image in enumerate(images):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(image).save(paths[-1])
    exact = np.concatenate([image.reshape(-1, 3) for image in images]).mean(0).round()
    assert mean_colour(paths) == tuple(exact)
    assert mean_colour(paths * 50, threads=3) == tuple(exact)


def test_of_jpegs_an_eighth_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = np.mgrid[:375, :500]
    image = np.stack([y * 255 // 375, x * 255 // 500, (x + y) % 256], axis=-1).astype(np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(image).save(path, quality=95)
    sizes = []
    original = np.asarray
    monkeypatch.setattr(np, "asarray", lambda a: (sizes.append(a.size), original(a))[1])
    result = mean_colour([str(path)])
    monkeypatch.undo()
    assert sizes == [(63, 47)]
    assert result is not None
    assert np.abs(np.array(result) - image.mean((0, 1))).max() < 1.5


def test_what_cannot_be_read_does_not_count(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    given = [str(tmp_path / name) for name in ("b.png", "a.png", "c.png")]
    assert mean_colour(given) == (1, 2, 3)
    assert mean_colour(given[:1]) is None
    assert mean_colour([]) is None
