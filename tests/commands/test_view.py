"""``wsss view`` as a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from tests.conftest import Run, as_lines


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


def test_a_sheet_replaces_nothing_but_a_sheet(run: Run, photographs: Any) -> None:
    """Neither the stream nor a photograph, whatever the path."""
    Path("in.jsonl").write_text(as_lines(photographs))
    Path("link.png").symlink_to("in.jsonl")
    Path("other.png").symlink_to(photographs[0]["image"])
    before = [Path(path).read_bytes() for path in ("in.jsonl", photographs[0]["image"])]
    result = run("view", "in.jsonl", "-o", "link.png", check=2)
    assert "link.png: would overwrite its own input in.jsonl" in result.err
    for out in (photographs[0]["image"], "other.png"):
        result = run("view", "in.jsonl", "-o", out, check=2)
        assert f"{out} was made by something else; move it away or change --out" in result.err
    assert [Path(path).read_bytes() for path in ("in.jsonl", photographs[0]["image"])] == before
    for _ in range(2):
        run("view", "in.jsonl", "-o", "sheet.png", "--width", "64", check=0)
    # A picture of view may be somebody's photograph, too.
    Path("again.png").symlink_to(Path("sheet.png").resolve())
    shown = {"id": "s", "image": str(Path("again.png").absolute())}
    before = [Path("sheet.png").read_bytes()]
    result = run("view", "-o", "sheet.png", input=[photographs[0], shown], check=1)
    assert result.err == "wsss view: sheet.png: would overwrite 'image' of s; change --out\n"
    result = run("view", "-o", ".", input=[{**shown, "id": "sheet"}], check=1)
    assert "sheet: would overwrite its own 'image'; change --out" in result.err
    assert [Path("sheet.png").read_bytes()] == before


def test_a_sheet_that_gets_too_large_says_so(run: Run, photographs: Any) -> None:
    options = ("--width", "4096", "--keys", ",".join(["image"] * 5), "-o", "sheet.png")
    result = run("view", *options, input=photographs, check=1)
    assert "records already fill a sheet of" in result.err
    assert "give a smaller --limit or --width, or a folder as --out" in result.err
    assert not Path("sheet.png").exists()


def test_labels_are_no_picture(run: Run, photographs: Any) -> None:
    for out in ("sheet.png", "folder"):
        result = run("view", "--keys", "image,labels", "-o", out, input=photographs[:2], check=1)
        assert "photo 0 é: 'labels' is no path of a picture, label map or maps" in result.err
        assert "internal error" not in result.err
