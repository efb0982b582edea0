"""Errors with a text for the user: one line that names the problem, the place and the remedy."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

# Of a system error after which no later file can be written either.
STOPS_EVERYTHING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class WsssError(Exception):
    """A problem that the user can solve: a bad file, a bad record, a failed write."""

    exit_code = 1


class ConfigurationError(WsssError):
    """Wrong usage or configuration, detected before any work starts.

    Args:
        text: the problem, the place and the remedy.
        option: name of the command's option whose value is at fault, as in ``freeze_until``; the
            line of the settings file that it stands in is told too.
    """

    exit_code = 2

    def __init__(self, text: str = "", *, option: str | None = None) -> None:
        super().__init__(text)
        self.option = option


@contextmanager
def of_option(name: str) -> Iterator[None]:
    """Lay every ConfigurationError of the block to an option of the command."""
    try:
        yield
    except ConfigurationError as error:
        error.option = error.option or name
        raise


def describe(error: BaseException) -> str:
    """The text of ``error`` in one line; system errors with their file name.

    >>> describe(FileNotFoundError(2, "No such file or directory", "a.png"))
    'a.png: No such file or directory'
    """
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        # Only making a folder fails because something exists: a file is in its place.
        reason = "not a folder" if isinstance(error, FileExistsError) else error.strerror
        text = f"{where}{reason}"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())
