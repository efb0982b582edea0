"""The everyday loop: something is corrected, and the same commands run again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from tests.faults.ground import STREAMING, Ground, Row, fresh, whole_files

TOOLS = (
    "make-cam",
    "make-aff-labels",
    "random-walk",
    "crf",
    "erase",
    "saliency",
    "predict",
    "view",
)


def inputs(ground: Ground) -> Iterator[Row]:
    """Whatever changes, a run with --skip-existing ends as one in an empty folder."""
    base = ground.records(ground.stream)
    for what, change in {
        "a label corrected": _labels,
        "another photograph under the same path": _photograph,
        "CAMs made anew with other settings": _maps,
    }.items():
        row = Row(f"stale: {what}")
        for tool in TOOLS:
            changed = change(ground, base, tool)
            if changed is None:
                continue
            before, after = changed
            _, options = STREAMING[tool]
            out = fresh(f"stale/{tool}")
            ground.run(tool, before, *options, "-o", out)
            shutil.rmtree("stale/in", ignore_errors=True)
            if Path("stale/new").exists():
                Path("stale/new").rename("stale/in")
            again = ground.run(tool, after, *options, "--skip-existing", "-o", out)
            alone = ground.run(tool, after, *options, "-o", fresh("stale/alone"))
            row.cases += 1
            where = f"{tool}: {again.err[-300:]}"
            row.check(again.code == alone.code, f"exit codes {again.code}, {alone.code}: {where}")
            made = {Path(record["id"]).name for record in alone.records}
            first, second = whole_files(out), whole_files("stale/alone")
            other = [
                name for name in second if Path(name).stem in made and first[name] != second[name]
            ]
            row.check(not other, f"{other} are not those of an empty folder: {where}")
        yield row


Change = tuple[str, str] | None


def _labels(ground: Ground, base: list[dict[str, Any]], tool: str) -> Change:
    classes = Path("toy/classes.txt").read_text().split()
    changed = [dict(record) for record in base[:6]]
    other = next(name for name in classes if name not in changed[1]["labels"])
    changed[1]["labels"] = [other]
    fresh("stale/new")
    return ground.write("a.jsonl", base[:6]), ground.write("b.jsonl", changed)


def _in_place(ground: Ground, base: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Copies of the inputs, to be changed under their names."""
    shutil.rmtree("stale/in", ignore_errors=True)
    copied = []
    for record in base[:6]:
        own = dict(record)
        for key in ("image", "cam"):
            own[key] = f"stale/in/{Path(record[key]).name}"
            Path("stale/in").mkdir(parents=True, exist_ok=True)
            shutil.copy(record[key], own[key])
        copied.append(own)
    shutil.rmtree("stale/new", ignore_errors=True)
    shutil.copytree("stale/in", "stale/new")
    return copied


def _photograph(ground: Ground, base: list[dict[str, Any]], tool: str) -> Change:
    copied = _in_place(ground, base)
    path = Path(copied[1]["image"].replace("stale/in", "stale/new"))
    with Image.open(path) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    stream = ground.write("a.jsonl", copied)
    return stream, stream


def _maps(ground: Ground, base: list[dict[str, Any]], tool: str) -> Change:
    if tool in ("make-cam", "saliency", "predict"):
        return None
    copied = _in_place(ground, base)
    plain = ground.write(
        "c.jsonl", [{key: r[key] for key in ("id", "image", "labels")} for r in copied]
    )
    made = ground.run(
        *("make-cam", plain, "-c", "cam.pt", "--scales", "0.5", "--device", "cpu"),
        *("-o", fresh("stale/other")),
        check=0,
    )
    for record in made.records:
        shutil.copy(record["cam"], f"stale/new/{Path(record['cam']).name}")
    stream = ground.write("a.jsonl", copied)
    return stream, stream
