"""Measuring predictions of a stream of records against true masks; imports no torch."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wsss_cli import files
from wsss_cli.classes import BACKGROUND, numbers
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.files import IGNORE, Meta
from wsss_cli.metrics import Confusion, mean, pair_counts
from wsss_cli.models import pseudo
from wsss_cli.records import Record, need

_DEFAULT_KEYS = ("pred", "pseudo", "cam")
_COUNTS_FORMAT = "wsss-confusion-1"
_KINDS_KEPT = 100  # provenances told apart; more are only "many"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How maps become label maps.

    Attributes:
        thresholds: constant background scores; several are a sweep, of which the best is reported.
        alpha: (1 - max)^alpha instead, or None.
        own: the maps' own background instead.
    """

    thresholds: tuple[float, ...] = ()
    alpha: float | None = None
    own: bool = False


class Sweep:
    """Confusion matrices of one set of maps under many background thresholds, in one pass.

    A pixel is its best class where that score exceeds the threshold, background elsewhere. So one
    histogram over (truth, best class, number of thresholds exceeded) holds them all.
    """

    def __init__(self, thresholds: Sequence[float], num_classes: int, ignore: int = IGNORE) -> None:
        self.thresholds = np.array(sorted(thresholds), np.float32)
        self.num_classes, self.ignore = num_classes, ignore
        self.counts = np.zeros((256, num_classes, len(self.thresholds) + 1), np.int64)

    def histogram(
        self,
        maps: npt.NDArray[np.float32],
        class_numbers: Sequence[int],
        truth: npt.NDArray[np.uint8],
    ) -> npt.NDArray[np.int64]:
        """Histogram of one image: maps (K, H, W) with class numbers, truth (H, W)."""
        levels = len(self.thresholds) + 1
        if len(maps):
            best = maps.argmax(0)
            exceeded = np.searchsorted(self.thresholds, maps.max(0).ravel(), side="left")
        else:
            best, exceeded = np.zeros(truth.shape, np.int64), np.zeros(truth.size, np.int64)
        kinds = max(len(maps), 1)
        index = (truth.ravel().astype(np.int64) * kinds + best.ravel()) * levels + exceeded
        found = np.bincount(index, minlength=256 * kinds * levels).reshape(256, kinds, levels)
        whole = np.zeros_like(self.counts)
        whole[:, list(class_numbers) or [0]] = found
        return whole

    @staticmethod
    def table(counts: npt.NDArray[np.int64], place: int) -> npt.NDArray[np.int64]:
        """Pairs of (truth, prediction), (256, 256), at the threshold number ``place``."""
        table = np.zeros((256, 256), np.int64)
        table[:, : counts.shape[1]] = counts[..., place + 1 :].sum(-1)
        table[:, 0] += counts[..., : place + 1].sum((-1, -2))
        return table

    def confusion(self, place: int) -> Confusion:
        """The confusion matrix at the threshold number ``place``."""
        table = self.table(self.counts, place)
        made = Confusion(self.num_classes, self.ignore)
        made.add(table.reshape(-1))
        return made


class Look(NamedTuple):
    """What one record adds.

    Attributes:
        counts: pairs of label maps, (65536,), or the histogram of a sweep.
        own: the image's own confusion matrix; of a sweep at its first threshold.
        meta: provenance of the prediction.
    """

    counts: npt.NDArray[np.int64]
    own: Confusion
    meta: Meta | None


@dataclass
class Measured:
    """The result of a run.

    Attributes:
        key, truth: record keys compared.
        classes: names, background first; plain numbers where no list is known.
        confusion: of all images, at the best threshold if there was a sweep.
        images, failed: how many.
        rule: how background was told from classes, in words; None for label maps.
        threshold: the threshold used, if one was.
        sweep: mIoU by threshold, if there was a sweep.
        made_by: provenance common to all files; None if they differ or say nothing.
        kinds: number of different provenances.
    """

    key: str
    truth: str
    classes: tuple[str, ...]
    confusion: Confusion
    images: int = 0
    failed: int = 0
    rule: str | None = None
    threshold: float | None = None
    sweep: dict[float, float] = field(default_factory=dict)
    made_by: dict[str, Any] | None = None
    kinds: int = 0


class Evaluation:
    """Counts records one by one.

    Args:
        key: record key of the prediction; None takes the first of pred, pseudo, cam that is there.
        truth: record key of the true mask.
        classes: names without background, or None for those that the files name.
        rule: how maps become label maps.
        ignore: true label that is not counted.
    """

    def __init__(
        self, *, key: str | None, truth: str, classes: Sequence[str] | None, rule: Rule,
        ignore: int = IGNORE,
    ) -> None:  # fmt: skip
        self.key, self.truth, self.rule, self.ignore = key, truth, rule, ignore
        self.classes = tuple(classes) if classes is not None else None
        self.named = classes is not None
        self.confusion: Confusion | None = None
        self.sweep: Sweep | None = None
        self.images = 0
        self._rule_used: str | None = None
        self._provenances: dict[str, int] = {}

    def settle(self, record: Record) -> None:
        """Settle key and classes by the first record, if the caller did not give them.

        Raises:
            WsssError: the record has none of the keys.
        """
        if self.key is None:
            found = [key for key in _DEFAULT_KEYS if record.get(key)]
            if not found:
                raise WsssError("record has no 'pred', 'pseudo' or 'cam'; name a key with --key")
            self.key = found[0]
        if self.classes is None and record.get(self.key):
            listed = (files.read_meta(record[self.key]) or {}).get("classes")
            self.named = bool(listed)
            self.classes = tuple(listed) if listed else tuple(map(str, range(1, 255)))
        if self.classes is not None and self.confusion is None:
            self.confusion = Confusion(len(self.classes) + 1, self.ignore)
            self.sweep = Sweep(self.rule.thresholds, len(self.classes) + 1, self.ignore)

    def look(self, record: Record) -> Look:
        """What one record adds.

        Safe to call from several threads at once, after :meth:`settle`.

        Raises:
            WsssError: a file is missing, unreadable, or does not fit the other.
        """
        assert self.key is not None
        need(record, (self.key, self.truth))
        assert self.classes is not None
        truth = files.read_label_map(record[self.truth])
        path = record[self.key]
        own = Confusion(len(self.classes) + 1, self.ignore)
        try:
            if Path(path).suffix == ".npz":
                added = self._look_at_maps(path, truth, own)
            else:
                size = (truth.shape[0], truth.shape[1])
                added = pair_counts(files.read_label_map(path, size), truth)
                own.add(added)
        except ValueError as error:
            raise WsssError(f"{path} against {record[self.truth]}: {error}") from error
        return Look(added, own, files.read_meta(path))

    def _look_at_maps(self, path: str, truth: npt.NDArray[np.uint8], own: Confusion) -> Any:
        assert self.classes is not None
        maps = files.read_maps(path)
        if maps.size != truth.shape:
            raise WsssError(
                f"{path}: maps of an image of {maps.size[1]}x{maps.size[0]}, but its mask is "
                f"{truth.shape[1]}x{truth.shape[0]}"
            )
        if not self.named:
            raise WsssError(f"{path}: the maps do not say their class list; give --classes")
        maps, background = pseudo.split_background(maps)
        found = numbers(maps.classes, self.classes)
        size = (truth.shape[0], truth.shape[1])
        large = pseudo.resize(maps.cam, size)
        takes_own = self.rule.own and background is not None
        if self.rule.thresholds and not takes_own:
            assert self.sweep is not None
            counts = self.sweep.histogram(large, found, truth)
            own.add(self.sweep.table(counts, 0).reshape(-1))
            return counts
        if not found:
            labels = np.zeros(size, np.uint8)
        else:
            given = pseudo.resize(background[None], size)[0] if background is not None else None
            scores = pseudo.with_background(
                large, given if takes_own else None, alpha=self.rule.alpha or 1, threshold=None
            )
            labels = pseudo.label_map(scores, found)
        if self._rule_used is None:
            own_rule = "the maps' own background"
            self._rule_used = own_rule if takes_own else f"(1 - max)^{self.rule.alpha:g}"
        pairs = pair_counts(labels, truth)
        own.add(pairs)
        return pairs

    def add(self, looked: Look) -> None:
        """Count what :meth:`look` found."""
        assert self.confusion is not None
        assert self.sweep is not None
        if looked.counts.ndim == 3:
            self.sweep.counts += looked.counts
        else:
            self.confusion.add(looked.counts)
        self.images += 1
        told = json.dumps(looked.meta, sort_keys=True)
        if told in self._provenances or len(self._provenances) < _KINDS_KEPT:
            self._provenances[told] = self._provenances.get(told, 0) + 1

    def image_values(self, record: Record, own: Confusion) -> dict[str, Any]:
        """One image's own values: mean IoU over its classes, IoU of each, pixel accuracy."""
        assert self.classes is not None
        names = (BACKGROUND, *self.classes)
        iou = {name: _number(v) for name, v in zip(names, own.iou(), strict=True) if v == v}
        return {
            "id": record["id"], "miou": _number(own.miou()),
            "pixel_accuracy": _number(own.pixel_accuracy()), "iou": iou,
        }  # fmt: skip

    def result(self) -> Measured:
        """All that was counted.

        Raises:
            WsssError: nothing was.
        """
        if not (self.images and self.confusion and self.classes is not None and self.key):
            raise WsssError("nothing was measured: no record could be read")
        made = Measured(
            self.key, self.truth, (BACKGROUND, *self.classes), self.confusion, self.images,
            rule=self._rule_used, kinds=len(self._provenances),
        )  # fmt: skip
        if self.sweep is not None and self.sweep.counts.any():
            matrices = [self.sweep.confusion(i) for i in range(len(self.sweep.thresholds))]
            scores = [matrix.miou() for matrix in matrices]
            best = int(np.nanargmax(scores))
            made.confusion = matrices[best]
            made.threshold = round(float(self.sweep.thresholds[best]), 6)
            if len(scores) > 1:
                made.sweep = {
                    round(float(t), 6): s
                    for t, s in zip(self.sweep.thresholds, scores, strict=True)
                }
            made.rule = "constant" if len(scores) == 1 else f"best of {len(scores)} thresholds"
        if len(self._provenances) == 1:
            made.made_by = json.loads(next(iter(self._provenances)))
        return made


def measure(
    stream: Iterable[Record],
    evaluation: Evaluation,
    *,
    workers: int,
    on_error: Callable[[str], None],
) -> Iterator[tuple[Record, Confusion]]:
    """Count the records of a stream, with ``workers`` threads that read ahead.

    Args:
        stream: the records.
        evaluation: what counts.
        workers: threads; 0 reads in this one.
        on_error: called with a line for each record that cannot be counted.

    Yields:
        Each record counted, in order, and its own confusion matrix.
    """

    def settled(record: Record) -> bool:
        try:
            evaluation.settle(record)
        except WsssError as error:
            on_error(f"{record['id']}: {describe(error)}")
            return False
        return True

    def take(record: Record, look: Callable[[], Look]) -> Iterator[tuple[Record, Confusion]]:
        try:
            looked = look()
        except (WsssError, OSError) as error:
            on_error(f"{record['id']}: {describe(error)}")
        else:
            evaluation.add(looked)
            yield record, looked.own

    waiting: deque[tuple[Record, Future[Look]]] = deque()
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for record in stream:
            if not settled(record):
                continue
            if not workers:
                yield from take(record, partial(evaluation.look, record))
                continue
            waiting.append((record, pool.submit(evaluation.look, record)))
            if len(waiting) > 4 * workers:
                record, future = waiting.popleft()
                yield from take(record, future.result)
        for record, future in waiting:
            yield from take(record, future.result)


def save_counts(path: str | Path, measured: Measured) -> None:
    """Write the confusion matrix of a run, with what was measured, as JSON."""
    data = {
        "format": _COUNTS_FORMAT, "confusion": measured.confusion.to_dict(),
        "classes": measured.classes, "key": measured.key, "truth": measured.truth,
        "rule": measured.rule, "threshold": measured.threshold, "images": measured.images,
        "failed": measured.failed, "made_by": measured.made_by,
    }  # fmt: skip
    with files.atomic(path) as temporary:
        temporary.write_text(json.dumps(data), encoding="utf-8")


def load_counts(path: str | Path) -> Measured:
    """What :func:`save_counts` wrote.

    Raises:
        ConfigurationError: unreadable, or not such a file.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if data.get("format") != _COUNTS_FORMAT:
            raise ValueError("no file of 'wsss eval --confusion'")
        return Measured(
            data["key"], data["truth"], tuple(data["classes"]),
            Confusion.from_dict(data["confusion"]), data["images"], data["failed"], data["rule"],
            data["threshold"], {}, data["made_by"], 1 if data["made_by"] else 0,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"cannot read {path}: {describe(error)}") from error


def merged(parts: Sequence[Measured]) -> Measured:
    """The sum of runs over parts of a data set.

    Raises:
        ConfigurationError: they measured different things, or at different thresholds.
    """
    first = parts[0]
    total = replace(first, confusion=Confusion.from_dict(first.confusion.to_dict()))
    for part in parts[1:]:
        for name in ("classes", "key", "truth", "rule", "threshold"):
            if getattr(part, name) != getattr(first, name):
                raise ConfigurationError(
                    f"cannot merge: {name} is {getattr(first, name)} in one, "
                    f"{getattr(part, name)} in another; measure all with the same options"
                )
        total.confusion.merge(part.confusion)
        total.images += part.images
        total.failed += part.failed
        if part.made_by != first.made_by:
            total.made_by, total.kinds = None, 2
    return total


def lineage(meta: Mapping[str, Any] | None) -> list[str]:
    """What made a file and what that was made from, newest first, one line a tool.

    >>> lineage({"tool": "crf", "version": "1", "params": {"steps": 10}})
    ['crf 1: steps 10']
    """
    if not meta:
        return []
    params = ", ".join(
        f"{name} {_short(value)}" for name, value in meta.get("params", {}).items()
        if value is not None
    )  # fmt: skip
    checkpoint = f", checkpoint {meta['checkpoint']}" if "checkpoint" in meta else ""
    lines = [f"{meta.get('tool')} {meta.get('version')}: {params}{checkpoint}"]
    for source in meta.get("from", {}).values():
        lines += lineage(source)
    return lines


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(_short(item) for item in value)
    if isinstance(value, dict):
        return "(" + ", ".join(f"{k} {_short(v)}" for k, v in value.items()) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)


def as_json(measured: Measured) -> dict[str, Any]:
    """The result as plain data; classes that do not occur have null values."""
    confusion = measured.confusion
    values = {
        "iou": confusion.iou(),
        "precision": confusion.precision(),
        "recall": confusion.recall(),
    }
    rows = {
        name: {what: _number(column[index]) for what, column in values.items()}
        for index, name in enumerate(measured.classes)
        if not all(math.isnan(column[index]) for column in values.values())
    }
    made: dict[str, Any] = {
        "miou": _number(confusion.miou()),
        "precision": _number(mean(values["precision"])),
        "recall": _number(mean(values["recall"])),
        "pixel_accuracy": _number(confusion.pixel_accuracy()),
        "images": measured.images,
        "failed": measured.failed,
        "key": measured.key,
        "truth": measured.truth,
        "ignore": confusion.ignore,
        "background": measured.rule,
        "threshold": measured.threshold,
        "num_classes": len(rows),
        "classes": rows,
        "made_by": measured.made_by if measured.kinds == 1 else "mixed",
    }
    if measured.sweep:
        made["sweep"] = {f"{t:g}": _number(score) for t, score in measured.sweep.items()}
    return made


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
