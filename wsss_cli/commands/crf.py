"""``wsss crf``: label maps that follow the edges of the photographs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from wsss_cli.commands import _frame, _options

if TYPE_CHECKING:
    from wsss_cli.stage import Job
    from wsss_cli.tools.crf import Refiner
    from wsss_cli.tools.pamr import AdaptiveRefiner


@_frame.command("crf")
@_options.records_argument
@_options.out_option("out/crf")
@click.option(
    "--key",
    default="cam",
    show_default=True,
    metavar="KEY",
    help="What to refine: maps (cam, scores) or a label map (pseudo, pred).",
)
@click.option(
    "--method",
    default="densecrf",
    show_default=True,
    type=click.Choice(["densecrf", "pamr"]),
    help="Dense CRF, on the cores; or pixel-adaptive mask refinement, on --device.",
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
@click.option(
    "--iterations",
    default=10,
    show_default=True,
    type=click.IntRange(min=0),
    help="How often PAMR replaces each pixel by the mean of its neighbours.",
)
@click.option(
    "--dilations",
    default="1,2,4,8,12,24",
    show_default=True,
    type=_options.Numbers(kind=int, low=0),
    help="Distances of PAMR's neighbours, in pixels.",
)
@_options.device_option
@_options.classes_option(help="Class list, if not that of the CAMs' checkpoint.")
@_options.max_side_option
@_options.stage_options
@_options.processes_option
@click.pass_context
def command(
    context: click.Context,
    /,
    records: tuple[str, ...],
    out: str,
    key: str,
    method: str,
    alpha: float,
    threshold: float | None,
    certainty: float,
    crf_steps: int,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
    iterations: int,
    dilations: tuple[int, ...],
    device: str,
    classes: str | None,
    max_side: int,
    workers: int,
    **stage_options: Any,
) -> None:
    """Refine CAMs, scores or label maps with a dense CRF or PAMR.

    Reads records with `image` and `cam` (or the key named by --key); adds `pseudo`: OUT/ID.png, a
    label map of the classes present. An image without labels is all background. Background of maps
    is their own where they have one, else --alpha; --threshold overrides both. 255 in a label map
    is filled. --method pamr takes --iterations, --dilations and --device, and its --workers read
    and write beside the device; --certainty and the rest are those of the dense CRF.

    \b
    Example:
      wsss crf pseudo.jsonl --key pseudo -o out/crf --workers 8 > refined.jsonl
    """
    _refuse_of_the_other(context, method)
    from wsss_cli.classes import load_classes
    from wsss_cli.files import provenance, write_label_map
    from wsss_cli.stage import Stage
    from wsss_cli.tools.crf import Refiner

    dense = method == "densecrf"
    listed = load_classes(classes) if classes else None
    refiner = Refiner(
        key=key,
        crf=_options.crf_settings(crf_steps, gaussian, bilateral) if dense else None,
        pamr=None if dense else {"iterations": iterations, "dilations": dilations},
        alpha=alpha,
        threshold=threshold,
        certainty=certainty,
        max_side=max_side,
        classes=listed,
    )
    adaptive = None if dense else _on_device(refiner, device)
    stage = Stage(
        "crf",
        out=out,
        outputs={"pseudo": ".png"},
        needs=("image", key),
        sources=(key,),
        made_by=provenance("crf", refiner.params, classes=listed),
        **stage_options,
    )
    if adaptive is None:
        stage.map(records, partial(_refine, refiner), processes=workers)
    else:
        stage.batches(
            records,
            load=lambda job: refiner.load(job.record),
            compute=adaptive.compute,
            save=lambda job, labels: write_label_map(job.paths["pseudo"], labels, job.meta),
            batch=adaptive.abreast,
            threads=workers,
        )


_ONLY_WITH = {
    "densecrf": ("certainty", "crf_steps", "gaussian", "bilateral"),
    "pamr": ("iterations", "dilations", "device"),
}


def _refuse_of_the_other(context: click.Context, method: str) -> None:
    """Refuse options on the command line that only the other method knows."""
    for other, names in _ONLY_WITH.items():
        for param in context.command.params:
            said = context.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
            if said and param.name in names and other != method:
                raise click.UsageError(f"{param.opts[0]} is for --method {other}, not {method}")


def _refine(refiner: Refiner, job: Job) -> None:
    refiner(job.record, job.paths["pseudo"], job.meta)


def _on_device(refiner: Refiner, device: str) -> AdaptiveRefiner:
    _frame.sleep_when_idle()
    from wsss_cli.tools.pamr import AdaptiveRefiner

    return AdaptiveRefiner(refiner, device)
