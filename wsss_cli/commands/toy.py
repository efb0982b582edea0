"""``wsss toy``: made-up data to try the tools on."""

from __future__ import annotations

import click

from wsss_cli import console
from wsss_cli.commands import _frame, _options


@_frame.command(renamed={"--train": "--num-train", "--val": "--num-val"})
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
@click.option(
    "--num-train",
    default=400,
    show_default=True,
    type=click.IntRange(min=0),
    help="Pictures for training.",
)
@click.option(
    "--num-val",
    default=100,
    show_default=True,
    type=click.IntRange(min=0),
    help="Pictures for validation.",
)
@click.option(
    "--size",
    default=160,
    show_default=True,
    type=click.IntRange(64, 4096),
    help="Long side of a picture, in pixels.",
)
@_options.seed_option
def command(folder: str, num_train: int, num_val: int, size: int, seed: int) -> None:
    """Make a small synthetic data set in VOC's layout.

    Five animals with one kind of body, told apart by the head, in cluttered places. Writes
    below DIR: JPEGImages, Annotations, SegmentationClass, Saliency (maps with the faults of real
    ones), ImageSets/Segmentation/train.txt and val.txt, and classes.txt. Prints no records.

    DIR must be new or empty; run again with the same options, it completes what is missing. The
    same options always give the same pictures.

    \b
    Example:
      wsss toy toy --num-train 400 --num-val 100
      wsss index voc toy --split train | wsss train-cam --classes toy/classes.txt
    """
    from wsss_cli.datasets.toy import make_toy

    with console.progress("toy", total=num_train + num_val) as bar:
        drawn = make_toy(
            folder,
            train=num_train,
            val=num_val,
            seed=seed,
            size=size,
            on_image=lambda: bar.update(),
        )
    kept = num_train + num_val - drawn
    console.note("toy", f"{folder}: {drawn} pictures made" + (f", {kept} kept" if kept else ""))
