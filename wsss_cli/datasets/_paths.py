"""Files of a data set: looking them up and opening them, for the readers of data sets."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.records import not_output
from wsss_cli.texts import check_ends, lines

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
# Pictures that are not read, so that a folder of them is not taken for an empty one.
OTHER_SUFFIXES = (
    *(".heic", ".heif", ".avif", ".gif", ".jxl", ".jp2", ".svg", ".psd", ".pgm", ".pbm", ".tga"),
    *(".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".rw2", ".orf"),
)


def find_image(path: str) -> str | None:
    """The image file ``path`` plus one of the known suffixes, or None if there is none."""
    for suffix in IMAGE_SUFFIXES:
        for cased in (suffix, suffix.upper()):
            if os.path.isfile(path + cased):
                return path + cased
    return _mixed_case(path)


def _mixed_case(path: str) -> str | None:
    """The image file ``path`` plus a suffix such as ``.Jpg``."""
    folder, name = os.path.split(path)
    try:
        found = _listed(folder or ".", os.stat(folder or ".").st_mtime_ns)
    except OSError:
        return None
    return os.path.join(folder, found[name]) if name in found else None


@lru_cache(maxsize=16)
def _listed(folder: str, changed: int) -> dict[str, str]:
    """Images in a folder with suffixes such as ``.Jpg``, by their names without it."""
    return {
        os.path.splitext(name)[0]: name
        for name in sorted(os.listdir(folder), reverse=True)
        if (suffix := os.path.splitext(name)[1]).lower() in IMAGE_SUFFIXES
        and suffix not in (suffix.lower(), suffix.upper())
    }


def find_maps(path: str) -> str | None:
    """The activation maps ``path.npz`` or ``path.npy``, or None if there are none.

    Raises:
        WsssError: there are both.
    """
    found = [path + suffix for suffix in (".npz", ".npy") if os.path.isfile(path + suffix)]
    if len(found) > 1:
        raise WsssError(f"{found[0]} or {found[1]}? move one of them away")
    return found[0] if found else None


def same_but_for_case(path: str) -> str | None:
    """The image ``path``, or that with the same suffix in other letters: a.Jpg for a.jpg."""
    if os.path.isfile(path):
        return path
    stem, suffix = os.path.splitext(path)
    for cased in (suffix.lower(), suffix.upper()):
        if os.path.isfile(stem + cased):
            return stem + cased
    found = _mixed_case(stem)
    return found if found and found.lower().endswith(suffix.lower()) else None


@contextmanager
def open_list(path: str) -> Iterator[Iterator[str]]:
    """The lines of a list or table, one by one: UTF-8 with or without a byte order mark.

    Bytes that are not UTF-8 become lone surrogates, so that only the ids that contain them are
    refused.

    Raises:
        ConfigurationError: it cannot be opened; it is a named pipe, which may have no writer, or a
            device; or, while it is read, a line is no line.
    """
    with _opened(path) as stream:
        not_output(stream, path)
        yield _each(stream, path)


def _opened(path: str) -> TextIO:
    try:
        check_ends(path, stream=True)
        return open(path, encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise ConfigurationError(f"cannot read {describe(error)}") from error
    except ValueError as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error


def _each(stream: TextIO, path: str) -> Iterator[str]:
    try:
        yield from lines(stream)
    except ValueError as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error


def check_separators(name: str, source: str, *, escaped: bool) -> None:
    r"""Raise WsssError, with the command that mends them, for folders divided as on Windows.

    Args:
        name: of a file, as ``source`` has it.
        source: path of the list or table.
        escaped: whether ``\`` stands there twice, as in JSON.
    """
    if "\\" in name:
        command = r"s#\\\\#/#g" if escaped else r"s#\\#/#g"
        raise WsssError(f"folders are named as on Windows: {mended_by(command, source)}")


def mended_by(command: str, source: str) -> str:
    """The line for a shell that makes another list or table of ``source`` by a command of sed."""
    stem, suffix = os.path.splitext(source)
    return f"sed '{command}' {shlex.quote(source)} > {shlex.quote(f'{stem}-named{suffix}')}"


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
