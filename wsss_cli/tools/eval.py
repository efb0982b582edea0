"""``eval``: the predictions of a stream of records against true masks; imports no torch."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from wsss_cli import console, files, inputs, memory, records
from wsss_cli.classes import BACKGROUND, IGNORE, MAX_CLASSES, numbers
from wsss_cli.datasets.check import Differences, Numbering, difference
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.files import Meta
from wsss_cli.metrics import (
    BoundaryCounts,
    Confusion,
    ThresholdSweep,
    threshold_histogram,
)
from wsss_cli.pool import ProcessPool
from wsss_cli.records import Record
from wsss_cli.stage import Failures
from wsss_cli.tools import label_maps
from wsss_cli.tools.report import Measured, image_values
from wsss_cli.unique import Seen

_DEFAULT_KEYS = ("pred", "pseudo", "cam")
_KINDS_KEPT = 100  # different provenances listed; more are only counted
_CHUNK = 16  # records a worker process takes at once

Labels = npt.NDArray[np.uint8]

_ONE_BACKGROUND = (
    "{0} needs one background for all images: give --threshold (the best is found without {0}) or "
    "--alpha"
)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How maps become label maps.

    Attributes:
        thresholds: constant background scores; several are a sweep, of which the best is reported.
        alpha: (1 - max)^alpha instead, or None.
        own: the maps' own background instead, where they have one.
    """

    thresholds: tuple[float, ...] = ()
    alpha: float | None = None
    own: bool = False


@dataclass(frozen=True, kw_only=True)
class Question:
    """A comparison of predictions with true masks.

    Attributes:
        key: record key of the prediction; None takes the first of pred, pseudo, cam that is there.
        classes: names without background; None for those that the files name, or plain numbers.
        rule: how maps become label maps.
        truth: record key of the true mask.
        ignore: true label that is not counted.
        given: the classes are the user's word, not the files'.
        check: compare the records' labels with their true masks too.
        boundary: measure the boundary IoU too, up to this share of the diagonal; or None.
    """

    key: str | None
    classes: tuple[str, ...] | None
    rule: Rule
    truth: str = "mask"
    ignore: int = IGNORE
    given: bool = True
    check: bool = False
    boundary: float | None = None

    def settled(self, record: Record) -> Question:
        """With key and classes as ``record`` has them, where the user did not give them.

        Raises:
            ConfigurationError: it has maps that number their classes, and there is no list.
            WsssError: the record has none of the keys.
        """
        key = self.key or records.first_key(record, _DEFAULT_KEYS)
        if key is None:
            raise WsssError("record has no 'pred', 'pseudo' or 'cam'; name a key with --key")
        if self.classes is not None:
            return replace(self, key=key)
        (path,) = records.paths(record, [key])
        if files.is_foreign_maps(path):
            raise ConfigurationError(files.UNNAMED.format(path))
        meta = files.read_meta(path) or {}
        return replace(self, key=key, classes=tuple(meta.get("classes", ())), given=False)

    def names(self) -> tuple[str, ...]:
        """Names of all classes, background first; plain numbers where no list is known."""
        return (BACKGROUND, *(self.classes or map(str, range(1, MAX_CLASSES + 1))))

    @property
    def num_classes(self) -> int:
        """How many these are."""
        return len(self.classes or range(MAX_CLASSES)) + 1

    def check_list(self, path: str, meta: Meta | None, *, whole: bool = True) -> None:
        """Raise WsssError if the file's class numbers mean other classes than those measured.

        Args:
            path: of the file.
            meta: its provenance.
            whole: a list that is not the user's word must not end elsewhere either.
        """
        listed = (meta or {}).get("classes")
        if not listed or not self.classes:
            return
        if whole and not self.given and tuple(listed) != self.classes:
            raise WsssError(f"{path}: its class list is not that of the first file")
        those = "--classes" if self.given else f"that of '{self.key}'"
        inputs.check_numbers(path, meta, self.classes, those)


class Tally:
    """Counts over records, added up.

    Attributes:
        question: the comparison, key and classes settled.
        images: how many records were counted.
        unlabelled: how many of them have a true mask that is ignored all over.
        confusion: of the label maps, and of maps with one background rule.
        sweep: of maps under several thresholds; None if there were none.
        boundary: of the pixels near contours, where that is asked for.
        rules: how the background was decided, in words.
        provenances: of the predictions, as JSON.
        different: ids, and how labels and true mask differ, where that is asked for.
        numbering: whether the true masks seem to mean the same classes.
        named: the classes in the labels of the records; None if one of these has no labels.
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        self.images = self.unlabelled = 0
        self.confusion = Confusion(question.num_classes, question.ignore)
        self.sweep: ThresholdSweep | None = None
        self.boundary = (
            None
            if question.boundary is None
            else BoundaryCounts(question.num_classes, question.boundary, question.ignore)
        )
        self.rules: set[str] = set()
        self.provenances: set[str] = set()
        self.different: list[tuple[str, str]] = []
        self.numbering = Numbering(question.classes or ())
        self.named: set[str] | None = set()

    def look(self, record: Record) -> None:
        """Count one record.

        Raises:
            WsssError: a file is missing, unreadable, or does not fit the other; nothing is counted.
        """
        question = self.question
        assert question.key is not None
        truth_path, path = records.paths(record, (question.truth, question.key))
        truth, origin = files.read_labels(truth_path)
        question.check_list(truth_path, origin, whole=False)
        try:
            meta: Meta | None
            if files.holds_maps(path):
                meta = self._look_at_maps(path, truth, record)
            else:
                found, meta = files.read_labels(path, _size(truth))
                question.check_list(path, meta)
                self._check_source(record, meta)
                self._compare(found, truth)
            made_by = json.dumps(inputs.settings(meta), sort_keys=True, allow_nan=False)
        except ValueError as error:
            raise WsssError(f"{path} against {record[question.truth]}: {error}") from error
        self.images += 1
        labels = records.labels(record)
        if labels is None or self.named is None:
            self.named = None
        else:
            self.named.update(labels)
        self.unlabelled += bool(
            truth.flat[0] == question.ignore and (truth == question.ignore).all()
        )
        self.provenances.add(made_by)
        if not (origin or {}).get("classes"):
            self.numbering.look(record, truth, question.ignore)
        if question.check and question.classes:
            present = [n for n in np.unique(truth).tolist() if n not in (0, question.ignore)]
            self.different.append((record["id"], difference(record, present, question.classes)))

    def _compare(self, found: Labels, truth: Labels) -> None:
        self.confusion.update(found, truth)
        if self.boundary is not None:
            self.boundary.update(found, truth)

    def _check_source(self, record: Record, meta: Meta | None) -> None:
        """Raise WsssError if the prediction is not for the record's photograph and labels."""
        assert self.question.key is not None
        image = record.get("image") if meta and "image" in meta.get("inputs", {}) else None
        digest = inputs.digest(image) if image else None
        inputs.check_source(self.question.key, meta, digest, record)

    def _look_at_maps(self, path: str, truth: Labels, record: Record) -> Meta:
        question, rule = self.question, self.question.rule
        assert question.key is not None
        size = _size(truth) if files.is_foreign_maps(path) else None  # an empty one tells none
        listed = question.classes if question.given else None
        maps = label_maps.read_maps(record, question.key, size, listed)
        meta = maps.meta
        if maps.size != truth.shape:
            raise WsssError(
                f"{path}: maps of an image of {maps.size[1]}x{maps.size[0]}, but its mask is "
                f"{truth.shape[1]}x{truth.shape[0]}"
            )
        if not question.classes:
            raise WsssError(f"{path}: the maps do not say their class list; give --classes")
        if not question.given:
            question.check_list(path, meta)
        self._check_source(record, meta)
        maps, background = label_maps.split_background(maps)
        class_numbers = numbers(maps.classes, question.classes)
        large = label_maps.resize(maps.cam, maps.size)
        if not class_numbers:  # no score exceeds any background: the image is all background
            large, class_numbers = np.zeros((1, *maps.size), np.float32), [1]
        if background is not None and rule.own:
            scores = np.concatenate([label_maps.resize(background[None], maps.size), large])
            self._compare(label_maps.label_map(scores, class_numbers), truth)
            self.rules.add("the maps' own background")
        elif rule.alpha is not None:
            scores = label_maps.with_background(large, None, alpha=rule.alpha, threshold=None)
            self._compare(label_maps.label_map(scores, class_numbers), truth)
            self.rules.add(f"(1 - max)^{rule.alpha:g}")
        else:
            self._sweep_over(large, truth, class_numbers)
            count = len(rule.thresholds)
            if count == 1 and self.boundary is not None:
                (only,) = rule.thresholds
                scores = label_maps.with_background(large, None, alpha=1, threshold=only)
                self.boundary.update(label_maps.label_map(scores, class_numbers), truth)
            self.rules.add("constant" if count == 1 else f"best of {count} thresholds")
        return meta

    def _sweep_over(
        self, maps: npt.NDArray[np.float32], truth: Labels, class_numbers: list[int]
    ) -> None:
        question = self.question
        thresholds = question.rule.thresholds
        histogram = threshold_histogram(
            maps, truth, thresholds, num_classes=question.num_classes, ignore=question.ignore
        )
        if self.sweep is None:
            self.sweep = ThresholdSweep(len(thresholds), question.num_classes, question.ignore)
        self.sweep.add(histogram, class_numbers)

    def merge(self, other: Tally) -> None:
        """Add the counts of another tally of the same question."""
        self.images += other.images
        self.unlabelled += other.unlabelled
        self.numbering.merge(other.numbering)
        both = self.named is not None and other.named is not None
        self.named = (self.named or set()) | (other.named or set()) if both else None
        self.confusion.merge(other.confusion)
        if self.sweep is None or other.sweep is None:
            self.sweep = self.sweep or other.sweep
        else:
            self.sweep.counts += other.sweep.counts
        if self.boundary is not None and other.boundary is not None:
            self.boundary.merge(other.boundary)
        self.rules |= other.rules
        if len(self.provenances) < _KINDS_KEPT:
            self.provenances |= other.provenances

    def doubt(self) -> str:
        """Why the true masks do not seem to mean the classes measured, in words; else empty."""
        return self.numbering.doubt(self.question.truth)

    def unnamed(self) -> list[str]:
        """The classes in the true masks that no label of any record names, where all have labels.

        A part of the classes was taken, say: those that are gone would count as missed.
        """
        if not self.named or not self.question.classes:
            return []
        shown = self.confusions()[0].counts.any(axis=1)
        present = [self.question.names()[place] for place in np.flatnonzero(shown)]
        return [name for name in present if name not in (BACKGROUND, *self.named)]

    def confusions(self) -> list[Confusion]:
        """The confusion matrix of all records; one for each threshold of a sweep."""
        if self.sweep is None:
            return [self.confusion]
        swept = self.sweep.confusions()
        for confusion in swept:
            confusion.merge(self.confusion)
        return swept

    def result(self, failed: int) -> Measured:
        """All counts, and the number of records that could not be counted."""
        assert self.question.key is not None
        return Measured(
            key=self.question.key,
            truth=self.question.truth,
            classes=self.question.names(),
            confusions=self.confusions(),
            thresholds=self.question.rule.thresholds if self.sweep is not None else (),
            images=self.images,
            failed=failed,
            rule=" or ".join(sorted(self.rules)) or None,
            made_by=[json.loads(text) for text in sorted(self.provenances)],
            boundary=self.boundary,
        )


def evaluate(
    sources: Sequence[str],
    question: Question,
    failures: Failures,
    *,
    workers: int,
    each: Callable[[str], None] | None = None,
    differences: Differences | None = None,
) -> Measured:
    """Measure a stream of records.

    Args:
        sources: files of records; none means stdin.
        question: the files to compare, and how.
        failures: called for each record that cannot be counted.
        workers: parallel processes.
        each: called with each image's own values, a line of JSON.
        differences: told of each image whose labels and true mask disagree, if the question asks
            for that.

    Raises:
        ConfigurationError: values of single images are asked for, but no single background.
        WsssError: no record could be read, or no pixel counted; or the true masks seem to number
            their classes in another order.
    """
    total: Tally | None = None
    differences = differences or Differences("eval")
    total_records, pipe = records.total(sources), records.pipe(sources)
    with console.progress("eval", total=total_records, pipe=pipe) as bar:
        stream = _once(records.read(sources, failures), failures)
        for chunk, part in measure(
            stream, question, workers=workers, each=each is not None, on_error=failures
        ):
            if question.boundary is not None and len(part.confusions()) > 1:
                raise ConfigurationError(_ONE_BACKGROUND.format("--boundary"))
            if each is not None and part.images:
                each(_own_values(chunk[0], part))
            for record_id, text in part.different:
                differences(record_id, text)
            if total is None:
                total = part
            else:
                total.merge(part)
            bar.update(len(chunk))
    if total is None:
        raise WsssError("nothing was measured: no record could be read")
    if total.images and total.unlabelled == total.images:
        raise WsssError(
            f"no pixel was counted: every true mask ('{question.truth}') is {question.ignore}, "
            "which is ignored, all over"
        )
    differences.finish(total.images)
    if doubt := total.doubt():
        raise WsssError(f"nothing was measured: {doubt}")
    if total.unlabelled:
        console.note("eval", f"{total.unlabelled} true masks are {question.ignore} all over")
    if unnamed := total.unnamed():
        console.warn(
            "eval",
            f"the true masks hold {console.listed(unnamed, 5)}, "
            "which no label of these records names, so they count as missed; "
            "'wsss relabel' takes classes out of masks",
        )
    result = total.result(failures.count)
    if not any(confusion.counts[1:].any() for confusion in result.confusions):
        console.warn(
            "eval",
            "no true mask holds a class, only background was measured: are these the right masks?",
        )
    return result


def _once(stream: Iterable[Record], on_error: Callable[[str], None]) -> Iterator[Record]:
    """The records, each id once."""
    seen = Seen()
    for record in stream:
        if seen.add(record["id"]):
            on_error(f"{record['id']}: this id was counted before; each counts once")
            continue
        yield record


@contextmanager
def own_values(path: str | None) -> Iterator[Callable[[str], None] | None]:
    """A file of lines, that appears when the block ends; None without a path.

    What cannot be written costs no result: it is raised when the block ends.
    """
    if path is None:
        yield None
        return
    problems: list[OSError] = []
    with files.atomic(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:

        def write(line: str) -> None:
            if not problems:
                try:
                    stream.write(line + "\n")
                except OSError as error:
                    problems.append(error)

        yield write
        if problems:
            raise problems[0]


def _own_values(record: Record, part: Tally) -> str:
    """The values of one image, as a line of JSON."""
    confusions = part.confusions()
    if len(confusions) > 1:
        raise ConfigurationError(_ONE_BACKGROUND.format("--per-image"))
    values = image_values(record["id"], part.question.names(), confusions[0])
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def measure(
    stream: Iterable[Record],
    question: Question,
    *,
    workers: int,
    each: bool,
    on_error: Callable[[str], None],
) -> Iterator[tuple[list[Record], Tally]]:
    """Count the records of a stream, in constant memory.

    Args:
        stream: the records.
        question: the files to compare; key and classes it leaves open are settled by the first good
                record.
        workers: parallel processes; 0 and 1 are this process alone.
        each: give each record on its own, not some together.
        on_error: called with a line for each record that cannot be counted.

    Yields:
        Some records, in order, and their counts.
    """
    memory.keep_freed()
    stream = iter(stream)
    for record in stream:
        first = _begin(question, record, on_error)
        if first is not None:
            yield [record], first
            break
    else:
        return

    def finish(records: list[Record], done: tuple[Tally, list[str]]) -> tuple[list[Record], Tally]:
        for problem in done[1]:
            on_error(problem)
        return records, done[0]

    size = 1 if each else _CHUNK
    pool: ProcessPool | None = None
    waiting: deque[tuple[list[Record], Future[tuple[Tally, list[str]]]]] = deque()
    try:
        while chunk := list(islice(stream, size)):
            if workers < 2 or (pool is None and len(chunk) < size):  # not worth a pool
                yield finish(chunk, _tally(first.question, chunk))
                continue
            pool = pool or _pool(workers)
            waiting.append((chunk, pool.submit(_tally, first.question, chunk)))
            if len(waiting) > 2 * workers:
                chunk, future = waiting.popleft()
                yield finish(chunk, future.result())
        for chunk, future in waiting:
            yield finish(chunk, future.result())
    except BrokenProcessPool as error:
        raise WsssError("a worker process died; was there too little memory?") from error
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _begin(question: Question, record: Record, on_error: Callable[[str], None]) -> Tally | None:
    """The tally of the first good record, which settles the question; None if this is not it."""
    try:
        tally, problems = _tally(question.settled(record), [record])
    except ConfigurationError:  # no later record can escape it
        raise
    except WsssError as error:
        tally, problems = None, [f"{record['id']}: {describe(error)}"]
    for problem in problems:
        on_error(problem)
    return None if problems else tally


def _tally(question: Question, records: list[Record]) -> tuple[Tally, list[str]]:
    """The counts of the records together, and a line for each that cannot be counted."""
    tally, problems = Tally(question), []
    for record in records:
        try:
            tally.look(record)
        except (WsssError, OSError) as error:
            problems.append(f"{record['id']}: {describe(error)}")
        except Exception as error:  # one record never costs the others
            if console.debugging():
                raise
            problems.append(f"{record['id']}: internal error: {error!r}")
    return tally, problems


def _pool(workers: int) -> ProcessPool:
    # Forked, because starting Python anew takes as long as hundreds of label maps; sound, because
    # no thread of this process holds what a worker needs, not even that which draws progress (see
    # `terminal`). Elsewhere a fork is not safe.
    return ProcessPool(workers, start="fork" if sys.platform == "linux" else "spawn")


def _size(labels: Labels) -> tuple[int, int]:
    return labels.shape[0], labels.shape[1]
