"""``wsss train-seg``: the segmentation network."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from wsss_cli import console
from wsss_cli.commands import _frame, _options, _training


@_frame.command("train-seg")
@_options.records_argument
@_options.model_out_option("seg.pt")
@_options.classes_option(
    help="Class list: voc, coco, or a text file with one name a line.  "
    "[default: the one that the pseudo-masks were made with]"
)
@_training.backbone_options
@click.option(
    "--head",
    default="aspp",
    show_default=True,
    type=click.Choice(["largefov", "aspp", "deeplabv3plus"]),
    help="The DeepLab on top.",
)
@click.option(
    "--target",
    default="pseudo",
    show_default=True,
    metavar="KEY[,KEY]",
    help="Record keys of the label map; each record's first that is there is used: pseudo, mask, "
    "or mask,pseudo to take true masks where there are some.",
)
@click.option(
    "--strong-weight",
    default=None,
    type=_training.positive,
    metavar="W",
    help="With mask and another key in --target, how much an image with a true mask counts in the "
    "loss; the others count 1.  [default: 1]",
)
@click.option(
    "--balance/--no-balance",
    default=True,
    show_default=True,
    help="With both kinds of images, draw as many of the one as of the other; an epoch shows the "
    "more numerous kind once.",
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
    help="Prohibitive segmentation learning: a classification branch learns the `labels`, and what "
    "the network finds, weighed with its scores, is a second mask to learn from.",
)
@click.option(
    "--psl-weights",
    default=None,
    type=click.Choice(["predicted", "labels"]),
    help="With --psl, weigh with the branch's scores, or with the true labels.  "
    "[default: predicted]",
)
@_training.training_options(epochs=12, batch_size=16, crop=320, lr=0.001)
def command(
    records: tuple[str, ...],
    out: str,
    classes: str | None,
    backbone: str,
    output_stride: int | None,
    weights: str,
    head: str,
    target: str,
    strong_weight: float | None,
    balance: bool,
    scale: tuple[float, float],
    loss_stride: int,
    psl: bool,
    psl_weights: str | None,
    **options: Any,
) -> None:
    """Train a DeepLab segmentation network.

    Reads records with `image` and a label map: `pseudo`, `mask`, or either (--target); pixels of
    255 do not count; with --psl (Wei et al. 2017, sec. 3.2) `labels` too. Writes the checkpoint
    OUT, its metrics OUT.log.jsonl and their plot OUT.png; prints no records. Runs under torchrun as
    it is. With --val, mIoU against `mask` is measured.

    With --target mask,pseudo records that have a `mask` learn it, the others `pseudo`, and both
    kinds are drawn evenly; of those marked by index --strong only the ones with "strong": true
    learn their `mask`.

    \b
    Example:
      wsss random-walk -c aff.pt -o out/pseudo cam.jsonl | wsss train-seg -o seg.pt
      wsss train-seg s3.jsonl --psl -o psl.pt
      wsss train-seg some.jsonl --target mask,pseudo --strong-weight 2 --classes voc -o semi.pt
    """
    from wsss_cli.datasets.augment import Jitter, random_view, whole_view
    from wsss_cli.datasets.strong import by_strength
    from wsss_cli.records import need
    from wsss_cli.training.deeplab import (
        check_labels,
        class_list,
        segmentation_loss,
        segmentation_scores,
    )
    from wsss_cli.training.psl import prohibitive_loss
    from wsss_cli.training.session import pretrained, session

    if psl_weights and not psl:
        raise click.BadParameter("has no meaning without --psl", param_hint="--psl-weights")
    keys = target.split(",")
    mixed = "mask" in keys and len(keys) > 1
    if strong_weight and not mixed:
        raise click.BadParameter(
            "has no meaning without --target mask,pseudo", param_hint="--strong-weight"
        )

    def labelled(record: dict[str, Any]) -> None:
        if psl:
            need(record, ["labels"])

    with session("train-seg", out=out, **options) as here:
        given = here.read(records, either=keys, check=labelled)
        held_out = here.read_held_out(either=["mask"])
        names = class_list(classes, given, keys)
        drawn: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        if mixed:
            strong, weak = by_strength(given, keys)
            settings = {"strong_weight": strong_weight or 1.0, "balance": balance}
            drawn["weights"] = [settings["strong_weight"]] * len(given)
            for place in weak:
                drawn["weights"][place] = 1.0
            if balance and strong and weak:
                drawn["groups"] = [strong, weak]
            console.note("train-seg", _strengths(len(strong), len(weak), balance))
        elif "mask" not in keys and (marked := sum(bool(r.get("strong")) for r in given)):
            console.note(
                "train-seg",
                f"{marked} records are marked strong: --target mask,{target} learns their masks",
            )
        if psl:
            here.group.on_main(lambda: check_labels(given, names))
        network, config = pretrained(
            "segmentation",
            backbone,
            names,
            weights=weights,
            output_stride=output_stride,
            head=head,
            **({"psl": True} if psl else {}),
        )
        loss = segmentation_loss(network.stride, loss_stride)
        if psl:
            settings["psl_weights"] = chosen = psl_weights or "predicted"
            loss = prohibitive_loss(network.stride, loss_stride, weights=chosen)
        view = partial(random_view, crop=here.options.crop, scale=scale)
        validate = None
        if held_out:
            validate = segmentation_scores(
                network,
                here.samples(
                    held_out,
                    network.backbone,
                    view=whole_view,
                    label_map_keys=["mask"],
                    highest_label=len(names),
                ),
                num_classes=len(names) + 1,
                workers=here.options.workers,
                compute=here.compute,
                group=here.group,
            )
        here.train(
            kind="segmentation",
            network=network,
            classes=names,
            config=config,
            samples=here.samples(
                given,
                network.backbone,
                view=view,
                classes=names if psl else None,
                label_map_keys=keys,
                highest_label=len(names),
                jitter=Jitter(),
                **drawn,
            ),
            keys=[*keys, "labels"] if psl else keys,
            loss=loss,
            validate=validate,
            weights=weights,
            scale=scale,
            loss_stride=loss_stride,
            **settings,
        )


def _strengths(strong: int, weak: int, balance: bool) -> str:
    """How many learn what, in words."""
    if not strong:
        return "no record learns a true mask: none has a 'mask' or \"strong\": true"
    if not weak:
        return "every record learns its true mask: none has \"strong\": false or no 'mask'"
    drawn = ", drawn evenly" if balance else ""
    return f"records that learn their true mask: {strong}; another map: {weak}{drawn}"
