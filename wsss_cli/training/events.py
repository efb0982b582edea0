"""The metrics of a training run as a file of TensorBoard's."""

from __future__ import annotations

import importlib.util
import math
import os
import socket
import time
from pathlib import Path
from typing import Any

from wsss_cli import console
from wsss_cli.errors import ConfigurationError, describe


def check_installed() -> None:
    """Raise ConfigurationError if TensorBoard's package, which knows its format, is missing."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigurationError("--tensorboard needs the package: pip install tensorboard")


def prepare(tensorboard: str | Path, out: Path) -> Path:
    """The folder of a run, made before the run: named like its checkpoint.

    Args:
        tensorboard: folder of all runs.
        out: the checkpoint of this one.

    Raises:
        ConfigurationError: it would be where the checkpoint is to be, or cannot be made.
    """
    folder = Path(tensorboard) / out.stem
    if out.absolute() in (folder.absolute(), *folder.absolute().parents):
        raise ConfigurationError(
            f"--tensorboard {tensorboard}: {out} would be a folder of its files, but is the "
            "checkpoint; give another folder, or the checkpoint a name that ends in .pt"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--tensorboard: {describe(error)}; give another") from error
    return folder


def tag(name: str) -> str:
    """The name of a curve, under which TensorBoard groups those of a kind.

    >>> [tag(name) for name in ("loss", "loss_classes", "val_miou", "lr")]
    ['loss/total', 'loss/classes', 'val/miou', 'lr']
    """
    if name == "loss":
        return "loss/total"
    kind, part = name.split("_", 1) if "_" in name else ("", name)
    return f"{kind}/{part}" if kind in ("loss", "val") else name


class Events:
    """Scalars of a run, written at once.

    A run that starts anew in a folder, or goes on from a step before that where it was killed, says
    so in its file: TensorBoard then drops what earlier files hold of the same steps and later ones.

    Args:
        folder: where the file is made; None writes nothing.
        step: steps done before.
        tool: name of the command, for messages.
    """

    def __init__(self, folder: Path | None, step: int = 0, *, tool: str = "training") -> None:
        self._writer: Any = None
        self._tool = tool
        if folder is None:
            return
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        # In a folder, later files have later names.
        name = f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}"
        try:
            if not step and any(folder.glob("*tfevents*")):
                console.warn(
                    tool,
                    f"{folder} holds the curves of an earlier training, which those of this one "
                    "replace; another --tensorboard keeps both",
                )
            stream = open(folder / name, "xb", buffering=0)  # noqa: SIM115 closed below
            self._writer = RecordWriter(stream)
        except OSError as error:
            self._give_up(error)
        # What is measured at a step is written before the state that a run goes on from is saved.
        first = step + 1 if step else 0
        self._add(file_version="brain.Event:2")
        self._add(step=first, session_log=SessionLog(status=SessionLog.START))

    def write(self, *, step: int, **measured: float) -> None:
        """Add the values that are numbers."""
        if self._writer is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=tag(name), simple_value=value)
            for name, value in measured.items()
            if math.isfinite(value)
        ]
        self._add(step=step, summary=Summary(value=values))

    def _add(self, **fields: Any) -> None:
        if self._writer is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event

        try:
            self._writer.write(Event(wall_time=time.time(), **fields).SerializeToString())
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Training is worth more than its curves."""
        console.warn(self._tool, f"{describe(error)}; no more is written for TensorBoard")
        self.close()

    def close(self) -> None:
        """Write no more."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
