"""``wsss train-aff``: the network that predicts which neighbouring pixels have the same class."""

from __future__ import annotations

from typing import Any

import click

from wsss_cli.commands import _frame, _options, _training


@_frame.command()
@_options.records_argument
@_options.model_out_option("aff.pt")
@_options.checkpoint_option(*_options.CLASSIFIERS)
@click.option(
    "--weights",
    default=None,
    show_default="those of the checkpoint",
    metavar="imagenet|none|FILE",
    help="Weights of the backbone to start from: a file of PyTorch, safetensors, MXNet or Caffe. "
    "The public code of psa and IRNet starts from ImageNet's again.",
)
@_training.output_stride_option
@_training.scale_option
@_options.radius_option()
@_options.key_option("aff_label", "the label map")
@_training.training_options(epochs=8, batch_size=8, crop=320, lr=0.01)
def command(records: tuple[str, ...], **options: Any) -> None:
    """Train AffinityNet on confident regions.

    Reads records with `image` and `aff_label`, label maps whose undecided pixels are 255. Starts
    from the backbone of a checkpoint of train-cam, eps-train or sipe-train, or from its --weights.
    Writes the checkpoint OUT, its metrics OUT.log.jsonl and their plot OUT.png; prints no records.
    Runs under torchrun as it is.

    \b
    Example:
      wsss make-aff-labels -o out/aff cam.jsonl | wsss train-aff -c cam.pt -o aff.pt
    """
    from wsss_cli.training.affinity import train_affinity

    train_affinity(records, **options)
