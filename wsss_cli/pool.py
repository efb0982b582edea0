"""Processes that work side by side, deaf to Ctrl-C (that is their parent's) and never left over."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from wsss_cli import console

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 256  # items in the hands of threads, so that memory stays constant
_KILLING = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}  # but for SIGKILL


class ProcessPool(ProcessPoolExecutor):
    """A pool whose processes end with their parent, even if that is killed.

    Args:
        processes: how many.
        start: how they start, "spawn" or "fork".
    """

    def __init__(self, processes: int, *, start: str) -> None:
        context = multiprocessing.get_context(start)
        if start == "spawn":
            _clean_up_silently()
        switches = (console.quiet(), console.verbose(), console.debugging())
        super().__init__(processes, mp_context=context, initializer=_begin, initargs=switches)

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        # Processes are started here and inherit what is blocked, so that no signal strikes one that
        # is still importing, or is only half started; ours waits these few milliseconds.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *_KILLING})
        try:
            return super().submit(work, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _clean_up_silently() -> None:
    """Start the process that removes what this one leaves behind if it is killed.

    multiprocessing would start it too, but it would then tell the user of "leaked semaphore
    objects" on top of the kill. It is told not to as Python is told on its command line. Ctrl-C and
    SIGTERM it ignores of its own accord, the end of a session because it is born with that blocked.
    """
    if sys.platform == "win32":
        return  # which has no such process
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _KILLING)
    options = list(sys.warnoptions)
    sys.warnoptions.append("ignore::UserWarning:multiprocessing.resource_tracker")
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions[:] = options
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(quiet: bool, verbose: bool, debug: bool) -> None:
    """In a new process: print as much as the parent, die of signals, and end when it does.

    A killed parent closes no pipe that its other children hold too; they would wait for ever.
    """
    for number in _KILLING:  # a fork inherits how its parent heeds them
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _KILLING)
    console.configure(quiet=quiet, verbose=verbose, debug=debug)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int
) -> Iterator[Result]:
    """The result of ``work`` for each item, in order, of any number of items.

    Args:
        work: called in one of the threads.
        items: what it is called with.
        threads: how many there are; at least one.
    """
    remaining = iter(items)
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        while some := list(islice(remaining, _AHEAD)):
            yield from pool.map(work, some)
