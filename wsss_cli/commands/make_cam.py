"""``wsss make-cam``: class activation maps of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from wsss_cli.commands import _frame, _options

if TYPE_CHECKING:
    from wsss_cli.models.cam import Reading


@_frame.command()
@_options.records_argument
@_options.checkpoint_option(*_options.CLASSIFIERS, several="their maps")
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
    "With one of train-cam: root, square roots, as in psa's public code on VGG-16. Checkpoints of "
    "another kind beside it are read as usual.",
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
@_options.cells_option
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
    checkpoint: tuple[str, ...],
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
    given. Of several checkpoints of the same classes, the mean of their maps is written.

    \b
    Example:
      wsss index voc VOC2012 --split train | wsss make-cam -c cam.pt -o out/cam > cam.jsonl
      wsss make-cam train.jsonl -c cam1.pt -c cam2.pt -o out/mean > mean.jsonl
    """
    _frame.sleep_when_idle()
    from wsss_cli.files import load_checkpoint
    from wsss_cli.models.inference import Runner
    from wsss_cli.stage import Stage
    from wsss_cli.tools.make_cam import CamEnsemble, CamMaker

    loaded = [load_checkpoint(path, *_options.CLASSIFIERS) for path in checkpoint]
    specific = {
        "seed_background": seed_background,
        "seed_features": seed_features,
        "background_over": background_over,
        "divide": divide,
    }
    readings = _readings([(each.path, each.kind) for each in loaded], map, specific)
    _options.only_with("--flip", settings["flip"], "join_mirrored")
    makers = [
        CamMaker(
            runner=Runner(each, resize=resize_filter, **runner),
            reading=reading,
            all_classes=all,
            **settings,
        )
        for each, reading in zip(loaded, readings, strict=True)
    ]
    maker = makers[0] if len(makers) == 1 else CamEnsemble(makers)
    Stage(maker, **stage).run(records, workers=workers)


def _readings(
    checkpoints: list[tuple[str, str]], map: str | None, specific: dict[str, Any]
) -> list[Reading]:
    """How each checkpoint is read: ``--map`` is for those of the kind that has such maps.

    Args:
        checkpoints: path and kind of each.
        map: value of ``--map``.
        specific: settings of image-specific CAMs, None where not given.

    Raises:
        click.UsageError: an option is for no checkpoint that is given.
    """
    from wsss_cli.models.networks import KINDS

    kinds = {kind for _, kind in checkpoints}
    path, kind = checkpoints[0]
    but = f"{path} is of kind {kind}" if len(checkpoints) == 1 else "none of those given is one"
    theirs = {kind: f"checkpoints of {kind}-train ({but})" for kind in ("sipe", "eps")}
    for name, whose in theirs.items():
        if map in KINDS[name].readings and name not in kinds:
            raise click.UsageError(f"--map {map} is only for {whose}")
        if name == "sipe":
            _options.only_with(whose, name in kinds, *specific)
    if map == "root" and "cam" not in kinds:
        raise click.UsageError(f"--map root is only for checkpoints of train-cam ({but})")
    _options.only_with("--map is-cam", map != "cam", *specific)
    given = {name: value for name, value in specific.items() if value is not None}
    chosen = []
    for _, kind in checkpoints:
        offered = KINDS[kind].readings
        read_as = map if map in offered else next(iter(offered))
        chosen.append(offered[str(read_as)](**(given if read_as == "is-cam" else {})))
    return chosen
