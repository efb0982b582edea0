"""``wsss crf``: label maps that follow the edges of the photographs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from wsss_cli.commands import _options

if TYPE_CHECKING:
    from wsss_cli.models.refining import Refiner
    from wsss_cli.stage import Job


@_options.command("crf")
@_options.records_argument
@_options.out_option("out/crf")
@click.option(
    "--key",
    default="cam",
    show_default=True,
    metavar="KEY",
    help="What to refine: maps (cam, scores) or a label map (pseudo, pred).",
)
@_options.alpha_option
@_options.threshold_option
@click.option(
    "--certainty",
    default=0.7,
    show_default=True,
    type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
    help="Trust in the labels of a label map: how likely a pixel's own is.",
)
@_options.crf_options
@_options.classes_option(help="Class list, if not that of the CAMs' checkpoint.")
@_options.max_side_option
@_options.stage_options
@_options.processes_option
def command(
    records: tuple[str, ...],
    out: str,
    key: str,
    alpha: float,
    threshold: float | None,
    certainty: float,
    crf_steps: int,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
    classes: str | None,
    max_side: int,
    workers: int,
    **stage_options: Any,
) -> None:
    """Refine CAMs, scores or label maps with a dense CRF.

    Reads records with `image` and `cam` (or the key named by --key); adds `pseudo`: OUT/ID.png, a
    label map of the classes present. An image without labels is all background. Background of maps
    is their own where they have one, else --alpha; --threshold overrides both. 255 in a label map
    is filled.

    \b
    Example:
      wsss crf pseudo.jsonl --key pseudo -o out/crf --workers 8 > refined.jsonl
    """
    from wsss_cli.classes import load_classes
    from wsss_cli.files import provenance
    from wsss_cli.models.refining import Refiner
    from wsss_cli.stage import Stage

    listed = load_classes(classes) if classes else None
    refiner = Refiner(
        key=key,
        crf=_options.crf_settings(crf_steps, gaussian, bilateral),
        alpha=alpha,
        threshold=threshold,
        certainty=certainty,
        max_side=max_side,
        classes=listed,
    )
    stage = Stage(
        "crf",
        out=out,
        outputs={"pseudo": ".png"},
        needs=("image", key),
        sources=(key,),
        made_by=provenance("crf", vars(refiner), classes=listed),
        **stage_options,
    )
    stage.map(records, partial(_refine, refiner), processes=workers)


def _refine(refiner: Refiner, job: Job) -> None:
    refiner(job.record, job.paths["pseudo"], job.meta)
