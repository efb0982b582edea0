"""The state of an interrupted training run, kept beside its future checkpoint.

It holds the identity of its run: only the same command on the same records resumes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsss_cli import files
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.records import Record

_FORMAT = "wsss-resume-1"


def state_path(out: Path) -> Path:
    """Path of the state of the run that makes the checkpoint ``out``."""
    return out.with_name(out.stem + ".resume.pt")


def identity(records: Sequence[Record], keys: Sequence[str], **settings: Any) -> dict[str, Any]:
    """The identity of a run, as plain JSON data: two runs with the same are the same run.

    Args:
        records: the training records, of which the ids and the values of ``keys`` count.
        keys: the record keys that training uses.
        settings: everything else that changes the result.
    """
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps([record["id"], *(record.get(key) for key in keys)]).encode())
    used = {"records": len(records), "records_digest": digest.hexdigest()[:16]}
    data: dict[str, Any] = json.loads(json.dumps(settings | used))
    return data


def save(path: Path, run: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a state; atomically, so that a kill at any time leaves a whole one."""
    files.save_tensors(path, {"format": _FORMAT, "run": json.dumps(run), "state": dict(state)})


def load(path: Path, run: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state at ``path``, or None if there is none.

    Raises:
        ConfigurationError: it belongs to another run.
        WsssError: it cannot be read.
    """
    if not path.exists():
        return None
    data = files.load_tensors(path, "state to resume")
    if data.get("format") != _FORMAT:
        raise WsssError(f"{path}: no state of a training run; remove it")
    check_same(json.loads(data["run"]), run, str(path))
    state: dict[str, Any] = data["state"]
    return state


def check_same(earlier: Mapping[str, Any], now: Mapping[str, Any], path: str) -> None:
    """Raise ConfigurationError naming the settings that differ between two runs.

    Args:
        earlier: identity of the run that wrote the file at ``path``.
        now: identity of this run.
        path: for the message.
    """
    changed = [key for key in {**earlier, **now} if earlier.get(key) != now.get(key)]
    if changed == ["records_digest"]:
        raise ConfigurationError(f"{path} was trained on other records; give another --out")
    shown = [
        f"{key} {json.dumps(earlier.get(key))}, now {json.dumps(now.get(key))}"
        for key in changed
        if key != "records_digest"
    ]
    if shown:
        raise ConfigurationError(
            f"{path} is of another run ({'; '.join(shown)}): repeat its settings, "
            "give another --out, or leave out --resume"
        )
