"""Records that somebody else wrote: wrong types, paths that lead out, control characters, bombs."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.ground import STREAMING, Ground, Row, fresh, quiet

CASES = 240  # of each tool
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
    for tool in ("make-aff-labels", "crf", "erase", "saliency", "view", "eval", "make-cam"):
        row = Row(f"hostile records to {tool}", CASES)
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


def _outside(out: str) -> dict[str, tuple[int, int]]:
    """Sizes and times of all files but those below ``out``."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in Path().rglob("*")
        if path.is_file() and not path.is_relative_to(out) and path.name != "stream.jsonl"
    }
