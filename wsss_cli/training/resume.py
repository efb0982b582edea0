"""The state of an interrupted training run, kept beside its future checkpoint.

It holds the identity of its run: only the same command on the same records resumes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from wsss_cli import files, inputs
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.pool import in_threads
from wsss_cli.records import Record

_NUMBERED = ("mask", "pseudo", "pred", "aff_label")  # keys of maps of class numbers
_FORMAT = "wsss-resume-1"


class OtherRun(ConfigurationError):
    """What is there is of another run.

    Attributes:
        reason: how the two runs differ, in words.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}: give another --out, or --replace it")
        self.reason = reason


def identity(
    records: Sequence[Record], keys: Sequence[str], *, threads: int = 1, **settings: Any
) -> dict[str, Any]:
    """The identity of a run, as plain JSON data: two runs with the same are the same run.

    Args:
        records: the training records, of which the ids and ``keys`` count: the content of files,
            and other values.
        keys: the record keys that training uses.
        threads: number of files read at the same time.
        settings: everything else that changes the result.

    Raises:
        WsssError: a file was made from another photograph than that of its record, or for other
            labels; or the numbers of a label map mean other classes.
    """
    keys = list(dict.fromkeys(keys))
    whole = {key: hashlib.sha256() for key in ("id", *keys)}
    look = partial(_known, keys, settings.get("classes", ()))
    for known in in_threads(look, records, threads=threads):
        for key, value in known.items():
            whole[key].update(json.dumps(value).encode() + b"\n")
    data: dict[str, Any] = json.loads(json.dumps(settings))
    learnt_from = {key: value.hexdigest()[:16] for key, value in whole.items()}
    return {**data, "records": len(records), "inputs": learnt_from}


def _known(keys: Sequence[str], classes: Sequence[str], record: Record) -> inputs.Inputs:
    """The id and the values of ``keys`` that count; None for one that the record lacks."""
    known = inputs.inputs(record, keys)
    for key in known:
        if isinstance(record[key], str):
            meta = files.read_meta(record[key])
            try:
                inputs.check_source(key, meta, known.get("image"), record)
                if key in _NUMBERED:
                    inputs.check_numbers(
                        record[key], meta, classes, "the class list of the training"
                    )
            except WsssError as error:
                raise WsssError(f"{record['id']}: {error}; nothing was trained") from error
    return {"id": record["id"], **{key: known.get(key) for key in keys}}


def save(path: Path, run: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a state; atomically, so that a kill at any time leaves a whole one."""
    files.save_tensors(path, {"format": _FORMAT, "run": json.dumps(run), "state": dict(state)})


def load(path: Path, run: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state at ``path``, or None if there is none.

    Raises:
        OtherRun: it belongs to another run.
        WsssError: it cannot be read.
    """
    if not path.exists():
        return None
    data = files.load_tensors(path, "state to resume")
    if data.get("format") != _FORMAT:
        raise WsssError(f"{path}: no state of a training run; remove it")
    try:
        earlier, state = json.loads(data["run"]), data["state"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise damaged(path) from error
    if not isinstance(earlier, dict) or not isinstance(state, dict):
        raise damaged(path)
    check_same(earlier, run, str(path))
    return state


def damaged(path: Path) -> ConfigurationError:
    """The error for a state that is none."""
    return ConfigurationError(f"{path}: a damaged state to resume from: remove it, and train anew")


def check_same(earlier: Mapping[str, Any], now: Mapping[str, Any], path: str) -> None:
    """Raise OtherRun naming what differs between two runs.

    Args:
        earlier: identity of the run that wrote the file at ``path``.
        now: identity of this run.
        path: for the message.
    """
    if "inputs" in now and "inputs" not in earlier:
        raise OtherRun(f"{path} is of an early version of wsss, which stored no digests")
    changed = inputs.different(earlier, now)
    if not changed:
        return
    if changed == ["inputs"]:
        names = inputs.different(earlier["inputs"], now["inputs"])
        what = "records" if "id" in names else ", ".join(names)
        raise OtherRun(f"{path} was trained on other {what}")
    shown = [
        f"{key} {json.dumps(earlier.get(key))}, now {json.dumps(now.get(key))}"
        for key in changed
        if key != "inputs"
    ]
    raise OtherRun(f"{path} is of another run ({'; '.join(shown)})")
