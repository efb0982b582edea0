"""``wsss saliency``: saliency maps for those who have none."""

from __future__ import annotations

from typing import Any

import click

from wsss_cli.commands import _frame, _options


@_frame.command()
@_options.records_argument
@click.option(
    "--model",
    default=None,
    metavar="u2netp|FILE",
    type=_options.ReadableFile("u2netp"),
    help="A salient-object network instead of the estimate: the small U2-Net, which is fetched "
    "once, or any in ONNX. Needs onnxruntime (pip install onnxruntime).",
)
@click.option(
    "--input-size",
    default=None,
    show_default="320",
    type=click.IntRange(min=16),
    metavar="PIXELS",
    help="Height and width of the network's input, for a --model that takes any size.",
)
@click.option(
    "--flip/--no-flip",
    default=False,
    show_default=True,
    help="Average with the mirrored image.",
)
@click.option(
    "--invert",
    is_flag=True,
    help="Make no new maps: invert the records' own, in which salient pixels are dark.",
)
@_options.processes_option
@_options.stage_options("out/saliency")
def command(
    records: tuple[str, ...],
    model: str | None,
    input_size: int | None,
    flip: bool,
    invert: bool,
    workers: int,
    stage: dict[str, Any],
) -> None:
    """Write saliency maps of photographs.

    Reads records with `image`; adds `saliency`: OUT/ID.png, 8-bit grey of the photograph's size,
    255 where it is salient. Without --model it is a training-free estimate (Zhu et al. 2014): a
    region is salient if its colour differs from the regions that touch the border; regions near the
    centre count more. It misses objects that touch the border, scattered objects, and objects of
    the background's colour; a trained network is far better. With --model, it is the network's
    first output, taken as logits if not in [0, 1] and stretched to reach from 0 to 1; --flip is for
    such networks. u2netp (U2-Net-P, Qin et al. 2020; Apache-2.0) learned from photographs with
    pixel-wise masks of salient objects: more supervision than image-level labels. With --invert,
    reads `saliency` too.

    \b
    Example:
      wsss index voc VOC2012 | wsss saliency --model u2netp -o out/saliency > train.jsonl
    """
    from wsss_cli.stage import Stage, Tool
    from wsss_cli.tools.saliency import Estimator, Inverter, SaliencyNetwork

    _options.only_with("--model", model is not None, "input_size", "flip")
    if invert and model:
        raise click.UsageError("--model makes maps and --invert rewrites some: choose one")
    if model:
        tool: Tool = SaliencyNetwork(model, input_size, flip=flip, at_once=workers)
    else:
        tool = Inverter() if invert else Estimator()
    Stage(tool, **stage).run(records, workers=workers)
