"""``wsss masks``: the whole chain on small photographs, trained for two steps."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run
from wsss_cli import files

QUICK = """
import sys
from dataclasses import replace
from wsss_cli.recipes import masks
def quick(way):
    steps = ("--steps", "2", "--batch-size", "2", "--crop", "64", "--device", "cpu")
    frozen = ("--freeze-until", "head") if "head" in way.trainer else ()
    trainer = (way.trainer[0], *steps, *frozen)
    return replace(way, trainer=trainer, maps=("--scales", "1"), network=steps)
masks._BY_LABELS = tuple(map(quick, masks._BY_LABELS))
masks._BY_SALIENCY = tuple(map(quick, masks._BY_SALIENCY))
from wsss_cli.__main__ import main
sys.argv[0] = "/bin/wsss"
main()
"""


def start(*args: str) -> subprocess.Popen[str]:
    """``wsss masks`` with short trainings."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", QUICK, "masks", *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def masks(*args: str, code: int = 0) -> tuple[str, str]:
    process = start(*args)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return out, err


@pytest.fixture
def photos(workdir: Path) -> Path:
    """Four photographs in two sub-folders, with names that need quoting."""
    rng = np.random.default_rng(0)
    folder = workdir / "my phötos"
    for number in range(4):
        path = folder / ["cat", "traffic light"][number % 2] / f"{number} é.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path)
    return folder


def made() -> dict[Path, int]:
    kept = [path for path in Path("out").rglob("*") if path.suffix in (".pt", ".npz", ".png")]
    return {path: path.stat().st_mtime_ns for path in kept}


def test_photographs_become_masks_and_a_second_run_computes_nothing(photos: Path) -> None:
    out, err = masks(photos.name, "--saliency-model", "none")
    records = [json.loads(line) for line in Path("out/masks.jsonl").read_text().splitlines()]
    assert [record["labels"] for record in records] == [["cat"]] * 2 + [["traffic light"]] * 2
    for record in records:
        labels = files.read_label_map(record["pseudo"], (48, 64))
        assert set(np.unique(labels)) <= {0, 1 + (record["labels"] != ["cat"])}
    assert Path("out/classes.txt").read_text() == "cat\ntraffic light\n"
    assert "wsss masks: 4 masks of 4 photographs in out/masks" in err
    assert "4 photographs: 2 cat, 2 traffic light" in out
    assert Path("out/report.html").stat().st_size > 10_000
    before = made()
    assert len([path for path in before if path.parent.parent == Path("out/masks")]) == 4
    again, _ = masks(photos.name, "--saliency-model", "none")
    assert again == out
    assert made() == before


def test_what_is_printed_is_a_script_that_does_the_same(photos: Path, shell: Run) -> None:
    out, _ = masks(photos.name, "--saliency-model", "none", "--device", "cpu")
    dry, err = masks(photos.name, "--saliency-model", "none", "--device", "cpu", "--dry-run")
    assert dry == out
    assert err == ""
    before = {path: path.read_bytes() for path in Path("out/masks").rglob("*.png")}
    assert len(before) == 4
    Path("out").rename("first")
    shell(out.replace("/bin/wsss", "wsss"), check=0)
    assert {path: path.read_bytes() for path in before} == before


def test_a_dry_run_names_what_would_be_left_out(photos: Path) -> None:
    rows = "cat/0 é.jpg,cat\ntraffic light/1 é.jpg,light\nlost.jpg,cat\n"
    Path("t.csv").write_text(rows)
    dry, err = masks(photos.name, "--csv", "t.csv", "--saliency-model", "none", "--dry-run")
    assert "# 2 photographs: 1 cat, 1 light" in dry
    named = [line for line in err.splitlines() if "lost.jpg" in line]
    assert len(named) == 1
    assert named[0].startswith("wsss masks: ")


def test_classes_that_differ_in_capitals_are_named(photos: Path) -> None:
    Path("t.csv").write_text("cat/0 é.jpg,cat\ntraffic light/1 é.jpg,Cat\n")
    _, err = masks(photos.name, "--csv", "t.csv", "--saliency-model", "none", "--dry-run")
    assert "'Cat' and 'cat' are two classes; name them alike if not" in err


ALONE = ("--saliency-model", "none")


def test_nothing_is_written_over_what_is_not_from_masks(photos: Path, run: Run) -> None:
    listed = run("index", "folder", photos.name, check=0).out
    Path("out").mkdir()
    Path("out/photos.jsonl").write_text(listed + '{"id": "x", "image": "x.jpg"}\n')
    before = Path("out/photos.jsonl").read_bytes()
    _, err = masks("out/photos.jsonl", *ALONE, code=2)
    assert "out/photos.jsonl: out/photos.jsonl is to be written there; give another" in err
    _, err = masks("out/photos.jsonl", *ALONE, "--dry-run", code=2)
    assert "is to be written there" in err
    _, err = masks(photos.name, *ALONE, code=2)
    assert "out/photos.jsonl: is there, and not from 'wsss masks'; give another folder" in err
    assert [path.name for path in Path("out").iterdir()] == ["photos.jsonl"]
    assert Path("out/photos.jsonl").read_bytes() == before
    photos.rename("cam")
    _, err = masks("cam", *ALONE, "-o", ".", code=2)
    assert "wsss masks: cam: cam is to be written there; give another folder with -o\n" in err
    assert not Path("classifier.pt").exists()


def test_records_are_labelled_however_their_json_is_spaced(photos: Path, run: Run) -> None:
    lines = run("index", "folder", photos.name, check=0).out.splitlines()
    lines[0] = lines[0].replace('"labels": [', '"labels"  :[')
    lines += ['{"id": "n", "image": "n.jpg", "labels": null}']
    lines += ['{"id": "m", "image": "n.jpg", "meta": {"labels": ["cat"]}}']
    Path("in.jsonl").write_text("\n".join(lines) + "\n")
    masks("in.jsonl", *ALONE)
    lines += ['{"id": "o", "ima']
    Path("in.jsonl").write_text("\n".join(lines) + "\n")
    _, err = masks("in.jsonl", *ALONE, code=1)
    assert "wsss masks: in.jsonl:7: not a JSON object" in err
    assert "wsss masks: 4 masks of 4 photographs in out/masks\n" in err
    lines += [r'{"id": "p", "image": "\udcff.jpg", "labels": ["cat"]}']
    Path("in.jsonl").write_text("\n".join(lines) + "\n")
    _, err = masks("in.jsonl", *ALONE, code=1)  # the training would refuse it
    assert r"wsss masks: p: \udcff.jpg: No such file" in err
    assert "wsss masks: 4 masks of 4 photographs in out/masks\n" in err


def test_masks_of_photographs_that_are_gone_are_named(photos: Path) -> None:
    masks(photos.name, *ALONE)
    (photos / "cat" / "0 é.jpg").rename(photos / "traffic light" / "0 é.jpg")
    (photos / "traffic light" / "3 é.jpg").unlink()
    _, err = masks(photos.name, *ALONE, code=1)
    assert (
        "of no photograph any more, or of an earlier name, and not in the records: "
        "out/masks/cat/0 é.png, out/masks/traffic light/3 é.png; remove them"
    ) in err
    Path("out/masks/cat/0 é.png").unlink()
    Path("out/masks/traffic light/3 é.png").unlink()
    masks(photos.name, *ALONE)


def test_the_reader_of_the_commands_may_leave_and_own_modules_are_not_run(photos: Path) -> None:
    Path("random.py").write_text("raise SystemExit('the script of the user ran')\n")
    process = start(photos.name, *ALONE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(timeout=120) == 0, err
    assert "4 masks of 4 photographs" in err


def test_names_that_look_like_options(photos: Path, shell: Run) -> None:
    photos.rename("-ph")
    dry = shell("wsss masks --dry-run --saliency-model none -o -out -- -ph", check=0).out
    assert "index folder ./-ph " in dry
    assert "mkdir -p ./-out\n" in dry
    assert " -out/" not in dry


def test_a_folder_that_cannot_be_made(photos: Path) -> None:
    Path("file").touch()
    _, err = masks(photos.name, *ALONE, "-o", "file/out", code=2)
    assert err.endswith(
        "wsss masks: file/out: cannot be written to: Not a directory; give another -o\n"
    )


def test_saliency_tells_objects_from_background(photos: Path, run: Run) -> None:
    listed = run("index", "folder", photos.name, check=0).records
    for record in listed:
        record["saliency"] = f"{record['id'].replace('/', ' ')}.png"
        grey = np.zeros((48, 64), np.uint8)
        grey[:, :32] = 255
        Image.fromarray(grey).save(record["saliency"])
    Path("photos.jsonl").write_text("".join(json.dumps(record) + "\n" for record in listed))
    masks("photos.jsonl")
    for line in Path("out/masks.jsonl").read_text().splitlines():
        record = json.loads(line)
        labels = files.read_label_map(record["pseudo"], (48, 64))
        assert (labels[:, :24] == 1 + (record["labels"] != ["cat"])).all()
        assert not labels[:, 40:].any()


def test_the_network_predicts_photographs_without_labels_too(photos: Path) -> None:
    Image.new("RGB", (64, 48)).save(photos / "loose.png")
    masks(photos.name, "--saliency-model", "none", "--network")
    predicted = [json.loads(line) for line in Path("out/predicted.jsonl").read_text().splitlines()]
    assert len(predicted) == 5
    assert [record["id"] for record in predicted if "labels" not in record] == ["loose"]
    assert all(Path(record["pred"]).exists() for record in predicted)
    assert len(Path("out/masks.jsonl").read_text().splitlines()) == 4


def test_bad_photographs_are_named_and_the_others_get_masks(photos: Path) -> None:
    (photos / "cat/broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (photos / "cat/raw.heic").touch()
    (photos / "dog").mkdir()
    (photos / "dog/copy.jpg").write_bytes((photos / "cat/0 é.jpg").read_bytes())
    _, err = masks(photos.name, "--saliency-model", "none", code=1)
    assert "cat/broken" in err
    assert "1 .heic (cat/raw.heic)" in err
    assert "wsss masks: 4 masks of 5 photographs in out/masks\n" in err
    assert "wsss masks: without a mask, for the reasons above: cat/broken\n" in err
    assert "wsss masks: dog: only one photograph; add some\n" in err
    records = [json.loads(line) for line in Path("out/masks.jsonl").read_text().splitlines()]
    assert {record["id"]: record["labels"] for record in records}["cat/0 é"] == ["cat", "dog"]
    assert len(records) == 4
    before = made()
    _, err = masks(photos.name, "--saliency-model", "none", code=1)
    assert "wsss masks: 4 masks of 5 photographs in out/masks\n" in err
    assert made() == before


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["my phötos"], "saliency needs onnxruntime: pip install onnxruntime"),
        (["my phötos", "-o", "my phötos/out"], "would be taken for photographs"),
        (["my phötos", "-o", "my phötos"], "would be taken for photographs"),
        (["my phötos/cat"], "no sub-folders that could be labels"),
        (["empty"], "no sub-folders that could be labels"),
        (["one"], "all photographs show cat: nothing to tell apart"),
        (["nowhere"], "'nowhere' does not exist"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    photos: Path, args: list[str], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("empty").mkdir()
    Path("one/cat").mkdir(parents=True)
    Image.new("RGB", (64, 48)).save("one/cat/a.png")
    if args == ["my phötos"]:
        Path("hiding").mkdir()
        Path("hiding/sitecustomize.py").write_text("import sys; sys.modules['onnxruntime'] = None")
        monkeypatch.setenv("PYTHONPATH", "hiding", prepend=os.pathsep)
    else:
        args = [*args, "--saliency-model", "none"]
    _, err = masks(*args, code=2)
    assert problem in err
    assert err.count("\n") == 1
    assert not Path("out").exists()


def test_a_step_that_fails_is_named_and_what_to_do(photos: Path) -> None:
    Path("net.onnx").write_bytes(b"no network")
    masks(photos.name, "--saliency-model", "none")
    before = made()
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        _, err = masks(photos.name, "--saliency-model", "net.onnx", code=2)
        assert "saliency needs onnxruntime" in err
    else:
        _, err = masks(photos.name, "--saliency-model", "net.onnx", code=2)
        assert "net.onnx" in err
        assert "wsss masks: saliency failed (exit code 2); if that is its network, --sal" in err
    assert made() == before


def test_a_training_that_fails_does_not_go_on_with_an_earlier_classifier(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks(photos.name, *ALONE)
    before = made()
    monkeypatch.setenv("WSSS_TRAIN_CAM_IMAGE_KEY", "picture")
    _, err = masks(photos.name, *ALONE, code=1)
    assert "nothing was trained" in err
    assert "wsss masks: train-cam failed (exit code 1)" in err
    assert "masks of" not in err
    assert made() == before


BROKEN = '{"id": broken'
ABSENT = '{"id": "b.(c)", "image": "gone.jpg", "labels": ["cat"]}'


@pytest.mark.parametrize(
    ("line", "problem"),
    [(BROKEN, "records.jsonl:2: not a JSON object"), (ABSENT, "b.(c): gone.jpg: No such file")],
)
def test_records_that_a_training_would_refuse_are_named_and_left_out(
    photos: Path, shell: Run, line: str, problem: str
) -> None:
    listed = shell(f"wsss index folder '{photos.name}'", check=0).out.splitlines(keepends=True)
    Path("records.jsonl").write_text("".join([listed[0], line + "\n", *listed[1:]]))
    out, err = masks("records.jsonl", *ALONE, code=1)
    assert f"wsss masks: {problem}" in err
    assert err.count(problem) == 1
    assert "wsss masks: 4 masks of 4 photographs in out/masks\n" in err
    kept = Path("out/photos.jsonl").read_text()
    assert kept == "".join(listed)
    _, err = masks("records.jsonl", *ALONE, "--dry-run")
    assert f"wsss masks: {problem}" in err
    if line == ABSENT:
        [command] = [line for line in out.splitlines() if line.startswith("grep")]
        shell(command.replace("out/photos.jsonl", "again.jsonl"), check=0)
        assert Path("again.jsonl").read_text() == kept


def test_records_none_of_which_can_be_used_are_refused(photos: Path) -> None:
    Path("records.jsonl").write_text(f"{BROKEN}\n{ABSENT}\n")
    _, err = masks("records.jsonl", *ALONE, code=2)
    assert "records.jsonl: no record that can be used: records.jsonl:1: not a JSON obj" in err
    assert "(and 1 more)" in err
    assert not Path("out").exists()


def test_a_pipe_of_records_is_refused(photos: Path) -> None:
    os.mkfifo("pipe")
    _, err = masks("pipe", *ALONE, code=2)
    assert "pipe: a pipe, which can be read only once; save the records to a file" in err


@pytest.mark.parametrize(
    ("args", "settings", "problem"),
    [
        ([], "[crf]\nfoo = 1\n", "wsss.toml:2: [crf] has no option 'foo'"),
        ([], "[crf]\nthreshold = 'low'\n", "wsss.toml:2: "),
        ([], "[index.folder]\nfoo = 1\n", "wsss.toml:2: [index.folder] has no option 'foo'"),
        (["--device", "cuda:99"], "", "--device cuda:99: "),
        (["--seed", "99999999999999999999"], "", "'--seed'"),
    ],
)
def test_what_a_later_step_would_refuse_is_refused_before_any_work(
    photos: Path, args: list[str], settings: str, problem: str
) -> None:
    Path("wsss.toml").write_text(settings)
    _, err = masks(photos.name, *ALONE, *args, code=2)
    assert problem in err
    assert not Path("out").exists()


def test_a_setting_under_its_former_name_is_no_fault(workdir: Path) -> None:
    for number in range(32):
        path = Path("photos", ["cat", "dog"][number % 2], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    Path("wsss.toml").write_text("[eps-train]\nstrong = true\n")
    out, err = masks("photos", "--dry-run")
    assert " eps-train " in out
    assert "setting strong is called strong_masks now" in err


def test_a_second_run_is_refused_while_the_first_lives_and_goes_on_after_its_end(
    photos: Path,
) -> None:
    first = start(photos.name, "--saliency-model", "none")
    assert first.stdout is not None
    for line in first.stdout:
        if " train-cam " in line:
            break
    _, err = masks(photos.name, "--saliency-model", "none", code=2)
    assert f"another 'wsss masks' works in it (process {first.pid} on " in err
    first.send_signal(signal.SIGTERM)
    _, told = first.communicate(timeout=60)
    assert first.returncode == 143
    assert "wsss masks: interrupted; what is finished is safe" in told
    masks(photos.name, "--saliency-model", "none")


def test_a_killed_run_leaves_its_folder_to_the_next(photos: Path) -> None:
    first = start(photos.name, "--saliency-model", "none")
    assert first.stdout is not None
    for line in first.stdout:
        if " train-cam " in line:
            break
    first.kill()
    first.wait()
    left = Path("out/.wsss-0a1b.tmp")
    left.touch()
    os.utime(left, (time.time() - 120,) * 2)
    deadline = time.monotonic() + 60
    while True:  # the tool that was running ends its step first
        second = start(photos.name, "--saliency-model", "none")
        _, err = second.communicate(timeout=60)
        if second.returncode != 2 or time.monotonic() > deadline:
            break
        assert f"a tool that process {first.pid}, now gone, had started still works in it" in err
        time.sleep(0.2)
    assert second.returncode == 0, err
    assert not left.exists()


def test_progress_is_one_line_for_the_whole(photos: Path, monkeypatch: Any) -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    at_once = "from wsss_cli import terminal\nterminal._FIRST = 0.0\n"
    process = subprocess.Popen(
        [sys.executable, "-c", at_once + QUICK, "masks", photos.name, "--saliency-model", "none"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            shown += os.read(leader, 4096)
        except OSError:
            break
        if not shown and process.poll() is not None:
            break
    assert process.wait() == 0
    text = shown.decode()
    assert re.search(r"masks 3/6 train-cam .*\d+/\d+", text)
    assert "\x1e" not in text
