"""``wsss view``: images, maps and masks to look at."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from wsss_cli.commands import _frame, _options


@_frame.command()
@_options.records_argument
@click.option(
    "--keys",
    default="image,cam,pseudo,pred,mask",
    show_default=True,
    metavar="KEY,...",
    help="Record keys to show, in order; keys that no record has are left out.",
)
@click.option(
    "--limit",
    default=None,
    show_default="12 on a contact sheet, none for a folder",
    type=click.IntRange(min=1),
    metavar="N",
    help="Stop after N records.",
)
@click.option(
    "--width",
    default=240,
    show_default=True,
    type=click.IntRange(32, 4096),
    metavar="PIXELS",
    help="Width of a picture.",
)
@_options.classes_option("Class list for the legends, if not the one in the files")
@_options.stage_options(
    "sheet.png",
    metavar="FILE|DIR",
    type=click.Path(),
    help="Output: a contact sheet (.png), or a folder for one picture a record.",
)
@click.pass_context
def command(
    context: click.Context,
    /,
    records: tuple[str, ...],
    keys: str,
    limit: int | None,
    width: int,
    classes: tuple[str, ...] | None,
    stage: dict[str, Any],
) -> None:
    """Draw images, maps and masks side by side.

    Reads records with `image` and the keys of --keys. Writes a contact sheet, whose path it prints,
    or, where -o is a folder, one picture a record, and prints the records with `view` added.

    \b
    Example:
      wsss view pseudo.jsonl --keys image,cam,pseudo,mask -o sheet.png
    """
    from wsss_cli.files import provenance, write_image
    from wsss_cli.stage import Failures, Stage
    from wsss_cli.tools.view import Viewer, check_sheet, draw_sheet

    shown = tuple(key.strip() for key in keys.split(",") if key.strip())
    if not shown:
        raise click.BadParameter("names no key", param_hint="--keys")
    viewer = Viewer(keys=shown, width=width, class_list=classes)
    out = str(stage["out"])
    if not out.lower().endswith(".png"):
        Stage(viewer, **stage).run(records, limit=limit)
        return
    check_sheet(out, records)
    failures = Failures("view", strict=stage["strict"])
    asked = context.get_parameter_source("keys") is not ParameterSource.DEFAULT
    sheet = draw_sheet(viewer, records, failures, out=out, limit=limit or 12, asked=asked)
    write_image(out, sheet, provenance("view", viewer.params))
    click.echo(out)
    failures.exit()
