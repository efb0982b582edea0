"""Options and the frame that commands share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.conftest import Run
from wsss_cli.cli import COMMANDS, cli


@pytest.mark.parametrize(("given", "rounds"), [(None, "0"), ("ACTIVE", "30000000000")])
@pytest.mark.parametrize("tool", ["make-cam", "random-walk", "predict"])
def test_threads_of_torch_sleep_when_they_wait(
    tool: str, given: str | None, rounds: str, tmp_path: Path
) -> None:
    if sys.platform != "linux":
        pytest.skip("libgomp only tells its settings")
    environment = {**os.environ, "OMP_DISPLAY_ENV": "verbose"}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        environment.pop(name, None)
    if given:
        environment["OMP_WAIT_POLICY"] = given
    (tmp_path / "empty.pt").touch()
    done = subprocess.run(
        [sys.executable, "-m", "wsss_cli", tool, "-c", "empty.pt"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 2
    assert f"GOMP_SPINCOUNT = '{rounds}'" in done.stderr  # 300000 if nothing is said


# ---- one flag, one meaning -----------------------------------------------------------------------

# Flags whose help differs from command to command, and how all of them begin.
ALIKE = {
    "--backbone": "efficientnet-lite0, ",
    "--batch-size": "Images in a batch",
    "--checkpoint": "Trained network (",
    "--classes": "Class list",
    "--crf": "Refine the ",
    "--csv": "Table of labels, here or in ",
    "--epochs": "Passes over the records.",
    "--key": "Record key of the ",
    "--lr": "Learning rate",
    "--masks": "Folder of true masks, ID.png",  # index coco writes them
    "--out": "Output",
    "--output-stride": "Stride of the last feature map",
    "--saliency": "Folder of saliency maps, ID.png; here or in ",
    "--scores": "Store the ",
    "--seed": "Random seed",
    "--steps": "Steps of ",
    "--weights": "Weights of the backbone to start from: a file of PyTorch, safetensors, MXNet or "
    "Caffe. ",
    "--workers": "Parallel ",
}


def declared() -> dict[str, list[tuple[str, click.Option]]]:
    """The options of all commands by flag."""
    flags: dict[str, list[tuple[str, click.Option]]] = {}
    context = click.Context(cli, info_name="wsss")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        inner = command.commands.values() if isinstance(command, click.Group) else [command]
        for each in inner:
            assert each is not None
            for param in each.params:
                if isinstance(param, click.Option):
                    for flag in param.opts:
                        flags.setdefault(flag, []).append((name, param))
    return flags


@pytest.mark.parametrize("flag", [flag for flag, used in declared().items() if len(used) > 1])
def test_one_flag_has_one_meaning(flag: str) -> None:
    used = declared()[flag]
    long = next(name for name in used[0][1].opts if name.startswith("--"))
    first = used[0][1].help or ""
    start = ALIKE.get(long, first)
    for name, option in used:
        assert (option.help or "").startswith(start), f"{name} {flag}"
        assert long in ALIKE or option.help == first, f"{name} {flag}"


def test_old_flags_and_settings_still_work_and_say_their_new_name(run: Run) -> None:
    made = run("toy", "a", "--train", "1", "--val=1", check=0)
    assert made.err == (
        "wsss toy: --train is called --num-train now\n"
        "wsss toy: --val is called --num-val now\nwsss toy: a: 2 pictures made\n"
    )
    Path("wsss.toml").write_text("[toy]\ntrain = 1\nnum-val = 0\n")
    told = run("toy", "b", check=0).err
    assert told == "wsss toy: setting train is called num_train now\nwsss toy: b: 1 pictures made\n"
    told = run("toy", "c", env={**os.environ, "WSSS_TOY_VAL": "2"}, check=0).err
    assert told.endswith("wsss toy: c: 3 pictures made\n")
    assert "setting WSSS_TOY_VAL is called WSSS_TOY_NUM_VAL now" in told
    assert "--train" not in run("toy", "--help", check=0).out.split()


def test_an_option_is_only_for_its_choice(inside: Run) -> None:
    """On the command line; a weaker choice in the settings file is overridden by it."""
    refused = "wsss crf: --iterations is only for --method pamr"
    assert refused in inside("crf", "--iterations", "3", check=2).err
    Path("wsss.toml").write_text("[crf]\niterations = 3\n")
    line = refused.replace(": ", ": wsss.toml:2: ", 1)
    assert line in inside("crf", check=2).err
    inside("crf", "--method", "pamr", check=0)
    inside("crf", "--method", "densecrf", check=0)


def test_the_settings_are_shown_under_their_new_names(run: Run) -> None:
    Path("wsss.toml").write_text("[erase]\nthreshold = 0.3\n")
    shown = run("config", "--changed", check=0)
    assert shown.out == "erase.relative_threshold = 0.3  # file\n"
    assert shown.err == "wsss erase: setting threshold is called relative_threshold now\n"
    env = {**os.environ, "WSSS_TOY_TRAIN": "7", "WSSS_TOY_VAL": ""}
    told = run("config", "toy", "--changed", env=env, check=0)
    assert told.out == 'toy.num_train = "7"  # environment\n'


def test_a_stronger_choice_passes_over_weaker_options(run: Run) -> None:
    """--merge on the command line, and a settings file for the runs that are merged."""
    Path("wsss.toml").write_text('[eval]\nkey = "pred"\n')
    assert "only for" not in run("eval", "--merge", "gone.json", check=2).err
    refused = run("eval", "--merge", "gone.json", "--key", "pred", check=2).err
    assert "wsss eval: --key is only for runs without --merge" in refused


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ('["bear"]', "[crf] classes = ['bear']: not a value of --classes"),
        ("true", "[crf] classes = true: not a value of --classes"),
        ("3", "not voc, coco or a readable text file with one class name a line"),
    ],
)
def test_a_class_list_in_the_settings_is_a_name(value: str, problem: str, run: Run) -> None:
    Path("wsss.toml").write_text(f"[crf]\nclasses = {value}\n")
    told = run("crf", input=[], check=2).err
    assert problem in told
    assert len(told.splitlines()) == 1
    Path("wsss.toml").write_text('[crf]\nclasses = ""\n')  # as if it were not given
    run("crf", input=[], check=0)


def files_to_read() -> list[tuple[str, str]]:
    """Commands and their options that name a file to be read."""
    found = []
    for flag, used in declared().items():
        for name, option in used:
            reads = isinstance(option.type, click.Path) and option.type.exists
            if reads and flag.startswith("--") and option.type.file_okay:
                found.append((name, flag))
    return found


@pytest.mark.parametrize(("name", "flag"), files_to_read())
def test_a_file_that_is_a_pipe_is_not_waited_for(name: str, flag: str, inside: Run) -> None:
    os.mkfifo("pipe")
    refused = inside(name, flag, "pipe", check=2).err
    assert f"Invalid value for '{flag}'" in refused.replace("'-c' / ", "")
    assert "'pipe': not a regular file, but a folder, a pipe or a device" in refused
    assert refused.count("\n") == 1
