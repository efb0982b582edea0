"""``wsss crf``: label maps that follow the edges of the photographs."""

from __future__ import annotations

from typing import Any

import click

from wsss_cli.commands import _frame, _options


@_frame.command()
@_options.records_argument
@_options.key_option("cam", "the input: maps (cam, scores) or a label map (pseudo, pred)")
@click.option(
    "--method",
    default="densecrf",
    show_default=True,
    type=click.Choice(["densecrf", "pamr"]),
    help="Dense CRF, on the CPU cores; or pixel-adaptive mask refinement, on --device.",
)
@_options.alpha_option()
@_options.threshold_option
@click.option(
    "--by-saliency",
    is_flag=True,
    help="Background of maps is where the record's saliency is low; the maps tell which class is "
    "salient. Overrides --alpha and --threshold.",
)
@click.option(
    "--salient-above",
    default=0.5,
    show_default=True,
    metavar="S",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="With --by-saliency, the saliency above which a pixel is an object's.",
)
@_options.certainty_option
@_options.crf_options(when=lambda params: params["method"] == "densecrf")
@click.option(
    "--iterations",
    default=10,
    show_default=True,
    type=click.IntRange(min=0),
    help="Iterations of PAMR; each replaces a pixel by the mean of its similar neighbours.",
)
@click.option(
    "--dilations",
    default="1,2,4,8,12,24",
    show_default=True,
    type=_options.Numbers(kind=int, low=0),
    help="Distances of PAMR's neighbours, in pixels.",
)
@_options.device_option
@_options.classes_option()
@_options.max_side_option
@_options.processes_option
@_options.stage_options("out/crf")
def command(
    records: tuple[str, ...],
    method: str,
    crf: dict[str, float] | None,
    by_saliency: bool,
    iterations: int,
    dilations: tuple[int, ...],
    device: str,
    classes: tuple[str, ...] | None,
    workers: int,
    stage: dict[str, Any],
    **settings: Any,
) -> None:
    """Refine CAMs, scores or label maps with a dense CRF or PAMR.

    Reads records with `image` and `cam` (or the key named by --key); adds `pseudo`: OUT/ID.png, a
    label map of the classes present. An image without labels is all background. The background of
    maps is their own where they have one, else --alpha; --threshold overrides both, and
    --by-saliency, which reads `saliency` too, all three. Pixels of 255 in a label map are filled.
    --iterations, --dilations and --device are for --method pamr, whose --workers are threads that
    read and write; --certainty and the kernels are for the dense CRF.

    \b
    Example:
      wsss crf pseudo.jsonl --key pseudo -o out/crf --workers 8 > refined.jsonl
    """
    dense = method == "densecrf"
    kernels = ("crf_steps", "gaussian", "bilateral")
    _options.only_with("--method densecrf", dense, "certainty", *kernels)
    _options.only_with("--method pamr", not dense, "iterations", "dilations", "device")
    _options.only_with("--by-saliency", by_saliency, "salient_above")
    from wsss_cli.stage import Stage, Tool
    from wsss_cli.tools.crf import CrfRefiner, Source

    source = Source(class_list=classes, saliency=by_saliency, **settings)
    if crf is not None:
        refiner: Tool = CrfRefiner(source=source, crf=crf)
    else:
        _frame.sleep_when_idle()
        from wsss_cli.tools.pamr import PamrRefiner

        refiner = PamrRefiner(source, iterations=iterations, dilations=dilations, device=device)
    Stage(refiner, **stage).run(records, workers=workers)
