"""Shared by all tests: real processes, and small data made on the spot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pytest
from PIL import Image

from tests.looking import cam_checkpoint as cam_checkpoint
from tests.looking import looking as looking
from tests.mirror import mirror as mirror
from wsss_cli import console, files
from wsss_cli.cli import COMMANDS, cli

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side on the cores there are
# Under `make test`, the make that a test starts is on its own.
for variable in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
    os.environ.pop(variable, None)
# `nohup` and a shell's `&` ignore these signals, and so would the processes that tests interrupt.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


class Result(NamedTuple):
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Result]

CLASSES = ["cat", "dog"]
KINDS: dict[str, dict[str, Any]] = {
    "cam": {"output_stride": 16},
    "eps": {"output_stride": 16},
    "sipe": {"output_stride": 16},
    "affinity": {"output_stride": 16},
    "irn": {"output_stride": 16},
    "segmentation": {"output_stride": 16, "head": "largefov"},
}


@pytest.fixture(autouse=True)
def talkative() -> Iterator[None]:
    """A command called in this process with -q silences no other test."""
    yield
    console.configure()


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("WSSS_"):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def run(workdir: Path) -> Run:
    """``run("make-cam", "-c", "cam.pt", input=records)``: the command in a process of its own."""

    def call(*args: str | Path, input: Any = "", check: int | None = None, **kwargs: Any) -> Result:
        if not isinstance(input, str):
            input = as_lines(input)
        done = subprocess.run(
            [sys.executable, "-m", "wsss_cli", *map(str, args)],
            input=input,
            capture_output=True,
            text=True,
            timeout=120,
            **kwargs,
        )
        if check is not None:
            assert done.returncode == check, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def shell(workdir: Path) -> Run:
    """``shell("wsss index … | head -1")``: a bash pipeline with ``pipefail``."""

    def call(script: str, check: int | None = None, timeout: float = 120) -> Result:
        command = f"set -uo pipefail\nwsss() {{ '{sys.executable}' -m wsss_cli \"$@\"; }}\n{script}"
        done = subprocess.run(
            ["bash", "-c", command],
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        if check is not None:
            assert done.returncode == check, done.stderr
        return Result(done.returncode, done.stdout, done.stderr)

    return call


def as_lines(records: Any) -> str:
    """Records as the text of a stream."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


@pytest.fixture
def photographs(workdir: Path) -> list[dict[str, Any]]:
    """Records of four small photographs of two sizes, labelled cat and dog."""
    rng = np.random.default_rng(0)
    made = []
    for number, (height, width) in enumerate([(48, 64), (48, 64), (64, 48), (48, 64)]):
        name = f"photo {number} é.png"
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(name)
        labels = [["cat"], ["dog"], ["cat", "dog"], []][number]
        made.append({"id": f"photo {number} é", "image": name, "labels": labels})
    return made


@pytest.fixture(scope="session")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small untrained checkpoint of each kind."""
    import torch

    from wsss_cli.models.networks import build_network

    torch.manual_seed(0)
    made = {}
    for kind, config in KINDS.items():
        path = tmp_path_factory.mktemp("networks") / "a.pt"
        network = build_network(kind, "efficientnet-lite0", CLASSES, config)
        files.save_checkpoint(
            path,
            kind=kind,
            backbone="efficientnet-lite0",
            classes=CLASSES,
            config={**config, "training": {}},
            state_dict=network.state_dict(),
        )
        made[kind] = path
    return made


@pytest.fixture
def ready(photographs: list[dict[str, Any]], networks: dict[str, Path]) -> list[dict[str, Any]]:
    """list[dict[str, Any]] that have all that any tool reads, beside the checkpoints."""
    Path("classes.txt").write_text("cat\ndog\n")
    Path("map.txt").write_text("0 background\n1 cat\n2 dog\n")
    for kind, path in networks.items():
        Path(f"{kind}.pt").hardlink_to(path)  # 120 MB, for each of a hundred tests
    for number, record in enumerate(photographs):
        size = files.image_size(record["image"])
        labels = np.zeros(size, np.uint8)
        labels[10:30, 10:30] = 1
        meta = files.provenance("t", {}, classes=CLASSES)
        for key in ("mask", "aff_label", "pseudo", "pred"):
            record[key] = f"{key} {number}.png"
            files.write_label_map(record[key], labels, meta)
        record["saliency"] = f"saliency {number}.png"
        Image.fromarray(np.where(labels, 255, 0).astype(np.uint8)).save(record["saliency"])
        cam = np.full((len(record["labels"]), 12, 16), 0.5)
        record["cam"] = f"cam {number}.npz"
        files.write_maps(record["cam"], cam, record["labels"], size, meta)
    return photographs


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy data set of 24 training and 8 validation images."""
    from wsss_cli.datasets.toy import make_toy

    root = tmp_path_factory.mktemp("toy") / "toy"
    make_toy(root, train=24, val=8, seed=0)
    return root


@pytest.fixture
def inside(workdir: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """``inside("predict", "-c", "seg.pt", input=records)``: as ``run``, but in this process."""

    def call(*args: str | Path, input: Any = "", check: int | None = None) -> Result:
        stream = workdir / "stream.jsonl"
        stream.write_text(input if isinstance(input, str) else as_lines(input))
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli([*map(str, args), str(stream)], prog_name="wsss", auto_envvar_prefix="WSSS")
        said = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        if check is not None:
            assert ended.value.code == check, said.err
        return Result(ended.value.code, said.out, said.err)

    return call


class Evil:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch evil-ran",)


def commands() -> list[tuple[str, click.Command]]:
    context = click.Context(cli, info_name="wsss")
    found: list[tuple[str, click.Command]] = []
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            inner = click.Context(command, parent=context, info_name=name)
            for sub in command.list_commands(inner):
                within = command.get_command(inner, sub)
                assert within is not None
                found.append((f"{name} {sub}", within))
        else:
            found.append((name, command))
    return found
