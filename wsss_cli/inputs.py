"""What a result depends on: digests of the files it was made from, the labels, and what changed.

A stage stores them in the files it writes, a trainer in its checkpoint. So a second run knows
whether a result that is there is still the one it would make.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from wsss_cli import records
from wsss_cli.classes import BACKGROUND, MAX_CLASSES
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


def check_source(
    key: str, meta: Mapping[str, Any] | None, image: str | None, record: Record
) -> None:
    """Raise WsssError if a file of a record was made from another photograph, or for other labels.

    Also if that is so of a file that it was made from, or one of theirs.

    Args:
        key: record key of the file.
        meta: its provenance.
        image: digest of the photograph of the record, if it is known.
        record: its record.
    """
    labels = records.labels(record)
    for made_from in _all_inputs(meta or {}):
        if image and (then := made_from.get("image")) and then != image:
            raise WsssError(
                f"{record[key]}: made from another photograph than {record['image']}; make it again"
            )
        wanted = made_from.get("labels")
        if labels is not None and wanted is not None and set(wanted) != set(labels):
            raise WsssError(
                f"{record[key]}: made for the labels {_list(wanted)}, but the record's are "
                f"{_list(labels)}; make it again"
            )


def _all_inputs(meta: Mapping[str, Any]) -> Iterator[Inputs]:
    """The inputs of a file, and those of the files that it was made from."""
    yield meta.get("inputs", {})
    for earlier in meta.get("from", {}).values():
        yield from _all_inputs(earlier)


def check_numbers(
    path: str, meta: Mapping[str, Any] | None, classes: Sequence[str], those: str
) -> None:
    """Raise WsssError if the class numbers of a label map mean other classes.

    A list that ends sooner or later is fine: numbers beyond the list are refused when met.

    Args:
        path: of the label map.
        meta: its provenance.
        classes: what the numbers are to mean, from 1.
        those: where that comes from, in words.
    """
    listed = class_list(meta or {}) or ()
    for number, (name, wanted) in enumerate(zip(listed, classes, strict=False), start=1):
        if name != wanted:
            raise WsssError(
                f"{path}: class number {number} is '{name}' in this file, but '{wanted}' in {those}"
            )


def class_list(meta: Mapping[str, Any]) -> list[str] | None:
    """The class list in the provenance of a file, or of those that it was made from."""
    names: list[str] | None = meta.get("classes")
    for earlier in meta.get("from", {}).values():
        names = names or class_list(earlier)
    return names


def is_provenance(value: Any, *, levels: int = 100) -> bool:
    """Whether a value read from a file can be a provenance: a stranger's may be anything.

    Args:
        value: plain JSON.
        levels: of files made from files, at most.
    """
    if not isinstance(value, dict) or not levels:
        return False
    names, made_from, earlier = (value.get(key, {}) for key in ("classes", "inputs", "from"))
    return (
        (not names or (_are_names(names) and can_be_classes(names)))
        and isinstance(made_from, dict)
        and isinstance(made_from.get("image", ""), str | None)
        and (made_from.get("labels") is None or _are_names(made_from["labels"]))
        and isinstance(earlier, dict)
        and all(is_provenance(each, levels=levels - 1) for each in earlier.values())
    )


def can_be_classes(names: list[str]) -> bool:
    """Whether names can be a class list: each once, none of them empty or the background."""
    return all(names) and len({*names, BACKGROUND}) == len(names) + 1 <= MAX_CLASSES + 1


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


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
