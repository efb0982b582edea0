"""Reading photographs, grey maps and label maps from anywhere: right, or refused in one line.

Programs write pictures in many forms, and libraries read most of them without a word about what
they drop, clip or stretch. What a file says of itself is believed; what could be read in two ways
is refused with the remedy.
"""

from __future__ import annotations

import os
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from wsss_cli.classes import IGNORE, palette
from wsss_cli.errors import WsssError, describe
from wsss_cli.texts import open_regular

MAX_PIXELS = 1 << 27  # of a picture: 134 million; reading takes 3 to 13 bytes for each
OBJECTS_KEY = "wsss-objects"  # the PNG text of the classes and scores of an instance map
_SEVERAL = "holds several pictures; save the one that is meant as a file of its own"
_SUBFILE, _LESSER = 254, 1 | 4  # TIFF tag: a smaller copy or a mask of the first page
_MAX_PAGES = 100
_RGB = 2  # of TIFF, the photometric interpretation
_COLOURS = {0: 1, 1: 1, _RGB: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # bands of colour, by the same
_TRANSPARENCY = (1, 2, 999)  # meanings of a further band in a TIFF; the last is Corel's
_LONG, _MOST_BYTES = 1 << 26, 16  # bytes of a file that is long; of a pixel
_WHITE = {"I;12": 4095, "I;16S": 32767, "I;16BS": 32767}  # by Pillow's names for pixels in TIFFs
# Below these no value of 16 bits is believed: cameras put 10 to 14 bits in 16. A map may be dark.
_DARK_PHOTOGRAPH, _DARK_MAP = 1 << 14, 1 << 12
_DARK = 16.0  # in floating point, the highest of 255
_STATED = (341, 281)  # TIFF tags: the largest value
_MAY_TURN = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}  # parts of a PNG
_DAMAGED = "begins as a {}, but is truncated, damaged or of an unknown kind"
_STARTS = tuple(
    (name, re.compile(start, re.DOTALL))
    for name, start in (
        ("JPEG", rb"\xff\xd8\xff"),
        ("PNG", rb"\x89PNG\r\n\x1a\n"),
        ("TIFF", rb"II[*+]\0|MM\0[*+]"),
        ("WebP", rb"RIFF....WEBP"),
        ("BMP", rb"BM....\0\0\0\0"),
    )
)
_RUN = ("EPS", "WMF")  # formats that Pillow hands to another program
_LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")  # formats
_INVERTED = re.compile(r";\d*(I|R|IR)$")  # Pillow's names for white that is 0, bits from the right
_SIGNED = 2  # TIFF tag SampleFormat
_GREY_BITS = re.compile("L;([24])")  # Pillow's names for grey pictures of 2 and 4 bits a pixel
_BINARY = (
    "a binary mask: 0 and {0} only, and 255 means 'ignore'; write the class number instead of {0}"
)

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # twice that size is refused
# Of what it skips in a damaged file. If it lacks pixels, there is an error too, which we tell.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


# ---- opening -------------------------------------------------------------------------------------


@contextmanager
def reading(path: str | Path, what: str) -> Iterator[BinaryIO]:
    """An open file, and whatever the libraries raise in the block as one WsssError that names it.

    A pipe or a device is refused instead of waited for. An error of ours passes as it is.
    """
    try:
        with open_regular(path) as stream:
            yield stream
    except WsssError:
        raise
    except Exception as error:  # damage shows anywhere in the libraries
        why = _reason(error, path)
        prefix = "" if str(path) in why else f"{path}: "
        raise WsssError(f"cannot read {what}: {prefix}{why}") from error


def _reason(error: Exception, path: str | Path) -> str:
    """Why a file cannot be read, in words."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return _unidentified(path)
    if isinstance(error, MemoryError | Image.DecompressionBombError):
        return "too large; make it smaller first"
    why = describe(error)
    if "Decompressed data too large" in why or "memory used in text chunks" in why:
        return "its texts are too large; save the picture without them"
    if why == "Truncated File Read" or "is truncated" in why or "broken data stream" in why:
        return "truncated file"
    return _DAMAGED.format("WebP") if why == "could not create decoder object" else why


def _unidentified(path: str | Path) -> str:
    """Why a file is not known for a picture, by how it begins."""
    with open_regular(path) as stream:
        head = stream.read(12)
    if not head:
        return "empty file"
    for name, start in _STARTS:
        if start.match(head):
            return _DAMAGED.format(name)
    return "not a picture in a known format"


@contextmanager
def _opened(path: str | Path, what: str, *, header: bool = False) -> Iterator[Image.Image]:
    """A picture whose header is read and checked, not yet decoded.

    With ``header`` no more of the file is read; else all of it, which is faster than its parts.

    Raises:
        WsssError: also what fails in the block.
    """
    with (
        reading(path, what) as stream,
        Image.open(stream if header else BytesIO(_content(stream))) as image,
    ):
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        if image.format in _RUN:
            raise UnidentifiedImageError
        if image.format == "TIFF":
            _check_tiff(image)
        elif getattr(image, "is_animated", False) and image.format not in ("MPO", "PSD"):
            raise ValueError(_SEVERAL)  # those two begin with the whole photograph
        yield image


def _content(stream: BinaryIO) -> bytes:
    """All of a file that holds a picture.

    Raises:
        ValueError: it is much longer than its pixels.
    """
    length = os.fstat(stream.fileno()).st_size
    if length > _LONG:
        width, height = Image.open(stream).size
        if length > _LONG + _MOST_BYTES * width * height:
            raise ValueError(f"{length:,} bytes for {width}x{height} pixels")
        stream.seek(0)
    return stream.read()


def _check_tiff(image: Image.Image) -> None:
    """Raise ValueError for what Pillow would drop of a TIFF: pages; bands that are neither colour
    nor, by the file's own word, transparency."""
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    bands = image.tag_v2.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    if bands > 4:
        raise ValueError(f"has {bands} bands; save the red, green and blue one as a PNG")
    photometric = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 0)
    spare = bands - _COLOURS.get(photometric, bands)
    stated = image.tag_v2.get(TiffImagePlugin.EXTRASAMPLES, ())
    stated = stated if isinstance(stated, tuple) else (stated,)
    if spare > sum(meaning in _TRANSPARENCY for meaning in stated):
        colours = "red, green and blue one" if photometric == _RGB else "one that is meant"
        raise ValueError(
            f"has {bands} bands and does not say that the last is transparency, so it may be "
            f"infrared or another; save the {colours} as a PNG"
        )
    try:
        for page in range(1, _MAX_PAGES):
            image.seek(page)
            if not image.tag_v2.get(_SUBFILE, 0) & _LESSER:
                raise ValueError(_SEVERAL)
    except EOFError:
        pass  # no more pages
    image.seek(0)


def _decode(image: Image.Image) -> None:
    """Load the pixels; those of a PNG only if its checksums are right, which Pillow does not ask.

    Raises:
        ValueError: a part is damaged.
    """
    source = getattr(image, "fp", None)
    if image.format == "PNG" and isinstance(source, BytesIO):
        check_png(source.getbuffer())
    image.load()


def check_png(content: bytes | memoryview) -> bool:
    """Whether a PNG goes on to its last part.

    Raises:
        ValueError: a part is damaged.
    """
    at = 8
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4])
        if end + 4 > len(content):
            break
        if zlib.crc32(content[at + 4 : end]) != int.from_bytes(content[end : end + 4]):
            raise ValueError("damaged: a checksum is wrong; copy or make the file again")
        if bytes(content[at + 4 : at + 8]) == b"IEND":
            return True
        at = end + 4
    return False  # cut off: Pillow says so


def _shown_size(image: Image.Image) -> tuple[int, int]:
    """(H, W) as viewers show a picture, by its EXIF orientation."""
    turned = _orientation(image) in (5, 6, 7, 8)
    if turned and image.format == "TIFF":  # Pillow turns these itself, its header by version
        image.load()
        turned = _orientation(image) in (5, 6, 7, 8)
    return image.size if turned else (image.height, image.width)


def _orientation(image: Image.Image) -> int:
    """How viewers turn or mirror a picture, by its EXIF data: 1, not at all, to 8."""
    orientation: int = image.getexif().get(0x0112, 1)
    return orientation


# ---- pictures ------------------------------------------------------------------------------------


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
        _decode(image)
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
        # Nothing in the upper ones: 8 bits were written into the lower.
        _check_used_bits(max(int(highest) << 8, 255), least=_DARK_PHOTOGRAPH)
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
    if fractions and 1 < high < _DARK:
        raise ValueError(
            f"holds values from {low:g} to {high:g}, neither 0 to 1 nor 0 to 255; clip them to 1, "
            "or save it in 8 bits"
        )
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


def is_turned(path: str | Path) -> bool:
    """Whether viewers turn or mirror a photograph, by its EXIF orientation."""
    with _opened(path, "image", header=True) as image:
        return _orientation(image) in range(2, 9)


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of a photograph as :func:`read_image` gives it, without decoding it."""
    with _opened(path, "image", header=True) as image:
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
        _decode(image)
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
    return read_label_map_and_texts(path, size)[0]


def read_label_map_and_texts(
    path: str | Path, size: tuple[int, int] | None = None, *, of_instances: bool = False
) -> tuple[npt.NDArray[np.uint8], dict[Any, Any]]:
    """:func:`read_label_map`, and what else the file says, as Pillow's ``info``.

    An instance map that tells of its objects is refused unless asked for: its ids would pass for
    class numbers.
    """
    with _opened(path, "label map") as image:
        if OBJECTS_KEY in image.info and not of_instances:
            raise WsssError(f"{path}: an instance map, whose numbers are no classes")
        return _label_map(image, path, size), image.info


def _label_map(
    image: Image.Image, path: str | Path, size: tuple[int, int] | None
) -> npt.NDArray[np.uint8]:
    _check_form(image, path)
    stretch = _load_map(image, path, size)
    if image.mode not in ("P", "L"):
        return _whole_numbers(image, path)
    if stretch > 1:
        return np.array(image) // np.uint8(stretch)
    labels = np.array(image)
    colours = np.empty((0, 3), np.uint8)
    if image.mode == "P":
        written = bytes(image.palette.palette) if image.palette is not None else b""
        if written == palette().tobytes():  # as most are; a list of colours takes long
            return labels
        colours = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
    _check_numbers(labels, colours, path)
    return labels


def _load_map(image: Image.Image, path: str | Path, size: tuple[int, int] | None) -> int:
    """Decode a label map, and turn it upright.

    Returns:
        By what Pillow has multiplied its numbers: grey ones of 2 and 4 bits it stretches to 255.

    Raises:
        WsssError: it is not of ``size``.
    """
    if size is not None:
        _check_size(image, size, path)
    bits = _GREY_BITS.match(_raw_mode(image))
    _decode(image)
    if image.format != "PNG" or _MAY_TURN & image.info.keys():
        ImageOps.exif_transpose(image, in_place=True)
    if size is not None:
        _check_size(image, size, path, turned=False)
    return 255 // (2 ** int(bits[1]) - 1) if bits else 1


class Values(NamedTuple):
    """The values of the pixels of a label map of another tool.

    Attributes:
        numbers: int32 (H, W), or None if the file has colours alone.
        colours: uint8 (H, W, 3), or None if it has numbers alone. A palette has both.
    """

    numbers: npt.NDArray[np.int32] | None
    colours: npt.NDArray[np.uint8] | None


def read_values(path: str | Path, size: tuple[int, int] | None = None) -> Values:
    """The values of a label map of another tool, whatever they mean.

    Args:
        path: a palette, grey or RGB picture without losses, of up to 16 bits a pixel if grey.
        size: (H, W) that it must have, if given.

    Raises:
        WsssError: unreadable, of another size, saved with losses, with transparency, or with values
            that are no whole numbers.
    """
    with _opened(path, "label map") as image:
        _check_lossless(image, path)
        stretch = _load_map(image, path, size)
        if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
            image = image.convert("RGB")
        if image.mode == "RGB":
            return Values(None, np.array(image))
        if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
            raise WsssError(f"{path}: a label map has numbers or opaque colours, not {image.mode}")
        numbers = np.array(image).astype(np.int32) // stretch
        return Values(numbers, np.array(image.convert("RGB")) if image.mode == "P" else None)


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
    _check_lossless(image, path)
    if image.mode in ("P", "L", "1") or image.mode.startswith("I"):
        return
    mode = "LA" if _raw_mode(image).startswith("LA") else image.mode  # RGBA to Pillow if of 16 bits
    remedy = {
        "F": "save whole numbers in 8 bits",
        "LA": "save it without transparency",
        "PA": "save it without transparency",
    }.get(mode, "'wsss relabel' makes numbers of its colours")
    raise WsssError(
        f"{path}: a label map holds class numbers in an 8-bit palette or grey PNG, "
        f"this is {mode}; {remedy}"
    )


def _check_lossless(image: Image.Image, path: str | Path) -> None:
    """Raise WsssError if the values in a file are not those that somebody saved."""
    form = str(image.format)
    inside = image.info.get("compression") in ("jpeg", "webp")
    if inside:
        form += f" with {image.info['compression'].upper()} inside"
    if inside or form in _LOSSY:
        raise WsssError(
            f"{path}: a label map cannot be {form}, which changes the numbers; "
            "make it again and save it as PNG"
        )
    raw, tile = _raw_mode(image), (getattr(image, "tile", None) or [None])[0]
    signed = 0
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        stated = image.tag_v2.get(TiffImagePlugin.SAMPLEFORMAT, 1)
        signed = np.max(stated) == _SIGNED and image.mode == "L"
    # A PGM states its largest value, to which Pillow stretches the numbers.
    stretched = tile is not None and tile[0].startswith("ppm") and tile[3][1] not in (255, 65535)
    if _INVERTED.search(raw) or signed or stretched:
        what = "signed numbers" if signed else "a largest value of its own" if stretched else ""
        what = what or "bits in reverse, or 0 for white"
        raise WsssError(f"{path}: a {form} with {what}; save its class numbers as PNG")


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
