"""Signals end tools in order; in training the first is noted, the second obeyed at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from wsss_cli.interrupt import Stopped, exit_code, heed, postponed, withheld


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_the_first_signal_waits_for_the_step(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with postponed() as interrupt:
        assert interrupt.asked is None
        signal.raise_signal(number)
        assert interrupt.asked == number
        assert not interrupt.insisted
        with pytest.raises(SystemExit) as ended:
            interrupt.leave()
    assert ended.value.code == code
    assert signal.getsignal(number) is before


def test_ctrl_c_twice_stops_at_once() -> None:
    with postponed() as interrupt:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert interrupt.insisted


def test_torchrun_passing_ctrl_c_on_is_not_the_user_insisting() -> None:
    with postponed() as interrupt:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert (interrupt.asked, interrupt.insisted) == (signal.SIGINT, False)


def test_where_nothing_can_be_half_done_the_first_is_obeyed() -> None:
    with postponed() as interrupt:
        interrupt.at_once = True
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert (interrupt.asked, interrupt.insisted) == (signal.SIGTERM, False)


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    result = []

    def work() -> None:
        with postponed() as interrupt:
            result.extend([interrupt.asked, signal.getsignal(signal.SIGINT)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert result == [None, before]


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with postponed() as interrupt:
            signal.raise_signal(signal.SIGHUP)
            assert interrupt.asked is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_are_heeded_as_ctrl_c_is(number: signal.Signals, code: int) -> None:
    ending = (signal.SIGTERM, signal.SIGHUP)
    before = {other: signal.signal(other, signal.SIG_DFL) for other in ending}
    try:
        heed()
        with pytest.raises(Stopped) as raised:
            signal.raise_signal(number)
        assert exit_code(raised.value) == code
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        heed()
        signal.raise_signal(signal.SIGHUP)  # nohup has the last word
    finally:
        for other, handler in before.items():
            signal.signal(other, handler)


def test_ctrl_c_gives_130() -> None:
    assert exit_code(KeyboardInterrupt()) == exit_code(None) == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_is_only_starting_ends_in_order(number: signal.Signals, code: int) -> None:
    with withheld():
        process = subprocess.Popen(
            [sys.executable, "-m", "wsss_cli", "--version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    process.send_signal(number)
    assert process.communicate() == ("", "wsss: interrupted\n")
    assert process.returncode == code
