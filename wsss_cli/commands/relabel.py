"""``wsss relabel``: label maps of other tools, by numbers or by colours, as ours."""

from __future__ import annotations

from typing import Any

import click

from wsss_cli.commands import _frame, _options


@_frame.command()
@_options.records_argument
@click.option(
    "--values",
    required=True,
    metavar="FILE|cityscapes",
    help="What the values mean: lines 'NUMBER NAME', 'R,G,B NAME' and '* NAME' for all others; "
    "ignore and background are names too. Or labelmap.txt of CVAT.",
)
@_options.key_option("mask", "the label map")
@_options.classes_option("Class list that numbers the names, if not their order in the map")
@_options.processes_option
@_options.stage_options("out/labels")
def command(
    records: tuple[str, ...],
    values: str,
    key: str,
    classes: tuple[str, ...] | None,
    workers: int,
    stage: dict[str, Any],
) -> None:
    """Make label maps of those of other tools.

    Reads records with `image` and `mask` (or the key named by --key), a picture of any numbers or
    colours. Puts OUT/ID.png in its place, a label map: 0 is background, classes count from 1, 255
    is ignored. The class list is that of the names in --values, in their order.

    \b
    Example:
      wsss index folder photos --masks gt | wsss relabel --values cityscapes -o ids > a.jsonl
    """
    from wsss_cli.datasets.meanings import load_meanings
    from wsss_cli.stage import Stage
    from wsss_cli.tools.relabel import Relabeller

    relabeller = Relabeller(key=key, meanings=load_meanings(values, classes))
    Stage(relabeller, **stage).run(records, workers=workers)
