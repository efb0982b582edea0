"""``wsss erase``: one step of adversarial erasing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from wsss_cli import console
from wsss_cli.commands import _frame, _options

if TYPE_CHECKING:
    from wsss_cli.stage import Job
    from wsss_cli.tools.erase import Eraser

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


@_frame.command("erase")
@_options.records_argument
@_options.out_option("out/erase")
@click.option(
    "--top",
    default=0.2,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SHARE",
    help="Share of the image's pixels, those with the largest values, mined for each class.",
)
@click.option(
    "--threshold",
    default=None,
    type=click.FloatRange(0, 1),
    metavar="T",
    help="Mine where a map reaches this share of its maximum, instead of --top.",
)
@click.option(
    "--fill",
    default="mean",
    show_default=True,
    type=click.UNPROCESSED,
    metavar="mean|R,G,B",
    callback=_colour,
    help="Colour of what is erased; mean is that of all photographs of the stream, which is read "
    "to its end for it first. Given as numbers, the stream flows.",
)
@click.option(
    "--background",
    default=0.06,
    show_default=True,
    type=click.FloatRange(0, 1),
    metavar="S",
    help="Background of `pseudo` is where the saliency is below this.",
)
@_options.classes_option(help="Class list, if not that of the CAMs' checkpoint.")
@_options.max_side_option
@_options.stage_options
@_options.processes_option
def command(
    records: tuple[str, ...],
    out: str,
    top: float,
    threshold: float | None,
    fill: Colour | None,
    background: float,
    classes: str | None,
    max_side: int,
    workers: int,
    **stage_options: Any,
) -> None:
    """Mine the most activated regions of CAMs and erase them.

    Reads records with `image` and `cam`, and `mined` of the step before if there was one. Adds
    `mined`: OUT/mined/ID.png, a label map of the regions mined so far, 255 where two classes claim
    a pixel; `erased`: OUT/erased/ID.png, the image with those regions filled; and, for records with
    `saliency`, `pseudo`: OUT/pseudo/ID.png, the mined regions with a background of low saliency,
    255 where the two disagree or neither is. A class whose map is empty mines nothing more; an
    image without labels mines nothing. Each step needs an OUT of its own. With -v the shares mined
    are told.

    \b
    Example:
      wsss make-cam train.jsonl -c cam.pt -o s1/cam | wsss erase -o s1 > s1.jsonl
      wsss train-cam s1.jsonl --image-key erased --classes voc -o cam2.pt
      wsss make-cam s1.jsonl --image-key erased -c cam2.pt -o s2/cam | wsss erase -o s2 > s2.jsonl
    """
    from wsss_cli.classes import load_classes
    from wsss_cli.files import provenance
    from wsss_cli.stage import Stage
    from wsss_cli.tools.erase import Eraser

    listed = load_classes(classes) if classes else None
    eraser = Eraser(
        top=top,
        threshold=threshold,
        fill=_mean(records, workers) if fill is None else fill,
        background=background,
        max_side=max_side,
        classes=listed,
    )
    stage = Stage(
        "erase",
        out=out,
        outputs={"erased": ".png", "mined": ".png", "pseudo": ".png"},
        only_with={"pseudo": "saliency"},
        subfolders=True,
        needs=("image", "cam"),
        sources=("cam", "mined"),
        made_by=provenance("erase", vars(eraser), classes=listed),
        **stage_options,
    )
    stage.map(records, partial(_erase, eraser, console.verbose()), processes=workers)


def _mean(sources: Sequence[str], threads: int) -> Colour:
    """The mean colour of the photographs of the stream, which can be read once more after."""
    from wsss_cli.datasets.colour import mean_colour
    from wsss_cli.records import read, readable_twice

    rewind = readable_twice(sources)
    with console.progress("erase", unit="photograph") as bar:

        def photographs() -> Iterator[str]:
            # What is wrong with a record is said when it is worked on.
            for record in read(sources, lambda text: None):
                bar.update()
                if record.get("image"):
                    yield record["image"]

        found = mean_colour(photographs(), threads=threads)
    rewind()
    if found is None:
        return (0, 0, 0)  # no photograph can be read, so none will be filled
    console.note("erase", f"mean colour of the photographs: {','.join(map(str, found))}")
    return found


def _erase(eraser: Eraser, verbose: bool, job: Job) -> None:
    shares = eraser(job.record, job.paths, job.meta)
    if verbose:
        console.configure(verbose=True, debug=console.debugging())  # in a worker process, anew
        console.detail("erase", f"{job.record['id']}: {shares}")
