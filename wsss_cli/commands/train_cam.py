"""``wsss train-cam``: the classifier whose maps are the CAMs."""

from __future__ import annotations

from functools import partial
from typing import Any

from wsss_cli.commands import _frame, _options, _training


@_frame.command("train-cam")
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
    from wsss_cli.classes import load_classes
    from wsss_cli.datasets.augment import Jitter, random_view
    from wsss_cli.training.cam import classification_loss, held_out_scores, needs_labels
    from wsss_cli.training.session import pretrained, session

    names = load_classes(classes)
    check = needs_labels(names)
    with session("train-cam", out=out, **options) as here:
        given = here.read(records, check=check)
        held_out = here.read_held_out(check=check)
        network, config = pretrained(
            "cam", backbone, names, weights=weights, output_stride=output_stride
        )
        random = partial(random_view, crop=here.options.crop, long_side=resize)
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
            validate=held_out_scores(here, network, held_out, names),
            weights=weights,
            resize=resize,
        )
