"""Records that somebody else wrote: wrong types, paths that lead out, control characters, bombs."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.ground import STREAMING, TRAINING, Ground, Row, fresh, quiet, whole_files

CASES = 240  # of each tool
REQUIRED = "nothing outside --out, no traceback, bounded lines; the good ones come through"
VALUES: list[Any] = [
    *(None, True, 0, -1, 1e308, "", " ", "\0", "x" * 100_000, [], [None], {}, {"a": {"b": []}}),
    *("../x", "/etc/passwd", "a/../../x", "~/x", "C:\\x", "a\\..\\b", "a//b", "./a", "a/.", "."),
    *("a\nb", "\x1b[31m", "\u009b31m", "\u202eevil", "\ud800", "é", "e\u0301", "nul\0l"),
    *("/dev/zero", "/dev/stdin", "/proc/self/mem", ".", "/", "toy", "no such file.png"),
    [["cat"]],
    ["no such class"],
    ["\x1b[2J"],
    ["x" * 100_000],
    [str(number) for number in range(3000)],
]
DEEP = '{"id": "deep", "image": "a.png", "x": ' + "[" * 900 + "]" * 900 + "}"
LINES = [
    *("", "{", "[]", "null", '"x"', "3", "NaN", "\ufeff{}", "{" * 100_000, DEEP),
    *('{"id": NaN}', '{"id": "n", "x": NaN}', '{"id": "i", "x": Infinity}', "\udcff"),
    '{"id": "digits", "x": ' + "9" * 10_000 + "}",
    '{"id": "a", "id": "b"}',
]


def _mutated(record: dict[str, Any], rng: random.Random) -> str:
    """A line that no tool would write."""
    if rng.random() < 0.2:
        return rng.choice(LINES)
    changed = copy.deepcopy(record)
    for _ in range(rng.choice((1, 1, 1, 2))):
        key = rng.choice([*changed, "mined", "scores", "x", "strong"])
        if rng.random() < 0.1:
            changed.pop(key, None)
        else:
            changed[key] = rng.choice(VALUES)
    line = json.dumps(changed, ensure_ascii=rng.random() < 0.7)
    return line[: rng.randrange(len(line))] if rng.random() < 0.05 else line


def records(ground: Ground) -> Iterator[Row]:
    """Nothing is written outside --out, nothing executed, and the good records between come
    through."""
    good = ground.records(ground.stream)
    for tool in (*STREAMING, "eval"):
        row = Row(f"hostile records to {tool}", REQUIRED, CASES)
        rng = ground.rng("hostile", tool)
        lines, between = [], []
        for number in range(CASES):
            record = {**good[number % len(good)], "id": f"{number}"}
            lines.append(_mutated(record, rng))
            if number % 40 == 0:
                between.append({**good[number % len(good)], "id": f"good/{number}"})
                lines.append(json.dumps(between[-1]))
        out = fresh(f"hostile/{tool}")
        before = _outside(out)
        Path("stream.jsonl").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass") + b"\n")
        options = ("--key", "aff_label") if tool == "eval" else (*STREAMING[tool][1], "-o", out)
        done = ground.run(tool, "stream.jsonl", *options)
        where = f"seed {ground.seed}, hostile {tool}"
        row.check(done.code in (0, 1), f"exit code {done.code}: {where}: {done.err[-600:]}")
        row.check(not quiet(done), f"{quiet(done)}: {where}")
        bare = [letter for letter in done.err if letter != "\n" and not letter.isprintable()]
        row.check(not bare, f"stderr has {bare[:5]}: {where}")
        longest = max(map(len, done.err.splitlines()), default=0)
        row.check(longest < 2000, f"a message of {longest} characters: {where}")
        row.check(_outside(out) == before, f"something outside {out} has changed: {where}")
        for line in done.out.splitlines() if tool != "eval" else ():
            row.check(
                not {"NaN", "Infinity"} & set(line.replace(",", " ").replace("}", " ").split()),
                f"no JSON: {line[:200]}: {where}",
            )
        if tool != "eval":
            ids = {json.loads(line)["id"] for line in done.out.splitlines()}
            lost = [record["id"] for record in between if record["id"] not in ids]
            row.check(not lost, f"good records are missing: {lost}: {where}")
        yield row
    yield from twins(ground)
    yield from trainers(ground)


def twins(ground: Ground) -> Iterator[Row]:
    """Ids that are one file in some file system: the first is made, the second named."""
    row = Row("two records of one id", "the first as alone, the second refused")
    first, other = ground.records(ground.stream)[:2]
    pairs = [("a", "a"), ("a", "A"), ("é", "e\u0301"), ("x/a", "x/A"), ("straße", "STRASSE")]
    for one, two in pairs:
        for tool in ("make-aff-labels", "saliency"):
            out, alone = fresh("twins"), fresh("twins-alone")
            lines = [json.dumps({**first, "id": one}), json.dumps({**other, "id": two})]
            ground.run(tool, "-o", alone, input=lines[0] + "\n", check=0)
            done = ground.run(tool, "-o", out, input="\n".join(lines) + "\n")
            row.cases += 1
            where = f"{tool} of {one!r} and {two!r}"
            row.check(done.code == 1, f"{where}: exit code {done.code}: {done.err}")
            ids = [record["id"] for record in done.records]
            row.check(ids == [one], f"{where}: made {ids}: {done.err}")
            row.check(whole_files(out) == whole_files(alone), f"{where}: not as the first alone")
    yield row


def trainers(ground: Ground) -> Iterator[Row]:
    """Every hostile line is named, and nothing is trained, or trained of the good ones."""
    good = ground.records(ground.stream)
    for tool, options in TRAINING.items():
        row = Row(f"hostile records to {tool}", "one line each, no traceback, nothing outside")
        for number in range(ground.several(4)):
            rng = ground.rng("hostile", tool, number)
            lines = [json.dumps(record) for record in good[:8]]
            lines += [_mutated({**good[8 + k], "id": f"{k}"}, rng) for k in range(3)]
            Path("stream.jsonl").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
            out = fresh(f"hostile/{tool}")
            before = _outside(out)
            done = ground.run(tool, "stream.jsonl", *options, "--epochs", "1", "-o", f"{out}/n.pt")
            row.cases += 1
            where = f"seed {ground.seed}, hostile {tool} {number}"
            row.check(done.code in (0, 1, 2), f"exit code {done.code}: {where}: {done.err[-600:]}")
            row.check(not quiet(done), f"{quiet(done)}: {where}")
            row.check(_outside(out) == before, f"something outside {out} has changed: {where}")
            longest = max(map(len, done.err.splitlines()), default=0)
            row.check(longest < 2000, f"a message of {longest} characters: {where}")
        yield row


def _outside(out: str) -> dict[str, tuple[int, int]]:
    """Sizes and times of all files but those below ``out``."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in Path().rglob("*")
        if path.is_file() and not path.is_relative_to(out) and path.name != "stream.jsonl"
    }
