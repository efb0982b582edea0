"""``wsss make-cam``: class activation maps of images."""

from __future__ import annotations

from typing import Any

import click

from wsss_cli.commands import _frame, _options


@_frame.command("make-cam")
@_options.records_argument
@_options.checkpoint_option("cam", "eps", "sipe")
@_options.out_option("out/cam")
@_options.inference_options((0.5, 1.0, 1.5, 2.0))
@click.option("--all", is_flag=True, help="Maps of all classes, not only labels.")
@click.option(
    "--score-above",
    default=None,
    type=click.FloatRange(0, 1),
    metavar="P",
    help="For images without labels: maps of the classes found with at least this probability.",
)
@click.option(
    "--map",
    default=None,
    type=click.Choice(["is-cam", "cam"]),
    help="With a checkpoint of sipe-train: the image-specific CAM or the general one."
    "  [default: is-cam]",
)
@click.option(
    "--seed-background",
    default=None,
    type=click.FloatRange(min=0, min_open=True),
    metavar="WEIGHT",
    help="With image-specific CAMs: weight of the background among the seeds; larger gives more of"
    " it, 0.5 is the paper's.  [default: 0.8]",
)
@_options.batch_size_option
@_options.image_key_option
@_options.max_side_option
@_options.stage_options
@_options.workers_option
@_options.device_options
def command(
    records: tuple[str, ...],
    checkpoint: str,
    out: str,
    scales: tuple[float, ...],
    flip: bool,
    all: bool,
    score_above: float | None,
    map: str | None,
    seed_background: float | None,
    batch_size: int,
    image_key: str,
    max_side: int,
    workers: int,
    device: str,
    precision: str,
    **stage_options: Any,
) -> None:
    """Write class activation maps.

    Reads records with `image` and `labels`; adds `cam`: OUT/ID.npz with the maps of the labelled
    classes at a quarter of the image's size, and with a checkpoint of eps-train or sipe-train that
    of the background first. Without labels there are no maps, unless --all or --score-above is
    given.

    \b
    Example:
      wsss index voc VOC2012 --split train | wsss make-cam -c cam.pt -o out/cam > cam.jsonl
    """
    _frame.sleep_when_idle()
    from wsss_cli.files import load_checkpoint, provenance
    from wsss_cli.models.inference import Runner
    from wsss_cli.models.networks import READINGS
    from wsss_cli.models.sipe import General, ImageSpecific
    from wsss_cli.stage import Stage
    from wsss_cli.tools.make_cam import CamMaker

    loaded = load_checkpoint(checkpoint, *READINGS)
    reading = READINGS[loaded.kind]
    for name, given in (("--map", map), ("--seed-background", seed_background)):
        if given is not None and loaded.kind != "sipe":
            raise click.BadParameter(
                f"{checkpoint} is of kind {loaded.kind}, not of sipe-train", param_hint=name
            )
    if map == "cam":
        if seed_background is not None:
            raise click.BadParameter(
                "general CAMs have no seeds; leave it out", param_hint="--seed-background"
            )
        reading = General()
    elif seed_background is not None:
        reading = ImageSpecific(seed_background)
    maker = CamMaker(
        Runner(loaded, device=device, precision=precision, max_side=max_side),
        reading=reading,
        classes=loaded.classes,
        scales=scales,
        flip=flip,
        all_classes=all,
        score_above=score_above,
    )
    stage = Stage(
        "make-cam",
        out=out,
        outputs={"cam": ".npz"},
        needs=(image_key,),
        sources=() if image_key == "image" else (image_key,),
        made_by=provenance(
            "make-cam",
            {
                **maker.params,
                "image_key": image_key,
                "max_side": max_side,
            },
            checkpoint=loaded.digest,
            classes=loaded.classes,
        ),
        **stage_options,
    )
    stage.batches(
        records,
        load=lambda job: maker.load(job.record, job.record[image_key]),
        compute=maker.compute,
        save=lambda job, seen: maker.save(seen, job.paths["cam"], job.meta),
        batch=batch_size,
        threads=workers,
        group=lambda seen: seen.image.shape,
    )
