"""``wsss random-walk``: pseudo-masks from CAMs and learned affinities."""

from __future__ import annotations

from typing import Any

import click

from wsss_cli.commands import _frame, _options


@_frame.command()
@_options.records_argument
@_options.checkpoint_option(*_options.LINKING)
@click.option(
    "--beta",
    default=None,
    show_default="8; 10 with irn",
    type=click.FloatRange(min=0),
    help="Exponent of the affinities; a larger one keeps the walk to strong affinities.",
)
@click.option(
    "--steps", default=256, show_default=True, type=click.IntRange(min=0), help="Steps of the walk."
)
@click.option(
    "--power",
    default=1.0,
    show_default=True,
    type=_options.positive,
    metavar="P",
    help="Exponent of the maps, background included, before they walk; 1.5 in SIPE's code.",
)
@_options.radius_option()
@_options.alpha_option(None, show_default="16; with irn --threshold 0.25 instead")
@_options.threshold_option
@click.option(
    "--floor",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    metavar="F",
    help="A class is only where its walked map has at least F of its maximum; the rest is "
    "background too.",
)
@click.option("--exact", is_flag=True, help="Do every step; slower, differs by less than 1e-4.")
@_options.crf_options("walked maps")
@click.option("--scores", is_flag=True, help="Store the walked maps too, as `scores` (NPZ).")
@click.option(
    "--affinity",
    is_flag=True,
    help="Store how strongly each pixel is tied to its neighbours too, as `affinity` (PNG); with "
    "irn, 1 minus the class boundaries.",
)
@click.option(
    "--instances",
    is_flag=True,
    help="Tell objects of a class apart by the displacement field of an IRNet; store them too, as "
    "`instances` (PNG) and `objects`.",
)
@_options.classes_option()
@_options.runner_options
@_options.stage_options("out/pseudo")
def command(
    records: tuple[str, ...],
    checkpoint: str,
    beta: float | None,
    alpha: float | None,
    scores: bool,
    affinity: bool,
    classes: tuple[str, ...] | None,
    workers: int,
    runner: dict[str, Any],
    stage: dict[str, Any],
    **settings: Any,
) -> None:
    """Propagate CAMs along semantic affinities to pseudo-masks.

    Reads records with `image` and `cam`; adds `pseudo`: OUT/ID.png, a label map; with --scores
    `scores`: OUT/ID.npz, the walked maps; with --affinity `affinity`: OUT/ID.affinity.png, the mean
    affinity of each pixel to its neighbours, 255 where it is tied to all of them. The background
    walks too: the maps' own background where they have one, else (1 - max CAM)^alpha. With
    --threshold, the walked maps, each divided by its maximum, are compared with T instead. With
    --floor too, what has walked far from an object is background. An image without labels is all
    background.

    With --instances, CAMs are cut apart where the displacement field points to different objects,
    and each part walks alone. Adds `instances`: OUT/ID.instances.png, 0 background, ids from 1, 255
    a class but no instance (below 1 % of the image); and `objects`, class and score of each id, the
    highest score first.

    With an IRNet, an affinity is 1 minus the largest value of the class boundaries on the straight
    path between two cells, and maps are multiplied by 1 minus the boundaries before they walk. Maps
    without a background of their own are compared with a threshold unless --alpha is given, and
    divided by one maximum, that of all classes.

    \b
    Example:
      wsss random-walk cam.jsonl -c aff.pt -o out/pseudo > pseudo.jsonl
    """
    _frame.sleep_when_idle()
    from wsss_cli.files import load_checkpoint
    from wsss_cli.models.inference import Runner
    from wsss_cli.models.networks import KINDS
    from wsss_cli.stage import Stage
    from wsss_cli.tools.random_walk import Walker

    loaded = load_checkpoint(checkpoint, *_options.LINKING)
    seeing = Runner(loaded, **runner)
    kind = KINDS[loaded.kind].links
    assert kind is not None
    walker = Walker(
        runner=seeing,
        kind=kind,
        beta=kind.beta if beta is None else beta,
        alpha=kind.alpha if alpha is None else alpha,
        class_list=classes,
        store_scores=scores,
        store_affinity=affinity,
        **settings,
    )
    Stage(walker, **stage).run(records, workers=workers)
