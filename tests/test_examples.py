"""The recipes in examples/ and their targets in the Makefile: each is valid and runs on small data.

voc6-select.sh and the id lists: tests/datasets/test_voc6.py.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from PIL import Image

from wsss_cli import files
from wsss_cli.cli import cli, load_settings
from wsss_cli.files import read_image, read_label_map, write_label_map
from wsss_cli.models.networks import build_network

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = REPOSITORY / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.sh"))
Script = Callable[..., subprocess.CompletedProcess[str]]


def installed(folder: Path) -> Path:
    """A script ``wsss`` in the folder."""
    tool = folder / "wsss"
    folder.mkdir(exist_ok=True)
    tool.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {sys.executable} -m wsss_cli "$@"\n')
    tool.chmod(0o755)
    return tool


@pytest.fixture
def script(workdir: Path) -> Script:
    """``script("ci-eval.sh", "data", …)``: the script with ``wsss`` on the path."""
    tool = installed(workdir / "bin")

    def call(name: str, *args: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            **settings,
            "PATH": f"{tool.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
        }
        return subprocess.run(
            ["bash", str(EXAMPLES / name), *args],
            env=environment,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )

    return call


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_each_script_is_valid_documents_its_usage_and_stops_at_the_first_failure(
    path: Path,
) -> None:
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    text = path.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert f"# usage: {'sbatch ' if 'SBATCH' in text else ''}{path.name}" in text
    assert os.access(path, os.X_OK)


def test_regions_grow_step_by_step(script: Script, workdir: Path) -> None:
    """Adversarial erasing, two steps; a second run computes nothing again."""
    rng = np.random.default_rng(0)
    lines = []
    for number in range(4):
        name = f"{number} é.png"
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(name)
        Image.fromarray(rng.integers(0, 256, (48, 64), dtype=np.uint8)).save(f"s{number}.png")
        record = {"id": str(number), "image": name, "labels": [["cat"], ["dog"]][number % 2]}
        lines.append(json.dumps({**record, "saliency": f"s{number}.png"}) + "\n")
    Path("in.jsonl").write_text("".join(lines))
    Path("classes.txt").write_text("cat\ndog\n")
    Path("wsss.toml").write_text(
        '[train-cam]\nepochs = 1\ncrop = 64\nresize = "48,80"\ndevice = "cpu"\nweights = "none"\n'
        '[make-cam]\nscales = "1"\nworkers = 1\n[erase]\nworkers = 1\n'
    )
    call = ("ae-psl.sh", "in.jsonl", "classes.txt", "out", "2")
    done = script(*call, PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:4] for line in done.stderr.splitlines() if line.startswith("| ")]
    steps = [row for row in rows if row[0].strip().isdigit()]
    assert [row[0].strip() for row in steps] == ["1", "1", "2"]
    assert all(0 < float(row[1]) < 5 for row in steps)
    grown = [json.loads(line) for line in Path("out/growth.jsonl").read_text().splitlines()]
    shares: list[list[float]] = [[], []]
    for record in grown:
        assert record["mined2"] == record["mined"]
        for step in (0, 1):
            labels = files.read_label_map(record[f"mined{step + 1}"])
            assert set(np.unique(labels)) <= {0, 1 + (record["labels"] != ["cat"])}
            shares[step].append(float((labels != 0).mean()))
        assert shares[0][-1] <= shares[1][-1]
        meta = files.read_meta(record["cam"])
        assert meta is not None
        assert meta["params"]["image_key"] == "erased"
        assert meta["from"]["erased"] == files.read_meta(f"out/step1/erased/{record['id']}.png")
    assert float(steps[-1][2].strip(" %")) == pytest.approx(100 * np.mean(shares[1]), abs=0.1)
    with Image.open("out/growth.png") as sheet:
        assert sheet.width > 4 * 200  # the image, two steps, the pseudo-mask
    made = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*/*/*.*")}
    assert len(made) == 2 * 4 * 4
    again = script(*call, PYTHON=sys.executable)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("finished already") == 2
    assert {path: path.stat().st_mtime_ns for path in made} == made


def recipe_calls(recipe: str, *targets: str) -> list[list[str]]:
    """The commands of wsss that make would run for a recipe; fails if one does not parse."""
    command = ["make", "-n", "-f", str(EXAMPLES / recipe), "DATA=voc6", *targets]
    command.append(f"WSSS={installed(Path('bin').absolute())}")  # asked for the epochs
    Path("voc6").mkdir()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return parsed_calls(done.stdout)


def parsed_calls(commands: str) -> list[list[str]]:
    """The commands of wsss among those that make printed; fails if one does not parse."""
    calls = []
    for line in commands.splitlines():
        for part in re.split(r"\||&&|;", line):
            words = part.split(">")[0].split()
            if words and Path(words[0]).name == "wsss":
                settings = None
                if words[1] == "--config":
                    settings = str(REPOSITORY / words[2])
                    del words[1:3]
                calls.append(words[1:])
                for word, after in pairwise(words):
                    if word == "-c":
                        Path(after).parent.mkdir(parents=True, exist_ok=True)
                        Path(after).touch()  # the checkpoint must be there
                parsed(words[1:], settings)
    return calls


@pytest.mark.usefixtures("workdir")
def test_the_recipe_of_erasing_is_all_valid() -> None:
    """Every command that make would run, the second round included."""
    calls = recipe_calls("ae.mk", "runs/voc6/ae/psl2.json", "ae")
    tools = [call[0] for call in calls]
    assert tools.count("erase") == 3
    assert tools.count("train-cam") == 3
    assert [call[-1] for call in calls if call[0] == "train-seg"] == [
        f"runs/voc6/ae/{name}.pt" for name in ("psl", "psl2", "plain")
    ]
    assert sum("--psl" in call for call in calls) == 2
    trained = [call[call.index("--image-key") + 1] for call in calls if "--image-key" in call]
    assert trained == ["erased"] * 4


@pytest.mark.parametrize(
    ("setting", "networks"),
    [
        ("ROUNDS=1", ["plain", "psl"]),
        ("ROUNDS=2", ["plain", "psl", "psl2"]),
        ("STAGE=ae-second", ["plain", "psl", "psl2"]),
    ],
)
@pytest.mark.usefixtures("workdir")
def test_a_second_round_of_erasing_trains_one_more_network(
    setting: str, networks: list[str]
) -> None:
    calls = recipe_calls("ae.mk", setting)
    trained = [Path(call[-1]).stem for call in calls if call[0] == "train-seg"]
    assert trained == networks


def test_another_number_of_rounds_is_refused() -> None:
    done = subprocess.run(
        ["make", "-n", "-f", str(EXAMPLES / "ae.mk"), "DATA=voc6", "ROUNDS=3"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "ROUNDS is 1 or 2, not '3'" in done.stderr


@pytest.mark.usefixtures("workdir")
def test_the_recipe_of_eps_is_all_valid() -> None:
    calls = recipe_calls("eps.mk", "eps")
    variants = [call[call.index("--variant") + 1] for call in calls if call[0] == "eps-train"]
    assert variants == ["eps", "eps++"]
    starts = [call[call.index("-c") + 1] for call in calls if call[0] == "train-aff"]
    assert sorted(starts) == ["runs/voc6/eps/eps.pt", "runs/voc6/eps/epspp.pt"]
    assert "--threshold" not in next(call for call in calls if call[0] == "crf")
    networks = [call[-1] for call in calls if call[0] == "train-seg"]
    assert sorted(networks) == [
        *(
            f"runs/voc6/eps/{name}.pt"
            for name in ("plain/weak", "strong16", "strong4", "strong8", "weak")
        ),
        "runs/voc6/full.pt",
    ]
    assert sum("mask,pseudo" in call for call in calls) == 3


@pytest.mark.usefixtures("workdir")
def test_the_recipe_of_sipe_is_all_valid() -> None:
    calls = recipe_calls("sipe.mk", "sipe")
    maps = [call[call.index("--map") + 1] for call in calls if "--map" in call]
    assert maps == ["cam"]
    start = next(call for call in calls if call[0] == "train-aff")
    assert start[start.index("-c") + 1] == "runs/voc6/sipe/sipe.pt"
    regions = next(call for call in calls if call[0] == "make-aff-labels")
    assert regions[1] == "runs/voc6/sipe/is-cam.maps.jsonl"
    networks = [call[-1] for call in calls if call[0] == "train-seg"]
    assert networks == ["runs/voc6/sipe/weak.pt", "runs/voc6/full.pt"]


@pytest.mark.parametrize(
    ("maps", "folder", "made_of"),
    [
        ("cam", "", "runs/voc6/cam.jsonl"),
        ("eps", "eps/plain/", "runs/voc6/eps/eps.maps.jsonl"),
        ("epspp", "eps/", "runs/voc6/eps/epspp.maps.jsonl"),
        ("sipe", "sipe/", "runs/voc6/sipe/is-cam.maps.jsonl"),
    ],
)
@pytest.mark.parametrize("own", ["", "--cut-own 1,0.5"])
@pytest.mark.usefixtures("workdir")
def test_the_recipe_of_irnet_is_all_valid(maps: str, folder: str, made_of: str, own: str) -> None:
    calls = recipe_calls("irn.mk", "irn", f"MAPS={maps}", f"IRN_LABEL={own}")
    folders = [f"runs/voc6/{folder}", f"runs/voc6/{folder}irn/"]
    regions = f"{folders[bool(own)]}aff_label"
    (learns,) = [call for call in calls if call[0] == "irn-train"]
    assert learns[1] == f"{regions}.jsonl"
    made = [call for call in calls if call[0] == "make-aff-labels"]
    assert [call[-1] for call in made] == [f"{folders[0]}aff_label", regions][: 1 + bool(own)]
    assert all(call[1] == made_of for call in made)
    assert ("--cut-own" in made[-1]) == bool(own)
    walks = [call for call in calls if call[0] == "random-walk"]
    assert [call[-1] for call in walks] == [f"{name}pseudo" for name in folders]
    assert walks[1][1] == f"{regions}.jsonl"
    networks = [call[-1] for call in calls if call[0] == "train-seg"]
    assert sorted(networks) == sorted(
        ["runs/voc6/full.pt", *(f"{name}weak.pt" for name in folders)]
    )


def test_irnet_on_other_maps_is_refused() -> None:
    command = ["make", "-n", "-f", str(EXAMPLES / "irn.mk"), "DATA=d", "MAPS=ae"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "MAPS is cam, eps, epspp or sipe, not 'ae'" in done.stderr


@pytest.mark.usefixtures("workdir")
def test_the_recipe_of_the_sweep_is_all_valid() -> None:
    values = ("BETAS=2 8", "STEPS=", "ALPHAS=4", "FLOORS=0.5")
    calls = recipe_calls("sweep.mk", "sweep", *values)
    walks = [call for call in calls if call[0] == "random-walk"]
    tried = ["--beta 2", "--beta 8", "--alpha 4", "--floor 0.5"]
    assert [" ".join(call[3:5]) for call in walks] == tried
    assert [call[-1] for call in walks] == [
        f"runs/voc6/sweep/train/{name}" for name in ("beta-2", "beta-8", "alpha-4", "floor-0.5")
    ]
    assert not {"train-seg", "predict"} & {call[0] for call in calls}


def test_a_sweep_of_nothing_is_refused() -> None:
    command = ["make", "-n", "-f", str(EXAMPLES / "sweep.mk"), "DATA=d"]
    done = subprocess.run(
        [*command, "BETAS=", "STEPS=", "ALPHAS=", "FLOORS="],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "give a value to try: BETAS, STEPS, ALPHAS or FLOORS" in done.stderr


def test_a_sweep_becomes_a_table_and_a_plot(workdir: Path) -> None:
    names = ["beta-16", "beta-2", "steps-256"]
    for number, name in enumerate(names):
        figures = {"miou": 0.5 + 0.1 * number, "precision": 0.7, "recall": 0.6, "images": 3}
        Path(f"{name}.json").write_text(json.dumps(figures))
    command = [sys.executable, EXAMPLES / "sweep.py", ".", *(f"{name}.json" for name in names)]
    shown = subprocess.check_output(command, text=True, cwd=workdir)
    assert "| beta | 2 | 60.0 |\n| beta | 16 | 50.0 |\n| steps | 256 | 70.0 |" in shown
    assert Path("sweep.csv").read_text().splitlines()[:2] == [
        "setting,value,miou,precision,recall,images",
        "beta,16,0.500000,0.700000,0.600000,3",
    ]
    with Image.open("sweep.png") as plot:
        pixels = np.asarray(plot.convert("RGB"))
    assert pixels.shape == (300, 700, 3)
    blue = (pixels == (38, 84, 190)).all(2)
    rows = np.nonzero(blue[:, 60:360].any(1))[0]
    assert len(rows) > 40  # from one point to the other
    assert blue[:, 380:].any()


# ---- the targets of the Makefile ----

NAMES = ["ae", "eps", "irn", "sipe", "all"]
PAPERS = {
    "psa": "psa",
    "ae": "ae-psl",
    "eps": "eps",
    "eps++": "eps++",
    "irn": "irn",
    "sipe": "sipe",
}


def make(workdir: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """``make -n`` in the repository, with an environment that counts as installed."""
    venv = workdir / "venv"
    venv.mkdir(exist_ok=True)
    (venv / ".ready").touch()
    installed(venv / "bin")
    command = ["make", "-n", f"VENV={venv}", f"DATA={workdir}/voc6", f"RUN={workdir}/run", *args]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["voc", *NAMES])
def test_a_target_runs_the_recipe_of_its_name(name: str, workdir: Path) -> None:
    (workdir / "voc6").mkdir()
    done = make(workdir, "voc6" if name == "voc" else f"voc6-{name}")
    assert done.returncode == 0, done.stderr
    assert f"-f examples/{name}.mk\n" in done.stdout
    assert ("summary.py" if name == "all" else "table.py") in done.stdout
    assert "--config examples/cpu.toml train-cam" in done.stdout
    calls = parsed_calls(done.stdout)
    assert {call[0] for call in calls} >= {"index", "train-cam", "make-cam", "train-seg", "eval"}


@pytest.mark.parametrize(("name", "paper"), PAPERS.items())
def test_a_paper_runs_with_its_settings(name: str, paper: str, workdir: Path) -> None:
    (workdir / "voc6").mkdir()
    done = make(workdir, f"voc-{name}")
    assert done.returncode == 0, done.stderr
    calls = parsed_calls(done.stdout)
    tables = tomllib.loads((EXAMPLES / "papers" / f"{paper}.toml").read_text())
    assert {call[0] for call in calls} - {"eval", "index"} == set(tables)
    assert Counter(call[0] for call in calls)["erase"] == (3 if name == "ae" else 0)
    called = re.findall(r"wsss( --config \S+)? ([a-z-]+)", done.stdout)
    of = f" --config examples/papers/{paper}.toml"
    assert {settings for settings, command in called if command in tables} == {of}
    # A recipe holds no settings.
    given = {word for call in calls for word in call if word.startswith("--")}
    assert given <= set(
        [
            "--skip-existing",
            "--resume",
            "--replace",
            "--image-key",
            "--classes",
            "--format",
            "--key",
            "--split",
            "--saliency",
        ]
    )


def test_all_papers_run_one_after_another(workdir: Path) -> None:
    done = make(workdir, "voc-all")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"PAPER=(\S+)", done.stdout) == list(PAPERS.values())


def test_a_paper_without_settings_is_refused(workdir: Path) -> None:
    command = ["make", "-n", "-f", str(EXAMPLES / "papers.mk"), "DATA=voc6", "PAPER=nix"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "not 'nix'" in done.stderr


@pytest.mark.parametrize("target", ["voc6-nix", "voc-nix", "voc-toy", "voc6-voc"])
def test_a_target_without_a_recipe_fails_with_the_list_of_recipes(
    target: str, workdir: Path
) -> None:
    done = make(workdir, target)
    assert (done.returncode, done.stdout) == (2, "")
    names = " ".join(NAMES if target.startswith("voc6-") else [*PAPERS, "all"])
    (line,) = done.stderr.splitlines()
    assert f"no recipe for '{target}'; NAME is one of: {names}" in line


def test_make_help_lists_the_targets_and_the_names_of_the_recipes() -> None:
    done = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *lines, names = done.stdout.splitlines()
    listed = [line.split()[0] for line in lines]
    assert {"demo", "voc-NAME", "voc-all", "voc6", "voc6-NAME", "test"} <= set(listed)
    assert names == f"NAME is one of: {' '.join(PAPERS)} all for voc, {' '.join(NAMES)} for voc6"
    for name in [*NAMES, "papers"]:
        assert (EXAMPLES / f"{name}.mk").exists()


# ---- times and tables ----


STAND_IN = """#!/usr/bin/env bash
# Stands in for wsss: writes the files named by -o, and sleeps where wsss would train.
set -eu
[ "$1" != --config ] || shift 2
if [ "$1" = config ]; then echo "$2.epochs = 12  # file"; exit; fi
while [ $# -gt 0 ]; do
    case "$1" in
    -o)
        mkdir -p "$(dirname "$2")"
        case "$2" in *.pt) sleep 1; touch "$2" ;; *.png) touch "$2" ;; esac
        ;;
    esac
    shift
done
[ ! -p /dev/stdin ] || cat > /dev/null
echo '{"id": "x", "images": 3, "miou": 0.5}'
"""


def test_all_methods_come_into_one_table_with_their_times(workdir: Path) -> None:
    tool = workdir / "bin" / "wsss"
    tool.parent.mkdir()
    tool.write_text(STAND_IN)
    tool.chmod(0o755)
    Path("bin/python3").write_text(
        f'#!/bin/sh\ncase $1 in *ae_steps.py) exit 0;; esac\nexec {sys.executable} "$@"\n'
    )
    Path("bin/python3").chmod(0o755)
    Path("voc6").mkdir()
    command = ["make", "-s", "-f", str(EXAMPLES / "all.mk"), "DATA=voc6"]
    environment = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    times = Path("runs/voc6/times.tsv").read_text().splitlines()
    spent = {line.split()[-1]: int(line.split()[0]) for line in times}
    trained = [name for name in spent if name.endswith(".pt")]
    assert len(trained) == 28
    assert all(spent[name] >= 1 for name in trained)
    table = done.stdout[done.stdout.index("| method ") :].splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == [
        "CAM + AffinityNet",
        "CAM + IRNet",
        "AE-PSL",
        "EPS + AffinityNet",
        "EPS + IRNet",
        "EPS++ + AffinityNet",
        "EPS++ + IRNet",
        "SIPE + AffinityNet",
        "SIPE + IRNet",
        "true masks (ceiling)",
    ]
    measured = "50.0 | 50.0 | 50.0 | 100.0 % | "
    assert table[9].startswith(f"| SIPE + AffinityNet | `make voc6-sipe` | {measured}")
    assert table[10].startswith(f"| SIPE + IRNet | `make voc6-irn MAPS=sipe` | {measured}")


def test_the_time_of_a_command_is_written_however_it_ends(workdir: Path) -> None:
    timed = ["bash", str(EXAMPLES / "timed.sh")]
    environment = {**os.environ, "TIMES": str(workdir / "run" / "times.tsv")}
    assert subprocess.run([*timed, "true"], env=environment).returncode == 0  # no folder yet
    for command, code in (
        ("mkdir run", 0),
        ("sleep 1; exit 3", 3),
        ("false | cat; touch reached", 1),
        ("echo a \\\n  'b  c' > out", 0),
    ):
        assert subprocess.run([*timed, command], env=environment).returncode == code
    assert not Path("reached").exists()
    assert Path("out").read_text() == "a b  c\n"
    lines = [line.split("\t") for line in Path("run/times.tsv").read_text().splitlines()]
    assert [command for _, command in lines] == [
        "mkdir run",
        "sleep 1; exit 3",
        "false | cat; touch reached",
        "echo a \\   'b  c' > out",
    ]
    assert int(lines[1][0]) >= 1
    without = {key: value for key, value in os.environ.items() if key != "TIMES"}
    assert subprocess.run([*timed, "true"], env=without).returncode == 0


def test_the_time_of_a_method_is_that_of_all_its_attempts(tmp_path: Path) -> None:
    lines = [
        "100\twsss train-cam a -o {0}/x/cam.pt",
        "80\twsss train-cam a --resume -o {0}/x/cam.pt",
        "60\twsss make-cam a -o {0}/x/cam | wsss erase -o {0}/x/mined > {0}/x/done.jsonl",
        "600\twsss train-seg b -o {0}/full.pt",
    ]
    (tmp_path / "times.tsv").write_text("\n".join(lines).format(tmp_path) + "\n")
    (tmp_path / "full.json").write_text('{"miou": 0.8}')
    (tmp_path / "weak.json").write_text('{"miou": 0.6}')
    done = subprocess.run(
        [sys.executable, EXAMPLES / "summary.py", tmp_path, "A:a:nix::weak:x/*", "B:b::::y.pt"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[2:] == [
        "| A | `make a` | – | – | 60.0 | 75.0 % | 4 |",
        "| B | `make b` | – | – | – | – | – |",
    ]


def test_a_table_has_rows_and_ratios(tmp_path: Path) -> None:
    for name, miou in (("a/weak", 0.5), ("full", 0.625)):
        path = tmp_path / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": 7, "miou": miou}))
    rows = ("a/weak:val:weak: some", "a/weak%full:val:ratio")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "table.py", tmp_path, *rows], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[2:] == [
        "| weak: some | val | 7 | 50.0 |",
        "| ratio | val | | 80.0 % |",
    ]


def test_a_table_of_several_seeds_has_means_and_sample_standard_deviations(tmp_path: Path) -> None:
    """Of shares, those within each seed: 0.5 and 0.9, whose mean is not that of the means."""
    figures = {"weak": (0.4, 0.72), "full": (0.8, 0.8), "big": (0.1, 0.25)}
    for name, each in figures.items():
        for seed, miou in zip((7, 12), each, strict=True):
            path = tmp_path / f"seed{seed}" / f"{name}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps({"images": 7, "miou": miou}))
    rows = ("weak=61.7:val:weak", "full:val:full", "weak%full:val:ratio", "full%big:val:more")

    def table() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, EXAMPLES / "table.py", "--seeds", "7 12", tmp_path, *rows]
        return subprocess.run(command, capture_output=True, text=True)

    assert table().stdout.splitlines() == [
        "| stage | measured on | images | mIoU, 2 seeds | published |",
        "|---|---|---:|---:|---:|",
        "| weak | val | 7 | 56.0 ± 22.6 | 61.7 |",  # 0.32 / √2
        "| full | val | 7 | 80.0 ± 0.0 | – |",
        "| ratio | val | | 70.0 ± 28.3 % | – |",
        "| more | val | | 560.0 ± 339.4 % | – |",
    ]
    (tmp_path / "seed12" / "weak.json").write_text('{"images": 8, "miou": 0.5}')
    done = table()
    assert done.returncode == 1
    assert done.stderr == "weak: measured on [7, 8] images, which cannot be averaged\n"


def test_mosaics_are_photographs_and_masks_side_by_side(workdir: Path) -> None:
    lines = []
    for number in range(37):
        height = 375 if number else 374  # another size is left out
        colour = (7 * number, 255 - 7 * number, 90)
        Image.new("RGB", (500, height), colour).save(f"{number}.png")
        write_label_map(f"mask {number}.png", np.full((height, 500), number, np.uint8))
        record = {"id": f"{number}", "image": f"{number}.png", "mask": f"mask {number}.png"}
        lines.append(json.dumps({**record, "labels": [f"class {number % 3}"]}))

    def made(*args: str) -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, EXAMPLES / "mosaics.py", *args],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    (record,) = made("out", "1")
    pixels, mask = read_image(record["image"]), read_label_map(record["mask"])
    assert pixels.shape == (2250, 3000, 3)
    seen = mask[::375, ::500]
    assert sorted(seen.flatten()) == list(range(1, 37))
    assert (mask == seen.repeat(375, 0).repeat(500, 1)).all()
    assert abs(pixels[180::375, 250::500, 0] - 7.0 * seen).max() < 4
    assert record["labels"] == ["class 0", "class 1", "class 2"]
    first, second = made("out", "2", "enlarged")
    for each in (first, second):
        mask = read_label_map(each["mask"], (2250, 3000))
        assert len(np.unique(mask)) == 1
        assert each["labels"] == [f"class {mask[0, 0] % 3}"]
    assert first["id"] != second["id"]
    with pytest.raises(subprocess.CalledProcessError):
        made("out", "2")


def test_a_table_gives_the_published_figures_beside_ours(tmp_path: Path) -> None:
    for name in ("cam", "seg"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"images": 7, "miou": 0.5}))
    rows = ("cam:train:CAM", "seg=61.7:val:network", "seg%cam:val:ratio")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "table.py", tmp_path, *rows], capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [
        "| stage | measured on | images | mIoU | published |",
        "|---|---|---:|---:|---:|",
        "| CAM | train | 7 | 50.0 | – |",
        "| network | val | 7 | 50.0 | 61.7 |",
        "| ratio | val | | 100.0 % | – |",
    ]


def test_ci_fails_below_the_floor(script: Script, toy_root: Path) -> None:
    torch.manual_seed(0)
    classes = (toy_root / "classes.txt").read_text().split()
    config = {"output_stride": 16, "head": "aspp"}
    network = build_network("segmentation", "efficientnet-lite0", classes, config)
    files.save_checkpoint(
        "seg.pt",
        kind="segmentation",
        backbone="efficientnet-lite0",
        classes=classes,
        config=config,
        state_dict=network.state_dict(),
    )
    small = {"WSSS_PREDICT_SCALES": "0.5", "WSSS_PREDICT_DEVICE": "cpu"}
    for floor, code in (("0", 0), ("0.99", 1)):
        done = script("ci-eval.sh", str(toy_root), "val", "seg.pt", floor, **small)
        assert done.returncode == code, done.stderr
        result = json.loads(Path("eval.json").read_text())
        assert result == json.loads(done.stdout)
        assert result["images"] == 8


# ---- scripts for a cluster: their command lines are checked, but not run ----

RECORDER = """#!/bin/sh
cat > /dev/null
printf '%s\\n' "$(basename "$0") $*" >> calls
[ -t 1 ] || echo '{{"id": "x"}}'
"""


def parsed(words: list[str], settings: str | None = None) -> None:
    """Raise the error that the command line would report, with that file of settings if any."""
    context = click.Context(cli)
    context.obj, context.default_map = load_settings(settings)
    command = cli.get_command(context, words[0])
    assert command is not None
    command.make_context(words[0], words[1:], parent=context)


def recorded(script: Script, name: str, *args: str, **settings: str) -> list[list[str]]:
    """The valid command lines of a script, recorded instead of run."""
    for tool in ("wsss", "torchrun"):
        path = Path("bin") / tool
        path.write_text(RECORDER.format())
        path.chmod(0o755)
    for file in ("cam.pt", "cam.log.jsonl", "aff.pt", "records.jsonl"):
        Path(file).touch()
    done = script(name, *args, **settings)
    assert done.returncode == 0, done.stderr
    calls = [line.split() for line in Path("calls").read_text().splitlines()]
    for tool, *words in calls:
        parsed(words[words.index("wsss_cli") + 1 :] if tool == "torchrun" else words)
    return calls


def test_several_gpus_train_together_and_share_the_records(script: Script) -> None:
    train, *maps = recorded(script, "several-gpus.sh", "records.jsonl", "3")
    assert train[:5] == ["torchrun", "--nproc-per-node", "3", "-m", "wsss_cli"]
    given = sorted(
        (call[call.index("--shard") + 1], call[call.index("--device") + 1]) for call in maps
    )
    assert given == [("1/3", "cuda:0"), ("2/3", "cuda:1"), ("3/3", "cuda:2")]
    assert Path("cam.jsonl").read_text() == '{"id": "x"}\n' * 3  # without the training log


def test_several_gpus_stop_if_one_of_them_fails(script: Script) -> None:
    Path("bin/torchrun").symlink_to("/bin/true")
    Path("bin/wsss").write_text("#!/bin/sh\ncase $* in *cuda:1*) exit 1; esac\n")
    done = script("several-gpus.sh", "records.jsonl", "3")
    assert done.returncode == 1
    assert not Path("cam.jsonl").exists()


def test_each_job_of_an_array_has_its_part(script: Script) -> None:
    calls = recorded(script, "slurm.sh", "records.jsonl", SLURM_ARRAY_TASK_ID="3")
    maker = next(call for call in calls if call[1] == "make-cam")
    assert maker[maker.index("--shard") + 1] == "3/8"
    assert all("--skip-existing" in call for call in calls)
    assert Path("pseudo.3.jsonl").read_text() == '{"id": "x"}\n'


# ---- what the recipes make again ----

KEEPING_BOOK = """#!/bin/sh
if [ "$1" = --config ]; then
    [ "$3" != config ] || { sed -n "/^.$4]/,/^$/p" "$2"; exit; }
    shift 2
fi
case $* in *--help) exit ;; esac
[ "$1" = index ] || echo "$1" >> calls
while [ $# -gt 0 ]; do
    case $1 in
        index) cat labels; exit ;;
        -o) case $2 in *.pt) echo > "$2" ;; esac ;;
    esac
    shift
done
echo '{}'
"""


def made_again(*settings: str, recipe: str = "voc.mk", last: str = "runs/weak.pt") -> list[str]:
    """The tools that the recipe runs, its `wsss` being one that only writes its files."""
    Path("calls").write_text("")
    command = ["make", "-f", str(EXAMPLES / recipe), "DATA=data", "RUN=runs", "WSSS=./wsss"]
    done = subprocess.run([*command, *settings, last], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Path("calls").read_text().split()


@pytest.mark.usefixtures("workdir")
def test_a_changed_setting_or_label_makes_again_what_follows() -> None:
    Path("wsss").write_text(KEEPING_BOOK)
    Path("wsss").chmod(0o755)
    Path("labels").write_text('{"id": "a", "labels": ["fox"]}\n')
    regions = ["make-aff-labels", "train-aff", "random-walk", "train-seg"]
    every = ["train-cam", "make-cam", *regions]
    assert made_again() == every
    assert made_again() == []
    assert made_again("AFF_LABEL=--low-alpha 3") == regions
    assert made_again("AFF_LABEL=--low-alpha 3") == []
    assert made_again() == regions  # back to the recipe's own
    assert made_again("WALK=--beta 4") == regions[2:]
    assert made_again("WALK=--beta 4", "TRAIN_SEG=--epochs 2") == regions[3:]
    assert made_again("SCALES=--scales 1") == every[1:]
    assert made_again("CRF=--threshold 0.5", "SCALES=--scales 1") == []  # of another branch
    Path("labels").write_text('{"id": "a", "labels": ["ram"]}\n')
    assert made_again("SCALES=--scales 1") == every
    Path("runs/aff.pt").unlink()
    assert made_again("SCALES=--scales 1") == regions[1:]
    # A setting of a command in the file: what follows from the others stays.
    changed = (EXAMPLES / "cpu.toml").read_text().replace("beta = 8.0", "beta = 4.0")
    Path("mine.toml").write_text(changed)
    assert made_again("SCALES=--scales 1", "CONFIG=mine.toml") == regions[2:]
    assert made_again("SCALES=--scales 1", "CONFIG=mine.toml") == []


# As the one above; its results differ with the seed of train-seg.
SEEDED = """#!/bin/sh
[ "$1" != --config ] || shift 2
case $1 in
    train-cam) echo "$1 $WSSS_TRAIN_CAM_SEED" >> calls ;;
    train-aff) echo "$1 $WSSS_TRAIN_AFF_SEED" >> calls ;;
    train-seg) echo "$1 $WSSS_TRAIN_SEG_SEED" >> calls; [ ! -e broken ] || exit 1 ;;
    config) echo "$1 $2 $WSSS_TRAIN_SEG_SEED"; exit ;;
    index) cat labels; exit ;;
    eval) cat > /dev/null
        printf '{"miou": 0.%s, "images": 3}' "${WSSS_TRAIN_SEG_SEED:-5}"; exit ;;
    crf) cat > /dev/null; echo "$1" >> calls ;;
    *) echo "$1" >> calls ;;
esac
while [ $# -gt 0 ]; do
    case $1 in
        -o) case $2 in *.pt) echo > "$2" ;; esac ;;
    esac
    shift
done
echo '{"id": "a"}'
"""


def with_seeds(seeds: str | None, recipe: str, *goals: str) -> subprocess.CompletedProcess[str]:
    Path("calls").write_text("")
    given = ["DATA=data", "RUN=runs", "WSSS=./wsss", f"PYTHON={sys.executable}", "PAPER=psa"]
    given += [] if seeds is None else [f"SEEDS={seeds}"]
    command = ["make", "-f", str(EXAMPLES / recipe), *given, *goals]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.usefixtures("workdir")
def test_a_recipe_runs_once_for_each_seed_and_prints_one_table() -> None:
    Path("wsss").write_text(SEEDED)
    Path("wsss").chmod(0o755)
    Path("labels").write_text('{"id": "a"}\n')
    Path("broken").touch()
    assert with_seeds("2 6", "voc.mk").returncode == 2
    assert Path("calls").read_text().split()[-2:] == ["train-seg", "2"]
    Path("broken").unlink()
    done = with_seeds("2 6", "voc.mk")  # goes on with what is missing
    assert done.returncode == 0, done.stderr
    calls = Path("calls").read_text().splitlines()
    assert "train-cam 2" not in calls
    for call, count in {
        "train-seg 2": 2,
        "train-cam 6": 1,
        "train-aff 6": 1,
        "train-seg 6": 2,
        "random-walk": 1,
    }.items():
        assert calls.count(call) == count
    assert sum(line.startswith("| stage") for line in done.stdout.splitlines()) == 1
    assert "| CAM, best threshold | train | 3 | 40.0 ± 28.3 |" in done.stdout
    assert "| weak / full supervision | val | | 100.0 ± 0.0 % |" in done.stdout
    assert sorted(path.name for path in Path("runs").iterdir()) == ["seed2", "seed6"]
    again = with_seeds("2 6", "voc.mk")
    assert Path("calls").read_text() == ""
    assert again.stdout.splitlines()[-8:] == done.stdout.splitlines()[-8:]
    # Another seed is added, and those that are there stay.
    assert "mIoU, 3 seeds" in with_seeds("2 6 4", "voc.mk").stdout
    assert {line for line in Path("calls").read_text().split() if line.isdigit()} == {"4"}


@pytest.mark.parametrize("seeds", [None, "4"])
@pytest.mark.usefixtures("workdir")
def test_one_seed_stays_in_the_folder_of_the_run(seeds: str | None) -> None:
    Path("wsss").write_text(SEEDED)
    Path("wsss").chmod(0o755)
    Path("labels").write_text('{"id": "a"}\n')
    done = with_seeds(seeds, "voc.mk")
    assert done.returncode == 0, done.stderr
    assert f"| CAM, best threshold | train | 3 | {seeds or 5}0.0 |" in done.stdout
    calls = Path("calls").read_text().splitlines()
    assert f"train-cam {seeds or ''}" in calls
    assert Path("runs/full.pt").exists()
    if seeds:  # another one makes anew what depends on it
        with_seeds("3", "voc.mk")
        assert {"train-seg 3"} < {*Path("calls").read_text().splitlines()}


@pytest.mark.parametrize("recipe", ["ae.mk", "eps.mk", "irn.mk", "sipe.mk", "all.mk", "papers.mk"])
@pytest.mark.usefixtures("workdir")
def test_every_recipe_takes_seeds(recipe: str) -> None:
    plan = with_seeds("0 3", recipe, "-n")
    assert plan.returncode == 0, plan.stderr
    called = [line for line in plan.stdout.splitlines() if "table.py" in line]
    assert len(called) == 1
    words = shlex.split(called[0])
    assert words[2:5] == ["--seeds", "0 3", "runs"]
    for row in words[5:]:  # each is made by the recipe
        for name in row.partition(":")[0].partition("=")[0].split("%"):
            for seed in ("seed0", "seed3"):
                assert re.search(rf"\bruns/{seed}/{name}\.json\b", plan.stdout), row


@pytest.mark.parametrize(
    ("recipe", "seeds", "goals", "said"),
    [
        ("voc.mk", "1 1", (), "SEEDS names a seed twice: 1 1"),
        ("voc.mk", "1 2", ("runs/weak.pt",), "give one seed to make runs/weak.pt, not 1 2"),
        ("sweep.mk", "1 2", (), "a sweep is of one seed, not of 1 2"),
    ],
)
@pytest.mark.usefixtures("workdir")
def test_seeds_that_make_no_sense_are_refused(
    recipe: str, seeds: str, goals: tuple[str, ...], said: str
) -> None:
    done = with_seeds(seeds, recipe, *goals)
    assert done.returncode == 2
    assert said in done.stderr
    assert not Path("runs").exists()


@pytest.mark.usefixtures("workdir")
def test_a_changed_setting_of_a_paper_makes_again_what_follows() -> None:
    Path("wsss").write_text(KEEPING_BOOK)
    Path("wsss").chmod(0o755)
    Path("labels").write_text('{"id": "a", "labels": ["fox"]}\n')
    settings = (EXAMPLES / "papers" / "psa.toml").read_text()
    every = ["train-cam", "make-cam", "make-aff-labels", "train-aff", "random-walk", "train-seg"]

    def again(*options: str) -> list[str]:
        named = ("PAPER=psa", "CONFIG=mine.toml")
        return made_again(*named, *options, recipe="papers.mk", last="runs/seg.pt")

    Path("mine.toml").write_text(settings)
    assert again() == every
    assert again() == []
    Path("mine.toml").write_text(settings.replace("beta = 8.0", "beta = 4.0"))
    assert again() == every[4:]
    assert again("train-seg=--lr 0.1") == every[5:]
    assert again("train-seg=--lr 0.1") == []
    Path("mine.toml").write_text(settings.replace("high_alpha = 32.0", "high_alpha = 24.0"))
    assert again() == every[2:]
    Path("labels").write_text('{"id": "a", "labels": ["ram"]}\n')
    assert again() == every


@pytest.mark.usefixtures("workdir")
def test_a_paper_without_weights_for_a_later_training_is_not_begun() -> None:
    """The options after the settings decide, the last of them."""
    Path("wsss").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m wsss_cli "$@"\n')
    Path("wsss").chmod(0o755)

    def begun(options: str, paper: str = "eps", *more: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "-f", str(EXAMPLES / "papers.mk"), "DATA=data", f"PAPER={paper}"]
        given = ["RUN=runs", "WSSS=./wsss", f"PYTHON={sys.executable}", f"train-seg={options}"]
        given += more
        return subprocess.run(
            [*command, *given, "runs/weights"], capture_output=True, text=True, timeout=300
        )

    done = begun("--weights 'no such.params'")
    assert done.returncode == 2
    assert "train-seg could not start: cannot read weights: no such.params: no such" in done.stderr
    assert "others: make … train-seg='--weights FILE'" in done.stderr
    assert not Path("runs/weights").exists()
    assert begun("--weights=missing.pt --weights none").returncode == 0
    assert Path("runs/weights").exists()
    Path("runs/weights").unlink()
    done = begun("--weights none", "psa", "train-cam=--weights none", "train-aff=--weights no.pt")
    assert "train-aff could not start: cannot read weights: no.pt: no such" in done.stderr
    assert not Path("runs/weights").exists()
    plan = subprocess.run(
        ["make", "-n", "-f", str(EXAMPLES / "papers.mk"), "DATA=data", "PAPER=eps", "RUN=new"],
        capture_output=True,
        text=True,
    ).stdout
    assert plan.index("weights.py") < plan.index("eps-train new/start.jsonl")


@pytest.mark.usefixtures("workdir")
def test_two_recipes_at_once_share_their_records() -> None:
    """Each waits until the other writes too."""
    Path("wsss").write_text(
        "#!/bin/sh\n: > started.$$\n"
        "for _ in $(seq 1000); do [ $(ls started.* | wc -l) -lt 2 ] || break; sleep 0.02; done\n"
        "cat labels\n"
    )
    Path("wsss").chmod(0o755)
    Path("labels").write_text('{"id": "a"}\n')
    command = ["make", "-f", str(EXAMPLES / "voc.mk"), "DATA=data", "RUN=runs", "WSSS=./wsss"]
    both = [subprocess.Popen([*command, "runs/train.jsonl"]) for _ in range(2)]
    assert [one.wait(timeout=60) for one in both] == [0, 0]
    assert Path("runs/train.jsonl").read_text() == '{"id": "a"}\n'
    assert not [*Path("runs").rglob("*.new")]


@pytest.mark.usefixtures("workdir")
def test_records_that_cannot_be_listed_leave_the_earlier_ones() -> None:
    Path("wsss").write_text("#!/bin/sh\necho '{}'; exit 2\n")
    Path("wsss").chmod(0o755)
    Path("runs").mkdir()
    Path("runs/train.jsonl").write_text('{"id": "a"}\n')
    command = ["make", "-f", str(EXAMPLES / "voc.mk"), "DATA=data", "RUN=runs", "WSSS=./wsss"]
    assert subprocess.run([*command, "runs/train.jsonl"]).returncode == 2
    assert Path("runs/train.jsonl").read_text() == '{"id": "a"}\n'
    assert not [*Path("runs").rglob("*.new")]


@pytest.mark.usefixtures("workdir")
def test_settings_that_are_refused_stop_the_recipe_and_leave_nothing() -> None:
    Path("wsss").write_text("#!/bin/sh\nexit 2\n")
    Path("wsss").chmod(0o755)
    for recipe, settings in (("voc.mk", "WALK"), ("papers.mk", "random-walk")):
        command = ["make", "-f", str(EXAMPLES / recipe), "DATA=data", "RUN=runs", "WSSS=./wsss"]
        done = subprocess.run([*command, "PAPER=psa", f"runs/settings/{settings}"])
        assert done.returncode == 2
        assert not [*Path("runs/settings").iterdir()]


@pytest.mark.usefixtures("workdir")
def test_a_misspelt_option_of_a_later_stage_stops_before_the_first_training() -> None:
    Path("wsss").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m wsss_cli "$@"\n')
    Path("wsss").chmod(0o755)
    Path("runs").mkdir()
    Path("runs/weights").touch()
    for recipe, option, target in (
        ("voc.mk", "WALK=--beta 4 --bata 8", "runs/cam.pt"),
        ("ae.mk", "TRAIN_STEP=--bata 8", "runs/cam.pt"),
        ("eps.mk", "TRAIN_SEG=--bata 8", "runs/eps/eps.pt"),
        ("sipe.mk", "CRF=--bata 8", "runs/sipe/sipe.pt"),
        ("papers.mk", "train-seg=--bata 8", "runs/cam.pt"),
    ):
        command = ["make", "-f", str(EXAMPLES / recipe), "DATA=data", "RUN=runs", "WSSS=./wsss"]
        given = ["PAPER=psa", option, "-o", "runs/train_aug.jsonl", "-o", "runs/start.jsonl"]
        early = ["-o", "runs/eps/train.jsonl", "-o", "runs/weights", target]
        done = subprocess.run([*command, *given, *early], capture_output=True, text=True)
        assert done.returncode == 2, recipe
        assert "No such option '--bata'" in done.stderr
        assert "train-cam runs" not in done.stdout + done.stderr


@pytest.mark.usefixtures("workdir")
def test_photographs_to_measure_that_are_not_among_those_with_masks_are_told() -> None:
    Path("wsss").write_text(KEEPING_BOOK)
    Path("wsss").chmod(0o755)
    Path("runs").mkdir()
    Path("runs/val.jsonl").write_text('{"id": "b", "labels": ["fox"]}\n')
    Path("runs/aff_label.jsonl").write_text('{"id": "a", "labels": ["fox"]}\n')
    command = ["make", "-f", str(EXAMPLES / "sweep.mk"), "DATA=data", "RUN=runs", "WSSS=./wsss"]
    kept = [
        word
        for name in ("val.jsonl", "aff_label.jsonl", "aff.pt")
        for word in ("-o", f"runs/{name}")
    ]
    Path("runs/aff.pt").touch()
    done = subprocess.run(
        [*command, "SPLIT=val", *kept, "runs/sweep/val/beta-8.json"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "make: no photograph of runs/val.jsonl is in runs/aff_label.jsonl" in done.stderr
    assert not Path("runs/sweep/val/beta-8.json").exists()
