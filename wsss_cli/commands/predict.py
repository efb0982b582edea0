"""``wsss predict``: label maps of photographs from a segmentation network."""

from __future__ import annotations

from typing import Any

import click

from wsss_cli.commands import _frame, _options


@_frame.command("predict")
@_options.records_argument
@_options.checkpoint_option("segmentation")
@_options.out_option("out/pred")
@_options.inference_options((0.75, 1.0, 1.25))
@click.option("--crf", is_flag=True, help="Refine the probabilities with a dense CRF.")
@_options.crf_options
@click.option(
    "--drop-below",
    default=None,
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Leave out classes that are in the photograph with a smaller probability; for networks "
    "trained with --psl.  [default: 0.1 for these]",
)
@click.option("--scores", is_flag=True, help="Store the probabilities too, as `scores` (NPZ).")
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
    crf: bool,
    crf_steps: int,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
    drop_below: float | None,
    scores: bool,
    batch_size: int,
    image_key: str,
    max_side: int,
    workers: int,
    device: str,
    precision: str,
    **stage_options: Any,
) -> None:
    """Write label maps predicted by a segmentation network.

    Reads records with `image`, labelled or not; adds `pred`: OUT/ID.png, a label map, and with
    --scores `scores`: OUT/ID.npz, the probabilities of background and all classes at a quarter of
    the image's size.

    \b
    Example:
      wsss index voc VOC2012 --split val | wsss predict -c seg.pt -o out/pred | wsss eval --key pred
    """
    _frame.sleep_when_idle()
    from wsss_cli.errors import ConfigurationError
    from wsss_cli.files import load_checkpoint, provenance
    from wsss_cli.models.inference import Runner
    from wsss_cli.stage import Stage
    from wsss_cli.tools.predict import Segmenter

    loaded = load_checkpoint(checkpoint, "segmentation")
    if loaded.config.get("psl"):
        drop_below = 0.1 if drop_below is None else drop_below
    elif drop_below is not None:
        raise ConfigurationError(
            f"{checkpoint}: --drop-below needs a network trained with --psl, which knows the "
            "classes of a whole photograph"
        )
    segmenter = Segmenter(
        runner=Runner(loaded, device=device, precision=precision, max_side=max_side),
        classes=loaded.classes,
        scales=scales,
        flip=flip,
        crf=_options.crf_settings(crf_steps, gaussian, bilateral) if crf else None,
        drop_below=drop_below,
    )
    stage = Stage(
        "predict",
        out=out,
        outputs={"pred": ".png", **({"scores": ".npz"} if scores else {})},
        needs=(image_key,),
        sources=() if image_key == "image" else (image_key,),
        made_by=provenance(
            "predict",
            {**segmenter.params, "image_key": image_key},
            checkpoint=loaded.digest,
            classes=loaded.classes,
        ),
        **stage_options,
    )
    stage.batches(
        records,
        load=lambda job: segmenter.load(job.record[image_key]),
        compute=segmenter.compute,
        save=lambda job, one: segmenter.save(one, job.paths, job.meta),
        batch=batch_size,
        threads=workers,
        group=lambda one: one.image.shape,
    )
