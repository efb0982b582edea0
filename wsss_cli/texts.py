"""Small text files that people or other programs wrote: read whole, so with a bound."""

from __future__ import annotations

import os
import stat

_MOST = 1 << 24  # bytes


def read_text(path: str | os.PathLike[str], *, most: int = _MOST, encoding: str = "utf-8") -> str:
    """The text of a file.

    Args:
        path: the file; a pipe or a device, which may never end, is refused.
        most: bytes that it may have.
        encoding: ``utf-8``, or ``utf-8-sig`` for one that may begin with a byte-order mark.

    Raises:
        OSError: it cannot be read.
        ValueError: no file, too long, or no such text.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a file, but a folder, a pipe or a device")
    if status.st_size > most:
        raise ValueError(f"{status.st_size:,} bytes, more than such a file can have")
    with open(path, encoding=encoding) as stream:
        return stream.read()
