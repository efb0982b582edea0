"""``wsss sipe-train``: the classifier whose CAMs agree with image-specific prototypes."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from wsss_cli.commands import _frame, _options, _training


@_frame.command()
@_options.records_argument
@_options.model_out_option("sipe.pt")
@_options.classes_option("Class list", required=True)
@_training.start_options
@_training.resize_option
@_training.dropout_option
@_training.pool_padding_option
@click.option(
    "--gsc",
    default=0.1,
    show_default=True,
    type=click.FloatRange(min=0),
    metavar="WEIGHT",
    help="Weight of the consistency of CAM and image-specific CAM; 0 trains a plain classifier.",
)
@click.option(
    "--gsc-after",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Share of the training after which the consistency trains the CAMs too; before, it trains "
    "only the features of the prototypes.",
)
@click.option(
    "--background-over",
    default="labels",
    show_default=True,
    type=click.Choice(["labels", "all"]),
    help="Of image-specific CAMs: background is where none of these classes is activated; the "
    "authors' code takes all.",
)
@click.option(
    "--fine-stride",
    default=None,
    show_default="that of the second level, 8",
    type=int,
    metavar="PIXELS",
    help="Image pixels per cell of the hierarchical features; 16 in the authors' code.",
)
@_training.training_options(epochs=8, batch_size=16, crop=320, lr=0.02)
def command(
    records: tuple[str, ...],
    gsc: float,
    gsc_after: float,
    background_over: str,
    fine_stride: int | None,
    start: dict[str, Any],
    **options: Any,
) -> None:
    """Train a classifier with image-specific prototypes (SIPE).

    Reads records with `image` and `labels`. Writes the checkpoint OUT, its metrics OUT.log.jsonl
    and their plot OUT.png; prints no records. Runs under torchrun as it is.

    The consistency loss is the mean over the background and the labelled classes. The authors take
    the mean over all classes, which with those of VOC corresponds to --gsc 0.1.

    \b
    Example:
      wsss sipe-train train.jsonl --classes voc -o sipe.pt
    """
    from wsss_cli.training.cam import train_classifier
    from wsss_cli.training.sipe import sipe_loss

    train_classifier(
        "sipe-train",
        "sipe",
        records,
        start={**start, "fine_stride": fine_stride},
        loss=partial(sipe_loss, gsc=gsc, after=gsc_after, over_all=background_over == "all"),
        settings={"gsc": gsc, "gsc_after": gsc_after, "background_over": background_over},
        **options,
    )
