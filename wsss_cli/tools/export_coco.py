"""``export coco``: label maps as one JSON file of COCO."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from wsss_cli import __version__, files
from wsss_cli.classes import IGNORE
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.methods.outlines import Ring, filled
from wsss_cli.methods.regions import Ints, Runs, encoded, regions, run_lengths
from wsss_cli.records import Record
from wsss_cli.stage import Halt, Job
from wsss_cli.texts import open_regular
from wsss_cli.tools.export import CHANGED, Exporter, Labels, as_json, painted, polygons

_END = b'"wsss": '  # what the last line of a file begins with
_LAST = 1 << 16  # bytes of it
_BLOCK = 1 << 20

Annotation = dict[str, Any]


class CocoExporter(Exporter):
    """Writes one JSON file of COCO, annotation by annotation.

    The last line holds its origin and the digest of all lines before: whether it was changed since.

    Args:
        out: the file.
        per: ``instance``, ``region`` or ``class``: what an annotation is; None: an instance where
            the record has an instance map, else a region.
        tolerance: polygons that differ by so many pixels, instead of exact run lengths; or None.
        crowd: also write pixels of 255, as crowd regions.
    """

    name = "export coco"
    fragments = False

    def __init__(
        self,
        key: str,
        class_list: Sequence[str] | None = None,
        *,
        out: Path,
        per: str | None = None,
        tolerance: float | None = None,
        crowd: bool = False,
    ) -> None:
        super().__init__(key, class_list)
        self.out, self.per, self.tolerance, self.crowd = out, per, tolerance, crowd
        self.instances = None if per is None else per == "instance"
        self.exact = tolerance is None
        self.unfinished = f"{out} is not written"
        self.ignored = "" if crowd else "not in the file; --crowd writes them"
        self._annotations = 0
        self._unfinished = ExitStack()
        self._file: _File | None = None
        if foreign := _foreign(out):
            raise ConfigurationError(foreign)

    @property
    def params(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "per": self.per,
            "tolerance": self.tolerance,
            "crowd": self.crowd,
        }

    def write(self, job: Job, labels: Labels) -> Labels | None:
        known = np.where(labels == IGNORE, 0, labels).astype(np.uint8)
        back = None
        if self.tolerance is None:
            found = [
                _annotation(runs.number, *_exact(runs, labels.shape)) for runs in self._runs(known)
            ]
        else:
            found, back = self._polygons(known, self.tolerance)
        if self.crowd:
            found += _crowds(labels)
            if back is not None:
                back[(labels == IGNORE) & (back == 0)] = IGNORE
        record = job.record
        image = {
            "id": self.count + 1,
            "file_name": file_name(record),
            "width": labels.shape[1],
            "height": labels.shape[0],
        }
        try:
            self._put(image, found)
        except OSError as error:
            raise Halt(f"cannot write {self.out}: {error.strerror or describe(error)}") from error
        return back

    def _runs(self, known: Labels) -> list[Runs]:
        """The run lengths of the annotations of a label map, those of the largest first."""
        if self.per == "class":
            found = [runs for runs in run_lengths(known) if runs.number]
        else:
            parts, numbers = regions(known) if self.ids is None else self._instances(known)
            found = [
                Runs(int(numbers[runs.number]), runs.counts, runs.area, runs.box)
                for runs in run_lengths(parts)
                if numbers[runs.number]
            ]
        return sorted(found, key=lambda runs: -runs.area)

    def _instances(self, known: Labels) -> tuple[Ints, Ints]:
        """The instance of each pixel, and the class of each instance, 0 of those of none."""
        assert self.ids is not None
        numbers = np.zeros(256, np.int64)
        numbers[self.ids.ravel()] = known.ravel()
        return self.ids, numbers

    def _polygons(self, known: Labels, tolerance: float) -> tuple[list[Annotation], Labels]:
        """The annotations of a label map as polygons, and the label map that these make."""
        groups: dict[tuple[int, int], list[Ring]] = {}
        for place, polygon in enumerate(polygons(known, tolerance, ids=self.ids)):
            # A region that is one of neither a class nor an instance has a mark of its own.
            mark = 0 if self.per == "class" else polygon.instance or -1 - place
            groups.setdefault((polygon.number, mark), []).append(polygon.points.round(2))
        found = []
        for (number, _), rings in groups.items():
            area = sum(int(filled(ring, known.shape)[2].sum()) for ring in rings)
            left, top = np.min([ring.min(0) for ring in rings], 0).tolist()
            right, bottom = np.max([ring.max(0) for ring in rings], 0).tolist()
            box = [_short(side) for side in (left, top, right - left, bottom - top)]
            outline = [[_short(side) for side in ring.ravel().tolist()] for ring in rings]
            found.append(_annotation(number, outline, area, box))
        found.sort(key=lambda annotation: -annotation["area"])
        shapes = [
            (annotation["category_id"], np.reshape(ring, (-1, 2)))
            for annotation in found
            for ring in annotation["segmentation"]
        ]
        return found, painted(shapes, known.shape)

    def _put(self, image: Record, found: list[Annotation]) -> None:
        """Write the lines of a photograph."""
        if self._file is None:
            files.remove_leftovers(self.out.parent, self.name)
            self._file = self._unfinished.enter_context(_writing(self.out))
            info = {"description": self.name, "version": __version__}
            self._file.write(f'{{"info": {json.dumps(info)},\n"annotations": [')
        lines = []
        for annotation in found:
            self._annotations += 1
            whole = {"id": self._annotations, "image_id": image["id"], **annotation}
            lines.append(("," if self._annotations > 1 else "") + "\n" + json.dumps(whole))
        self._file.write("".join(lines))
        self._file.images.write((b",\n" if self.count else b"\n") + as_json(image))

    def close(self) -> None:
        assert self._file is not None
        assert self.names is not None
        categories = [
            {"id": number, "name": name, "supercategory": ""}
            for number, name in enumerate(self.names, start=1)
        ]
        if foreign := _foreign(self.out):  # made meanwhile, such as by `> annotations.json`
            raise WsssError(foreign)
        self._file.write('\n],\n"images": [')
        self._file.images.seek(0)
        while block := self._file.images.read(_BLOCK):
            self._file.write(block)
        listed = b",\n".join(map(as_json, categories))
        self._file.write(b'\n],\n"categories": [\n' + listed + b"\n],\n")
        made_by = files.provenance(self.name, self.params, classes=self.names)
        end = {"made_by": made_by, "digest": self._file.digest.hexdigest()}
        self._file.write(_END + json.dumps(end).encode() + b"}\n")
        self._unfinished.close()

    def abort(self) -> None:
        error = RuntimeError("unfinished")
        with suppress(OSError):  # what is buffered, on a full disk
            self._unfinished.__exit__(type(error), error, None)


class _File:
    """A file of COCO that is being written.

    Attributes:
        digest: of what is written.
        images: the lines of the photographs, which follow the annotations.
    """

    def __init__(self, stream: IO[bytes], images: IO[bytes]) -> None:
        self._stream, self.images, self.digest = stream, images, hashlib.sha256()

    def write(self, text: str | bytes) -> None:
        content = text.encode() if isinstance(text, str) else text
        self.digest.update(content)
        self._stream.write(content)


@contextmanager
def _writing(path: Path) -> Iterator[_File]:
    """A file that appears when the block ends."""
    with (
        files.atomic(path) as temporary,
        tempfile.TemporaryFile() as images,
        open(temporary, "wb") as stream,
    ):
        yield _File(stream, images)


def _annotation(number: int, outline: Any, area: int, box: Sequence[float]) -> Annotation:
    return {
        "category_id": number,
        "segmentation": outline,
        "area": area,
        "bbox": list(box),
        "iscrowd": 0,
    }


def _exact(runs: Runs, size: Sequence[int]) -> tuple[Any, int, Sequence[int]]:
    return {"size": list(size), "counts": encoded(runs.counts)}, runs.area, runs.box


def _crowds(labels: Labels) -> Iterator[Annotation]:
    """The pixels of 255 as crowd regions: one of each class in the map, any of which they may be.

    In a map without classes they are one of the first class.
    """
    runs = next((runs for runs in run_lengths(labels) if runs.number == IGNORE), None)
    if runs is None:
        return
    for number in [n for n in np.unique(labels).tolist() if n not in (0, IGNORE)] or [1]:
        yield {**_annotation(number, *_exact(runs, labels.shape)), "iscrowd": 1}


def _short(value: float) -> float:
    value = round(value, 2)
    return int(value) if value == int(value) else value


def file_name(record: Record) -> str:
    """How an export names the photograph of a record.

    By its path below the folder of photographs, which is the id and a suffix if `index` made the
    record; else by its whole path.
    """
    image: str = record["image"]
    name = record["id"] + Path(image).suffix
    return name if f"/{Path(image).as_posix()}".endswith(f"/{name}") else image


def _foreign(path: Path) -> str:
    """Why a file must not be replaced; empty if it may be."""
    if not files.is_taken(path):
        return ""
    try:
        with open_regular(path) as stream:
            size = stream.seek(0, 2)
            stream.seek(max(size - _LAST, 0))
            end = stream.read()
            start = end.rfind(b"\n" + _END) + 1
            line = end[start:] if start and end.endswith(b"}\n") else b""
            last = json.loads(line.removeprefix(_END)[:-2] or b"{}")
            digest = hashlib.sha256()
            left = size - len(end) + start
            stream.seek(0)
            while block := stream.read(min(_BLOCK, left)):
                digest.update(block)
                left -= len(block)
            if isinstance(last, dict) and last.get("digest") == digest.hexdigest():
                return ""
    except (OSError, ValueError, RecursionError):
        pass
    return CHANGED.format(path)
