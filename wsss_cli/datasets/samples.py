"""Records as training samples, in a random order that can be entered at any step.

The random numbers of a sample follow from (seed, epoch, place of its record), the order of an epoch
from (seed, epoch). So the samples of a training step depend neither on the number of workers, nor
on timing, nor on an interruption.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from wsss_cli import files
from wsss_cli.classes import IGNORE, numbers
from wsss_cli.datasets.augment import Jitter, View, take_grey, take_image, take_labels
from wsss_cli.datasets.soft import SoftLabels, of_labels, of_scores
from wsss_cli.errors import WsssError, describe
from wsss_cli.records import Record, RecordError, first_key


class ChooseView(Protocol):
    """How a view is chosen: `augment.random_view` or `augment.whole_view` with their settings."""

    def __call__(self, size: tuple[int, int], rng: np.random.Generator) -> View: ...


class Draw(NamedTuple):
    """A record, by its place, in one of the passes over all records."""

    epoch: int
    place: int


@dataclass(frozen=True)
class Sample:
    """One training sample, or why there is none.

    Attributes:
        record: its record.
        image: uint8 [h, w, 3], RGB.
        valid: (top, left, bottom, right) of the part that is photograph, not padding.
        labels: float32 [C], 1 for the classes in the photograph, or NaN where they are not known;
            None without a class list.
        label_map: uint8 [h, w], 255 in the padding and where the record has none; None where no
            label map was asked for.
        grey: float32 [h, w] in [0, 1], NaN in the padding and where the record has none; None where
            none was asked for.
        error: why the record could not be read, or empty. The image is then one colour, the label
            map 255, the grey map NaN and the soft labels 0 all over, and the sample must not count.
        weight: its weight in the loss.
        remark: a change made to its files that a user may want to know of, or empty.
        soft: a distribution over the classes at each pixel; None where none was asked for.
    """

    record: Record
    image: NDArray[np.uint8]
    valid: tuple[int, int, int, int]
    labels: NDArray[np.float32] | None = None
    label_map: NDArray[np.uint8] | None = None
    grey: NDArray[np.float32] | None = None
    error: str = ""
    weight: float = 1.0
    remark: str = ""
    soft: SoftLabels | None = None

    @property
    def teaches(self) -> bool:
        """Whether there is anything in it to learn from: a known label, pixel of a label map (with
        soft labels, one that they know), or saliency."""
        return not self.error and (
            (self.labels is not None and not bool(np.isnan(self.labels).all()))
            or (self.label_map is not None and self._has_known_pixel(self.label_map))
            or (self.grey is not None and not bool(np.isnan(self.grey).all()))
        )

    def _has_known_pixel(self, label_map: NDArray[np.uint8]) -> bool:
        known = label_map != IGNORE
        if self.soft is not None:
            known &= self.soft.probabilities.any(0)
        return bool(known.any())


class Samples:
    """Samples made from records on demand.

    Args:
        records: the records.
        view: chooses the view of a photograph.
        image_key: key of the photograph.
        classes: class names; given, samples carry their record's labels as a vector.
        label_map_keys: keys of the label map, the first that a record has is used; given, samples
            carry a label map.
        highest_label: label maps with a number above this (other than 255) are refused.
        grey_key: key of a saliency map; given, samples carry it.
        soft_classes: class names; given, samples carry soft labels: of their record's `scores`, or,
            where the label map is its true `mask`, of that.
        jitter: range of the random change of colours; None leaves them.
        fill: red, green and blue of the padding, 0 to 255.
        groups: places of records in groups that are drawn equally often, see :func:`shuffled`; by
            default all are one group.
        weights: weight of each record in the loss; by default 1.
        seed: random seed.
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        view: ChooseView,
        image_key: str = "image",
        classes: Sequence[str] | None = None,
        label_map_keys: Sequence[str] = (),
        highest_label: int = IGNORE,
        grey_key: str | None = None,
        soft_classes: Sequence[str] | None = None,
        jitter: Jitter | None = None,
        fill: Sequence[int] = (124, 116, 104),
        groups: Sequence[Sequence[int]] | None = None,
        weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        self.records = records
        self._view = view
        self._image_key = image_key
        self._classes = classes
        self._label_map_keys = label_map_keys
        self._highest_label = highest_label
        self._grey_key = grey_key
        self._soft_classes = soft_classes
        self._jitter = jitter
        self._fill = fill
        self.groups = groups or [range(len(records))]
        self._weights = weights
        self._seed = seed

    def __len__(self) -> int:
        return len(self.records)

    @property
    def epoch(self) -> int:
        """Draws per epoch: the largest group once, and as many samples of every other group."""
        return len(self.groups) * max(map(len, self.groups))

    def __getitem__(self, draw: Draw) -> Sample:
        record = self.records[draw.place]
        rng = np.random.default_rng([self._seed, draw.epoch, draw.place])
        try:
            return self._load(record, rng, self._weights[draw.place] if self._weights else 1.0)
        except (WsssError, OSError) as error:
            return self._blank(record, rng, describe(error))

    def _load(self, record: Record, rng: np.random.Generator, weight: float) -> Sample:
        path = record[self._image_key]
        size = files.image_size(path)
        view = self._view(size, rng)
        label_map = grey = soft = None
        remark = ""
        if self._label_map_keys:
            labels = self._read_label_map(record, size)
            label_map = take_labels(labels, view)
            if self._soft_classes is not None:
                if first_key(record, self._label_map_keys) in (None, "mask"):
                    soft = of_labels(label_map)
                else:
                    soft = of_scores(record, size, view, self._soft_classes, labels)
        if self._grey_key:
            whole: NDArray[np.float32] = np.full(size, np.nan, np.float32)
            if saliency := record.get(self._grey_key):
                whole = files.read_grey(saliency, size)
                if resized := files.size_note(saliency, size):
                    remark = f"'{self._grey_key}' {resized}"
            grey = take_grey(whole, view)
        return Sample(
            record,
            take_image(
                files.open_rgb(path, at_least=view.long_side),
                view,
                fill=self._fill,
                colours=(self._jitter, rng) if self._jitter else None,
            ),
            view.area,
            self._label_vector(record),
            label_map,
            grey,
            weight=weight,
            remark=remark,
            soft=soft,
        )

    def _blank(self, record: Record, rng: np.random.Generator, error: str) -> Sample:
        view = self._view((1, 1), rng)
        return Sample(
            record,
            np.zeros((*view.crop, 3), np.uint8),
            (0, 0, 0, 0),
            self._label_vector(record),
            np.full(view.crop, IGNORE, np.uint8) if self._label_map_keys else None,
            np.full(view.crop, np.nan, np.float32) if self._grey_key else None,
            error,
            soft=of_labels(np.full(view.crop, IGNORE, np.uint8)) if self._soft_classes else None,
        )

    def _read_label_map(self, record: Record, size: tuple[int, int]) -> NDArray[np.uint8]:
        key = first_key(record, self._label_map_keys)
        if key is None:
            return np.full(size, IGNORE, np.uint8)
        path = record[key]
        labels = files.read_label_map(path, size)
        highest = max((int(n) for n in np.unique(labels) if n != IGNORE), default=0)
        if highest > self._highest_label:
            raise RecordError(
                f"{path}: class number {highest}, but the class list ends at {self._highest_label}"
            )
        return labels

    def _label_vector(self, record: Record) -> NDArray[np.float32] | None:
        if self._classes is None:
            return None
        vector = np.zeros(len(self._classes), np.float32)
        labels = record.get("labels")
        if labels is None:
            return np.full_like(vector, np.nan)
        for number in numbers(labels, self._classes):
            vector[number - 1] = 1
        return vector


def shuffled(
    groups: Sequence[Sequence[int]],
    *,
    batch: int,
    steps: int,
    start: int = 0,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[list[Draw]]:
    """Draws of each training step, every epoch in another random order.

    The epochs follow each other without a gap: a batch may hold the end of an epoch and the start
    of the next, so that no record is left out even if the batch size does not divide their number.
    With several groups each process draws from them in turn, so that every batch holds equal
    numbers of each, or nearly; a small group starts its next epoch, in another order and with other
    views, while a large group is still in its first.

    Args:
        groups: places of the records of each group, at least one group and one place in each.
        batch: samples a step, on each process.
        steps: number of steps in all.
        start: number of the step to begin with.
        seed: random seed.
        rank: number of this process; the processes share each step's samples.
        world: number of processes.
    """
    orders: list[tuple[int, NDArray[np.intp]]] = [(-1, np.empty(0, np.intp)) for _ in groups]
    for step in range(start, steps):
        draws = []
        for turn in range(step * batch, (step + 1) * batch):
            number = turn % len(groups)
            places = groups[number]
            epoch, position = divmod(turn // len(groups) * world + rank, len(places))
            if orders[number][0] != epoch:
                rng = np.random.default_rng([seed, epoch, number])
                orders[number] = epoch, rng.permutation(len(places))
            draws.append(Draw(epoch, places[int(orders[number][1][position])]))
        yield draws


def in_order(length: int, *, batch: int, rank: int = 0, world: int = 1) -> Iterator[list[Draw]]:
    """Draws that go once through every ``world``-th record in order, for validation."""
    indices = range(rank, length, world)
    for start in range(0, len(indices), batch):
        yield [Draw(0, index) for index in indices[start : start + batch]]


def batches(
    samples: Samples, draws: Iterator[list[Draw]], *, workers: int = 1, ahead: int = 2
) -> Generator[list[Sample], None, None]:
    """The samples of each list of draws, loaded by threads while the caller works.

    Decoding and resampling release Python's lock, so threads are as fast as processes here; they
    need no shared memory, and a kill leaves nothing behind.

    Args:
        samples: loads the samples.
        draws: the lists of draws; consumed no further ahead than needed.
        workers: number of threads, at least 1.
        ahead: lists prepared in advance.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="wsss-load")
    try:
        waiting: deque[list[Future[Sample]]] = deque()

        def prepare(count: int) -> None:
            for wanted in islice(draws, count):
                waiting.append([pool.submit(samples.__getitem__, draw) for draw in wanted])

        prepare(ahead + 1)
        while waiting:
            ready = [future.result() for future in waiting.popleft()]
            prepare(1)
            yield ready
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
