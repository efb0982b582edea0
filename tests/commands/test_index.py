"""index as a process: records alone on stdout, every complaint in one line on stderr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from wsss_cli import files, records
from wsss_cli.datasets.toy import CLASSES


@pytest.fixture
def toy(workdir: Path, toy_root: Path) -> Path:
    """The toy set, under a name with a space below the working directory."""
    (workdir / "toy set").symlink_to(toy_root)
    return Path("toy set")


@pytest.fixture
def photos(workdir: Path) -> Path:
    for name in ("cat/a 1.jpg", "cat/b.jpg", "dog/é.jpg"):
        (workdir / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2)).save(workdir / "photos" / name)
    return Path("photos")


def test_voc_records_have_what_they_name(run: Run, toy: Path) -> None:
    done = run("index", "voc", toy, "--saliency", "Saliency", check=0)
    assert done.err == "wsss index voc: 24 records\n"
    assert len(done.records) == 24
    for line, record in zip(done.out.splitlines(), done.records, strict=True):
        assert records.parse(line) == record
        assert list(record) == ["id", "image", "labels", "mask", "saliency"]
        assert set(record["labels"]) <= set(CLASSES)
        assert all(os.path.isfile(record[key]) for key in ("image", "mask", "saliency"))
    first = done.records[0]
    assert first["id"] == "train_00000"
    assert first["image"] == "toy set/JPEGImages/train_00000.jpg"


def test_labels_from_masks_are_those_of_the_annotations(run: Run, toy: Path) -> None:
    annotated = run("index", "voc", toy, "--split", "val", "-q", check=0)
    assert annotated.err == ""
    masks = run(
        "index",
        "voc",
        toy,
        "--split",
        "val",
        "--labels-from",
        "masks",
        "--classes",
        toy / "classes.txt",
        check=0,
    )
    for a, b in zip(annotated.records, masks.records, strict=True):
        assert sorted(a["labels"]) == sorted(b["labels"])
    none = run("index", "voc", toy, "--split", "val", "--labels-from", "none", check=0)
    assert not any("labels" in record for record in none.records)


def test_voc_says_what_it_leaves_out(run: Run, toy: Path) -> None:
    Path("list.txt").write_text("train_00003\nmissing\n../x\nval_00001\n")
    done = run("index", "voc", toy, "--split", "list.txt", check=1)
    assert [record["id"] for record in done.records] == ["train_00003", "val_00001"]
    assert done.err.splitlines() == [
        "wsss index voc: missing: no such image: toy set/JPEGImages/missing.jpg",
        "wsss index voc: ../x: unsafe id \"../x\": no empty part, '.' or '..' allowed",
        "wsss index voc: 2 records, 2 failed",
    ]
    strict = run("index", "voc", toy, "--split", "list.txt", "--strict", check=1)
    assert [record["id"] for record in strict.records] == ["train_00003"]
    assert strict.err.splitlines() == [
        "wsss index voc: missing: no such image: toy set/JPEGImages/missing.jpg",
        "wsss index voc: stopped at the first failure (--strict)",
    ]


def test_a_share_marked_strong(run: Run, toy: Path) -> None:
    def strong(*args: str) -> tuple[set[str], str]:
        done = run("index", "voc", toy, *args, check=0)
        assert [list(record)[-1] for record in done.records] == ["strong"] * 24
        assert all(records.parse(line) for line in done.out.splitlines())
        return {record["id"] for record in done.records if record["strong"]}, done.err

    quarter, said = strong("--strong", "1/4", "--seed", "0")
    assert len(quarter) == 6
    assert said.splitlines()[0] == "wsss index voc: 6 of 24 records marked strong"
    eighth, _ = strong("--strong", "0.125")
    assert len(eighth) == 3
    assert eighth < quarter
    assert strong("--strong", "1/4", "--seed", "1")[0] != quarter
    again = run(
        "index",
        "folder",
        toy / "JPEGImages",
        "--unlabelled",
        "--masks",
        str(toy / "SegmentationClass"),
        "--strong",
        "1/4",
        check=0,
    )
    assert {record["id"] for record in again.records if record["strong"]}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--seed", "1"), "--seed is only for --strong"),
        (("--strong", "0"), "'0': a share such as 0.1 or 1/16, at most 1"),
        (("--strong", "1/0"), "'1/0': a share such as 0.1 or 1/16, at most 1"),
        (("--strong", "1.5"), "'1.5': a share such as 0.1 or 1/16, at most 1"),
        (("--strong", "few"), "'few': a share such as 0.1 or 1/16, at most 1"),
    ],
)
def test_shares_that_mean_nothing(run: Run, toy: Path, args: tuple[str, ...], said: str) -> None:
    done = run("index", "voc", toy, *args, check=2)
    assert said in done.err
    assert done.err.count("\n") == 1


def test_no_masks_to_mark(run: Run, photos: Path) -> None:
    done = run("index", "folder", photos, "--strong", "0.1", check=2)
    assert done.err == "wsss index folder: --strong: no record has a true mask to learn from\n"
    assert done.out == ""


def test_part_of_the_classes(run: Run, toy: Path) -> None:
    whole = run("index", "voc", toy, check=0).records
    chosen, other = CLASSES[0], CLASSES[1]
    done = run("index", "voc", toy, "--only", f"{chosen}, {other}", check=0)
    wanted = [
        {**record, "labels": kept}
        for record in whole
        if (kept := [name for name in record["labels"] if name in (chosen, other)])
    ]
    assert done.records == wanted
    assert 0 < len(wanted) < len(whole)
    assert f"{24 - len(wanted)} photographs show other classes alone; left out" in done.err
    assert "the masks still hold all classes; pipe into 'wsss relabel" in done.err
    dropped = run("index", "voc", toy, "--drop", ",".join(CLASSES[2:]), "-q", check=0)
    assert dropped.out == done.out
    assert "the masks still hold all classes" in dropped.err  # a warning
    marked = run("index", "voc", toy, "--only", chosen, "--strong", "1/2", check=0).records
    assert abs(sum(record["strong"] for record in marked) - len(marked) / 2) < 1
    named = run("index", "voc", toy, "--only", chosen, "--classes", toy / "classes.txt", check=2)
    assert "--classes is only for --labels-from masks and --check" in named.err


def test_masks_of_a_part_are_made_by_what_the_message_says(shell: Run, toy: Path) -> None:
    call = f"index voc '{toy}' --labels-from masks --classes '{toy}/classes.txt' --only"
    name = CLASSES[2]
    told = shell(f"wsss {call} {name}", check=0).err
    lines = told.splitlines()[1].split("FILE with the lines: ")[1].split(", ")
    assert f"3 {name}" in lines
    Path("values.txt").write_text("\n".join(lines))
    done = shell(f"wsss {call} {name} -q | wsss relabel --values values.txt -o part -q", check=0)
    assert done.records
    for record in done.records:
        whole = files.read_label_map(toy / "SegmentationClass" / f"{record['id']}.png")
        part = np.where(whole == 255, 255, whole == 3)
        np.testing.assert_array_equal(files.read_label_map(record["mask"]), part)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--only", "cat", "--drop", "dog"), "--only and --drop: give one of them"),
        (("--only", " , "), "names of classes, separated by commas"),
        (("--only", "cat", "--unlabelled"), "--only is for records with labels"),
        (("--drop", "cat", "--cams", "."), "--drop and --cams: maps are those of all labels"),
        (("--only", "cat", "--check", "--classes", "voc"), "--check compares all classes"),
        (("--only", "cot"), "--only: no class 'cot'; did you mean cat?"),
    ],
)
def test_parts_that_mean_nothing(run: Run, photos: Path, args: tuple[str, ...], said: str) -> None:
    done = run("index", "folder", photos, *args, check=2)
    assert said in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--labels-from", "masks"), "--labels-from masks needs the list of their classes"),
        (
            ("--labels-from", "masks", "--classes", "voc", "--unlabelled"),
            "--unlabelled is only for labels of names, not of masks",
        ),
        (("--label-names", "a,b"), "--label-names is only for --csv"),
        (("--csv", "x", "--label-names", "a,a"), "a name is empty or stands there twice"),
        (("--csv", "x", "--label-names", "gone.txt"), "neither names separated by commas nor"),
    ],
)
def test_sources_of_labels_that_do_not_fit(
    run: Run, photos: Path, args: tuple[str, ...], said: str
) -> None:
    done = run("index", "folder", photos, *args, check=2)
    assert said in done.err
    assert done.err.count("\n") == 1


def test_names_of_numbers_from_a_file(run: Run, photos: Path) -> None:
    Path("names.txt").write_text("background\nbig cat\n")  # all count, in their order
    (photos / "metadata.csv").write_text("file_name,label\ncat/b.jpg,1\ndog/é.jpg,0\n")
    call = ("index", "folder", photos, "--csv", "metadata.csv", "--label-names", "names.txt")
    done = run(*call, check=0)
    assert [record["labels"] for record in done.records] == [["big cat"], ["background"]]


def test_records_of_maps_that_are_there(run: Run, workdir: Path) -> None:
    """`index --cams` of each layout, into the tools that read them."""
    for folder in ("VOC/JPEGImages", "VOC/ImageSets/Segmentation", "VOC/SegmentationClass", "cams"):
        Path(folder).mkdir(parents=True)
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 3:6] = 8
    for name in ("a", "b"):
        Image.new("RGB", (8, 6)).save(f"VOC/JPEGImages/{name}.jpg")
        files.write_label_map(f"VOC/SegmentationClass/{name}.png", mask)
    Path("VOC/ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 1, "name": "x"}]}
    Path("a.json").write_text(json.dumps(content))
    np.save("cams/a.npy", {7: (mask > 0).astype(np.float32)})  # type: ignore[arg-type]
    calls = {
        "voc": ("VOC",),
        "folder": ("VOC/JPEGImages", "--unlabelled"),
        "coco": ("a.json", "--images", "VOC/JPEGImages"),
    }
    for layout, call in calls.items():
        done = run("index", layout, *call, "--cams", "cams", check=0)
        assert [record.get("cam") for record in done.records][:1] == ["cams/a.npy"]
        told = f"wsss index {layout}: 1 of 2 records have no cam: no such file in cams"
        assert (told in done.err) == (layout != "coco")
    done = run("index", "voc", "VOC", "--cams", "cams", "-q", check=0)
    found = run("eval", "--key", "cam", "--classes", "voc", input=done.records[:1], check=0)
    assert next(line for line in found.out.splitlines() if "cat" in line).split()[1] == "100.00"
    files.write_maps("cams/a.npz", np.ones((0, 2, 2)), [], (6, 8), {})
    done = run("index", "voc", "VOC", "--cams", "cams", check=1)
    assert "wsss index voc: a: cams/a.npz or cams/a.npy? move one of them away" in done.err


def test_saliency_asked_for_in_vain(run: Run, toy: Path) -> None:
    done = run("index", "voc", toy, "--saliency", "JPEGImages", check=0)
    assert done.err.splitlines() == [
        "wsss index voc: 24 of 24 records have no saliency: no such file in JPEGImages",
        "wsss index voc: 24 records",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("voc", "toy set", "--split", "trian"),
            "wsss index voc: no split 'trian' in toy set/ImageSets/Segmentation; "
            "there are train, val",
        ),
        (
            ("voc", "nothing"),
            "wsss index voc: Invalid value for 'ROOT': Directory 'nothing' does not exist. "
            "('wsss index voc --help' lists the options)",
        ),
        (
            ("voc", "toy set/ImageSets"),
            "wsss index voc: toy set/ImageSets: no folder JPEGImages in it; "
            "'wsss index folder' takes any folder",
        ),
        (("voc", "."), "wsss index voc: .: no folder JPEGImages in it; did you mean toy set?"),
        (
            ("voc", "toy set", "--classes", "voc"),
            "wsss index voc: --classes is only for --labels-from masks and --check "
            "('wsss index voc --help' lists the options)",
        ),
        (
            ("voc", "toy set", "--labels-from", "masks", "--classes", "vox"),
            "wsss index voc: --classes vox: not voc, coco or a readable text file with one class "
            "name a line",
        ),
        (
            ("voc",),
            "wsss index voc: Missing argument 'ROOT'. ('wsss index voc --help' lists the options)",
        ),
        (
            ("folder", "toy set", "--csv", "a.csv", "--unlabelled"),
            "wsss index folder: --csv gives labels and --unlabelled none: choose one "
            "('wsss index folder --help' lists the options)",
        ),
        (
            ("folder", "toy set", "--csv", "a.csv"),
            "wsss index folder: --csv a.csv: no such file, neither here nor in toy set",
        ),
        ((), "wsss index: Missing command. ('wsss index --help' lists the options)"),
    ],
)
def test_wrong_usage(run: Run, toy: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run("index", *arguments, check=2)
    assert done.err == message + "\n"
    assert done.out == ""


def test_folder(run: Run, photos: Path) -> None:
    done = run("index", "folder", photos, check=0)
    assert done.out == (
        '{"id": "cat/a 1", "image": "photos/cat/a 1.jpg", "labels": ["cat"]}\n'
        '{"id": "cat/b", "image": "photos/cat/b.jpg", "labels": ["cat"]}\n'
        '{"id": "dog/é", "image": "photos/dog/é.jpg", "labels": ["dog"]}\n'
    )
    assert done.err == "wsss index folder: 3 records\n"


def test_folder_with_a_table(run: Run, photos: Path) -> None:
    Path("t.csv").write_text("file,labels\ndog/é.jpg,dog person\ncat/b.jpg,\nx.jpg,cat\n")
    done = run("index", "folder", photos, "--csv", "t.csv", "--masks", "photos", check=1)
    assert [(record["id"], record["labels"]) for record in done.records] == [
        ("dog/é", ["dog", "person"]),
        ("cat/b", []),
    ]
    assert done.err.splitlines() == [
        "wsss index folder: t.csv:4: no such image: photos/x.jpg",
        "wsss index folder: 2 of 2 records have no mask: no such file in photos",
        "wsss index folder: 2 records, 1 failed",
    ]


def test_a_complaint_is_one_line(run: Run, photos: Path) -> None:
    (photos / "cat/two\nlines.jpg").write_bytes(b"")
    Path(os.fsdecode(b"photos/cat/\xff.jpg")).write_bytes(b"")
    done = run("index", "folder", photos, "-q", check=1)
    assert len(done.records) == 3
    assert done.err.splitlines() == [
        'wsss index folder: cat/two\\nlines.jpg: unsafe id "cat/two\\nlines": control or broken '
        "characters",
        'wsss index folder: cat/\\udcff.jpg: unsafe id "cat/\\udcff": control or broken characters',
    ]


def test_settings_from_file_and_environment(run: Run, toy: Path) -> None:
    Path("wsss.toml").write_text('[index.voc]\nsplit = "val"\n')
    assert len(run("index", "voc", toy, check=0).records) == 8
    environment = {**os.environ, "WSSS_INDEX_VOC_SPLIT": "train"}
    assert len(run("index", "voc", toy, check=0, env=environment).records) == 24
    Path("wsss.toml").write_text('[index.voc]\nspilt = "val"\n')
    done = run("index", "voc", toy, check=2)
    assert "has no option 'spilt'; did you mean split?" in done.err


def test_a_closed_pipe_ends_it_quietly(shell: Run, toy: Path) -> None:
    Path("long.txt").write_text("train_00000\n" * 50_000)
    done = shell(
        'wsss index voc "toy set" --split long.txt | head -1; echo ${PIPESTATUS[0]}', check=0
    )
    first, code = done.out.splitlines()
    assert first.startswith('{"id": "train_00000"')
    assert code == "0"
    assert done.err == ""


def test_records_flow_before_the_list_ends(workdir: Path, toy: Path) -> None:
    command = [sys.executable, "-m", "wsss_cli", "index", "voc", str(toy), "--split", "/dev/stdin"]
    streams = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    with subprocess.Popen(command, **streams) as process:  # type: ignore[call-overload]
        for number in range(3):
            process.stdin.write(f"train_{number:05d}\n".encode())
            process.stdin.flush()
            assert records.parse(process.stdout.readline())["id"] == f"train_{number:05d}"
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait() == 0


def test_a_list_or_table_that_the_shell_makes(shell: Run, toy: Path) -> None:
    listed = shell("wsss index voc 'toy set' --split <(echo train_00001)", check=0)
    assert [record["id"] for record in listed.records] == ["train_00001"]
    table = "wsss index folder 'toy set/JPEGImages' --csv <(echo train_00001.jpg,dog)"
    assert [record["labels"] for record in shell(table, check=0).records] == [["dog"]]


@pytest.mark.parametrize("kind", ["pipe", "device", "long line"])
def test_a_list_or_table_that_never_ends_is_refused(kind: str, run: Run, toy: Path) -> None:
    """A pipe without a writer was waited for, a line of zeros took all memory."""
    name, problem = "list", "not a regular file, but a folder, a pipe or a device"
    if kind == "pipe":
        os.mkfifo("list")
    elif kind == "device":
        name = "/dev/zero"
    else:
        problem = "a line of more than 1,048,576 characters; it is no list"
        Path("list").touch()
        os.truncate("list", 1 << 40)
    for tool, option in (("voc", "--split"), ("folder", "--csv")):
        refused = run("index", tool, toy, option, name, check=2)
        assert refused.err == f"wsss index {tool}: cannot read {name}: {problem}\n"
        assert refused.out == ""
    if kind == "pipe":
        Path("wsss.toml").write_text('[index.voc]\nsplit = "list"\n')
        assert f"cannot read list: {problem}" in run("index", "voc", toy, check=2).err


def test_no_torch_and_no_needless_imports(workdir: Path, toy: Path) -> None:
    code = (
        "import sys; from wsss_cli.cli import cli\n"
        "try: cli(['index', 'voc', 'toy set'])\n"
        "except SystemExit: assert 'torch' not in sys.modules; print(sys.modules.get('scipy'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("None\n")


def test_check_names_labels_and_masks_that_disagree(run: Run) -> None:
    from wsss_cli import files

    Path("photos/cat").mkdir(parents=True)
    Path("photos/dog").mkdir()
    Path("masks/cat").mkdir(parents=True)
    Path("masks/dog").mkdir()
    Path("classes.txt").write_text("cat\ndog\n")
    for name, number in (("cat/a", 1), ("cat/b", 2), ("dog/c", 0), ("dog/d", 7), ("dog/e", None)):
        Image.new("RGB", (4, 4)).save(f"photos/{name}.jpg")
        if number is not None:
            labels = np.full((4, 4), number, np.uint8)
            labels[0] = 255
            files.write_label_map(f"masks/{name}.png", labels)
    command = ("index", "folder", "photos", "--masks", "masks")
    plain = run(*command, check=0)
    result = run(*command, "--check", "--classes", "classes.txt", check=1)
    assert result.out == plain.out
    assert result.err.splitlines()[:4] == [
        "wsss index folder: cat/b: labels without a pixel in the mask: cat; "
        "classes in the mask without a label: dog",
        "wsss index folder: dog/c: labels without a pixel in the mask: dog",
        "wsss index folder: dog/d: labels without a pixel in the mask: dog; "
        "classes in the mask without a label: class number 7",
        "wsss index folder: 1 of 5 records have no mask: no such file in masks",
    ]
    assert "labels and mask disagree in 3 of 5 records\n" in result.err
    assert "give --classes" in run(*command, "--check", check=2).err
    assert "--classes is only for --check" in run(*command, "--classes", "voc", check=2).err


# ---- coco ----


@pytest.fixture
def coco(photos: Path) -> Path:
    """Two of three photographs annotated, one with an outline."""
    data = {
        "images": [
            {"id": number, "file_name": name, "width": 3, "height": 2}
            for number, name in enumerate(("cat/a 1.jpg", "cat/b.jpg", "dog/é.jpg"))
        ],
        "annotations": [
            {
                "image_id": 0,
                "category_id": 5,
                "segmentation": {"counts": [2, 2, 2], "size": [2, 3]},
            },
            {"image_id": 2, "category_id": 2, "segmentation": []},
        ],
        "categories": [{"id": 5, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    Path("a.json").write_text(json.dumps(data))
    return Path("a.json")


def test_coco_labels_and_classes(run: Run, coco: Path) -> None:
    done = run("index", "coco", coco, "--images", "photos", check=0)
    assert done.err == "wsss index coco: 3 records\n"
    assert [record["labels"] for record in done.records] == [["cat"], [], ["dog"]]
    assert done.records[2]["image"] == "photos/dog/é.jpg"
    assert run("index", "coco", coco, "--list-classes", check=0).out == "dog\ncat\n"
    assert {path.name for path in Path().iterdir()} == {"photos", "a.json"}


def test_coco_masks_are_measured_by_the_names_in_them(run: Run, coco: Path) -> None:
    done = run("index", "coco", coco, "--images", "photos", "--masks", "masks", check=1)
    assert done.err.splitlines() == [
        "wsss index coco: dog/é.jpg: a 'dog' has no outline, only a box perhaps, which is no mask",
        "wsss index coco: 2 records, 1 failed",
    ]
    np.testing.assert_array_equal(Image.open("masks/cat/a 1.png"), [[0, 2, 0], [0, 2, 0]])
    measured = run("eval", "--key", "mask", input=done.out, check=0)
    assert "cat" in measured.out
    again = run("index", "coco", coco, "--images", "photos", "--masks", "masks", check=1)
    assert again.out == done.out


def test_coco_without_a_folder_of_images(run: Run, coco: Path) -> None:
    assert "--images is missing" in run("index", "coco", coco, check=2).err
    lost = run("index", "coco", coco, "--images", "lost", check=2)
    assert lost.err == "wsss index coco: --images lost: no such folder\n"
    alone = run("index", "coco", coco, "--images", "photos", "--segments", "photos", check=2)
    assert "--segments" in alone.err
    assert run("index", "coco", "photos/cat/b.jpg", "--images", "photos", check=2).out == ""


def test_labels_from_masks_are_not_read_by_other_names(run: Run, toy: Path) -> None:
    given = ("index", "voc", toy, "--split", "val", "--labels-from", "masks")
    own = run(*given, "--classes", toy / "classes.txt", check=0).records
    Path("masks").mkdir()
    lists = Path("set/ImageSets/Segmentation")
    lists.mkdir(parents=True)
    Path("set/JPEGImages").symlink_to(Path(own[0]["image"]).parent.resolve())
    Path("set/SegmentationClass").mkdir()
    (lists / "val.txt").write_text(own[0]["id"] + "\n")
    labels = files.read_label_map(own[0]["mask"])
    meta = files.provenance("t", {}, classes=list(CLASSES))
    files.write_label_map(f"set/SegmentationClass/{own[0]['id']}.png", labels, meta)
    done = run("index", "voc", "set", "--split", "val", "--labels-from", "masks", check=1)
    assert done.records == []
    assert f"class number 1 is '{CLASSES[0]}' in this file, but 'aeroplane' in" in done.err
