"""What every streaming tool does once: read, skip, work, print in order, count failures.

A :class:`Stage` reads records, hands each that needs work to the tool as a :class:`Job`, and prints
the record, with the paths of what was made added, as soon as its files are on disk. The order of
the stream is kept, at most a window of records is in memory, and a record that fails is named on
stderr while the rest goes on.

Reading happens in a thread of its own, so that a finished record never waits for the next line.
"""

from __future__ import annotations

import errno
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from wsss_cli import console, files, records
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.pool import ProcessPool
from wsss_cli.records import Record

_STOPS_EVERYTHING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # no later record can be written


@dataclass(frozen=True)
class Job:
    """One record that needs work.

    Attributes:
        record: the record as read.
        paths: where each output of the stage goes, by record key; the folders exist.
        meta: the provenance to store in what is written.
    """

    record: Record
    paths: dict[str, Path]
    meta: dict[str, Any]


class Stage:
    """The frame of a streaming tool.

    Args:
        tool: the command's name, as in its messages.
        out: the folder it writes to.
        outputs: suffix of each file it makes for a record, by record key; the first is the main.
        only_with: outputs that are made only for records that have another key, by that key.
        subfolders: put each output into a folder of its key's name, for suffixes that are alike.
        needs: record keys it cannot work without.
        made_by: provenance of this run (:func:`wsss_cli.files.provenance`).
        sources: record keys of files it reads, if there are any, whose own provenance is chained to
            the result's.
        skip_existing: reuse files that the same run would make again.
        strict: stop at the first failure.
        shard: (k, n) takes the k-th of every n records, k counted from 1.
    """

    def __init__(
        self,
        tool: str,
        *,
        out: str | Path,
        outputs: Mapping[str, str],
        needs: Sequence[str],
        made_by: Mapping[str, Any],
        sources: Sequence[str] = (),
        only_with: Mapping[str, str] | None = None,
        subfolders: bool = False,
        skip_existing: bool = False,
        strict: bool = False,
        shard: tuple[int, int] | None = None,
    ) -> None:
        self.tool = tool
        self.out = Path(out)
        self.outputs = dict(outputs)
        self.needs = tuple(needs)
        self.made_by = dict(made_by)
        self.sources = tuple(sources)
        self.only_with = dict(only_with or {})
        self.subfolders = subfolders
        self.skip_existing = skip_existing
        self.strict = strict
        self.shard = shard
        self.limit: int | None = None
        self.done = self.reused = self.failed = 0
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"cannot write to --out: {describe(error)}") from error
        if not os.access(self.out, os.W_OK | os.X_OK):
            raise ConfigurationError(f"cannot write to --out: {self.out}: permission denied")

    # ---- the two ways to work ----

    def map(
        self,
        sources: Sequence[str],
        work: Callable[[Job], Mapping[str, Any] | None],
        *,
        processes: int = 0,
        limit: int | None = None,
    ) -> None:
        """Call ``work(job)`` for each record.

        Args:
            sources: files of records; none means stdin.
            work: writes the job's files and returns keys to add to the record beside their paths.
            processes: size of a pool that works on several records at once; ``work`` must then be
                picklable. With 0 or 1 the work is done in this process.
            limit: stop after this many records.
        """
        # Spawned, not forked: the reader is a thread, and forking beside threads can deadlock.
        executor: Executor = (
            ProcessPool(processes, start="spawn") if processes > 1 else ThreadPoolExecutor(1)
        )
        self.limit = limit
        self._run(sources, _Pipeline(self, executor, work), ahead=3 * max(processes, 1))

    def batches(
        self,
        sources: Sequence[str],
        *,
        load: Callable[[Job], Any],
        compute: Callable[[list[Any]], Sequence[Any]],
        save: Callable[[Job, Any], Mapping[str, Any] | None],
        batch: int,
        threads: int,
        group: Callable[[Any], Hashable] = lambda item: None,
    ) -> None:
        """Load in threads, compute several at once in this thread, save in threads.

        A batch takes what is loaded and never waits to be full, so that a slow stream flows too.

        Args:
            sources: files of records; none means stdin.
            load: reads what a job needs.
            compute: results of a list of loaded items, one each; called from the main thread.
            save: writes a job's files from its result; returns keys to add to the record.
            batch: most items in one call of ``compute``.
            threads: threads for loading and saving.
            group: items are computed together only if this is equal for them, such as their size.
        """
        executor = ThreadPoolExecutor(max(threads, 1))
        pipeline = _Pipeline(self, executor, load, compute, save, batch, group)
        self._run(sources, pipeline, ahead=4 * batch + threads)

    def _run(self, sources: Sequence[str], pipeline: _Pipeline, *, ahead: int) -> None:
        started = time.monotonic()
        with console.progress(self.tool) as bar:
            pipeline.run(sources, ahead, bar)
        seconds = max(time.monotonic() - started, 1e-9)
        rate = (self.done + self.reused) / seconds
        parts = [f"{self.done} records in {seconds:.1f} s ({rate:.1f}/s)"]
        parts += [f"{self.reused} reused"] if self.reused else []
        parts += [f"{self.failed} failed"] if self.failed else []
        console.note(self.tool, ", ".join(parts))
        if self.failed:
            sys.exit(1)

    # ---- what the pipeline asks ----

    def job(self, record: Record) -> Job:
        """The work that ``record`` needs.

        Raises:
            WsssError: a key is missing, or an output would fall outside ``out`` or on an input.
        """
        records.need(record, self.needs)
        paths = {
            key: records.safe_path(
                self.out / key if self.subfolders else self.out, record["id"], suffix
            )
            for key, suffix in self.outputs.items()
            if key not in self.only_with or record.get(self.only_with[key])
        }
        inputs = {
            os.path.normpath(value): key for key, value in record.items() if isinstance(value, str)
        }
        for key, path in paths.items():
            there = inputs.get(os.path.normpath(path))
            if there is not None and (there != key or key in (*self.needs, *self.sources)):
                raise WsssError(f"would overwrite its own '{there}'; change --out")
            path.parent.mkdir(parents=True, exist_ok=True)
        found = {key: files.read_meta(record[key]) for key in self.sources if record.get(key)}
        known = {key: value for key, value in found.items() if value}
        lists = [value["classes"] for value in known.values() if "classes" in value]
        # Class numbers mean the same as in what they were made from.
        meta = {"classes": lists[0], **self.made_by} if lists else self.made_by
        return Job(record, paths, {**meta, "from": known} if known else meta)

    def is_made(self, job: Job) -> bool:
        """Whether every file of ``job`` is there and was made by the same run from the same."""
        return all(files.read_meta(path) == job.meta for path in job.paths.values())

    def fail(self, record: Record | None, error: BaseException) -> None:
        """Name the record that failed; go on unless nothing can be saved any more."""
        known = isinstance(error, WsssError | OSError | ValueError)
        text = describe(error) if known else f"internal error: {error!r}"
        if isinstance(error, BrokenProcessPool):
            raise WsssError("a worker process died; was there too little memory?") from error
        if isinstance(error, OSError) and error.errno in _STOPS_EVERYTHING:
            raise WsssError(f"cannot write: {text}; what was printed so far is safe") from error
        if console.debugging() and not known:
            raise error
        self.failed += 1
        console.warn(self.tool, f"{record['id']}: {text}" if record else text)
        if self.strict:
            raise WsssError("stopped at the first failure (--strict)")


@dataclass
class _Slot:
    """A record's place in the window. Steps: loading, (loaded, saving,) done or failed."""

    record: Record
    step: str
    job: Job | None = None
    future: Future[Any] | None = None
    item: Any = None


_END = object()
_WAKE = object()


class _Pipeline:
    """One pass over a stream: a window of slots, driven by events from the reader and the pool."""

    def __init__(
        self,
        stage: Stage,
        executor: Executor,
        first: Callable[[Job], Any],
        compute: Callable[[list[Any]], Sequence[Any]] | None = None,
        save: Callable[[Job, Any], Any] | None = None,
        batch: int = 1,
        group: Callable[[Any], Hashable] = lambda item: None,
    ) -> None:
        self.stage, self.executor = stage, executor
        self.first, self.compute, self.save = first, compute, save
        self.batch, self.group = batch, group
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.window: deque[_Slot] = deque()
        self.ended = False

    def run(self, sources: Sequence[str], ahead: int, bar: console.Progress) -> None:
        """Read ``sources`` to the end with at most ``ahead`` records in memory."""
        places = threading.Semaphore(ahead)
        threading.Thread(target=self._read, args=(sources, places), daemon=True).start()
        try:
            while not self.ended or self.window:
                self._take(wait=True)
                self._settle(places, bar)
                while self.compute and (ready := self._ready()):
                    self._compute(self.compute, ready)
                    self._take(wait=False)
                    self._settle(places, bar)
        finally:
            # Waits, as Python does at its end; there, processes that are still ending are an error.
            self.executor.shutdown(cancel_futures=True)

    def _read(self, sources: Sequence[str], places: threading.Semaphore) -> None:
        """In the reading thread: each record, or what is wrong with its line, as an event."""

        def put(event: Any) -> None:
            places.acquire()
            self.events.put(event)

        shard = self.stage.shard or (1, 1)
        try:
            stream = records.read(sources, lambda text: put(WsssError(text)))
            for number, record in enumerate(islice(stream, self.stage.limit)):
                if number % shard[1] == shard[0] - 1:
                    put(record)
            self.events.put(_END)
        except BaseException as error:
            self.events.put((_END, error))

    def _take(self, *, wait: bool) -> None:
        """Handle the events that are there; with ``wait``, at least one."""
        while True:
            try:
                event = self.events.get(block=wait)
            except queue.Empty:
                return
            wait = False
            if event is _END:
                self.ended = True
            elif isinstance(event, tuple):
                raise event[1]
            elif isinstance(event, WsssError):
                self.window.append(_Slot({}, "failed"))
                self.stage.fail(None, event)
            elif event is not _WAKE:
                self._begin(event)

    def _begin(self, record: Record) -> None:
        slot = _Slot(record, "loading")
        self.window.append(slot)
        try:
            job = self.stage.job(record)
        except (WsssError, OSError) as error:
            self._fail(slot, error)
            return
        if self.stage.skip_existing and self.stage.is_made(job):
            self.stage.reused += 1
            self._finish(slot, job)
        else:
            slot.job = job
            self._submit(slot, self.first, job)

    def _submit(self, slot: _Slot, function: Callable[..., Any], *args: Any) -> None:
        slot.future = self.executor.submit(function, *args)
        slot.future.add_done_callback(lambda _: self.events.put(_WAKE))

    def _settle(self, places: threading.Semaphore, bar: console.Progress) -> None:
        """Take the results that have come, then print the finished records at the head."""
        for slot in self.window:
            if slot.future is None or not slot.future.done():
                continue
            future, slot.future = slot.future, None
            if error := future.exception():
                self._fail(slot, error)
            elif slot.step == "loading" and self.compute:
                slot.step, slot.item = "loaded", future.result()
            else:
                assert slot.job is not None
                self.stage.done += 1
                self._finish(slot, slot.job, future.result())
        while self.window and self.window[0].step in ("done", "failed"):
            slot = self.window.popleft()
            if slot.step == "done":
                records.write(slot.record)
            places.release()
            bar.update()

    def _ready(self) -> list[_Slot]:
        """Up to ``batch`` loaded slots that can be computed together, the oldest among them."""
        loaded = [slot for slot in self.window if slot.step == "loaded"]
        if not loaded:
            return []
        wanted = self.group(loaded[0].item)
        return [slot for slot in loaded if self.group(slot.item) == wanted][: self.batch]

    def _compute(self, compute: Callable[[list[Any]], Sequence[Any]], slots: list[_Slot]) -> None:
        """Compute a batch; if that fails, one by one, so that only the culprit is lost."""
        assert self.save is not None
        try:
            results = compute([slot.item for slot in slots])
        except Exception as error:
            if len(slots) == 1:
                self._fail(slots[0], error)
            else:
                for slot in slots:
                    self._compute(compute, [slot])
            return
        for slot, result in zip(slots, results, strict=True):
            slot.step, slot.item = "saving", None
            self._submit(slot, self.save, slot.job, result)

    def _finish(self, slot: _Slot, job: Job, extra: Mapping[str, Any] | None = None) -> None:
        added = {key: str(path) for key, path in job.paths.items()}
        slot.record = {**job.record, **added, **(extra or {})}
        slot.step = "done"

    def _fail(self, slot: _Slot, error: BaseException) -> None:
        slot.step, slot.item = "failed", None
        self.stage.fail(slot.record, error)
