"""Large photographs beside small ones in a stream, by the commands that see them in tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from wsss_cli import files

Records = list[dict[str, Any]]
TILES = ["--tile", "256", "--overlap", "128", "--max-side", "256"]
TOOLS = {
    "make-cam": ["-c", "cam.pt", "--scales", "1"],
    "predict": ["-c", "segmentation.pt", "--scales", "1"],
    "random-walk": ["-c", "affinity.pt"],
}
ADDED = {"make-cam": "cam", "predict": "pred", "random-walk": "pseudo"}


@pytest.fixture
def mixed(ready: Records) -> Records:
    """Small photographs, and after the first a large one, as wide as two tiles."""
    pixels = np.random.default_rng(0).integers(0, 256, (7, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((300, 70), Image.Resampling.BICUBIC).save("large.png")
    cam = np.zeros((1, 18, 75))
    cam[:, :, 40:] = np.linspace(0, 1, 35)
    meta = files.provenance("t", {}, classes=["cat", "dog"])
    files.write_maps("large.npz", cam, ["dog"], (70, 300), meta)
    record = {"id": "large", "image": "large.png", "labels": ["dog"], "cam": "large.npz"}
    return [ready[0], record, *ready[1:]]


def content(record: dict[str, Any], key: str) -> Any:
    path = record[key]
    return files.read_maps(path).cam if key == "cam" else files.read_label_map(path)


@pytest.mark.parametrize("tool", TOOLS)
def test_large_and_small_photographs_in_one_stream(tool: str, inside: Run, mixed: Records) -> None:
    key = ADDED[tool]
    plain = inside(tool, *TOOLS[tool], "-o", "a", input=mixed, check=0).records
    tiled = inside(tool, *TOOLS[tool], *TILES, "-o", "b", input=mixed, check=0).records
    assert [record["id"] for record in tiled] == [record["id"] for record in mixed]
    for one, other in zip(plain, tiled, strict=True):
        found, expected = content(other, key), content(one, key)
        assert found.shape == expected.shape
        if one["id"] != "large":
            np.testing.assert_array_equal(found, expected)
    meta = files.read_meta(tiled[1][key])
    assert meta is not None
    assert [meta["params"][name] for name in ("max_side", "tile", "overlap")] == [256, 256, 128]
    again = inside(tool, *TOOLS[tool], *TILES, "-o", "b", "--skip-existing", input=mixed, check=0)
    assert f"{len(mixed)} reused" in again.err
    other = [*TILES[:3], "100", *TILES[4:]]
    again = inside(tool, *TOOLS[tool], *other, "-o", "b", "--skip-existing", input=mixed, check=0)
    assert "large: overlap changed; made again" in again.err


@pytest.mark.parametrize("tool", TOOLS)
def test_a_broken_large_photograph_fails_alone(tool: str, inside: Run, mixed: Records) -> None:
    path = Path("large.png")
    path.write_bytes(path.read_bytes()[:-400])  # its header is whole
    done = inside(tool, *TOOLS[tool], *TILES, input=mixed, check=1)
    assert f"wsss {tool}: large: cannot read image: large.png: truncated file\n" in done.err
    assert len(done.records) == len(mixed) - 1


@pytest.mark.parametrize("tool", TOOLS)
def test_an_overlap_without_tiles_is_refused(tool: str, inside: Run, mixed: Records) -> None:
    refused = inside(tool, *TOOLS[tool], "--overlap", "64", input=mixed, check=2)
    assert f"wsss {tool}: --overlap is only for --tile (" in refused.err
    refused = inside(tool, *TOOLS[tool], "--tile", "200", input=mixed, check=2)
    assert f"wsss {tool}: --tile 200: with --overlap 128, a tile has at least 256 " in refused.err
    assert refused.out == ""


def test_image_specific_maps_are_refused_in_tiles(inside: Run, mixed: Records) -> None:
    call = ["make-cam", "-c", "sipe.pt", "--scales", "1", *TILES]
    refused = inside(*call, input=mixed, check=2)
    assert refused.err == (
        "wsss make-cam: --tile is not for --map is-cam, whose prototypes are those of a whole "
        "photograph; give --map cam\n"
    )
    inside(*call, "--map", "cam", input=mixed, check=0)
