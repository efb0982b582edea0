from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource
import numpy as np
from wsss_cli import memory
{setting}
def touched():
    array = np.ones(64 << 20, np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del array
    array = np.ones(64 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
touched()
print(touched())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_freed_memory_is_used_again() -> None:
    """Pages that the kernel has to provide for an array of 64 MiB, after one that was freed."""

    def pages(setting: str) -> int:
        code = COUNT.format(setting=setting)
        return int(subprocess.check_output([sys.executable, "-c", code]))

    given_back = pages("")
    if not given_back:
        pytest.skip("this C library or kernel does not count them")
    assert pages("memory.keep_freed()") < given_back / 10
