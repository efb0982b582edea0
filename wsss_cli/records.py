"""The record stream: one JSON object a line, one line an image.

Nothing else in the package parses or prints records. Keys a tool does not know pass through
untouched and in order.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, NoReturn, TypeVar

from wsss_cli import console
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.terminal import Pipe, name_of_pipe
from wsss_cli.texts import open_regular

Record = dict[str, Any]
Stream = TypeVar("Stream", bound=IO[Any])

STDIN = "-"
_LONGEST = 64 << 20  # bytes of a line
_MOST_SKIPPED = 1 << 32  # bytes of a line that is passed over
_MOST_COUNTED = 1 << 28  # bytes of a file whose lines are counted beforehand
_LOOKED_AT = 512  # bytes, to tell text from others
_DEEPEST = 50  # levels of lists and objects in a record
# Control characters, line and paragraph separators, and those that turn the direction of writing.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Key:
    """A key that tools know.

    Attributes:
        what: its value, in words.
        made_by: the tools that add it, in words.
        heading: the text above it in pictures of `view`.
        path: whether the value is the path of a file.
    """

    what: str
    made_by: str = "index"
    heading: str = ""
    path: bool = True


KEYS: dict[str, Key] = {
    "id": Key("unique name; output files are named after it", path=False),
    "image": Key("photograph", heading="photograph"),
    "labels": Key("class names; `[]`: none of them; absent: unknown", path=False),
    "mask": Key("true label map", heading="true mask"),
    "strong": Key("whether to train on the mask; absent: no mark", "index --strong", path=False),
    "saliency": Key("grey PNG, 255 = salient", "index or saliency", "saliency"),
    "cam": Key("activation maps", "make-cam", "activation"),
    "aff_label": Key("confident regions, label map", "make-aff-labels", "confident regions"),
    "pseudo": Key("pseudo-mask, label map", "random-walk, crf or erase", "pseudo-mask"),
    "erased": Key("photograph with the mined regions filled", "erase", "erased"),
    "mined": Key("regions mined so far, label map", "erase", "mined"),
    "pred": Key("predicted label map", "predict", "prediction"),
    "scores": Key("walked maps or probabilities", "random-walk or predict, --scores", "scores"),
    "affinity": Key(
        "grey PNG, 255 = tied to all its neighbours", "random-walk --affinity", "affinity"
    ),
    "instances": Key(
        "instance map, PNG; `objects` has class and score of each id",
        "random-walk --instances",
        "instances",
    ),
    "view": Key("picture to look at", "view", "view"),
}


class RecordError(WsssError):
    """A record that cannot be used: wrong JSON, an unsafe id, a missing key."""


def read(sources: Sequence[str], on_error: Callable[[str], None]) -> Iterator[Record]:
    """Records from the files ``sources``, one after another, or from stdin if there are none.

    Args:
        sources: JSON-lines files; ``-`` is stdin.
        on_error: called with ``source:line: the error`` for each line that is no good record;
            the lines after it are still read.

    Raises:
        ConfigurationError: a file cannot be opened, or stdin is a terminal.
    """
    for source in sources or [STDIN]:
        with _open(source) as stream:
            name = "stdin" if source == STDIN else source
            head = stream.peek(_LOOKED_AT)[:_LOOKED_AT]
            if b"\0" in head and not head.lstrip().startswith(b"{"):
                on_error(f"{name}: a binary file or UTF-16, not records")
                continue
            for number, line in enumerate(iter(lambda: stream.readline(_LONGEST), b""), start=1):
                if len(line) == _LONGEST and not line.endswith(b"\n"):
                    on_error(f"{name}:{number}: a line of more than {_LONGEST:,} bytes")
                    if not _skip_line(stream):
                        break
                    continue
                if not line.strip():
                    continue
                try:
                    yield parse(line)
                except RecordError as error:
                    on_error(f"{name}:{number}: {error}")


def _skip_line(stream: BinaryIO) -> bool:
    """Read to the end of a line; whether it has one, and the stream is not a device of zeros."""
    for _ in range(_MOST_SKIPPED // _LONGEST):
        if not (part := stream.readline(_LONGEST)) or part.endswith(b"\n"):
            return bool(part)
    return False


def _open(source: str) -> BufferedReader:
    if source == STDIN and (sys.stdin is None or sys.stdin.isatty()):
        raise ConfigurationError(
            "no records: pipe them in or name a file "
            "(make them with 'wsss index voc ROOT' or 'wsss index folder ROOT')"
        )
    try:
        # Stdin is opened anew: a thread may be reading it when the interpreter shuts down.
        if source == STDIN:
            return not_output(open(sys.stdin.fileno(), "rb", closefd=False), "stdin")
        return not_output(open(source, "rb"), source)
    except OSError as error:
        raise ConfigurationError(f"cannot read records: {describe(error)}") from error


def not_output(stream: Stream, name: str) -> Stream:
    """``stream``, unless stdout goes into the same file, which then would never end.

    Raises:
        ConfigurationError: it does.
    """
    try:
        reads, writes = os.fstat(stream.fileno()), os.fstat(sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):  # stdout is closed, or no file
        return stream
    if stat.S_ISREG(writes.st_mode) and os.path.samestat(reads, writes):
        raise ConfigurationError(f"{name} is read and written at once: give stdout another file")
    return stream


def total(sources: Sequence[str], pipe: Pipe | None = None) -> int | None:
    """Number of lines of a stream that is in files; None if some of it is not, or very long.

    Args:
        sources: as in :func:`read`.
        pipe: of the tool, if it takes only a part of them.
    """
    try:
        return (pipe or Pipe()).part(sum(map(_lines, sources or [STDIN])))
    except (OSError, ValueError, AttributeError):  # a pipe, or stdin is closed
        return None


def _lines(source: str) -> int:
    """Number of lines of a file; of stdin those that are still to come, which stay to be read.

    Raises:
        OSError, ValueError: it is none, or not to be read.
    """
    number = sys.stdin.fileno() if source == STDIN else None
    start = os.lseek(number, 0, os.SEEK_CUR) if number is not None else 0
    with open_regular(source) if number is None else open(number, "rb", closefd=False) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_COUNTED:
            raise ValueError
        lines, end = 0, b"\n"
        while part := stream.read(1 << 20):
            lines, end = lines + part.count(b"\n"), part[-1:]
    if number is not None:
        os.lseek(number, start, os.SEEK_SET)
    return lines + (end != b"\n")


def pipe(
    sources: Sequence[str],
    *,
    writes: bool = False,
    shard: tuple[int, int] | None = None,
    limit: int | None = None,
) -> Pipe:
    """The pipes that a tool reads records from and writes them to, for its progress.

    Args:
        sources: as in :func:`read`.
        writes: it prints records.
        shard: (k, n), if it takes the k-th of every n records, k counted from 1.
        limit: the most records that it takes, or None.
    """
    is_stdin = list(sources or [STDIN]) == [STDIN]
    return Pipe(
        name_of_pipe(0) if is_stdin else "",
        name_of_pipe(1) if writes else "",
        shard or (1, 1),
        limit,
    )


def readable_twice(sources: Sequence[str]) -> Callable[[], None]:
    """Make it possible to :func:`read` a stream a second time.

    A file is simply opened again. What comes from a pipe is copied to a temporary file, so this
    waits for its end.

    Args:
        sources: as in :func:`read`.

    Returns:
        To be called between the two readings.

    Raises:
        ConfigurationError: stdin is a terminal, or a source is a pipe with a name.
    """
    sources = sources or [STDIN]
    for source in sources:
        if source != STDIN and os.path.exists(source) and not os.path.isfile(source):
            raise ConfigurationError(
                f"{source}: not a file, so it cannot be read twice; pipe it in"
            )
    if STDIN not in sources:
        return lambda: None
    with _open(STDIN) as stream:
        number = stream.fileno()
        if not stream.seekable():
            with tempfile.TemporaryFile() as copy:
                shutil.copyfileobj(stream, copy)
                copy.seek(0)
                os.dup2(copy.fileno(), number)
    start = os.lseek(number, 0, os.SEEK_CUR)

    def rewind() -> None:
        os.lseek(number, start, os.SEEK_SET)

    return rewind


def parse(line: str | bytes) -> Record:
    """The record on one line.

    Raises:
        RecordError: not a JSON object, or a known key whose value cannot be right.
    """
    try:
        record = json.loads(line, parse_constant=_no_number, parse_float=_finite)
    except RecordError:
        raise
    except (ValueError, RecursionError) as error:
        if "integer string conversion" in str(error):
            raise RecordError("a number with thousands of digits") from error
        raise RecordError("not a JSON object: is this the output of a wsss tool?") from error
    if not isinstance(record, dict):
        raise RecordError(f"not a JSON object but a {type(record).__name__}")
    if "id" not in record:
        raise RecordError("no 'id'")
    check_id(record["id"])
    if _is_deep(record):
        raise RecordError(f"{record['id']}: more than {_DEEPEST} levels of lists and objects")
    for key, known in KEYS.items():
        if known.path and record.get(key) is not None:
            try:
                path(record, key)
            except RecordError as error:
                raise RecordError(f"{record['id']}: {error}") from error
    if not isinstance(record.get("strong") or False, bool):
        raise RecordError(f"{record['id']}: 'strong' is neither true nor false")
    labels(record)
    return record


def _no_number(text: str) -> NoReturn:
    raise RecordError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _is_deep(record: Record) -> bool:
    """Whether a record has more levels than can be written and sent to other processes."""
    level: list[Any] = [record]
    for _ in range(_DEEPEST):
        level = [
            part
            for value in level
            for part in (value.values() if isinstance(value, dict) else value)
            if isinstance(part, dict | list)
        ]
        if not level:
            return False
    return True


def paths(record: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """The values of keys that hold paths.

    Raises:
        RecordError: the record lacks some, or they hold something else.
    """
    keys = list(keys)
    need(record, keys)
    return [path(record, key) for key in keys]


def path(record: Mapping[str, Any], key: str) -> str:
    """The value of a key that holds a path.

    Raises:
        RecordError: it holds something else.
    """
    value = record[key]
    if not isinstance(value, str) or not value or "\0" in value:
        raise RecordError(f"'{key}' is not a path but {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    """A value of a record, in short."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"


def check_id(value: Any) -> None:
    """Raise RecordError unless ``value`` can name a file below an output folder."""
    if not isinstance(value, str) or not value:
        raise RecordError(f"'id' is not a text: {_shown(value)}")
    shown = _shown(value)
    if PurePosixPath(value).is_absolute() or "\\" in value or re.match(r"[A-Za-z]:", value):
        raise RecordError(f"unsafe id {shown}: it must be a relative name")
    if any(part in ("..", ".", "") for part in value.split("/")):
        raise RecordError(f"unsafe id {shown}: no empty part, '.' or '..' allowed")
    if _CONTROL.search(value) or not _encodable(value):
        raise RecordError(f"unsafe id {shown}: control or broken characters")


def _encodable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate, which no file system takes
        return False
    return True


def labels(record: Record) -> list[str] | None:
    """The image-level labels, each once, or None if the image is unlabelled."""
    value = record.get("labels")
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise RecordError(f"{record['id']}: 'labels' is not a list of class names")
    return list(dict.fromkeys(value))


def first_key(record: Mapping[str, Any], keys: Iterable[str]) -> str | None:
    """The first of ``keys`` that the record has, or None."""
    return next((key for key in keys if record.get(key)), None)


def need(record: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Raise RecordError naming the keys that ``record`` lacks and the tools that add them."""
    if missing := [key for key in keys if record.get(key) is None]:
        shown = [
            f"'{key}' (made by {KEYS[key].made_by})" if key in KEYS else f"'{key}'"
            for key in missing
        ]
        raise RecordError(f"record has no {', no '.join(shown)}")


def write(record: Record) -> None:
    """Print ``record`` on stdout as one line, at once.

    Raises:
        BrokenPipeError: whoever read the stream has gone.
    """
    console.result(as_line(record))


def as_line(record: Record) -> bytes:
    """``record`` as a line of a stream."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    # Escaped, they read back the same, and do nothing to a terminal.
    text = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        line = text.encode("utf-8")
    except UnicodeEncodeError:  # a path whose bytes are no UTF-8
        line = json.dumps(record, allow_nan=False).encode("ascii")
    return line + b"\n"


def safe_path(out: Path, record_id: str, suffix: str) -> Path:
    """``out/record_id + suffix``, guaranteed to lie inside ``out``.

    Raises:
        RecordError: the id is unsafe, or a link in ``out`` leads out of it.
    """
    check_id(record_id)
    path = out / (record_id + suffix)
    if "/" in record_id and not path.parent.resolve().is_relative_to(out.resolve()):
        raise RecordError(f"'{record_id}' leads out of {out}")
    return path
