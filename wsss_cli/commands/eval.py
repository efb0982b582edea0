"""``wsss eval``: how good are the masks?"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from wsss_cli.commands import _frame, _options

if TYPE_CHECKING:
    from wsss_cli.tools.eval import Question, Rule
    from wsss_cli.tools.report import Measured


@_frame.command("eval")
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
@_options.processes_option
@click.pass_context
def command(
    context: click.Context,
    records: tuple[str, ...],
    key: str | None,
    truth: str,
    classes: str | None,
    thresholds: tuple[float, float, float],
    threshold: float | None,
    alpha: float | None,
    own_background: bool,
    ignore: int,
    format: str,
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
    from wsss_cli.tools.eval import Question
    from wsss_cli.tools.report import facts, load_counts, merged, render, save_counts

    if merge:
        if not records:
            raise click.UsageError("--merge needs the files to add up")
        _refuse_with_merge(context)
        measured = merged([load_counts(path) for path in records])
    else:
        rule = _rule(thresholds, threshold, alpha, own_background)
        listed = None if classes is None else load_classes(classes)
        question = Question(key=key, classes=listed, rule=rule, truth=truth, ignore=ignore)
        measured = _measure(records, question, workers, per_image)
    if confusion:
        save_counts(confusion, measured)
    click.echo(render(measured, format), nl=False)
    if format == "csv":  # has no place for them
        for line in facts(measured):
            console.note("eval", line)
    miou = measured.confusion.miou()
    low = fail_under is not None and not miou >= fail_under
    if low:
        console.warn("eval", f"mIoU {miou:.4f} is below --fail-under {fail_under:g}")
    if low or measured.failed:
        sys.exit(1)


def _refuse_with_merge(context: click.Context) -> None:
    """Refuse options that say what is measured, where all is measured already."""
    for param in context.command.params:
        said = context.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE
        if said and param.name in _OF_MEASURING:
            raise click.UsageError(
                f"{param.opts[0]} cannot change what --merge adds up; give it where that is made"
            )


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
)


def _measure(
    records: tuple[str, ...], question: Question, workers: int, per_image: str | None
) -> Measured:
    """Measure the stream, and write each image's own values if they are wanted."""
    from wsss_cli import console
    from wsss_cli.errors import ConfigurationError, WsssError
    from wsss_cli.files import atomic
    from wsss_cli.records import read
    from wsss_cli.tools.eval import Tally, measure
    from wsss_cli.tools.report import image_values

    failed = 0

    def on_error(text: str) -> None:
        nonlocal failed
        failed += 1
        console.warn("eval", text)

    total: Tally | None = None
    with ExitStack() as opened:
        bar = opened.enter_context(console.progress("eval"))
        lines = None
        if per_image:
            temporary = opened.enter_context(atomic(per_image))
            lines = opened.enter_context(open(temporary, "w", encoding="utf-8"))
        for chunk, part in measure(
            read(records, on_error),
            question,
            workers=workers,
            each=lines is not None,
            on_error=on_error,
        ):
            if lines is not None and part.images:
                if len(part.confusions()) > 1:
                    raise ConfigurationError(
                        "--per-image needs one background for all images: give --threshold (the "
                        "best is found without --per-image) or --alpha"
                    )
                own = image_values(chunk[0]["id"], part.question.names(), part.confusions()[0])
                lines.write(json.dumps(own, ensure_ascii=False) + "\n")
            if total is None:
                total = part
            else:
                total.merge(part)
            bar.update(len(chunk))
        if total is None:
            raise WsssError("nothing was measured: no record could be read")
    return total.result(failed)


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
