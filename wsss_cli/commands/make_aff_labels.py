"""``wsss make-aff-labels``: confident regions of CAMs, for AffinityNet or IRNet to learn from."""

from __future__ import annotations

from typing import Any

import click

from wsss_cli.commands import _frame, _options


def _cut(
    context: click.Context, parameter: click.Parameter, value: tuple[float, float] | None
) -> tuple[float, float] | None:
    if value is not None and not 0 <= value[1] < value[0] <= 1:
        raise click.BadParameter(
            f"{value[0]:g},{value[1]:g}: the first must be larger, and both from 0 to 1"
        )
    return value


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
    "--cut",
    default=None,
    type=_options.Numbers(count=2),
    callback=_cut,
    metavar="CLASS,BACKGROUND",
    help="The regions of IRNet instead: CAMs are cut at either value, and the CRF runs over "
    "the labels, of --certainty; 0.3,0.05 in its code.",
)
@_options.certainty_option
@click.option(
    "--window",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Side of the square around a pixel over which the CRF's result is averaged before its "
    "label is chosen; 8 in psa, the size of a cell of the affinity grid.",
)
@_options.crf_options(other=("cut", (50, 5, 10)))
@_options.classes_option()
@_options.max_side_option
@_options.processes_option
@_options.stage_options("out/aff_label")
def command(
    records: tuple[str, ...],
    low_alpha: float,
    high_alpha: float,
    cut: tuple[float, float] | None,
    crf: dict[str, float],
    classes: tuple[str, ...] | None,
    workers: int,
    stage: dict[str, Any],
    **settings: Any,
) -> None:
    """Write the confident regions of CAMs as label maps.

    Reads records with `image` and `cam`; adds `aff_label`: OUT/ID.png, a label map with 0 for
    confident background, class numbers for confident classes, and 255 elsewhere. -v reports the
    shares of each image.

    \b
    Example:
      wsss make-aff-labels cam.jsonl -o out/aff_label | wsss train-aff -c cam.pt -o aff.pt
      wsss make-aff-labels cam.jsonl --cut 0.3,0.05 | wsss irn-train -o irn.pt
    """
    from wsss_cli.stage import Stage
    from wsss_cli.tools.make_aff_labels import RegionFinder

    by_threshold = cut is not None
    _options.only_with("--cut", by_threshold, "certainty")
    _options.only_with(
        "regions without --cut",
        not by_threshold,
        "low_alpha",
        "high_alpha",
        choice="cut",
    )
    if low_alpha >= high_alpha:
        raise click.BadParameter("must be larger than --low-alpha", param_hint="--high-alpha")
    finder = RegionFinder(
        low_alpha=low_alpha,
        high_alpha=high_alpha,
        thresholds=cut,
        crf=crf,
        class_list=classes,
        **settings,
    )
    Stage(finder, **stage).run(records, workers=workers)
