"""``wsss relabel``: masks of other tools come out as label maps that name their classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from wsss_cli import files


@pytest.fixture
def foreign(workdir: Path) -> list[dict[str, Any]]:
    """Three photographs, whose masks are of numbers, of colours, and of a palette."""
    values = np.repeat([[0, 7, 300]], 2, axis=0)
    numbers = Image.fromarray(values.astype(np.uint16))
    colours = np.array([[[0, 0, 0], [250, 50, 83], [5, 5, 5]]] * 2, np.uint8)
    made = []
    for name, mask in (("a", numbers), ("b", Image.fromarray(colours))):
        Image.new("RGB", (3, 2)).save(f"{name}.jpg")
        mask.save(f"{name}-mask.png")
        made.append({"id": name, "image": f"{name}.jpg", "mask": f"{name}-mask.png", "x": 1})
    return made


def test_numbers_and_colours(foreign: list[dict[str, Any]], run: Run) -> None:
    Path("n.txt").write_text("7 road\n300 car\n* background\n")
    Path("c.txt").write_text("250,50,83 car\n* ignore\n")
    wanted = {"n.txt": [0, 1, 2], "c.txt": [255, 1, 255]}
    for record, (name, row) in zip(foreign, wanted.items(), strict=True):
        done = run("relabel", "--values", name, "-o", "out", input=[record], check=0)
        (after,) = done.records
        assert after == {**record, "mask": f"out/{record['id']}.png"}
        np.testing.assert_array_equal(files.read_label_map(after["mask"]), [row, row])
        meta = files.read_meta(after["mask"])
        assert meta is not None
        assert meta["classes"] == (["road", "car"] if name == "n.txt" else ["car"])
        again = run("relabel", "--values", name, "-o", "out", "--skip-existing", input=[record])
        assert again.records == done.records
        assert "reused" in again.err


def test_another_key_and_a_class_list(foreign: list[dict[str, Any]], run: Run) -> None:
    Path("n.txt").write_text("7 road\n300 car\n0 ignore\n")
    Path("classes.txt").write_text("car\nroad\n")
    record = {**foreign[0], "pred": foreign[0]["mask"]}
    done = run(
        "relabel", "--values", "n.txt", "--key", "pred", "--classes", "classes.txt", input=[record]
    )
    assert done.records[0]["mask"] == record["mask"]
    np.testing.assert_array_equal(
        files.read_label_map(done.records[0]["pred"]), [[255, 2, 1], [255, 2, 1]]
    )


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(
    foreign: list[dict[str, Any]], run: Run
) -> None:
    Image.new("RGB", (3, 2)).save("lossy.jpg")
    Image.new("L", (2, 2)).save("size.png")
    Image.new("RGBA", (3, 2)).save("clear.png")
    Path("n.txt").write_text("7 road\n300 car\n0 ignore\n")
    others = [
        {"id": name, "image": "a.jpg", "mask": f"{name}.{kind}"}
        for name, kind in (("lossy", "jpg"), ("size", "png"), ("clear", "png"), ("gone", "png"))
    ]
    done = run("relabel", "--values", "n.txt", input=[*others, *foreign], check=1)
    assert [record["id"] for record in done.records] == ["a"]
    said = {line.split(": ")[1]: line for line in done.err.splitlines()[:5]}
    assert "cannot be JPEG" in said["lossy"]
    assert "label map is 2x2, its image 3x2" in said["size"]
    assert "opaque colours, not RGBA" in said["clear"]
    assert "no such file" in said["gone"]
    assert "holds colours, but --values lists numbers" in said["b"]


def test_its_own_input_is_not_overwritten(foreign: list[dict[str, Any]], run: Run) -> None:
    Path("n.txt").write_text("7 road\n300 car\n0 ignore\n")
    Path("a-mask.png").rename("a.png")
    record = {**foreign[0], "mask": "a.png"}
    before = Path("a.png").read_bytes()
    done = run("relabel", "--values", "n.txt", "-o", ".", input=[record], check=1)
    assert "a" in done.err
    assert Path("a.png").read_bytes() == before


def test_without_a_map(run: Run) -> None:
    assert "--values" in run("relabel", check=2).err
    assert "not cityscapes or a readable text file" in run("relabel", "--values", "x", check=2).err
