"""Single flipped bits and truncated files, of every kind that a tool reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from tests.faults.ground import Ground, Row, quiet
from wsss_cli import files
from wsss_cli.classes import load_classes
from wsss_cli.cli import load_settings
from wsss_cli.errors import WsssError
from wsss_cli.records import parse
from wsss_cli.tools.report import load_counts

FLIPS = 600  # of each kind
PARTS = 16  # a file is cut after each sixteenth

# Refusals that a user gets as one line.
REFUSED = (WsssError, OSError, click.UsageError)


def _state(path: str) -> Any:
    return files.load_tensors(path, "state to resume")


def _lines(path: str) -> Any:
    good = []
    for line in Path(path).read_bytes().splitlines():
        try:
            good.append(parse(line))
        except WsssError:
            continue
    return good


def _kinds(ground: Ground) -> dict[str, tuple[str, Callable[[str], Any], bool]]:
    """Every kind of file: one of it, its reader, and whether damage must be noticed."""
    record = ground.records(ground.stream)[0]
    counts = "counts.json"
    ground.run(
        *("eval", ground.stream, "--key", "aff_label", "--confusion", counts),
        check=0,
    )
    Path("good.toml").write_text('[make-cam]\nscales = "0.5,1"\n[random-walk]\nbeta = 8\n')
    small = "small.pt"
    files.save_tensors(small, {"format": "x", "step": 3, "weights": _weights()})
    return {
        "label map": (record["aff_label"], files.read_label_map, True),
        "true mask": (record["mask"], files.read_label_map, True),
        "saliency map": (record["saliency"], files.read_grey, True),
        "photograph": (record["image"], files.read_image, False),
        "activation maps": (record["cam"], files.read_maps, True),
        "provenance": (record["cam"], files.read_meta, False),
        "checkpoint": ("cam.pt", files.load_checkpoint, True),
        "state to resume": (small, _state, True),
        "records": (ground.stream, _lines, False),
        "class list": ("toy/classes.txt", load_classes, False),
        "settings": ("good.toml", load_settings, False),
        "confusion matrices": (counts, load_counts, False),
    }


def _weights() -> Any:
    import torch

    return torch.arange(4096.0)


def _equal(one: Any, other: Any) -> bool:
    """Whether two results of a reader are the same, arrays and tensors by their values."""
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and bool((one == other).all())
    if hasattr(one, "equal"):
        return bool(one.equal(other))
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if hasattr(one, "state_dict"):
        return _equal(
            [one.kind, one.classes, one.config, one.state_dict],
            [other.kind, other.classes, other.config, other.state_dict],
        )
    return bool(one == other)


def _try(row: Row, reader: Callable[[str], Any], path: str, wanted: Any, where: str) -> None:
    """Read a damaged file: it is refused in one line, or the result is right."""
    try:
        got = reader(path)
    except REFUSED as error:
        row.check("\n" not in str(error), f"more than a line: {error}: {where}")
    except BaseException as error:
        row.violations.append(f"{type(error).__name__}: {error}: {where}")
    else:
        row.check(wanted is None or _equal(got, wanted), f"read as something else: {where}")


def flips(ground: Ground) -> Iterator[Row]:
    """One flipped bit is refused or has no effect; where a format has no checksum, it is at least
    no error of ours."""
    for kind, (path, reader, noticed) in _kinds(ground).items():
        row = Row(f"a bit flipped in: {kind}")
        content = bytearray(Path(path).read_bytes())
        wanted = reader(path) if noticed else None
        damaged = f"damaged{Path(path).suffix}"
        rng = ground.rng("flip", kind)
        # A checkpoint is 18 MB: each case takes a tenth of a second.
        for _ in range(FLIPS // 10 if kind == "checkpoint" else FLIPS):
            place = rng.randrange(8 * len(content))
            content[place // 8] ^= 1 << place % 8
            Path(damaged).write_bytes(content)
            content[place // 8] ^= 1 << place % 8
            row.cases += 1
            _try(row, reader, damaged, wanted, f"bit {place} of {Path(path).name}")
        yield row
    yield _stream_goes_on(ground)


def _stream_goes_on(ground: Ground) -> Row:
    """A record with a damaged file fails alone, in a real stream."""
    row = Row("a damaged file among good ones, in a stream")
    stream = ground.records(ground.stream)[:6]
    for key, tool in (("cam", "crf"), ("cam", "erase"), ("image", "saliency"), ("mask", "eval")):
        content = bytearray(Path(stream[2][key]).read_bytes())
        rng = ground.rng("stream", key, tool)
        for _ in range(20):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        damaged = Path(f"damaged-{tool}{Path(stream[2][key]).suffix}")
        damaged.write_bytes(content)
        changed = [*stream[:2], {**stream[2], key: str(damaged)}, *stream[3:]]
        out = ("--key", "aff_label") if tool == "eval" else ("-o", f"damaged/{tool}")
        lines = "".join(json.dumps(record) + "\n" for record in changed)
        done = ground.run(tool, "--workers", "0", *out, input=lines)
        row.cases += 1
        row.check(done.code in (0, 1), f"{tool}: exit code {done.code}: {done.err}")
        row.check(not quiet(done), f"{tool}: {quiet(done)}")
        if tool != "eval":
            ids = {record["id"] for record in done.records}
            missing = {record["id"] for record in stream} - ids - {stream[2]["id"]}
            row.check(not missing, f"{tool}: good records are missing: {missing}")
    return row


def truncations(ground: Ground) -> Iterator[Row]:
    """A file cut off is refused, or, where a prefix is good, read as far as it goes."""
    for kind, (path, reader, noticed) in _kinds(ground).items():
        row = Row(f"cut off: {kind}")
        content = Path(path).read_bytes()
        wanted = reader(path) if noticed else None
        damaged = f"damaged{Path(path).suffix}"
        for part in range(PARTS):
            Path(damaged).write_bytes(content[: len(content) * part // PARTS])
            row.cases += 1
            _try(row, reader, damaged, wanted, f"{part}/{PARTS} of {Path(path).name}")
        yield row
