"""Ctrl-C, SIGTERM (of a cluster), SIGHUP (a closed session): tools end in order.

All three raise KeyboardInterrupt in the main thread, so that files being written are finished or
removed; training postpones them to the end of its step.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class Stopped(KeyboardInterrupt):
    """A signal that ends the process was received.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def heed() -> None:
    """Let SIGTERM and SIGHUP raise :class:`Stopped` from now on, as Ctrl-C raises its parent."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    for number in _ending():
        if number != signal.SIGINT:
            signal.signal(number, stop)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ending())


@contextmanager
def withheld() -> Iterator[None]:
    """Within the block, these signals wait; in a process started in it until it calls :func:`heed`.

    Python itself would answer them with a traceback while it starts.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ending())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ending() -> list[signal.Signals]:
    """The signals that end the process."""
    ending = [signal.SIGINT, signal.SIGTERM]
    # nohup ignores the end of a session, and so do we then; Windows knows no such signal.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        ending.append(signal.SIGHUP)
    return ending


def exit_code(error: BaseException | None) -> int:
    """That of the signal behind a KeyboardInterrupt: 130, 143 or 129."""
    return 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)


class Interrupt:
    """Whether training was asked to stop.

    Attributes:
        asked: the first signal received, or None.
        at_once: raise KeyboardInterrupt immediately, as nothing can be left half done.
        insisted: Ctrl-C was pressed again; the current step may be left half done.
    """

    asked: int | None = None
    at_once: bool = False
    insisted: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        # torchrun sends SIGTERM after Ctrl-C: only a second Ctrl-C is the user insisting.
        self.insisted = number == self.asked == signal.SIGINT
        self.asked = self.asked or number
        if self.at_once or self.insisted:
            raise KeyboardInterrupt

    def leave(self) -> NoReturn:
        """End with the exit code of the signal: 130, 143 or 129."""
        sys.exit(128 + (self.asked or signal.SIGINT))


@contextmanager
def postponed() -> Iterator[Interrupt]:
    """Within the block, the first signal is only recorded, so that a step can be finished."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.signal(number, interrupt) for number in _ending()}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
