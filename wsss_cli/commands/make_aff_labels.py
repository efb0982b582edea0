"""``wsss make-aff-labels``: confident regions of CAMs, for AffinityNet or IRNet to learn from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from wsss_cli.commands import _frame, _options


def _falling(most: float, bounds: str) -> Callable[..., tuple[float, float] | None]:
    """A callback that refuses two numbers unless ``most`` >= first > second >= 0."""

    def check(
        context: click.Context, parameter: click.Parameter, value: tuple[float, float] | None
    ) -> tuple[float, float] | None:
        if value is not None and not 0 <= value[1] < value[0] <= most:
            raise click.BadParameter(
                f"{value[0]:g},{value[1]:g}: the first must be larger, and both {bounds}"
            )
        return value

    return check


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
    callback=_falling(1, "from 0 to 1"),
    metavar="CLASS,BACKGROUND",
    help="The regions of IRNet instead: CAMs are cut at either value, and the CRF runs over "
    "the labels, of --certainty; 0.3,0.05 in its code.",
)
@click.option(
    "--cut-own",
    default=None,
    type=_options.Numbers(count=2),
    callback=_falling(math.inf, "at least 0"),
    metavar="CLASS,BACKGROUND",
    help="Likewise for maps with a background of their own, as SIPE's: instead of a cut, that "
    "background times either value; 1,0.5 in its code.",
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
@_options.crf_options(other=(("cut", "cut_own"), (50, 5, 10)))
@_options.classes_option()
@_options.max_side_option
@_options.processes_option
@_options.stage_options("out/aff_label")
def command(
    records: tuple[str, ...],
    low_alpha: float,
    high_alpha: float,
    cut: tuple[float, float] | None,
    cut_own: tuple[float, float] | None,
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
      wsss make-aff-labels sipe.jsonl --cut-own 1,0.5 | wsss irn-train -o irn.pt
    """
    from wsss_cli.stage import Stage
    from wsss_cli.tools.make_aff_labels import RegionFinder

    by_labels = {"cut": cut, "cut_own": cut_own}
    _options.either("cut", "cut_own", by_labels)
    chosen = next((name for name, value in by_labels.items() if value is not None), None)
    _options.only_with("--cut and --cut-own", chosen is not None, "certainty")
    _options.only_with(
        "regions without " + ("--cut-own" if chosen == "cut_own" else "--cut"),
        chosen is None,
        "low_alpha",
        "high_alpha",
        choice=chosen,
    )
    if low_alpha >= high_alpha:
        raise click.BadParameter("must be larger than --low-alpha", param_hint="--high-alpha")
    finder = RegionFinder(
        low_alpha=low_alpha,
        high_alpha=high_alpha,
        thresholds=by_labels["cut"],
        own_background=by_labels["cut_own"],
        crf=crf,
        class_list=classes,
        **settings,
    )
    Stage(finder, **stage).run(records, workers=workers)
