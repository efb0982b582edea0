"""``wsss train-cam``: the classifier whose maps are the CAMs."""

from __future__ import annotations

from functools import partial
from typing import Any

from wsss_cli.commands import _options, _training


@_options.command("train-cam")
@_options.records_argument
@_options.model_out_option("cam.pt")
@_options.classes_option(required=True)
@_training.backbone_options
@_training.resize_option
@_training.training_options(epochs=8, batch_size=16, crop=320, lr=0.02)
def command(
    records: tuple[str, ...],
    out: str,
    classes: str,
    backbone: str,
    output_stride: int | None,
    weights: str,
    resize: tuple[int, int],
    **options: Any,
) -> None:
    """Train a classifier on image-level labels.

    Reads records with `image` and `labels`. Writes the checkpoint OUT, its metrics OUT.log.jsonl
    and their plot OUT.png; prints no records. Runs under torchrun as it is.

    \b
    Example:
      wsss index voc VOC2012 --split train_aug | wsss train-cam --classes voc -o cam.pt
    """
    from wsss_cli.classes import load_classes, numbers
    from wsss_cli.datasets.augment import Jitter, random_view, whole_view
    from wsss_cli.records import need
    from wsss_cli.training.classification import classification_loss, classification_scores
    from wsss_cli.training.session import pretrained, session

    names = load_classes(classes)

    def check(record: dict[str, Any]) -> None:
        need(record, ["labels"])
        numbers(record["labels"], names)

    with session("train-cam", out=out, **options) as here:
        given = here.read(records, check=check)
        held_out = here.read_held_out(check=check)
        network, config = pretrained(
            "cam", backbone, names, weights=weights, output_stride=output_stride
        )
        random = partial(random_view, crop=here.options.crop, long_side=resize)
        whole = partial(whole_view, crop=here.options.crop)
        validate = None
        if held_out:
            validate = classification_scores(
                network,
                here.samples(held_out, network.backbone, view=whole, classes=names),
                batch=here.options.batch_size,
                workers=here.options.workers,
                compute=here.compute,
                group=here.group,
            )
        here.train(
            kind="cam",
            network=network,
            classes=names,
            config=config,
            samples=here.samples(
                given, network.backbone, view=random, classes=names, jitter=Jitter()
            ),
            keys=["labels"],
            loss=classification_loss(network),
            validate=validate,
            weights=weights,
            resize=resize,
        )
