"""``wsss train-seg``: the segmentation network."""

from __future__ import annotations

from typing import Any

import click

from wsss_cli.commands import _frame, _options, _training


@_frame.command()
@_options.records_argument
@_options.model_out_option("seg.pt")
@_options.classes_option("Class list", show_default="that of the pseudo-masks")
@_training.start_options
@click.option(
    "--head",
    default="aspp",
    show_default=True,
    type=click.Choice(["classifier", "two-conv", "largefov", "aspp", "deeplabv3plus"]),
    help="Head on top of the backbone: classifier with vgg16-largefov is DeepLab-LargeFOV, "
    "two-conv with resnet38 the network of Ahn & Kwak, aspp DeepLab-v2.",
)
@click.option(
    "--msc",
    default=None,
    type=_options.Numbers(low=0),
    metavar="SCALE,…",
    help="Multi-scale inputs of DeepLab-v2, whose public code has 0.5,0.75: train on the image at "
    "these scales too and on the maximum over all, which predict then uses.",
)
@click.option(
    "--target",
    default="pseudo",
    show_default=True,
    metavar="KEY[,KEY]",
    help="Record keys of the label map, the first that a record has is used: pseudo, mask, or "
    "mask,pseudo to train on true masks where there are some.",
)
@click.option(
    "--strong-weight",
    default=1.0,
    show_default=True,
    type=_options.positive,
    metavar="W",
    help="With mask and another key in --target: weight in the loss of images with a true mask; "
    "the others have 1.",
)
@click.option(
    "--balance/--no-balance",
    default=True,
    show_default=True,
    help="With mask and another key in --target: draw as many images with a true mask as others; "
    "an epoch shows the more numerous kind once.",
)
@_training.scale_option
@click.option(
    "--loss-stride",
    default=4,
    show_default=True,
    type=click.IntRange(min=1),
    help="Compare every N-th pixel each way with its label; 1 compares all, and takes longer.",
)
@click.option(
    "--psl",
    is_flag=True,
    help="Prohibitive segmentation learning: a classification branch learns the `labels`, and the "
    "network's own prediction, weighted with the scores of the branch, is a second mask to learn "
    "from.",
)
@click.option(
    "--psl-weights",
    default="predicted",
    show_default=True,
    type=click.Choice(["predicted", "labels"]),
    help="With --psl, weight with the scores of the branch or with the true labels.",
)
@click.option(
    "--ema",
    default=None,
    show_default="off",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="DECAY",
    help="Measure and save the exponential moving average of the weights in place of the last: "
    "each step keeps the share DECAY of it, such as 0.99, at first less.",
)
@click.option(
    "--confidence",
    default=None,
    show_default="off",
    type=click.Choice(["weights", "soft-targets"]),
    help="Learn less where a pseudo-mask is uncertain, by the `scores` of its record, divided by "
    "their sum over background and the labels: weights gives a pixel the probability of its label "
    "for a weight, soft-targets learns the probabilities in place of the label.",
)
@click.option(
    "--absent-weight",
    default=None,
    show_default="off",
    type=_options.positive,
    metavar="W",
    help="Weight of a loss that keeps classes without a label out of the image, also where its "
    "mask is unknown or wrong: the mean over these of -log(1 - p), p the largest probability "
    "anywhere.",
)
@_training.training_options(epochs=12, batch_size=16, crop=320, lr=0.001)
def command(
    records: tuple[str, ...],
    target: str,
    strong_weight: float,
    psl: bool,
    psl_weights: str,
    msc: tuple[float, ...] | None,
    confidence: str | None,
    absent_weight: float | None,
    **options: Any,
) -> None:
    """Train a DeepLab segmentation network.

    Reads records with `image` and a label map: `pseudo`, `mask`, or either (--target); pixels of
    255 do not count; with --psl (Wei et al. 2017, sec. 3.2) or --absent-weight `labels` too, with
    --confidence `scores` (random-walk or predict, --scores). Writes the checkpoint OUT, its metrics
    OUT.log.jsonl and their plot OUT.png; prints no records. Runs under torchrun as it is. With
    --val, mIoU against `mask` is measured.

    With --target mask,pseudo records that have a `mask` learn it, the others `pseudo`, and both
    kinds are drawn evenly; of records marked by index --strong only those with "strong": true learn
    their `mask`.

    \b
    Example:
      wsss random-walk -c aff.pt -o out/pseudo cam.jsonl | wsss train-seg -o seg.pt
      wsss train-seg s3.jsonl --psl -o psl.pt
      wsss train-seg walked.jsonl --confidence weights --absent-weight 1 -o seg.pt
      wsss train-seg some.jsonl --target mask,pseudo --strong-weight 2 --classes voc -o semi.pt
    """
    from wsss_cli.training.deeplab import train_segmentation

    keys = target.split(",")
    mixed = "mask" in keys and len(keys) > 1
    _options.only_with("--target mask,pseudo", mixed, "strong_weight", "balance")
    _options.only_with("--psl", psl, "psl_weights")
    if psl and msc:
        raise click.UsageError("--msc is not for --psl")
    pseudo = keys != ["mask"]
    _options.only_with("a --target with pseudo-masks", pseudo, "confidence", choice="target")
    alone = "training without --psl"
    _options.only_with(alone, not psl, "confidence", "absent_weight", choice="psl")
    train_segmentation(
        records,
        keys=keys,
        strong_weight=strong_weight if mixed else None,
        msc=msc or (),
        psl_weights=psl_weights if psl else None,
        confidence=confidence if pseudo and not psl else None,
        absent_weight=None if psl else absent_weight,
        **options,
    )
