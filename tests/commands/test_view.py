"""``wsss view`` as a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from tests.conftest import Run


def test_a_contact_sheet(run: Run, photographs: Any) -> None:
    result = run("view", "-o", "sheet.png", "--width", "64", input=photographs, check=0)
    assert result.out == "sheet.png\n"
    with Image.open("sheet.png") as sheet:
        assert sheet.width == 10 + 74  # one column: no record has the other keys
        assert sheet.height > 4 * 48


def test_a_folder_of_pictures_passes_records_on(run: Run, photographs: Any) -> None:
    result = run("view", "-o", "out", "--limit", "2", input=photographs, check=0)
    assert [record["view"] for record in result.records] == [
        "out/photo 0 é.png",
        "out/photo 1 é.png",
    ]
    assert sorted(path.name for path in Path("out").iterdir()) == ["photo 0 é.png", "photo 1 é.png"]


def test_bad_records_are_named(run: Run, photographs: Any) -> None:
    photographs[1]["image"] = "gone.png"
    photographs[2]["pseudo"] = photographs[0]["image"]
    result = run("view", "-o", "sheet.png", input=photographs, check=1)
    lines = result.err.splitlines()
    assert "photo 1 é: cannot read image: gone.png: no such file" in lines[0]
    assert "photo 2 é: photo 0 é.png: a label map holds class numbers" in lines[1]
    assert Path("sheet.png").exists()
    assert run("view", "-o", "none.png", check=1).err.endswith("no record could be read\n")
    assert not Path("none.png").exists()


def test_a_key_that_no_record_has_is_left_out_and_named(run: Run, photographs: Any) -> None:
    result = run("view", "-o", "sheet.png", "--keys", "image,nix", input=photographs)
    assert result.err == "wsss view: no record has 'nix'; left out\n"
