"""How the C library keeps the memory that arrays and tensors free."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_ALL = (1 << 31) - 1


def keep_freed() -> None:
    """Keep freed memory for what comes next instead of giving it back to the kernel.

    By default glibc maps each large array anew, and the kernel clears its pages at the first touch.
    Where arrays of the same sizes come again and again, such as the activations of each step of a
    training, that takes longer than some of the work itself. The process then keeps the most memory
    that it ever needed. Does nothing where the C library is not glibc.
    """
    if sys.platform == "linux":
        adjust = getattr(ctypes.CDLL(None), "mallopt", None)
        if adjust is not None:
            adjust(_M_MMAP_MAX, 0)
            adjust(_M_TRIM_THRESHOLD, _ALL)
