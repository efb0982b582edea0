"""``wsss make-aff-labels``: confident regions of CAMs, for AffinityNet to learn from."""

from __future__ import annotations

from typing import Any

import click

from wsss_cli.commands import _frame, _options


@_frame.command()
@_options.records_argument
@click.option(
    "--low-alpha",
    default=4.0,
    show_default=True,
    type=_options.positive,
    metavar="A",
    help="Exponent of the strong background score; regions of a class despite it are confident.",
)
@click.option(
    "--high-alpha",
    default=32.0,
    show_default=True,
    type=_options.positive,
    metavar="A",
    help="Exponent of the weak background score; background despite it is confident.",
)
@click.option(
    "--window",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Side of the square around a pixel over which the CRF's result is averaged before its "
    "label is chosen; 8 in psa, the size of a cell of the affinity grid.",
)
@_options.crf_options()
@_options.classes_option()
@_options.max_side_option
@_options.processes_option
@_options.stage_options("out/aff_label")
def command(
    records: tuple[str, ...],
    low_alpha: float,
    high_alpha: float,
    window: int,
    crf: dict[str, float],
    classes: tuple[str, ...] | None,
    max_side: int,
    workers: int,
    stage: dict[str, Any],
) -> None:
    """Write the confident regions of CAMs as label maps.

    Reads records with `image` and `cam`; adds `aff_label`: OUT/ID.png, a label map with 0 for
    confident background, class numbers for confident classes, and 255 elsewhere. -v reports the
    shares of each image.

    \b
    Example:
      wsss make-aff-labels cam.jsonl -o out/aff_label | wsss train-aff -c cam.pt -o aff.pt
    """
    from wsss_cli.stage import Stage
    from wsss_cli.tools.make_aff_labels import RegionFinder

    if low_alpha >= high_alpha:
        raise click.BadParameter("must be larger than --low-alpha", param_hint="--high-alpha")
    finder = RegionFinder(
        low_alpha=low_alpha,
        high_alpha=high_alpha,
        crf=crf,
        max_side=max_side,
        class_list=classes,
        window=window,
    )
    Stage(finder, **stage).run(records, workers=workers)
