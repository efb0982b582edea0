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


def test_a_sheet_says_how_many_records_it_left_out(run: Run, photographs: Any) -> None:
    """Of stdin it reads no further, so that the tool before may stop."""
    Path("in.jsonl").write_text(as_lines(photographs) + "no record\n")
    options = ("view", "--limit", "2", "--width", "64", "-o", "sheet.png")
    said = run(*options, "in.jsonl", check=0).err
    assert said == "wsss view: the first 2 records; 2 more left out (--limit)\n"
    with Image.open("sheet.png") as sheet:
        height = sheet.height
    said = run(*options, input=photographs, check=0).err
    assert said == "wsss view: the first 2 records; the others were not read (--limit)\n"
    assert run(*options, input=photographs[:2], check=0).err == ""
    with Image.open("sheet.png") as sheet:
        assert sheet.height == height - 17


def test_a_page(run: Run, photographs: Any) -> None:
    for _ in range(2):
        result = run("view", "-o", "out/report.html", input=photographs, check=0)
        assert result.out == "out/report.html\n"
        assert "out/report.html: 4 records, " in result.err
    assert [path.name for path in Path("out").iterdir()] == ["report.html"]
    said = run("view", "-o", "p.HTM", "--limit=3", "--keys=image,nix", input=photographs).err
    assert "no record has 'nix'; left out" in said
    assert "the first 3 records; the others were not read (--limit)" in said
    assert b"the first 3 records" in Path("p.HTM").read_bytes()


def test_a_page_replaces_nothing_but_a_page(run: Run, photographs: Any) -> None:
    Path("in.jsonl").write_text(as_lines(photographs))
    Path("mine.html").write_text("<!doctype html><title>mine</title>")
    said = run("view", "in.jsonl", "-o", "mine.html", check=2).err
    assert said == (
        "wsss view: mine.html was made by something else; move it away or change --out\n"
    )
    Path("link.html").symlink_to("in.jsonl")
    said = run("view", "in.jsonl", "-o", "link.html", check=2).err
    assert "link.html: would overwrite its own input in.jsonl" in said
    run("view", "in.jsonl", "-o", "page.html", check=0)
    before = Path("page.html").read_bytes()
    photographs[3]["notes"] = "./page.html"
    said = run("view", "-o", "page.html", input=photographs, check=1).err
    assert "page.html: would overwrite 'notes' of photo 3 é; change --out" in said
    assert Path("page.html").read_bytes() == before
    Path("mine.html").write_text("")  # as scripts reserve a name
    run("view", "in.jsonl", "-o", "mine.html", check=0)


def test_a_page_names_bad_records_and_shows_the_others(run: Run, photographs: Any) -> None:
    photographs[1]["image"] = "gone.png"
    photographs[2]["pseudo"] = photographs[0]["image"]
    photographs.append(photographs[0])
    result = run("view", "-o", "page.html", input=as_lines(photographs) + "{\n", check=1)
    lines = result.err.splitlines()
    assert "stdin:6: not a JSON object" in lines[1]
    assert "photo 0 é: this id is on the page already; each is shown once" in lines[0]
    assert "photo 1 é: cannot read image: gone.png: no such file" in lines[2]
    assert "photo 2 é: photo 0 é.png: a label map holds class numbers" in lines[3]
    assert lines[4].startswith("wsss view: page.html: 2 records, ")
    assert run("view", "-o", "none.html", input="{\n", check=1).err.endswith(
        "nothing to show: no record could be read\n"
    )
    assert not Path("none.html").exists()
    result = run("view", "-o", "none.html", "--strict", input=photographs, check=1)
    assert result.err.endswith("stopped at the first failure (--strict)\n")
    assert not Path("none.html").exists()


def test_options_are_for_what_is_drawn(run: Run, photographs: Any) -> None:
    for out, option, need in (
        ("sheet.png", "--link", "a page, -o FILE.html"),
        ("folder", "--link", "a page, -o FILE.html"),
        ("page.html", "--skip-existing", "a folder, -o DIR"),
        ("sheet.png", "--shard=1/2", "a folder, -o DIR"),
    ):
        said = run("view", "-o", out, option, input=photographs, check=2).err
        assert f"{option.partition('=')[0]} is only for {need}" in said
