"""``masks``: from labelled photographs to masks, as a list of commands.

No algorithm is here: which tools follow one another, with which settings for how many photographs.
How both were chosen: examples/README.md.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

from wsss_cli import console, files, records
from wsss_cli.classes import check_labels, numbers
from wsss_cli.datasets.check import check_numbering
from wsss_cli.datasets.folder import OnError, folder_records
from wsss_cli.datasets.tables import usual_table
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.methods.crf import engine
from wsss_cli.recipes.run import LOCK, Runner, Step, absent, callable_as, locked
from wsss_cli.records import Record

FEW, FEW_BY_SALIENCY = 50, 15  # photographs a class, at most
LEAST = 150  # steps of a training that all layers take part in


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the masks are made from.

    Attributes:
        photos: folder of photographs, or a file of records.
        table: table of labels, or None.
        out: folder of all that is made.
        classes: the class list, or None for the labels in their order.
        saliency: ``u2netp``, the file of a network, or None for labels alone.
        network: whether a segmentation network is trained on the masks.
        device, seed: options for every tool that has them.
    """

    photos: str
    out: str
    table: str | None = None
    classes: Sequence[str] | None = None
    saliency: str | None = None
    network: bool = False
    device: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Counted:
    """The photographs that the masks are made for.

    Attributes:
        labelled: how many have labels.
        unlabelled: how many have none.
        by_class: how many show each class, in the order of names.
        have_saliency: whether all labelled records have a saliency map.
        alike: whether all labelled ones show the same classes.
        absent: ids of further labelled records, whose photograph is not there.
        broken: lines that are no records.
    """

    labelled: int
    unlabelled: int
    by_class: Mapping[str, int]
    have_saliency: bool
    alike: bool
    absent: Sequence[str] = ()
    broken: int = 0

    @property
    def mixed(self) -> bool:
        """Whether a file of records has others than those that masks are made for."""
        return bool(self.unlabelled or self.absent or self.broken)

    @property
    def each(self) -> float:
        """Photographs a class, on average."""
        return sum(self.by_class.values()) / max(len(self.by_class), 1)


def count(found: Iterable[Record]) -> Counted:
    """Count the photographs of some records by their labels."""
    by_class: dict[str, int] = {}
    labelled = unlabelled = salient = 0
    sets: set[frozenset[str]] = set()
    for record in found:
        names = records.labels(record)
        if names is None:
            unlabelled += 1
            continue
        labelled += 1
        salient += bool(record.get("saliency"))
        sets.add(frozenset(names))
        for name in names:
            by_class[name] = by_class.get(name, 0) + 1
    ordered = {name: by_class[name] for name in sorted(by_class)}
    return Counted(labelled, unlabelled, ordered, 0 < labelled == salient, len(sets) == 1)


@dataclass(frozen=True, kw_only=True)
class Way:
    """A chain of tools for a number of photographs.

    Attributes:
        name: what it is, in words.
        why: the measurement that speaks for it.
        trainer: the trainer of the classifier, with its options.
        maps: options of make-cam.
        mask: the tool from maps to masks with its options; random-walk brings AffinityNet.
        network: options of train-seg.
    """

    name: str
    why: str
    trainer: Sequence[str]
    maps: Sequence[str] = ()
    mask: Sequence[str]
    network: Sequence[str]


def choose(counted: Counted, *, saliency: bool) -> Way:
    """The way that was best for as many photographs a class, with or without saliency."""
    limit, (few, many) = (FEW_BY_SALIENCY, _BY_SALIENCY) if saliency else (FEW, _BY_LABELS)
    return few if counted.each <= limit else many


# A backbone that learns from few photographs learns them by heart; the new layer alone does not.
_NEW_LAYER_ONLY = ("--freeze-until", "head", "--batch-size", "16", "--steps", "60")
# Its lower layers can stay as they are, which trains faster.
_AS_VOC6 = ("--freeze-until", "stage2", "--lr", "0.02", "--batch-size", "16", "--epochs", "8")
_TWO_SCALES, _THREE_SCALES = ("--scales", "0.5,1"), ("--scales", "0.5,1,1.5")
_NARROW = ("--bilateral", "50,5,4", "--gaussian", "3,1")
_SALIENT = ("crf", "--by-saliency", *_NARROW)
_REFINED = ("crf", "--threshold", "0.3", "--bilateral", "50,5,10")
_ALPHAS = ("--low-alpha", "2", "--high-alpha", "12")
_AFFINITY = ("--lr", "0.01", "--crop", "256", "--batch-size", "8", "--epochs", "8")
_WALKED = ("random-walk", "--beta", "8")  # with the background of the maps, or alpha 16
_SHORT = ("--lr", "0.001", "--batch-size", "8", "--steps", "300")
_LONG = ("--lr", "0.001", "--batch-size", "16", "--epochs", "12")

_FROZEN_CAM_BY_SALIENCY = Way(
    name="CAM of a frozen backbone, background by saliency",
    why="measured: mIoU about 65 with 4 or 16 photographs a class; labels alone 45",
    trainer=("train-cam", *_NEW_LAYER_ONLY),
    maps=_TWO_SCALES,
    mask=_SALIENT,
    network=_SHORT,
)
_EPS = Way(
    name="EPS, AffinityNet and random walk",
    why="measured: mIoU about 73 with 16 photographs a class, 76 with 32, 78 with 130 (80 with "
    "better saliency); labels alone 75",
    trainer=("eps-train", "--variant", "eps", *_AS_VOC6),
    maps=_THREE_SCALES,
    mask=_WALKED,
    network=_LONG,
)
_FROZEN_CAM = Way(
    name="CAM of a frozen backbone and dense CRF",
    why="measured: mIoU about 45 with 4 or 16 photographs a class; with saliency 65 to 69",
    trainer=("train-cam", *_NEW_LAYER_ONLY),
    maps=_TWO_SCALES,
    mask=_REFINED,
    network=_SHORT,
)
_CAM = Way(
    name="CAM, AffinityNet and random walk",
    why="measured: mIoU about 75 with 130 photographs a class; with good saliency 80",
    trainer=("train-cam", *_AS_VOC6),
    maps=_THREE_SCALES,
    mask=(*_WALKED, "--floor", "0.5"),
    network=_LONG,
)

# For few and for many photographs a class.
_BY_SALIENCY = (_FROZEN_CAM_BY_SALIENCY, _EPS)
_BY_LABELS = (_FROZEN_CAM, _CAM)


def plan(given: Given, counted: Counted) -> tuple[Way, list[Step]]:
    """The way for these photographs, and its commands in order.

    Raises:
        ConfigurationError: nothing can be learned from these labels.
    """
    saliency = given.saliency is not None
    _check(given, counted, saliency=saliency)
    way = choose(counted, saliency=saliency)
    at = partial(_in_out, given)

    # What is the default need not be said.
    device = ("--device", given.device) if given.device != "auto" else ()
    seed = ("--seed", str(given.seed)) if given.seed else ()

    def stream(tool: str, *args: str, to: str) -> Step:
        """A tool that writes a file a record into the folder ``to``, and the records beside it."""
        on = device if tool in _ON_DEVICE else ()
        return Step((tool, *args, *on, "--skip-existing", "-o", at(to)), output=at(f"{to}.jsonl"))

    def train(tool: str, *args: str, to: str) -> Step:
        return Step((tool, *args, *device, *seed, "--resume", "--replace", "-o", at(to)))

    steps: list[Step] = []
    every_photo, photos = _record_files(given, counted)
    if Path(given.photos).is_dir():
        table = ("--csv", given.table) if given.table else ()
        every = ("--keep-unlabelled",) if given.network else ()
        listed = ("index", "folder", given.photos, *table, *every, "--merge-copies")
        steps.append(Step(listed, output=every_photo))
    if counted.mixed:
        steps.append(Step.labelled(every_photo, photos, counted.absent))
    classes = ("--classes", at("classes.txt"))
    steps.append(Step.lines(tuple(given.classes or counted.by_class), at("classes.txt")))
    if given.saliency is not None and not counted.have_saliency:
        step = stream("saliency", photos, "--model", given.saliency, to="saliency")
        steps.append(
            replace(step, instead="if that is its network, --saliency-model none does without it")
        )
        photos = at("saliency.jsonl")
    enough = partial(_enough_steps, photographs=counted.labelled)
    trainer, *settings = way.trainer
    model = ("-c", at("classifier.pt"))
    steps += [
        train(trainer, photos, *classes, *enough(settings), to="classifier.pt"),
        stream("make-cam", photos, *model, *way.maps, to="cam"),
    ]
    maps, (refiner, *settings) = at("cam.jsonl"), way.mask
    if refiner == "random-walk":
        steps += [
            stream("make-aff-labels", maps, *_ALPHAS, to="regions"),
            train("train-aff", at("regions.jsonl"), *model, *enough(_AFFINITY), to="affinity.pt"),
        ]
        maps, settings = at("regions.jsonl"), ["-c", at("affinity.pt"), *settings]
    steps += [
        stream(refiner, maps, *settings, to="masks"),
        Step(("view", at("masks.jsonl"), "-o", at("report.html"))),
    ]
    if given.network:
        steps += [
            train("train-seg", at("masks.jsonl"), *classes, *enough(way.network), to="network.pt"),
            stream("predict", every_photo, "-c", at("network.pt"), to="predicted"),
        ]
    return way, steps


def _enough_steps(settings: Sequence[str], photographs: int) -> list[str]:
    """Settings of a trainer; steps instead of epochs if these are shorter than LEAST steps."""
    *others, unit, number = settings
    if unit == "--epochs":
        batch = int(others[others.index("--batch-size") + 1])
        if int(number) * photographs < LEAST * batch:
            unit, number = "--steps", str(LEAST)
    return [*others, unit, number]


def _record_files(given: Given, counted: Counted) -> tuple[str, str]:
    """The files of the records of all photographs, and of those with labels."""
    with_labels = _in_out(given, "photos.jsonl")
    every = given.photos
    if Path(every).is_dir():
        every = _in_out(given, "all.jsonl") if counted.mixed else with_labels
    return every, with_labels if counted.mixed else every


_ON_DEVICE = ("make-cam", "random-walk", "predict")


def _check(given: Given, counted: Counted, *, saliency: bool) -> None:
    """Raise ConfigurationError if these labels teach nothing."""
    if not counted.labelled or not counted.by_class:
        remedy = (
            "put the photographs into sub-folders named after what they show, or name it in a "
            "table, --csv"
            if Path(given.photos).is_dir()
            else "are these records with labels, as 'wsss index' prints them?"
        )
        raise ConfigurationError(f"{given.photos}: no photograph shows a class; {remedy}")
    names = given.classes or tuple(counted.by_class)
    check_labels(names, given.photos)
    try:
        numbers(counted.by_class, names)
    except WsssError as error:
        raise ConfigurationError(f"{given.photos}: {error}") from error
    if counted.alike and not saliency:
        raise ConfigurationError(
            f"all photographs show {' and '.join(counted.by_class)}: nothing to tell apart; add "
            "photographs without, or take saliency (--saliency-model u2netp)"
        )


def make(
    given: Given,
    *,
    before: Sequence[str] = (),
    dry_run: bool = False,
    check_settings: Callable[[str], None] = lambda tool: None,
) -> None:
    """Print the commands, and run them unless it is a dry run; say where the masks are.

    Ends the process: 0, or 1 if records failed on the way.

    Args:
        given: what to make them from.
        before: arguments of ``wsss`` before each command.
        dry_run: print only.
        check_settings: raises an error if what is set for a tool elsewhere is nothing it takes.

    Raises:
        ConfigurationError: the photographs, or what the recipe needs, are not there.
        StepFailed: a step left nothing to go on with.
    """
    given = replace(given, photos=_no_option(given.photos), out=_no_option(given.out))
    if not Path(given.photos).is_dir():
        if given.table:
            raise ConfigurationError("--csv is for a folder of photographs; records have labels")
        if not Path(given.photos).is_file():
            raise ConfigurationError(
                f"{given.photos}: a pipe, which can be read only once; save the records to a file"
            )
    if given.table is None:
        given = replace(given, table=usual_table(given.photos))
    elif given.table.lower().endswith(".npy"):
        raise ConfigurationError(
            f"{given.table}: has no names of classes; make records of it with 'wsss index folder "
            "--csv FILE.npy --classes LIST', and give those"
        )
    found, counted, problems = _counted(given)
    if dry_run:  # else the first step names them
        for problem in problems:
            console.warn("masks", problem)
    # True masks are only to measure with, but in another order they would measure wrong.
    check_numbering(found, "mask", given.classes or [*counted.by_class])
    way, steps = plan(given, counted)
    _check_places(given, steps)
    for step in steps:
        if step.args:
            check_settings(step.args[0])
    wsss = " ".join([callable_as(), *map(shlex.quote, before)])
    for line in _told(given, counted, way):
        _show(f"# {console.clean(line)}")
    if single := [name for name, number in counted.by_class.items() if number == 1]:
        each = " each" if len(single) > 1 else ""
        console.warn("masks", f"{' and '.join(single)}: only one photograph{each}; add some")
    names = sorted(counted.by_class, key=str.casefold)
    for one, other in pairwise(names):
        if one.casefold() == other.casefold():
            console.warn("masks", f"'{one}' and '{other}' are two classes; name them alike if not")
    directory = f"mkdir -p {shlex.quote(given.out)}"
    if dry_run:
        for line in [directory, *(step.command(wsss) for step in steps)]:
            _show(line)
        return
    _check_installed(given, counted)
    with locked(given.out) as lock:
        files.remove_leftovers(given.out, "masks")
        run = Runner("masks", len(steps), lock, before)
        _show(directory)
        for step in steps:
            _show(step.command(wsss))
            run(step)
    stale = _stale(given)
    if stale:
        console.warn(
            "masks",
            "of no photograph any more, or of an earlier name, and not in the records: "
            f"{console.listed(stale, 5)}; remove them, or take masks by their records only",
        )
    for line in _made(given, counted):
        console.note("masks", line)
    sys.exit(1 if run.failed or stale else 0)


def _in_out(given: Given, name: str) -> str:
    return _no_option(str(Path(given.out) / name))


def _no_option(path: str) -> str:
    """A path that no command takes for an option."""
    return f"./{path}" if path.startswith("-") else path


def _show(line: str) -> None:
    """Print a line; whoever reads them may leave (``| head``), which stops no work."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end


def _stale(given: Given) -> list[str]:
    """Masks of earlier runs that are of none of the photographs now."""
    out = Path(given.out)
    kinds = [("masks", "pseudo"), *([("predicted", "pred")] if given.network else [])]
    found: list[str] = []
    for folder, key in kinds:
        made = records.read([str(out / f"{folder}.jsonl")], _say_nothing)
        now = {os.path.normpath(str(record.get(key))) for record in made}
        there = map(os.path.normpath, sorted((out / folder).rglob("*.png")))
        found += [path for path in there if path not in now]
    return found


def _say_nothing(problem: str) -> None:
    pass


def _records(given: Given, on_error: OnError) -> Iterator[Record]:
    """The records that the first step will print."""
    if not Path(given.photos).is_dir():
        return records.read([given.photos], on_error)
    return folder_records(
        given.photos, on_error, table=given.table, keep_unlabelled=given.network, merge_copies=True
    )


def _counted(given: Given) -> tuple[list[Record], Counted, list[str]]:
    """The records that masks can be made of, their number, and what is wrong with the others.

    Raises:
        ConfigurationError: masks can be made of none.
    """
    problems: list[str] = []
    found = list(_records(given, problems.append))
    if Path(given.photos).is_dir():  # its tool leaves out what cannot be used
        return found, count(found), problems
    broken = len(problems)
    gone: list[str] = []
    usable: list[Record] = []
    for record in found:
        problem = absent(record) if records.labels(record) is not None else None
        if problem:
            problems.append(problem)
            gone.append(str(record["id"]))
        else:
            usable.append(record)
    counted = replace(count(usable), absent=gone, broken=broken)
    if problems and not counted.labelled:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ConfigurationError(f"{given.photos}: no record that can be used: {problems[0]}{more}")
    return usable, counted, problems


def _check_places(given: Given, steps: Sequence[Step]) -> None:
    """Raise ConfigurationError if the steps would write among the photographs, or over a file.

    A folder with a lock was begun by an earlier run, whose files may be replaced.
    """
    photos = Path(given.photos).resolve()
    out = Path(given.out).resolve()
    if photos.is_dir() and (out == photos or photos in out.parents):
        raise ConfigurationError(
            f"{given.out}: lies in {given.photos}, so that the masks would be taken for "
            "photographs; give a folder elsewhere with -o"
        )
    targets = [target for step in steps for target in step.targets]
    for target in targets:
        place = Path(target).resolve()
        if place == photos or place in photos.parents:
            raise ConfigurationError(
                f"{given.photos}: {target} is to be written there; give another folder with -o"
            )
        if not (out / LOCK).exists() and os.path.lexists(target):
            raise ConfigurationError(
                f"{target}: is there, and not from 'wsss masks'; give another folder with -o"
            )


def _check_installed(given: Given, counted: Counted) -> None:
    """Raise ConfigurationError if the saliency network cannot run, or the CRF of all ways, or there
    is no such device."""
    if given.device not in ("auto", "cpu"):
        from wsss_cli.models.device import choose as choose_device  # torch takes seconds to load

        choose_device(given.device)
    if given.saliency is not None and not counted.have_saliency and not find_spec("onnxruntime"):
        raise ConfigurationError(
            "saliency needs onnxruntime: pip install onnxruntime, and run the same command again; "
            "or go on from the labels alone, with worse masks: --saliency-model none"
        )
    engine()


def _told(given: Given, counted: Counted, way: Way) -> Iterator[str]:
    """What is made, and why this way, in words."""
    by_class = ", ".join(f"{number} {name}" for name, number in counted.by_class.items())
    yield f"{counted.labelled} photographs: {by_class}"
    if counted.unlabelled:
        what = "the network predicts them" if given.network else "left out; --network predicts them"
        yield f"{counted.unlabelled} without labels: {what}"
    yield f"{way.name}: {way.why}"


def _made(given: Given, counted: Counted) -> Iterator[str]:
    """Where everything is, in words."""
    out = Path(given.out)
    made = _ids(out / "masks.jsonl")
    yield f"{len(made)} masks of {counted.labelled} photographs in {out / 'masks'}"
    _, photos = _record_files(given, counted)
    if lost := [name for name in _ids(photos) if name not in made]:
        yield f"without a mask, for the reasons above: {console.listed(lost, 5)}"
    yield f"their records: {out / 'masks.jsonl'}; numbers of the classes: {out / 'classes.txt'}"
    if given.network:
        yield f"network: {out / 'network.pt'}; its masks of all photographs: {out / 'predicted'}"
    yield f"to look at: {out / 'report.html'}"


def _ids(source: str | Path) -> dict[str, None]:
    """The ids of the records with labels in a file, in their order."""
    found = records.read([str(source)], _say_nothing)
    return {str(record["id"]): None for record in found if records.labels(record) is not None}
