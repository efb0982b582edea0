"""``wsss view``: images, maps and masks to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wsss_cli.commands import _frame, _options


@_frame.command()
@_options.records_argument
@click.option(
    "--keys",
    default=None,
    show_default="image,cam,pseudo,instances,pred,mask; on a page also saliency, aff_label and "
    "affinity",
    metavar="KEY,...",
    help="Record keys to show, in order; keys that no record has are left out.",
)
@click.option(
    "--limit",
    default=None,
    show_default="12 on a contact sheet, else none",
    type=click.IntRange(min=1),
    metavar="N",
    help="Stop after N records.",
)
@click.option(
    "--width",
    default=None,
    show_default="240; on a page 400",
    type=click.IntRange(32, 4096),
    metavar="PIXELS",
    help="Width of a picture.",
)
@_options.classes_option("Class list for the legends, if not the one in the files")
@_options.stage_options(
    "sheet.png",
    metavar="FILE|DIR",
    type=click.Path(),
    help="Output: a contact sheet (.png), a page (.html), or a folder for one picture a record.",
)
@click.option(
    "--link",
    is_flag=True,
    help="Let a page refer to the files of the photographs instead of holding small copies.",
)
def command(
    records: tuple[str, ...],
    keys: str | None,
    limit: int | None,
    width: int | None,
    classes: tuple[str, ...] | None,
    link: bool,
    stage: dict[str, Any],
) -> None:
    """Draw images, maps and masks side by side, or on a page.

    Reads records with `image` and the keys of --keys. Writes a contact sheet or a page, whose path
    it prints, or, where -o is a folder, one picture a record, and prints the records with `view`
    added. A page holds everything in one file, and IoU, loss curves and origins of the files too.

    \b
    Example:
      wsss view pseudo.jsonl -o report.html
    """
    from wsss_cli.stage import Failures, Stage
    from wsss_cli.tools.page import Page, check_page, write_page
    from wsss_cli.tools.view import Viewer, check_sheet, write_sheet

    out = str(stage["out"])
    suffix = Path(out).suffix.lower()
    is_page = suffix in (".html", ".htm")
    is_folder = not is_page and suffix != ".png"
    _options.only_with("a page, -o FILE.html", is_page, "link", choice="out")
    _options.only_with("a folder, -o DIR", is_folder, "skip_existing", "shard", choice="out")
    listed = keys if keys is not None else _ON_PAGE if is_page else _ON_SHEET
    shown = tuple(key.strip() for key in listed.split(",") if key.strip())
    if not shown:
        raise click.BadParameter("names no key", param_hint="--keys")
    viewer = Viewer(keys=shown, width=width or 240, class_list=classes)
    if is_folder:
        Stage(viewer, **stage).run(records, limit=limit)
        return
    failures = Failures("view", strict=stage["strict"])
    asked = keys is not None
    if is_page:
        page = Page(keys=shown, width=width or 400, class_list=classes, link=link)
        check_page(out, records)
        write_page(page, records, failures, out=out, limit=limit, asked=asked)
    else:
        check_sheet(out, records)
        write_sheet(viewer, records, failures, out=out, limit=limit or 12, asked=asked)
    click.echo(out)
    failures.exit()


_ON_SHEET = "image,cam,pseudo,instances,pred,mask"
_ON_PAGE = "image,saliency,cam,aff_label,affinity,pseudo,instances,pred,mask"
