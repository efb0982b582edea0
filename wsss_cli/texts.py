"""Files that people or other programs wrote: never waited for, and texts with a bound."""

from __future__ import annotations

import io
import os
import stat

_MOST = 1 << 24  # bytes


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """A file to read from. A pipe waits for its writer and a device may never end: neither is one.

    Raises:
        OSError: it cannot be opened.
        ValueError: no regular file, or no path.
    """
    try:
        stream = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - given to the caller
    except IsADirectoryError:
        raise ValueError(_NO_FILE) from None
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise ValueError(_NO_FILE)
    return stream


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


_NO_FILE = "not a regular file, but a folder, a pipe or a device"


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
    with open_regular(path) as stream:
        length = os.fstat(stream.fileno()).st_size
        if length > most:
            raise ValueError(f"{length:,} bytes, more than such a file can have")
        with io.TextIOWrapper(stream, encoding=encoding) as text:
            return text.read()
