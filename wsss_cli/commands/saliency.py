"""``wsss saliency``: saliency maps for those who have none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from wsss_cli.commands import _frame, _options

if TYPE_CHECKING:
    from wsss_cli.stage import Job, Stage
    from wsss_cli.tools.saliency import SalientNetwork


@_frame.command("saliency")
@_options.records_argument
@_options.out_option("out/saliency")
@click.option(
    "--model",
    default=None,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="A salient-object network in ONNX, such as U2-Net, instead of the estimate; needs "
    "onnxruntime (pip install 'wsss[onnx]').",
)
@click.option(
    "--input-size",
    default=None,
    type=click.IntRange(min=16),
    metavar="PIXELS",
    help="Side of what a --model sees that takes any size.  [default: 320]",
)
@click.option(
    "--invert",
    is_flag=True,
    help="Make no new maps: rewrite the records' own, which are dark where it is salient.",
)
@_options.stage_options
@_options.processes_option
def command(
    records: tuple[str, ...],
    out: str,
    model: str | None,
    input_size: int | None,
    invert: bool,
    workers: int,
    **stage_options: Any,
) -> None:
    """Write saliency maps of photographs.

    Reads records with `image`; adds `saliency`: OUT/ID.png, 8-bit grey of the photograph's size,
    255 where it is salient. Without --model it is a training-free estimate (Zhu et al. 2014): what
    differs in colour from what clings to the border, the more so near the centre. It misses what
    touches the border, several scattered objects, and objects in the colours of their ground; a
    trained network is far better. With --model, the network's first output, as logits if not in
    [0, 1], stretched to reach from 0 to 1. With --invert, reads `saliency` too.

    \b
    Example:
      wsss index voc VOC2012 | wsss saliency --model u2net.onnx -o out/saliency > train.jsonl
    """
    from wsss_cli.files import provenance
    from wsss_cli.stage import Stage

    if input_size and not model:
        raise click.BadParameter("has no meaning without --model", param_hint="--input-size")
    if invert and model:
        raise click.UsageError("--model makes maps and --invert rewrites some: choose one")

    def stage(needs: tuple[str, ...], checkpoint: str | None = None, **params: Any) -> Stage:
        return Stage(
            "saliency",
            out=out,
            outputs={"saliency": ".png"},
            needs=needs,
            sources=needs[1:],
            made_by=provenance("saliency", params, checkpoint=checkpoint),
            **stage_options,
        )

    if model:
        from wsss_cli.tools.saliency import SalientNetwork

        network = SalientNetwork(model, input_size)
        made = stage(("image",), network.digest, input_size=network.size)
        _run(made, network, records, threads=workers)
    elif invert:
        made = stage(("image", "saliency"), invert=True)
        made.map(records, _invert, processes=workers)
    else:
        stage(("image",)).map(records, _estimate, processes=workers)


def _run(stage: Stage, network: SalientNetwork, records: tuple[str, ...], *, threads: int) -> None:
    from wsss_cli.tools.saliency import write

    # One at a time: onnxruntime has threads of its own, and most networks take no more.
    stage.batches(
        records,
        load=lambda job: network.load(job.record["image"]),
        compute=lambda items: [(network(pixels), size) for pixels, size in items],
        save=lambda job, made: write(job.paths["saliency"], made[0], made[1], job.meta),
        batch=1,
        threads=threads,
    )


def _estimate(job: Job) -> None:
    from wsss_cli.tools.saliency import estimate, write

    found, size = estimate(job.record["image"])
    write(job.paths["saliency"], found, size, job.meta)


def _invert(job: Job) -> None:
    from wsss_cli.tools.saliency import inverted, write

    found, size = inverted(job.record["image"], job.record["saliency"])
    write(job.paths["saliency"], found, size, job.meta)
