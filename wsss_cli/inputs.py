"""What a result depends on: digests of the files it was made from, the labels, and what changed.

A stage stores them in the files it writes, a trainer in its checkpoint. So a second run knows
whether a result that is there is still the one it would make.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from wsss_cli import records
from wsss_cli.errors import WsssError
from wsss_cli.records import Record
from wsss_cli.texts import open_regular

Inputs = dict[str, Any]


def digest(path: str | os.PathLike[str]) -> str | None:
    """The first 16 hexadecimal digits of the SHA-256 of a file's content.

    None where there is no such file, or none that can be read: whoever reads it next says why.
    """
    try:
        with open_regular(path) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except (OSError, ValueError):
        return None


def inputs(record: Record, keys: Iterable[str]) -> Inputs:
    """What a result made from ``keys`` of a record depends on.

    Args:
        record: the record; keys that it lacks are left out.
        keys: its keys.

    Returns:
        By key: of a file, the digest of its content, or None if it cannot be read; of other values
        the value.
    """
    known: Inputs = {}
    for key in keys:
        value = records.labels(record) if key == "labels" else record.get(key)
        if value is not None:
            known[key] = digest(value) if isinstance(value, str) else value
    return known


def check_source(key: str, made_from: Any, now: Inputs, record: Record) -> None:
    """Raise WsssError if a file of a record was made from another photograph, or for other labels.

    Args:
        key: record key of the file.
        made_from: the inputs stored in it; of any form, as the file may be a stranger's.
        now: the inputs of the tool that is about to read it.
        record: its record.
    """
    if not isinstance(made_from, dict):
        return
    image = made_from.get("image")
    if image and now.get("image") and image != now["image"]:
        raise WsssError(
            f"{record[key]}: made from another photograph than {record['image']}; make it again"
        )
    labels, then = records.labels(record), made_from.get("labels")
    if labels is not None and isinstance(then, list) and set(map(str, then)) != set(labels):
        raise WsssError(
            f"{record[key]}: made for the labels {_list(then)}, but the record's are "
            f"{_list(labels)}; make it again"
        )


def _list(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names)) or "of no class"


def settings(meta: Any) -> Any:
    """A provenance without the inputs of its file: equal for all files of one run.

    >>> settings({"tool": "crf", "inputs": {"image": "7f"}, "from": {"cam": {"inputs": {}}}})
    {'tool': 'crf', 'from': {'cam': {}}}
    """
    if not isinstance(meta, dict):
        return meta
    kept = {key: value for key, value in meta.items() if key != "inputs"}
    if isinstance(kept.get("from"), dict):
        kept["from"] = {key: settings(value) for key, value in kept["from"].items()}
    return kept


def changes(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the provenances of a file that is there and of one to be made, in words.

    >>> changes(
    ...     {"params": {"alpha": 8, "steps": 9}, "inputs": {"image": "7f", "labels": ["fox"]}},
    ...     {"params": {"alpha": 4, "steps": 9}, "inputs": {"image": "7f", "labels": ["ram"]}},
    ... )
    ['labels', 'alpha']
    >>> changes({"version": "0.1", "inputs": {}}, {"version": "0.2", "inputs": {}})
    ['version of wsss']
    """
    # Files of early versions do not say what they were made from; their version says it all.
    found = different(earlier["inputs"], now["inputs"]) if "inputs" in earlier else []
    found += different(earlier.get("params"), now.get("params"))
    words = {"checkpoint": "checkpoint", "classes": "class list", "version": "version of wsss"}
    found += [word for key, word in words.items() if earlier.get(key) != now.get(key)]
    return found or ["provenance"]  # that of an input that is otherwise the same


def different(earlier: Any, now: Any) -> list[str]:
    """The keys whose values differ between two dicts of plain JSON; what is no dict has none."""
    before, after = (value if isinstance(value, dict) else {} for value in (earlier, now))
    return [
        key
        for key in {**before, **after}
        if json.dumps(before.get(key)) != json.dumps(after.get(key))
    ]
