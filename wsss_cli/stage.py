"""What every streaming tool does once: read, skip, work, print in order, count failures.

A :class:`Stage` reads records, hands each that needs work to its :class:`Tool` as a :class:`Job`,
and prints the record, with the paths of its new files added, as soon as they are on disk. The order
of the stream is kept, at most a window of records is in memory, and a record that fails is named on
stderr while the rest goes on.

Reading happens in a thread of its own, so that a finished record never waits for the next line.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from wsss_cli import console, files, inputs, records
from wsss_cli.errors import STOPS_EVERYTHING, ConfigurationError, WsssError, describe
from wsss_cli.pool import ProcessPool
from wsss_cli.records import Record, RecordError
from wsss_cli.unique import Ids

_SHOWN = 3  # records named for each change that makes files again


@dataclass(frozen=True)
class Job:
    """One record that needs work.

    Attributes:
        record: the record as read.
        paths: where each output of the tool goes, by record key; the folders exist.
        meta: the provenance to store in each file written.
    """

    record: Record
    paths: dict[str, Path]
    meta: dict[str, Any]


class Tool:
    """What a streaming tool does to a record; the stage does the rest.

    A tool is a class of its settings, of one of the two kinds below. Its attributes do not change
    while it works.

    Attributes:
        name: the command, as in its messages.
        outputs: suffix of each file made for a record, by record key.
        needs: record keys it cannot work without.
        inputs: record keys that the result depends on: the content of files, the labels. A record
            may lack those that are not among ``needs``. The files' own provenance is chained to the
            result's.
        only_with: outputs made only for records that have another key, by that key.
        subfolders: each output goes into a folder of its key's name; for suffixes that are alike.
        params: the settings that change the result (no devices, no numbers of workers).
        checkpoint: digest of the checkpoint used, digests of several, or None.
        class_list: class list given by the user, or None for that of the inputs.
        classes: the class list that class numbers and names refer to, if the tool knows it.
    """

    name: str

    @property
    def outputs(self) -> Mapping[str, str]:
        raise NotImplementedError

    @property
    def needs(self) -> Sequence[str]:
        return ("image",)

    @property
    def inputs(self) -> Sequence[str]:
        return self.needs

    @property
    def only_with(self) -> Mapping[str, str]:
        return {}

    @property
    def subfolders(self) -> bool:
        return False

    @property
    def params(self) -> Mapping[str, Any]:
        raise NotImplementedError

    @property
    def checkpoint(self) -> str | Sequence[str] | None:
        return None

    @property
    def class_list(self) -> Sequence[str] | None:
        return None

    @property
    def classes(self) -> Sequence[str] | None:
        return self.class_list

    def reused(self, job: Job) -> Mapping[str, Any]:
        """Keys to add to a record whose files are reused, as if they had been made now."""
        return {}

    def finish(self) -> None:
        """Called after the last record, unless something stopped the stream."""


class Halt(WsssError):
    """A problem of the whole stream, which no later record can escape.

    Args:
        text: for the user.
        exit_code: of the command.
    """

    def __init__(self, text: str, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class RecordTool(Tool):
    """A tool that does all the work for a record in one call, in parallel processes.

    It must be picklable, and import no torch, so that worker processes start fast.
    """

    def work(self, job: Job) -> Mapping[str, Any] | None:
        """Write the files of ``job``; the result holds keys to add to the record."""
        raise NotImplementedError


class BatchTool(Tool):
    """A tool that loads and saves in threads and computes batches in the main thread.

    Attributes:
        batch_size: largest number of records in one call of ``compute``.
    """

    @property
    def batch_size(self) -> int:
        return 1

    def load(self, job: Job) -> Any:
        """Read the inputs of ``job``."""
        raise NotImplementedError

    def compute(self, items: list[Any]) -> Sequence[Any]:
        """One result for each loaded item; called from the main thread."""
        raise NotImplementedError

    def save(self, job: Job, result: Any) -> Mapping[str, Any] | None:
        """Write the files of ``job``; the result holds keys to add to the record."""
        raise NotImplementedError

    def group(self, item: Any) -> Hashable:
        """Items are computed together only if this is equal, such as their size."""
        return None


class Failures:
    """Counts failures and names each on stderr.

    Args:
        tool: the command, as in its messages.
        strict: stop at the first one.
    """

    def __init__(self, tool: str, *, strict: bool = False) -> None:
        self.tool, self.strict, self.count = tool, strict, 0

    def __call__(self, text: str) -> None:
        """Report one failure; with ``strict`` raises WsssError."""
        self.count += 1
        console.warn(self.tool, text)
        if self.strict:
            raise WsssError("stopped at the first failure (--strict)")

    def exit(self) -> None:
        """End the process with exit code 1 if anything failed."""
        if self.count:
            sys.exit(1)


class Stage:
    """The frame of a streaming tool.

    Args:
        tool: the work on each record.
        out: the folder it writes to.
        skip_existing: reuse files that the same run would make again.
        strict: stop at the first failure.
        shard: (k, n) takes the k-th of every n records, k counted from 1.

    Raises:
        ConfigurationError: nothing can be written to ``out``.
    """

    def __init__(
        self,
        tool: Tool,
        *,
        out: str | Path,
        skip_existing: bool = False,
        strict: bool = False,
        shard: tuple[int, int] | None = None,
    ) -> None:
        self.tool = tool
        self.out = Path(out)
        self.skip_existing = skip_existing
        self.shard = shard
        self.limit: int | None = None
        self.done = self.reused = 0
        self.again: Counter[str] = Counter()
        self._folders: set[Path] = set()
        self.failures = Failures(tool.name, strict=strict)
        self.made_by = files.provenance(
            tool.name, tool.params, checkpoint=tool.checkpoint, classes=tool.classes
        )
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"cannot write to --out: {describe(error)}") from error
        if not os.access(self.out, os.W_OK | os.X_OK):
            raise ConfigurationError(f"cannot write to --out: {self.out}: permission denied")

    def run(self, sources: Sequence[str], *, workers: int = 0, limit: int | None = None) -> None:
        """Do the tool's work for each record of a stream, and print the records.

        Ends the process with exit code 1 if some failed.

        Args:
            sources: files of records; none means stdin.
            workers: parallel processes of a :class:`RecordTool` (0 and 1: this one does the work);
                threads in which a :class:`BatchTool` loads and saves.
            limit: stop after this many records.
        """
        self.limit = limit
        tool = self.tool
        if isinstance(tool, BatchTool):
            # A batch never waits to be full, so that a slow stream flows too.
            threads = max(workers, 1)
            pipeline = _Pipeline(self, ThreadPoolExecutor(threads), tool.load, tool)
            ahead = 4 * tool.batch_size + threads
        else:
            assert isinstance(tool, RecordTool)
            # Spawned, not forked: the reader is a thread, and forking beside threads can deadlock.
            executor: Executor = (
                ProcessPool(workers, start="spawn") if workers > 1 else ThreadPoolExecutor(1)
            )
            pipeline = _Pipeline(self, executor, tool.work)
            ahead = 3 * max(workers, 1)
        started = time.monotonic()
        pipe = records.pipe(sources, writes=True, shard=self.shard, limit=limit)
        with console.progress(tool.name, total=records.total(sources, pipe), pipe=pipe) as bar:
            pipeline.run(sources, ahead, bar)
        tool.finish()
        seconds = max(time.monotonic() - started, 1e-9)
        rate = (self.done + self.reused) / seconds
        parts = [f"{self.done} records in {seconds:.1f} s ({rate:.1f}/s)"]
        parts += [f"{self.reused} reused"] if self.reused else []
        parts += [f"{count} made again ({changed})" for changed, count in self.again.items()]
        parts += [f"{self.failures.count} failed"] if self.failures.count else []
        console.note(tool.name, ", ".join(parts))
        self.failures.exit()

    # ---- called by the pipeline ----

    def job(self, record: Record) -> Job:
        """The work that ``record`` needs.

        Raises:
            WsssError: a key is missing, an input was made for something else, or an output would
                fall outside ``out`` or on an input.
        """
        tool = self.tool
        records.paths(record, tool.needs)
        paths = {
            key: records.safe_path(
                self.out / key if tool.subfolders else self.out, record["id"], suffix
            )
            for key, suffix in tool.outputs.items()
            if key not in tool.only_with or record.get(tool.only_with[key])
        }
        for key, path in paths.items():
            self._keep_inputs(record, key, path)
            if path.parent not in self._folders:
                self._folders.add(path.parent)
                path.parent.mkdir(parents=True, exist_ok=True)
                files.remove_leftovers(path.parent, tool.name)
        made_from = inputs.inputs(record, tool.inputs)
        metas = {
            key: files.read_meta(record[key]) for key in made_from if isinstance(record[key], str)
        }
        known = {key: value for key, value in metas.items() if value}
        for key, value in known.items():
            inputs.check_source(key, value, made_from.get("image"), record)
        lists = [value["classes"] for value in known.values() if "classes" in value]
        # Class numbers mean the same as in the inputs.
        meta = {"classes": lists[0], **self.made_by} if lists else self.made_by
        meta = {**meta, "inputs": made_from}
        return Job(record, paths, {**meta, "from": known} if known else meta)

    def _keep_inputs(self, record: Record, output: str, path: Path) -> None:
        """Raise WsssError if ``path`` is a file of the record, whatever it is called there."""
        others = dict(record) if output in self.tool.inputs else {**record, output: None}
        if key := files.key_of(others, path):
            raise WsssError(f"would overwrite its own '{key}'; change --out")

    def is_made(self, job: Job) -> bool:
        """Whether every file of ``job`` is there, made by the same run from the same inputs.

        What has changed is told, for the first few records and as a number at the end.
        """
        earlier = [files.read_meta(path) for path in job.paths.values()]
        if all(meta == job.meta for meta in earlier):
            damaged = [path for path in job.paths.values() if not files.is_whole(path)]
            for path in damaged:
                console.note(self.tool.name, f"{path}: damaged; made again")
            return not damaged
        reasons = {
            reason
            for meta in earlier
            if meta is not None and meta != job.meta
            for reason in inputs.changes(meta, job.meta)
        }
        if reasons:
            changed = ", ".join(sorted(reasons)) + " changed"
            self.again[changed] += 1
            if self.again[changed] <= _SHOWN:
                console.note(self.tool.name, f"{job.record['id']}: {changed}; made again")
        return False

    def check_free(self, job: Job) -> None:
        """Raise WsssError if a file of ``job`` would replace one that is not of this tool."""
        for path in job.paths.values():
            if foreign := files.foreign(path, self.tool.name):
                raise WsssError(foreign)

    def fail(self, record: Record | None, error: BaseException) -> None:
        """Name the record that failed; go on unless nothing can be saved any more."""
        if isinstance(error, Halt):
            raise error
        known = isinstance(error, WsssError | OSError | ValueError)
        text = describe(error) if known else f"internal error: {error!r}"
        if isinstance(error, BrokenProcessPool):
            raise WsssError("a worker process died; was there too little memory?") from error
        if isinstance(error, OSError) and error.errno in STOPS_EVERYTHING:
            raise WsssError(f"cannot write: {text}; what was printed so far is safe") from error
        if console.debugging() and not known:
            raise error
        self.failures(f"{record['id']}: {text}" if record else text)


@dataclass
class _Slot:
    """A record's place in the window. Steps: loading, (loaded, saving,) done or failed."""

    record: Record
    step: str
    job: Job | None = None
    future: Future[Any] | None = None
    item: Any = None


@dataclass(frozen=True)
class _Twice:
    """A record with the id of an earlier one that was not the same."""

    record: Record


_END = object()
_WAKE = object()
_TWICE = (
    "an earlier, different record has this id (capitals and Unicode form aside), and both would "
    "write the same files; give each photograph its own id"
)


def _folded(record_id: str) -> str:
    """Equal for ids whose files are the same in some file system."""
    return unicodedata.normalize("NFC", record_id).casefold()


class _Pipeline:
    """One pass over a stream: a window of slots, driven by events from the reader and the pool."""

    def __init__(
        self,
        stage: Stage,
        executor: Executor,
        first: Callable[[Job], Any],
        batched: BatchTool | None = None,
    ) -> None:
        self.stage, self.executor = stage, executor
        self.first, self.batched = first, batched
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
                while self.batched and (ready := self._ready(self.batched)):
                    self._compute(self.batched, ready)
                    self._take(wait=False)
                    self._settle(places, bar)
        finally:
            # Waits, as Python does at its end; there, processes that are still ending are an error.
            self.executor.shutdown(cancel_futures=True)

    def _read(self, sources: Sequence[str], places: threading.Semaphore) -> None:
        """In the reading thread: each record, or the error in its line, as an event."""

        def put(event: Any) -> None:
            places.acquire()
            self.events.put(event)

        shard = self.stage.shard or (1, 1)
        ids = Ids()
        try:
            stream = records.read(sources, lambda text: put(WsssError(text)))
            for number, record in enumerate(islice(stream, self.stage.limit)):
                # The same record once more makes the same files once more.
                other = ids.taken(_folded(record["id"]), record)
                if number % shard[1] == shard[0] - 1:
                    put(_Twice(record) if other else record)
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
            elif isinstance(event, _Twice):
                self._fail(slot := _Slot(event.record, "failed"), RecordError(_TWICE))
                self.window.append(slot)
            elif event is not _WAKE:
                self._begin(event)

    def _begin(self, record: Record) -> None:
        slot = _Slot(record, "loading")
        self.window.append(slot)
        try:
            job = self.stage.job(record)
            made = self.stage.skip_existing and self.stage.is_made(job)
            if not made:
                self.stage.check_free(job)
            extra = self.stage.tool.reused(job) if made else {}
        except Exception as error:  # whatever is wrong with one record
            self._fail(slot, error)
            return
        if made:
            self.stage.reused += 1
            self._finish(slot, job, extra)
        else:
            slot.job = job
            self._submit(slot, self.first, job)

    def _submit(self, slot: _Slot, function: Callable[..., Any], *args: Any) -> None:
        slot.future = self.executor.submit(function, *args)
        slot.future.add_done_callback(lambda _: self.events.put(_WAKE))

    def _settle(self, places: threading.Semaphore, bar: console.Progress) -> None:
        """Take the results that have come, then print the finished records at the head."""
        try:
            for slot in self.window:
                if slot.future is None or not slot.future.done():
                    continue
                future, slot.future = slot.future, None
                if error := future.exception():
                    self._fail(slot, error)
                elif slot.step == "loading" and self.batched:
                    slot.step, slot.item = "loaded", future.result()
                else:
                    assert slot.job is not None
                    self.stage.done += 1
                    self._finish(slot, slot.job, future.result())
        finally:  # what is finished is printed, even if another record stops everything
            while self.window and self.window[0].step in ("done", "failed"):
                slot = self.window.popleft()
                if slot.step == "done":
                    records.write(slot.record)
                places.release()
                failed = self.stage.failures.count
                bar.update(1, **({"failed": failed} if failed else {}))

    def _ready(self, tool: BatchTool) -> list[_Slot]:
        """A batch of loaded slots that can be computed together, the oldest among them."""
        loaded = [slot for slot in self.window if slot.step == "loaded"]
        if not loaded:
            return []
        wanted = tool.group(loaded[0].item)
        return [slot for slot in loaded if tool.group(slot.item) == wanted][: tool.batch_size]

    def _compute(self, tool: BatchTool, slots: list[_Slot]) -> None:
        """Compute a batch; if that fails, record by record, so that only the culprit is lost."""
        try:
            results = tool.compute([slot.item for slot in slots])
        except Exception as error:
            if len(slots) == 1:
                self._fail(slots[0], error)
            else:
                for slot in slots:
                    self._compute(tool, [slot])
            return
        for slot, result in zip(slots, results, strict=True):
            slot.step, slot.item = "saving", None
            self._submit(slot, tool.save, slot.job, result)

    def _finish(self, slot: _Slot, job: Job, extra: Mapping[str, Any] | None = None) -> None:
        added = {key: str(path) for key, path in job.paths.items()}
        slot.record = {**job.record, **added, **(extra or {})}
        slot.step = "done"

    def _fail(self, slot: _Slot, error: BaseException) -> None:
        slot.step, slot.item = "failed", None
        self.stage.fail(slot.record, error)
