"""Single flipped bits and truncated files, of every kind that a tool reads."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from tests.faults.ground import STREAMING, TRAINING, Ground, Row, fresh, quiet, whole_files
from wsss_cli import files
from wsss_cli.classes import load_classes
from wsss_cli.cli import load_settings
from wsss_cli.errors import WsssError
from wsss_cli.records import parse
from wsss_cli.tools.report import load_counts

FLIPS = 600  # of each kind
PARTS = 16  # a file is cut after each sixteenth
NOTICED, ONE_LINE = "refused in one line, or the same content", "refused in one line, or read"

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
        row = Row(f"a bit flipped in: {kind}", NOTICED if noticed else ONE_LINE)
        content = bytearray(Path(path).read_bytes())
        wanted = reader(path) if noticed else None
        damaged = f"damaged{Path(path).suffix}"
        rng = ground.rng("flip", kind)
        # A checkpoint is 18 MB: each case takes a tenth of a second.
        for _ in range(ground.several(FLIPS // 10 if kind == "checkpoint" else FLIPS)):
            place = rng.randrange(8 * len(content))
            content[place // 8] ^= 1 << place % 8
            Path(damaged).write_bytes(content)
            content[place // 8] ^= 1 << place % 8
            row.cases += 1
            _try(row, reader, damaged, wanted, f"bit {place} of {Path(path).name}")
        yield row
    yield _stream_goes_on(ground)
    yield _outputs(ground)
    yield from _by_process(ground)


def _flipped(path: str | Path, rng: random.Random, count: int = 1) -> bytes:
    """The content of a file with some bits flipped."""
    content = bytearray(Path(path).read_bytes())
    for _ in range(count):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _stream_goes_on(ground: Ground) -> Row:
    """A record with a damaged file fails alone, in a real stream."""
    row = Row("a damaged file among good ones", "one line for it; the others as without it")
    stream = ground.records(ground.stream)[:6]
    cases = [
        *(("cam", "crf"), ("cam", "erase"), ("cam", "make-aff-labels"), ("image", "saliency")),
        *(("mask", "eval"), ("saliency", "erase"), ("image", "crf"), ("aff_label", "eval")),
    ]
    wanted = {}
    for tool in {tool for _, tool in cases} - {"eval"}:
        lines = "".join(json.dumps(record) + "\n" for record in stream)
        ground.run(tool, "--workers", "0", "-o", fresh(f"alone/{tool}"), input=lines, check=0)
        wanted[tool] = whole_files(f"alone/{tool}")
    for number, (key, tool) in enumerate(cases * ground.several(4)):
        rng = ground.rng("stream", number)
        damaged = Path(f"damaged-{tool}{Path(stream[2][key]).suffix}")
        damaged.write_bytes(_flipped(stream[2][key], rng, rng.choice((1, 20))))
        changed = [*stream[:2], {**stream[2], key: str(damaged)}, *stream[3:]]
        out = ("--key", "aff_label") if tool == "eval" else ("-o", fresh(f"damaged/{tool}"))
        lines = "".join(json.dumps(record) + "\n" for record in changed)
        done = ground.run(tool, "--workers", "0", *out, input=lines)
        row.cases += 1
        where = f"{tool} with a damaged {key}, case {number}"
        row.check(done.code in (0, 1), f"{where}: exit code {done.code}: {done.err}")
        row.check(not quiet(done), f"{where}: {quiet(done)}")
        if done.code == 1:
            row.check(stream[2]["id"] in done.err, f"{where}: does not name it: {done.err}")
        if tool != "eval":
            made = whole_files(f"damaged/{tool}")
            for name, content in wanted[tool].items():
                if Path(name).stem != stream[2]["id"]:
                    row.check(made.get(name) == content, f"{where}: {name} is another or missing")
    return row


def _outputs(ground: Ground) -> Row:
    """Results that were damaged later are not reused."""
    row = Row("a damaged result, then --skip-existing", "made again, as it was")
    for tool in ("make-cam", "make-aff-labels", "crf", "erase", "saliency", "view"):
        _, options = STREAMING[tool]
        out = fresh(f"results/{tool}")
        command = (tool, ground.stream, *options, "--skip-existing", "-o", out)
        ground.run(*command, check=0)
        wanted = whole_files(out)
        for number, (name, content) in enumerate(wanted.items()):
            rng = ground.rng("result", tool, number)
            cut = content[: rng.randrange(len(content))]
            Path(out, name).write_bytes(_flipped(Path(out, name), rng) if number % 3 else cut)
            row.cases += 1
        done = ground.run(*command)
        row.check(done.code == 0, f"{tool}: {done.code}: {done.err}")
        row.check(not quiet(done), f"{tool}: {quiet(done)}")
        for number, (name, content) in enumerate(wanted.items()):
            path = Path(out, name)
            other = path.read_bytes() != content
            if other:  # a bit without meaning, such as one of a date, may stay
                flipped = Path(f"flipped{path.suffix}")
                flipped.write_bytes(path.read_bytes())
                path.write_bytes(content)
                other = not _equal(_content(flipped), _content(path))
            row.check(not other, f"{tool}: {name} is still damaged (file {number}): {done.err}")
    return row


def _content(path: Path) -> Any:
    """What is in a PNG or NPZ."""
    try:
        pixels = files.read_maps(path) if path.suffix == ".npz" else files.read_image(path)
    except WsssError as error:
        return str(error)
    return [pixels, files.read_meta(path)]


def _by_process(ground: Ground) -> Iterator[Row]:
    """Files that a command reads before its work: refused in one line, or without effect."""
    few = ground.write("few.jsonl", ground.records(ground.stream)[:3])
    train = ("train-seg", few, *TRAINING["train-seg"])
    ground.interrupted(
        *(*train, "--epochs", "60", "-o", f"{fresh('states')}/net.pt"),
        how=signal.SIGTERM,
        after=0.5,
        ready=lambda: any(Path("states").glob("*.jsonl")),
    )
    make_cam = ("make-cam", few, "--scales", "1", "--device", "cpu", "-o", "by-process")
    kinds: dict[str, tuple[str, str, tuple[str, ...]]] = {
        "checkpoint": ("cam.pt", "damaged.pt", (*make_cam, "-c", "damaged.pt")),
        "state to resume": (
            *("states/net.resume.pt", "damaged-state/net.resume.pt"),
            (*train, "--epochs", "60", "--resume", "-o", "damaged-state/net.pt"),
        ),
        "records": (few, "damaged.jsonl", ("crf", "damaged.jsonl", "-o", "by-process/crf")),
        "class list": (
            *("toy/classes.txt", "damaged.txt"),
            ("crf", few, "--classes", "damaged.txt", "-o", "by-process/crf"),
        ),
        "settings": ("good.toml", "wsss.toml", ("config",)),
        "confusion matrices": ("counts.json", "damaged.json", ("eval", "--merge", "damaged.json")),
    }
    for kind, (good, path, command) in kinds.items():
        row = Row(f"a bit flipped, by a tool: {kind}", "exit code 0, 1 or 2, one line each")
        Path(path).parent.mkdir(exist_ok=True)
        slow = kind in ("checkpoint", "state to resume")
        for number in range(ground.several(8 if slow else 20)):
            Path(path).write_bytes(_flipped(good, ground.rng("process", kind, number)))
            row.cases += 1
            where = f"{' '.join(command)}, flip {number} of {good}"
            if kind == "state to resume":  # a good one goes on for a minute
                done, _ = ground.interrupted(
                    *command,
                    how=signal.SIGINT,
                    ready=lambda: any(Path("damaged-state").glob("*.log.jsonl")),
                )
                allowed: tuple[int, ...] = (1, 2, 130)
                fresh("damaged-state")
                Path("damaged-state").mkdir()
            else:
                done, allowed = ground.run(*command), (0, 1, 2)
            row.check(done.code in allowed, f"exit code {done.code}: {where}: {done.err}")
            row.check(not quiet(done), f"{quiet(done)}: {where}")
            bad = [line for line in done.err.splitlines() if not line.startswith("wsss")]
            row.check(not bad, f"{bad}: {where}")
        Path(path).unlink(missing_ok=True)
        yield row


def truncations(ground: Ground) -> Iterator[Row]:
    """A file cut off is refused, or, where a prefix is good, read as far as it goes."""
    for kind, (path, reader, noticed) in _kinds(ground).items():
        row = Row(f"cut off: {kind}", NOTICED if noticed else ONE_LINE)
        content = Path(path).read_bytes()
        wanted = reader(path) if noticed else None
        damaged = f"damaged{Path(path).suffix}"
        for part in range(PARTS):
            Path(damaged).write_bytes(content[: len(content) * part // PARTS])
            row.cases += 1
            _try(row, reader, damaged, wanted, f"{part}/{PARTS} of {Path(path).name}")
        yield row
