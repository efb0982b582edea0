"""``wsss config``: what is in force, and where it came from."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from tests.conftest import Run
from wsss_cli.cli import COMMANDS


def shown(text: str) -> dict[str, tuple[str, str]]:
    """Value and source of each option named."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(" = ")
        value, _, source = rest.rpartition("  # ")
        found[name] = (value, source)
    return found


def test_every_option_of_every_command_is_shown(run: Run) -> None:
    found = shown(run("config", check=0).out)
    without_options = {"examples"}
    assert {name.split(".")[0] for name in found} == set(COMMANDS) - without_options
    assert {source for _, source in found.values()} == {"default"}
    assert found["random-walk.steps"] == ("256", "default")
    assert found["random-walk.checkpoint"] == ("-", "default")
    assert found["make-cam.flip"] == ("true", "default")
    assert not {"quiet", "verbose", "debug"} & {name.split(".")[-1] for name in found}


def test_environment_over_file_over_default_and_who_won(run: Run) -> None:
    Path("wsss.toml").write_text("[crf]\nalpha = 4\ncrf-steps = 3\nbilateral = [50, 5, 10]\n")
    environment = {**os.environ, "WSSS_CRF_ALPHA": "9", "WSSS_INDEX_VOC_SPLIT": "val"}
    found = shown(run("config", "crf", "index", env=environment, check=0).out)
    assert found["crf.alpha"] == ("9", "environment") or found["crf.alpha"] == (
        '"9"',
        "environment",
    )
    assert found["crf.crf_steps"] == ("3", "file")
    assert found["crf.bilateral"] == ("[50, 5, 10]", "file")
    assert found["crf.certainty"] == ("0.7", "default")
    assert found["index.voc.split"] == ('"val"', "environment")
    assert "make-cam.out" not in found
    changed = shown(run("config", "--changed", env=environment, check=0).out)
    assert set(changed) == {"crf.alpha", "crf.crf_steps", "crf.bilateral", "index.voc.split"}


def test_another_settings_file(run: Run) -> None:
    Path("wsss.toml").write_text("[crf]\nalpha = 4\n")
    Path("other.toml").write_text("[crf]\nalpha = 5\n")
    assert "crf.alpha = 5  # file" in run("--config", "other.toml", "config", "crf", check=0).out
    environment = {**os.environ, "WSSS_CONFIG": "other.toml"}
    assert "crf.alpha = 5  # file" in run("config", "crf", env=environment, check=0).out


def test_what_is_shown_can_be_written_into_the_file(run: Run) -> None:
    before = run("config", "crf", "make-cam", check=0).out
    lines = [line for line in before.splitlines() if " = -  #" not in line]
    assert len(lines) > 20
    Path("wsss.toml").write_text("\n".join(lines))
    assert tomllib.loads("\n".join(lines))["crf"]["alpha"] == 16
    after = run("config", "crf", "make-cam", check=0).out
    same = [line.split("  # ")[0] for line in after.splitlines()]
    assert same == [line.split("  # ")[0] for line in before.splitlines()]


@pytest.mark.parametrize(
    ("args", "problem"),
    [(["evall"], "no command 'evall'"), (["--nope"], "No such option")],
)
def test_wrong_use(args: list[str], problem: str, run: Run) -> None:
    result = run("config", *args, check=2)
    assert problem in result.err
    assert result.err.count("\n") == 1


def test_a_wrong_settings_file_is_told(run: Run) -> None:
    Path("wsss.toml").write_text("[crf]\nalhpa = 4\n")
    result = run("config", check=2)
    assert "[crf] has no option 'alhpa'; did you mean alpha?" in result.err


@pytest.mark.parametrize(
    ("text", "environment", "problem"),
    [
        ("", {"WSSS_RANDOM_WALK_BETA": "abc"}, "wsss random-walk: Invalid value for '--beta'"),
        ("", {"WSSS_RANDOM_WALK_BETA": "-1"}, "-1.0 is not in the range x>=0"),
        ("[random-walk]\nbeta = nan\n", {}, "nan is not a number"),
        (
            "[make-cam]\nscales = [1, -2]\n",
            {},
            "wsss make-cam: wsss.toml:2: Invalid value for '--scales'",
        ),
        (
            "",
            {"WSSS_RANDOM_WALK_BETTA": "8"},
            "WSSS_RANDOM_WALK_BETTA is no option of random-walk; did you mean",
        ),
        ("", {"WSSS_INDEX_VOC_SPLTI": "val"}, "is no option of index voc; did you mean"),
        (
            "",
            {"WSSS_INDEX_VC_SPLIT": "val"},
            "is no option of index; did you mean WSSS_INDEX_VOC_…",
        ),
    ],
)
def test_what_a_command_would_refuse_is_refused(
    text: str, environment: dict[str, str], problem: str, run: Run
) -> None:
    Path("wsss.toml").write_text(text)
    result = run("config", env={**os.environ, **environment}, check=2)
    assert problem in result.err
    assert result.err.count("\n") == 1


def test_a_file_that_is_not_there_yet_is_a_setting(run: Run) -> None:
    Path("wsss.toml").write_text('[random-walk]\ncheckpoint = "later.pt"\n')
    out = run("config", "--changed", check=0).out
    assert out == 'random-walk.checkpoint = "later.pt"  # file\n'


def test_a_variable_that_is_no_option_ends_its_command_only(run: Run) -> None:
    environment = {**os.environ, "WSSS_ERASE_TOPP": "0.3"}
    assert "WSSS_ERASE_TOPP is no option of erase" in run("erase", env=environment, check=2).err
    assert run("config", "crf", env=environment, check=0).err == ""
