"""``wsss predict``: label maps of photographs from a segmentation network."""

from __future__ import annotations

from typing import Any

import click

from wsss_cli.commands import _frame, _options


@_frame.command()
@_options.records_argument
@_options.checkpoint_option("segmentation", several="their probabilities")
@_options.inference_options((0.75, 1.0, 1.25))
@_options.crf_options("probabilities")
@click.option(
    "--drop-below",
    default=None,
    show_default="0.1 with --psl",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="For networks trained with --psl: leave out classes that are in the photograph with a "
    "smaller probability.",
)
@click.option("--scores", is_flag=True, help="Store the probabilities too, as `scores` (NPZ).")
@_options.batch_size_option(4, " (all of one size)")
@_options.image_key_option
@_options.runner_options
@_options.stage_options("out/pred")
def command(
    records: tuple[str, ...],
    checkpoint: tuple[str, ...],
    scores: bool,
    drop_below: float | None,
    workers: int,
    runner: dict[str, Any],
    stage: dict[str, Any],
    **settings: Any,
) -> None:
    """Write label maps predicted by a segmentation network.

    Reads records with `image`, labelled or not; adds `pred`: OUT/ID.png, a label map, and with
    --scores `scores`: OUT/ID.npz, the probabilities of background and all classes at a quarter of
    the image's size. Of several checkpoints of the same classes, the mean of their probabilities
    decides.

    \b
    Example:
      wsss index voc VOC2012 --split val | wsss predict -c seg.pt -o out/pred | wsss eval --key pred
      wsss predict val.jsonl -c seg1.pt -c seg2.pt -o out/mean > mean.jsonl
    """
    _frame.sleep_when_idle()
    from wsss_cli.files import load_checkpoint
    from wsss_cli.models.inference import Runner
    from wsss_cli.stage import Stage
    from wsss_cli.tools.photographs import together
    from wsss_cli.tools.predict import Segmenter

    loaded = [load_checkpoint(path, "segmentation") for path in checkpoint]
    branch = any(each.config.get("psl") for each in loaded)
    but = "is not" if len(loaded) == 1 else "are not"
    need = f"networks trained with --psl ({', '.join(checkpoint)} {but})"
    _options.only_with(need, branch, "drop_below")
    if branch and drop_below is None:
        drop_below = 0.1
    first, *others = together([Runner(each, **runner) for each in loaded])
    segmenter = Segmenter(
        runner=first, others=others, drop_below=drop_below, store_scores=scores, **settings
    )
    Stage(segmenter, **stage).run(records, workers=workers)
