"""Finding the files of a data set, for the readers of data sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

from wsss_cli.errors import ConfigurationError, describe

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")


def find_image(path: str) -> str | None:
    """The picture that is called ``path`` but for its suffix, or None."""
    for suffix in IMAGE_SUFFIXES:
        for cased in (suffix, suffix.upper()):
            if os.path.isfile(path + cased):
                return path + cased
    return None


def open_text(path: str) -> TextIO:
    """A list or table to read: UTF-8 with or without a byte order mark.

    Bytes that are no UTF-8 become lone surrogates, so that only the ids they are in are refused.

    Raises:
        ConfigurationError: it cannot be opened.
    """
    try:
        return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise ConfigurationError(f"cannot read {describe(error)}") from error


def below(root: str, given: str | Path, option: str, *, folder: bool = True) -> str:
    """A folder or file that an option names: relative to ``root``, or else as it stands.

    Raises:
        ConfigurationError: it is at neither place.
    """
    for path in (os.path.join(root, given), str(given)):
        if os.path.isdir(path) if folder else os.path.exists(path) and not os.path.isdir(path):
            return path
    what = "folder" if folder else "file"
    raise ConfigurationError(f"{option} {given}: no such {what}, neither here nor in {root}")
