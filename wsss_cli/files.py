"""The files that tools exchange: photographs, label maps, activation maps, checkpoints.

Every write goes to a temporary name in the same folder and is renamed, so a file that exists is
whole. Each file stores its *provenance*: tool, version, parameters, checkpoint digest, and the
provenance of the files it was made from. Nothing is ever unpickled.

Torch is imported only by the two checkpoint functions.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import struct
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.lib.format as npy
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from wsss_cli import __version__, console, inputs
from wsss_cli.classes import IGNORE as IGNORE  # also as files.IGNORE
from wsss_cli.classes import MAX_CLASSES, palette
from wsss_cli.dict_maps import dict_maps
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.pickled import HEADERS, PARSING, read_dict
from wsss_cli.pictures import (
    MAX_PIXELS,
    OBJECTS_KEY,
    check_png,
    read_label_map_and_texts,
    reading,
)
from wsss_cli.pictures import image_size as image_size  # these also as files.NAME
from wsss_cli.pictures import open_rgb as open_rgb
from wsss_cli.pictures import read_bounded as read_bounded
from wsss_cli.pictures import read_grey as read_grey
from wsss_cli.pictures import read_image as read_image
from wsss_cli.pictures import read_label_map as read_label_map
from wsss_cli.pictures import size_note as size_note
from wsss_cli.texts import open_regular

if TYPE_CHECKING:
    from torch import Tensor

Meta = dict[str, Any]

_PNG_KEY = "wsss"  # the PNG text chunk that holds the provenance
_TEMPORARY = ".wsss-"
_LEFTOVER = re.compile(r"\.wsss-[0-9a-f]+(-[0-9]+)?\.tmp")  # of early versions too
_AWAY = "move it away or change --out"
_MINUTE, _DAY = 60.0, 86400.0  # seconds
_FOLDER = 0x10  # attribute of an entry in a ZIP archive
_CHECKPOINT_FORMAT = "wsss-checkpoint-1"
_MOST_TEXT, _MOST_MAPS = 1 << 24, 1 << 29  # bytes of the arrays in an NPZ

# ---- writing -------------------------------------------------------------------------------------


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends without an error.

    The folder is made if need be, the content is flushed to the disk before the renaming, and after
    an error nothing is left behind. The temporary name is random and the file is created
    exclusively, so that many machines and containers may share a folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary, descriptor = _reserved(path.parent)
    except OSError as error:  # nobody knows the temporary name
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)) and error.errno:
            # A full disk names no file.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        os.close(descriptor)


def _reserved(folder: Path) -> tuple[Path, int]:
    """A new empty file in ``folder`` that no other process has, and its descriptor.

    It is locked while the descriptor is open, so that others see that somebody is at work.
    """
    while True:
        path = folder / f"{_TEMPORARY}{os.urandom(8).hex()}.tmp"
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            continue
        _lock(descriptor)
        return path, descriptor


def _lock(descriptor: int) -> bool:
    """Lock a file until its descriptor is closed; whether nobody else has locked it."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # Windows; somebody has it, or the file system knows no locks
        return False
    return True


def identity(path: str | Path) -> tuple[int, int] | None:
    """Device and inode of a file: the same for all its names. None if there is no such file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def key_of(record: Mapping[str, Any], path: str | Path) -> str | None:
    """The key under which a record names a file, whatever it is called there.

    The file need not exist yet: then it is known by its path. The id is no name of a file.
    """
    there, wanted = identity(path), os.path.normpath(path)
    for key, value in record.items():
        if isinstance(value, str) and key != "id":
            if os.path.normpath(value) == wanted:
                return key
            if there is not None and identity(value) == there:
                return key
    return None


def distinct(paths: Sequence[str]) -> Sequence[str]:
    """``paths``, if they are different files.

    Raises:
        ConfigurationError: two are the same.
    """
    known: dict[tuple[int, int], str] = {}
    for path in paths:
        same = identity(path)
        if same is not None and known.setdefault(same, path) is not path:
            raise ConfigurationError(f"{path}: the same file as {known[same]}")
    return paths


def check_targets(paths: Sequence[str], *, keep: Sequence[str]) -> None:
    """Make sure that ``paths`` can be written after hours of work.

    Args:
        paths: files to be written; their folders are made.
        keep: files that are none of them.

    Raises:
        ConfigurationError: one cannot be written, or is among ``keep``.
    """
    kept = {same: path for path in keep if (same := identity(path)) is not None}
    for path in paths:
        if own := kept.get(identity(path) or (-1, -1)):
            raise ConfigurationError(f"{path}: would overwrite its own input {own}")
        if [Path(other).resolve() for other in paths].count(Path(path).resolve()) > 1:
            raise ConfigurationError(f"{path}: named for two files")
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            temporary, descriptor = _reserved(Path(path).parent)
            os.close(descriptor)
            temporary.unlink()
        except OSError as error:
            raise ConfigurationError(f"cannot write {path}: {describe(error)}") from error


def remove_leftovers(folder: str | Path, tool: str) -> None:
    """Remove the temporary files that killed processes left in a folder, and say so with `-v`.

    Those that nobody has locked, or that are older than a day. What was written in the last minute
    is left alone: its writer may be on a machine whose locks do not reach here.
    """
    try:
        found = [entry for entry in os.scandir(folder) if _LEFTOVER.fullmatch(entry.name)]
    except OSError:
        return
    for entry in found:
        try:
            age = time.time() - entry.stat(follow_symlinks=False).st_mtime
            if age < _MINUTE:
                continue
            descriptor = os.open(entry.path, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                if age > _DAY or _lock(descriptor):
                    os.unlink(entry.path)
                    console.detail(tool, f"removed {entry.path}, left by a killed process")
            finally:
                os.close(descriptor)
        except OSError:
            continue  # its writer has finished, or another process removes it


# ---- provenance ----------------------------------------------------------------------------------


def provenance(
    tool: str,
    params: Mapping[str, Any],
    *,
    checkpoint: str | Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
) -> Meta:
    """The origin of a file, as plain JSON data.

    Args:
        tool: the command's name.
        params: the parameters that change the result (not devices or numbers of workers).
        checkpoint: digest of the checkpoint used, or digests of several.
        classes: the whole class list that class numbers and names refer to.
    """
    meta: Meta = {"tool": tool, "version": __version__, "params": dict(params)}
    if checkpoint:
        meta["checkpoint"] = checkpoint
    if classes is not None:
        meta["classes"] = list(classes)
    plain: Meta = json.loads(json.dumps(meta))  # tuples become lists, as they will be when read
    return plain


def read_meta(path: str | Path) -> Meta | None:
    """The provenance stored in an NPZ or PNG, or None where there is no such file or none in it."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".npz", ".png"):
        return None
    try:
        with open_regular(path) as stream:
            if suffix == ".npz":
                with zipfile.ZipFile(stream) as archive:
                    return _parsed(str(_Array.of(archive, "meta").read()))
            with Image.open(stream) as image:
                return _parsed(image.info.get(_PNG_KEY))
    except Exception:  # damage shows anywhere in the libraries
        return None


def _parsed(text: Any) -> Meta | None:
    """The provenance that a text stored in a file holds, if any."""
    try:
        meta = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    # One of a stranger, or a damaged one, is none.
    return meta if inputs.is_provenance(meta) else None


def read_labels(
    path: str | Path, size: tuple[int, int] | None = None
) -> tuple[npt.NDArray[np.uint8], Meta | None]:
    """:func:`read_label_map` and :func:`read_meta` in one reading."""
    labels, texts = read_label_map_and_texts(path, size)
    return labels, _parsed(texts.get(_PNG_KEY))


def is_whole(path: str | Path) -> bool:
    """Whether maps or a PNG are neither damaged nor cut off, by their checksums."""
    try:
        if Path(path).suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                names = {f"{name}.npy" for name in ("cam", "classes", "size", "meta")}
                known = {entry.filename for entry in archive.infolist() if _is_stored(entry)}
                return known == names and archive.testzip() is None
        return check_png(Path(path).read_bytes())
    except Exception:  # damage shows anywhere in zipfile
        return False


def _is_stored(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry is not packed, and says so twice."""
    return entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size


def made_by(path: str | Path) -> str | None:
    """The tool that made an NPZ or PNG, by its provenance.

    Returns:
        Empty for a good file of another origin; None where there is no file, or a damaged one.
    """
    if (meta := read_meta(path)) is not None:
        return str(meta.get("tool", ""))
    try:
        with open_regular(path) as stream:
            if Path(path).suffix.lower() == ".npz":
                with zipfile.ZipFile(stream) as archive:
                    return "" if archive.testzip() is None else None
            with Image.open(stream):
                return ""
    except Exception:
        return None


def is_taken(path: str | Path) -> bool:
    """Whether something is at a path but an empty file, as scripts make them to reserve a name."""
    return os.path.exists(path) and not (os.path.isfile(path) and not os.path.getsize(path))


def first_object(path: str | Path) -> dict[str, Any]:
    """The JSON object on the first line of a file; an empty one where there is none."""
    try:
        with open_regular(path) as stream:
            first = json.loads(stream.readline(_MOST_TEXT))
    except (OSError, ValueError, RecursionError):
        return {}
    return first if isinstance(first, dict) else {}


def foreign(path: str | Path, tool: str) -> str | None:
    """Why a tool must not replace a file, in words; None where it may."""
    maker = made_by(path)
    if maker in (None, tool):
        return None
    return f"{path} was made by {f'wsss {maker}' if maker else 'something else'}; {_AWAY}"


# ---- pictures ------------------------------------------------------------------------------------


def write_image(
    path: str | Path,
    pixels: npt.NDArray[np.uint8] | Image.Image,
    meta: Meta | None = None,
    *,
    strategy: int = -1,
) -> None:
    """Write a picture (uint8 (H, W, 3) or (H, W), or a Pillow picture) as PNG with provenance.

    Args:
        path: the file.
        pixels: the picture.
        meta: provenance.
        strategy: of zlib; -1 leaves the choice to Pillow.
    """
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    with atomic(path) as temporary:
        _save(temporary, image, meta, strategy)


def _save(
    to: Path | BinaryIO,
    image: Image.Image,
    meta: Meta | None,
    strategy: int,
    objects: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    info = PngImagePlugin.PngInfo()
    if meta is not None:
        info.add_text(_PNG_KEY, json.dumps(meta))
    if objects is not None:
        info.add_text(OBJECTS_KEY, json.dumps(list(objects)))
    image.save(to, format="PNG", pnginfo=info, compress_type=strategy)


def write_photograph(path: str | Path, pixels: npt.NDArray[np.uint8], meta: Meta) -> None:
    """Write a photograph, uint8 (H, W, 3), as PNG with provenance, three times as fast as Pillow.

    Pillow tries all five filters on each line. For photographs the difference to the pixel on the
    left, coded by frequency and run length, is as short.
    """
    height, width, _ = pixels.shape
    lines = np.empty((height, 1 + 3 * width), np.uint8)
    lines[:, 0] = 1  # the filter "Sub"
    coded = lines[:, 1:].reshape(pixels.shape)  # the same memory
    coded[:, 0] = pixels[:, 0]
    np.subtract(pixels[:, 1:], pixels[:, :-1], out=coded[:, 1:])
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),  # 8 bits, RGB
        (b"tEXt", _PNG_KEY.encode() + b"\0" + json.dumps(meta).encode()),
        (b"IDAT", packer.compress(lines.data) + packer.flush()),
        (b"IEND", b""),
    ]
    with atomic(path) as temporary, open(temporary, "wb") as stream:
        stream.write(b"\x89PNG\r\n\x1a\n")
        for name, content in chunks:
            check = zlib.crc32(content, zlib.crc32(name))
            stream.write(
                struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)
            )


def write_label_map(
    path: str | Path, labels: npt.NDArray[np.uint8], meta: Meta | None = None
) -> None:
    """Write class numbers, uint8 (H, W), as palette PNG in the VOC colours, with provenance."""
    content = label_map_png(labels, meta)
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def label_map_png(
    labels: npt.NDArray[np.uint8],
    meta: Meta | None = None,
    objects: Sequence[Mapping[str, Any]] | None = None,
) -> bytes:
    """What :func:`write_label_map` or, with objects, :func:`write_instance_map` writes."""
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(f"label map must be uint8 (H, W), not {labels.dtype} {labels.shape}")
    image = Image.fromarray(labels)
    image.putpalette(palette().tobytes())
    content = BytesIO()
    # Regions are runs: as small as with Pillow's choice, in a third of the time.
    _save(content, image, meta, zlib.Z_RLE, objects)
    return content.getvalue()


def write_instance_map(
    path: str | Path,
    ids: npt.NDArray[np.uint8],
    objects: Sequence[Mapping[str, Any]],
    meta: Meta | None = None,
) -> None:
    """Write an instance map as VOC's SegmentationObject, a palette PNG, with provenance.

    Args:
        path: the file.
        ids: uint8 (H, W): 0 background, ids from 1, 255 of no instance.
        objects: of each id in order its ``id``, ``class`` (a name) and ``score``.
        meta: provenance.
    """
    content = label_map_png(ids, meta, objects)
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def read_instance_map(
    path: str | Path, size: tuple[int, int] | None = None
) -> tuple[npt.NDArray[np.uint8], list[dict[str, Any]] | None]:
    """An instance map, uint8 (H, W), and what :func:`write_instance_map` was told of each id.

    Args:
        path: a palette or grey PNG, as :func:`read_label_map` takes them.
        size: (H, W) that it must have, if given.

    Returns:
        The map; and the objects, or None where it tells of none, as VOC's own.

    Raises:
        WsssError: as :func:`read_label_map`, or an id of which it does not tell the class.
    """
    ids, texts = read_label_map_and_texts(path, size, of_instances=True)
    objects = _objects(texts.get(OBJECTS_KEY))
    most = int(np.where(ids == IGNORE, 0, ids).max(initial=0))
    if objects is not None and most > len(objects):
        raise WsssError(f"{path}: does not tell the class of instance {most}; make it again")
    return ids, objects


def read_objects(path: str | Path) -> list[dict[str, Any]]:
    """The objects of an instance map alone; empty where it tells of none."""
    try:
        with open_regular(path) as stream, Image.open(stream) as image:
            return _objects(image.info.get(OBJECTS_KEY)) or []
    except Exception:  # damage shows anywhere in the libraries
        return []


def _objects(text: Any) -> list[dict[str, Any]] | None:
    """The objects that a text in an instance map tells of, if it is one of ours."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    is_list = isinstance(found, list) and all(
        isinstance(each, dict)
        and each.get("id") == place
        and isinstance(each.get("class"), str)
        and isinstance(each.get("score"), float | int)
        for place, each in enumerate(found, start=1)
    )
    return found if is_list else None


# ---- activation maps -----------------------------------------------------------------------------


class Maps(NamedTuple):
    """Activation or score maps of one image.

    Attributes:
        cam: float16 (K, h, w) in [0, 1]; K is 0 for an image without labels.
        classes: the K class names; ``background`` first where the method has one.
        size: (H, W) of the image.
        meta: provenance; ``meta["classes"]`` is the whole class list of the checkpoint.
    """

    cam: npt.NDArray[np.float16]
    classes: tuple[str, ...]
    size: tuple[int, int]
    meta: Meta


@dataclass(frozen=True)
class _Array:
    """An array in an NPZ, of which the header is read.

    Attributes:
        archive: the NPZ.
        entry: its entry there.
        start: number of bytes before its values.
        shape: its shape.
        order: how its values follow each other, "C" by rows or "F" by columns.
        dtype: type of its values, no objects.
    """

    archive: zipfile.ZipFile
    entry: zipfile.ZipInfo
    start: int
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, archive: zipfile.ZipFile, name: str) -> _Array:
        """Nothing but the header is unpacked.

        Raises:
            KeyError: no array of this name.
            ValueError: objects in it, or a header that does not fit the length of the entry.
        """
        try:
            entry = archive.getinfo(f"{name}.npy")
        except KeyError as error:
            raise KeyError(name) from error
        with archive.open(entry) as stream:
            version = npy.read_magic(stream)
            if version not in HEADERS:
                raise ValueError(f"array {name} of version {version}")
            with PARSING:
                shape, by_column, dtype = HEADERS[version](stream)
            start = stream.tell()
        if dtype.hasobject:
            raise ValueError(f"array {name} holds objects")
        if start + math.prod(shape) * dtype.itemsize != entry.file_size:
            raise ValueError(f"array {name} of {entry.file_size} bytes, shape {shape}")
        return cls(archive, entry, start, shape, "F" if by_column else "C", dtype)

    def read(self, most: int = _MOST_TEXT) -> npt.NDArray[Any]:
        """Its values.

        Args:
            most: bytes that it may take.

        Raises:
            ValueError: it takes more.
        """
        if self.entry.file_size > most + self.start:
            raise ValueError(f"an array of {self.entry.file_size} bytes")
        content = self.archive.read(self.entry)
        values = np.frombuffer(content, self.dtype, offset=self.start)
        return values.reshape(self.shape, order=self.order).copy()


def holds_maps(path: str | Path) -> bool:
    """Whether a file of this name holds maps: ours, or those of the papers' repositories."""
    return Path(path).suffix.lower() in (".npz", ".npy")


UNNAMED = "{}: numbers its classes and does not name them; give --classes, their list"


def is_foreign_maps(path: str | Path) -> bool:
    """Whether a file of this name holds maps of another program."""
    return Path(path).suffix.lower() == ".npy"


def read_maps(
    path: str | Path,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] | None = None,
) -> Maps:
    """Activation maps from an NPZ, or from a .npy as psa, irn, EPS or SIPE save it.

    The maps of an NPZ are unpacked only if their header fits the classes and the size of the image.
    Of a .npy nothing but arrays is made; it has no provenance.

    Args:
        path: the file.
        size: (H, W) that their image must have, if given.
        classes: class list of the numbers in a .npy, which does not name them; not for an NPZ.

    Raises:
        WsssError: unreadable or truncated, holding code, of an image of another size or larger than
            it, values outside [0, 1] (NaN included), or a .npy with numbers beyond ``classes``.
    """
    if is_foreign_maps(path):
        return _read_npy(path, size, classes)
    with reading(path, "maps") as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                packed = _Array.of(archive, "cam")
                classes = tuple(str(name) for name in _Array.of(archive, "classes").read())
                own = tuple(int(side) for side in _Array.of(archive, "size").read())
                meta = json.loads(str(_Array.of(archive, "meta").read()))
                _check_maps(packed, classes, own, path)
                _check_size(path, own, size)
                cam = packed.read(_MOST_MAPS)
        except KeyError as error:
            raise ValueError(f"no array {describe(error)} in it") from error
        except (WsssError, FileNotFoundError, MemoryError):
            raise
        except Exception as error:  # damage shows anywhere in zipfile, zlib and numpy
            raise ValueError("truncated or not an NPZ of wsss") from error
    if not isinstance(meta, dict):
        raise WsssError(f"{path}: maps must come with JSON meta; make them again")
    if not inputs.is_provenance(meta):
        raise WsssError(f"{path}: its meta is not what wsss writes; make the maps again")
    if cam.size and not (cam.min() >= 0 and cam.max() <= 1):  # false for NaN too
        raise WsssError(f"{path}: maps hold NaN or values outside 0 to 1; make them again")
    return Maps(cam.astype(np.float16, copy=False), classes, (own[0], own[1]), meta)


def _read_npy(
    path: str | Path, size: tuple[int, int] | None, classes: Sequence[str] | None
) -> Maps:
    """Maps of other programs; see :func:`read_maps`."""
    with reading(path, "maps") as stream:
        if os.fstat(stream.fileno()).st_size > 2 * _MOST_MAPS:  # of twice as many bytes as ours
            raise WsssError(f"{path}: maps of more than {2 * _MOST_MAPS:,} bytes")
        found = dict_maps(read_dict(path))
        if not classes:
            raise WsssError(UNNAMED.format(path))
        names = found.names(classes)
    own = found.size or size
    if own is None:
        raise WsssError(f"{path}: no maps in it, so the size of its image is not known")
    _check_size(path, own, size)
    if math.prod(own) > MAX_PIXELS:
        raise WsssError(f"{path}: maps of an image of {own}; make the image smaller first")
    return Maps(found.cam.astype(np.float16), names, own, {})


def _check_size(path: str | Path, own: tuple[int, ...], size: tuple[int, int] | None) -> None:
    """Raise WsssError if maps of an image of (H, W) are not those of one of ``size``."""
    if size is not None and own != tuple(size):
        raise WsssError(
            f"{path}: maps of an image of {own[1]}x{own[0]}, but this one is {size[1]}x{size[0]}"
        )


def _check_maps(
    packed: _Array, classes: Sequence[str], size: Sequence[int], path: str | Path
) -> None:
    """Raise WsssError if by their header maps do not fit their classes or the (H, W) of theirs."""
    shape = packed.shape
    if len(size) != 2:
        raise WsssError(f"{path}: {len(size)} numbers for the size of the image, not two")
    if len(shape) != 3 or shape[0] != len(classes) or min(size) < 1:
        raise WsssError(f"{path}: {len(classes)} classes, image size {size}, maps {shape}")
    if len(classes) and not math.prod(shape):
        raise WsssError(f"{path}: maps without pixels, shape {shape}")
    if packed.dtype.kind != "f":
        raise WsssError(f"{path}: maps must be floating point, not {packed.dtype.name}")
    if len(classes) > MAX_CLASSES + 1 or shape[1] > size[0] or shape[2] > size[1]:
        raise WsssError(f"{path}: maps {shape}, more than an image of {size} can have")
    if math.prod(size) > MAX_PIXELS or packed.entry.file_size > _MOST_MAPS:
        raise WsssError(f"{path}: maps {shape} of an image of {size}; make the image smaller first")


def write_maps(
    path: str | Path,
    cam: npt.NDArray[Any],
    classes: Sequence[str],
    size: tuple[int, int],
    meta: Meta,
) -> None:
    """Write activation maps, shape (K, h, w) in [0, 1], as NPZ without pickles."""
    if cam.ndim != 3 or len(cam) != len(classes):
        raise ValueError(f"{len(classes)} classes for maps of shape {cam.shape}")
    if cam.size and not np.isfinite(cam).all():
        raise WsssError("the activation maps hold NaN or infinite values; is the checkpoint good?")
    with atomic(path) as temporary, open(temporary, "wb") as stream:
        np.savez(
            stream,
            cam=np.clip(cam, 0, 1).astype(np.float16),
            classes=np.array(list(classes), dtype=np.str_),
            size=np.array(size, dtype=np.int32),
            meta=np.array(json.dumps(meta)),
        )


# ---- checkpoints ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """A trained network that describes itself.

    Attributes:
        kind: a key of ``wsss_cli.models.networks.KINDS``.
        backbone: name of the backbone.
        classes: class names, without background.
        config: plain data to rebuild the network, and the settings of its training.
        state_dict: its weights.
        digest: first 16 hexadecimal digits of the file's SHA-256.
        path: of the file, for messages.
    """

    kind: str
    backbone: str
    classes: tuple[str, ...]
    config: dict[str, Any]
    state_dict: dict[str, Tensor]
    digest: str
    path: str = "the checkpoint"


def save_checkpoint(
    path: str | Path,
    *,
    kind: str,
    backbone: str,
    classes: Sequence[str],
    config: Mapping[str, Any],
    state_dict: Mapping[str, Tensor],
) -> None:
    """Write a checkpoint that ``torch.load(weights_only=True)`` reads; see :class:`Checkpoint`."""
    save_tensors(
        path,
        {
            "format": _CHECKPOINT_FORMAT,
            "kind": kind,
            "backbone": backbone,
            "classes": list(classes),
            "config": dict(config),
            "state_dict": {key: value.detach().cpu() for key, value in state_dict.items()},
        },
    )


def load_checkpoint(path: str | Path, *kinds: str) -> Checkpoint:
    """A checkpoint of one of ``kinds`` (any kind if none is named), on the CPU.

    Raises:
        ConfigurationError: missing, truncated, no wsss checkpoint, holding code, or another kind.
    """
    data = load_tensors(path, "checkpoint")
    if data.get("format") != _CHECKPOINT_FORMAT:
        raise ConfigurationError(f"{path}: not a wsss checkpoint (train one with 'wsss train-cam')")
    if wrong := [key for key, is_right in _PARTS.items() if not is_right(data.get(key))]:
        raise ConfigurationError(
            f"{path}: a damaged checkpoint: '{wrong[0]}' is missing or not what a trainer writes"
        )
    if kinds and data["kind"] not in kinds:
        raise ConfigurationError(
            f"{path}: a checkpoint of kind {' or '.join(kinds)} is needed, "
            f"this is of kind {data['kind']}"
        )
    return Checkpoint(
        data["kind"],
        data["backbone"],
        tuple(data["classes"]),
        data["config"],
        data["state_dict"],
        inputs.digest(path) or "",
        str(path),
    )


# What a checkpoint holds beside its format, and whether a value can be right.
_PARTS: dict[str, Callable[[Any], bool]] = {
    "kind": lambda value: isinstance(value, str),
    "backbone": lambda value: isinstance(value, str),
    "classes": lambda value: (
        isinstance(value, list)
        and len(value) > 0
        and all(isinstance(name, str) for name in value)
        and inputs.can_be_classes(value)
    ),
    "config": lambda value: isinstance(value, dict),
    "state_dict": lambda value: (
        isinstance(value, dict)
        and all(isinstance(key, str) for key in value)
        and all(hasattr(part, "is_floating_point") for part in value.values())
    ),
}


def save_tensors(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write a dict of tensors and plain data; equal data give equal bytes, and so one digest."""
    import torch

    # Given a path, torch would write its name, which is random here, into the file.
    with atomic(path) as temporary, open(temporary, "wb") as stream:
        try:
            torch.save(dict(data), stream)
        except RuntimeError as error:  # torch reports a full disk so
            raise WsssError(
                f"cannot write {path}; is the disk full? ({describe(error)})"
            ) from error


@contextmanager
def opened(path: str | Path, what: str) -> Iterator[BinaryIO]:
    """A file that a command cannot do without.

    Raises:
        ConfigurationError: missing, unreadable or no file; or the block raises ValueError. ``what``
            names it in the message.
    """
    try:
        with open_regular(path) as stream:
            yield stream
    except FileNotFoundError as error:
        raise ConfigurationError(f"cannot read {what}: {path}: no such file") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {what}: {describe(error)}") from error
    except ValueError as error:
        raise ConfigurationError(f"cannot read {what}: {path}: {error}") from error


def load_tensors(path: str | Path, what: str) -> dict[str, Any]:
    """A dict of tensors and plain data, on the CPU; pickles with anything else are refused.

    Raises:
        ConfigurationError: missing, truncated, or holding code; ``what`` names it in the message.
    """
    import torch

    with opened(path, what):
        pass
    _check_archive(path, what)
    try:
        with warnings.catch_warnings(action="ignore"):  # of a pickle that is then refused
            data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigurationError(
            f"cannot read {what}: {path}: refused, it holds more than tensors and plain data "
            "or is no PyTorch file"
        ) from error
    except Exception as error:  # garbage fails anywhere in the unpickler
        raise ConfigurationError(
            f"cannot read {what}: {path}: truncated or no PyTorch file"
        ) from error
    if not isinstance(data, dict):
        raise ConfigurationError(f"cannot read {what}: {path}: not a dict of tensors")
    return data


def _check_archive(path: str | Path, what: str) -> None:
    """Raise ConfigurationError if a part of a PyTorch file is damaged; torch checks no CRC."""
    try:
        with open(path, "rb") as stream:
            if stream.read(4) != b"PK\3\4":
                return  # for torch to open: formats of old versions are no archives
        with zipfile.ZipFile(path) as archive:
            # Torch takes the one for a folder and reads whatever was in memory; the other it never
            # writes, and few bytes can be unpacked to many.
            strange = [
                entry.filename
                for entry in archive.infolist()
                if entry.external_attr & _FOLDER or not _is_stored(entry)
            ]
            damaged = strange[0] if strange else archive.testzip()
    except OSError:
        return  # torch reports a missing file
    except zipfile.BadZipFile as error:
        raise ConfigurationError(
            f"cannot read {what}: {path}: truncated or no PyTorch file"
        ) from error
    except Exception:  # damage shows anywhere in zipfile
        damaged = "an entry"
    if damaged:
        raise ConfigurationError(
            f"cannot read {what}: {path}: {damaged} is damaged; copy or make the file again"
        )
