"""``wsss toy``: data to try everything with."""

from __future__ import annotations

import click

from wsss_cli import console
from wsss_cli.commands import _frame, _options


@_frame.command("toy")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False))
@click.option(
    "--train",
    default=400,
    show_default=True,
    type=click.IntRange(min=0),
    help="Pictures for training.",
)
@click.option(
    "--val",
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
def command(folder: str, train: int, val: int, size: int, seed: int) -> None:
    """Make a small made-up data set in VOC's layout.

    Five animals with one kind of body, told apart by the head, in cluttered places. Writes
    below DIR: JPEGImages, Annotations, SegmentationClass, Saliency (maps with the faults of real
    ones), ImageSets/Segmentation/train.txt and val.txt, and classes.txt. Prints no records.

    DIR must be new or empty; run again with the same options, it completes what is missing. The
    same options always give the same pictures.

    \b
    Example:
      wsss toy toy --train 400 --val 100
      wsss index voc toy --split train | wsss train-cam --classes toy/classes.txt
    """
    from wsss_cli.datasets.toy import make_toy

    with console.progress("toy", total=train + val) as bar:
        drawn = make_toy(
            folder, train=train, val=val, seed=seed, size=size, on_image=lambda: bar.update()
        )
    kept = train + val - drawn
    console.note("toy", f"{folder}: {drawn} pictures made" + (f", {kept} kept" if kept else ""))
