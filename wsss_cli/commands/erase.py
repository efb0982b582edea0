"""``wsss erase``: one step of adversarial erasing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from wsss_cli.commands import _frame, _options

Colour = tuple[int, int, int]


def _colour(
    context: click.Context, parameter: click.Parameter, value: str | Sequence[int]
) -> Colour | None:
    """Red, green and blue; None for the mean."""
    if value == "mean":
        return None
    numbers = _options.Numbers(count=3, kind=int, low=-1).convert(value, parameter, context)
    if max(numbers) > 255:
        raise click.BadParameter(f"{value!r}: mean, or red, green and blue from 0 to 255")
    return (numbers[0], numbers[1], numbers[2])


@_frame.command(renamed={"--threshold": "--relative-threshold"})
@_options.records_argument
@click.option(
    "--top",
    default=0.2,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SHARE",
    help="Share of the image's pixels to mine for each class, those with the largest values.",
)
@click.option(
    "--relative-threshold",
    default=None,
    type=click.FloatRange(0, 1),
    metavar="T",
    help="Mine the pixels where a map reaches T times its maximum, instead of --top.",
)
@click.option(
    "--fill",
    default="mean",
    show_default=True,
    type=click.UNPROCESSED,
    metavar="mean|R,G,B",
    callback=_colour,
    help="Colour of the erased regions; mean is that of all photographs of the stream, which has "
    "to be read to its end first.",
)
@click.option(
    "--background",
    default=0.06,
    show_default=True,
    type=click.FloatRange(0, 1),
    metavar="S",
    help="Background of `pseudo` is where the saliency is below S.",
)
@_options.classes_option()
@_options.max_side_option
@_options.processes_option
@_options.stage_options("out/erase")
def command(
    records: tuple[str, ...],
    relative_threshold: float | None,
    fill: Colour | None,
    classes: tuple[str, ...] | None,
    workers: int,
    stage: dict[str, Any],
    **settings: Any,
) -> None:
    """Mine the most activated regions and erase them (AE-PSL).

    Reads records with `image` and `cam`, and `mined` of the step before if there was one. Adds
    `mined`: OUT/mined/ID.png, a label map of the regions mined so far, 255 where two classes claim
    a pixel; `erased`: OUT/erased/ID.png, the image with those regions filled; and, for records with
    `saliency`, `pseudo`: OUT/pseudo/ID.png, the mined regions, background where the saliency is
    low, and 255 where the two disagree or a pixel has neither. A class whose map is empty and an
    image without labels mine nothing more. Each step needs an OUT of its own. -v reports the shares
    mined.

    \b
    Example:
      wsss make-cam train.jsonl -c cam.pt -o s1/cam | wsss erase -o s1 > s1.jsonl
      wsss train-cam s1.jsonl --image-key erased --classes voc -o cam2.pt
      wsss make-cam s1.jsonl --image-key erased -c cam2.pt -o s2/cam | wsss erase -o s2 > s2.jsonl
    """
    from wsss_cli.stage import Stage
    from wsss_cli.tools.erase import Eraser, mean_fill

    eraser = Eraser(
        threshold=relative_threshold,
        fill=fill or mean_fill(records, workers),
        class_list=classes,
        **settings,
    )
    Stage(eraser, **stage).run(records, workers=workers)
