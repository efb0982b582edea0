"""Text files that people or other programs wrote: opened without waiting, read within a bound."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from typing import TextIO

_MOST = 1 << 24  # bytes of a file that is read whole
_LONGEST = 1 << 20  # characters of a line of a list
# Streams that are open already, as the shell names those of `<(…)`: they have a writer, or end.
_OPEN_STREAM = re.compile(r"/dev/stdin|/dev/fd/\d+|/proc/(?:self|\d+)/fd/\d+")


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
        raise ValueError("not a file, but a folder, a pipe or a device")


def read_bytes(path: str | os.PathLike[str], *, most: int = _MOST) -> bytes:
    """The content of a file.

    Args:
        path: the file; a pipe or a device is refused.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read.
        ValueError: no file, or too long.
    """
    check_ends(path)
    if (size := os.stat(path).st_size) > most:
        raise ValueError(f"{size:,} bytes, more than such a file can have")
    with open(path, "rb") as stream:
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
