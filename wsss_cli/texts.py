"""Files that people or other programs wrote: opened without waiting, texts read within a bound."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from typing import TextIO

_MOST = 1 << 24  # bytes of a file that is read whole
_LONGEST = 1 << 20  # characters of a line of a list
# Streams that are open already, as the shell names those of `<(…)`: they have a writer, or end.
_OPEN_STREAM = re.compile(r"/dev/stdin|/dev/fd/\d+|/proc/(?:self|\d+)/fd/\d+")


_NO_FILE = "not a regular file, but a folder, a pipe or a device"


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


def check_ends(path: str | os.PathLike[str], *, stream: bool = False) -> None:
    """Raise ValueError for what is no file: opening a pipe waits for its writer, for ever if there
    is none, and a device may never end.

    Args:
        path: what will be opened.
        stream: let a pipe pass that the shell has opened, such as ``<(…)`` or ``/dev/stdin``; for
            what is read once, from its beginning to its end.

    Raises:
        OSError: there is nothing there.
    """
    mode = os.stat(path).st_mode
    is_open = stream and _OPEN_STREAM.fullmatch(os.fspath(path)) is not None
    if not stat.S_ISREG(mode) and not (is_open and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))):
        raise ValueError(_NO_FILE)


def read_bytes(path: str | os.PathLike[str], *, most: int = _MOST) -> bytes:
    """The content of a file.

    Args:
        path: the file; a pipe or a device is refused.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read.
        ValueError: no file, or too long.
    """
    with open_regular(path) as stream:
        if (size := os.fstat(stream.fileno()).st_size) > most:
            raise ValueError(f"{size:,} bytes, more than such a file can have")
        content = stream.read(most + 1)  # it may grow, or have a size that says nothing
    if len(content) > most:
        raise ValueError(f"more than {most:,} bytes, more than such a file can have")
    return content


def read_text(path: str | os.PathLike[str], *, most: int = _MOST, encoding: str = "utf-8") -> str:
    """The text of a file; see :func:`read_bytes`.

    Args:
        path: the file.
        most: bytes that it may have.
        encoding: ``utf-8``, or ``utf-8-sig`` for one that may begin with a byte-order mark.

    Raises:
        OSError: it cannot be read.
        ValueError: no file, too long, or no such text.
    """
    return read_bytes(path, most=most).decode(encoding)


def lines(stream: TextIO) -> Iterator[str]:
    """The lines of a list of any length, as they come.

    Raises:
        ValueError: one is so long that it is none: zeros, or the content of another file.
    """
    while line := stream.readline(_LONGEST):
        if len(line) == _LONGEST and not line.endswith(("\n", "\r")):
            raise ValueError(f"a line of more than {_LONGEST:,} characters; it is no list")
        yield line
