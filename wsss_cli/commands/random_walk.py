"""``wsss random-walk``: pseudo-masks from CAMs and learned affinities."""

from __future__ import annotations

from typing import Any

import click

from wsss_cli.commands import _frame, _options


@_frame.command("random-walk")
@_options.records_argument
@_options.checkpoint_option("affinity")
@_options.out_option("out/pseudo")
@click.option(
    "--beta",
    default=8.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Exponent of the affinities; larger makes the walk keep to strong ones.",
)
@click.option(
    "--steps", default=256, show_default=True, type=click.IntRange(min=0), help="Steps of the walk."
)
@_options.radius_option
@_options.alpha_option
@_options.threshold_option
@click.option("--exact", is_flag=True, help="Do every step; slower, differs by less than 1e-4.")
@click.option("--crf", is_flag=True, help="Refine the walked maps with a dense CRF.")
@_options.crf_options
@click.option("--scores", is_flag=True, help="Store the walked maps too, as `scores` (NPZ).")
@_options.classes_option(help="Class list, if not that of the CAMs' checkpoint.")
@_options.max_side_option
@_options.stage_options
@_options.workers_option
@_options.device_options
def command(
    records: tuple[str, ...],
    checkpoint: str,
    out: str,
    beta: float,
    steps: int,
    radius: int,
    alpha: float,
    threshold: float | None,
    exact: bool,
    crf: bool,
    crf_steps: int,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
    scores: bool,
    classes: str | None,
    max_side: int,
    workers: int,
    device: str,
    precision: str,
    **stage_options: Any,
) -> None:
    """Spread CAMs along semantic affinities into pseudo-masks.

    Reads records with `image` and `cam`; adds `pseudo`: OUT/ID.png, a label map, and with --scores
    `scores`: OUT/ID.npz, the walked maps. The background walks along: that of the maps where they
    have one, else (1 - max CAM)^alpha. With --threshold, the walked maps, each divided by its
    maximum, are compared with T instead. An image without labels is all background.

    \b
    Example:
      wsss random-walk cam.jsonl -c aff.pt -o out/pseudo > pseudo.jsonl
    """
    _frame.sleep_when_idle()
    from wsss_cli.classes import load_classes
    from wsss_cli.files import load_checkpoint, provenance
    from wsss_cli.models.inference import Runner
    from wsss_cli.stage import Stage
    from wsss_cli.tools.random_walk import Walker

    listed = load_classes(classes) if classes else None
    loaded = load_checkpoint(checkpoint, "affinity")
    walker = Walker(
        runner=Runner(loaded, device=device, precision=precision, max_side=max_side),
        beta=beta,
        steps=steps,
        radius=radius,
        alpha=alpha,
        threshold=threshold,
        exact=exact,
        crf=_options.crf_settings(crf_steps, gaussian, bilateral) if crf else None,
        classes=listed,
    )
    stage = Stage(
        "random-walk",
        out=out,
        outputs={"pseudo": ".png", **({"scores": ".npz"} if scores else {})},
        needs=("image", "cam"),
        sources=("cam",),
        made_by=provenance(
            "random-walk", walker.params, checkpoint=loaded.digest, classes=listed or loaded.classes
        ),
        **stage_options,
    )
    stage.batches(
        records,
        load=lambda job: walker.load(job.record),
        compute=walker.compute,
        save=lambda job, one: walker.save(one, job.paths, job.meta),
        batch=walker.runner.abreast,
        threads=workers,
    )
