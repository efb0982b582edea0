"""``wsss eval``: how good are the masks?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from wsss_cli.commands import _options

if TYPE_CHECKING:
    from wsss_cli.evaluation import Measured, Rule


@_options.command("eval")
@_options.records_argument
@click.option(
    "--key",
    default=None,
    metavar="KEY",
    help="What to measure: a label map or maps.  [default: the first there of pred, pseudo, cam]",
)
@click.option("--truth", default="mask", show_default=True, metavar="KEY", help="True label map.")
@_options.classes_option(help="Class list, if not the one that the files name.")
@click.option(
    "--thresholds",
    default="0.01,0.99,0.01",
    show_default=True,
    type=_options.Numbers(count=3, low=0),
    metavar="START,STOP,STEP",
    help="Background thresholds tried on maps; the best is reported.",
)
@_options.threshold_option
@click.option(
    "--alpha",
    default=None,
    type=click.FloatRange(min=0, min_open=True),
    metavar="A",
    help="Background of maps is (1 - max)^A instead.",
)
@click.option(
    "--own-background/--no-own-background",
    default=True,
    show_default=True,
    help="Use the background that maps have themselves, where they have one.",
)
@click.option(
    "--ignore",
    default=255,
    show_default=True,
    type=click.IntRange(0, 255),
    help="True label that is not counted.",
)
@click.option(
    "--format",
    "layout",
    default="table",
    show_default=True,
    type=click.Choice(["table", "json", "csv", "markdown"]),
    help="Form of the result.",
)
@click.option(
    "--fail-under",
    default=None,
    type=click.FloatRange(0, 1),
    metavar="MIOU",
    help="Exit with 1 if the mIoU is lower.",
)
@click.option(
    "--per-image",
    default=None,
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write each image's own values there, one JSON object a line.",
)
@click.option(
    "--confusion",
    default=None,
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write the confusion matrix there, to be merged.",
)
@click.option("--merge", is_flag=True, help="The arguments are files of --confusion; add them up.")
@_options.workers_option
def command(
    records: tuple[str, ...],
    key: str | None,
    truth: str,
    classes: str | None,
    thresholds: tuple[float, float, float],
    threshold: float | None,
    alpha: float | None,
    own_background: bool,
    ignore: int,
    layout: str,
    fail_under: float | None,
    per_image: str | None,
    confusion: str | None,
    merge: bool,
    workers: int,
) -> None:
    """Measure label maps or CAMs against true masks.

    Reads records with `mask` and `pred`, `pseudo`, `cam` or another key. Prints IoU, precision and
    recall of each class, their means and the pixel accuracy, counted over all pixels of the set,
    with what was measured; prints no records. Maps are measured at the best background threshold.

    \b
    Example:
      wsss random-walk cam.jsonl -c aff.pt | wsss eval --key pseudo --fail-under 0.55
    """
    from wsss_cli import console
    from wsss_cli.classes import load_classes
    from wsss_cli.evaluation import Evaluation, as_json, load_counts, measure, merged, save_counts
    from wsss_cli.files import atomic
    from wsss_cli.records import read
    from wsss_cli.report import render

    failed = 0

    def on_error(text: str) -> None:
        nonlocal failed
        failed += 1
        console.warn("eval", text)

    if merge:
        if not records:
            raise click.UsageError("--merge needs the files to add up")
        measured = merged([load_counts(path) for path in records])
    else:
        evaluation = Evaluation(
            key=key,
            truth=truth,
            classes=load_classes(classes) if classes else None,
            rule=_rule(thresholds, threshold, alpha, own_background),
            ignore=ignore,
        )
        if per_image:
            import json

            with atomic(per_image) as temporary, open(temporary, "w", encoding="utf-8") as lines:
                for record, own in measure(
                    read(records, on_error), evaluation, workers=workers, on_error=on_error
                ):
                    lines.write(json.dumps(evaluation.image_values(record, own)) + "\n")
        else:
            for _ in measure(
                read(records, on_error), evaluation, workers=workers, on_error=on_error
            ):
                pass
        measured = evaluation.result()
        measured.failed = failed
    if confusion:
        save_counts(confusion, measured)
    click.echo(render(as_json(measured), measured, layout), nl=False)
    _finish(measured, failed, fail_under)


def _rule(
    thresholds: tuple[float, float, float], threshold: float | None, alpha: float | None, own: bool
) -> Rule:
    import numpy as np

    from wsss_cli.evaluation import Rule

    if threshold is not None and alpha is not None:
        raise click.UsageError("--threshold and --alpha are two rules; give one")
    if alpha is not None:
        return Rule(alpha=alpha)
    if threshold is not None:
        return Rule(thresholds=(threshold,))
    start, stop, step = thresholds
    if start > stop:
        raise click.BadParameter("START is larger than STOP", param_hint="--thresholds")
    count = round((stop - start) / step) + 1
    return Rule(thresholds=tuple(np.linspace(start, start + step * (count - 1), count)), own=own)


def _finish(measured: Measured, failed: int, fail_under: float | None) -> None:
    """End with 1 if records were lost or the result is too low."""
    from wsss_cli import console

    miou: Any = measured.confusion.miou()
    if fail_under is not None and not miou >= fail_under:
        console.warn("eval", f"mIoU {miou:.4f} is below --fail-under {fail_under:g}")
        sys.exit(1)
    if failed:
        sys.exit(1)
