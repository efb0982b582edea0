"""A folder of photographs as a data set: labels from sub-folders, from a CSV file, or none."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsss_cli import console
from wsss_cli.datasets._paths import (
    IMAGE_SUFFIXES,
    OTHER_SUFFIXES,
    below,
    check_separators,
    find_image,
    find_maps,
    same_but_for_case,
)
from wsss_cli.datasets.tables import JSON_SUFFIXES, Row, read_table, usual_table
from wsss_cli.datasets.voc import labels_in_mask
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.inputs import digest
from wsss_cli.records import Record, check_id
from wsss_cli.unique import Seen

_PICTURES = (*IMAGE_SUFFIXES, *OTHER_SUFFIXES)

_BESIDE, _BESIDE_NAMES = "_mask.png", "_classes.csv"  # of Roboflow: masks, and their classes
_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")

OnError = Callable[[str], None]
Photograph = tuple[str, list[str] | None]  # path below the root, labels
Others = dict[str, tuple[int, str]]  # by suffix: how many pictures of another format, the first


def folder_records(
    root: str | Path,
    on_error: OnError,
    *,
    table: str | Path | None = None,
    column: str | None = None,
    classes: Sequence[str] | None = None,
    unlabelled: bool = False,
    keep_unlabelled: bool = False,
    merge_copies: bool = False,
    masks: str | Path | None = None,
    saliency: str | Path | None = None,
    labels_from: str | None = None,
    label_names: Sequence[str] | None = None,
    cams: str | Path | None = None,
) -> Iterator[Record]:
    """Records of the photographs below ``root``, in the order of their names or of the table.

    The id is the path below ``root`` without its suffix. Hidden files and folders are skipped. At
    most the names in a single folder and its parent folders are in memory at a time; of a table,
    all rows, and with ``merge_copies`` all names.

    Args:
        root: the folder.
        on_error: called with the line ``place: problem`` for each photograph left out.
        table: file with the labels, see :func:`read_table`; relative to ``root`` or to the working
            directory. Only the photographs in it become records.
        column: of the table, as there.
        classes: of the table, as there; with ``labels_from``, names of the numbers in the masks.
        labels_from: ``masks``: all photographs become records; their labels are the classes in
            their masks, in the order of ``classes``. One without a mask is left out with an error.
        label_names: names of the labels in the table, which are numbers counted from 0.
        unlabelled: all photographs become records, without labels. By default a photograph's label
            is the name of its sub-folder of ``root``.
        keep_unlabelled: photographs in no sub-folder, or in no row of the table, become records
            without labels. By default the former are left out with an error, the latter without.
        merge_copies: of photographs that are the same, byte for byte, only the first becomes a
            record, with the labels of all.
        masks: folder of ground-truth masks, relative to ``root`` or to the working directory, with
            files ID.png or, without the folders of the id, NAME.png. A record without such a file
            has no ``mask``. Without it, in a folder with ``_classes.csv``, as Roboflow exports it,
            NAME_mask.png beside a photograph is its mask, and no photograph.
        saliency: the same for saliency maps.
        cams: the same for activation maps, with files ID.npz or ID.npy.

    Raises:
        ConfigurationError: a folder or file does not exist, there are no photographs, or no
            sub-folders that could be labels.
    """
    root = str(Path(root))
    folders = {
        key: below(root, given, f"--{option}")
        for key, option, given in (
            ("mask", "masks", masks),
            ("saliency", "saliency", saliency),
            ("cam", "cams", cams),
        )
        if given is not None
    }
    if table is not None:
        file = _table(root, table)
        rows = read_table(file, on_error, column=column, classes=classes, numbers=bool(label_names))
        rows = _named(rows, label_names, on_error)
        photographs: Iterable[Photograph] = _existing(root, rows, on_error, table=file)
        if keep_unlabelled:
            photographs = _and_others(root, list(photographs), set(folders.values()), on_error)
    else:
        photographs = _walk_labelled(
            root,
            set(folders.values()),
            unlabelled or labels_from == "masks",
            keep_unlabelled,
            on_error,
        )
    if labels_from == "masks" and masks is None:
        photographs = list(photographs)
        if photographs and not any(_mask_beside(root, name) for name, _ in photographs):
            raise ConfigurationError(
                "--labels-from masks: no photograph has a mask beside it; name the folder of the "
                "masks: --masks DIR"
            )
    if merge_copies:
        photographs = _merged(root, list(photographs))
    repeated = _repeated(root, set(folders.values())) if folders else Seen()
    is_told = False
    for name, labels in photographs:
        record: Record = {"id": os.path.splitext(name)[0], "image": os.path.join(root, name)}
        if labels is not None:
            record["labels"] = labels
        try:
            for key, folder in folders.items():
                find = find_maps if key == "cam" else _picture
                if path := _beside(folder, record["id"], repeated, find):
                    record[key] = path
            if masks is None and (path := _mask_beside(root, name)):
                record["mask"] = path
                if not is_told:
                    names = os.path.join(os.path.dirname(path), _BESIDE_NAMES)
                    console.note("index folder", f"{path} is a mask; {names} names its numbers")
                is_told = True
            if labels_from == "masks":
                record["labels"] = labels_in_mask(record.get("mask"), classes or ())
        except WsssError as error:
            on_error(f"{name}: {error}")
            continue
        yield record


def _mask_beside(root: str, name: str) -> str | None:
    """The mask of a photograph that lies beside it, as Roboflow exports them."""
    folder, base = os.path.split(os.path.join(root, name))
    path = os.path.join(folder, f"{os.path.splitext(base)[0]}{_BESIDE}")
    is_export = os.path.isfile(os.path.join(folder, _BESIDE_NAMES))
    return path if is_export and os.path.isfile(path) else None


def _repeated(root: str, excluded: set[str]) -> Seen:
    """Names, without their folders, that several photographs below ``root`` have, listed or not."""
    once, again = Seen(), Seen()
    identities = frozenset(_identity(folder) for folder in excluded)
    for name in _walk(root, "", identities, lambda text: None, {}):
        if once.add(base := posixpath.basename(os.path.splitext(name)[0])):
            again.add(base)
    return again


def _picture(path: str) -> str | None:
    """The file ``path.png``, if there is one."""
    return f"{path}.png" if os.path.isfile(f"{path}.png") else None


def _beside(
    folder: str, record_id: str, repeated: Seen, find: Callable[[str], str | None]
) -> str | None:
    """The file of a photograph in a folder of masks or maps, if there is one.

    Args:
        folder: the folder.
        record_id: of the photograph.
        repeated: names that several photographs have.
        find: gives the file whose name begins so, whatever its suffix.

    Raises:
        WsssError: by its name it could be that of several photographs.
    """
    if path := find(f"{folder}/{record_id}"):
        return path
    base = posixpath.basename(record_id)
    if (path := find(f"{folder}/{base}")) is None:
        return None
    if base in repeated:
        raise WsssError(
            f"{path} could be that of several photographs named {base}: "
            f"name it {folder}/{record_id}{os.path.splitext(path)[1]}"
        )
    return path


# ---- sub-folders ---------------------------------------------------------------------------------


def _walk_labelled(
    root: str, excluded: set[str], unlabelled: bool, keep_unlabelled: bool, on_error: OnError
) -> Iterator[tuple[str, list[str] | None]]:
    """Path below ``root`` and labels of each photograph."""
    identities = frozenset(_identity(folder) for folder in excluded)
    is_labelled = not unlabelled
    folders = _sub_folders(root, identities) if is_labelled else []
    if is_labelled:
        _check_labels(root, folders)
    seen: set[str] = set()
    others: Others = {}
    for name in _walk(root, "", identities, on_error, others):
        label, is_inside, _ = name.partition("/")
        seen.add(label)
        if is_labelled and not is_inside and not keep_unlabelled:
            on_error(f"{name}: lies in no sub-folder, so it has no label")
        else:
            yield name, [label] if is_labelled and is_inside else None
    left_out = ", ".join(
        f"{count} {suffix} ({first}{', ...' if count > 1 else ''})"
        for suffix, (count, first) in sorted(others.items())
    )
    if not seen:
        hint = f"; {left_out} cannot be read: convert them" if left_out else ""
        raise ConfigurationError(
            f"{root}: no photographs in it ({', '.join(IMAGE_SUFFIXES)}){hint}"
        )
    for label in folders:
        if label not in seen:
            on_error(f"{label}: no photograph in this folder")
    if left_out:
        on_error(f"left out, as they cannot be read: {left_out}; convert them to JPEG or PNG")


def _check_labels(root: str, folders: Sequence[str]) -> None:
    """Raise ConfigurationError if no sub-folders are there to be labels; say what speaks against
    them."""
    table = usual_table(root)
    splits = [name for name in folders if name.lower() in _SPLITS]
    inner = [(name, each) for name in folders if (each := usual_table(os.path.join(root, name)))]
    if folders and splits == folders and (inner or table):
        name, each = inner[0] if inner and not table else ("", table)
        raise ConfigurationError(
            f"{root}: {', '.join(folders)} are splits, no classes, and a table has the labels: "
            f"'wsss index folder {os.path.join(root, name) if name else root} --csv {each}'"
        )
    if inner and not table:
        name, each = inner[0]
        console.warn(
            "index folder",
            f"{name}/{each} is not read; 'wsss index folder {os.path.join(root, name)} --csv "
            f"{each}' reads it",
        )
    if not folders:
        named = f"--csv {table}" if table else "a table of labels with --csv"
        raise ConfigurationError(
            f"{root}: no sub-folders that could be labels: make one for each class, or name "
            f"{named} ('wsss index folder --unlabelled' does without labels)"
        )
    if splits:
        console.warn(
            "index folder",
            f"the sub-folders {', '.join(splits)} are taken for labels; if they are splits, give "
            "one of them as ROOT",
        )
    if table:
        console.note("index folder", f"{table} is not read: labels are the sub-folders' names")


def _and_others(
    root: str, listed: list[Photograph], excluded: set[str], on_error: OnError
) -> Iterator[Photograph]:
    """The photographs of a table, and then all others below ``root``, without labels."""
    yield from listed
    ids = {os.path.splitext(name)[0] for name, _ in listed}
    identities = frozenset(_identity(folder) for folder in excluded)
    for name in _walk(root, "", identities, on_error, {}):
        if os.path.splitext(name)[0] not in ids:
            yield name, None


def _merged(root: str, photographs: list[Photograph]) -> Iterator[Photograph]:
    """Photographs of the same content as one, the first of them, with the labels of all."""
    paths = [os.path.join(root, name) for name, _ in photographs]
    sizes = [os.stat(path).st_size if os.path.isfile(path) else 0 for path in paths]
    common = Counter(filter(None, sizes))  # empty files are no photographs, so no copies
    places: dict[str, int] = {}  # of the first photograph with a digest
    merged: list[Photograph | None] = list(photographs)
    for place, (name, labels) in enumerate(photographs):
        if common[sizes[place]] < 2 or (content := digest(paths[place])) is None:
            continue
        first = merged[places.setdefault(content, place)]
        if places[content] == place or first is None:
            continue
        of_all = [*(first[1] or ()), *(labels or ())]
        known = first[1] is not None or labels is not None
        merged[places[content]] = first[0], list(dict.fromkeys(of_all)) if known else None
        merged[place] = None
        console.detail("index folder", f"{name}: the same photograph as {first[0]}")
    if count := merged.count(None):
        console.note("index folder", f"{count} of the photographs are copies of others")
    yield from (photograph for photograph in merged if photograph is not None)


def _sub_folders(root: str, excluded: frozenset[tuple[int, int]]) -> list[str]:
    """Names of the folders that could be labels."""
    return sorted(
        entry.name
        for entry in os.scandir(root)
        if entry.is_dir()
        and not entry.name.startswith(".")
        and _identity(entry.path) not in excluded
    )


def _walk(
    root: str,
    inner: str,
    excluded: frozenset[tuple[int, int]],
    on_error: OnError,
    others: Others,
) -> Iterator[str]:
    """Paths below ``root`` of all photographs in its folder ``inner``, sorted, each id once.

    ``excluded`` holds the identities of folders not to enter: those of masks and saliency maps, and
    the parents of this folder, since a link to a parent would never end. Pictures of other formats
    are counted in ``others``.
    """
    folder = os.path.join(root, inner)
    try:
        excluded |= {_identity(folder)}
        with os.scandir(folder) as entries:
            shown = [
                entry
                for entry in entries
                if not entry.name.startswith(".")
                and (entry.name.lower().endswith(_PICTURES) or entry.is_dir())
            ]
            names = sorted((entry.name, entry.is_dir()) for entry in shown)
            dangling = {
                entry.name
                for entry in shown
                if entry.is_symlink() and not os.path.exists(entry.path)
            }
        if os.path.isfile(os.path.join(folder, _BESIDE_NAMES)):
            names = _without_masks(names)
    except OSError as error:
        on_error(describe(error))
        return
    by_stem: dict[str, str] = {}
    for name, is_folder in names:
        path = inner + name
        if is_folder:
            if _identity(os.path.join(root, path)) not in excluded:
                yield from _walk(root, path + "/", excluded, on_error, others)
            continue
        if name in dangling:
            on_error(f"{path}: a link to a file that is not there")
            continue
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in OTHER_SUFFIXES:
            count, earlier = others.get(suffix.lower(), (0, path))
            others[suffix.lower()] = count + 1, earlier
            continue
        if (first := by_stem.setdefault(stem, name)) != name:
            on_error(f"{path}: {first} has the same name but for the suffix; move or rename one")
            continue
        try:
            check_id(inner + stem)
        except WsssError as error:
            on_error(f"{path}: {error}")
            continue
        yield path


def _without_masks(names: Sequence[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """The entries of a folder but the masks beside their photographs."""
    stems = {os.path.splitext(name)[0] for name, is_folder in names if not is_folder}
    return [
        (name, is_folder)
        for name, is_folder in names
        if is_folder or not name.endswith(_BESIDE) or name.removesuffix(_BESIDE) not in stems
    ]


def _identity(folder: str) -> tuple[int, int]:
    """Device and inode: the same for all names of a folder, links included."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


# ---- the table -----------------------------------------------------------------------------------


def _table(root: str, table: str | Path) -> str:
    """The path of a table; ConfigurationError where there is none, which names one in a folder."""
    try:
        return below(root, table, "--csv", folder=False)
    except ConfigurationError as error:
        for name in _sub_folders(root, frozenset()):
            if os.path.isfile(os.path.join(root, name, table)):
                raise ConfigurationError(
                    f"{error}; {os.path.join(root, name)} has one: give that as ROOT"
                ) from error
        raise


def _named(rows: Iterator[Row], names: Sequence[str] | None, on_error: OnError) -> Iterator[Row]:
    """The rows of a table whose labels are numbers of ``names``; as they are without names."""
    are_numbers, example = True, ""
    for where, name, labels in rows:
        if names is None or labels is None:
            for label in labels or ():
                are_numbers, example = are_numbers and label.isdecimal(), label
            yield where, name, labels
            continue
        wrong = [each for each in labels if not _is_below(each, len(names))]
        if wrong:
            on_error(f"{where}: label '{wrong[0][:40]}' is no number from 0 to {len(names) - 1}")
            continue
        yield where, name, [names[int(label)] for label in labels]
    if names is None and example and are_numbers:
        console.note(
            "index folder", f"the labels are numbers, such as {example}; --label-names names them"
        )


def _is_below(text: str, most: int) -> bool:
    """Whether a text is a number from 0 to ``most`` - 1; one of thousands of digits is not."""
    return text.isdecimal() and len(text) <= 20 and int(text) < most


def _existing(
    root: str, rows: Iterator[Row], on_error: OnError, *, table: str
) -> list[tuple[str, list[str] | None]]:
    """Path below ``root`` and labels of the photographs of a table, in order of their first row.

    The rows of one photograph are merged, wherever they stand. It has the labels of all of them.
    A .npy is known to list more photographs than there are, which is no error.
    """
    suffix = os.path.splitext(table)[1].lower()
    others = suffix == ".npy"
    absent = 0
    found: dict[str, _Entry] = {}
    for where, given, labels in rows:
        name = posixpath.normpath(given)
        try:
            if not given:
                raise WsssError("no file name")
            if not others:
                check_separators(given, table, escaped=suffix in JSON_SUFFIXES)
            check_id(name)
            path = os.path.join(root, name)
            image = same_but_for_case(path) or find_image(path)
            if image is None and others:
                absent += 1
                continue
            if image is None:
                raise WsssError(f"no such image: {os.path.join(root, name)}")
            name = os.path.relpath(image, root) if image != path else name
            entry = found.setdefault(os.path.splitext(name)[0], _Entry(name, where, labels))
            if entry.where != where:
                entry.merge(name, where, labels)
        except WsssError as error:
            on_error(f"{where}: {error}")
    if absent and not found:
        raise ConfigurationError(f"none of the {absent} photographs of the table is in {root}")
    if absent:
        console.note("index folder", f"{absent} photographs of the table are not in {root}")
    return [(entry.name, entry.labels) for entry in found.values() if not entry.contradicted]


@dataclass(slots=True)
class _Entry:
    """A photograph of a table: its file, the place of its first row, and its labels so far."""

    name: str
    where: str
    labels: list[str] | None
    contradicted: bool = False

    def merge(self, name: str, where: str, labels: list[str] | None) -> None:
        """Add the labels of another row; raises WsssError if they contradict those so far."""
        if name != self.name:
            raise WsssError(f"{name}: {self.name} has the same name but for the suffix; rename one")
        if labels is None or self.labels is None:
            self.labels = labels if self.labels is None else self.labels
        elif bool(labels) != bool(self.labels):
            self.contradicted = True
            raise WsssError(f"{name}: shows no class in one line, some in another ({self.where})")
        else:
            self.labels = list(dict.fromkeys([*self.labels, *labels]))
