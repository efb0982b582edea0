"""``wsss view``: look at what the tools made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from wsss_cli.commands import _frame, _options

if TYPE_CHECKING:
    from wsss_cli.stage import Job
    from wsss_cli.tools.view import Viewer


@_frame.command("view")
@_options.records_argument
@click.option(
    "--keys",
    default="image,cam,pseudo,pred,mask",
    show_default=True,
    metavar="KEY,...",
    help="What to show, in order; keys that no record has are left out.",
)
@click.option(
    "-o",
    "--out",
    default="sheet.png",
    show_default=True,
    metavar="FILE|DIR",
    help="A contact sheet (.png), or a folder for one picture a record.",
)
@click.option(
    "--limit",
    default=None,
    type=click.IntRange(min=1),
    metavar="N",
    help="Stop after N records.  [default: 12 on a contact sheet, none for a folder]",
)
@click.option(
    "--width",
    default=240,
    show_default=True,
    type=click.IntRange(32, 4096),
    metavar="PIXELS",
    help="Width of one picture.",
)
@_options.classes_option(help="Class list for the legends, if not the one that the files name.")
@_options.stage_options
def command(
    records: tuple[str, ...],
    keys: str,
    out: str,
    limit: int | None,
    width: int,
    classes: str | None,
    **stage_options: Any,
) -> None:
    """Draw images, maps and masks side by side.

    Reads records with `image` and whatever --keys names. Writes a contact sheet, whose path it
    prints, or, where -o is a folder, one picture a record, and prints the records with `view`
    added.

    \b
    Example:
      wsss view pseudo.jsonl --keys image,cam,pseudo,mask -o sheet.png
    """
    from wsss_cli.classes import load_classes
    from wsss_cli.tools.view import Viewer

    viewer = Viewer(
        keys=tuple(key.strip() for key in keys.split(",") if key.strip()),
        width=width,
        classes=load_classes(classes) if classes else None,
    )
    if not viewer.keys:
        raise click.BadParameter("names no key", param_hint="--keys")
    if out.lower().endswith(".png"):
        _sheet(viewer, records, out, limit or 12, bool(stage_options["strict"]))
    else:
        _pictures(viewer, records, out, limit, stage_options)


def _sheet(viewer: Viewer, sources: tuple[str, ...], out: str, limit: int, strict: bool) -> None:
    from dataclasses import replace

    from wsss_cli import console
    from wsss_cli.errors import WsssError, describe
    from wsss_cli.files import write_image
    from wsss_cli.records import need, read

    failed = 0

    def on_error(text: str) -> None:
        nonlocal failed
        failed += 1
        console.warn("view", text)
        if strict:
            raise WsssError("stopped at the first failure (--strict)")

    chosen = []
    for record in read(sources, on_error):
        chosen.append(record)
        if len(chosen) == limit:
            break
    shown = tuple(key for key in viewer.keys if any(record.get(key) for record in chosen))
    asked = click.get_current_context().get_parameter_source("keys")
    for key in viewer.keys:
        if chosen and key not in shown and asked is not ParameterSource.DEFAULT:
            console.warn("view", f"no record has '{key}'; left out")
    viewer = replace(viewer, keys=shown)
    rows = []
    for record in chosen:
        try:
            need(record, ("image",))
            rows.append((record["id"], viewer.row(record)))
        except (WsssError, OSError) as error:
            on_error(f"{record['id']}: {describe(error)}")
    write_image(out, viewer.sheet(rows))
    click.echo(out)
    if failed:
        sys.exit(1)


def _pictures(
    viewer: Viewer,
    sources: tuple[str, ...],
    out: str,
    limit: int | None,
    stage_options: dict[str, Any],
) -> None:
    from wsss_cli.files import provenance, write_image
    from wsss_cli.stage import Stage

    def draw(job: Job) -> None:
        strip = viewer.strip(job.record["id"], viewer.row(job.record))
        write_image(job.paths["view"], strip, job.meta)

    stage = Stage(
        "view",
        out=out,
        outputs={"view": ".png"},
        needs=("image",),
        sources=viewer.keys,
        made_by=provenance("view", vars(viewer)),
        **stage_options,
    )
    stage.map(sources, draw, limit=limit)
