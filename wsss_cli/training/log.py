"""The metrics of a training run as JSON lines.

A line holds ``step`` (steps done), ``epoch`` (passes over the records done, a fraction) and what
was measured: ``loss`` (the mean since the line before), its parts, where it has any, as ``loss_…``,
``lr`` and ``images_per_second``; or, at the end of an epoch, the scores on the validation records,
as ``val_…``.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType


class MetricsLog:
    """A log that can be taken up again where an earlier run left off.

    Args:
        path: the file; None writes nothing (a process that is not the main one).
        position: size in bytes to cut an earlier run's log to; 0 starts anew.
    """

    def __init__(self, path: Path | None, position: int = 0) -> None:
        self._stream = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("ab")
            self._stream.truncate(min(position, path.stat().st_size))

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            self._stream.close()

    def write(self, *, step: int, epoch: float, **measured: float) -> None:
        """Add a line."""
        if self._stream is not None:
            line = {"step": step, "epoch": round(epoch, 4)}
            line |= {key: float(f"{value:.6g}") for key, value in measured.items()}
            self._stream.write(json.dumps(line).encode() + b"\n")
            self._stream.flush()

    @property
    def position(self) -> int:
        """Size of the log in bytes."""
        return self._stream.tell() if self._stream is not None else 0
