"""``wsss train-cam``: the classifier whose maps are the CAMs."""

from __future__ import annotations

from typing import Any

from wsss_cli.commands import _frame, _options, _training


@_frame.command()
@_options.records_argument
@_options.model_out_option("cam.pt")
@_options.classes_option("Class list", required=True)
@_training.start_options
@_training.resize_option
@_training.dropout_option
@_training.training_options(epochs=8, batch_size=16, crop=320, lr=0.02)
def command(records: tuple[str, ...], **options: Any) -> None:
    """Train a classifier on image-level labels.

    Reads records with `image` and `labels`. Writes the checkpoint OUT, its metrics OUT.log.jsonl
    and their plot OUT.png; prints no records. Runs under torchrun as it is.

    \b
    Example:
      wsss index voc VOC2012 --split train_aug | wsss train-cam --classes voc -o cam.pt
    """
    from wsss_cli.training.cam import classification_loss, train_classifier

    train_classifier("train-cam", "cam", records, loss=classification_loss, **options)
