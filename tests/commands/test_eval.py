"""``wsss eval`` as a process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Run, as_lines
from wsss_cli import files


@pytest.fixture
def measured(workdir: Path) -> list[dict[str, Any]]:
    """Three records whose predictions are 3/4, all and none right."""
    made = []
    meta = files.provenance("predict", {"scales": [1.0]}, checkpoint="abcd", classes=["cat", "dog"])
    truths = [[[1, 1], [0, 0]], [[2, 0], [255, 0]], [[2, 2], [2, 2]]]
    found = [[[1, 0], [0, 0]], [[2, 0], [1, 0]], [[1, 1], [1, 1]]]
    for number, (truth, prediction) in enumerate(zip(truths, found, strict=True)):
        files.write_label_map(f"t {number}.png", np.array(truth, np.uint8))
        files.write_label_map(f"p {number}.png", np.array(prediction, np.uint8), meta)
        made.append({"id": f"{number}", "pred": f"p {number}.png", "mask": f"t {number}.png"})
    return made


def test_table_says_what_was_measured(run: Run, measured: Any) -> None:
    result = run("eval", input=measured, check=0)
    assert result.out.splitlines()[2].split() == ["cat", "16.67", "20.00", "50.00"]
    assert "3 images, 'pred' against 'mask', pixels labelled 255 ignored" in result.out
    assert "made by predict" in result.out
    assert "scales 1, checkpoint abcd" in result.out
    assert "\x1b" not in result.out
    assert result.err == ""


def test_formats_agree(run: Run, measured: Any) -> None:
    data = json.loads(run("eval", "--format", "json", input=measured, check=0).out)
    assert data["images"] == 3
    assert data["classes"]["cat"]["iou"] == pytest.approx(1 / 6, abs=1e-6)
    assert data["classes"]["dog"]["recall"] == pytest.approx(1 / 5)
    assert data["made_by"]["checkpoint"] == "abcd"
    lines = run("eval", "--format", "csv", input=measured, check=0).out.splitlines()
    assert lines[0] == "class,IoU,precision,recall"
    assert float(lines[-1].split(",")[1]) == data["miou"]
    text = run("eval", "--format", "markdown", input=measured, check=0).out
    assert f"| mean | {100 * data['miou']:.2f} |" in text


def test_fail_under(run: Run, measured: Any) -> None:
    assert run("eval", "--fail-under", "0.1", input=measured, check=0).err == ""
    result = run("eval", "--fail-under", "0.9", input=measured, check=1)
    assert result.err.startswith("wsss eval: mIoU 0.3")
    assert "is below --fail-under 0.9" in result.err
    assert "mean" in result.out


def test_failures_are_named_and_the_rest_counts(run: Run, measured: Any) -> None:
    files.write_image("rgb.png", np.zeros((2, 2, 3), np.uint8))
    files.write_label_map("big.png", np.zeros((4, 4), np.uint8))
    files.write_label_map("nine.png", np.full((2, 2), 9, np.uint8))
    for number, name in enumerate(("rgb.png", "big.png", "nine.png", "gone.png")):
        measured.append({"id": f"x{number}", "pred": name, "mask": "t 0.png"})
    result = run("eval", "--format", "json", input=measured, check=1)
    assert json.loads(result.out)["images"] == 3
    assert json.loads(result.out)["failed"] == 4
    lines = result.err.splitlines()
    assert "x0: rgb.png: a label map holds class numbers" in lines[0]
    assert "x1: big.png: label map is 4x4, its image 2x2" in lines[1]
    assert "x2: nine.png against t 0.png: prediction holds class number 9" in lines[2]
    assert "x3: cannot read label map: gone.png: no such file" in lines[3]


def test_nothing_to_measure(run: Run) -> None:
    result = run("eval", input="", check=1)
    assert result.err == "wsss eval: nothing was measured: no record could be read\n"
    assert result.out == ""


def test_per_image_values(run: Run, measured: Any) -> None:
    run("eval", "--per-image", "each.jsonl", input=measured, check=0)
    rows = [json.loads(line) for line in Path("each.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["0", "1", "2"]
    assert rows[0]["iou"] == {"background": pytest.approx(2 / 3, abs=1e-6), "cat": 0.5}
    assert rows[1]["miou"] == 1


def test_merged_shards_equal_the_whole(run: Run, measured: Any) -> None:
    whole = json.loads(run("eval", "--format", "json", input=measured, check=0).out)
    run("eval", "--confusion", "a.json", input=measured[:1], check=0)
    run("eval", "--confusion", "b.json", input=measured[1:], check=0)
    total = run("eval", "--merge", "a.json", "b.json", "--format", "json", check=0)
    assert json.loads(total.out) == whole
    assert "cannot read" in run("eval", "--merge", "p 0.png", check=2).err


def test_merge_finds_the_best_threshold_of_the_whole(run: Run, workdir: Path) -> None:
    """Alone, one shard is best where the other is worst."""
    truth = np.zeros((16, 16), np.uint8)
    truth[:, 8:] = 1
    files.write_label_map("t.png", truth)
    records = []
    for name, (left, right) in {
        "faint": (0.0, 0.3),
        "strong": (0.5, 0.9),
        "both": (0.2, 0.6),
    }.items():
        plane = np.full((1, 4, 4), left)
        plane[:, :, 2:] = right
        files.write_maps(
            f"{name}.npz",
            plane,
            ["cat"],
            (16, 16),
            files.provenance("make-cam", {}, classes=["cat"]),
        )
        records.append({"id": name, "cam": f"{name}.npz", "mask": "t.png"})
    few = ("eval", "--thresholds", "0.1,0.8,0.1", "--format", "json")
    whole = json.loads(run(*few, input=records, check=0).out)
    alone = [
        json.loads(run(*few, "--confusion", f"{n}.json", input=[record], check=0).out)
        for n, record in enumerate(records)
    ]
    total = run("eval", "--merge", "0.json", "1.json", "2.json", "--format", "json", check=0)
    assert json.loads(total.out) == whole
    assert whole["threshold"] not in {part["threshold"] for part in alone[:2]}
    done = run("eval", "--merge", "0.json", "--confusion", "again.json", check=0)
    assert "best of 8 thresholds: 0.1" in done.out
    assert Path("again.json").read_text() == Path("0.json").read_text()
    for option in ("--key=cam", "--threshold=0.3", "--ignore=7", "--per-image=x"):
        refused = run("eval", "--merge", "0.json", option, check=2)
        assert f"{option.split('=')[0]} is only for runs without --merge" in refused.err
    assert "--merge needs the files" in run("eval", "--merge", check=2).err


def test_per_image_needs_one_background(run: Run, workdir: Path) -> None:
    files.write_label_map("t.png", np.ones((16, 16), np.uint8))
    meta = files.provenance("make-cam", {}, classes=["cat"])
    files.write_maps("a.npz", np.full((1, 4, 4), 0.5), ["cat"], (16, 16), meta)
    record = {"id": "a", "cam": "a.npz", "mask": "t.png"}
    refused = run("eval", "--per-image", "each.jsonl", input=[record], check=2)
    assert "--per-image needs one background for all images: give --threshold" in refused.err
    assert refused.err.count("\n") == 1
    assert not Path("each.jsonl").exists()
    run("eval", "--per-image", "each.jsonl", "--threshold", "0.4", input=[record], check=0)
    assert json.loads(Path("each.jsonl").read_text())["iou"] == {"cat": 1}


def test_maps_are_swept(run: Run, workdir: Path) -> None:
    plane = np.zeros((1, 4, 4))
    plane[:, :, 2:] = 0.7
    truth = np.zeros((16, 16), np.uint8)
    truth[:, 8:] = 1
    files.write_label_map("t.png", truth)
    meta = files.provenance("make-cam", {}, classes=["cat"])
    files.write_maps("a.npz", plane, ["cat"], (16, 16), meta)
    record = {"id": "a", "cam": "a.npz", "mask": "t.png"}
    data = json.loads(run("eval", "--format", "json", input=[record], check=0).out)
    assert data["miou"] == 1
    assert 0.2 < data["threshold"] < 0.5
    assert len(data["sweep"]) == 99
    low = json.loads(run("eval", "--threshold", "0.0", "--format", "json", input=[record]).out)
    assert low["miou"] < 1
    assert "sweep" not in low
    assert run("eval", "--threshold", "0.1", "--alpha", "4", input=[record], check=2)
    assert run("eval", "--thresholds", "0.9,0.1,0.1", input=[record], check=2)


def test_a_torch_free_process(run: Run, measured: Any) -> None:
    Path("torch.py").write_text("raise SystemExit('torch was imported')")
    import os

    run("eval", input=measured, check=0, env={**os.environ, "PYTHONPATH": "."})


# ---- never silently wrong ----


def test_a_record_counts_once(run: Run, measured: Any) -> None:
    whole = run("eval", "--format", "json", input=measured, check=0)
    other = {**measured[0], "pred": measured[1]["pred"]}
    twice = run("eval", "--format", "json", input=[*measured, measured[1], other], check=1)
    assert twice.err == (
        "wsss eval: 1: this id was counted before; each counts once\n"
        "wsss eval: 0: this id was counted before; each counts once\n"
    )
    assert {**json.loads(twice.out), "failed": 0} == json.loads(whole.out)


@pytest.mark.parametrize("option", ["--per-image", "--confusion"])
def test_a_full_disk_costs_the_file_but_not_the_result(
    option: str, shell: Run, run: Run, measured: Any
) -> None:
    Path("in.jsonl").write_text(as_lines(measured))
    whole = run("eval", "in.jsonl", check=0)
    done = shell(f"ulimit -f 0; wsss eval in.jsonl --workers 1 {option} side.json", check=1)
    assert done.out == whole.out
    assert done.err == "wsss eval: side.json: File too large\n"
    assert not Path("side.json").exists()
    assert not list(Path().glob(".wsss-*"))


@pytest.mark.parametrize("option", ["--per-image", "--confusion"])
def test_a_side_file_is_known_to_be_writable_before_the_work(
    option: str, run: Run, measured: Any
) -> None:
    Path("file").touch()
    result = run("eval", option, "file/side.json", input=measured, check=2)
    assert result.err.startswith("wsss eval: cannot write file/side.json: ")
    assert result.out == ""
    run("eval", option, "new folder/side.json", input=measured, check=0)
    assert Path("new folder/side.json").exists()


@pytest.mark.parametrize("option", ["--per-image", "--confusion"])
def test_a_side_file_is_none_of_the_inputs(option: str, run: Run, measured: Any) -> None:
    Path("in.jsonl").write_text(as_lines(measured))
    Path("link.jsonl").symlink_to("in.jsonl")
    Path("link.png").hardlink_to(measured[1]["mask"])
    before = {path: path.read_bytes() for path in Path().iterdir()}
    for target, named in {
        "in.jsonl": "its own input in.jsonl",
        "./link.jsonl": "its own input in.jsonl",
        "link.png": "was not written by eval",
        str(Path(measured[2]["pred"]).resolve()): "was not written by eval",
    }.items():
        assert named in run("eval", "in.jsonl", option, target, check=2).err
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize("option", ["--per-image", "--confusion"])
def test_a_side_file_of_another_origin_is_not_replaced(
    option: str, run: Run, measured: Any
) -> None:
    os.mkfifo("pipe")
    Path("classes.txt").write_text("fox\n")
    Path("other.jsonl").write_text('{"id": "a"}\n')
    for target in ("pipe", "classes.txt", "other.jsonl", "/dev/null"):
        said = run("eval", option, target, input=measured, check=2).err
        assert f"{target}: would be replaced, but was not written by eval" in said
    assert Path("classes.txt").read_text() == "fox\n"
    Path("a").touch()  # as mktemp makes it
    for _ in range(2):  # and its own
        run("eval", option, "a", input=measured, check=0)


def test_two_side_files_are_two(run: Run, measured: Any) -> None:
    result = run("eval", "--per-image", "a", "--confusion", "./a", input=measured, check=2)
    assert "named for two files" in result.err


def test_a_part_is_added_up_once(run: Run, measured: Any) -> None:
    run("eval", "--confusion", "a.json", input=measured[:1], check=0)
    run("eval", "--confusion", "b.json", input=measured[1:], check=0)
    Path("link.json").symlink_to("a.json")
    for again in ("a.json", "./a.json", "link.json"):
        result = run("eval", "--merge", "a.json", "b.json", again, check=2)
        assert result.err == f"wsss eval: {again}: the same file as a.json\n"
    result = run("eval", "--merge", "a.json", "b.json", "--confusion", "link.json", check=2)
    assert "would overwrite its own input a.json" in result.err


def test_the_picture_is_drawn_of_any_result(run: Run, measured: Any) -> None:
    plain = run("eval", input=measured, check=0)
    for _ in range(2):  # its own is replaced
        done = run("eval", "--plot", "new/a.png", input=measured, check=0)
        assert (done.out, done.err) == (plain.out, "")
    meta = files.read_meta("new/a.png")
    assert meta is not None
    assert meta["tool"] == "eval"
    run("eval", "--confusion", "a.json", input=measured, check=0)
    run("eval", "--merge", "a.json", "--plot", "b.png", check=0)
    assert (files.read_image("new/a.png") == files.read_image("b.png")).all()


def test_a_picture_replaces_nothing_of_another_origin(run: Run, measured: Any) -> None:
    Path("notes.png").write_text("no picture")
    Path("file").touch()
    for target, said in {
        "a.txt": "a.txt: --plot is a picture, its name ends in .png",
        "notes.png": "notes.png: would be replaced, but was not written by eval",
        "p 0.png": "p 0.png: would be replaced, but was not written by eval",
        "file/a.png": "cannot write file/a.png: ",
    }.items():
        done = run("eval", "--plot", target, input=measured, check=2)
        assert done.err.startswith(f"wsss eval: {said}")
        assert done.err.count("\n") == 1
        assert done.out == ""
    assert Path("notes.png").read_text() == "no picture"
    done = run("eval", "--plot", "a.png", "--confusion", "a.png", input=measured, check=2)
    assert "named for two files" in done.err


def test_a_full_disk_costs_the_picture_but_not_the_result(
    shell: Run, run: Run, measured: Any
) -> None:
    Path("in.jsonl").write_text(as_lines(measured))
    whole = run("eval", "in.jsonl", check=0)
    done = shell("ulimit -f 0; wsss eval in.jsonl --workers 1 --plot a.png", check=1)
    assert done.out == whole.out
    assert done.err.count("\n") == 1
    assert "File too large" in done.err
    assert not Path("a.png").exists()


def test_masks_that_are_ignored_all_over(run: Run, measured: Any) -> None:
    files.write_label_map("void.png", np.full((2, 2), 255, np.uint8))
    void = [{**record, "mask": "void.png"} for record in measured]
    result = run("eval", "--format", "json", input=[void[0], *measured[1:]], check=0)
    assert result.err == "wsss eval: 1 true masks are 255 all over\n"
    assert json.loads(result.out)["images"] == 3
    result = run("eval", input=void, check=1)
    assert result.err.startswith("wsss eval: no pixel was counted: every true mask ('mask') is 255")
    assert result.out == ""


def test_masks_without_any_class(run: Run, measured: Any) -> None:
    files.write_label_map("empty.png", np.zeros((2, 2), np.uint8))
    empty = [{**record, "mask": "empty.png"} for record in measured]
    result = run("eval", input=empty, check=0)
    assert "no true mask holds a class, only background was measured" in result.err


def test_files_of_one_run_have_one_provenance(run: Run, measured: Any) -> None:
    """Though each was made from another photograph."""
    for record in measured:
        labels = files.read_label_map(record["pred"])
        meta = files.provenance("predict", {"scales": [1.0]}, classes=["cat", "dog"])
        cam = {"tool": "make-cam", "inputs": {"image": record["id"]}}
        files.write_label_map(
            record["pred"],
            labels,
            {**meta, "inputs": {"image": record["id"]}, "from": {"cam": cam}},
        )
    data = json.loads(run("eval", "--format", "json", input=measured, check=0).out)
    assert data["made_by"] == {**meta, "from": {"cam": {"tool": "make-cam"}}}


def test_a_record_that_cannot_be_measured_fails_alone(run: Run, measured: Any) -> None:
    Path("folder").mkdir()
    wrong: list[Any] = [["x"], 3, "folder", "none.png", {"a": 1}]
    for number, value in enumerate(wrong):
        measured.append({"id": f"x{number}", "prediction": value, "mask": "t 0.png"})
    for record in measured[:3]:
        record["prediction"] = record.pop("pred")
    result = run("eval", "--key", "prediction", "--format", "json", input=measured, check=1)
    assert json.loads(result.out)["images"] == 3
    assert len(result.err.splitlines()) == len(wrong)
    assert "internal error" not in result.err


def test_check_names_labels_and_masks_that_disagree(run: Run, measured: Any) -> None:
    for record, labels in zip(measured, (["cat"], ["cat"], None), strict=True):
        record["labels"] = labels
    plain = run("eval", input=measured, check=0)
    result = run("eval", "--check", input=measured, check=1)
    assert result.out == plain.out
    assert result.err == (
        "wsss eval: 1: labels without a pixel in the mask: cat; "
        "classes in the mask without a label: dog\n"
        "wsss eval: labels and mask disagree in 1 of 3 records\n"
    )


def test_contours_and_dice(measured: list[dict[str, Any]], run: Run) -> None:
    plain = run("eval", input=measured, check=0).out
    shown = run("eval", "--boundary", "0.02", "--dice", input=measured, check=0).out
    assert "boundary IoU" in shown
    assert "Dice" in shown
    assert "boundary" not in plain
    data = json.loads(run("eval", "--boundary", "0.05", "--format", "json", input=measured).out)
    assert 0 <= data["boundary_iou"] <= 1
    assert data["dice"] >= data["miou"]
    for n, record in enumerate(measured):
        run("eval", "--boundary", "0.05", "--confusion", f"{n}.json", input=[record], check=0)
    parts = [f"{n}.json" for n in range(len(measured))]
    merged = run("eval", "--merge", *parts, "--format", "json", check=0)
    assert json.loads(merged.out) == data
    assert "is not in the range" in run("eval", "--boundary", "0", input=measured, check=2).err
    told = run("eval", "--merge", "0.json", "--boundary", "0.1", check=2).err
    assert "--boundary is only for runs without --merge" in told
