"""The files that tools exchange: photographs, label maps, activation maps, checkpoints.

Every write goes to a temporary name in the same folder and is renamed, so a file that exists is
whole. Each file stores its *provenance*: tool, version, parameters, checkpoint digest, and the
provenance of the files it was made from. Nothing is ever unpickled.

Torch is imported only by the two checkpoint functions.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import re
import stat
import struct
import threading
import time
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.lib.format as npy
import numpy.typing as npt
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from wsss_cli import __version__
from wsss_cli.classes import IGNORE as IGNORE  # also as files.IGNORE
from wsss_cli.classes import MAX_CLASSES, palette
from wsss_cli.errors import ConfigurationError, WsssError, describe

if TYPE_CHECKING:
    from torch import Tensor

Meta = dict[str, Any]

_PNG_KEY = "wsss"  # the PNG text chunk that holds the provenance
_TEMPORARY = ".wsss-"
_LEFTOVER = re.compile(r"\.wsss-[0-9a-f]+(-[0-9]+)?\.tmp")  # of early versions too
_MINUTE, _DAY = 60.0, 86400.0  # seconds
MAX_PIXELS = 1 << 27  # of a picture: 134 million; reading takes 3 to 13 bytes for each
_SEVERAL = "holds several pictures; save the one that is meant as a file of its own"
_SUBFILE, _LESSER = 254, 1 | 4  # TIFF tag: a smaller copy or a mask of the first page
_MAX_PAGES = 100
_WHITE = {"I;12": 4095, "I;16S": 32767, "I;16BS": 32767}  # by Pillow's names for pixels in TIFFs
# Below these no value of 16 bits is believed: cameras put 10 to 14 bits in 16. A map may be dark.
_DARK_PHOTOGRAPH, _DARK_MAP = 1 << 14, 1 << 12
_STATED = (341, 281)  # TIFF tags: the largest value
_LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")  # formats
_GREY_BITS = re.compile("L;([24])")  # Pillow's names for grey pictures of 2 and 4 bits a pixel
_BINARY = (
    "a binary mask: 0 and {0} only, and 255 means 'ignore'; write the class number instead of {0}"
)
_CHECKPOINT_FORMAT = "wsss-checkpoint-1"
_MOST_TEXT, _MOST_MAPS = 1 << 24, 1 << 29  # bytes of the arrays in an NPZ
_NPY_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# numpy parses headers as Python, and Python 3.11 fails when two threads do so at once (gh-106905).
_PARSING = threading.Lock()
_CANNOT_READ = (OSError, ValueError, SyntaxError, EOFError, zlib.error, zipfile.BadZipFile)

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # twice that size is refused


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


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove the temporary files that killed processes left in a folder.

    Those that nobody has locked, or that are older than a day. What was written in the last minute
    is left alone: its writer may be on a machine whose locks do not reach here.

    Returns:
        The files removed.
    """
    removed = []
    try:
        found = [entry for entry in os.scandir(folder) if _LEFTOVER.fullmatch(entry.name)]
    except OSError:
        return []
    for entry in found:
        try:
            age = time.time() - entry.stat(follow_symlinks=False).st_mtime
            if age < _MINUTE:
                continue
            descriptor = os.open(entry.path, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                if age > _DAY or _lock(descriptor):
                    os.unlink(entry.path)
                    removed.append(Path(entry.path))
            finally:
                os.close(descriptor)
        except OSError:
            continue  # its writer has finished, or another process removes it
    return removed


# ---- provenance ----------------------------------------------------------------------------------


def provenance(
    tool: str,
    params: Mapping[str, Any],
    *,
    checkpoint: str | None = None,
    classes: Sequence[str] | None = None,
    sources: Mapping[str, Meta | None] | None = None,
) -> Meta:
    """The origin of a file, as plain JSON data.

    Args:
        tool: the command's name.
        params: the parameters that change the result (not devices or numbers of workers).
        checkpoint: digest of the checkpoint used.
        classes: the whole class list that class numbers and names refer to.
        sources: provenance of the files the tool read, by record key.
    """
    meta: Meta = {"tool": tool, "version": __version__, "params": dict(params)}
    if checkpoint:
        meta["checkpoint"] = checkpoint
    if classes is not None:
        meta["classes"] = list(classes)
    if known := {key: value for key, value in (sources or {}).items() if value}:
        meta["from"] = known
    plain: Meta = json.loads(json.dumps(meta))  # tuples become lists, as they will be when read
    return plain


def read_meta(path: str | Path) -> Meta | None:
    """The provenance stored in an NPZ or PNG, or None where there is no such file or none in it."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".npz", ".png"):
        return None
    try:
        _check_regular(path)
        if suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                text = str(_Array.of(archive, "meta").read())
        else:
            with Image.open(path) as image:
                text = image.info[_PNG_KEY]
        meta = json.loads(text)
    except Exception:  # damage shows anywhere in the libraries
        return None
    return meta if isinstance(meta, dict) else None


def made_by(path: str | Path) -> str | None:
    """The tool that made an NPZ or PNG, by its provenance.

    Returns:
        Empty for a good file of another origin; None where there is no file, or a damaged one.
    """
    if (meta := read_meta(path)) is not None:
        return str(meta.get("tool", ""))
    try:
        _check_regular(path)
        if Path(path).suffix.lower() == ".npz":
            with zipfile.ZipFile(path):
                return ""
        with Image.open(path):
            return ""
    except Exception:
        return None


# ---- pictures ------------------------------------------------------------------------------------


@contextmanager
def _reading(path: str | Path, what: str) -> Iterator[None]:
    """Turns whatever the libraries raise while a file is read into one WsssError that names it.

    A pipe or a device is refused instead of waited for. An error of ours passes as it is.
    """
    try:
        _check_regular(path)
        yield
    except WsssError:
        raise
    except Exception as error:  # damage shows anywhere in the libraries
        why = _reason(error, path)
        prefix = "" if str(path) in why else f"{path}: "
        raise WsssError(f"cannot read {what}: {prefix}{why}") from error


def _check_regular(path: str | Path) -> None:
    """Raise ValueError for what is no file: opening a pipe waits for its writer."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a regular file, but a folder, a pipe or a device")


def _reason(error: Exception, path: str | Path) -> str:
    """Why a file cannot be read, in words."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not a picture in a known format" if os.stat(path).st_size else "empty file"
    if isinstance(error, MemoryError | Image.DecompressionBombError):
        return "too large; make it smaller first"
    why = describe(error)
    if "Decompressed data too large" in why or "memory used in text chunks" in why:
        return "its texts are too large; save the picture without them"
    return "truncated file" if "is truncated" in why or "broken data stream" in why else why


@contextmanager
def _opened(path: str | Path, what: str) -> Iterator[Image.Image]:
    """A picture whose header is read and checked, not yet decoded.

    Raises:
        WsssError: also what fails in the block.
    """
    with _reading(path, what), Image.open(path) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        if image.format == "TIFF":
            _check_tiff(image)
        elif getattr(image, "is_animated", False) and image.format not in ("MPO", "PSD"):
            raise ValueError(_SEVERAL)  # those two begin with the whole photograph
        yield image


def _check_tiff(image: Image.Image) -> None:
    """Raise ValueError for what Pillow would drop of a TIFF: bands beyond the fourth, pages."""
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    bands = image.tag_v2.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    if bands > 4:
        raise ValueError(f"has {bands} bands; save the red, green and blue one as a PNG")
    try:
        for page in range(1, _MAX_PAGES):
            image.seek(page)
            if not image.tag_v2.get(_SUBFILE, 0) & _LESSER:
                raise ValueError(_SEVERAL)
    except EOFError:
        pass  # no more pages
    image.seek(0)


def _shown_size(image: Image.Image) -> tuple[int, int]:
    """(H, W) as viewers show a picture, by its EXIF orientation."""
    turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return image.size if turned else (image.height, image.width)


def _open_image(path: str | Path, what: str) -> Image.Image:
    """The decoded picture, or a WsssError that names it."""
    with _opened(path, what) as image:
        image.load()
        return image


def read_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """A photograph as RGB, uint8 of shape (H, W, 3), C-contiguous and writable.

    Grey, palette, CMYK, 16-bit and transparent pictures are converted; the EXIF orientation is
    applied, so that the pixels lie as viewers and annotation programs show them.

    White is 65535 in 16 bits, or what a TIFF states as its largest value; 255 in 32 bits if no
    value is above it, else 65535; 1 in floating point if no value is above it, else 255.

    Raises:
        WsssError: missing, empty, truncated, too large (:data:`MAX_PIXELS`), or not a picture; with
            several pictures or more than 4 bands; with NaN or values beyond those ranges; of 16
            bits without saying that it uses at most 14 of them, so that it would be dark.
    """
    return np.array(open_rgb(path))


def open_rgb(path: str | Path, *, at_least: int | None = None) -> Image.Image:
    """:func:`read_image` as a Pillow picture.

    Args:
        path: the file.
        at_least: if given, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as its
            long side stays at least this many pixels; much faster where it is shrunk anyway.
    """
    with _opened(path, "image") as image:
        if at_least is not None:
            scale = at_least / max(image.size)
            image.draft("RGB", (int(image.width * scale) + 1, int(image.height * scale) + 1))
        depth = _Depth.of(image)
        image.load()
        return _to_rgb(image, depth)


def read_bounded(path: str | Path, max_side: int) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """:func:`read_image`, made smaller (bilinear) if its long side exceeds ``max_side`` pixels.

    Args:
        path: the file.
        max_side: 0 is no bound.

    Returns:
        The pixels, uint8 (h, w, 3), and the photograph's own size (H, W).
    """
    size = image_size(path)
    if not max_side or max(size) <= max_side:
        return read_image(path), size
    shrink = max_side / max(size)
    small = (max(round(size[1] * shrink), 1), max(round(size[0] * shrink), 1))
    picture = open_rgb(path, at_least=max_side)
    return np.array(picture.resize(small, Image.Resampling.BILINEAR)), size


class _Depth(NamedTuple):
    """How deep the pixels of a file are, known before they are decoded.

    Attributes:
        raw: Pillow's name for their form in the file.
        white: the value that is white by the file itself, or None.
    """

    raw: str
    white: float | None

    @classmethod
    def of(cls, image: Image.Image) -> _Depth:
        raw = _raw_mode(image)
        white: float | None = None
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            stated = [image.tag_v2[tag] for tag in _STATED if tag in image.tag_v2]
            # One value a band, or one alone.
            white = np.max(stated[0]).item() if stated else _WHITE.get(raw)
        return cls(raw, white if white and white > 1 else None)


def _to_rgb(image: Image.Image, depth: _Depth) -> Image.Image:
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith(("I", "F")):  # Pillow would clip to 255 instead of scaling
        deep = np.asarray(image)
        white = _white(deep, depth, least=_DARK_PHOTOGRAPH)
        half = 0.5 if deep.dtype.kind == "f" else 0
        image = Image.fromarray((deep * (255.0 / white) + half).astype(np.uint8))
    elif "16" in depth.raw:  # Pillow takes the upper 8 bits of each
        highest = np.asarray(image.convert("RGB")).max()
        _check_used_bits(int(highest) << 8, least=_DARK_PHOTOGRAPH)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _white(values: npt.NDArray[Any], depth: _Depth, *, least: int) -> float:
    """The value that is white in a picture of more than 8 bits or in floating point.

    Args:
        values: (H, W).
        depth: of its file.
        least: a picture of 16 bits without a higher value is refused.

    Raises:
        ValueError: NaN, or values that are out of all ranges.
    """
    fractions = values.dtype.kind == "f"
    if fractions and not np.isfinite(values).all():
        raise ValueError("holds NaN or infinite values")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > (255 if fractions else 65535):
        ranges = "0 to 1 or 0 to 255" if fractions else "0 to 255 or 0 to 65535"
        raise ValueError(f"holds values from {low:g} to {high:g}, not {ranges}; save it in 8 bits")
    if fractions:
        return 1 if high <= 1 else 255
    if depth.white and high <= depth.white:
        return depth.white
    if high <= 255 and "32" in depth.raw:
        return 255
    _check_used_bits(int(high), least=least)
    return 65535


def _check_used_bits(high: int, *, least: int) -> None:
    """Raise ValueError if the highest value of a picture of 16 bits is too low to be believed."""
    if 0 < high < least:
        raise ValueError(
            f"uses {high.bit_length()} of its 16 bits, so that it would be dark; "
            "stretch it to all 16, or save it in 8 bits"
        )


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of a photograph as :func:`read_image` gives it, without decoding it."""
    with _opened(path, "image") as image:
        return _shown_size(image)


def read_grey(path: str | Path, size: tuple[int, int] | None = None) -> npt.NDArray[np.float32]:
    """A grey map such as saliency: float32 (H, W) in [0, 1]; 8-bit 255 or 16-bit 65535 is 1.

    In a map without values above 1, whole numbers or not, 1 is 1.

    Args:
        path: the file, of 1 to 32 bits a pixel; transparency does not count. One saved with three
            channels or a palette is read if each of its pixels is grey.
        size: (H, W) to resize to (bilinear) where the map has another size.

    Raises:
        WsssError: unreadable; a coloured picture; values out of range, as :func:`read_image`; much
            larger than ``size``, or lying on its side.
    """
    with _opened(path, "grey map") as image:
        if size is not None and image.width * image.height > max(16 * size[0] * size[1], 1 << 24):
            raise ValueError(
                f"{image.width}x{image.height}, much larger than its image {size[1]}x{size[0]}"
            )
        depth = _Depth.of(image)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if size is not None and size[0] != size[1] and image.size == tuple(size):
            raise ValueError(
                f"{image.width}x{image.height}, but its image {size[1]}x{size[0]}: it lies on its "
                "side; turn it as the photograph is turned"
            )
        values = _grey_values(image, depth, path)
    if size is not None and values.shape != tuple(size):
        resized = Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        values = np.array(resized)
    return values.clip(0, 1)


def _grey_values(image: Image.Image, depth: _Depth, path: str | Path) -> npt.NDArray[np.float32]:
    """The values of a decoded grey map, float32 (H, W) in [0, 1]."""
    values: npt.NDArray[Any]
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        one = 1.0 if values.max() == 1 else _white(values, depth, least=_DARK_MAP)
        return values.astype(np.float32) / np.float32(one)
    if image.mode in ("1", "L", "LA"):
        values = np.asarray(image.convert("L"))
    else:
        colours = np.asarray(image.convert("RGB"))
        if (colours != colours[..., :1]).any():
            raise WsssError(
                f"{path}: a grey map holds one value a pixel, 255 or 65535 where it is highest, "
                f"this is {image.mode} and not grey; convert it first"
            )
        values = colours[..., 0]
    bits = _GREY_BITS.match(depth.raw)
    one = 255 // (2 ** int(bits[1]) - 1) if bits else 1  # Pillow stretches few bits to 255
    return values.astype(np.float32) / (one if values.max() == one else 255)


def size_note(path: str | Path, size: tuple[int, int]) -> str:
    """How :func:`read_grey` resizes a map of another size than (H, W), in words; else nothing."""
    height, width = image_size(path)
    own, wanted = f"{width}x{height}", f"{size[1]}x{size[0]}"
    return f"of {own} resized to {wanted}" if own != wanted else ""


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
    info = PngImagePlugin.PngInfo()
    if meta is not None:
        info.add_text(_PNG_KEY, json.dumps(meta))
    with atomic(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=info, compress_type=strategy)


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


# ---- label maps ----------------------------------------------------------------------------------


def read_label_map(path: str | Path, size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """A label map, uint8 of shape (H, W): 0 background, class numbers from 1, 255 ignore.

    Args:
        path: a palette or grey PNG of up to 8 bits, read as the numbers that are stored; with 16
            bits if none is above 255.
        size: (H, W) that it must have, if given.

    Raises:
        WsssError: unreadable, coloured instead of numbered, of another size, saved with losses; a
            mask of 0 and 255 alone, where 255 means the object; or numbered anew by an editor, so
            that colours of VOC stand at other numbers. The palette of :func:`write_label_map` tells
            that it is none of these; the provenance does not, as some editors keep it.
    """
    with _opened(path, "label map") as image:
        _check_form(image, path)
        if size is not None:
            _check_size(image, size, path)
        bits = _GREY_BITS.match(_raw_mode(image))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if size is not None:
            _check_size(image, size, path, turned=False)
        if image.mode not in ("P", "L"):
            return _whole_numbers(image, path)
        if bits:  # Pillow stretches them to 255
            return np.array(image) // np.uint8(255 // (2 ** int(bits[1]) - 1))
        labels = np.array(image)
        colours = image.getpalette() if image.mode == "P" else []
        _check_numbers(labels, np.array(colours, np.uint8).reshape(-1, 3), path)
        return labels


def _check_size(
    image: Image.Image, size: tuple[int, int], path: str | Path, *, turned: bool = True
) -> None:
    """Raise WsssError unless a label map is of ``size`` (H, W).

    Args:
        image: the label map.
        size: that of its image.
        path: its file.
        turned: also let a map pass that lies on its side, whose orientation is not known before it
            is decoded.
    """
    own, wanted = (image.height, image.width), tuple(size)
    on_its_side = own == wanted[::-1]
    if own == wanted or (turned and on_its_side):
        return
    note = "; turn it as the photograph is turned" if on_its_side else ""
    raise WsssError(f"{path}: label map is {own[1]}x{own[0]}, its image {size[1]}x{size[0]}{note}")


def _raw_mode(image: Image.Image) -> str:
    """Pillow's name for the form of the pixels in the file; before they are decoded."""
    tiles = getattr(image, "tile", ())
    arguments = tiles[0].args if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _check_form(image: Image.Image, path: str | Path) -> None:
    """Raise WsssError if by its header a picture can be no label map."""
    form = str(image.format)
    inside = image.info.get("compression") in ("jpeg", "webp")
    if inside:
        form += f" with {image.info['compression'].upper()} inside"
    if inside or form in _LOSSY:
        raise WsssError(
            f"{path}: a label map cannot be {form}, which changes the numbers; "
            "make it again and save it as PNG"
        )
    if image.mode in ("P", "L", "1") or image.mode.startswith("I"):
        return
    remedy = {
        "F": "save whole numbers in 8 bits",
        "LA": "save it without transparency",
        "PA": "save it without transparency",
    }.get(image.mode, "convert its colours to numbers first")
    raise WsssError(
        f"{path}: a label map holds class numbers in an 8-bit palette or grey PNG, "
        f"this is {image.mode}; {remedy}"
    )


def _whole_numbers(image: Image.Image, path: str | Path) -> npt.NDArray[np.uint8]:
    """The numbers of a label map of 1, 16 or 32 bits a pixel."""
    numbers = np.asarray(image)
    if image.mode == "1":
        return numbers.astype(np.uint8)
    low, high = int(numbers.min()), int(numbers.max())
    if high == 65535 and np.isin(numbers, (0, high)).all():
        raise WsssError(f"{path}: {_BINARY.format(high)}")
    if low < 0 or high > 255:
        raise WsssError(
            f"{path}: a label map holds class numbers from 0 to 255, "
            f"this one numbers from {low} to {high} in {8 * numbers.itemsize} bits"
        )
    labels: npt.NDArray[np.uint8] = numbers.astype(np.uint8)
    _check_binary(labels, path)
    return labels


def _check_numbers(
    labels: npt.NDArray[np.uint8], colours: npt.NDArray[np.uint8], path: str | Path
) -> None:
    """Raise WsssError if the numbers of an 8-bit label map are none of wsss's.

    Args:
        labels: the numbers.
        colours: its palette, uint8 (N, 3); empty if it is grey.
        path: its file.
    """
    voc = palette()
    if not np.array_equal(colours[IGNORE:], voc[IGNORE:]):
        _check_binary(labels, path)
    if len(colours) and not np.array_equal(colours, voc[: len(colours)]):
        _check_palette(colours, np.bincount(labels.ravel(), minlength=256) > 0, path)


def _check_binary(labels: npt.NDArray[np.uint8], path: str | Path) -> None:
    """Raise WsssError if there is 255 in a label map, and beside it at most 0."""
    if labels.max() == IGNORE and not (labels - np.uint8(1) < IGNORE - 1).any():  # 0 becomes 255
        raise WsssError(f"{path}: {_BINARY.format(IGNORE)}")


def _check_palette(
    colours: npt.NDArray[np.uint8], used: npt.NDArray[np.bool_], path: str | Path
) -> None:
    """Raise WsssError if colours of VOC stand at other numbers than VOC's.

    So it is after an editor has saved a map with a palette of its own, in which every colour got a
    new number. In a palette that somebody chose some colours may be VOC's by chance: greys, or the
    road of Cityscapes. They betray an editor only where there is no other colour at all, or where
    colours of VOC's 20 classes are half of those used.

    Args:
        colours: uint8 (N, 3), the palette; numbers beyond it have no colour.
        used: bool (256,), the numbers that are in the map.
        path: its file.
    """
    place = {tuple(colour): number for number, colour in enumerate(palette().tolist())}
    numbers = [place.get(tuple(colour)) for colour in colours.tolist()]
    coloured = [number for number in np.flatnonzero(used[: len(colours)]) if colours[number].any()]
    wrong = [number for number in coloured if numbers[number] not in (None, number)]
    telling = [
        number
        for number in wrong
        if numbers[number] in (*range(1, 21), IGNORE) and np.ptp(colours[number])
    ]
    if wrong and (None not in numbers or 2 * len(telling) >= len(coloured)):
        first = telling[0] if telling else wrong[0]
        raise WsssError(
            f"{path}: number {first} has the colour of VOC's number {numbers[first]}: an editor "
            "gave new numbers to the colours; keep the palette when saving, or save the numbers "
            "as a grey PNG if they are right"
        )


def write_label_map(
    path: str | Path, labels: npt.NDArray[np.uint8], meta: Meta | None = None
) -> None:
    """Write class numbers, uint8 (H, W), as palette PNG in the VOC colours, with provenance."""
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(f"label map must be uint8 (H, W), not {labels.dtype} {labels.shape}")
    image = Image.fromarray(labels)
    image.putpalette(palette().tobytes())
    # Regions are runs: as small as with Pillow's choice, in a third of the time.
    write_image(path, image, meta, strategy=zlib.Z_RLE)


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
            if version not in _NPY_HEADERS:
                raise ValueError(f"array {name} of version {version}")
            with _PARSING:
                shape, by_column, dtype = _NPY_HEADERS[version](stream)
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


def read_maps(path: str | Path, size: tuple[int, int] | None = None) -> Maps:
    """Activation maps from an NPZ.

    The maps are unpacked only if their header fits the classes and the size of the image.

    Args:
        path: the file.
        size: (H, W) that their image must have, if given.

    Raises:
        WsssError: unreadable or truncated, pickled, of an image of another size or larger than it,
            or values outside [0, 1] (NaN included).
    """
    with _reading(path, "maps"):
        try:
            with zipfile.ZipFile(path) as archive:
                packed = _Array.of(archive, "cam")
                classes = tuple(str(name) for name in _Array.of(archive, "classes").read())
                own = tuple(int(side) for side in _Array.of(archive, "size").read())
                meta = json.loads(str(_Array.of(archive, "meta").read()))
                _check_maps(packed, classes, own, path)
                if size is not None and own != tuple(size):
                    raise WsssError(
                        f"{path}: maps of an image of {own[1]}x{own[0]}, "
                        f"but this one is {size[1]}x{size[0]}"
                    )
                cam = packed.read(_MOST_MAPS)
        except KeyError as error:
            raise ValueError(f"no array {describe(error)} in it") from error
        except (WsssError, FileNotFoundError, MemoryError):
            raise
        except Exception as error:  # damage shows anywhere in zipfile, zlib and numpy
            raise ValueError("truncated or not an NPZ of wsss") from error
    if not isinstance(meta, dict):
        raise WsssError(f"{path}: maps must come with JSON meta; make them again")
    if not isinstance(meta.get("classes", []), list):
        raise WsssError(f"{path}: its class list is not a list of names; make the maps again")
    if cam.size and not (cam.min() >= 0 and cam.max() <= 1):  # false for NaN too
        raise WsssError(f"{path}: maps hold NaN or values outside 0 to 1; make them again")
    return Maps(cam.astype(np.float16, copy=False), classes, (own[0], own[1]), meta)


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
    """

    kind: str
    backbone: str
    classes: tuple[str, ...]
    config: dict[str, Any]
    state_dict: dict[str, Tensor]
    digest: str


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
    if kinds and data["kind"] not in kinds:
        raise ConfigurationError(
            f"{path}: a checkpoint of kind {' or '.join(kinds)} is needed, "
            f"this is of kind {data['kind']}"
        )
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    return Checkpoint(
        data["kind"],
        data["backbone"],
        tuple(data["classes"]),
        data["config"],
        data["state_dict"],
        digest,
    )


def save_tensors(path: str | Path, data: Mapping[str, Any]) -> None:
    """Write a dict of tensors and plain data."""
    import torch

    with atomic(path) as temporary:
        try:
            torch.save(dict(data), temporary)
        except RuntimeError as error:  # torch reports a full disk so
            raise WsssError(
                f"cannot write {path}; is the disk full? ({describe(error)})"
            ) from error


def load_tensors(path: str | Path, what: str) -> dict[str, Any]:
    """A dict of tensors and plain data, on the CPU; pickles with anything else are refused.

    Raises:
        ConfigurationError: missing, truncated, or holding code; ``what`` names it in the message.
    """
    import torch

    _check_archive(path, what)
    try:
        with warnings.catch_warnings(action="ignore"):  # of a pickle that is then refused
            data = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConfigurationError(f"cannot read {what}: {path}: no such file") from error
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
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile):
        return  # for torch to open: it reports a missing file, and old formats are no archives
    except _CANNOT_READ:
        damaged = "an entry"
    if damaged:
        raise ConfigurationError(
            f"cannot read {what}: {path}: {damaged} is damaged; copy or make the file again"
        )
