"""``wsss make-cam``: class activation maps of images."""

from __future__ import annotations

from typing import Any, Literal

import click

from wsss_cli.commands import _frame, _options


@_frame.command()
@_options.records_argument
@_options.checkpoint_option(*_options.CLASSIFIERS)
@_options.inference_options((0.5, 1.0, 1.5, 2.0))
@click.option("--all", is_flag=True, help="Maps of all classes, not only labels.")
@click.option(
    "--score-above",
    default=None,
    type=click.FloatRange(0, 1),
    metavar="P",
    help="For images without labels: maps of the classes with at least this probability.",
)
@click.option(
    "--map",
    default=None,
    show_default="is-cam; probabilities",
    type=click.Choice(["is-cam", "cam", "probabilities", "relative", "root"]),
    help="With a checkpoint of sipe-train: is-cam, the image-specific CAM, or cam, the general "
    "one. With one of eps-train: probabilities, or relative, those of each class divided by their "
    "maximum, without a background, as in the public code of EPS (there with --threshold 0.2). "
    "With one of train-cam: root, square roots, as in psa's public code on VGG-16.",
)
@click.option(
    "--seed-background",
    default=None,
    show_default="0.8",
    type=_options.positive,
    metavar="WEIGHT",
    help="With image-specific CAMs: weight of the background in the choice of seeds; a larger one "
    "gives more background, 0.5 is the paper's.",
)
@click.option(
    "--seed-features",
    default=None,
    show_default="hierarchical",
    type=click.Choice(["last", "hierarchical"]),
    help="With image-specific CAMs: the features whose similarities decide on the seeds; last is "
    "what training takes.",
)
@click.option(
    "--background-over",
    default=None,
    show_default="labels",
    type=click.Choice(["labels", "all"]),
    help="Of image-specific CAMs: background is where none of these classes is activated; the "
    "authors' code takes all.",
)
@click.option(
    "--divide/--no-divide",
    default=None,
    show_default="no-divide",
    help="With image-specific CAMs: divide each by its maximum, as the authors' code does.",
)
@click.option(
    "--join-mirrored",
    is_flag=True,
    help="Join the image and its mirror image before the maps are read, not the maps (needs "
    "--flip); as IRNet's and SIPE's code.",
)
@click.option(
    "--cells",
    default="centred",
    show_default=True,
    type=click.Choice(["centred", "parts"]),
    help="Cells of the network's maps lie on the pixels that they look at, or are equal parts of "
    "the image, as in public code.",
)
@click.option(
    "--resize-filter",
    default="bilinear",
    show_default=True,
    type=click.Choice(["bilinear", "bicubic"]),
    help="Filter that images are scaled with; bicubic in public code.",
)
@_options.batch_size_option(4, " (all of one size)")
@_options.image_key_option
@_options.runner_options
@_options.stage_options("out/cam")
def command(
    records: tuple[str, ...],
    checkpoint: str,
    all: bool,
    map: str | None,
    seed_background: float | None,
    seed_features: str | None,
    background_over: str | None,
    divide: bool | None,
    resize_filter: Literal["bilinear", "bicubic"],
    workers: int,
    runner: dict[str, Any],
    stage: dict[str, Any],
    **settings: Any,
) -> None:
    """Write class activation maps.

    Reads records with `image` and `labels`; adds `cam`: OUT/ID.npz with the maps of the labelled
    classes at a quarter of the image's size. Maps from a checkpoint of eps-train or sipe-train
    begin with the background. Images without labels get no maps, unless --all or --score-above is
    given.

    \b
    Example:
      wsss index voc VOC2012 --split train | wsss make-cam -c cam.pt -o out/cam > cam.jsonl
    """
    _frame.sleep_when_idle()
    from wsss_cli.files import load_checkpoint
    from wsss_cli.models.inference import Runner
    from wsss_cli.models.networks import KINDS
    from wsss_cli.stage import Stage
    from wsss_cli.tools.make_cam import CamMaker

    loaded = load_checkpoint(checkpoint, *_options.CLASSIFIERS)
    readings = KINDS[loaded.kind].readings
    chosen = {
        "seed_background": seed_background,
        "seed_features": seed_features,
        "background_over": background_over,
        "divide": divide,
    }
    for kind in ("sipe", "eps"):
        theirs = f"checkpoints of {kind}-train ({checkpoint} is of kind {loaded.kind})"
        if map in KINDS[kind].readings and loaded.kind != kind:
            raise click.UsageError(f"--map {map} is only for {theirs}")
        if kind == "sipe":
            _options.only_with(theirs, loaded.kind == kind, *chosen)
    if map == "root" and loaded.kind != "cam":
        theirs = f"checkpoints of train-cam ({checkpoint} is of kind {loaded.kind})"
        raise click.UsageError(f"--map root is only for {theirs}")
    _options.only_with("--map is-cam", map != "cam", *chosen)
    _options.only_with("--flip", settings["flip"], "join_mirrored")
    given = {name: value for name, value in chosen.items() if value is not None and map != "cam"}
    reading = readings[map or next(iter(readings))](**given)
    seeing = Runner(loaded, resize=resize_filter, **runner)
    maker = CamMaker(runner=seeing, reading=reading, all_classes=all, **settings)
    Stage(maker, **stage).run(records, workers=workers)
