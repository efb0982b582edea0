"""Tables of labels, one line a photograph: CSV in many forms, JSON lines, and the dicts of PSA.

a.jpg,cat dog                                   labels in a cell, by space, comma, semicolon or bar
file_name,label   filename,cat,dog              with a header; a column a class, 0 or 1
{"file_name": "a.jpg", "label": "cat"}          metadata.jsonl of Hugging Face
cls_labels.npy                                  {id: [0, 1, …]}, as repositories pass it around
"""

from __future__ import annotations

import ast
import csv
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsss_cli import console
from wsss_cli.datasets._paths import open_list
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.pickled import read_dict

OnError = Callable[[str], None]
Row = tuple[str, str, list[str] | None]  # place, file, labels

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_USUAL = ("labels.csv", "metadata.csv", "metadata.jsonl")  # names, in order of preference
_FILE_COLUMN = ("file", "filename", "file_name", "image", "path")
_HUGGING_FACE = "file_name"  # its labels may have spaces, which separate nothing
_LABEL_COLUMN = ("label", "labels", "class", "classes")
_MISSING = ("None", "nan", "NaN", "null", "NULL", "<NA>")  # of Python, pandas, JSON and SQL
_MOST_TOLD = 10  # keys in a message
_YES, _NO = ("1", "1.0", "true"), ("0", "0.0", "-1", "-1.0", "false")


def usual_table(root: str) -> str | None:
    """The table with a usual name in a folder of photographs, or None."""
    return next((name for name in _USUAL if os.path.isfile(os.path.join(root, name))), None)


def read_table(
    path: str,
    on_error: OnError,
    *,
    column: str | None = None,
    classes: Sequence[str] | None = None,
    numbers: bool = False,
) -> Iterator[Row]:
    """Files and labels from a table: JSON lines (.json, .jsonl, .ndjson), .npy, or else CSV.

    A line of CSV is a file and its labels: ``photos/a 1.jpg,cat dog``. Labels are separated by
    spaces, or by semicolons if the cell has one, else by bars or commas: ``a.jpg,traffic light;``,
    ``a.jpg,"traffic light,car"``; or the cell is a list in brackets. With nothing after the comma
    the photograph shows no class; without the comma it is unlabelled.

    A first line with a cell file (or filename, file_name, image, path) is a header; the labels are
    then in the column label (or labels, class, classes), and other columns are skipped. Without
    such a column each of the others is a class, with 1 for the photographs that show it, else 0
    or -1. In a table of Hugging Face, whose files are in ``file_name``, spaces separate nothing.
    Without a header all columns after the first hold labels. Columns are separated by
    commas, or by tabs or semicolons if the first line has no comma. Names with commas are in double
    quotes.

    JSON lines have the same keys; labels are a text, which is split as a cell is, or a list of
    them, none if the key is absent.
    A .npy is a pickled dict from ids to as many numbers as there are classes, as PSA's
    ``cls_labels.npy``; nothing but arrays and texts is made of it.

    Args:
        path: the table, UTF-8 with or without a byte order mark.
        on_error: called with the line ``place: problem`` for each line that cannot be read.
        column: name of the column or key with the labels, in place of those above.
        classes: names of the numbers of a .npy, in their order.
        numbers: whether labels are numbers, so that a list in a cell may hold them: ``[0, 1]``.

    Yields:
        The place in the table as ``path:line``, the file, and its labels or None. The files of a
        .npy have no suffix.

    Raises:
        ConfigurationError: the table cannot be read, has no column or key of labels, or is a .npy
            without classes; it has no lines but a header.
    """
    wrong = 0

    def tell(problem: str) -> None:
        nonlocal wrong
        wrong += 1
        on_error(problem)

    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".npy":
        rows = _from_npy(path, tell, classes)
    elif suffix in JSON_SUFFIXES:
        rows = _from_json(path, tell, column, numbers)
    else:
        rows = _from_csv(path, tell, column, numbers)
    is_empty = True
    for row in rows:
        is_empty = False
        yield row
    if is_empty and not wrong:
        raise ConfigurationError(f"{path}: an empty table: it lists no photographs")


# ---- CSV -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """Where the parts of a row stand.

    Attributes:
        file: number of the column of files.
        labels: numbers of the columns of labels; None: all after the first.
        classes: by column, the class whose 0 or 1 it holds; empty if labels are names.
        spaces: whether spaces separate labels.
        numbers: whether labels are numbers, so that a list may hold them.
    """

    file: int = 0
    labels: Sequence[int] | None = None
    classes: tuple[tuple[int, str], ...] = ()
    spaces: bool = True
    numbers: bool = False

    def of(self, row: Sequence[str]) -> tuple[str, list[str] | None]:
        """File and labels in a row; WsssError for a cell that is neither."""
        name = row[self.file].strip() if self.file < len(row) else ""
        if self.classes:
            return name, [each for at, each in self.classes if _is_shown(row, at, each)]
        cells = row[1:] if self.labels is None else [row[at] for at in self.labels if at < len(row)]
        if not cells:
            return name, None
        return name, _labels(cells, spaces=self.spaces, numbers=self.numbers)


def _from_csv(path: str, on_error: OnError, column: str | None, numbers: bool) -> Iterator[Row]:
    with open_list(path) as lines:
        first = next(lines, "")
        separator = next((mark for mark in ",\t;" if mark in first), ",")
        rows = csv.reader(itertools.chain([first], lines), delimiter=separator, strict=True)
        columns: _Columns | None = None
        good = 0
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
            where = f"{path}:{rows.line_num}"
            if any("\udc80" <= letter <= "\udcff" for cell in row for letter in cell):
                on_error(f"{where}: not UTF-8; save the table as UTF-8")
                continue
            if columns is None:
                columns = _header(row, path, column, numbers=numbers)
                if columns is not None:
                    continue
                columns = _Columns(numbers=numbers)
            try:
                name, labels = columns.of(row)
            except WsssError as error:
                if columns.classes and not good:  # they are no columns of classes
                    raise ConfigurationError(
                        f"{path}: the header names no column 'labels', and {error}"
                    ) from error
                on_error(f"{where}: {error}")
                continue
            good += 1
            yield where, name, labels


def _header(row: Sequence[str], path: str, column: str | None, *, numbers: bool) -> _Columns | None:
    """The columns that a row names; None if it is no header."""
    names = [cell.strip() for cell in row]
    files = [at for at, name in enumerate(names) if name.lower() in _FILE_COLUMN]
    if not files:
        if column is not None:
            raise ConfigurationError(f"{path}: --label-column: no header, with a column 'file'")
        return None
    file = files[0]
    spaces = names[file].lower() != _HUGGING_FACE
    if column is not None:
        if column not in names:
            raise ConfigurationError(f"{path}: no column '{column}': {', '.join(names)}")
        return _Columns(file, [names.index(column)], spaces=spaces, numbers=numbers)
    if labels := [at for at, name in enumerate(names) if name.lower() in _LABEL_COLUMN]:
        return _Columns(file, labels, spaces=spaces, numbers=numbers)
    classes = tuple((at, name) for at, name in enumerate(names) if at != file and name)
    if not classes:
        raise ConfigurationError(f"{path}: the header names no column 'labels', and no classes")
    return _Columns(file, classes=classes)


def _is_shown(row: Sequence[str], at: int, name: str) -> bool:
    """Whether a cell of the column of a class says yes."""
    cell = row[at].strip() if at < len(row) else ""
    if cell.lower() not in (*_YES, *_NO):
        raise WsssError(
            f"the column '{name}' holds '{cell[:40]}', neither 0 nor 1; --label-column names the "
            "column of labels"
        )
    return cell.lower() in _YES


def _labels(cells: Sequence[str], *, spaces: bool, numbers: bool) -> list[str]:
    """The labels in some cells, each once."""
    labels: list[str] = []
    for cell in cells:
        if (text := cell.strip()).startswith("[") and text.endswith("]"):
            labels += _listed(text, numbers=numbers)
            continue
        mark = next((mark for mark in ";|," if mark in cell), None if spaces else "\n")
        names = [name.strip() for name in cell.split(mark)]
        if missing := [name for name in names if name in _MISSING]:
            raise WsssError(
                f"'{missing[0]}' is what programs write for no value: leave the cell empty if the "
                f"photograph shows no class; write ['{missing[0]}'] if a class has this name"
            )
        labels += names
    return _each_once(labels)


def _listed(text: str, *, numbers: bool) -> list[str]:
    """The names, or numbers, in a list as JSON or Python writes it."""
    try:
        names = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise WsssError(f"no list of labels: {text[:60]}") from error
    if not isinstance(names, list) or not all(
        isinstance(name, str) or (numbers and type(name) is int) for name in names
    ):
        raise WsssError(f"no list of labels: {text[:60]}")
    return [str(name).strip() for name in names]


def _each_once(names: Iterable[str]) -> list[str]:
    """The names but the empty ones; WsssError for one that can be no name."""
    labels = list(dict.fromkeys(filter(None, names)))
    if hidden := [name for name in labels if not name.isprintable()]:
        raise WsssError(f"the label {hidden[0][:40]!a} holds a character that does not show")
    return labels


# ---- JSON lines ----------------------------------------------------------------------------------


def _from_json(path: str, on_error: OnError, column: str | None, numbers: bool) -> Iterator[Row]:
    """The rows; ConfigurationError, before the first, if no line has a key of labels."""
    keys = _LABEL_COLUMN if column is None else (column,)
    waiting: list[Row] = []  # before the first line with such a key
    others: dict[str, None] = {}
    is_known = False
    with open_list(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("no object")
                file = next((key for key in _FILE_COLUMN if key in row), None)
                text = None if file is None else row[file]
                given = next((row[key] for key in keys if row.get(key) is not None), None)
                labels = _named(given, spaces=file != _HUGGING_FACE, numbers=numbers)
            except (ValueError, RecursionError, WsssError) as error:
                # One that is no label is of a table that has labels.
                is_known = is_known or isinstance(error, WsssError)
                on_error(f"{where}: not a line of JSON with a file and labels: {describe(error)}")
                continue
            waiting.append((where, text if isinstance(text, str) else "", labels))
            if is_known := is_known or any(key in row for key in keys):
                yield from waiting
                waiting.clear()
            elif len(others) < _MOST_TOLD:
                others.update(dict.fromkeys(itertools.islice(row, _MOST_TOLD)))
    if waiting and not is_known:
        has = console.listed([f"'{key[:40]}'" for key in others], _MOST_TOLD)
        if column is not None:
            raise ConfigurationError(
                f"{path}: --label-column: no line has '{column}', but {has}", option="label_column"
            )
        raise ConfigurationError(
            f"{path}: no line has a key 'labels', 'label', 'classes' or 'class', but {has}; "
            "--label-column names that of the labels, and --unlabelled in place of the table does "
            "without"
        )
    yield from waiting


def _named(given: Any, *, spaces: bool, numbers: bool) -> list[str] | None:
    """Labels from a value of JSON; a text is a cell."""
    if given is None:
        return None
    if isinstance(given, str):
        return _labels([given], spaces=spaces, numbers=numbers)
    names = given if isinstance(given, list) else [given]
    if not all(isinstance(name, str) or type(name) is int for name in names):
        raise WsssError(f"labels are {str(given)[:40]}, not names")
    return _each_once(str(each).strip() for each in names)


# ---- dicts ---------------------------------------------------------------------------------------


def _from_npy(path: str, on_error: OnError, classes: Sequence[str] | None) -> Iterator[Row]:
    if classes is None:
        raise ConfigurationError(
            f"{path}: numbers without names: --classes names them in their order"
        )
    try:
        table = read_dict(path)
    except WsssError as error:
        raise ConfigurationError(str(error)) from error
    for name, given in table.items():
        where = f"{path}: {str(name)[:80]}"
        # A list of lists of the same lists would become an array without end.
        is_nested = isinstance(given, list | tuple) and not all(map(np.isscalar, given))
        values = np.asarray(None if is_nested or isinstance(given, dict) else given)
        if not isinstance(name, str):
            on_error(f"{where}: an id that is no text")
        elif values.shape != (len(classes),):
            on_error(f"{where}: {values.size} numbers for {len(classes)} classes")
        elif values.dtype.kind not in "iufb" or not np.isin(values, (0, 1)).all():
            on_error(f"{where}: neither 0 nor 1")
        else:
            yield where, name, [each for each, shown in zip(classes, values, strict=True) if shown]
