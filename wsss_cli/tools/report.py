"""The result of ``wsss eval``: kept in a file, added to others, shown as table, JSON or text."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from wsss_cli import files
from wsss_cli.console import clean
from wsss_cli.errors import ConfigurationError, describe
from wsss_cli.metrics import BoundaryCounts, Confusion, mean
from wsss_cli.texts import read_text

TOOL = "eval"
_FORMAT = "wsss-confusion-2"
_LONGEST = 1 << 26  # bytes
# Of the table, by the name of the value.
_HEADINGS = {
    "iou": "IoU",
    "boundary_iou": "boundary IoU",
    "dice": "Dice",
    "precision": "precision",
    "recall": "recall",
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The result of a run.

    Attributes:
        key, truth: record keys compared.
        classes: names, background first; plain numbers where no list is known.
        confusions: of all images: one, or one for each of ``thresholds``.
        thresholds: constant background scores; empty if the background was decided otherwise.
        rule: how the background was decided, in words; None for label maps.
        images, failed: how many records were counted, and how many could not be.
        made_by: the different provenances of the files, None for files that say nothing.
        boundary: counts of the pixels near contours, or None.
    """

    key: str
    truth: str
    classes: tuple[str, ...]
    confusions: list[Confusion]
    thresholds: tuple[float, ...] = ()
    rule: str | None = None
    images: int = 0
    failed: int = 0
    made_by: list[dict[str, Any] | None] = field(default_factory=list)
    boundary: BoundaryCounts | None = None

    @property
    def best(self) -> int:
        """Place of the confusion matrix with the highest mIoU."""
        scores = [confusion.miou() for confusion in self.confusions]
        return max(
            range(len(scores)), key=lambda place: (scores[place] == scores[place], scores[place])
        )

    @property
    def confusion(self) -> Confusion:
        """The confusion matrix, at the best threshold if there are several."""
        return self.confusions[self.best]

    @property
    def threshold(self) -> float | None:
        """The threshold of that confusion matrix, if it has one."""
        return self.thresholds[self.best] if self.thresholds else None

    def curves(self) -> dict[str, list[float]]:
        """The mIoU, and the means of precision and recall, of each confusion matrix."""
        return {
            "mIoU": [confusion.miou() for confusion in self.confusions],
            "precision": [mean(confusion.precision()) for confusion in self.confusions],
            "recall": [mean(confusion.recall()) for confusion in self.confusions],
        }


# ---- in a file -----------------------------------------------------------------------------------


def save_counts(path: str | Path, measured: Measured) -> None:
    """Write the confusion matrices of a run, and the rest of its result, as JSON."""
    confusions = [confusion.to_dict() for confusion in measured.confusions]
    boundary = measured.boundary and measured.boundary.to_dict()
    data = {
        "format": _FORMAT,
        **vars(measured),
        "confusions": confusions,
        "boundary": boundary,
    }
    with files.atomic(path) as temporary:
        temporary.write_text(json.dumps(data, allow_nan=False), encoding="utf-8")


def load_counts(path: str | Path) -> Measured:
    """Read a file of :func:`save_counts`.

    Raises:
        ConfigurationError: unreadable, or not such a file.
    """
    try:
        return _measured(json.loads(read_text(path, most=_LONGEST)))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        reason = describe(error).removeprefix(f"{path}: ")
        raise ConfigurationError(f"cannot read {path}: {reason}") from error


def check_free(counts: str | None, own_values: str | None, plot: str | None) -> None:
    """Raise ConfigurationError if a file that `eval` writes would replace one of another origin.

    Args:
        counts: path of :func:`save_counts`, or None.
        own_values: path of lines of :func:`image_values`, or None.
        plot: path of a picture of `eval`, or None.
    """
    kinds = ((counts, _is_counts), (own_values, _is_own_values), (plot, _is_plot))
    for path, is_own in kinds:
        if path and files.is_taken(path) and not is_own(path):
            raise ConfigurationError(
                f"{path}: would be replaced, but was not written by eval; "
                "move it away or name another file"
            )


def _is_counts(path: str) -> bool:
    try:
        load_counts(path)
    except ConfigurationError:
        return False
    return True


def _is_own_values(path: str) -> bool:
    return {"id", "miou", "iou"} <= set(files.first_object(path))


def _is_plot(path: str) -> bool:
    return files.made_by(path) == TOOL


def _measured(data: Any) -> Measured:
    """The result that a file holds; raises ValueError if it holds anything else."""
    if not isinstance(data, dict) or data.pop("format", None) != _FORMAT:
        raise ValueError("no file of 'wsss eval --confusion'")
    data.setdefault("boundary", None)  # not in files of earlier versions
    names = [part.name for part in fields(Measured)]
    wrong = [name for name in names if name not in data or not _is_right(name, data[name])]
    if wrong := wrong or sorted(set(data) - set(names)):
        raise ValueError(f"'{wrong[0]}' is missing or not what 'wsss eval --confusion' writes")
    data["confusions"] = [Confusion.from_dict(part) for part in data["confusions"]]
    if data["boundary"] is not None:
        data["boundary"] = BoundaryCounts.from_dict(data["boundary"])
    for name in ("classes", "thresholds"):
        data[name] = tuple(data[name])
    made = Measured(**data)
    if len(made.confusions) != max(len(made.thresholds), 1):
        raise ValueError("not one confusion matrix for each threshold")
    shapes = {(confusion.num_classes, confusion.ignore) for confusion in made.confusions}
    if shapes != {(len(made.classes), made.confusions[0].ignore)}:
        raise ValueError("its confusion matrices are not those of its classes")
    near = made.boundary
    if near and (near.num_classes, near.ignore) not in shapes:
        raise ValueError("its counts near contours are not those of its classes")
    return made


def _is_right(name: str, value: Any) -> bool:
    """Whether a field of a file can have this value."""
    if name in ("images", "failed"):
        return type(value) is int and 0 <= value < 2**53
    if name == "rule":
        return value is None or isinstance(value, str)
    if name in ("key", "truth"):
        return isinstance(value, str)
    if name == "boundary":
        return value is None or isinstance(value, dict)
    if not isinstance(value, list):
        return False
    kind: Any = {"classes": str, "thresholds": float | int, "made_by": dict | None}.get(name, dict)
    return (
        all(isinstance(item, kind) and not isinstance(item, bool) for item in value)
        and (name != "thresholds" or all(map(math.isfinite, value)))
        and (name != "classes" or (0 < len(value) == len(set(value))))
    )


def merged(parts: Sequence[Measured]) -> Measured:
    """The sum of runs over parts of a data set; the best threshold is that of the whole.

    Raises:
        ConfigurationError: they measured different things, or in different ways.
    """
    first = parts[0]
    total = [Confusion.from_dict(confusion.to_dict()) for confusion in first.confusions]
    boundary = first.boundary and BoundaryCounts.from_dict(first.boundary.to_dict())
    made_by = list(first.made_by)
    for part in parts[1:]:
        for name, ours, theirs in zip(_SAME, _settings(first), _settings(part), strict=True):
            if ours != theirs:
                raise ConfigurationError(
                    f"cannot merge: {name} is {_listed(ours)} in one, {_listed(theirs)} in "
                    "another; measure all with the same options"
                )
        for confusion, more in zip(total, part.confusions, strict=True):
            confusion.merge(more)
        if boundary is not None and part.boundary is not None:
            boundary.merge(part.boundary)
        made_by += [made for made in part.made_by if made not in made_by]
    return replace(
        first,
        confusions=total,
        boundary=boundary,
        made_by=made_by,
        images=sum(part.images for part in parts),
        failed=sum(part.failed for part in parts),
    )


_SAME = ("key", "truth", "classes", "background", "thresholds", "ignore", "boundary")


def _settings(part: Measured) -> tuple[Any, ...]:
    """The settings that must be equal in runs that are added up, in the order of ``_SAME``."""
    rule = (part.rule, part.thresholds)
    ignore = part.confusions[0].ignore
    boundary = part.boundary and part.boundary.share
    return (part.key, part.truth, part.classes, *rule, ignore, boundary)


def _listed(value: Any) -> str:
    return ", ".join(map(_short, value)) if isinstance(value, tuple) else _short(value)


# ---- as data -------------------------------------------------------------------------------------


def as_json(measured: Measured) -> dict[str, Any]:
    """The result as plain data; classes that do not occur are left out."""
    confusion = measured.confusion
    values = {
        "iou": confusion.iou(),
        "dice": confusion.dice(),
        "precision": confusion.precision(),
        "recall": confusion.recall(),
    }
    if measured.boundary is not None:
        values["boundary_iou"] = measured.boundary.iou()
    rows = {
        name: {measure: _number(column[index]) for measure, column in values.items()}
        for index, name in enumerate(measured.classes)
        if not all(math.isnan(column[index]) for column in values.values())
    }
    made: dict[str, Any] = {
        "miou": _number(confusion.miou()),
        "miou_without_background": _number(mean(values["iou"][1:])),
        **{name: _number(mean(column)) for name, column in values.items() if name != "iou"},
        "pixel_accuracy": _number(confusion.pixel_accuracy()),
        "images": measured.images,
        "failed": measured.failed,
        "key": measured.key,
        "truth": measured.truth,
        "ignore": confusion.ignore,
        "background": measured.rule,
        "threshold": None if measured.threshold is None else round(measured.threshold, 6),
        "num_classes": len(rows),
        "classes": rows,
        "made_by": measured.made_by[0] if len(measured.made_by) == 1 else "mixed",
    }
    if len(measured.confusions) > 1:
        scores = [_number(confusion.miou()) for confusion in measured.confusions]
        made["sweep"] = {
            f"{threshold:g}": score
            for threshold, score in zip(measured.thresholds, scores, strict=True)
        }
    return made


def image_values(image_id: str, classes: Sequence[str], confusion: Confusion) -> dict[str, Any]:
    """One image's own values: mean IoU over its classes, pixel accuracy, IoU of each class."""
    iou = {
        name: _number(value)
        for name, value in zip(classes, confusion.iou(), strict=True)
        if not math.isnan(value)
    }
    accuracy = _number(confusion.pixel_accuracy())
    return {
        "id": image_id,
        "miou": _number(confusion.miou()),
        "pixel_accuracy": accuracy,
        "iou": iou,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)


def lineage(meta: Mapping[str, Any] | None) -> list[str]:
    """The tool that made a file and those that made its inputs, newest first, a line each.

    >>> lineage({"tool": "crf", "version": "1", "params": {"steps": 10}})
    ['crf 1: steps 10']
    >>> lineage({"classes": ["cat"]})
    ['another program']
    >>> lineage({"tool": "predict", "checkpoint": ["7f", "a0"]})
    ['predict: checkpoints 7f, a0']
    """
    if not meta:
        return []
    params = ", ".join(
        f"{name} {_short(value)}"
        for name, value in _dict(meta.get("params")).items()
        if value is not None
    )
    used = meta.get("checkpoint", [])
    several = isinstance(used, list)
    digests = ", ".join(map(str, used)) if several else str(used)
    checkpoint = f", checkpoint{'s' * several} {digests}" if digests else ""
    maker = " ".join(str(meta[key]) for key in ("tool", "version") if meta.get(key))
    how = (params + checkpoint).removeprefix(", ")
    lines = [(maker or "another program") + (f": {how}" if how else "")]
    for source in _dict(meta.get("from")).values():
        lines += lineage(_dict(source))
    return lines


def _dict(value: Any) -> dict[str, Any]:
    """A part of a provenance, which may come from anywhere."""
    return value if isinstance(value, dict) else {}


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(_short(item) for item in value)
    if isinstance(value, dict):
        return "(" + ", ".join(f"{k} {_short(v)}" for k, v in value.items()) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)


def facts(measured: Measured) -> list[str]:
    """How the result was measured, in lines, so that it can be measured again."""
    data = as_json(measured)
    lines = [
        f"{data['images']} images, '{data['key']}' against '{data['truth']}', "
        f"pixels labelled {data['ignore']} ignored",
        f"mean over the {data['num_classes']} classes that occur, without background "
        f"{_percent(data['miou_without_background'])}; "
        f"pixel accuracy {_percent(data['pixel_accuracy'])}",
    ]
    if measured.boundary is not None:
        lines.append(f"boundary: up to {measured.boundary.share:g} of the diagonal from a contour")
    if data["failed"]:
        lines.insert(1, f"{data['failed']} records could not be measured")
    if data["background"]:
        at = "" if data["threshold"] is None else f": {data['threshold']:g}"
        lines.append(f"background: {data['background']}{at}")
    if len(measured.made_by) > 1:
        lines.append(f"made by: mixed ({len(measured.made_by)} kinds of provenance)")
    else:
        lines += [f"made by {line}" for line in lineage(measured.made_by[0])]
    return list(map(clean, lines))


# ---- as text -------------------------------------------------------------------------------------


def render(measured: Measured, layout: str, *, dice: bool = False) -> str:
    """The result in one of the layouts ``table``, ``json``, ``csv``, ``markdown``.

    Args:
        measured: the result.
        layout: its form.
        dice: whether the Dice coefficient has a column; in JSON it is always there.
    """
    data = as_json(measured)
    if layout == "json":
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    wanted = {"boundary_iou": measured.boundary is not None, "dice": dice}
    columns = [name for name in _HEADINGS if wanted.get(name, True)]
    headings = ["class", *(_HEADINGS[name] for name in columns)]
    rows = list(_rows(data, columns))
    if layout == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(headings)
        for name, values in rows:
            writer.writerow([name, *("" if v is None else v for v in values)])
        return text.getvalue()
    if layout == "markdown":
        lines = [f"| {' | '.join(headings)} |", f"|---{'|---:' * len(columns)}|"]
        for name, values in rows:
            shown = clean(name).replace("|", "\\|")
            lines.append(f"| {shown} | {' | '.join(map(_percent, values))} |")
        return "\n".join([*lines, "", *(f"- {line}" for line in facts(measured))]) + "\n"
    return _table(headings, rows, facts(measured))


Rows = list[tuple[str, list[float | None]]]


def _rows(data: dict[str, Any], columns: Sequence[str]) -> Iterator[tuple[str, list[float | None]]]:
    for name, values in data["classes"].items():
        yield name, [values[column] for column in columns]
    yield "mean", [data["miou" if column == "iou" else column] for column in columns]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _table(headings: Sequence[str], rows: Rows, lines: list[str]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column(headings[0])
    for heading in headings[1:]:
        table.add_column(heading, justify="right")
    for name, values in rows:
        table.add_row(Text(clean(name)), *map(_percent, values))
    table.rows[-1].style = "bold"
    text = io.StringIO()
    styled = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    console = Console(file=text, width=100, force_terminal=styled, highlight=False)
    console.print(table)
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, style="dim")
    return text.getvalue()
