"""The result of ``wsss eval`` as a table, JSON, CSV or Markdown."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

from wsss_cli.evaluation import Measured, lineage

_COLUMNS = ("iou", "precision", "recall")
_HEADINGS = ("class", "IoU", "precision", "recall")


def render(data: dict[str, Any], measured: Measured, layout: str) -> str:
    """The result in one of the layouts ``table``, ``json``, ``csv``, ``markdown``.

    Args:
        data: of :func:`wsss_cli.evaluation.as_json`.
        measured: the same, for its provenance.
        layout: which form.
    """
    if layout == "json":
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    if layout == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_HEADINGS)
        for name, values in _rows(data):
            writer.writerow([name, *("" if v is None else v for v in values)])
        return text.getvalue()
    if layout == "markdown":
        lines = ["| class | IoU | precision | recall |", "|---|---:|---:|---:|"]
        lines += [f"| {name} | {' | '.join(map(_shown, values))} |" for name, values in _rows(data)]
        lines += ["", *(f"- {line}" for line in facts(data, measured))]
        return "\n".join(lines) + "\n"
    return _table(data, measured)


def _rows(data: dict[str, Any]) -> Iterator[tuple[str, list[float | None]]]:
    for name, values in data["classes"].items():
        yield name, [values[column] for column in _COLUMNS]
    yield "mean", [data["miou"], data["precision"], data["recall"]]


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def facts(data: dict[str, Any], measured: Measured) -> list[str]:
    """What was measured, in lines, so that the figure can be made again."""
    lines = [
        f"{data['images']} images, '{data['key']}' against '{data['truth']}', "
        f"pixels labelled {data['ignore']} ignored",
        f"mean over the {data['num_classes']} classes that occur; "
        f"pixel accuracy {_shown(data['pixel_accuracy'])}",
    ]
    if data["failed"]:
        lines.insert(1, f"{data['failed']} records could not be measured")
    if data["background"]:
        at = f" {data['threshold']:g}" if data["threshold"] is not None else ""
        lines.append(f"background: {data['background']}{at and ':' + at}")
    if data["made_by"] == "mixed" and measured.kinds > 1:
        lines.append(f"made by: mixed ({measured.kinds} kinds of provenance)")
    else:
        lines += [f"made by {line}" for line in lineage(measured.made_by)]
    return lines


def _table(data: dict[str, Any], measured: Measured) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(_HEADINGS[0])
    for heading in _HEADINGS[1:]:
        table.add_column(heading, justify="right")
    rows = list(_rows(data))
    for place, (name, values) in enumerate(rows):
        last = place == len(rows) - 1
        table.add_row(
            name, *map(_shown, values), style="bold" if last else None,
            end_section=place == len(rows) - 2,
        )  # fmt: skip
    text = io.StringIO()
    console = Console(file=text, width=100, force_terminal=sys.stdout.isatty(), highlight=False)
    console.print(table)
    for line in facts(data, measured):
        console.print(line, soft_wrap=True, markup=False, style="dim")
    return text.getvalue()
