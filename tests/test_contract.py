"""The contract that outside programs rely on, over all tools: streams, exit codes, files.

What a single part keeps is tested beside it: order, closed pipes, kills, --strict, --shard and
--skip-existing in test_stage.py; the progress in test_console.py; settings in test_cli.py and
commands/test_config.py; kill and --resume of a trainer in commands/test_train_cam.py.
"""

from __future__ import annotations

import json
import os
import pickle
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from PIL import Image

from tests.conftest import CLASSES, Evil, Result, Run, as_lines, commands
from wsss_cli.classes import palette
from wsss_cli.cli import COMMANDS, cli

Records = list[dict[str, Any]]

STREAMING = {
    "make-cam": ["-c", "cam.pt", "--scales", "1", "--workers", "1"],
    "make-aff-labels": ["--workers", "0"],
    "random-walk": ["-c", "affinity.pt", "--workers", "1"],
    "crf": ["--workers", "0"],
    "erase": ["--workers", "0"],
    "saliency": ["--workers", "0"],
    "predict": ["-c", "segmentation.pt", "--scales", "1", "--workers", "1"],
    "view": ["-o", "out/view"],
    "relabel": ["--values", "map.txt", "--workers", "0"],
}
EXPORTING = {f"export {form}": [] for form in ("coco", "yolo", "labelme", "voc")}
_SMALL = ["--crop", "64", "--batch-size", "2", "--epochs", "1", "--device", "cpu"]
TRAINING = {
    "train-cam": ["--classes", "classes.txt", "--weights", "none", *_SMALL],
    "train-aff": ["-c", "cam.pt", *_SMALL],
    "irn-train": ["--weights", "none", *_SMALL],
    "eps-train": ["--classes", "classes.txt", "--weights", "none", *_SMALL],
    "sipe-train": ["--classes", "classes.txt", "--weights", "none", *_SMALL],
    "train-seg": ["--weights", "none", *_SMALL],
}
PASSING = {**STREAMING, **EXPORTING}
READING = {**PASSING, **TRAINING, "eval": []}
NO_RECORDS = {"index", "toy", "import", "config", "examples", "masks"}


def plain(result: Result) -> None:
    """What is said is one line a matter, with the tool's name, and never a traceback."""
    assert "Traceback" not in result.err
    assert all(line.startswith("wsss ") for line in result.err.splitlines()), result.err


@pytest.mark.parametrize(("name", "command"), commands())
def test_settings_have_the_names_of_their_options(name: str, command: click.Command) -> None:
    """In wsss.toml and in the environment as on the command line."""
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.name in [flag.lstrip("-").replace("-", "_") for flag in option.opts]


def test_no_command_is_forgotten_here() -> None:
    assert {tool.split()[0] for tool in READING} | NO_RECORDS == set(COMMANDS)
    exports = {name for name, _ in commands() if name.startswith("export ")}
    assert exports == {*EXPORTING, "export onnx"}  # which reads no records


# ---- help ----


@pytest.mark.parametrize(("name", "command"), commands(), ids=lambda value: str(value))
def test_the_help_tells_every_default(name: str, command: click.Command) -> None:
    context = click.Context(command, info_name=name)
    for param in command.params:
        if not isinstance(param, click.Option) or param.is_flag:
            continue
        text = " ".join(part or "" for part in (param.get_help_record(context) or ()))
        known = param.default is not None and "UNSET" not in repr(param.default)
        assert not known or "[default: " in text, f"{name} {param.opts}: {text}"


# ---- streams ----


@pytest.mark.parametrize("tool", READING)
def test_no_input_on_a_terminal_says_what_to_do(
    tool: str, ready: Records, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    main, side = pty.openpty()
    monkeypatch.setattr("sys.stdin", os.fdopen(side))
    with pytest.raises(SystemExit) as ended:
        cli([*tool.split(), *READING[tool]], prog_name="wsss", auto_envvar_prefix="WSSS")
    sys.stdin.close()
    os.close(main)
    said = capfd.readouterr()
    assert ended.value.code == 2
    assert said.err == (
        f"wsss {tool}: no records: pipe them in or name a file "
        "(make them with 'wsss index voc ROOT' or 'wsss index folder ROOT')\n"
    )
    assert said.out == ""


@pytest.mark.parametrize("tool", PASSING)
def test_an_empty_stream_gives_an_empty_stream(tool: str, ready: Records, inside: Run) -> None:
    result = inside(*tool.split(), *PASSING[tool], "-q", check=0)
    assert (result.out, result.err) == ("", "")


@pytest.mark.parametrize("tool", [*TRAINING, "eval"])
def test_nothing_can_be_learnt_or_measured_from_an_empty_stream(
    tool: str, ready: Records, inside: Run
) -> None:
    result = inside(*tool.split(), *READING[tool], "-q", check=1)
    assert result.out == ""
    assert result.err.count("\n") == 1
    plain(result)


@pytest.mark.parametrize("tool", STREAMING)
def test_stdout_carries_the_records_and_q_is_silent(tool: str, ready: Records, inside: Run) -> None:
    ready[2]["unknown"] = {"deep": [1, None]}
    result = inside(tool, *STREAMING[tool], "-q", input=ready, check=0)
    assert result.err == ""
    assert [record["id"] for record in result.records] == [record["id"] for record in ready]
    for before, after in zip(ready, result.records, strict=True):
        assert list(after)[: len(before)] == list(before)  # all keys pass, in order
        made = {key: value for key, value in after.items() if before.get(key) != value}
        assert made
        assert all(Path(path).exists() for path in made.values())
    assert result.records[2]["unknown"] == {"deep": [1, None]}
    told = inside(tool, *STREAMING[tool], input=ready, check=0)
    assert told.out == result.out
    plain(told)
    assert "4 records in" in told.err


@pytest.mark.parametrize("tool", EXPORTING)
def test_an_export_passes_the_records_as_they_are(tool: str, ready: Records, inside: Run) -> None:
    ready[2]["unknown"] = {"deep": [1, None]}
    result = inside(*tool.split(), "-q", input=ready, check=0)
    assert (result.out, result.err) == (as_lines(ready), "")
    told = inside(*tool.split(), input=ready, check=0)
    assert told.out == result.out
    plain(told)
    assert "4 records in" in told.err


@pytest.mark.parametrize("tool", PASSING)
def test_bad_records_are_named_and_left_out_and_the_rest_goes_on(
    tool: str, ready: Records, inside: Run
) -> None:
    good = as_lines(ready[:1])
    bad = [
        "nonsense",
        "[1]",
        json.dumps({"image": "x.png"}),
        json.dumps({**ready[1], "id": "../up"}),
        json.dumps({**ready[1], "id": "/etc/x"}),
        json.dumps({key: value for key, value in ready[1].items() if key != "image"}),
        json.dumps({**ready[1], "id": "gone", "image": "gone.png"}),
    ]
    stream = good + "\n".join(bad) + "\n" + as_lines(ready[2:3])
    result = inside(*tool.split(), *PASSING[tool], "-q", input=stream, check=1)
    plain(result)
    for said in (
        ":2: not a JSON object: is this",
        ":3: not a JSON object but a list",
        ":4: no 'id'",
        ':5: unsafe id "../up"',
        ':6: unsafe id "/etc/x"',
        f"{ready[1]['id']}: record has no 'image' (made by index)",
        "gone: cannot read image: gone.png: no such file",
    ):
        assert sum(said in line for line in result.err.splitlines()) == 1, said
    assert len(result.err.splitlines()) == 7
    assert [record["id"] for record in result.records] == [ready[0]["id"], ready[2]["id"]]
    assert not Path("up.png").exists()
    assert not Path("up.npz").exists()


@pytest.mark.parametrize("tool", TRAINING)
def test_a_trainer_names_bad_records_before_any_work(
    tool: str, ready: Records, inside: Run
) -> None:
    stream = as_lines(ready) + "nonsense\n" + json.dumps({**ready[1], "id": "../up"}) + "\n"
    result = inside(tool, *TRAINING[tool], "-o", "net.pt", input=stream, check=1)
    lines = result.err.splitlines()
    assert len(lines) == 3
    assert ":5: not a JSON object" in lines[0]
    assert ":6: unsafe id" in lines[1]
    assert lines[2] == f"wsss {tool}: 2 records cannot be used; nothing was trained"
    assert not list(Path().glob("net*"))


def test_no_color_is_honoured(ready: Records) -> None:
    """On a terminal the table is bold; with NO_COLOR it is plain."""
    Path("in.jsonl").write_text(as_lines(ready))
    shown = {}
    for name, extra in (("styled", {}), ("plain", {"NO_COLOR": "1"})):
        main, side = pty.openpty()
        environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        done = subprocess.run(
            [sys.executable, "-m", "wsss_cli", "eval", "in.jsonl", "--key", "pred", "-q"],
            stdout=side,
            stderr=subprocess.PIPE,
            env={**environment, "TERM": "xterm", **extra},
        )
        os.close(side)
        shown[name] = os.read(main, 1 << 16)
        os.close(main)
        assert (done.returncode, done.stderr) == (0, b"")
    assert b"\x1b[" in shown["styled"]
    assert b"\x1b" not in shown["plain"]
    assert b"mean" in shown["plain"]


# ---- exit codes ----


@pytest.mark.parametrize("tool", [*COMMANDS, "index voc", "index folder", *EXPORTING])
def test_an_unknown_option_is_one_line_and_exits_with_2(tool: str, inside: Run) -> None:
    result = inside(*tool.split(), "--nope", check=2)
    assert "No such option" in result.err
    assert "--help' lists the options)" in result.err
    assert result.err.count("\n") == 1
    assert result.out == ""


@pytest.mark.parametrize("tool", READING)
def test_interrupted_is_one_line_and_130(
    tool: str, ready: Records, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("wsss_cli.records.read", read)
    result = inside(*tool.split(), *READING[tool], "-q", input=ready, check=130)
    assert result.err == f"wsss {tool}: interrupted; what is finished is safe\n"
    assert result.out == ""


@pytest.mark.parametrize("tool", READING)
def test_no_traceback_but_with_debug(
    tool: str, ready: Records, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*args: Any) -> Any:
        raise KeyError("a bug")

    monkeypatch.setattr("wsss_cli.records.read", read)
    result = inside(*tool.split(), *READING[tool], "-q", input=ready, check=1)
    assert result.err == (f"wsss {tool}: internal error: KeyError('a bug') (--debug shows where)\n")
    with pytest.raises(KeyError):
        cli([*tool.split(), *READING[tool], "-q", "--debug", "stream.jsonl"], prog_name="wsss")


# ---- files ----


WITH_CHECKPOINT = {
    "make-cam": "affinity",
    "random-walk": "segmentation",
    "predict": "cam",
    "train-aff": "affinity",
}


@pytest.mark.parametrize("tool", WITH_CHECKPOINT)
def test_a_checkpoint_that_does_not_fit_ends_before_any_work(
    tool: str, ready: Records, inside: Run
) -> None:
    import torch

    other = WITH_CHECKPOINT[tool]
    whole = Path(f"{other}.pt").read_bytes()
    Path("truncated.pt").write_bytes(whole[: len(whole) // 2])
    Path("pickle.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"format": Evil()}, "evil.pt")
    torch.save({"w": torch.ones(1)}, "weights.pt")
    for name, said in (
        (f"{other}.pt", "is needed, this is of kind " + other),
        ("truncated.pt", "cannot read checkpoint: truncated.pt: truncated or no PyTorch file"),
        ("pickle.pt", "cannot read checkpoint: pickle.pt: refused"),
        ("evil.pt", "cannot read checkpoint: evil.pt: refused"),
        ("weights.pt", "weights.pt: not a wsss checkpoint (train one with"),
        ("none.pt", "File 'none.pt' does not exist"),
    ):
        args = ["-c", name, *READING[tool][2:], "-q"]
        result = inside(tool, *args, "-o", "made", input=ready, check=2)
        assert said in result.err
        assert result.err.count("\n") == 1
        assert result.out == ""
    assert not Path("evil-ran").exists()
    assert not Path("made").exists()


def test_checkpoints_are_plain_data(ready: Records, inside: Run) -> None:
    import torch

    inside("train-seg", *TRAINING["train-seg"], "-q", "-o", "net.pt", input=ready, check=0)
    data = torch.load("net.pt", weights_only=True)
    assert set(data) == {"format", "kind", "backbone", "classes", "config", "state_dict"}
    assert (data["kind"], data["backbone"], data["classes"]) == (
        "segmentation",
        "efficientnet-lite0",
        CLASSES,
    )
    assert all(isinstance(value, torch.Tensor) for value in data["state_dict"].values())
    inside("predict", "-c", "net.pt", "--scales", "1", "-q", input=ready, check=0)


def test_activation_maps_need_no_wsss_to_be_read(ready: Records, inside: Run) -> None:
    made = inside("make-cam", *STREAMING["make-cam"], "-q", input=ready, check=0).records
    for record in made:
        with np.load(record["cam"], allow_pickle=False) as archive:
            cam, meta = archive["cam"], json.loads(str(archive["meta"]))
            assert archive["classes"].tolist() == record["labels"]
            assert archive["size"].dtype == np.int32
            height, width = archive["size"].tolist()
        assert Image.open(record["image"]).size == (width, height)
        assert cam.dtype == np.float16
        assert cam.shape == (len(record["labels"]), height // 4, width // 4)
        assert not cam.size or 0 <= cam.min() <= cam.max() == 1
        assert meta["tool"] == "make-cam"
        assert meta["classes"] == CLASSES
        assert len(meta["checkpoint"]) == 16


def test_label_maps_have_the_colours_of_voc(ready: Records, inside: Run) -> None:
    for tool, key in (
        ("crf", "pseudo"),
        ("predict", "pred"),
        ("make-aff-labels", "aff_label"),
        ("erase", "mined"),
        ("erase", "pseudo"),
    ):
        for record in inside(tool, *STREAMING[tool], "-q", input=ready, check=0).records:
            image = Image.open(record[key])
            assert (image.format, image.mode) == ("PNG", "P")
            colours = np.array(image.getpalette()).reshape(-1, 3)
            assert np.array_equal(colours, palette()[: len(colours)])
            assert colours[1].tolist() == [128, 0, 0]
            assert image.size == Image.open(record["image"]).size
            assert set(np.unique(np.array(image))) <= {0, 1, 2, 255}
            assert json.loads(image.info["wsss"])["tool"] == tool


@pytest.mark.parametrize("tool", STREAMING)
def test_a_second_run_makes_nothing_anew(tool: str, ready: Records, inside: Run) -> None:
    """As after a kill: what is there and whole is kept, what is missing is made."""
    made = inside(tool, *STREAMING[tool], input=ready, check=0).records
    each = [
        [Path(value) for key, value in record.items() if before.get(key) != value]
        for record, before in zip(made, ready, strict=True)
    ]
    assert len(each) == 4
    each[1][-1].unlink()
    each[2][0].write_bytes(each[2][0].read_bytes()[:50])
    kept = [*each[0], *each[3]]
    stamps = [path.stat().st_mtime_ns for path in kept]
    again = inside(tool, *STREAMING[tool], "--skip-existing", input=ready, check=0)
    assert "2 records in" in again.err
    assert "2 reused" in again.err
    assert again.records == made
    assert [path.stat().st_mtime_ns for path in kept] == stamps
    assert not list(Path("out").rglob(".wsss-*"))
