"""erase: what is mined, erased and merged, over several steps, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run, as_lines
from wsss_cli import files

Records = list[dict[str, Any]]

CLASSES = ["cat", "cow", "dog"]
META = {"tool": "make-cam", "version": "1", "params": {}, "classes": CLASSES}
SIZE = (40, 80)
AREA = np.kron(np.arange(4), np.ones((40, 20), int))  # four areas of 40 x 20 side by side
FILL = (200, 10, 30)


def write_cam(path: str, classes: dict[str, list[float]], size: tuple[int, int] = SIZE) -> None:
    """Maps that are constant in each of the four areas."""
    planes = [np.array(values)[AREA[::4, ::4]] for values in classes.values()]
    cam = np.array(planes).reshape(len(planes), 10, 20)
    files.write_maps(path, cam, list(classes), size, META)


def write_saliency(path: str, values: list[int]) -> None:
    Image.fromarray(np.array(values, np.uint8)[AREA]).save(path)


@pytest.fixture
def records(workdir: Path) -> Records:
    """Two classes in one image, one class, no labels, and an image that nobody labelled."""
    made: Records = []
    for number, (name, labels, classes) in enumerate(
        [
            ("both", ["dog", "cat"], {"dog": [0.2, 0.9, 0.8, 0.0], "cat": [0.9, 0.8, 0.1, 0.0]}),
            ("one", ["cow"], {"cow": [0.0, 0.0, 0.5, 0.9]}),
            ("empty", [], {}),
            ("unlabelled", None, {"cat": [0.9, 0.1, 0.1, 0.1]}),
        ]
    ):
        image = np.arange(40 * 80 * 3, dtype=np.uint32).reshape(40, 80, 3) % 97 + 30 * number
        Image.fromarray(image.astype(np.uint8)).save(f"{name} é.png")
        write_cam(f"{name}.npz", classes)
        record = {"id": name, "image": f"{name} é.png", "cam": f"{name}.npz", "x": [name]}
        made.append(record if labels is None else {**record, "labels": labels})
    write_saliency("saliency.png", [255, 14, 16, 15])  # 0.055, 0.063 and 0.059 beside 0.06
    for record in made[:3]:
        record["saliency"] = "saliency.png"
    return made


@pytest.fixture
def erase(inside: Run) -> Run:
    def call(*args: Any, **kwargs: Any) -> Any:
        return inside("erase", "--workers", "0", "--fill", "200,10,30", *args, **kwargs)

    return call


def areas(path: str) -> list[int]:
    """The number that most of each area has; borders between areas are blurred."""
    labels = files.read_label_map(path, SIZE)
    return labels[20, 10::20].tolist()


def test_mined_erased_and_merged(erase: Run, records: Records) -> None:
    done = erase("--top", "0.45", "-o", "s1", input=records, check=0)
    found = {record["id"]: record for record in done.records}
    assert {name: areas(record["mined"]) for name, record in found.items()} == {
        "both": [1, 255, 3, 0],
        "one": [0, 0, 2, 2],
        "empty": [0, 0, 0, 0],
        "unlabelled": [1, 1, 1, 1],  # all that are level with the last of 45 % are in
    }
    assert {name: areas(found[name]["pseudo"]) for name in ("both", "one", "empty")} == {
        "both": [1, 255, 3, 0],
        "one": [255, 0, 2, 255],
        "empty": [255, 0, 255, 0],
    }
    assert "pseudo" not in found["unlabelled"]  # it has no saliency
    assert not Path("s1/pseudo/unlabelled.png").exists()
    assert list(found["both"])[:6] == ["id", "image", "cam", "x", "labels", "saliency"]
    for record in records:
        image = files.read_image(record["image"])
        hidden = files.read_image(found[record["id"]]["erased"])
        mined = files.read_label_map(found[record["id"]]["mined"]) != 0
        assert (hidden[mined] == FILL).all()
        assert np.array_equal(hidden[~mined], image[~mined])
    meta = files.read_meta("s1/erased/both.png")
    assert meta is not None
    assert meta == files.read_meta("s1/mined/both.png") == files.read_meta("s1/pseudo/both.png")
    assert (meta["tool"], meta["classes"], meta["from"]["cam"]) == ("erase", CLASSES, META)
    assert (meta["params"]["top"], meta["params"]["fill"]) == (0.45, list(FILL))


def test_the_paper_mines_a_fifth(erase: Run, records: Records) -> None:
    cam = np.random.default_rng(0).random((1, 10, 20))
    files.write_maps("one.npz", cam, ["cow"], SIZE, META)
    done = erase(input=records[1:2], check=0)
    assert (files.read_label_map(done.records[0]["mined"]) == 2).mean() == 0.2


def test_threshold_instead_of_top(erase: Run, records: Records) -> None:
    found = [
        areas(erase("--relative-threshold", t, input=records[:1], check=0).records[0]["mined"])
        for t in ("0.95", "0.5", "0")
    ]
    assert found == [[1, 3, 0, 0], [1, 255, 3, 0], [255, 255, 255, 0]]


def test_steps_add_up_until_nothing_is_left(erase: Run, records: Records) -> None:
    first = erase("--top", "0.25", "-o", "s1", input=records[:2], check=0).records
    assert [areas(record["mined"]) for record in first] == [[1, 3, 0, 0], [0, 0, 0, 2]]
    # The classifier of the next step sees the erased image: other maps, the cow not found any more.
    write_cam("both.npz", {"dog": [1.0, 0.0, 0.0, 0.5], "cat": [0.0, 0.0, 0.9, 0.5]})
    write_cam("one.npz", {"cow": [0.0, 0.0, 0.0, 0.0]})
    second = erase("--relative-threshold", "0.6", "-o", "s2", input=first, check=0).records
    assert [areas(record["mined"]) for record in second] == [[255, 3, 1, 0], [0, 0, 0, 2]]
    meta = files.read_meta(second[0]["mined"])
    assert meta is not None
    assert meta["from"]["mined"] == files.read_meta("s1/mined/both.png")
    assert "mined" not in meta["from"]["mined"].get("from", {})
    write_cam("both.npz", {"dog": [1.0, 1.0, 0.5, 1.0], "cat": [0.0, 0.0, 0.0, 0.0]})
    last = erase("--relative-threshold", "0", "-v", "-o", "s3", input=second[:1], check=0)
    told = last.err.splitlines()[0]
    assert told.startswith("wsss erase: both: ")
    assert told.endswith("% dog, 52% claimed twice, 0% left")
    assert (files.read_image(last.records[0]["erased"]) == FILL).all()
    again = erase("--relative-threshold", "0", "-o", "s4", input=last.records, check=0).records
    assert areas(again[0]["mined"]) == areas(last.records[0]["mined"])


def test_a_step_is_made_again_if_the_step_before_changed(erase: Run, records: Records) -> None:
    first = erase("-o", "s1", input=records, check=0).records
    erase("-o", "s2", input=first, check=0)
    assert "4 reused" in erase("-o", "s2", "--skip-existing", input=first, check=0).err
    changed = erase("--top", "0.3", "-o", "s1", input=records, check=0).records
    assert changed == first
    assert "reused" not in erase("-o", "s2", "--skip-existing", input=first, check=0).err


def test_a_step_needs_a_folder_of_its_own(erase: Run, records: Records) -> None:
    first = erase("-o", "s1", input=records[:1], check=0).records
    before = Path("s1/mined/both.png").read_bytes()
    again = erase("-o", "s1", "-q", input=first)
    assert again.code == 1
    assert again.err == "wsss erase: both: would overwrite its own 'mined'; change --out\n"
    assert Path("s1/mined/both.png").read_bytes() == before


def test_maps_with_their_own_background_and_of_more_classes(erase: Run, records: Records) -> None:
    """Only what the labels name is mined."""
    write_cam(
        "one.npz",
        {
            "background": [1.0, 1.0, 0.0, 0.0],
            "dog": [0.9, 0.0, 0.0, 0.0],
            "cow": [0, 0, 0.5, 0.9],
        },
    )
    done = erase("--top", "0.2", input=records[1:2], check=0)
    assert areas(done.records[0]["mined"]) == [0, 0, 0, 2]


# ---- the colour ----


def test_the_mean_colour_is_that_of_the_whole_stream(run: Run, records: Records) -> None:
    """From a file, from a pipe, and in each shard the same."""
    for name, record in zip(("a", "b"), records[:2], strict=True):
        colour = {"a": (10, 100, 30), "b": (40, 10, 200)}[name]
        Image.new("RGB", (80, 40), colour).save(record["image"])
    large = np.zeros((40, 80, 3), np.uint8) + np.array([255, 0, 1], np.uint8)
    Image.fromarray(large).resize((160, 80)).save(records[2]["image"])  # counts four times
    write_cam("empty.npz", {}, (80, 160))
    Image.new("L", (160, 80)).save("saliency.png")
    bad = {"id": "bad", "image": "gone.png", "cam": "one.npz"}
    Path("in.jsonl").write_text(as_lines([*records[:3], bad]))
    wanted = [round((10 + 40 + 4 * 255) / 6), round(110 / 6), round((230 + 4) / 6)]
    settings = ("erase", "--workers", "2")
    done = run(*settings, "-o", "a", "in.jsonl", check=1)
    told = "wsss erase: mean colour of the photographs: 178,18,39\n"
    assert done.err.count(told) == 1
    assert done.err.count("bad: cannot read image") == 1
    piped = run(*settings, "-o", "b", input=Path("in.jsonl").read_text(), check=1)
    with open("in.jsonl") as stream:
        redirected = subprocess.run(
            [sys.executable, "-m", "wsss_cli", *settings, "-o", "c", "--shard", "2/2"],
            stdin=stream,
            capture_output=True,
            text=True,
        )
    assert told in redirected.stderr
    assert [record["id"] for record in piped.records] == ["both", "one", "empty"]
    for path in ("a/erased/both.png", "b/erased/both.png", "c/erased/one.png"):
        meta = files.read_meta(path)
        assert meta is not None
        assert meta["params"]["fill"] == wanted
    mined = files.read_label_map("b/mined/one.png") != 0
    assert mined.any()
    assert (files.read_image("b/erased/one.png")[mined] == wanted).all()


def test_a_pipe_with_a_name_cannot_be_read_twice(shell: Run, records: Records) -> None:
    Path("in.jsonl").write_text(as_lines(records))
    done = shell("wsss erase <(cat in.jsonl)")
    assert done.code == 2
    assert "not a file, so it cannot be read twice; pipe it in" in done.err
    assert done.err.count("\n") == 1
    done = shell("wsss erase --workers 0 --fill 1,2,3 <(cat in.jsonl)", check=0)
    assert len(done.records) == 4


def test_with_a_colour_the_stream_flows(records: Records) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "wsss_cli", "erase", "--fill", "1,2,3", "--workers", "0", "-q"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(as_lines(records[:1]))
    process.stdin.flush()
    assert '"mined": "out/erase/mined/both.png"' in process.stdout.readline()  # while it is open
    process.stdin.close()
    assert process.wait() == 0


# ---- real input ----


def test_a_large_photograph_is_answered_large(erase: Run, records: Records) -> None:
    Image.new("RGB", (640, 320)).save(records[0]["image"])
    write_cam("both.npz", {"dog": [0.2, 0.9, 0.8, 0], "cat": [0.9, 0.8, 0.1, 0]}, (320, 640))
    done = erase("--max-side", "100", "--top", "0.45", "-v", input=records[:1], check=0)
    assert ", saliency of 80x40 resized to 640x320\n" in done.err
    mined = files.read_label_map(done.records[0]["mined"], (320, 640))
    assert mined[160, 80::160].tolist() == [1, 255, 3, 0]
    assert files.read_image(done.records[0]["erased"]).shape == (320, 640, 3)
    mask = files.read_label_map(done.records[0]["pseudo"], (320, 640))  # the saliency is smaller
    assert mask[160, 80::160].tolist() == [1, 255, 3, 0]


def test_a_turned_photograph_lies_as_viewers_show_it(erase: Run, records: Records) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 80)).save("turned.jpg", exif=exif)
    done = erase(input=[{**records[1], "image": "turned.jpg"}], check=0)
    with Image.open(done.records[0]["erased"]) as erased:
        assert erased.size == (80, 40)
        assert erased.getexif().get(0x0112, 1) == 1


def test_bad_input_fails_alone(erase: Run, records: Records) -> None:
    one = {**records[1], "mined": "mined.png"}
    small = np.zeros((20, 20), np.uint8)
    files.write_label_map("small.png", small)
    other = files.provenance("erase", {}, classes=["sheep"])
    files.write_label_map("other.png", np.zeros(SIZE, np.uint8), other)
    Image.new("RGB", (80, 40), "red").save("colour.png")
    files.write_label_map("high.png", np.full(SIZE, 4, np.uint8))
    files.write_maps("size.npz", np.zeros((1, 5, 5)), ["cow"], (20, 20), META)
    files.write_maps("nowhere.npz", np.zeros((1, 5, 5)), ["cow"], SIZE, {})
    bad = [
        {**one, "id": "a", "mined": "small.png"},
        {**one, "id": "b", "mined": "other.png"},
        {**one, "id": "c", "mined": "colour.png"},
        {**records[1], "id": "d", "saliency": "colour.png"},
        {**records[1], "id": "e", "saliency": "gone.png"},
        {**records[1], "id": "f", "cam": "size.npz"},
        {**records[1], "id": "g", "labels": ["cow", "dog"]},
        {**records[1], "id": "h", "cam": "nowhere.npz"},
        {"id": "i", "image": "one é.png"},
        {**one, "id": "j", "mined": "high.png"},
        {**records[1], "id": "k", "labels": ["cew"]},
    ]
    done = erase("-q", "-o", "out", input=[records[0], *bad, records[1]])
    assert done.code == 1
    assert [record["id"] for record in done.records] == ["both", "one"]
    assert sorted(line.removeprefix("wsss erase: ") for line in done.err.splitlines()) == [
        "a: small.png: label map is 20x20, its image 80x40",
        "b: other.png: mined with another class list than the maps'",
        "c: colour.png: a label map holds class numbers in an 8-bit palette or grey PNG, "
        "this is RGB; 'wsss relabel' makes numbers of its colours",
        "d: colour.png: a grey map holds one value a pixel, 255 or 65535 where it is highest, "
        "this is RGB and not grey; convert it first",
        "e: cannot read grey map: gone.png: no such file",
        "f: size.npz: maps of an image of 20x20, but this one is 80x40",
        "g: one.npz: no map of dog; make the maps again",
        "h: the maps do not say their class list; give --classes",
        "i: record has no 'cam' (made by make-cam)",
        "j: high.png: class number 4, but the class list ends at 3",
        "k: label 'cew' is not in the class list; did you mean cow?",
    ]
    assert {path.name for path in Path("out").rglob("*.png")} == {"both.png", "one.png"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top", "0"], "0.0 is not in the range 0<x<=1"),
        (["--top", "nan"], "Invalid value for '--top': nan is not a number"),
        (["--background", "nan"], "Invalid value for '--background': nan is not a number"),
        (["--relative-threshold", "1.5"], "1.5 is not in the range 0<=x<=1"),
        (["--fill", "red"], "'red' is not a list of numbers"),
        (["--fill", "1,2"], "3 numbers are needed"),
        (["--fill", "1,2,256"], "'1,2,256': mean, or red, green and blue from 0 to 255"),
        (["--fill", "1,2,-1"], "'1,2,-1'"),
        (["--background", "2"], "2.0 is not in the range 0<=x<=1"),
        (["--classes", "nowhere.txt"], "--classes nowhere.txt: not voc, coco or a readable text"),
    ],
)
def test_wrong_settings_end_before_any_work(
    inside: Run, records: Records, options: list[str], message: str
) -> None:
    done = inside("erase", *options, input=records)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not Path("out").exists()


def test_settings_from_a_file(inside: Run, records: Records) -> None:
    Path("wsss.toml").write_text('[erase]\nfill = [1, 2, 3]\nworkers = 0\nout = "s"\n')
    inside("erase", input=records[:1], check=0)
    meta = files.read_meta("s/mined/both.png")
    assert meta is not None
    assert meta["params"]["fill"] == [1, 2, 3]
