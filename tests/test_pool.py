"""Worker processes: whose Ctrl-C is."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsss_cli.pool import ProcessPool, in_threads


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_processes_are_born_deaf_to_ctrl_c(start: str) -> None:
    """From their first instruction on: a traceback while they import would reach the user."""
    with ProcessPool(1, start=start) as pool:
        blocked = pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result()
        assert signal.SIGINT in blocked
        assert not {signal.SIGTERM, signal.SIGHUP} & blocked  # they must be able to die
        assert pool.submit(divmod, 7, 2).result() == (3, 1)
    assert not {signal.SIGINT, signal.SIGTERM} & signal.pthread_sigmask(signal.SIG_BLOCK, [])


POOL = """
import sys, time
from wsss_cli.pool import ProcessPool
if __name__ == "__main__":
    pool = ProcessPool(2, start=sys.argv[1])
    print(pool.submit(divmod, 7, 2).result(), flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("start", ["spawn", "fork"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_killed_pool_says_nothing_of_semaphores(
    tmp_path: Path, start: str, number: signal.Signals
) -> None:
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    tool = subprocess.Popen(
        [sys.executable, str(script), start],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tool.stdout is not None
    assert tool.stdout.readline() == "(3, 1)\n"
    tool.send_signal(number)
    _, said = tool.communicate(timeout=30)  # its end: workers and tracker hold the pipe too
    assert tool.returncode == -number
    assert said == ""


def test_threads_keep_the_order_and_take_no_more_than_they_hold() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while taken < 10_000:
            taken += 1
            yield taken

    results = in_threads(lambda number: number * number, items(), threads=3)
    assert [next(results) for _ in range(5)] == [1, 4, 9, 16, 25]
    assert taken < 1000
    assert list(results)[-1] == 10_000**2
    assert list(in_threads(str, [1, 2], threads=0)) == ["1", "2"]
