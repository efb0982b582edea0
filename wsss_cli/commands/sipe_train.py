"""``wsss sipe-train``: the classifier whose CAMs agree with image-specific prototypes."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from wsss_cli.commands import _frame, _options, _training


@_frame.command("sipe-train")
@_options.records_argument
@_options.model_out_option("sipe.pt")
@_options.classes_option(required=True)
@_training.backbone_options
@_training.resize_option
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
    help="Share of the training before the CAMs follow it; until then the prototypes follow them.",
)
@_training.training_options(epochs=8, batch_size=16, crop=320, lr=0.02)
def command(
    records: tuple[str, ...],
    out: str,
    classes: str,
    backbone: str,
    output_stride: int | None,
    weights: str,
    resize: tuple[int, int],
    gsc: float,
    gsc_after: float,
    **options: Any,
) -> None:
    """Train a classifier with image-specific prototypes (SIPE).

    Reads records with `image` and `labels`. Writes the checkpoint OUT, its metrics OUT.log.jsonl
    and their plot OUT.png; prints no records. Runs under torchrun as it is.

    The consistency is a mean over background and the classes labelled. The authors take it over all
    classes, which with VOC's is a weight of a tenth.

    \b
    Example:
      wsss sipe-train train.jsonl --classes voc -o sipe.pt
    """
    from wsss_cli.classes import load_classes
    from wsss_cli.datasets.augment import Jitter, random_view
    from wsss_cli.training.batch import Batch
    from wsss_cli.training.cam import held_out_scores, needs_labels
    from wsss_cli.training.session import pretrained, session
    from wsss_cli.training.sipe import class_scores, sipe_loss

    names = load_classes(classes)
    check = needs_labels(names)
    with session("sipe-train", out=out, **options) as here:
        given = here.read(records, check=check)
        held_out = here.read_held_out(check=check)
        network, config = pretrained(
            "sipe", backbone, names, weights=weights, output_stride=output_stride
        )
        random = partial(random_view, crop=here.options.crop, long_side=resize)

        def scores(batch: Batch) -> Any:
            return class_scores(network, network(batch.images), batch)

        here.train(
            kind="sipe",
            network=network,
            classes=names,
            config=config,
            samples=here.samples(
                given, network.backbone, view=random, classes=names, jitter=Jitter()
            ),
            keys=["labels"],
            loss=sipe_loss(network, gsc, after=gsc_after),
            validate=held_out_scores(here, network, held_out, names, scores),
            weights=weights,
            resize=resize,
            gsc=gsc,
            gsc_after=gsc_after,
        )
