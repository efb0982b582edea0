"""``view``: photographs, maps and masks on one page for a browser, with what they are worth.

The page is ``page.html``, which holds layout and script, with the data put in: a block of JSON with
the pictures of each record, which the script reads when it shows the record, and one with all the
rest. In JSON ``<`` is escaped, and the script puts it into the page as text alone, so that no id,
label or path becomes markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_cli import __version__, console, files, inputs, records
from wsss_cli.classes import IGNORE, MAX_CLASSES, palette
from wsss_cli.drawing import heat
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.pool import in_threads
from wsss_cli.records import STDIN, Record
from wsss_cli.stage import Failures
from wsss_cli.texts import open_regular
from wsss_cli.tools import trainings
from wsss_cli.tools.eval import Question, Rule, Tally
from wsss_cli.tools.layers import Layer, Scene, heading
from wsss_cli.tools.report import Measured, as_json, facts, image_values
from wsss_cli.tools.view import Viewer, first
from wsss_cli.unique import Seen

TRUTH = "mask"
_TEMPLATE = Path(__file__).with_name("page.html")
_MARK = '<meta name="generator" content="wsss view">'
_HERE, _DIGEST = "<!-- DATA -->", "SCRIPT-DIGEST"
_UNMEASURED = ("image", TRUTH, "saliency", "affinity", "erased", "instances", "view")
_FIRST_MEASURED = ("pred", "pseudo", "cam")  # as eval has it
_THRESHOLDS = tuple(round(0.01 * n, 9) for n in range(1, 100))  # the default of eval
_SHOWN_BY_BROWSERS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")
_LEVELS = 32  # of a map, so that it packs well
_BACKGROUND_ALPHA, _IGNORE_ALPHA = 120, 200  # background is dimmed, ignored pixels are veiled
_MOST_KINDS = 100  # provenances of the files under a key; more are only counted
_MOST_LETTERS = 300  # of a name
_LARGE = 100_000_000  # bytes


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page shows.

    Attributes:
        keys: record keys to show, in order; those that no record has are left out.
        width: long side of the pictures in pixels; smaller photographs keep theirs.
        class_list: class list, or None for those of the files.
        link: refer to the files of photographs instead of holding smaller copies.
    """

    keys: tuple[str, ...]
    width: int
    class_list: tuple[str, ...] | None = None
    link: bool = False


def check_page(out: str, sources: Sequence[str]) -> None:
    """Raise ConfigurationError if a page would replace a stream or a file of another origin."""
    files.check_targets([out], keep=sources)
    if files.is_taken(out) and not _is_page(out):
        raise ConfigurationError(f"{out} was made by something else; move it away or change --out")


def _is_page(path: str) -> bool:
    try:
        with open_regular(path) as stream:
            return _MARK.encode() in stream.read(1000)
    except (OSError, ValueError):
        return False


def write_page(
    page: Page,
    sources: Sequence[str],
    failures: Failures,
    *,
    out: str,
    limit: int | None,
    asked: bool,
) -> None:
    """Write the page of a stream of records.

    Args:
        page: what it shows.
        sources: files of records; none means stdin.
        failures: called for each record that cannot be shown.
        out: the file; it must be none of a record's.
        limit: number of records, or None for all.
        asked: the user named the keys: warn about a key that no record has.

    Raises:
        WsssError: it would replace a file of a record, or show nothing.
    """
    pipe = records.pipe(sources, limit=limit)
    total = records.total(sources, pipe)
    stream: Iterable[Record] = records.read(sources, failures)
    left_out = ""
    if limit:
        stream, left_out = first(sources, failures, limit)
    top, bottom = _template()
    page = replace(page, keys=tuple(dict.fromkeys(page.keys)))
    gathered = _Gathered(page, out)
    with files.atomic(out) as temporary, open(temporary, "w", encoding="ascii") as target:
        target.write(top)
        with console.progress(Viewer.name, total=total, pipe=pipe) as bar:
            for pictures in gathered.pictures(stream, failures):
                _block(target, "pictures", pictures)
                bar.update()
        if not gathered.shown:
            raise WsssError("nothing to show: no record could be read")
        names = [os.path.basename(source) for source in sources if source != STDIN]
        data = gathered.rest(failures, sources)
        _block(target, "data", {**data, "sources": names, "left_out": left_out})
        target.write(bottom)
    for key in page.keys:
        if asked and key not in gathered.keys:
            console.warn(Viewer.name, f"no record has '{key}'; left out")
    if left_out:
        console.note(Viewer.name, left_out)
    size = os.path.getsize(out)
    hint = "" if page.link or size < _LARGE else "; --link makes it smaller"
    console.note(Viewer.name, f"{out}: {len(gathered.shown):,} records, {size / 1e6:.1f} MB{hint}")


def _template() -> tuple[str, str]:
    """What comes before the data, and what after them; only the script of the template may run."""
    text = _TEMPLATE.read_text(encoding="ascii")
    script = text[text.rindex("<script>") + 8 : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    top, bottom = text.replace(_DIGEST, f"'sha256-{digest}'").split(_HERE)
    return top, bottom


def _block(target: TextIO, name: str, data: Any) -> None:
    """Write data as a block of JSON that no content can end."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    target.write(f'<script type="application/json" class="{name}">{text}</script>\n')


# ---- the records ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shown:
    """What is known of a record that is on the page.

    Attributes:
        entry: its part of the data.
        pictures: its block of pictures.
        made: by key, how the file was made, as JSON.
        measured: the keys that are measured.
        problems: why others are not.
    """

    entry: dict[str, Any]
    pictures: dict[str, Any]
    made: dict[str, str]
    measured: list[str]
    problems: list[Exception]


class _Gathered:
    """Reads records in threads, and adds up what all of them have together.

    Args:
        page: what to show.
        out: path of the page.

    Attributes:
        shown: the data of each record on the page.
    """

    def __init__(self, page: Page, out: str) -> None:
        self.page, self.out = page, out
        self.shown: list[dict[str, Any]] = []
        self._kept: list[Record] = []  # what a second look at their maps needs
        self._totals: dict[str, Tally] = {}
        self._made: dict[str, dict[str, list[int]]] = {}  # by key and provenance: place, number
        self._folders: dict[Path, None] = {}
        self._lock = threading.Lock()

    def pictures(self, stream: Iterable[Record], failures: Failures) -> Iterator[dict[str, Any]]:
        """The pictures of each record that can be shown, in order.

        Raises:
            WsssError: the page would replace a file of a record.
        """
        for record, found in in_threads(
            self._tried, self._begun(stream, failures), threads=_threads()
        ):
            if isinstance(found, Exception):
                self._fail(record, found, failures)
                continue
            if found.problems:
                self._fail(record, found.problems[0], failures)
            found.pictures["made"] = self._count(found.made)
            self.shown.append(found.entry)
            kept = ("id", "labels", "image", TRUTH, *found.measured)
            self._kept.append({key: record[key] for key in kept if key in record})
            self._folders |= dict.fromkeys(trainings.folders_of(record, found.made))
            yield found.pictures

    @staticmethod
    def _fail(record: Record, error: Exception, failures: Failures) -> None:
        known = isinstance(error, WsssError | OSError | ValueError)
        if console.debugging() and not known:
            raise error
        text = describe(error) if known else f"internal error: {error!r}"
        failures(f"{record['id']}: {text}")

    def _begun(self, stream: Iterable[Record], failures: Failures) -> Iterator[Record]:
        """The records, each id once as eval counts it; what is to be measured is settled."""
        seen = Seen()
        for record in stream:
            if seen.add(record["id"]):
                failures(f"{record['id']}: this id is on the page already; each is shown once")
                continue
            if own := files.key_of(record, self.out):
                raise WsssError(
                    f"{self.out}: would overwrite '{own}' of {record['id']}; change --out"
                )
            for key in self._measurable(record):
                if key not in self._totals:
                    # The first good record decides, whatever thread is first.
                    self._settle(key, record)
            yield record

    def _measurable(self, record: Record) -> list[str]:
        if not record.get(TRUTH):
            return []
        return [key for key in self.page.keys if key not in _UNMEASURED and record.get(key)]

    def _settle(self, key: str, record: Record) -> None:
        try:
            part = self._counted(key, record)
        except (WsssError, OSError):
            return  # it will be named
        self._totals[key] = Tally(part.question)

    def _counted(self, key: str, record: Record) -> Tally:
        """The counts of a record.

        Raises:
            WsssError: a file is missing, unreadable, or does not fit the other.
        """
        rule = Rule(thresholds=_THRESHOLDS, own=True)
        question = Question(key=key, classes=self.page.class_list, rule=rule)
        if key in self._totals:
            question = self._totals[key].question
        part = Tally(question.settled(record))
        part.look(record)
        return part

    def _count(self, made: dict[str, str]) -> dict[str, int]:
        """The place of each provenance among those of its key."""
        places = {}
        for key, text in made.items():
            kinds = self._made.setdefault(key, {})
            if text in kinds or len(kinds) < _MOST_KINDS:
                kind = kinds.setdefault(text, [len(kinds), 0])
                kind[1] += 1
                places[key] = kind[0]
        return places

    def _tried(self, record: Record) -> tuple[Record, _Shown | Exception]:
        try:
            return record, self._look(record)
        except Exception as error:  # whatever is wrong with one record
            return record, error

    def _look(self, record: Record) -> _Shown:
        records.need(record, ["image"])
        page = self.page
        scene = Scene.of(record, page.width, page.class_list)
        width, height = scene.fitted(min(page.width, max(scene.size)))
        layers: dict[str, list[dict[str, Any]]] = {}
        made: dict[str, str] = {}
        classes = {name: None for name in records.labels(record) or ()}
        for key in page.keys:
            if key == "image":
                continue
            found, meta = scene.layers(key)
            if found:
                layers[key] = [
                    {"src": _overlay(layer, width, height), "names": _legend(layer)}
                    for layer in found
                ]
                made[key] = json.dumps(inputs.settings(meta), sort_keys=True, allow_nan=False)
                if found[0].kind == "labels" and key != "instances":
                    classes |= {name: None for name, colour in found[0].names if colour}
        parts, problems = self._measured(record)
        labels = records.labels(record)
        entry = {
            "id": _text(record["id"]),
            "labels": None if labels is None else list(map(_text, labels[:MAX_CLASSES])),
            "classes": list(map(_text, classes))[:MAX_CLASSES],
            "size": [width, height],
            "iou": {
                key: _values(part) for key, part in parts.items() if len(part.confusions()) == 1
            },
        }
        picture = self._photograph(scene, width, height)
        return _Shown(entry, {"image": picture, "layers": layers}, made, list(parts), problems)

    def _measured(self, record: Record) -> tuple[dict[str, Tally], list[Exception]]:
        """The counts of a record by key, added to those of all; and what could not be counted."""
        parts, problems = dict[str, Tally](), list[Exception]()
        for key in self._measurable(record):
            try:
                parts[key] = self._counted(key, record)
            except (WsssError, OSError) as error:
                problems.append(error)
                continue
            with self._lock:
                self._totals[key].merge(parts[key])
        return parts, problems

    def _photograph(self, scene: Scene, width: int, height: int) -> str:
        path = scene.record["image"]
        if self.page.link and Path(path).suffix.lower() in _SHOWN_BY_BROWSERS:
            return quote(os.fsencode(os.path.relpath(path, os.path.dirname(self.out) or ".")))
        small = scene.photograph.resize((width, height), Image.Resampling.LANCZOS)
        return _embedded(small, "JPEG", quality=80)

    # ---- when all are read ----

    @property
    def keys(self) -> list[str]:
        """The keys that are on the page: those that some record has, and always photographs."""
        shown = [key for key in self.page.keys if key == "image" or key in self._made]
        return shown if "image" in shown else ["image", *shown]

    def rest(self, failures: Failures, sources: Sequence[str]) -> dict[str, Any]:
        """All data but the pictures.

        Args:
            failures: called for a record whose maps cannot be read again.
            sources: files of records, beside which trainings may lie.
        """
        results = {}
        order = [*_FIRST_MEASURED, *self.page.keys]
        for key in sorted(self._totals, key=order.index):
            total = self._totals[key]
            if doubt := total.doubt():
                failures(f"'{key}' is not measured: {doubt}")
                for entry in self.shown:
                    entry["iou"].pop(key, None)
            elif total.images > total.unlabelled:
                measured = total.result(failures.count)
                if len(measured.confusions) > 1:
                    self._look_again(key, measured, failures)
                results[key] = _result(measured)
        return {
            "version": __version__,
            "keys": [{"key": key, "heading": _text(heading(key))} for key in self.keys],
            "records": self.shown,
            "results": results,
            "made": {
                key: [{"count": kind[1], "by": json.loads(text)} for text, kind in kinds.items()]
                for key, kinds in self._made.items()
            },
            "trainings": self._trainings(sources),
            "failed": failures.count,
        }

    def _look_again(self, key: str, measured: Measured, failures: Failures) -> None:
        """Measure each record's maps at the threshold that is best for all."""
        assert measured.threshold is not None
        rule = Rule(thresholds=(measured.threshold,), own=True)
        question = replace(self._totals[key].question, rule=rule)

        def look(place: int) -> tuple[int, Any]:
            record = self._kept[place]
            part = Tally(question)
            try:
                part.look(record)
            except (WsssError, OSError) as error:
                return place, error
            return place, _values(part)

        again = [n for n, record in enumerate(self._kept) if key in record]
        for place, found in in_threads(look, again, threads=_threads()):
            if isinstance(found, Exception):
                failures(f"{self._kept[place]['id']}: {describe(found)}")
            else:
                self.shown[place]["iou"][key] = found

    def _trainings(self, sources: Sequence[str]) -> list[dict[str, Any]]:
        """The curves of the trainings whose checkpoints made the files."""
        wanted: dict[str, str] = {}
        for kinds in self._made.values():
            for text in kinds:
                wanted = {**trainings.checkpoints(json.loads(text)), **wanted}
        beside = [Path(source).parent for source in sources]
        folders = dict.fromkeys([Path(), *beside, Path(self.out).parent, *self._folders])
        logs = trainings.find_logs(wanted, folders)
        return [
            {
                "checkpoint": _text(digest),
                "tool": _text(tool),
                "log": _text(logs[digest].name) if digest in logs else None,
                "curves": trainings.curves(logs[digest]) if digest in logs else {},
            }
            for digest, tool in wanted.items()
        ]


def _threads() -> int:
    return min(os.cpu_count() or 1, 8)


def _values(part: Tally) -> dict[str, Any]:
    """An image's own values, as eval has them."""
    values = image_values("", part.question.names(), part.confusions()[0])
    return {"miou": values["miou"], "iou": values["iou"]}


def _result(measured: Measured) -> dict[str, Any]:
    """What eval prints, and the confusion matrix of the classes that occur."""
    confusion = measured.confusion
    data = as_json(measured)
    occur = [place for place, name in enumerate(measured.classes) if name in data["classes"]]
    swept = {}
    if len(measured.confusions) > 1:
        swept = {
            name: list(zip(measured.thresholds, map(_number, values), strict=True))
            for name, values in measured.curves().items()
        }
    return {
        **data,
        "made_by": None,  # the page has it elsewhere
        "facts": facts(measured),
        # In JavaScript, an object whose keys are numbers has an order of its own.
        "names": [measured.classes[place] for place in occur],
        "colours": {measured.classes[place]: _colour(palette()[place].tolist()) for place in occur},
        "matrix": confusion.counts[np.ix_(occur, [*occur, confusion.num_classes])].tolist(),
        "sweep": swept,
    }


def _number(value: float) -> float | None:
    return None if value != value else round(value, 6)


# ---- the pictures --------------------------------------------------------------------------------


def _overlay(layer: Layer, width: int, height: int) -> str:
    """A layer as a picture that can be laid over the photograph."""
    if layer.kind == "photograph":
        picture = Image.fromarray(layer.values).resize((width, height), Image.Resampling.LANCZOS)
        return _embedded(picture, "JPEG", quality=80)
    if layer.kind == "labels":
        small = Image.fromarray(layer.values).resize((width, height), Image.Resampling.NEAREST)
        return _indexed(np.asarray(small), palette(), _LABEL_ALPHA)
    values = layer.values.astype(np.float32) / (255 if layer.kind == "grey" else 1)
    plane = Image.fromarray(values)
    plane.thumbnail((-(-width // 2), -(-height // 2)), Image.Resampling.BILINEAR)  # they are soft
    steps = np.rint(np.clip(np.asarray(plane), 0, 1) * (_LEVELS - 1)).astype(np.uint8)
    strength = np.linspace(0, 1, _LEVELS)
    if layer.kind == "grey":
        colours = np.repeat(np.rint(255 * strength)[:, None], 3, 1).astype(np.uint8)
        return _indexed(steps, colours, np.full(_LEVELS, 255))
    # Clearer where it is weaker, so that the photograph is seen.
    return _indexed(steps, heat(strength[None])[0], 255 * (0.35 + 0.65 * strength))


_LABEL_ALPHA = np.full(256, 255)
_LABEL_ALPHA[[0, IGNORE]] = _BACKGROUND_ALPHA, _IGNORE_ALPHA


def _indexed(
    values: npt.NDArray[np.uint8], colours: npt.NDArray[np.uint8], alpha: npt.NDArray[Any]
) -> str:
    """Numbers as a PNG with a colour and an opacity for each that occurs."""
    used = np.flatnonzero(np.bincount(values.ravel()))
    places = np.zeros(256, np.uint8)
    places[used] = range(len(used))
    picture = Image.fromarray(places[values])
    picture.putpalette(colours[used].tobytes())
    opacity = alpha[used].astype(np.uint8).tobytes()
    bits = next(bits for bits in (1, 2, 4, 8) if len(used) <= 1 << bits)
    return _embedded(picture, "PNG", transparency=opacity, bits=bits)


def _embedded(picture: Image.Image, form: str, **options: Any) -> str:
    """A picture as text that a browser shows."""
    content = BytesIO()
    picture.save(content, form, **options)
    text = base64.b64encode(content.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{text}"


def _legend(layer: Layer) -> list[list[str]]:
    """Names and colours of what a layer shows."""
    return [[_text(name), _colour(colour) if colour else ""] for name, colour in layer.names]


def _colour(colour: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _text(text: str) -> str:
    """A text of others, bounded."""
    return text if len(text) <= _MOST_LETTERS else text[: _MOST_LETTERS - 1] + "…"
