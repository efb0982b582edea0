"""``wsss index``: the records of a data set, the start of every pipe."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wsss_cli import console, records
from wsss_cli.commands import _frame, _options
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.records import Record

if TYPE_CHECKING:
    from wsss_cli.datasets.part import Part

F = TypeVar("F", bound=Callable[..., Any])

root_argument = click.argument("root", type=click.Path(exists=True, file_okay=False))
saliency_option = click.option(
    "--saliency", metavar="DIR", help="Folder of saliency maps, ID.png; here or in ROOT."
)

cams_option = click.option(
    "--cams",
    metavar="DIR",
    help="Folder of activation maps, ID.npz, or ID.npy of psa, irn, EPS or SIPE; here or in the "
    "folder of photographs.",
)


def _names(
    context: click.Context, parameter: click.Parameter, value: str | Sequence[str] | None
) -> tuple[str, ...] | None:
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else map(str, value)
    if names := tuple(name for part in parts if (name := part.strip())):
        return names
    raise click.BadParameter("names of classes, separated by commas")


part_options = _options.chain(
    *(
        click.option(
            flag,
            type=click.UNPROCESSED,
            metavar="CLASS,...",
            callback=_names,
            help=f"{what}; photographs that show others alone are left out. The list is read to "
            "its end first.",
        )
        for flag, what in (
            ("--only", "Take these classes alone"),
            ("--drop", "Take all classes but these"),
        )
    )
)


def labels_from_option(**attributes: Any) -> Callable[[F], F]:
    """``--labels-from``: the choices are those of the layout."""
    return click.option(
        "--labels-from", help="Where the image-level labels are taken from.", **attributes
    )


def _listed_names(
    context: click.Context, parameter: click.Parameter, value: str | Sequence[str] | None
) -> tuple[str, ...] | None:
    """Names from a file, one a line, or separated by commas; all count, in their order."""
    from wsss_cli.texts import read_text

    if value is None:
        return None
    if not isinstance(value, str):
        names = [str(name).strip() for name in value]
    elif "," in value:
        names = [name.strip() for name in value.split(",")]
    else:
        try:
            names = [line.strip() for line in read_text(value, encoding="utf-8-sig").splitlines()]
        except (OSError, ValueError) as error:
            raise click.BadParameter(
                f"{value!r}: neither names separated by commas nor a file with one a line"
            ) from error
    if not names or not all(names) or len(set(names)) < len(names):
        raise click.BadParameter("a name is empty or stands there twice")
    return tuple(names)


def _splits(context: click.Context) -> list[str]:
    """The lists of the data set whose root was typed before."""
    # Click parses nothing where the value of an option is still to come.
    root = context.params.get("root") or next(iter(context.args), ".")
    return sorted(path.stem for path in Path(root).glob("ImageSets/Segmentation/*.txt"))


def _share(
    context: click.Context, parameter: click.Parameter, value: str | float | None
) -> Fraction | None:
    if value is None:
        return None
    try:
        share = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not 0 < share <= 1:
        raise click.BadParameter(f"{value!r}: a share such as 0.1 or 1/16, at most 1")
    return share


strong_options = _options.chain(
    click.option(
        "--strong",
        default=None,
        type=click.UNPROCESSED,
        metavar="SHARE",
        callback=_share,
        help='Mark this share of the records that have a mask, 0.1 or 1/16, with "strong": true, '
        "the others with false. The list is read to its end first.",
    ),
    click.option(
        "--seed",
        default=None,
        show_default="0",
        type=int,
        help="Random seed of --strong; a larger share contains the smaller ones of the same seed.",
    ),
)


@click.group(
    "index",
    cls=_frame.Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
)
def command() -> None:
    """Print the records of a data set on disk.

    A record is one JSON object on one line: id, image, and labels, mask and saliency where there
    are any. Paths begin with ROOT as it was given, so they hold for the working directory.

    \b
    Example:
      wsss index voc VOC2012 --split val | wsss predict -c seg.pt -o out/pred
    """


@command.command("voc", cls=_frame.Command)
@root_argument
@click.option(
    "--split",
    default="train",
    show_default=True,
    metavar="NAME",
    shell_complete=_options.completed(_splits),
    help="List in ImageSets/Segmentation, or the path of a list.",
)
@labels_from_option(
    default="annotations",
    show_default=True,
    type=click.Choice(["annotations", "masks", "none"]),
)
@click.option(
    "--difficult/--no-difficult",
    default=True,
    show_default=True,
    help="Whether objects marked difficult count as labels.",
)
@saliency_option
@cams_option
@_options.classes_option(
    "Class list of the masks, for --labels-from masks and --check", show_default="voc"
)
@part_options
@strong_options
@_options.check_option
@_options.strict_option
def voc(
    root: str,
    split: str,
    classes: tuple[str, ...] | None,
    check: bool,
    strict: bool,
    strong: Fraction | None,
    seed: int | None,
    **options: Any,
) -> None:
    """Print the records of a data set in VOC's layout.

    Reads the list of ids ImageSets/Segmentation/NAME.txt (else ImageSets/Main/NAME.txt) and, for
    each id, JPEGImages/ID.jpg; labels from Annotations/ID.xml; a true mask from
    SegmentationClassAug/ID.png or else SegmentationClass/ID.png, where there is one. Prints one
    record a picture, in the order of the list; writes no files.

    With --strong SHARE, some of the true masks are for training (train-seg --target mask,pseudo),
    the others only for measuring.

    Without a folder Annotations the records have no labels. All named objects count, those marked
    difficult too, unless --no-difficult is given.

    \b
    Example:
      wsss index voc VOC2012 --split train_aug --saliency Saliency > train_aug.jsonl
    """
    from wsss_cli.classes import VOC
    from wsss_cli.datasets.voc import listed, voc_records

    part = _part(options, check=check, has_labels=options["labels_from"] != "none")
    uses_list = check or options["labels_from"] == "masks"
    _options.only_with(
        "--labels-from masks and --check", uses_list, "classes", choice="labels_from"
    )
    _print(
        "index voc",
        lambda on_error: voc_records(root, split, on_error, classes=classes or VOC, **options),
        wanted={"saliency": options["saliency"], "cam": options["cams"]},
        check=(classes or VOC) if check else None,
        part=part,
        classes=classes or VOC,
        strict=strict,
        strong=strong,
        seed=seed,
        count=lambda: listed(root, split),
    )


@command.command("folder", cls=_frame.Command)
@root_argument
@click.option(
    "--csv",
    metavar="FILE",
    help="Table of labels, here or in ROOT: CSV, one line a photograph, 'file,label label ...'; "
    "JSON lines; or a dict in a .npy.",
)
@click.option(
    "--label-column",
    metavar="NAME",
    help="Column or key of the table that holds the labels, if it is not named so.",
)
@click.option(
    "--label-names",
    metavar="LIST",
    type=click.UNPROCESSED,
    callback=_listed_names,
    help="Names of labels that are numbers, counted from 0: 'cat,dog', or a text file with one a "
    "line.",
)
@labels_from_option(type=click.Choice(["masks"]), show_default="the sub-folders, or --csv")
@click.option("--unlabelled", is_flag=True, help="Take all photographs, without labels.")
@click.option(
    "--keep-unlabelled",
    is_flag=True,
    help="Take photographs in no sub-folder, or in no line of the table, too, without labels.",
)
@click.option(
    "--merge-copies",
    is_flag=True,
    help="Of photographs that are the same, byte for byte, take the first, with the labels of all.",
)
@click.option("--masks", metavar="DIR", help="Folder of true masks, ID.png; here or in ROOT.")
@saliency_option
@cams_option
@_options.classes_option(
    "Class list of the masks, for --check and --labels-from masks; of the numbers of a .npy"
)
@part_options
@strong_options
@_options.check_option
@_options.strict_option
def folder(
    root: str,
    classes: tuple[str, ...] | None,
    check: bool,
    strict: bool,
    strong: Fraction | None,
    seed: int | None,
    **options: Any,
) -> None:
    """Print the records of any folder of photographs.

    Reads the photographs below ROOT. The sub-folder that a photograph lies in is its label, unless
    a table (--csv) names its labels or --unlabelled is given. Prints one record a
    photograph, in the order of names or of the table; its id is its path below ROOT without the
    suffix. Writes no files.

    The table is UTF-8. Labels are separated by spaces, or by semicolons where a name has spaces
    ('a.jpg,traffic light;car'); file names with commas stand in double quotes. A header is
    optional; in one, 'file' and 'labels' name the columns, or each class has one with 0 and 1.
    Nothing after the comma: the photograph shows no class at all; no comma: its labels are not
    known. The metadata.csv and metadata.jsonl of Hugging Face are such tables, and the
    cls_labels.npy of other repositories, with --classes.

    \b
    Example:
      wsss index folder photos --csv labels.csv | wsss train-cam --classes classes.txt
    """
    from wsss_cli.datasets.folder import folder_records

    part = _part(options, check=check, has_labels=not options["unlabelled"])
    if options["csv"] and options["unlabelled"]:
        raise click.UsageError("--csv gives labels and --unlabelled none: choose one")
    _options.only_with(
        "labels, not --unlabelled",
        not options["unlabelled"],
        "keep_unlabelled",
        choice="unlabelled",
    )
    table, column = options.pop("csv"), options.pop("label_column")
    is_numbers = (table or "").lower().endswith(".npy")
    of_masks = options["labels_from"] == "masks"
    _options.only_with(
        "--check, --labels-from masks and a .npy",
        check or is_numbers or of_masks,
        "classes",
        choice="csv",
    )
    _options.only_with("--csv", table is not None, "label_column", "label_names")
    _options.only_with(
        "labels of names, not of masks",
        not of_masks,
        "csv",
        "unlabelled",
        "keep_unlabelled",
        choice="labels_from",
    )
    if of_masks and not classes:
        raise click.UsageError("--labels-from masks needs the list of their classes: --classes")
    if check and not classes:
        raise click.UsageError("--check needs the class list of the masks: give --classes")
    _print(
        "index folder",
        lambda on_error: folder_records(
            root, on_error, table=table, column=column, classes=classes, **options
        ),
        wanted={
            "mask": options["masks"],
            "saliency": options["saliency"],
            "cam": options["cams"],
        },
        check=classes if check else None,
        part=part,
        classes=classes or (),
        strict=strict,
        strong=strong,
        seed=seed,
    )


@command.command("coco", cls=_frame.Command)
@click.argument("annotations", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--images",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Folder that the file names of the images begin from.",
)
@click.option(
    "--masks",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Folder of true masks, ID.png, that are made from the outlines.",
)
@click.option(
    "--crowd-objects",
    is_flag=True,
    help="Crowds (iscrowd) are objects, for --masks: CVAT marks all that was painted so.",
)
@click.option(
    "--segments",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    show_default="ANNOTATIONS without .json",
    help="Folder of the pictures that go with panoptic annotations, for --masks.",
)
@click.option(
    "--list-classes",
    is_flag=True,
    help="Print the names of the categories instead, one a line, in the order of their numbers.",
)
@click.option(
    "--saliency", metavar="DIR", help="Folder of saliency maps, ID.png; here or in --images."
)
@cams_option
@_options.classes_option(
    "Class list of the categories that count, in the order of their numbers", show_default="all"
)
@part_options
@strong_options
@_options.strict_option
def coco(
    annotations: str,
    images: str | None,
    list_classes: bool,
    strict: bool,
    strong: Fraction | None,
    seed: int | None,
    **options: Any,
) -> None:
    """Print the records of a data set in COCO's JSON.

    Reads ANNOTATIONS: instances, stuff or panoptic, of COCO itself or as annotation tools export
    them. The labels of an image are the names of the categories of its annotations, crowds too;
    an image without any shows no class at all. A file without annotations gives records without
    labels. Prints one record an image, in the order of the file; its id is its file name without
    the suffix.

    With --masks it writes label maps too. Classes are numbered in the order of category ids, or as
    --classes lists them; objects of other categories are left out. Where objects overlap, the
    smaller one is kept. Pixels that only a crowd covers are 255.

    \b
    Example:
      wsss index coco instances_val2017.json --images val2017 --masks masks > val.jsonl
    """
    from wsss_cli.datasets.coco import category_names, coco_records

    if list_classes:
        for name in category_names(annotations):
            click.echo(name)
        return
    if images is None:
        raise click.UsageError("--images is missing: the folder of the photographs")
    _options.only_with("--masks", options["masks"] is not None, "segments", "crowd_objects")
    part = _part(options)
    _print(
        "index coco",
        lambda on_error: coco_records(annotations, on_error, images=images, part=part, **options),
        wanted={"saliency": options["saliency"], "cam": options["cams"]},
        strict=strict,
        strong=strong,
        seed=seed,
    )


def _part(options: dict[str, Any], *, check: bool = False, has_labels: bool = True) -> Part | None:
    """The part of the classes that --only or --drop names; both are taken out of ``options``.

    Raises:
        click.UsageError: both are given, or one with what would not fit the labels any more.
    """
    from wsss_cli.datasets.part import Part

    given = {f"--{name}": names for name in ("only", "drop") if (names := options.pop(name))}
    if len(given) > 1:
        raise click.UsageError("--only and --drop: give one of them")
    for option, names in given.items():
        if not has_labels:
            raise click.UsageError(f"{option} is for records with labels")
        if check:
            raise click.UsageError(f"--check compares all classes: give it without {option}")
        if options["cams"]:
            raise click.UsageError(f"{option} and --cams: maps are those of all labels")
        return Part(option=option, names=names, dropped=option == "--drop")
    return None


def _print(
    tool: str,
    index: Callable[[Callable[[str], None]], Iterator[Record]],
    *,
    wanted: dict[str, str | None],
    check: Sequence[str] | None = None,
    part: Part | None = None,
    classes: Sequence[str] = (),
    strict: bool,
    strong: Fraction | None,
    seed: int | None,
    count: Callable[[], int | None] = lambda: None,
) -> None:
    """Print the records of ``index``; report failures and keys that were asked for in vain.

    With ``check``, the class list of the masks, these are compared with the labels. With ``part``
    the labels are reduced to it; ``classes`` is the class list of the masks, if it is known.
    ``count`` tells how many records there will be, if it is known.
    """
    from wsss_cli.datasets.check import Differences, difference
    from wsss_cli.datasets.voc import numbers_in_mask
    from wsss_cli.stage import Failures

    _options.only_with("--strong", strong is not None, "seed")
    failures, differences = Failures(tool, strict=strict), Differences(tool)

    done = 0
    lacking: Counter[str] = Counter()
    indexed: Iterable[Record] = index(failures)
    total: int | None = None
    if part is not None:
        indexed = _reduced(tool, list(indexed), part, classes)
        total = len(indexed)
    if strong is not None:
        indexed = _marked(tool, list(indexed), strong, seed or 0)
        total = len(indexed)
    with _progress(tool, count() if total is None else total) as bar:
        for record in indexed:
            records.write(record)
            done += 1
            bar.update()
            if check is not None and "mask" in record:
                try:
                    present = numbers_in_mask(record["mask"], check)
                    differences(record["id"], difference(record, present, check))
                except WsssError as error:
                    failures(f"{record['id']}: {error}")
            lacking.update(key for key, given in wanted.items() if given and key not in record)
    for key, number in lacking.items():
        console.note(
            tool, f"{number} of {done} records have no {key}: no such file in {wanted[key]}"
        )
    console.note(tool, f"{done} records" + (f", {failures.count} failed" if failures.count else ""))
    differences.finish(done)
    failures.exit()
    if differences.count:
        sys.exit(1)


def _reduced(tool: str, indexed: list[Record], part: Part, classes: Sequence[str]) -> list[Record]:
    """The records with a part of the classes; told what is left out, and what masks still hold."""
    from wsss_cli.datasets.part import part_of, tell_left_out

    kept, shown = part_of(indexed, part, classes)
    tell_left_out(tool, len(indexed) - len(kept))
    if any("mask" in record for record in kept):
        # Read with a list of fewer classes, they would mean others.
        names = [name for name in shown if part.stays(name)]
        named = [f"{classes.index(name) + 1} {name}" for name in names if name in classes]
        lines = ["0 background", *(named or ["NUMBER NAME"]), "255 ignore", "* background"]
        console.warn(
            tool,
            f"{part.option}: the masks still hold all classes; pipe into 'wsss relabel --values "
            f"FILE' for masks of these alone, FILE with the lines: {', '.join(lines)}",
        )
    return kept


def _progress(tool: str, total: int | None) -> AbstractContextManager[console.Progress]:
    """Progress for people; where the records themselves are on the screen, these are it."""
    if sys.stdout.isatty():
        return nullcontext(console.SILENT)
    if sys.platform == "linux":
        import fcntl

        # A pipe holds 64 KiB. In a larger one all records have room, as long as they are some
        # thousand, and it is known how many there are.
        with suppress(OSError, ValueError):  # no pipe, or no more memory for pipes
            fcntl.fcntl(sys.stdout.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)
    return console.progress(tool, total=total, unit="record", pipe=records.pipe([], writes=True))


def _marked(tool: str, indexed: list[Record], share: Fraction, seed: int) -> list[Record]:
    """The records with a share of them marked strong."""
    from wsss_cli.datasets.strong import mark_strong

    if not any(record.get("mask") for record in indexed):
        raise ConfigurationError("--strong: no record has a true mask to learn from")
    marked = mark_strong(indexed, share, seed)
    count = sum(record["strong"] for record in marked)
    console.note(tool, f"{count} of {len(marked)} records marked strong")
    return marked
