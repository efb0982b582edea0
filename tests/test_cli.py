"""The command as a whole: help, settings, exit codes, what is imported when."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from tests.conftest import Run, commands
from wsss_cli.cli import COMMANDS, cli, load_settings


@pytest.mark.parametrize(("name", "command"), commands(), ids=lambda value: str(value))
def test_every_command_says_what_it_does_and_shows_an_example(
    name: str, command: click.Command
) -> None:
    assert command.help is not None
    assert f"wsss {name}" in command.help.split("Example:")[1]
    for word in ("Reads", "Writes", "rints", "riting"):
        if word in command.help:
            break
    else:
        pytest.fail("says neither what it reads nor what it writes")
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, f"{name} {param.opts} has no help"
    if any(param.name == "records" for param in command.params):
        shown = command.get_help(click.Context(command, info_name=f"wsss {name}"))
        assert "without any, stdin is" in shown


@pytest.mark.parametrize(("name", "command"), commands(), ids=lambda value: str(value))
def test_no_flag_is_declared_twice(name: str, command: click.Command) -> None:
    flags = [flag for param in command.params for flag in (*param.opts, *param.secondary_opts)]
    assert len(flags) == len(set(flags))


def test_the_list_of_commands_is_that_of_the_modules(run: Run) -> None:
    context = click.Context(cli, info_name="wsss")
    for name, (_, line) in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert command.help is not None
        assert command.help.splitlines()[0] == line
    files = {
        path.stem.removesuffix("_")
        for path in (Path(__file__).parents[1] / "wsss_cli/commands").glob("[a-z]*.py")
    }
    assert files == {name.replace("-", "_") for name in COMMANDS}
    shown = run("--help", check=0).out
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert run(check=0).out == shown


def test_the_help_lists_the_commands_under_their_stages(run: Run) -> None:
    listed = run("--help", check=0).out.split("Options:")[1]
    stages: dict[str, list[str]] = {}
    for line in listed.splitlines():
        if heading := re.fullmatch(r"(\w+):", line):
            stages[heading[1]] = []
        elif (entry := re.match(r"  ([a-z-]+) ", line)) and stages:
            stages[list(stages)[-1]].append(entry[1])
    assert list(stages) == [
        "Recipe",
        "Data",
        "Classifiers",
        "Maps",
        "Refinement",
        "Segmentation",
        "Measuring",
        "Output",
        "Settings",
    ]
    assert [name for names in stages.values() for name in names] == list(COMMANDS)
    assert {name: stage for stage, names in stages.items() for name in names} == {
        name: stage for name, (stage, _) in COMMANDS.items()
    }


def test_help_imports_neither_torch_nor_numpy(workdir: Path) -> None:
    for name in ("torch", "numpy"):
        Path(f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    paths = [".", *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    for name in ([], *[[*name.split()] for name, _ in commands()]):
        done = subprocess.run(
            [sys.executable, "-c", "from wsss_cli.cli import main; main()", *name, "--help"],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["evall"], "wsss: no command 'evall'; did you mean 'eval'?"),
        (["quux"], "wsss: no command 'quux'; 'wsss --help' lists the commands"),
        (["crf", "--alhpa", "3"], "wsss crf: No such option '--alhpa'"),
        (["crf", "--alpha", "x"], "wsss crf: Invalid value for '--alpha'"),
        (
            ["eval", "--boundary"],
            "wsss eval: Option '--boundary' requires an argument. ('wsss eval",
        ),
        (["index", "voc", "x", "--split"], "('wsss index voc --help' lists the options)"),
        (["random-walk"], "wsss random-walk: Missing option '-c'"),
        (["random-walk", "-c", "gone.pt"], "File 'gone.pt' does not exist"),
        (["make-cam", "--scales", "1,x"], "is not a list of numbers separated by commas"),
        (["make-cam", "--scales", "0"], "each must be greater than 0"),
        (["eval", "--device"], "No such option '--device'"),
        (["eval", "gone.jsonl"], "cannot read records: gone.jsonl: No such file or directory"),
    ],
)
def test_wrong_usage_is_one_line_and_exits_with_2(args: list[str], problem: str, run: Run) -> None:
    result = run(*args, check=2)
    assert problem in result.err
    assert result.err.count("\n") == 1
    assert result.out == ""


def test_no_input_on_a_terminal_says_what_to_do(workdir: Path) -> None:
    import pty

    main, side = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "wsss_cli", "crf"],
        stdin=side,
        capture_output=True,
        text=True,
        timeout=60,
    )
    os.close(main)
    os.close(side)
    assert done.returncode == 2
    assert done.stderr.startswith("wsss crf: no records: pipe them in or name a file")


def test_debug_shows_where(run: Run) -> None:
    assert "Traceback" in run("eval", "--debug", "gone.jsonl").err


# ---- settings ----


def shown(run: Run, *args: str, **kwargs: Any) -> dict[str, str]:
    lines = run(*args, check=0, **kwargs).out.splitlines()
    return {line.split(" = ")[0]: line.split(" = ")[1] for line in lines}


def test_environment_over_file_over_default(run: Run) -> None:
    Path("wsss.toml").write_text(
        '[random-walk]\nbeta = 10\nsteps = 64\nout = "a"\n[make-cam]\nscales = [1, 2]\n'
        '[index.voc]\nsplit = "val"\n'
    )
    environment = {**os.environ, "WSSS_RANDOM_WALK_BETA": "12"}
    found = shown(run, "config", env=environment)
    assert found["random-walk.beta"] == "12.0  # environment" or found["random-walk.beta"].endswith(
        "# environment"
    )
    assert found["random-walk.steps"] == "64  # file"
    assert found["random-walk.radius"] == "5  # default"
    assert found["make-cam.scales"] == "[1, 2]  # file"
    assert found["index.voc.split"] == '"val"  # file'
    changed = shown(run, "config", "--changed", "random-walk", env=environment)
    assert set(changed) == {"random-walk.beta", "random-walk.steps", "random-walk.out"}


def test_the_command_line_wins_and_the_file_is_used(run: Run, photographs: Any) -> None:
    Path("wsss.toml").write_text('[view]\nwidth = 64\nout = "from-file.png"\n')
    assert run("view", input=photographs, check=0).out == "from-file.png\n"
    assert run("view", "-o", "given.png", input=photographs, check=0).out == "given.png\n"
    Path("other.toml").write_text('[view]\nout = "other.png"\n')
    assert run("--config", "other.toml", "view", input=photographs, check=0).out == "other.png\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[make-cma]\n", "wsss.toml:1: no command 'make-cma'; did you mean [make-cam]?"),
        ("[view]\nwdith = 3\n", "wsss.toml:2: [view] has no option 'wdith'; did you mean width?"),
        ('[view]\nrecords = "a.jsonl"\n', "wsss.toml:2: [view] has no option 'records'"),
        ("[crf]\nmax-side = 1\nmax_side = 2\n", "wsss.toml:1: [crf] sets max_side twice"),
        ("view = 3\n", "wsss.toml:1: 'view' is not a table; write [view]"),
        ("[view\n", "wsss.toml: "),
        ('[view]\nwidth = "wide"\n', "'wide' is not a valid integer"),
    ],
)
def test_a_wrong_settings_file_is_told(text: str, problem: str, run: Run) -> None:
    Path("wsss.toml").write_text(text)
    result = run("view", check=2)
    assert problem in result.err
    assert result.err.count("\n") == 1


def test_a_missing_settings_file_is_told(run: Run) -> None:
    assert (
        "cannot read gone.toml: No such file" in run("--config", "gone.toml", "view", check=2).err
    )


# ---- settings of any type ----

VALUES = (
    *("[1]", '["x"]', "[[1]]", "[]", "{a = 1}", "3", "-7.5", "nan", "inf", "true", '"x"', '""'),
    *("1979-05-27", "07:32:00"),
)


@pytest.mark.usefixtures("workdir")
@pytest.mark.parametrize(("name", "command"), commands())
def test_no_setting_is_an_internal_error(name: str, command: click.Command) -> None:
    """Every option with a value of every type: it is taken, or refused in one line."""
    table, _, sub = name.partition(" ")
    for option in command.params:
        if not isinstance(option, click.Option):
            continue
        for written in VALUES:
            Path("wsss.toml").write_text(f"[{name.replace(' ', '.')}]\n{option.name} = {written}\n")
            parent = click.Context(cli, info_name="wsss")
            parent.obj, parent.default_map = load_settings(None)
            if sub:
                group = cli.get_command(parent, table)
                assert group is not None
                parent = click.Context(group, parent=parent, info_name=table)
            code: Any = 0
            try:
                command.make_context(sub or table, [], parent=parent)
            except click.ClickException as error:
                code = error.exit_code
            except SystemExit as error:  # a class list that does not exist
                code = error.code
            assert code in (0, 2), f"{name}: {option.name} = {written}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[make-cam]\nthreshold = [1]", "[make-cam] has no option 'threshold'"),
        ("[crf]\nthreshold = [1]", "[crf] threshold = [1]: not a value of --threshold"),
        ("[crf]\nthreshold = true", "[crf] threshold = true: not a value of --threshold"),
        ("[crf]\nstrict = 3", "[crf] strict = 3: not a value of --strict"),
        ('[crf]\nkey = ["cam"]', "[crf] key = ['cam']: not a value of --key"),
        ("[crf]\nalpha = " + "9" * 10_000, "wsss.toml: "),
        ("[crf]\nalpha = " + "[" * 100_000, "wsss.toml: "),
        ("\x00\xff", "wsss.toml: "),
        (
            "[crf]\n" + ".".join(["a"] * 100_000) + " = 1",
            "wsss.toml: a line has more than 200 dots",
        ),
        ("[crf]\n" + "# a comment\n" * 100_000, "more than such a file can have"),
        ('[crf]\nout = "a\\u0000b"', "[crf] out = 'a\\x00b': not a value of --out"),
        ("[crf]\nalpha = inf", "wsss.toml:2: Invalid value for '--alpha': inf is not finite"),
        ("[crf]\nalpha = nan", "wsss.toml:2: Invalid value for '--alpha': nan is not a number"),
        ("[crf]\ngaussian = [1, inf]", "Invalid value for '--gaussian': inf is not finite"),
        ("[crf.more]\na = 1", "[crf] has no option 'more'"),
        (
            "[index]\n\n# none\nvoc = 3",
            "wsss.toml:4: [index] voc is not a table; write [index.voc]",
        ),
        ("[index]\nstrict = true", "[index] has no command 'strict'; write [index.COMMAND]"),
        ("[index.vco]\nsplit = 3", "[index] has no command 'vco'; did you mean [index.voc]?"),
        ("[index.voc.more]\nsplit = 3", "wsss.toml:1: [index.voc] has no option 'more'"),
        ("[crf]\nworkers = -3", "wsss crf: wsss.toml:2: Invalid value for '--workers': -3"),
    ],
)
def test_what_is_wrong_with_a_setting_is_one_line(run: Run, text: str, problem: str) -> None:
    Path("wsss.toml").write_text(text, encoding="latin-1")
    command = text.partition("]")[0].removeprefix("[") if text.startswith("[") else "crf"
    command = command.partition(".")[0]
    for words in ((command, *(["voc", "."] if command == "index" else [])), ("config",)):
        result = run(*words, check=2)
        assert problem in result.err
        assert result.err.count("\n") == 1
        assert "internal error" not in result.err


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ('backbone = "resnet5"', "no backbone 'resnet5'; there are "),
        ('classes = "vox"', "--classes vox: not voc, coco or a readable text file"),
        ('freeze_until = "layer9"', "--freeze-until layer9: efficientnet-lite0 has no such stage"),
        ('weights = "none.pt"', "cannot read weights: none.pt: no such file"),
        ("output_stride = 7", "efficientnet-lite0 has no output stride 7; it offers "),
        ('precision = "fp16"', "--precision fp16 needs a GPU"),
        ('device = "mps"', "--device mps: this machine has no such device"),
    ],
)
def test_a_value_that_only_the_work_finds_wrong_is_named_with_its_line(
    run: Run, photographs: Any, setting: str, problem: str
) -> None:
    Path("wsss.toml").write_text(f"[train-cam]\nsteps = 1\n{setting}\n")
    classes = () if "classes" in setting else ("--classes", "voc")
    result = run("train-cam", *classes, "-o", "cam.pt", input=photographs, check=2)
    assert f"wsss train-cam: wsss.toml:3: {problem}" in result.err
    assert not Path("cam.pt").exists()

    flag, value = setting.replace('"', "").split(" = ")
    given = f"--{flag.replace('_', '-')}={value}"
    result = run("train-cam", *classes, given, "-o", "cam.pt", input=photographs, check=2)
    assert f"wsss train-cam: {problem}" in result.err


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("steps = 1\nepochs = 2", "--steps and --epochs exclude each other"),
        ("freeze_bn = false\nbn_affine = true", "--bn-affine is only for --freeze-bn"),
    ],
)
def test_settings_that_do_not_go_together_are_named_with_a_line(
    run: Run, settings: str, problem: str
) -> None:
    Path("wsss.toml").write_text(f"[train-cam]\n{settings}\n")
    result = run("train-cam", "--classes", "voc", input="", check=2)
    assert f"wsss train-cam: wsss.toml:3: {problem}" in result.err


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e999"])
def test_numbers_are_finite_wherever_they_come_from(
    run: Run, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run("train-cam", "--classes=voc", f"--lr={value}", check=2).err
    assert any(why in said for why in ("is not finite", "is not a number", "is not in the range"))
    monkeypatch.setenv("WSSS_CRF_ALPHA", value)
    said = run("crf", check=2).err
    assert "--alpha" in said
    assert said.count("\n") == 1


def test_a_number_for_a_text_is_its_text(run: Run) -> None:
    Path("wsss.toml").write_text("[crf]\nout = 3\n[make-cam]\nscales = 1\n")
    run("crf", input="", check=0)
    assert Path("3").is_dir()
    assert "make-cam.scales = 1 " in run("config", "make-cam", check=0).out


def test_settings_that_are_no_file(run: Run) -> None:
    os.mkfifo("wsss.toml")
    assert "wsss.toml: not a regular file" in run("crf", check=2).err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("wsss ma", ["masks", "make-cam", "make-aff-labels"]),
        ("wsss train-cam --backbone resnet1", ["resnet101"]),
        ("wsss import x --backbone vgg16-l", ["vgg16-largefov"]),
        ("wsss index voc set --split t", ["train", "train_aug"]),
        ("wsss export v", ["voc"]),
        ("wsss train-seg --head a", ["aspp"]),
    ],
)
def test_a_shell_completes_values(typed: str, offered: list[str], run: Run) -> None:
    lists = Path("set/ImageSets/Segmentation")
    lists.mkdir(parents=True)
    for name in ("train", "train_aug", "val"):
        (lists / f"{name}.txt").touch()
    place = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    env = {**os.environ, "_WSSS_COMPLETE": "bash_complete", **place}
    script = "import sys; from wsss_cli.cli import main; sys.argv = ['wsss']; main()"
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert [line.removeprefix("plain,") for line in done.stdout.splitlines()] == offered
