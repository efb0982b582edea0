"""``export``: what the formats of other tools have in common; imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from wsss_cli import console, files, inputs, records
from wsss_cli.classes import IGNORE, numbers
from wsss_cli.datasets.check import Numbering
from wsss_cli.errors import WsssError
from wsss_cli.methods.outlines import Ring, filled, inset, joined, outlines, simplified
from wsss_cli.methods.regions import regions
from wsss_cli.records import Record
from wsss_cli.stage import Halt, Job, RecordTool
from wsss_cli.texts import open_regular
from wsss_cli.unique import Seen

Labels = npt.NDArray[np.uint8]

CHANGED = "{} was made or changed by something else; move it away or change --out"
IGNORED = "__ignore__"  # the name of 255 among classes, as labelme has it
_LEDGER = ".wsss-export"
_LINE = 1 << 16  # bytes of a line of it


class Exporter(RecordTool):
    """Writes label maps as files of another tool; the records pass as they are.

    Works in this process, record after record: the files at the end tell what was written. To be
    used as a context manager, which leaves nothing unfinished behind.

    Args:
        key: record key of the label maps.
        class_list: the names of their numbers, or None for those that the first file names.

    Attributes:
        names: the class list, once it is known.
        count: records written.
        unknown: their pixels of 255.
        unfinished: what is not written if something stops the stream, in words.
        ids: the instance map of the label map to be written, or None if there is none.
        objects: what that tells of each id, or None.
    """

    unfinished: str

    outputs: ClassVar[Mapping[str, str]] = {}
    exact = True  # whether the label maps come back as they were
    ignored = ""  # what becomes of pixels of 255, in words; empty if they come back too
    instances: bool | None = None  # needed, or not used; None: used where the record has them
    fragments = True  # whether pixels of a class but of no instance are written

    def __init__(self, key: str, class_list: Sequence[str] | None = None) -> None:
        self.key, self.given = key, class_list
        self.names: tuple[str, ...] | None = None
        self.count = self.unknown = 0
        self._pixels = self._labelled = self._changed = self._claimed = 0
        self._numbering: Numbering | None = None
        self._of_none = False  # whether there are pixels of a class but of no instance among them
        self.ids: Labels | None = None
        self.objects: list[dict[str, Any]] | None = None
        self._done, self._met = Seen(), Seen()  # ids of what is written, and of what was tried
        if class_list is not None:
            self._settle(class_list)

    @property
    def needs(self) -> Sequence[str]:
        return ("image", self.key, *(("instances",) if self.instances else ()))

    @property
    def inputs(self) -> Sequence[str]:
        used = self.instances is None and self.key == "pseudo"
        return (*self.needs, *(("instances",) if used else ()))

    @property
    def class_list(self) -> Sequence[str] | None:
        return self.given

    @property
    def params(self) -> dict[str, Any]:
        return {"key": self.key}

    def check_names(self, names: Sequence[str]) -> None:
        """Raise ConfigurationError if the format cannot hold the class names."""

    def write(self, job: Job, labels: Labels) -> Labels | None:
        """Write a label map, uint8 (H, W).

        Returns:
            The label map as it comes back, where 255 may be 0 if the format has none of it; None if
            it is the same.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Write what the files of all records need; called if there was a record."""

    def abort(self) -> None:
        """Remove what is unfinished."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abort()
        if error is not None and not isinstance(error, SystemExit) and self.count:
            console.warn(self.name, f"stopped before its end: {self.unfinished}")

    def work(self, job: Job) -> None:
        if job.record["id"] in self._done:  # the same record once more, as the stage knows
            return
        self._met.add(job.record["id"])
        path = job.record[self.key]
        labels, meta = files.read_labels(path, files.image_size(job.record["image"]))
        names = self._names(path, meta)
        unknown = labels == IGNORE
        if (most := int(np.where(unknown, 0, labels).max(initial=0))) > len(names):
            raise WsssError(
                f"{path}: holds class number {most}, but there are {len(names)} in the class list"
            )
        if foreign := not inputs.class_list(meta or {}):
            numbers(records.labels(job.record) or (), names)  # or it is the list of other masks
        self._read_instances(job.record, labels, names)
        if self.ids is not None and not self.fragments:
            labels = np.where(self.ids == IGNORE, np.uint8(IGNORE), labels)
            self._of_none |= bool((unknown != (labels == IGNORE)).any())
            unknown = labels == IGNORE
        back = self.write(job, labels)
        # From here on nothing fails: the counts are of what is written.
        self.count += 1
        self._done.add(job.record["id"])
        self._pixels += labels.size
        self.unknown += int(unknown.sum())
        self._labelled += int(((labels > 0) & ~unknown).sum())
        if back is not None:
            self._changed += int(((back != labels) & ~unknown).sum())
            lost = unknown & (back != IGNORE)
            self._claimed += int((lost & (back > 0) if self.ignored else lost).sum())
        if self._numbering is None:
            self._numbering = Numbering(names)
        if foreign:
            self._numbering.look(job.record, labels)

    def _read_instances(self, record: Record, labels: Labels, names: Sequence[str]) -> None:
        """Read the instance map of a label map, if it has one that is to be used.

        Raises:
            WsssError: it cannot be read, or is that of another label map.
        """
        self.ids = self.objects = None
        if "instances" not in self.inputs or not record.get("instances"):
            return
        path = record["instances"]
        ids, objects = files.read_instance_map(path, (labels.shape[0], labels.shape[1]))
        is_one, is_class = (np.isin(part, (0, IGNORE), invert=True) for part in (ids, labels))
        pairs = np.unique(ids[is_one].astype(np.int64) << 8 | labels[is_one])
        fits = not (is_one & ~is_class).any() and not (is_class & (ids == 0)).any()
        fits = fits and len(np.unique(pairs >> 8)) == len(pairs)
        if fits and objects is not None:
            told = [objects[pair - 1]["class"] for pair in (pairs >> 8).tolist()]
            fits = told == [names[number - 1] for number in (pairs & 255).tolist()]
        if not fits:
            raise WsssError(
                f"{path}: not the instances of {record[self.key]}, which was made or refined "
                "otherwise; make both with random-walk --instances, which has --crf too, or leave "
                "the key out (jq -c 'del(.instances)')"
            )
        self.ids, self.objects = ids, objects

    def _names(self, path: str, meta: Mapping[str, Any] | None) -> Sequence[str]:
        """The class list, which is that of all files.

        Raises:
            Halt: no file so far names its classes, nor does the user.
            WsssError: the file means other classes.
        """
        listed = inputs.class_list(meta or {})
        if self.given is not None:
            inputs.check_numbers(path, meta, self.given, "--classes")
        elif listed is None:
            text = f"{path}: does not name its classes; give --classes"
            raise WsssError(text) if self.names else Halt(text, 2)
        elif self.names and tuple(listed) != self.names:
            raise WsssError(f"{path}: its class list is not that of the first file")
        if self.names is None:
            assert listed is not None
            try:
                self._settle(listed)
            except WsssError as error:
                raise Halt(str(error), error.exit_code) from error
        assert self.names is not None
        return self.names

    def _settle(self, names: Sequence[str]) -> None:
        self.check_names(names)
        self.names = tuple(names)

    def finish(self) -> None:
        """Complete the export, and tell what does not come back from it.

        Raises:
            WsssError: the labels of the records speak for another order of the classes.
        """
        if not self.count:
            console.note(self.name, "no record, so nothing is written")
            return
        assert self._numbering is not None
        if doubt := self._numbering.doubt(self.key):
            raise WsssError(doubt)
        self.close()
        if not self.exact:
            said = [
                f"{_percent(count, of)} of {what} changed"
                for count, of, what in (
                    (self._changed, self._labelled, "the labelled pixels"),
                    (self._claimed, self.unknown, f"those of {IGNORE}"),
                )
                if count
            ]
            text = " and ".join(said) or "no pixel changed"
            console.note(self.name, f"{text}, by filling the polygons again")
        if self.unknown and self.ignored:
            share = _percent(self.unknown, self._pixels)
            what = f"{IGNORE} or of no instance" if self._of_none else f"{IGNORE}"
            console.note(self.name, f"{share} of the pixels are {what}: {self.ignored}")


def tell_strangers(tool: str, found: tuple[int, str]) -> None:
    """Tell of files of :meth:`Folder.strangers`, which whoever takes the folder would take too."""
    count, first = found
    if count:
        more = f" and {count - 1} more" if count > 1 else ""
        console.warn(
            tool,
            f"{first}{more}: there already, of no record of this run; move them away if they are "
            "of an earlier export that this one replaces",
        )


def _percent(part: int, whole: int) -> str:
    """A share with two digits that tell something."""
    percent = 100 * part / max(whole, 1)
    return f"{percent:.0f} %" if percent > 10 else f"{percent:.2g} %"


def as_json(value: Any) -> bytes:
    """A value as one line, readable unless it holds what UTF-8 cannot: bytes of an odd path."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False).encode()


# ---- polygons ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Polygon:
    """A region as one ring.

    Attributes:
        number: its class.
        points: (N, 2), x and y.
        area: pixels of the region.
        instance: its id, or 0.
    """

    number: int
    points: Ring
    area: int
    instance: int = 0


def polygons(
    labels: Labels, tolerance: float, *, centres: bool = False, ids: Labels | None = None
) -> list[Polygon]:
    """The regions of a label map but the background, the largest first.

    A region that simplification would make vanish is not simplified.

    Args:
        labels: uint8 (H, W).
        tolerance: of :func:`wsss_cli.methods.outlines.simplified`, in pixels.
        centres: let rings pass through the centres of the outermost pixels, not along their sides.
        ids: an instance map, whose instances are regions of their own; or None.
    """
    one = np.zeros_like(labels) if ids is None else np.where(ids == IGNORE, np.uint8(0), ids)
    parts, marks = regions(one.astype(np.int64) << 8 | labels)
    areas = np.bincount(parts.ravel(), minlength=len(marks)).tolist()
    found = []
    for region, rings in outlines(np.where(labels > 0, parts, -1)).items():
        exact = [inset(ring) for ring in rings] if centres else rings
        points = joined([simplified(ring, tolerance) for ring in exact])
        if tolerance > 0 and not centres and not filled(points, labels.shape)[2].any():
            points = joined(exact)
        mark = int(marks[region])
        found.append(Polygon(mark & 255, points, areas[region], mark >> 8))
    return sorted(found, key=lambda polygon: -polygon.area)


def painted(shapes: Iterable[tuple[int, Ring]], size: tuple[int, int]) -> Labels:
    """The label map, uint8 (H, W), of class numbers and rings; the later over the earlier."""
    labels = np.zeros(size, np.uint8)
    for number, ring in shapes:
        rows, columns, inside = filled(ring, size)
        labels[rows, columns][inside] = number
    return labels


# ---- folders -------------------------------------------------------------------------------------


class Folder:
    """The files of an export, below a folder; those of others stay as they are.

    Most formats have no place for the origin of a file, and people correct such files. So a list in
    the folder, ``.wsss-export``, tells what was written, and a file that has changed since, or is
    not in it, is not replaced.

    Args:
        root: the folder.
        tool: the command.
    """

    def __init__(self, root: Path, tool: str) -> None:
        self.root, self.tool = root, tool
        self._written = Seen()
        self._cleaned: set[Path] = set()
        self._ledger = root / _LEDGER
        self._torn = False  # whether its last line is cut off, by a full disk
        try:
            with open_regular(self._ledger) as stream:
                for line in iter(lambda: stream.readline(_LINE), b""):
                    self._torn = not line.endswith(b"\n")
                    self._written.add(line.decode("utf-8", "replace").rstrip("\n"))
        except FileNotFoundError:
            pass

    def path(self, record_id: str, folder: str, suffix: str) -> Path:
        """``root/folder/record_id + suffix``; raises RecordError if that leads out of it."""
        path = records.safe_path(self.root / folder, record_id, suffix)
        # A link at `folder` itself.
        if not path.parent.resolve().is_relative_to(self.root.resolve()):
            raise WsssError(f"{self.root / folder} leads out of {self.root}")
        return path

    def write(self, path: Path, content: bytes, record: Record | None = None) -> None:
        """Write a file.

        Raises:
            WsssError: the file is one of the record, or not of this export.
        """
        if key := files.key_of(record or {}, path):
            raise WsssError(f"would overwrite its own '{key}'; change --out")
        if self._take(path, hashlib.sha256(content).hexdigest()[:16]):
            with files.atomic(path) as temporary:
                temporary.write_bytes(content)

    def photograph(self, path: Path, source: str, *, copy: bool) -> None:
        """Put a photograph at a path: a link to it, or a copy.

        Raises:
            WsssError: another file is there.
            OSError: no links can be made here.
        """
        if files.identity(path) == files.identity(source) and not (copy and path.is_symlink()):
            return
        if copy:
            if self._take(path, inputs.digest(source) or ""):
                with files.atomic(path) as temporary:
                    shutil.copyfile(source, temporary)
            return
        target = os.path.relpath(os.path.abspath(source), path.parent.resolve())
        if self._take(path, _link(target)):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".wsss-{os.urandom(8).hex()}.tmp")
            try:
                os.symlink(target, temporary)
            except OSError as error:
                why = error.strerror or "unknown"
                raise WsssError(f"cannot link {path} ({why}); give --copy") from error
            os.replace(temporary, path)

    def strangers(self, folder: str, suffix: str, ids: Seen) -> tuple[int, str]:
        """How many files of a folder are of other ids than ``ids``, and the first of them."""
        below = self.root / folder
        found = sorted(
            path
            for path in below.rglob(f"*{suffix}")
            if path.relative_to(below).as_posix().removesuffix(suffix) not in ids
        )
        return len(found), str(found[0]) if found else ""

    def _take(self, path: Path, state: str) -> bool:
        """Whether a path must be written to have a state; it is then in the list.

        Raises:
            WsssError: something else is there.
        """
        if path.parent not in self._cleaned:
            self._cleaned.add(path.parent)
            files.remove_leftovers(path.parent, self.tool)
        there = _state(path)
        if there == state:
            return False
        if there and self._line(path, there) not in self._written:
            raise WsssError(CHANGED.format(path))
        line = self._line(path, state)
        # First the list: killed in between, the next run finds no file that it does not know.
        if not self._written.add(line):
            self.root.mkdir(parents=True, exist_ok=True)
            with open(self._ledger, "a", encoding="utf-8") as stream:
                stream.write("\n" * self._torn + line + "\n")
            self._torn = False
        return True

    def _line(self, path: Path, state: str) -> str:
        return f"{self.tool}\t{state}\t{path.relative_to(self.root).as_posix()}"


def _state(path: Path) -> str:
    """What tells a file from others: its digest, or what it is a link to; empty if nothing is
    there."""
    if path.is_symlink():
        return _link(os.readlink(path))
    return (inputs.digest(path) or "unreadable") if path.exists() else ""


def _link(target: str) -> str:
    return "-> " + target.encode("unicode_escape").decode("ascii")
