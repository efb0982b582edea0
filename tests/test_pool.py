"""Worker processes: whose Ctrl-C is."""

from __future__ import annotations

import signal

import pytest

from wsss_cli.pool import ProcessPool


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_processes_are_born_deaf_to_ctrl_c(start: str) -> None:
    """From their first instruction on: a traceback while they import would reach the user."""
    with ProcessPool(1, start=start) as pool:
        blocked = pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result()
        assert signal.SIGINT in blocked
        assert pool.submit(divmod, 7, 2).result() == (3, 1)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
