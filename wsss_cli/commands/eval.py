"""``wsss eval``: how good are the masks?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from wsss_cli.commands import _frame, _options

if TYPE_CHECKING:
    from wsss_cli.tools.eval import Rule


@_frame.command()
@_options.records_argument
@_options.key_option(
    None, "the label map or maps to measure", show_default="the first there of pred, pseudo, cam"
)
@click.option("--truth", default="mask", show_default=True, metavar="KEY", help="True label map.")
@_options.classes_option("Class list, if not the one in the files")
@click.option(
    "--thresholds",
    default="0.01,0.99,0.01",
    show_default=True,
    type=_options.Numbers(count=3, low=0),
    metavar="START,STOP,STEP",
    help="Background thresholds to try on maps; the best is reported.",
)
@_options.threshold_option
@_options.alpha_option(None)
@click.option(
    "--own-background/--no-own-background",
    default=True,
    show_default=True,
    help="Use the maps' own background, where they have one.",
)
@click.option(
    "--ignore",
    default=255,
    show_default=True,
    type=click.IntRange(0, 255),
    help="Label of true masks that does not count.",
)
@click.option(
    "--format",
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
    help="Write the values of each image there, one JSON object a line.",
)
@click.option(
    "--confusion",
    default=None,
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write the confusion matrix there, to be merged.",
)
@click.option(
    "--plot",
    default=None,
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Draw the thresholds tried, the IoU of each class and the confusion matrix there (.png).",
)
@click.option(
    "--boundary",
    metavar="SHARE",
    type=click.FloatRange(0, 1, min_open=True),
    help="Also the IoU of the pixels near contours, up to this share of the image's diagonal: "
    "0.02 as in the paper (Cheng et al. 2021).",
)
@click.option("--dice", is_flag=True, help="Also the Dice coefficient.")
@click.option("--merge", is_flag=True, help="The arguments are files of --confusion; add them up.")
@_options.check_option
@_options.processes_option
def command(
    records: tuple[str, ...],
    key: str | None,
    truth: str,
    classes: tuple[str, ...] | None,
    thresholds: tuple[float, float, float],
    threshold: float | None,
    alpha: float | None,
    own_background: bool,
    ignore: int,
    format: str,
    fail_under: float | None,
    per_image: str | None,
    confusion: str | None,
    plot: str | None,
    merge: bool,
    check: bool,
    boundary: float | None,
    dice: bool,
    workers: int,
) -> None:
    """Measure label maps or CAMs against true masks.

    Reads records with `mask` and `pred`, `pseudo`, `cam` or another key. Prints IoU, precision and
    recall of each class, their means and the pixel accuracy, counted over all pixels of the set,
    and how the predictions were made; prints no records. Maps are measured at the best background
    threshold, unless --threshold or --alpha is given.

    \b
    Example:
      wsss random-walk cam.jsonl -c aff.pt | wsss eval --key pseudo --fail-under 0.55
    """
    from wsss_cli import console, files
    from wsss_cli.datasets.check import Differences
    from wsss_cli.stage import Failures
    from wsss_cli.tools.eval import Question, evaluate, own_values
    from wsss_cli.tools.report import check_free, facts, load_counts, merged, render, save_counts

    _options.only_with("runs without --merge", not merge, *_OF_MEASURING, choice="merge")
    if merge and not records:
        raise click.UsageError("--merge needs the files to add up")
    differences = Differences("eval")
    kept = [path for path in (per_image, confusion, plot) if path]
    files.check_targets(kept, keep=records)
    if plot:  # only then, as loading what draws takes as long as reading dozens of masks
        from wsss_cli.tools.eval_plot import check_picture, plot_result

        check_picture(plot)
    check_free(confusion, per_image, plot)
    with own_values(per_image) as each:
        if merge:
            measured = merged([load_counts(path) for path in files.distinct(records)])
        else:
            rule = _rule(thresholds, threshold, alpha, own_background)
            question = Question(
                key=key,
                classes=classes,
                rule=rule,
                truth=truth,
                ignore=ignore,
                check=check,
                boundary=boundary,
            )
            failures = Failures("eval")
            measured = evaluate(
                records,
                question,
                failures,
                workers=workers,
                each=each,
                differences=differences,
            )
        text = render(measured, format, dice=dice)
        console.result(text.encode(sys.stdout.encoding or "utf-8", "replace"))
        for line in facts(measured) if format == "csv" else ():  # has no place for them
            console.note("eval", line)
        # The files come after the result, which a full disk must not cost.
    if confusion:
        save_counts(confusion, measured)
    if plot:
        plot_result(plot, measured)
    miou = measured.confusion.miou()
    low = fail_under is not None and not miou >= fail_under
    if low:
        console.warn("eval", f"mIoU {miou:.4f} is below --fail-under {fail_under:g}")
    if low or measured.failed or differences.count:
        sys.exit(1)


_OF_MEASURING = (
    "key",
    "truth",
    "classes",
    "thresholds",
    "threshold",
    "alpha",
    "own_background",
    "ignore",
    "per_image",
    "check",
    "boundary",
)


def _rule(
    thresholds: tuple[float, float, float], threshold: float | None, alpha: float | None, own: bool
) -> Rule:
    from wsss_cli.tools.eval import Rule

    if threshold is not None and alpha is not None:
        raise click.UsageError("--threshold and --alpha are two rules; give one")
    if alpha is not None:
        return Rule(alpha=alpha)
    if threshold is not None:
        return Rule(thresholds=(threshold,))
    start, stop, step = thresholds
    count = round((stop - start) / step) + 1
    if not 1 <= count <= _MOST_THRESHOLDS or stop > 1:
        raise click.BadParameter(
            f"START to STOP in steps of STEP: 1 to {_MOST_THRESHOLDS} thresholds up to 1",
            param_hint="--thresholds",
        )
    return Rule(thresholds=tuple(round(start + step * n, 9) for n in range(count)), own=own)


_MOST_THRESHOLDS = 1000
