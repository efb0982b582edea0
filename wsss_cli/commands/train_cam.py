"""``wsss train-cam``: the classifier whose maps are the CAMs."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from wsss_cli.commands import _frame, _options, _training


@_frame.command()
@_options.records_argument
@_options.model_out_option("cam.pt")
@_options.classes_option("Class list", required=True)
@_training.start_options
@click.option(
    "--loss",
    default="soft-margin",
    show_default=True,
    type=click.Choice(["soft-margin", "squared"]),
    help="Loss of the class scores: soft-margin asks for each class by itself; squared, of AE-PSL, "
    "compares their softmax with the labels divided by their number.",
)
@_training.resize_option
@_training.dropout_option
@_training.pool_padding_option
@_training.training_options(epochs=8, batch_size=16, crop=320, lr=0.02)
def command(records: tuple[str, ...], loss: str, **options: Any) -> None:
    """Train a classifier on image-level labels.

    Reads records with `image` and `labels`. Writes the checkpoint OUT, its metrics OUT.log.jsonl
    and their plot OUT.png; prints no records. Runs under torchrun as it is.

    \b
    Example:
      wsss index voc VOC2012 --split train_aug | wsss train-cam --classes voc -o cam.pt
    """
    from wsss_cli.training.cam import classification_loss, some_labelled, train_classifier

    squared: dict[str, Any] = {"select": some_labelled, "settings": {"loss": loss}}
    train_classifier(
        "train-cam",
        "cam",
        records,
        loss=partial(classification_loss, of_scores=loss),
        **(squared if loss == "squared" else {}),
        **options,
    )
