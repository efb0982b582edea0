"""The logs of the trainings by whose checkpoints files were made, as far as they can be found.

A provenance names a checkpoint by its digest, not by its path. A trainer leaves its log beside its
checkpoint, so only files beside a log are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from wsss_cli import inputs
from wsss_cli.training.outputs import log_path
from wsss_cli.training.plot import read_curves, smooth

_MOST_FOLDERS, _MOST_CHECKPOINTS = 64, 64  # that are looked into, and read
_MOST_BYTES = 1 << 26  # of a log
_MOST_POINTS, _MOST_CURVES = 200, 12
_UP = 2  # folders above that of a file: out/cam.pt made out/cam/a/b.npz


def checkpoints(meta: Any) -> dict[str, str]:
    """Digests of the checkpoints in a provenance, newest first, and the tool that used each.

    >>> checkpoints({"tool": "crf", "from": {"cam": {"tool": "make-cam", "checkpoint": "7f"}}})
    {'7f': 'make-cam'}
    >>> checkpoints({"tool": "predict", "checkpoint": ["7f", "a0"]})
    {'7f': 'predict', 'a0': 'predict'}
    """
    if not isinstance(meta, Mapping):
        return {}
    used, earlier = meta.get("checkpoint"), meta.get("from")
    digests = used if isinstance(used, list) else [used]
    found = {digest: str(meta.get("tool")) for digest in digests if isinstance(digest, str)}
    for source in earlier.values() if isinstance(earlier, Mapping) else ():
        found = {**checkpoints(source), **found}
    return found


def folders_of(record: Mapping[str, Any], keys: Iterable[str]) -> list[Path]:
    """The folders of files of a record, and those above them."""
    found: dict[Path, None] = {}
    for key in keys:
        if isinstance(path := record.get(key), str):
            parents = Path(path).parents
            found |= dict.fromkeys(parents[: _UP + 1])
    return list(found)


def find_logs(wanted: Iterable[str], folders: Iterable[Path]) -> dict[str, Path]:
    """The logs of trainings, by the digest of the checkpoint that each made.

    Args:
        wanted: digests.
        folders: where to look; the first ones only, if there are many.
    """
    missing, found = set(wanted), dict[str, Path]()
    tried = 0
    for folder in islice(folders, _MOST_FOLDERS):
        for path in _beside_logs(folder):
            if not missing or tried == _MOST_CHECKPOINTS:
                return found
            tried += 1
            if (digest := inputs.digest(path)) in missing and digest:
                missing.remove(digest)
                found[digest] = log_path(path)
    return found


def _beside_logs(folder: Path) -> Iterator[Path]:
    """The files in a folder that may be checkpoints: those with a log."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except OSError:
        return
    there = set(names)
    for name in names:
        if log_path(Path(name)).name in there and not name.endswith((".jsonl", ".png")):
            yield folder / name


def curves(log: Path) -> dict[str, list[tuple[float, float]]]:
    """Some points (epoch, value) of each quantity in a log, smoothed; none if it cannot be read."""
    try:
        if log.stat().st_size > _MOST_BYTES:
            return {}
        read = read_curves(log)
    except OSError:
        return {}
    made = {}
    for name, points in islice(read.items(), _MOST_CURVES):
        step = max(-(-len(points) // _MOST_POINTS), 1)
        some = smooth(points)
        made[name] = [
            (float(f"{x:.5g}"), float(f"{y:.5g}"))
            for x, y in (some[::step] + some[-1:] if (len(some) - 1) % step else some[::step])
        ]
    return made
