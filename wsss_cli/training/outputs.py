"""The files of a training run: checkpoint, state to resume from, log, plot; none but its own go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsss_cli import files
from wsss_cli.errors import ConfigurationError

PLOT = "training"  # the tool in the provenance of plots


def state_path(out: Path) -> Path:
    """Path of the state of the run that makes the checkpoint ``out``."""
    return out.with_name(out.stem + ".resume.pt")


def log_path(out: Path) -> Path:
    """Path of its log."""
    return out.with_name(out.stem + ".log.jsonl")


def plot_path(out: Path) -> Path:
    """Path of the plot of its log."""
    return out.with_name(out.stem + ".png")


def check_free(out: Path, kind: str, *, keep: Sequence[str]) -> None:
    """Raise ConfigurationError if a run would replace a file that is not of such a run.

    Args:
        out: the checkpoint to be written.
        kind: its kind.
        keep: files that the run reads.
    """
    log, plot = log_path(out), plot_path(out)
    for path in (out, state_path(out), log, plot):
        there = files.identity(path)
        if there is not None and there in map(files.identity, keep):
            raise ConfigurationError(f"{path}: would overwrite its own input; change --out")
    for path in (out, log, plot):
        if not files.is_taken(path):
            continue
        if path == out:
            own = _is_checkpoint(path, kind)
        elif path == log:
            own = _is_log(path)
        else:  # plots of early versions have no provenance, but lie beside their log
            own = not files.foreign(path, PLOT) or _is_log(log)
        if not own:
            raise ConfigurationError(
                f"{path}: would be replaced, but is of another origin than this training; "
                "move it away or change --out"
            )


def _is_checkpoint(path: Path, kind: str) -> bool:
    try:
        files.load_checkpoint(path, kind)
    except ConfigurationError:
        return False
    return True


def _is_log(path: Path) -> bool:
    return {"step", "epoch"} <= set(files.first_object(path))
