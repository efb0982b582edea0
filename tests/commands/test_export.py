"""``wsss export`` as users run it: every format comes back as the label maps that went in."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from tests.conftest import Run, as_lines
from wsss_cli import files
from wsss_cli.cli import cli
from wsss_cli.methods.outlines import filled
from wsss_cli.methods.regions import decoded, mask_of

Labels = npt.NDArray[np.uint8]
CLASSES = ["cat", "traffic light", "dog"]
FORMATS = ["coco", "yolo", "labelme", "voc"]


@pytest.fixture
def maps(workdir: Path) -> list[dict[str, Any]]:
    """Records of four photographs, one in a folder, with round regions, holes, specks and 255."""
    rng = np.random.default_rng(1)
    Path("photos/sub").mkdir(parents=True)
    made = []
    for number, (name, size) in enumerate(
        [("a", (60, 80)), ("b é", (70, 50)), ("sub/c.d", (48, 48)), ("e", (31, 47))]
    ):
        y, x = np.mgrid[: size[0], : size[1]]
        labels = np.zeros(size, np.uint8)
        for place in range(number if number < 3 else 12):
            centre, radius = rng.integers(0, size), rng.integers(4, 22)
            away = np.hypot(y - centre[0], x - centre[1])
            labels[away < radius + 1] = 255
            labels[away < radius] = place % 3 + 1
            labels[away < radius / 3] = (0, 2)[place % 2]
        labels[rng.random(size) < 0.004] = 1
        image = f"photos/{name}.jpg"
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(image)
        mask = f"mask {number}.png"
        files.write_label_map(mask, labels, files.provenance("t", {}, classes=CLASSES))
        made.append({"id": name, "image": image, "pseudo": mask, "more": [1]})
    return made


def truth(record: dict[str, Any]) -> Labels:
    return files.read_label_map(record["pseudo"])


def known(labels: Labels) -> Labels:
    return np.where(labels == 255, 0, labels)


def read_coco(path: str) -> dict[str, Labels]:
    """Label maps by file name; annotations in their order, the later over the earlier."""
    data = json.loads(Path(path).read_text())
    found = {}
    for image in data["images"]:
        size = image["height"], image["width"]
        labels = np.zeros(size, np.uint8)
        for annotation in data["annotations"]:
            if annotation["image_id"] == image["id"]:
                outline = annotation["segmentation"]
                if isinstance(outline, dict):
                    assert outline["size"] == list(size)
                    mask = mask_of(decoded(outline["counts"]), size)
                else:
                    mask = np.zeros(size, np.bool_)
                    for ring in outline:
                        rows, columns, inside = filled(np.reshape(ring, (-1, 2)), size)
                        mask[rows, columns] |= inside
                labels[mask] = 255 if annotation["iscrowd"] else annotation["category_id"]
        found[image["file_name"]] = labels
    return found


@pytest.mark.parametrize("per", ["region", "class"])
@pytest.mark.parametrize("polygons", [(), ("--polygons", "--tolerance", "0")])
def test_coco_gives_the_same_label_maps(
    maps: list[dict[str, Any]], inside: Run, per: str, polygons: tuple[str, ...]
) -> None:
    args = ("export", "coco", "--per", per, *polygons, "-o", "x.json")
    result = inside(*args, input=maps, check=0)
    assert result.records == maps
    assert ("no pixel changed" in result.err) == bool(polygons)
    assert "% of the pixels are 255: not in the file; --crowd writes them" in result.err
    found = read_coco("x.json")
    assert list(found) == ["a.jpg", "b é.jpg", "sub/c.d.jpg", "e.jpg"]
    for record, labels in zip(maps, found.values(), strict=True):
        assert np.array_equal(labels, known(truth(record)))
    result = inside(*args, "--crowd", input=maps, check=0)
    assert "255" not in result.err
    for record, labels in zip(maps, read_coco("x.json").values(), strict=True):
        assert np.array_equal(labels, truth(record))


def test_coco_is_what_pycocotools_expects(maps: list[dict[str, Any]], inside: Run) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    masks = pytest.importorskip("pycocotools.mask")
    inside("export", "coco", "--crowd", "-o", "x.json", input=maps, check=0)
    with contextlib.redirect_stdout(None):
        read = coco.COCO("x.json")
    assert [c["name"] for c in read.loadCats(read.getCatIds())] == CLASSES
    for record, image in zip(maps, read.loadImgs(read.getImgIds()), strict=True):
        labels = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in read.loadAnns(read.getAnnIds(image["id"])):
            mask = read.annToMask(annotation) > 0
            labels[mask] = 255 if annotation["iscrowd"] else annotation["category_id"]
            assert annotation["area"] == mask.sum()
            assert annotation["bbox"] == masks.toBbox(annotation["segmentation"]).tolist()
        assert np.array_equal(labels, truth(record))


def test_what_polygons_lose_is_counted(maps: list[dict[str, Any]], inside: Run) -> None:
    result = inside("export", "coco", "--polygons", "-o", "x.json", input=maps, check=0)
    changed = labelled = 0
    for record, labels in zip(maps, read_coco("x.json").values(), strict=True):
        true = truth(record)
        changed += int(((labels != true) & (true != 255)).sum())
        labelled += int(((true > 0) & (true != 255)).sum())
    assert 1 < (percent := 100 * changed / labelled) < 10
    assert f"{percent:.2g} % of the labelled pixels changed" in result.err
    claimed = ignored = 0
    for record, labels in zip(maps, read_coco("x.json").values(), strict=True):
        ignored += int((truth(record) == 255).sum())
        claimed += int(((labels > 0) & (truth(record) == 255)).sum())
    assert claimed > 9
    told = f" and {100 * claimed / ignored:.2g} % of those of 255 changed, by filling"
    assert told in result.err
    args = ("export", "coco", "--polygons", "--crowd", "-o", "crowd.json")
    assert told in inside(*args, input=maps, check=0).err
    for annotation in json.loads(Path("x.json").read_text())["annotations"]:
        assert annotation["area"] > 0
        assert all(len(ring) >= 6 for ring in annotation["segmentation"])


def test_yolo_gives_the_same_label_maps(maps: list[dict[str, Any]], inside: Run) -> None:
    result = inside("export", "yolo", "--tolerance", "0", "-o", "y", input=maps, check=0)
    assert result.records == maps
    assert "no pixel changed" in result.err
    images = Path("y/train.txt").read_text().splitlines()
    assert images == [f"./images/{record['id']}.jpg" for record in maps]
    for record, image in zip(maps, images, strict=True):
        assert Path("y", image).read_bytes() == Path(record["image"]).read_bytes()
        # As ultralytics looks for it.
        path = "labels/".join(f"y/{image}".rsplit("images/", 1)).rsplit(".", 1)[0] + ".txt"
        true = known(truth(record))
        labels = np.zeros_like(true)
        for line in Path(path).read_text().splitlines():
            number, *points = line.split(" ")
            ring = np.array(points, float).reshape(-1, 2)
            assert ((ring >= 0) & (ring <= 1)).all()
            rows, columns, part = filled(ring * true.shape[::-1], true.shape)
            labels[rows, columns][part] = int(number) + 1
        assert np.array_equal(labels, true)
    assert Path("y/data.yaml").read_text().splitlines()[2:] == [
        "train: train.txt",
        "val: train.txt",
        "names:",
        '  0: "cat"',
        '  1: "traffic light"',
        '  2: "dog"',
    ]


def test_labelme_gives_the_same_label_maps(maps: list[dict[str, Any]], inside: Run) -> None:
    result = inside("export", "labelme", "--tolerance", "0", "-o", "l", input=maps, check=0)
    assert result.records == maps
    assert result.err.startswith("wsss export labelme: no pixel changed")
    assert "255" not in result.err
    listed = Path("l/labels.txt").read_text().splitlines()
    assert listed == ["__ignore__", "_background_", *CLASSES]
    for record in maps:
        path = Path(f"l/{record['id']}.json")
        data = json.loads(path.read_text())
        assert Path(path.parent, data["imagePath"]).samefile(record["image"])
        assert data["imageData"] is None
        size = data["imageHeight"], data["imageWidth"]
        labels = np.zeros(size, np.uint8)
        for shape in data["shapes"]:
            assert shape["shape_type"] == "polygon"
            picture = Image.new("1", size[::-1])
            corners = [tuple(point) for point in shape["points"]]
            ImageDraw.Draw(picture).polygon(corners, fill=1, outline=1)
            # The number of a label is its place in the list, from -1.
            labels[np.array(picture)] = (listed.index(shape["label"]) - 1) % 256
        assert np.array_equal(labels, truth(record))


def test_what_labelme_loses_of_255_is_counted(maps: list[dict[str, Any]], inside: Run) -> None:
    result = inside("export", "labelme", "--tolerance", "2", "-o", "l", input=maps, check=0)
    listed = Path("l/labels.txt").read_text().splitlines()
    lost = ignored = 0
    for record in maps:
        true = truth(record)
        picture = Image.new("L", true.shape[::-1])
        for shape in json.loads(Path(f"l/{record['id']}.json").read_text())["shapes"]:
            corners = [tuple(point) for point in shape["points"]]
            number = (listed.index(shape["label"]) - 1) % 256
            ImageDraw.Draw(picture).polygon(corners, fill=number, outline=number)
        ignored += int((true == 255).sum())
        lost += int(((np.array(picture) != 255) & (true == 255)).sum())
    assert lost > 9
    assert f" and {100 * lost / ignored:.2g} % of those of 255 changed, by filling" in result.err


def test_voc_gives_the_same_label_maps(maps: list[dict[str, Any]], inside: Run, run: Run) -> None:
    result = inside("export", "voc", "-o", "v", input=maps, check=0)
    assert result.records == maps
    assert "255" not in result.err
    again = run("index", "voc", "v", "--split", "default", check=0).records
    assert [record["id"] for record in again] == [record["id"] for record in maps]
    for record, back in zip(maps, again, strict=True):
        assert np.array_equal(files.read_label_map(back["mask"]), truth(record))
        assert Path(back["image"]).read_bytes() == Path(record["image"]).read_bytes()
    # The line that the reference has, of another folder.
    args = "voc v --split default --labels-from masks --classes v/labelmap.txt"
    assert f"wsss index {args.replace('v/', 'cvat/').replace(' v ', ' cvat ')}`" in Path(
        __file__, "../../../wsss_cli/commands/README.md"
    ).resolve().read_text("utf-8")
    for record, back in zip(maps, run("index", *args.split(), check=0).records, strict=True):
        present = set(np.unique(truth(record)).tolist()) - {0, 255}
        assert back["labels"] == [CLASSES[number - 1] for number in sorted(present)]
    assert Path("v/labelmap.txt").read_text().splitlines() == [
        "# label:color_rgb:parts:actions",
        "background:0,0,0::",
        "__ignore__:224,224,192::",
        "cat:128,0,0::",
        "traffic light:0,128,0::",
        "dog:128,128,0::",
    ]
    inside("export", "voc", "-o", "sure", input=maps[:1], check=0)
    assert "ignore" not in Path("sure/labelmap.txt").read_text()
    lines = as_lines(again)
    for more in ((), ("--classes", "v/labelmap.txt")):
        done = run("export", "coco", "--key", "mask", *more, "-o", "x.json", input=lines, check=0)
        assert done.records == again
    assert np.array_equal(list(read_coco("x.json").values())[3], known(truth(maps[3])))


@pytest.mark.parametrize("form", FORMATS)
def test_a_second_run_replaces_its_own_files_and_leaves_corrected_ones(
    maps: list[dict[str, Any]], inside: Run, form: str
) -> None:
    out = "x.json" if form == "coco" else "out"
    inside("export", form, "-o", out, input=maps[:3], check=0)
    inside("export", form, "-o", out, input=maps, check=0)
    made = {
        "coco": "x.json",
        "yolo": "out/labels/a.txt",
        "labelme": "out/a.json",
        "voc": "out/SegmentationClass/a.png",
    }[form]
    with open(made, "ab") as stream:
        stream.write(b" ")
    corrected = Path(made).read_bytes()
    labels = truth(maps[0])
    labels[5:9, 5:9] = 2
    files.write_label_map(maps[0]["pseudo"], labels, files.provenance("t", {}, classes=CLASSES))
    result = inside("export", form, "-o", out, "-q", input=maps)
    assert result.code == (2 if form == "coco" else 1)
    assert "was made or changed by something else; move it away or change --out" in result.err
    assert result.err.count("\n") == 1
    assert Path(made).read_bytes() == corrected
    assert len(result.records) == (0 if form == "coco" else 3)


@pytest.mark.parametrize("form", FORMATS)
def test_equal_runs_write_equal_files(maps: list[dict[str, Any]], inside: Run, form: str) -> None:
    for out in ("one", "two"):
        inside("export", form, "-o", out, input=maps, check=0)
    one, two = (
        {path.relative_to(out): path.read_bytes() for path in Path(out).rglob("*.*")}
        for out in ("one", "two")
    )
    assert one == two
    assert len(one) >= 1


def test_coco_in_a_folder_and_what_is_no_file(maps: list[dict[str, Any]], inside: Run) -> None:
    inside("export", "coco", "-o", "folder", input=maps, check=0)
    assert list(read_coco("folder/annotations.json"))
    Path("d.json").mkdir()
    assert "'d.json' is a folder" in inside("export", "coco", "-o", "d.json", check=2).err
    Path("other.json").write_text("{}")
    said = inside("export", "coco", "-o", "other.json", input=maps, check=2).err
    assert said.startswith("wsss export coco: other.json was made or changed by something else")
    for odd in (
        '\n"wsss": ',
        '\n"wsss": {"digest": 3}}',
        '\n"wsss": []}',
        '\n"wsss": {"',
        "\0" * 99,
    ):
        Path("other.json").write_text(odd)
        inside("export", "coco", "-o", "other.json", input=maps, check=2)
        assert Path("other.json").read_text() == odd
    Path("other.json").write_text("")  # a name that a script reserves
    inside("export", "coco", "-o", "other.json", input=maps, check=0)


def test_photographs_that_the_id_does_not_name_are_named_by_their_path(
    maps: list[dict[str, Any]], inside: Run
) -> None:
    records = [{**maps[0], "id": "x"}, {**maps[1], "id": "s/b é"}, maps[2]]
    inside("export", "coco", "-o", "x.json", input=records, check=0)
    assert list(read_coco("x.json")) == ["photos/a.jpg", "photos/b é.jpg", "sub/c.d.jpg"]


def test_ids_and_photographs_that_ultralytics_would_not_find(
    maps: list[dict[str, Any]], inside: Run
) -> None:
    Image.open(maps[0]["image"]).save("a.ppm")
    records = [
        {**maps[0], "id": "images/a"},
        {**maps[0], "image": "a.ppm"},
        {**maps[0], "id": "b./a"},
        {**maps[1], "id": "images"},
    ]
    result = inside("export", "yolo", "-o", "y", "-q", input=records, check=1)
    assert result.err.splitlines() == [
        "wsss export yolo: images/a: a folder 'images' in the id: ultralytics would look for its "
        "labels in another one",
        "wsss export yolo: a: a.ppm: ultralytics reads no .ppm",
        "wsss export yolo: b./a: a folder in the id ends in a dot: ultralytics would take it for "
        "'./'",
    ]
    assert Path("y/train.txt").read_text() == "./images/images.jpg\n"


def test_a_changed_file_of_coco_is_noticed_wherever_it_is(
    maps: list[dict[str, Any]], inside: Run
) -> None:
    inside("export", "coco", "-o", "x.json", input=maps, check=0)
    whole = Path("x.json").read_bytes()
    rng = np.random.default_rng(0)
    for number in range(60):
        place = int(rng.integers(len(whole)))
        changed = bytearray(whole)
        if number % 3 == 0:
            changed[place] ^= 1 << int(rng.integers(8))
        elif number % 3 == 1:
            del changed[place:]
        else:
            changed[place:place] = b"7"
        # What made it counts for nothing, only that it is as it was made.
        if bytes(changed[: whole.rindex(b'"wsss"')]) == whole[: whole.rindex(b'"wsss"')]:
            continue
        Path("x.json").write_bytes(changed)
        if changed:
            assert "changed by something else" in inside("export", "coco", "-o", "x.json").err
    Path("x.json").write_bytes(whole)
    inside("export", "coco", "-o", "x.json", input=maps, check=0)


def test_stdout_in_the_file_of_coco_costs_neither(maps: list[dict[str, Any]], shell: Run) -> None:
    Path("in.jsonl").write_text(as_lines(maps))
    result = shell("wsss export coco in.jsonl -o x.json > x.json", check=1)
    assert "x.json was made or changed by something else" in result.err
    assert Path("x.json").read_text() == as_lines(maps)


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_record_once_more_is_there_once(
    maps: list[dict[str, Any]], inside: Run, form: str
) -> None:
    result = inside("export", form, "-o", "o", input=[*maps, maps[0]], check=0)
    assert result.records == [*maps, maps[0]]
    if form == "coco":
        assert len(json.loads(Path("o/annotations.json").read_text())["images"]) == 4
    lists = {"yolo": "train.txt", "voc": "ImageSets/Segmentation/default.txt"}
    if form in lists:
        assert len(Path("o", lists[form]).read_text().splitlines()) == 4


@pytest.mark.parametrize("form", FORMATS)
def test_paths_that_are_no_utf8(maps: list[dict[str, Any]], inside: Run, form: str) -> None:
    odd = os.fsdecode(b"odd \xe9.jpg")
    Path(odd).write_bytes(Path(maps[0]["image"]).read_bytes())
    lines = json.dumps({**maps[0], "image": odd}) + "\n"
    result = inside("export", form, "-o", "o", input=lines, check=0)
    assert result.records == [{**maps[0], "image": odd}]
    if form == "coco":
        assert list(read_coco("o/annotations.json")) == [odd]
    if form == "labelme":
        path = Path("o", json.loads(Path("o/a.json").read_text())["imagePath"])
        assert path.exists()


def test_options_of_polygons_are_refused_without(inside: Run) -> None:
    assert (
        "--tolerance is only for --polygons"
        in inside("export", "coco", "--tolerance", "2", check=2).err
    )


def test_photographs_lie_as_they_are_shown(workdir: Path, inside: Run) -> None:
    """Turned by EXIF: sizes are those of the mask."""
    photograph = Image.new("RGB", (40, 20))
    exif = photograph.getexif()
    exif[0x0112] = 6
    photograph.save("a.jpg", exif=exif)
    labels = np.zeros((40, 20), np.uint8)
    labels[3:9, 2:7] = 1
    files.write_label_map("m.png", labels, files.provenance("t", {}, classes=CLASSES))
    record = {"id": "a", "image": "a.jpg", "pseudo": "m.png"}
    inside("export", "coco", "-o", "x.json", input=[record], check=0)
    assert np.array_equal(read_coco("x.json")["a.jpg"], labels)
    (annotation,) = json.loads(Path("x.json").read_text())["annotations"]
    assert (annotation["bbox"], annotation["area"]) == ([2, 3, 5, 6], 30)


# ---- streams ----


def test_exports_follow_each_other_in_a_pipe(maps: list[dict[str, Any]], shell: Run) -> None:
    Path("in.jsonl").write_text(as_lines(maps))
    result = shell(
        "wsss export coco in.jsonl -o x.json -q | wsss export yolo -o y -q "
        "| wsss export labelme -o l -q | wsss export voc -o v -q --copy",
        check=0,
    )
    assert result.records == maps
    assert Path("x.json").exists()
    assert Path("y/data.yaml").exists()
    assert Path("l/labels.txt").exists()
    assert not Path("v/JPEGImages/a.jpg").is_symlink()


def test_a_closed_pipe_leaves_no_half_file_and_says_so(
    maps: list[dict[str, Any]], shell: Run
) -> None:
    Path("in.jsonl").write_text(as_lines(maps))
    result = shell("wsss export coco in.jsonl -o x.json -q | true; sleep 1")
    assert result.err.strip() in (
        "wsss export coco: stopped before its end: x.json is not written",
        "",  # nothing was read before
    )
    assert not Path("x.json").exists()
    assert not list(Path().glob(".wsss-*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_killed_in_the_middle(maps: list[dict[str, Any]], number: int) -> None:
    """The records flow while the file grows; a file that is there is whole."""
    args = [sys.executable, "-m", "wsss_cli", "export", "coco", "-o", "out/x.json"]
    tool = subprocess.Popen(
        args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert tool.stdin
    assert tool.stdout
    tool.stdin.write(as_lines(maps[:2]).encode())
    tool.stdin.flush()
    assert [json.loads(tool.stdout.readline()) for _ in range(2)] == maps[:2]
    assert not Path("out/x.json").exists()
    tool.send_signal(number)
    _, said = tool.communicate(timeout=60)
    left = os.listdir("out")
    if number == signal.SIGKILL:
        assert len(left) == 1
        stamp = time.time() - 120  # what is younger may be another machine's
        os.utime(f"out/{left[0]}", (stamp, stamp))
    else:
        assert left == []
        assert b"stopped before its end: out/x.json is not written" in said
    subprocess.run(args, input=as_lines(maps).encode(), stdout=subprocess.DEVNULL, check=True)
    assert os.listdir("out") == ["x.json"]
    assert len(read_coco("out/x.json")) == 4


@pytest.mark.parametrize("form", FORMATS)
def test_strict_and_bad_records(maps: list[dict[str, Any]], inside: Run, form: str) -> None:
    bad = {**maps[1], "pseudo": "gone.png"}
    stream = [maps[0], bad, maps[2]]
    result = inside("export", form, "-o", "o", "-q", input=stream, check=1)
    assert result.err == (
        f"wsss export {form}: b é: cannot read label map: gone.png: no such file\n"
    )
    assert result.records == [maps[0], maps[2]]
    last = {"coco": "annotations.json", "yolo": "data.yaml", "labelme": "labels.txt"}
    assert Path("o", last.get(form, "labelmap.txt")).exists()
    result = inside("export", form, "-o", "p", "-q", "--strict", input=stream, check=1)
    assert "stopped at the first failure (--strict)" in result.err
    assert not Path("p", last.get(form, "labelmap.txt")).exists()


def test_memory_does_not_grow_with_the_stream(maps: list[dict[str, Any]], run: Run) -> None:
    """The annotations of each of these maps take 700 kB."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (120, 160)).astype(np.uint8)
    files.write_label_map("busy.png", labels, files.provenance("t", {}, classes=CLASSES))
    Image.new("RGB", (160, 120)).save("busy.jpg")
    peak = (
        "import resource, sys; from wsss_cli.cli import cli\n"
        "try: cli(prog_name='wsss', auto_envvar_prefix='WSSS')\n"
        "except SystemExit: pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    used = []
    for count in (3, 18):
        stream = [{"id": str(n), "image": "busy.jpg", "pseudo": "busy.png"} for n in range(count)]
        done = subprocess.run(
            [sys.executable, "-c", peak, "export", "coco", "-o", f"{count}.json", "-q"],
            input=as_lines(stream),
            capture_output=True,
            text=True,
        )
        used.append(int(done.stderr.split()[-1]))
    assert Path("18.json").stat().st_size > 12_000_000
    assert used[1] - used[0] < 4_000  # kB


@pytest.mark.parametrize("form", [[], ["--per", "class"], ["--polygons", "--tolerance", "0"]])
def test_coco_comes_back_by_index(form: list[str], maps: list[dict[str, Any]], run: Run) -> None:
    pytest.importorskip("pycocotools")
    run("export", "coco", "--crowd", *form, "-o", "x.json", input=as_lines(maps), check=0)
    back = run("index", "coco", "x.json", "--images", "photos", "--masks", "back", check=0).records
    assert [record["id"] for record in back] == [record["id"] for record in maps]
    for record, given in zip(back, maps, strict=True):
        np.testing.assert_array_equal(files.read_label_map(record["mask"]), truth(given))
        assert record["labels"] == [
            CLASSES[number - 1] for number in np.unique(truth(given)) if number not in (0, 255)
        ]


# ---- onnx: what it computes is in tools/test_export_onnx.py --------------------------------------


@pytest.mark.parametrize(
    ("checkpoint", "out", "hidden", "said"),
    [
        (
            "cam.pt",
            "net.onnx",
            "onnx",
            "needs onnx: pip install onnx onnxruntime (the latter to check the file)",
        ),
        ("cam.pt", "cam.pt", "", "cam.pt: would overwrite its own input cam.pt"),
        (
            "notes.txt",
            "net.onnx",
            "",
            "cannot read checkpoint: notes.txt: refused, it holds more than tensors and plain data "
            "or is no PyTorch file",
        ),
        (
            "cut.pt",
            "net.onnx",
            "",
            "cannot read checkpoint: cut.pt: truncated or no PyTorch file",
        ),
        (
            "cam.pt",
            "notes.txt",
            "",
            "notes.txt was made or changed by something else; move it away or change --out",
        ),
    ],
)
def test_a_network_that_cannot_be_exported_is_refused_before_any_work(
    workdir: Path,
    networks: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    checkpoint: str,
    out: str,
    hidden: str,
    said: str,
) -> None:
    if hidden:
        monkeypatch.setitem(sys.modules, hidden, None)
    elif not find_spec("onnx"):
        monkeypatch.setitem(sys.modules, "onnx", ModuleType("onnx"))
    content = networks["cam"].read_bytes()
    Path("cam.pt").write_bytes(content)
    Path("cut.pt").write_bytes(content[:100000])
    Path("notes.txt").write_text("notes")
    with pytest.raises(SystemExit) as ended:
        cli(["export", "onnx", checkpoint, "-o", out], prog_name="wsss", auto_envvar_prefix="WSSS")
    assert ended.value.code == 2
    assert capfd.readouterr() == ("", f"wsss export onnx: {said}\n")
    assert sorted(path.name for path in Path().iterdir()) == ["cam.pt", "cut.pt", "notes.txt"]
    assert Path("cam.pt").read_bytes() == content


@pytest.mark.parametrize(
    ("form", "name"), [("voc", "out/SegmentationClass/a.png"), ("labelme", "out/a.json")]
)
def test_files_of_an_earlier_export_are_told(
    form: str, name: str, maps: list[dict[str, Any]], inside: Run
) -> None:
    """Whoever packs the folder, or opens it, would take them for part of the second."""
    told = "there already, of no record of this run"
    first = inside("export", form, "-o", "out", input=maps, check=0)
    assert told not in first.err
    again = inside("export", form, "-o", "out", input=maps, check=0)
    assert told not in again.err
    assert maps[0]["id"] == "a"
    part = inside("export", form, "-o", "out", "-q", input=maps[2:], check=0)
    assert part.err.startswith(f"wsss export {form}: {name} and 1 more: {told}")
    assert part.err.count("\n") == 1


# ---- instances -----------------------------------------------------------------------------------


@pytest.fixture
def herd(workdir: Path) -> list[dict[str, Any]]:
    """A photograph of two cats that touch, a dog behind a post, and a bit of a cat; and of none."""
    labels, ids = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    labels[5:20, 5:30], ids[5:20, 5:18], ids[5:20, 18:30] = 1, 2, 1
    labels[8:10, 8:10] = ids[8:10, 8:10] = 0  # a hole
    labels[25:35, 10:20] = labels[25:35, 24:30] = 3
    ids[25:35, 10:20] = ids[25:35, 24:30] = 3
    labels[2:4, 50:52], ids[2:4, 50:52] = 1, 255
    labels[38:, :5] = ids[38:, :5] = 255
    meta = files.provenance("t", {}, classes=CLASSES)
    objects = [
        {"id": place, "class": name, "score": 1 / place}
        for place, name in enumerate(["cat", "cat", "dog"], start=1)
    ]
    files.write_label_map("a.png", labels, meta)
    files.write_instance_map("a.instances.png", ids, objects, meta)
    files.write_label_map("b.png", np.zeros_like(labels), meta)
    files.write_instance_map("b.instances.png", np.zeros_like(ids), [], meta)
    made = []
    for name in ("a", "b"):
        Image.new("RGB", (60, 40), (90, 90, 90)).save(f"{name}.jpg")
        keys = {"image": f"{name}.jpg", "pseudo": f"{name}.png"}
        made.append({"id": name, **keys, "instances": f"{name}.instances.png"})
    return made


def instance_masks(record: dict[str, Any]) -> dict[int, Any]:
    ids, _ = files.read_instance_map(record["instances"])
    return {one: ids == one for one in np.unique(ids).tolist() if one not in (0, 255)}


@pytest.mark.parametrize("per", [(), ("--per", "instance")])
@pytest.mark.parametrize("polygons", [(), ("--polygons", "--tolerance", "0")])
def test_an_annotation_of_coco_is_an_instance(
    herd: list[dict[str, Any]], inside: Run, per: tuple[str, ...], polygons: tuple[str, ...]
) -> None:
    done = inside("export", "coco", *per, *polygons, "-o", "x.json", input=herd, check=0)
    assert done.records == herd
    assert "of the pixels are 255 or of no instance: not in the file" in done.err
    found = json.loads(Path("x.json").read_text())["annotations"]
    masks = instance_masks(herd[0])
    assert [(each["image_id"], each["category_id"]) for each in found] == [(1, 1), (1, 1), (1, 3)]
    assert [each["iscrowd"] for each in found] == [0, 0, 0]
    largest_first = sorted(masks.values(), key=lambda mask: -mask.sum())
    for each, mask in zip(found, largest_first, strict=True):
        assert each["area"] == mask.sum()
        if not polygons:
            assert (mask_of(decoded(each["segmentation"]["counts"]), (40, 60)) == mask).all()
    assert len(found[2]["segmentation"]) == 2  # of the dog behind the post, counts or two rings
    crowd = ("--crowd", "-o", "y.json")
    inside("export", "coco", *per, *polygons, *crowd, input=herd, check=0)
    crowds = [e for e in json.loads(Path("y.json").read_text())["annotations"] if e["iscrowd"]]
    assert [each["area"] for each in crowds] == [14, 14]  # the bit and 255, either class


def test_regions_and_classes_of_coco_know_no_instances(
    herd: list[dict[str, Any]], inside: Run
) -> None:
    counts = {}
    for per in ("region", "class"):
        inside("export", "coco", "--per", per, "-o", f"{per}.json", input=herd, check=0)
        counts[per] = len(json.loads(Path(f"{per}.json").read_text())["annotations"])
    assert counts == {"region": 4, "class": 2}
    bare = [{**herd[0], "instances": None}, herd[1]]
    done = inside("export", "coco", "--per", "instance", "-o", "z.json", input=bare, check=1)
    assert "a: record has no 'instances' (made by random-walk --instances)" in done.err
    done = inside("export", "coco", "-o", "bare.json", input=bare, check=0)
    assert len(json.loads(Path("bare.json").read_text())["annotations"]) == 4


def test_polygons_of_yolo_and_labelme_are_parts_of_instances(
    herd: list[dict[str, Any]], inside: Run
) -> None:
    inside("export", "yolo", "--tolerance", "0", "-o", "yolo", input=herd, check=0)
    lines = Path("yolo/labels/a.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "0", "2", "2"]  # both parts of the dog
    inside("export", "labelme", "--tolerance", "0", "-o", "lm", input=herd, check=0)
    shapes = json.loads(Path("lm/a.json").read_text())["shapes"]
    found = [(each["label"], each["group_id"]) for each in shapes]
    assert found == [
        ("cat", 2),
        ("cat", 1),
        ("dog", 3),
        ("dog", 3),
        ("__ignore__", None),
        ("cat", None),  # the bit keeps its class
    ]


def test_voc_has_the_objects_too(herd: list[dict[str, Any]], inside: Run) -> None:
    inside("export", "voc", "-o", "voc", input=herd, check=0)
    for record in herd:
        ids, objects = files.read_instance_map(record["instances"])
        there, told = files.read_instance_map(f"voc/SegmentationObject/{record['id']}.png")
        assert np.array_equal(there, ids)
        assert told == objects
        with Image.open(f"voc/SegmentationObject/{record['id']}.png") as picture:
            assert (picture.mode, picture.getpalette()[3:6]) == ("P", [128, 0, 0])
        labels = files.read_label_map(f"voc/SegmentationClass/{record['id']}.png")
        assert np.array_equal(labels, truth(record))
    bare = [{**record, "instances": None} for record in herd]
    told_of = inside("export", "voc", "-o", "voc", input=bare, check=0).err
    assert "SegmentationObject/a.png and 1 more: there already" in told_of


@pytest.mark.parametrize("form", FORMATS)
def test_instances_of_another_label_map_are_refused(
    form: str, herd: list[dict[str, Any]], inside: Run
) -> None:
    """As after a CRF: a pixel more, a pixel less, or of another class."""
    labels, meta = files.read_labels("a.png")
    for place, number in (((6, 40), 1), ((6, 6), 0), ((6, 6), 3)):
        changed = labels.copy()
        changed[place] = number
        files.write_label_map("a.png", changed, meta)
        done = inside("export", form, "-o", "out.json", input=herd, check=1)
        assert "a: a.instances.png: not the instances of a.png" in done.err
        assert "jq -c 'del(.instances)'" in done.err
        assert done.records == herd[1:]
        assert "Traceback" not in done.err
    files.write_label_map("a.png", labels, meta)
    ids, objects = files.read_instance_map("a.instances.png")
    assert objects is not None
    files.write_instance_map("a.instances.png", ids, [{**e, "class": "dog"} for e in objects])
    assert "not the instances" in inside("export", form, "-o", "o", input=herd, check=1).err
    files.write_instance_map("a.instances.png", ids, objects[:2])
    err = inside("export", form, "-o", "o", input=herd, check=1).err
    assert "does not tell the class of instance 3" in err
    Path("a.instances.png").write_bytes(b"no picture")
    assert "a.instances.png" in inside("export", form, "-o", "o", input=herd, check=1).err


def test_ids_of_instances_are_no_class_numbers(herd: list[dict[str, Any]], inside: Run) -> None:
    for record in herd:
        record["mask"] = record["pseudo"]
    for command in (("eval",), ("crf", "-o", "o"), ("export", "voc", "-o", "o")):
        done = inside(*command, "--key", "instances", input=herd, check=1)
        assert "a.instances.png: an instance map, whose numbers are no classes" in done.err


def test_instances_are_those_of_pseudo(herd: list[dict[str, Any]], inside: Run) -> None:
    """Another label map has none of them; and those of VOC itself tell no classes."""
    herd[0]["pred"] = herd[1]["pred"] = "b.png"
    done = inside("export", "coco", "--key", "pred", "-o", "x.json", input=herd, check=0)
    assert done.records == herd
    ids, _ = files.read_instance_map("a.instances.png")
    files.write_label_map("a.instances.png", ids)
    inside("export", "coco", "-o", "y.json", input=herd, check=0)
    assert len(json.loads(Path("y.json").read_text())["annotations"]) == 3
