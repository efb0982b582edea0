"""What the faults happen to: a small data set, networks, and the tools as processes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wsss_cli import files
from wsss_cli.datasets.toy import make_toy

REPOSITORY = Path(__file__).parents[2]
KINDS: dict[str, dict[str, Any]] = {
    "cam": {"output_stride": 16},
    "affinity": {"output_stride": 16},
    "irn": {"output_stride": 16},
    "segmentation": {"output_stride": 16, "head": "largefov"},
}
_MARK = "FAULTS"  # variable of the environment that interrupted tools, and their children, have
_PATIENCE = 30  # seconds that a tool may take to end, on a machine without much other work
CPU = ("--device", "cpu", "--precision", "fp32")
SMALL = ("--crop", "64", "--batch-size", "4", "--save-every", "2", *CPU)
# Every streaming tool, and the key that it adds.
STREAMING = {
    "make-cam": ("cam", ("-c", "cam.pt", "--scales", "1", "--workers", "1", *CPU)),
    "make-aff-labels": ("aff_label", ("--workers", "2")),
    "random-walk": ("pseudo", ("-c", "affinity.pt", "--workers", "1", *CPU)),
    "crf": ("pseudo", ("--workers", "2")),
    "erase": ("erased", ("--workers", "2", "--fill", "9,9,9")),
    "saliency": ("saliency", ("--workers", "2")),
    "predict": ("pred", ("-c", "segmentation.pt", "--scales", "1", "--workers", "1", *CPU)),
    "view": ("view", ("--keys", "image,cam,mask")),
}
CLASSIFIER = ("--classes", "toy/classes.txt", "--weights", "none", "--resize", "80,120")
TRAINING = {
    "train-cam": (*CLASSIFIER, "--epochs", "2", *SMALL),
    "eps-train": (*CLASSIFIER, "--epochs", "2", *SMALL),
    "sipe-train": (*CLASSIFIER, "--epochs", "2", *SMALL),
    "train-aff": ("-c", "cam.pt", "--epochs", "2", *SMALL),
    "irn-train": ("--classes", "toy/classes.txt", "--weights", "none", "--epochs", "2", *SMALL),
    "train-seg": (
        *("--target", "mask", "--classes", "toy/classes.txt", "--weights", "none"),
        *("--epochs", "2", *SMALL),
    ),
}


@dataclass
class Row:
    """A line of the table.

    Attributes:
        what: the fault.
        required: what must hold, in short.
        cases: how often it was tried.
        violations: what was broken, each with what is needed to see it again.
        skipped: why it could not be tried, or empty.
    """

    what: str
    required: str = ""
    cases: int = 0
    violations: list[str] = field(default_factory=list)
    skipped: str = ""

    def check(self, holds: bool, violation: str) -> bool:
        """Note a violation unless ``holds``."""
        if not holds:
            self.violations.append(violation)
        return holds

    def counts(self) -> tuple[int, int]:
        return self.cases, len(self.violations)

    def shown(self) -> str:
        return self.skipped or f"{self.cases:5}  {len(self.violations):10}"


@dataclass(frozen=True)
class Done:
    """A process that has ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Ground:
    """A working directory with a toy data set, networks of each kind, and records with all keys."""

    def __init__(self, root: Path, seed: int, quick: bool = False) -> None:
        self.root, self.seed, self.quick = root, seed, quick
        os.chdir(root)
        # Under nohup or in the background of a script these are ignored, by our children as well.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("WSSS_")},
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(REPOSITORY),
        }
        started = time.monotonic()
        make_toy("toy", train=24, val=4, size=96, seed=0)
        self._networks()
        records = self.run("index", "voc", "toy", "--saliency", "Saliency", check=0).records
        self.plain = self.write("plain.jsonl", records)
        options = STREAMING["make-cam"][1]
        self.run("make-cam", self.plain, *options, "-o", "in/cam", save="cam.jsonl", check=0)
        self.run("make-aff-labels", "cam.jsonl", "-o", "in/aff", save="in.jsonl", check=0)
        self.stream = "in.jsonl"
        # Where other work leaves it little of the processors, this too took long.
        self.patience = max(_PATIENCE, 3 * (time.monotonic() - started))

    def _networks(self) -> None:
        import torch

        from wsss_cli.classes import load_classes
        from wsss_cli.models.networks import build_network

        torch.manual_seed(0)
        classes = load_classes("toy/classes.txt")
        for kind, config in KINDS.items():
            network = build_network(kind, "efficientnet-lite0", classes, config)
            files.save_checkpoint(
                f"{kind}.pt",
                kind=kind,
                backbone="efficientnet-lite0",
                classes=classes,
                config={**config, "training": {}},
                state_dict=network.state_dict(),
            )

    def several(self, number: int) -> int:
        """How many cases to try, of ``number`` in a whole run."""
        return max(number // 4, 1) if self.quick else number

    def rng(self, *parts: object) -> random.Random:
        """Random numbers of a case, the same in every run with this seed."""
        return random.Random(" ".join(map(str, (self.seed, *parts))))

    def write(self, name: str, records: Sequence[dict[str, Any]]) -> str:
        Path(name).write_text("".join(json.dumps(record) + "\n" for record in records))
        return name

    def records(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in Path(name).read_text().splitlines()]

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "wsss_cli", *args]

    def run(
        self,
        *args: str,
        input: str | None = None,
        save: str | None = None,
        check: int | None = None,
        prefix: Sequence[str] = (),
    ) -> Done:
        """A tool in a process of its own, to its end."""
        done = subprocess.run(
            [*prefix, *self.command(*args)],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=300,
            env=self.environment,
        )
        if check is not None and done.returncode != check:
            raise RuntimeError(f"{' '.join(args)}: {done.returncode}\n{done.stderr}")
        if save is not None:
            Path(save).write_text(done.stdout)
        return Done(done.returncode, done.stdout, done.stderr)

    def interrupted(
        self,
        *args: str,
        how: signal.Signals,
        after: float = 0.0,
        ready: Callable[[], bool] = lambda: True,
    ) -> tuple[Done, bool]:
        """A tool that gets a signal; and whether it got it before its end.

        Args:
            args: the command.
            how: the signal.
            after: seconds to wait before it, from the start of the tool or since ``ready``.
            ready: the moment to wait for, so that slow machines are struck at the same work.
        """
        with open("stdout", "w") as out, open("stderr", "w") as err:
            process = subprocess.Popen(
                self.command(*args),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**self.environment, _MARK: str(os.getpid())},
            )
            while process.poll() is None and not ready():
                time.sleep(0.002)
            try:
                process.wait(after)
            except subprocess.TimeoutExpired:
                process.send_signal(how)
            struck = process.returncode is None
            try:
                process.wait(self.patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        text = [Path(name).read_text(errors="replace") for name in ("stdout", "stderr")]
        return Done(process.returncode, *text), struck

    def left_over(self) -> list[str]:
        """Processes of interrupted tools that are still there after a second, by their commands."""
        for _ in range(20):
            found = []
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if f"{_MARK}={os.getpid()}\0".encode() in (process / "environ").read_bytes():
                        found.append((process / "cmdline").read_bytes().decode(errors="replace"))
                except OSError:
                    continue  # not ours, or it has ended
            if not found:
                return []
            time.sleep(0.1)
        return found


def whole_files(folder: str | Path) -> dict[str, bytes]:
    """The finished files below a folder, by their path in it; temporary ones are left out."""
    root = Path(folder)
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".wsss-")
    }


def fresh(folder: str) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def quiet(done: Done) -> str:
    """What is wrong with the messages of a tool, or nothing."""
    for word in ("Traceback", "internal error", "resource_tracker", "Exception ignored"):
        if word in done.err:
            return f"stderr has {word!r}: {done.err[-600:]}"
    return ""
