"""``wsss make-aff-labels``: where CAMs can be trusted."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from wsss_cli import console
from wsss_cli.commands import _frame, _options

if TYPE_CHECKING:
    from wsss_cli.stage import Job
    from wsss_cli.tools.make_aff_labels import RegionFinder


@_frame.command("make-aff-labels")
@_options.records_argument
@_options.out_option("out/aff_label")
@click.option(
    "--low-alpha",
    default=4.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Exponent of the strong background: what is a class even then is sure.",
)
@click.option(
    "--high-alpha",
    default=32.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Exponent of the weak background: what is background even then is sure.",
)
@_options.crf_options
@_options.classes_option(help="Class list, if not that of the CAMs' checkpoint.")
@_options.max_side_option
@_options.stage_options
@_options.processes_option
def command(
    records: tuple[str, ...],
    out: str,
    low_alpha: float,
    high_alpha: float,
    crf_steps: int,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
    classes: str | None,
    max_side: int,
    workers: int,
    **stage_options: Any,
) -> None:
    """Write the confident regions of CAMs as label maps.

    Reads records with `image` and `cam`; adds `aff_label`: OUT/ID.png, a label map with 0 for sure
    background, class numbers where a class is sure, 255 between. With -v their shares are told.

    \b
    Example:
      wsss make-aff-labels cam.jsonl -o out/aff_label | wsss train-aff -c cam.pt -o aff.pt
    """
    from wsss_cli.classes import load_classes
    from wsss_cli.files import provenance
    from wsss_cli.stage import Stage
    from wsss_cli.tools.make_aff_labels import RegionFinder

    if low_alpha >= high_alpha:
        raise click.BadParameter("must be larger than --low-alpha", param_hint="--high-alpha")
    listed = load_classes(classes) if classes else None
    finder = RegionFinder(
        low_alpha=low_alpha,
        high_alpha=high_alpha,
        crf=_options.crf_settings(crf_steps, gaussian, bilateral),
        max_side=max_side,
        classes=listed,
    )
    stage = Stage(
        "make-aff-labels",
        out=out,
        outputs={"aff_label": ".png"},
        needs=("image", "cam"),
        sources=("cam",),
        made_by=provenance("make-aff-labels", vars(finder), classes=listed),
        **stage_options,
    )
    stage.map(records, partial(_find, finder, console.verbose()), processes=workers)


def _find(finder: RegionFinder, verbose: bool, job: Job) -> None:
    shares = finder(job.record, job.paths["aff_label"], job.meta)
    if verbose:
        console.configure(verbose=True, debug=console.debugging())  # in a worker process, anew
        console.detail("make-aff-labels", f"{job.record['id']}: {shares}")
