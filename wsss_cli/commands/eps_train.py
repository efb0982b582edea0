"""``wsss eps-train``: the classifier that learns from saliency maps too."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from wsss_cli.commands import _frame, _options, _training


@_frame.command(renamed={"--strong": "--strong-masks"})
@_options.records_argument
@_options.model_out_option("eps.pt")
@_options.classes_option("Class list", required=True)
@_training.start_options
@click.option(
    "--variant",
    default="eps++",
    show_default=True,
    type=click.Choice(["eps", "eps++"]),
    help="eps++ leaves out the pixels where the saliency map and the refined class maps disagree.",
)
@click.option(
    "--tau",
    default=0.4,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="With eps, a class counts as salient if more than this share of its map is.",
)
@click.option(
    "--lam",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Weight of the foreground map in the estimated saliency; the complement of the background "
    "map has the rest. The paper of eps++ has 1.",
)
@click.option(
    "--drop-above",
    default=0.9,
    show_default=True,
    type=click.FloatRange(0.5, 1),
    metavar="D",
    help="With eps++, leave out a pixel where the refined maps differ by more than this from its "
    "saliency; 0.5 is the paper's, 1 leaves out nothing.",
)
@click.option(
    "--stretch/--no-stretch",
    default=True,
    show_default=True,
    help="With eps++, let the refined maps of each image reach from 0 to 1 before the comparison; "
    "the paper does not.",
)
@click.option(
    "--mean-over",
    default="images",
    show_default=True,
    type=click.Choice(["images", "pixels"]),
    help="Mean of the saliency loss over the pixels of each image and then the images, or over the "
    "pixels of the whole batch, as in the public code of EPS.",
)
@click.option(
    "--strong-masks",
    is_flag=True,
    help="Learn from `mask` too where a record is marked `strong`: its foreground replaces the "
    "saliency map, and its classes are those of the pixels.",
)
@_training.resize_option
@_training.dropout_option
@_training.pool_padding_option
@_training.training_options(epochs=8, batch_size=16, crop=320, lr=0.02)
def command(
    records: tuple[str, ...],
    classes: tuple[str, ...],
    variant: str,
    tau: float,
    lam: float,
    drop_above: float,
    stretch: bool,
    mean_over: str,
    strong_masks: bool,
    **options: Any,
) -> None:
    """Train a classifier on labels and saliency (EPS, EPS++).

    Reads records with `image`, `labels` and `saliency`. It adds a background map and trains the sum
    of the labelled classes' maps to match the saliency map. Records without saliency train the
    classes alone, records without labels the saliency alone. Writes the checkpoint OUT, for
    make-cam, its metrics OUT.log.jsonl and their plot OUT.png; prints no records. Runs under
    torchrun as it is.

    \b
    Example:
      wsss index voc VOC2012 --split train_aug --saliency Saliency |
        wsss eps-train --classes voc -o eps.pt
    """
    from wsss_cli.training.cam import train_classifier
    from wsss_cli.training.eps import needs_labels_or_files, saliency_loss, select_supervised

    _options.only_with("--variant eps", variant == "eps", "tau")
    _options.only_with("--variant eps++", variant == "eps++", "drop_above", "stretch")
    own = {"tau": tau} if variant == "eps" else {"drop_above": drop_above}
    chosen: dict[str, Any] = {"variant": variant, "lam": lam, **own}
    # Named only where they differ: runs of earlier versions do not have them.
    if mean_over != "images":
        chosen["mean_over"] = mean_over
    if variant == "eps++" and not stretch:
        chosen["stretch"] = False
    masks = ["mask"] if strong_masks else []
    train_classifier(
        "eps-train",
        "eps",
        records,
        classes=classes,
        loss=partial(saliency_loss, **chosen),
        check=needs_labels_or_files(classes, ["saliency", *masks]),
        select=partial(select_supervised, strong_masks=strong_masks),
        grey_key="saliency",
        label_map_keys=masks,
        settings={"strong": strong_masks, **chosen},
        **options,
    )
