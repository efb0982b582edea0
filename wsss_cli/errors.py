"""Errors whose text is written for the user: one line saying what, where and what to do."""

from __future__ import annotations


class WsssError(Exception):
    """Something the user can mend: a bad file, a bad record, a failed write."""

    exit_code = 1


class ConfigurationError(WsssError):
    """Wrong usage or configuration, found before any work began."""

    exit_code = 2


def describe(error: BaseException) -> str:
    """The text of ``error`` as one line, system errors with their file name.

    >>> describe(FileNotFoundError(2, "No such file or directory", "a.png"))
    'a.png: No such file or directory'
    """
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        # Nothing is ever refused for being there, except a file where a folder must be.
        what = "not a folder" if isinstance(error, FileExistsError) else error.strerror
        text = f"{where}{what}"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())
