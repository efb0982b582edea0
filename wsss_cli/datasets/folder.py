"""Any folder of photographs as a data set: labels from sub-folders, from a CSV, or none at all."""

from __future__ import annotations

import csv
import itertools
import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from wsss_cli.datasets._paths import IMAGE_SUFFIXES, below, open_text
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.records import Record, check_id

_FILE_COLUMN = ("file", "filename", "image", "path")
_LABEL_COLUMN = ("label", "labels", "class", "classes")

OnError = Callable[[str], None]


def folder_records(
    root: str | Path,
    on_error: OnError,
    *,
    table: str | Path | None = None,
    unlabelled: bool = False,
    masks: str | Path | None = None,
    saliency: str | Path | None = None,
) -> Iterator[Record]:
    """Records of the photographs below ``root``, in the order of their names or of the table.

    The id is the path below ``root`` without its suffix. Hidden files and folders are passed over.
    At most the names in one folder (and the folders it lies in) are in memory at a time.

    Args:
        root: the folder.
        on_error: called with ``what: what is wrong`` for each photograph left out.
        table: CSV file with the labels, see :func:`read_table`; relative to ``root`` or to the
            working directory. Only the photographs that it names are taken.
        unlabelled: take all photographs, without labels. By default the sub-folder of ``root`` that
            a photograph lies in is its label.
        masks: folder of true masks, relative to ``root`` or to the working directory: ID.png, or a
            PNG of the photograph's name alone. A record without one has no ``mask``.
        saliency: the same for saliency maps.

    Raises:
        ConfigurationError: a folder or file is not there, there are no photographs, or no
            sub-folders that could be labels.
    """
    root = str(Path(root))
    folders = {
        key: below(root, given, f"--{option}")
        for key, option, given in (("mask", "masks", masks), ("saliency", "saliency", saliency))
        if given is not None
    }
    if table is not None:
        found = read_table(below(root, table, "--csv", folder=False), on_error)
        pictures = _existing(root, found, on_error)
    else:
        pictures = _walk_labelled(root, set(folders.values()), unlabelled, on_error)
    for name, labels in pictures:
        record: Record = {"id": os.path.splitext(name)[0], "image": os.path.join(root, name)}
        if labels is not None:
            record["labels"] = labels
        for key, folder in folders.items():
            for end in (record["id"], posixpath.basename(record["id"])):
                if os.path.isfile(path := f"{folder}/{end}.png"):
                    record[key] = path
                    break
        yield record


# ---- sub-folders ---------------------------------------------------------------------------------


def _walk_labelled(
    root: str, excluded: set[str], unlabelled: bool, on_error: OnError
) -> Iterator[tuple[str, list[str] | None]]:
    """Path below ``root`` and labels of each photograph found there."""
    identities = frozenset(_identity(folder) for folder in excluded)
    is_labelled = not unlabelled
    if is_labelled and not any(
        entry.is_dir()
        and not entry.name.startswith(".")
        and _identity(entry.path) not in identities
        for entry in os.scandir(root)
    ):
        raise ConfigurationError(
            f"{root}: no sub-folders that could be labels; name a table of labels with --csv, "
            "or take the photographs without labels with --unlabelled"
        )
    found = False
    for name in _walk(root, "", identities, on_error):
        found = True
        label, is_inside, _ = name.partition("/")
        if is_labelled and not is_inside:
            on_error(f"{name}: lies in no sub-folder, so it has no label")
        else:
            yield name, [label] if is_labelled else None
    if not found:
        raise ConfigurationError(f"{root}: no photographs in it ({', '.join(IMAGE_SUFFIXES)})")


def _walk(
    root: str, inner: str, passed: frozenset[tuple[int, int]], on_error: OnError
) -> Iterator[str]:
    """Paths below ``root`` of all photographs in its folder ``inner``, sorted, each id once.

    ``passed`` holds the folders not to enter: those that are left out, and those that this one lies
    in, lest a link to one of them lead round in circles.
    """
    folder = os.path.join(root, inner)
    try:
        passed |= {_identity(folder)}
        with os.scandir(folder) as entries:
            names = sorted(
                (entry.name, entry.is_dir())
                for entry in entries
                if not entry.name.startswith(".")
                and (entry.name.lower().endswith(IMAGE_SUFFIXES) or entry.is_dir())
            )
    except OSError as error:
        on_error(describe(error))
        return
    taken: dict[str, str] = {}
    for name, is_folder in names:
        path = inner + name
        if is_folder:
            if _identity(os.path.join(root, path)) not in passed:
                yield from _walk(root, path + "/", passed, on_error)
            continue
        stem = os.path.splitext(name)[0]
        if (first := taken.setdefault(stem, name)) != name:
            on_error(f"{path}: {first} has the same name but for the suffix; move or rename one")
            continue
        try:
            check_id(inner + stem)
        except WsssError as error:
            on_error(f"{path}: {error}")
            continue
        yield path


def _identity(folder: str) -> tuple[int, int]:
    """What two names of the same folder have in common."""
    found = os.stat(folder)
    return found.st_dev, found.st_ino


# ---- the table -----------------------------------------------------------------------------------


def read_table(path: str, on_error: OnError) -> Iterator[tuple[str, str, list[str] | None]]:
    """Where, file and labels of each line of a table, UTF-8 with or without a byte order mark.

    A line is a file and its labels: ``photos/a 1.jpg,cat dog``. Labels are separated by spaces, or
    by semicolons if there is one: ``a.jpg,traffic light;car``, ``a.jpg,traffic light;``. No labels
    after the comma mean that the photograph shows none; without the comma it is unlabelled.

    A first line whose cells include file (or filename, image, path) is a header; the labels are
    then in the column label (or labels, class, classes) and other columns are passed over. Without
    a header all columns after the first hold labels. Columns are separated by commas, or by tabs
    or semicolons if the first line has no comma. Names with commas stand in double quotes.

    Raises:
        ConfigurationError: a header without a column of labels.
    """
    with open_text(path) as stream:
        first = stream.readline()
        separator = next((mark for mark in ",\t;" if mark in first), ",")
        rows = csv.reader(itertools.chain([first], stream), delimiter=separator)
        columns: tuple[int, Sequence[int] | None] = 0, None
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                on_error(f"{path}:{rows.line_num}: {describe(error)}")
                continue
            if not any(cell.strip() for cell in row):
                continue
            if rows.line_num == 1 and (header := _header(row, path)):
                columns = header
                continue
            file, labels = columns
            cells = row[1:] if labels is None else [row[at] for at in labels if at < len(row)]
            name = row[file].strip() if file < len(row) else ""
            yield f"{path}:{rows.line_num}", name, _labels(cells) if cells else None


def _header(row: Sequence[str], path: str) -> tuple[int, Sequence[int]] | None:
    """Numbers of the columns of files and of labels, or None if this is no header."""
    names = [cell.strip().lower() for cell in row]
    files = [at for at, name in enumerate(names) if name in _FILE_COLUMN]
    if not files:
        return None
    labels = [at for at, name in enumerate(names) if name in _LABEL_COLUMN]
    if not labels:
        raise ConfigurationError(f"{path}: the header names no column 'labels'")
    return files[0], labels


def _labels(cells: Sequence[str]) -> list[str]:
    found: list[str] = []
    for cell in cells:
        parts = cell.split(";") if ";" in cell else cell.split()
        found += [name for part in parts if (name := part.strip())]
    return list(dict.fromkeys(found))


def _existing(
    root: str, rows: Iterator[tuple[str, str, list[str] | None]], on_error: OnError
) -> Iterator[tuple[str, list[str] | None]]:
    """Path below ``root`` and labels of the rows whose photographs are there."""
    last = ""
    for where, given, labels in rows:
        name = posixpath.normpath(given)
        try:
            if not given:
                raise WsssError("no file name")
            check_id(name)
            if not os.path.isfile(os.path.join(root, name)):
                raise WsssError(f"no such image: {os.path.join(root, name)}")
            if (stem := os.path.splitext(name)[0]) == last:
                raise WsssError(f"{name} again; put all its labels on one line")
        except WsssError as error:
            on_error(f"{where}: {error}")
            continue
        last = stem
        yield name, labels
