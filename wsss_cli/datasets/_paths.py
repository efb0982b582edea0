"""Files of a data set: looking them up and opening them, for the readers of data sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

from wsss_cli.errors import ConfigurationError, describe

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")


def find_image(path: str) -> str | None:
    """The image file ``path`` plus one of the known suffixes, or None if there is none."""
    for suffix in IMAGE_SUFFIXES:
        for cased in (suffix, suffix.upper()):
            if os.path.isfile(path + cased):
                return path + cased
    return None


def open_text(path: str) -> TextIO:
    """Open a list or table for reading: UTF-8 with or without a byte order mark.

    Bytes that are not UTF-8 become lone surrogates, so that only the ids that contain them are
    refused.

    Raises:
        ConfigurationError: it cannot be opened.
    """
    try:
        return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise ConfigurationError(f"cannot read {describe(error)}") from error


def below(root: str, given: str | Path, option: str, *, folder: bool = True) -> str:
    """Path of a folder or file named by an option: relative to ``root``, or else as given.

    Args:
        root: folder of the data set.
        given: value of the option.
        option: its name, for the error.
        folder: whether it must be a folder.

    Raises:
        ConfigurationError: it is in neither place.
    """
    for path in (os.path.join(root, given), str(given)):
        if os.path.isdir(path) if folder else os.path.exists(path) and not os.path.isdir(path):
            return path
    kind = "folder" if folder else "file"
    raise ConfigurationError(f"{option} {given}: no such {kind}, neither here nor in {root}")
