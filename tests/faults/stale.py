"""The everyday loop: something is corrected, and the same commands run again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.faults.ground import STREAMING, TRAINING, Ground, Row, fresh, whole_files
from wsss_cli import files

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
        row = Row(f"stale: {what}", "as in an empty folder")
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
    yield _classes(ground, base)
    yield _trainers(ground, base)


def _classes(ground: Ground, base: list[dict[str, Any]]) -> Row:
    """The same file of class names in another order."""
    row = Row("stale: classes reordered", "as in an empty folder")
    names = Path("toy/classes.txt").read_text().split()
    bare = []
    for record in base[:6]:
        maps = files.read_maps(record["cam"])
        path = f"{fresh('stale/bare') if not bare else 'stale/bare'}/{record['id']}.npz"
        files.write_maps(path, maps.cam, maps.classes, maps.size, {})  # of another program
        bare.append({**{key: record[key] for key in ("id", "image", "labels")}, "cam": path})
    stream = ground.write("bare.jsonl", bare)
    for tool in ("make-aff-labels", "crf", "erase", "view"):
        out = fresh(f"stale/{tool}")
        options = (*STREAMING[tool][1], "--classes", "classes.txt")
        for order in (names, names[::-1]):
            Path("classes.txt").write_text("\n".join(order) + "\n")
            again = ground.run(tool, stream, *options, "--skip-existing", "-o", out)
        alone = ground.run(tool, stream, *options, "-o", fresh("stale/alone"))
        row.cases += 1
        codes = (again.code, alone.code)
        row.check(codes == (0, 0), f"{tool}: exit codes {codes}: {again.err}")
        first, second = whole_files(out), whole_files("stale/alone")
        other = [name for name in second if first.get(name) != second[name]]
        row.check(bool(second) and not other, f"{tool}: {other} are not those of an empty folder")
    return row


def _trainers(ground: Ground, base: list[dict[str, Any]]) -> Row:
    """What a training learnt from was made anew under its names."""
    row = Row("stale: a training whose masks, maps or photographs changed", "refused, or replaced")
    changes = {
        "train-cam": ("image", "labels"),
        "eps-train": ("saliency", "labels"),
        "sipe-train": ("image",),
        "train-aff": ("aff_label",),
        "irn-train": ("aff_label",),
        "train-seg": ("mask",),
    }
    for tool, keys in changes.items():
        command = (tool, "a.jsonl", *TRAINING[tool], "--epochs", "1", "--resume", "-o")
        copied = _in_place(ground, base, ("image", "saliency", "aff_label", "mask"))
        ground.write("a.jsonl", copied)
        done = ground.run(*command, f"{fresh('stale/net')}/net.pt")
        row.check(done.code == 0, f"{tool}: {done.code}: {done.err}")
        before = Path("stale/net/net.pt").read_bytes()
        for key in keys:
            kept = None
            if key == "labels":
                changed = [dict(record) for record in copied]
                changed[0]["labels"] = copied[1]["labels"] + copied[2]["labels"]
                ground.write("a.jsonl", changed)
            else:
                path = Path(copied[0][key])
                kept = path.read_bytes()
                path.write_bytes(Path(copied[1][key]).read_bytes())
            again = ground.run(*command, "stale/net/net.pt")
            row.cases += 1
            where = f"{tool}, {key} changed: {again.err[-300:]}"
            row.check(again.code in (1, 2), f"exit code {again.code}: {where}")
            named = key in again.err or "other photograph" in again.err
            row.check(named, f"does not say what: {where}")
            row.check(Path("stale/net/net.pt").read_bytes() == before, f"lost: {where}")
            ground.write("a.jsonl", copied)
            if kept is not None:
                path.write_bytes(kept)
        same = ground.run(*command, "stale/net/net.pt")
        row.check(same.code == 0, f"{tool}, all as before: {same.err}")
    return row


Change = tuple[str, str] | None


def _labels(ground: Ground, base: list[dict[str, Any]], tool: str) -> Change:
    classes = Path("toy/classes.txt").read_text().split()
    changed = [dict(record) for record in base[:6]]
    other = next(name for name in classes if name not in changed[1]["labels"])
    changed[1]["labels"] = [other]
    fresh("stale/new")
    return ground.write("a.jsonl", base[:6]), ground.write("b.jsonl", changed)


def _in_place(
    ground: Ground, base: list[dict[str, Any]], keys: Sequence[str] = ("image", "cam")
) -> list[dict[str, Any]]:
    """Copies of the inputs, to be changed under their names."""
    shutil.rmtree("stale/in", ignore_errors=True)
    copied = []
    for record in base[:6]:
        own = dict(record)
        for key in keys:
            own[key] = f"stale/in/{key}/{Path(record[key]).name}"
            Path(own[key]).parent.mkdir(parents=True, exist_ok=True)
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
        shutil.copy(record["cam"], f"stale/new/cam/{Path(record['cam']).name}")
    stream = ground.write("a.jsonl", copied)
    return stream, stream
