"""``wsss eps-train``: the classifier that learns from saliency maps too."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from wsss_cli.commands import _frame, _options, _training

_OWN = {"eps": {"tau": 0.4}, "eps++": {"drop_above": 0.9}}  # settings of one variant alone


@_frame.command("eps-train")
@_options.records_argument
@_options.model_out_option("eps.pt")
@_options.classes_option(required=True)
@_training.backbone_options
@click.option(
    "--variant",
    default="eps++",
    show_default=True,
    type=click.Choice(["eps", "eps++"]),
    help="eps++ leaves out where the saliency map and the refined class maps disagree.",
)
@click.option(
    "--tau",
    default=None,
    type=click.FloatRange(0, 1),
    help="With eps, a class is salient if more than this share of its map is.  [default: 0.4]",
)
@click.option(
    "--lam",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Weight of the foreground map beside what the background map leaves; with eps++, 1 is the "
    "paper's.",
)
@click.option(
    "--drop-above",
    default=None,
    type=click.FloatRange(0.5, 1),
    metavar="D",
    help="With eps++, leave out a pixel where the refined maps are further than this from what its "
    "saliency says; 0.5 is the paper's, 1 leaves out nothing.  [default: 0.9]",
)
@click.option(
    "--strong",
    is_flag=True,
    help="Learn from `mask` too where a record is marked `strong`: its foreground is perfect "
    "saliency, its classes are those of the pixels.",
)
@_training.resize_option
@_training.training_options(epochs=8, batch_size=16, crop=320, lr=0.02)
def command(
    records: tuple[str, ...],
    out: str,
    classes: str,
    backbone: str,
    output_stride: int | None,
    weights: str,
    variant: str,
    tau: float | None,
    lam: float,
    drop_above: float | None,
    strong: bool,
    resize: tuple[int, int],
    **options: Any,
) -> None:
    """Train a classifier on labels and saliency maps.

    Reads records with `image`, `labels` and `saliency`. A record without saliency teaches the
    classes only, one without labels where something is only. Writes the checkpoint OUT, for
    make-cam, its metrics OUT.log.jsonl and their plot OUT.png; prints no records. Runs under
    torchrun as it is.

    \b
    Example:
      wsss index voc VOC2012 --split train_aug --saliency Saliency |
        wsss eps-train --classes voc -o eps.pt
    """
    import os

    from wsss_cli.classes import load_classes, numbers
    from wsss_cli.datasets.augment import Jitter, random_view
    from wsss_cli.datasets.strong import with_strong_masks
    from wsss_cli.records import labels, need
    from wsss_cli.training.batch import Batch
    from wsss_cli.training.cam import held_out_scores, needs_labels
    from wsss_cli.training.eps import check_supervision, class_scores, saliency_loss
    from wsss_cli.training.session import pretrained, session

    names = load_classes(classes)
    selection = {"lam": lam, **_OWN[variant]}
    for name, value, of in (("tau", tau, "eps"), ("drop_above", drop_above, "eps++")):
        if value is not None:
            if of != variant:
                option = "--" + name.replace("_", "-")
                raise click.BadParameter(f"is for --variant {of} only", param_hint=option)
            selection[name] = value
    files = ["saliency", *(["mask"] if strong else [])]

    def check(record: dict[str, Any]) -> None:
        if not any(record.get(key) for key in files):
            need(record, ["labels"])
        numbers(labels(record) or (), names)
        for key in files:
            if record.get(key):
                os.stat(record[key])

    with session("eps-train", out=out, **options) as here:
        given = here.read(records, check=check)
        here.group.on_main(lambda: check_supervision(given, strong=strong))
        if strong:
            given = here.group.on_main(lambda: with_strong_masks(given))
        held_out = here.read_held_out(check=needs_labels(names))
        network, config = pretrained(
            "eps", backbone, names, weights=weights, output_stride=output_stride
        )
        random = partial(random_view, crop=here.options.crop, long_side=resize)

        def scores(batch: Batch) -> Any:
            return class_scores(network, network(batch.images), batch)

        here.train(
            kind="eps",
            network=network,
            classes=names,
            config=config,
            samples=here.samples(
                given,
                network.backbone,
                view=random,
                classes=names,
                grey_key="saliency",
                label_map_keys=["mask"] if strong else [],
                highest_label=len(names),
                jitter=Jitter(),
            ),
            keys=["labels", *files],
            loss=saliency_loss(network, variant=variant, **selection),
            validate=held_out_scores(here, network, held_out, names, scores),
            weights=weights,
            resize=resize,
            variant=variant,
            strong=strong,
            **selection,
        )
