"""The metrics of a training run as JSON lines.

A line holds ``step`` (steps done), ``epoch`` (passes over the records done, a fraction) and either
``loss`` (the mean since the line before), its parts, if it has any, as ``loss_…``, ``lr`` and
``images_per_second``; or, at the end of an epoch, the scores on the validation records as
``val_…``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from wsss_cli import console
from wsss_cli.errors import describe
from wsss_cli.training.events import Events


@dataclass
class Losses:
    """The losses since the last line of the log.

    Attributes:
        loss_sum: sum of the losses.
        part_sums: sums of the parts, by name, of a loss that has parts.
        loss_count: number of steps.
        last_loss: mean loss in the last line.
    """

    loss_sum: float = 0.0
    part_sums: dict[str, float] = field(default_factory=dict)
    loss_count: int = 0
    last_loss: float = math.nan

    def add(self, loss: float, parts: Mapping[str, float]) -> None:
        """Add the loss of a step."""
        self.loss_sum += loss
        self.loss_count += 1
        for name, part in parts.items():
            self.part_sums[name] = self.part_sums.get(name, 0.0) + part

    @property
    def mean(self) -> float:
        """Mean loss so far."""
        return self.loss_sum / self.loss_count

    def take(self) -> dict[str, float]:
        """The means as ``loss`` and ``loss_NAME``; after this the sums begin anew."""
        means = {f"loss_{name}": total / self.loss_count for name, total in self.part_sums.items()}
        self.last_loss = self.mean
        self.loss_sum, self.part_sums, self.loss_count = 0.0, {}, 0
        return {"loss": self.last_loss, **means}


class Speed:
    """Steps per second since a step, without the time that is spent on other things.

    Args:
        step: number of steps done.
    """

    def __init__(self, step: int) -> None:
        self.restart(step)

    def restart(self, step: int) -> None:
        """Measure from now on."""
        self._since, self._step = time.monotonic(), step

    def at(self, step: int) -> float:
        """Steps per second when ``step`` steps are done."""
        return (step - self._step) / (time.monotonic() - self._since)


class MetricsLog:
    """A log that can continue that of an interrupted run.

    Args:
        path: the file; None writes nothing (in a process that is not the main one).
        position: size in bytes that the log of an earlier run is cut to; 0 starts anew.
        events: where the same values are also written for TensorBoard; closed with the log.
    """

    def __init__(self, path: Path | None, position: int = 0, events: Events | None = None) -> None:
        self._events = events or Events(None)
        self._stream: BinaryIO | None = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("ab", buffering=0)
            self._stream.truncate(min(position, path.stat().st_size))
        except OSError as error:
            self._give_up(error)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._events.close()
        if self._stream is not None:
            self._stream.close()

    def write(self, *, step: int, epoch: float, **measured: float) -> None:
        """Add a line; a number that is none is written as null."""
        self._events.write(step=step, **measured)
        if self._stream is not None:
            line: dict[str, float | None] = {"step": step, "epoch": round(epoch, 4)}
            for key, value in measured.items():
                line[key] = float(f"{value:.6g}") if math.isfinite(value) else None
            try:
                self._stream.write(json.dumps(line, allow_nan=False).encode() + b"\n")
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Training is worth more than its log."""
        console.warn("log", f"{describe(error)}; the log of this training ends here")
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    @property
    def position(self) -> int:
        """Size of the log in bytes."""
        return self._stream.tell() if self._stream is not None else 0
