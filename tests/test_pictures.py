"""Pictures from anywhere: read rightly or refused in one line."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from wsss_cli import files, pictures
from wsss_cli.classes import palette
from wsss_cli.errors import WsssError

META = {"tool": "t", "version": "1", "params": {"a": [1, 2.5]}}
READERS = (pictures.read_image, pictures.image_size, pictures.read_grey, pictures.read_label_map)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def png(path: Path, rows: list[bytes], width: int, bits: int, kind: int = 0) -> Path:
    """A PNG of so many bits a value, and a kind of colours (0 is grey); each row as packed."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
        (b"IEND", b""),
    ]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            for name, body in chunks
        )
    )
    return path


# ---- photographs ----


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("L", "a.png"),
        ("P", "a.png"),
        ("RGBA", "a.png"),
        ("LA", "a.png"),
        ("1", "a.png"),
        ("CMYK", "a.jpg"),
        ("L", "a.jpg"),
        ("RGB", "a.webp"),
    ],
)
def test_every_kind_of_photograph_becomes_rgb(mode: str, name: str, tmp_path: Path) -> None:
    Image.fromarray(noise(10, 20, 3)).convert(mode).save(tmp_path / name)
    pixels = pictures.read_image(tmp_path / name)
    assert pixels.shape == (10, 20, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    deep = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert pictures.read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 128, 255]
    assert pictures.read_grey(tmp_path / "a.png")[0, 3] == 1.0


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 1, 99.6, 255]], np.float32), [0, 1, 100, 255]),
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 257, 25700, 65535]], np.int32), [0, 1, 100, 255]),
        (np.array([[0, 0]], np.uint16), [0, 0]),
        (np.array([[0, 257, 16384]], np.uint16), [0, 1, 63]),
    ],
)
def test_photographs_of_more_bits_are_read_by_their_range(
    values: Any, wanted: list[int], tmp_path: Path
) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    read = pictures.read_image(tmp_path / "a.tif")
    assert read.tolist() == [[[value] * 3 for value in wanted]]


@pytest.mark.parametrize("tag", [281, 341])
def test_a_tiff_may_state_what_is_white(tag: int, tmp_path: Path) -> None:
    deep = Image.fromarray(np.array([[0, 2048, 4095]], np.uint16))
    deep.save(tmp_path / "a.tif", tiffinfo={tag: 4095})
    assert pictures.read_image(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 127, 255]
    read = pictures.read_grey(tmp_path / "a.tif")
    np.testing.assert_allclose(read, [[0, 2048 / 4095, 1]], atol=1e-6)
    deep.save(tmp_path / "a.tif", tiffinfo={tag: 4000})
    with pytest.raises(WsssError, match="uses 12 of its 16 bits"):
        pictures.read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.array([[0, np.nan]], np.float32), "holds NaN or infinite values"),
        (np.array([[0, np.inf]], np.float32), "holds NaN or infinite values"),
        (np.array([[0, 300.5]], np.float32), "holds values from 0 to 300.5, not 0 to 1 or 0 to"),
        (np.array([[-0.5, 1]], np.float32), "holds values from -0.5 to 1, not 0 to 1 or 0 to 255"),
        (np.array([[0, 70000]], np.int32), "holds values from 0 to 70000, not 0 to 255 or 0 to"),
        (np.array([[-1, 5]], np.int32), "holds values from -1 to 5, not 0 to 255 or 0 to 65535"),
        (np.array([[0, 4095]], np.uint16), "uses 12 of its 16 bits, so that it would be dark; "),
        (np.array([[0, 16383]], np.uint16), "uses 14 of its 16 bits"),
        (np.array([[0, 255]], np.uint16), "uses 8 of its 16 bits"),
    ],
)
def test_photographs_out_of_all_ranges_are_refused(
    values: Any, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(WsssError) as caught:
        pictures.read_image(path)
    assert str(caught.value).startswith(f"cannot read image: {path}: {problem}")


@pytest.mark.parametrize(("kind", "bands"), [(2, 3), (6, 4), (4, 2)])
def test_colours_of_16_bits_that_use_12_are_refused(kind: int, bands: int, tmp_path: Path) -> None:
    for high, dark in ((4095, True), (40000, False)):
        pixel = struct.pack(f">{bands}H", *[high] * (bands - 1), 65535)
        if kind == 2:
            pixel = struct.pack(">3H", 0, 1, high)
        path = png(tmp_path / "a.png", [pixel * 2], 2, 16, kind)
        if dark:
            with pytest.raises(WsssError, match="of its 16 bits, so that it would be dark"):
                pictures.read_image(path)
        else:
            assert pictures.read_image(path).max() == 156


def tiff(path: Path, pixels: Any) -> Path:
    """A TIFF of any number of bands, uint8 (H, W, bands); Pillow writes no more than four."""
    height, width, bands = pixels.shape
    first = 8 + 2 + 12 * 10 + 4
    extra = bands - 3
    entries = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, bands, first), (259, 3, 1, 1)),
        *((262, 3, 1, 2), (273, 4, 1, first + 2 * bands + 2 * extra), (277, 3, 1, bands)),
        *(
            (278, 4, 1, height),
            (279, 4, 1, pixels.size),
            (338, 3, extra, first + 2 * bands if extra > 2 else 0),
        ),
    ]
    directory = b"".join(
        struct.pack("<HHI", tag, kind, count)
        + (struct.pack("<HH", value, 0) if kind == 3 and count == 1 else struct.pack("<I", value))
        for tag, kind, count, value in entries
    )
    path.write_bytes(
        b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)
        + struct.pack(f"<{bands}H", *[8] * bands) + bytes(2 * extra) + pixels.tobytes()
    )  # fmt: skip
    return path


def test_bands_that_would_be_dropped_are_told(tmp_path: Path) -> None:
    for bands in (5, 6):
        path = tiff(tmp_path / "a.tif", noise(4, 6, bands))
        with Image.open(path) as image:
            assert image.mode == "RGB"  # all that Pillow says
        with pytest.raises(WsssError, match=f"has {bands} bands; save the red, green and blue"):
            pictures.read_image(path)


def bands_tiff(path: Path, pixels: Any, photometric: int, extra: tuple[int, ...] | None) -> Path:
    """A TIFF, uint8 (H, W, bands), with any statement on its bands: Pillow writes always one."""
    height, width, bands = pixels.shape
    entries = {256: width, 257: height, 259: 1, 262: photometric, 277: bands, 278: height}
    entries[279] = pixels.size
    tags = {tag: struct.pack("<HI", 4, 1) + struct.pack("<I", n) for tag, n in entries.items()}
    count = len(tags) + 2 + (extra is not None)
    at = 8 + 2 + 12 * count + 4
    # Numbers of two bytes: up to two of them stand in the entry itself.
    deep = struct.pack(f"<{bands}H", *[8] * bands)
    tags[258] = struct.pack("<HI", 3, bands)
    tags[258] += deep.ljust(4, b"\0") if bands < 3 else struct.pack("<I", at)
    if extra is not None:
        tags[338] = struct.pack("<HI", 3, len(extra)) + struct.pack("<HH", *(*extra, 0)[:2])
    tags[273] = struct.pack("<HII", 4, 1, at + len(deep))
    directory = b"".join(struct.pack("<H", tag) + tags[tag] for tag in sorted(tags))
    path.write_bytes(
        b"II*\0" + struct.pack("<IH", 8, count) + directory + bytes(4) + deep + pixels.tobytes()
    )
    return path


@pytest.mark.parametrize("extra", [None, (0,)])
def test_a_fourth_band_that_is_not_stated_to_be_transparency_is_told(
    extra: tuple[int, ...] | None, tmp_path: Path
) -> None:
    """Near infrared of an aerial photograph, which Pillow drops without a word."""
    path = bands_tiff(tmp_path / "a.tif", noise(4, 6, 4), 2, extra)
    for read in (pictures.read_image, pictures.image_size):
        with pytest.raises(WsssError, match=r"a\.tif: has 4 bands and does not say .* save"):
            read(path)


def test_stated_transparency_and_the_fourth_ink_are_read(tmp_path: Path) -> None:
    pixels = noise(4, 6, 4)
    for meaning in (1, 2):
        path = bands_tiff(tmp_path / "a.tif", pixels, 2, (meaning,))
        with Image.open(path) as image:
            assert len(image.getbands()) == 4
        if meaning == 2:  # for 1 the colours are multiplied with it
            assert pictures.read_image(path).tolist() == pixels[..., :3].tolist()
    path = bands_tiff(tmp_path / "b.tif", pixels, 5, None)
    inks = np.asarray(Image.fromarray(pixels, "CMYK").convert("RGB"))
    assert pictures.read_image(path).tolist() == inks.tolist()
    Image.fromarray(pixels, "RGBA").save(tmp_path / "c.tif")
    assert pictures.read_image(tmp_path / "c.tif").tolist() == pixels[..., :3].tolist()


def test_a_second_band_beside_grey_is_told(tmp_path: Path) -> None:
    pixels = noise(4, 6, 2)
    with pytest.raises(WsssError, match="has 2 bands and does not say"):
        pictures.read_image(bands_tiff(tmp_path / "a.tif", pixels, 1, (0,)))
    grey = pictures.read_image(bands_tiff(tmp_path / "a.tif", pixels, 1, (2,)))
    assert grey[..., 0].tolist() == pixels[..., 0].tolist()


MOVING = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_files_of_several_pictures_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    MOVING[0].save(path, save_all=True, append_images=MOVING[1:])
    for read in READERS:
        with pytest.raises(WsssError, match="holds several pictures; save the one that is meant"):
            read(path)
    MOVING[0].save(path)
    assert pictures.read_image(path).shape == (6, 8, 3)


def test_photographs_of_phones_are_the_first_picture(tmp_path: Path) -> None:
    MOVING[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=MOVING[1:])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
    assert pictures.read_image(tmp_path / "a.jpg")[3, 3].tolist() == [254, 0, 0]


def test_smaller_copies_in_a_tiff_are_no_pictures_of_their_own(tmp_path: Path) -> None:
    small = MOVING[1].resize((4, 3))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    MOVING[0].save(tmp_path / "a.tif", save_all=True, append_images=[small])
    with Image.open(tmp_path / "a.tif") as image:
        assert getattr(image, "n_frames", 1) == 2
    assert pictures.read_image(tmp_path / "a.tif").tolist() == [[[255, 0, 0]] * 8] * 6


def test_a_picture_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below Pillow's own."""
    path = png(tmp_path / "a.png", [bytes(13_000 // 8)], 13_000, 1)
    path.write_bytes(path.read_bytes().replace(struct.pack(">I", 1), struct.pack(">I", 13_000), 1))
    header = path.read_bytes()[12:29]
    path.write_bytes(
        path.read_bytes()[:29] + struct.pack(">I", zlib.crc32(header)) + path.read_bytes()[33:]
    )
    for read in READERS:
        with pytest.raises(WsssError, match=r"a\.png: too large; make it smaller first"):
            read(path)


def test_texts_that_unpack_to_too_much_are_refused(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("wsss", "0" * 5_000_000, zip=True)
    Image.new("L", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    for read in READERS:
        with pytest.raises(WsssError, match=r"a\.png: its texts are too large; save the picture"):
            read(tmp_path / "a.png")
    assert files.read_meta(tmp_path / "a.png") is None


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / "a.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    for read in READERS:
        with pytest.raises(WsssError, match=f"{path}: not a regular file, but a folder, a pipe"):
            read(path)
    assert files.read_meta(path) is None
    assert files.made_by(path) is None


def test_a_file_that_takes_all_memory_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(image: object) -> None:
        raise MemoryError

    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", full)
    with pytest.raises(WsssError, match=r"a\.png: too large; make it smaller first"):
        pictures.read_image(tmp_path / "a.png")


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    upright = Image.fromarray(noise(10, 20, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    upright.save(tmp_path / "a.png", exif=exif)
    turned = np.asarray(upright.transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(pictures.read_image(tmp_path / "a.png"), turned)
    assert pictures.image_size(tmp_path / "a.png") == (20, 10)


def test_draft_decoding_keeps_the_asked_size(tmp_path: Path) -> None:
    Image.fromarray(noise(400, 600, 3)).save(tmp_path / "a.jpg")
    image = pictures.open_rgb(tmp_path / "a.jpg", at_least=200)
    assert 200 <= max(image.size) < 600
    assert image.mode == "RGB"


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "empty file"), (b"hello", "not a picture in a known format"), (None, "no such file")],
)
def test_unreadable_photographs_say_why(
    content: bytes | None, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "a b.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WsssError) as caught:
        pictures.read_image(path)
    assert str(caught.value) == f"cannot read image: {path}: {problem}"


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_truncated_photographs_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise(64, 64, 3)).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(WsssError, match=r"cannot read image: .*: truncated file"):
        pictures.read_image(path)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(64, 64, 3)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for read in (pictures.read_image, pictures.image_size):
        with pytest.raises(WsssError, match="too large"):
            read(tmp_path / "a.png")


def test_a_wide_photograph_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (20_000, 8)).save(tmp_path / "a.png")
    assert pictures.read_image(tmp_path / "a.png").shape == (8, 20_000, 3)


def test_grey_maps_are_resized_and_colour_is_refused(tmp_path: Path) -> None:
    files.write_image(tmp_path / "a.png", np.full((4, 4), 255, np.uint8))
    assert pictures.read_grey(tmp_path / "a.png", (6, 8)).shape == (6, 8)
    files.write_image(tmp_path / "c.png", noise(4, 4, 3))
    with pytest.raises(WsssError, match=r"c.png: a grey map holds .*this is RGB and not grey"):
        pictures.read_grey(tmp_path / "c.png")


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "CMYK"])
def test_grey_maps_may_be_saved_in_any_mode(mode: str, tmp_path: Path) -> None:
    """As long as each pixel is grey, and whatever is transparent."""
    values = np.arange(256, dtype=np.uint8).reshape(8, 32)
    image = Image.fromarray(values).convert("RGB" if mode == "CMYK" else mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(255 - values))
    image.convert(mode).save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    read = pictures.read_grey(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    assert np.array_equal(read, (values / 255).astype(np.float32))


def test_grey_maps_of_one_and_of_sixteen_bits(tmp_path: Path) -> None:
    mask = np.array([[True, False], [False, True]])
    Image.fromarray(mask).save(tmp_path / "a.png")
    assert np.array_equal(pictures.read_grey(tmp_path / "a.png"), mask)
    deep = np.array([[0, 1, 32768, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "b.png")
    assert np.array_equal(pictures.read_grey(tmp_path / "b.png"), (deep / 65535).astype(np.float32))


def test_a_grey_map_with_one_coloured_pixel_is_refused(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 3), 7, np.uint8)
    pixels[2, 1, 2] = 8
    files.write_image(tmp_path / "a.png", pixels)
    with pytest.raises(WsssError, match="convert it first"):
        pictures.read_grey(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "LA", "I;16", "I", "F"])
def test_a_saliency_map_of_0_and_1_is_not_black(mode: str, tmp_path: Path) -> None:
    mask = np.array([[0, 1], [1, 0]], np.uint8)
    kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    path = tmp_path / ("a.tif" if mode in kinds else "a.png")
    if mode in kinds:
        Image.fromarray(mask.astype(kinds[mode])).save(path)
    else:
        Image.fromarray(mask).convert(mode).save(path)
    assert np.array_equal(pictures.read_grey(path), mask)


def test_a_saliency_map_of_fractions_is_read(tmp_path: Path) -> None:
    shares = np.array([[0, 0.25, 0.5]], np.float32)
    for factor in (1, 255):
        Image.fromarray(shares * factor).save(tmp_path / "a.tif")
        np.testing.assert_allclose(pictures.read_grey(tmp_path / "a.tif"), shares)
    Image.fromarray(np.array([[0, 1, 2]], np.uint8)).save(tmp_path / "b.png")
    np.testing.assert_allclose(pictures.read_grey(tmp_path / "b.png"), [[0, 1 / 255, 2 / 255]])


def test_a_saliency_map_of_few_bits(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", [b"\x1f"], 2, 4)
    np.testing.assert_allclose(pictures.read_grey(path), [[1 / 15, 1]])
    assert pictures.read_grey(png(path, [b"\x01"], 2, 4)).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.array([[0, np.nan]], np.float32), "holds NaN"),
        (np.array([[0, 256.0]], np.float32), "holds values from 0 to 256"),
        (np.array([[0, 255]], np.uint16), "uses 8 of its 16 bits"),
    ],
)
def test_saliency_maps_out_of_all_ranges_are_refused(
    values: Any, problem: str, tmp_path: Path
) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(WsssError, match=rf"cannot read grey map: .*a\.tif: {problem}"):
        pictures.read_grey(tmp_path / "a.tif")


def test_a_saliency_map_that_lies_on_its_side_is_not_squeezed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise(6, 8)).save(path)
    with pytest.raises(WsssError, match="8x6, but its image 6x8: it lies on its side; turn it as"):
        pictures.read_grey(path, (8, 6))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(6, 8)).save(path, exif=exif)
    assert np.array_equal(pictures.read_grey(path, (8, 6)) * 255, np.rot90(noise(6, 8), -1))
    assert pictures.size_note(path, (8, 6)) == ""


def test_a_saliency_map_much_larger_than_its_image_is_refused(tmp_path: Path) -> None:
    Image.new("1", (5000, 5000)).save(tmp_path / "a.png")
    with pytest.raises(WsssError, match="5000x5000, much larger than its image 8x6"):
        pictures.read_grey(tmp_path / "a.png", (6, 8))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_photograph_is_read_as_small_as_asked(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    ramp = np.arange(600) / 600 * 255 * np.ones((400, 1))
    Image.fromarray(np.repeat(ramp[..., None], 3, 2).astype(np.uint8)).save(path)
    for bound in (0, 600, 1000):
        pixels, size = pictures.read_bounded(path, bound)
        assert (pixels.shape, size) == ((400, 600, 3), (400, 600))
    pixels, size = pictures.read_bounded(path, 150)
    assert (pixels.shape, size) == ((100, 150, 3), (400, 600))
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[50, :, 1], ramp[0].reshape(150, 4).mean(1), atol=3)
    Image.new("RGB", (20_000, 4)).save(path)
    assert pictures.read_bounded(path, 1000)[0].shape == (1, 1000, 3)


# ---- label maps ----


def test_label_maps_in_colour_or_of_another_size_are_refused(tmp_path: Path) -> None:
    files.write_image(tmp_path / "rgb.png", noise(4, 4, 3))
    with pytest.raises(WsssError, match="this is RGB; 'wsss relabel' makes numbers of its colours"):
        pictures.read_label_map(tmp_path / "rgb.png")
    files.write_label_map(tmp_path / "a.png", noise(5, 7))
    with pytest.raises(WsssError, match="label map is 7x5, its image 5x7"):
        pictures.read_label_map(tmp_path / "a.png", (7, 5))


def paletted(path: Path, labels: Any, colours: Any) -> Path:
    """A palette PNG that is none of wsss's."""
    image = Image.fromarray(np.asarray(labels, np.uint8))
    image.putpalette(np.asarray(colours, np.uint8).tobytes())
    image.save(path)
    return path


VOC_COLOURS = palette()
BINARY = [[0, 255, 255], [0, 0, 255]]


@pytest.mark.parametrize("labels", [BINARY, [[255, 255]]])
@pytest.mark.parametrize("colours", [None, "white", "short", "inverse"])
def test_a_mask_of_0_and_255_is_refused(labels: Any, colours: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    entries = VOC_COLOURS.copy()
    entries[255] = 255
    chosen = {"white": entries, "short": entries[:200], "inverse": 255 - entries}
    if colours:
        paletted(path, labels, chosen[colours])
    else:
        Image.fromarray(np.array(labels, np.uint8)).save(path)
    with pytest.raises(WsssError) as caught:
        pictures.read_label_map(path)
    assert str(caught.value) == (
        f"{path}: a binary mask: 0 and 255 only, and 255 means 'ignore'; "
        "write the class number instead of 255"
    )


def test_what_is_ignored_is_no_binary_mask(tmp_path: Path) -> None:
    """Where the palette has VOC's cream for 255, as in files of wsss, or a class is in it."""
    binary = np.array(BINARY, np.uint8)
    read = pictures.read_label_map(paletted(tmp_path / "a.png", binary, VOC_COLOURS))
    assert np.array_equal(read, binary)
    files.write_label_map(tmp_path / "b.png", binary, META)
    assert np.array_equal(pictures.read_label_map(tmp_path / "b.png"), binary)
    for number in (1, 254):
        labels = np.append(binary, [[0, number, 0]], 0).astype(np.uint8)
        Image.fromarray(labels).save(tmp_path / "c.png")
        assert np.array_equal(pictures.read_label_map(tmp_path / "c.png"), labels)


def test_numbers_that_an_editor_gave_to_the_colours_are_refused(tmp_path: Path) -> None:
    """By what Pillow, and so most editors, make of a coloured map."""
    labels = np.array([[0, 0, 15, 15], [0, 7, 15, 255]], np.uint8)
    files.write_label_map(tmp_path / "own.png", labels)
    with Image.open(tmp_path / "own.png") as own:
        own.convert("RGB").quantize(256).save(tmp_path / "a.png")
    with pytest.raises(WsssError, match=r"a\.png: number \d+ has the colour of VOC's number \d+: "):
        pictures.read_label_map(tmp_path / "a.png")


def test_a_provenance_makes_no_label_map(tmp_path: Path) -> None:
    """A saliency map has one, and some editors keep it."""
    files.write_image(tmp_path / "saliency.png", np.array(BINARY, np.uint8), META)
    with pytest.raises(WsssError, match="a binary mask"):
        pictures.read_label_map(tmp_path / "saliency.png")
    files.write_label_map(tmp_path / "own.png", np.array([[0, 7, 15]], np.uint8))
    with Image.open(tmp_path / "own.png") as own:
        files.write_image(tmp_path / "a.png", own.convert("RGB").quantize(256), META)
    with pytest.raises(WsssError, match="an editor gave new numbers"):
        pictures.read_label_map(tmp_path / "a.png")


GREYS = np.repeat(np.arange(256)[:, None], 3, 1)
CITYSCAPES = [[128, 64, 128], [244, 35, 232], [70, 70, 70], [102, 102, 156], [190, 153, 153]]
WINDOWS = [
    *([0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]),
    *([0, 128, 128], [192, 192, 192], [128, 128, 128], [255, 0, 0], [0, 255, 0]),
]


@pytest.mark.parametrize(
    ("colours", "labels"),
    [
        (GREYS, [0, 7, 64, 128, 192]),  # 64, 128 and 192 are greys of VOC too
        (GREYS[::-1], [0, 127, 191]),
        ([[0, 0, 0], [127, 127, 127], [255, 255, 255]], [0, 1, 2]),
        (CITYSCAPES, [0, 1, 2, 3, 4]),
        (CITYSCAPES, [0]),  # road, the colour of VOC's number 21
        (WINDOWS, [0, 7, 8]),  # silver and grey
        (WINDOWS, range(11)),
        (VOC_COLOURS, [0, 1, 255]),
        (VOC_COLOURS[:21], [0, 1, 20]),  # short
        (VOC_COLOURS[:17], [0, 1, 20]),  # a number without a colour
        (255 - VOC_COLOURS, [0, 1, 2]),
    ],
)
def test_palettes_of_others_are_numbers(colours: Any, labels: Any, tmp_path: Path) -> None:
    path = paletted(tmp_path / "a.png", [list(labels)], colours)
    assert pictures.read_label_map(path).tolist() == [list(labels)]


@pytest.mark.parametrize(
    ("colours", "labels"),
    [
        ([VOC_COLOURS[15], [0, 0, 0]], [0, 1]),  # background is not 0
        ([[0, 0, 0], VOC_COLOURS[7]], [0, 1]),  # grey, but no other
        ([[0, 0, 0], VOC_COLOURS[15], [255, 255, 255]], [0, 1]),  # an entry that is not used
        ([[0, 0, 0], VOC_COLOURS[1], VOC_COLOURS[255], [9, 9, 9]], [0, 1, 2]),  # one is right
        ([[0, 0, 0], VOC_COLOURS[15], VOC_COLOURS[255], [66, 64, 64]], [0, 1, 2, 3]),  # a blend
        (VOC_COLOURS[::-1], [0, 1]),
    ],
)
def test_colours_of_voc_at_other_numbers_are_refused(
    colours: Any, labels: Any, tmp_path: Path
) -> None:
    with pytest.raises(WsssError, match="an editor gave new numbers to the colours"):
        pictures.read_label_map(paletted(tmp_path / "a.png", [labels], colours))


@pytest.mark.parametrize(
    ("mode", "suffix", "kind"),
    [
        ("L", "jpg", "JPEG"),
        ("RGB", "jpg", "JPEG"),
        ("L", "jp2", "JPEG2000"),
        ("RGB", "webp", "WEBP"),
    ],
)
def test_label_maps_with_losses_are_refused(
    mode: str, suffix: str, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.ones((9, 9), np.uint8)).convert(mode).save(path)
    with pytest.raises(WsssError, match=f"cannot be {kind}, which changes .* save it as PNG"):
        pictures.read_label_map(path)


def test_a_tiff_that_is_a_jpeg_inside_is_no_label_map(tmp_path: Path) -> None:
    labels = Image.fromarray(np.ones((16, 16), np.uint8))
    labels.save(tmp_path / "a.tif", compression="jpeg")
    with pytest.raises(WsssError, match="cannot be TIFF with JPEG inside, which changes the num"):
        pictures.read_label_map(tmp_path / "a.tif")
    labels.save(tmp_path / "a.tif", compression="tiff_lzw")
    assert (pictures.read_label_map(tmp_path / "a.tif") == 1).all()


@pytest.mark.parametrize(
    ("bits", "row", "numbers"),
    [
        (4, b"\x01\x2f", [0, 1, 2, 15]),
        (4, b"\x00\xff", [0, 0, 15, 15]),
        (2, b"\x1b", [0, 1, 2, 3]),
        (1, b"\x50", [0, 1, 0, 1]),
        (8, b"\x00\x01\x02\xff", [0, 1, 2, 255]),
        (16, b"\x00\x00\x00\x01\x00\x02\x00\xff", [0, 1, 2, 255]),
    ],
)
def test_numbers_of_any_depth_are_read_as_stored(
    bits: int, row: bytes, numbers: list[int], tmp_path: Path
) -> None:
    path = png(tmp_path / "a.png", [row, row], 4, bits)
    read = pictures.read_label_map(path, (2, 4))
    assert read.tolist() == [numbers, numbers]
    assert read.dtype == np.uint8


def test_a_label_map_of_one_bit_in_a_palette_is_read(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "a.png", bits=1)
    assert pictures.read_label_map(tmp_path / "a.png").tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.array([[0, 26001]], np.uint16), "this one numbers from 0 to 26001 in 16 bits"),
        (np.array([[-1, 3]], np.int32), "this one numbers from -1 to 3 in 32 bits"),
        (np.array([[0, 65535]], np.uint16), "a binary mask: 0 and 65535 only"),
        (np.array([[0, 255]], np.uint16), "a binary mask: 0 and 255 only"),
        (np.array([[0, 1]], np.float32), "this is F; save whole numbers in 8 bits"),
    ],
)
def test_label_maps_of_more_bits_say_what_is_wrong(
    values: Any, problem: str, tmp_path: Path
) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(WsssError, match=problem) as caught:
        pictures.read_label_map(tmp_path / "a.tif")
    assert "colour" not in str(caught.value)


@pytest.mark.parametrize("bits", [8, 16])
def test_transparent_label_maps_have_no_colours(bits: int, tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", [bytes(bits // 2)], 2, bits, 4)
    with pytest.raises(WsssError, match="this is LA; save it without transparency"):
        pictures.read_label_map(path)


def test_a_label_map_that_lies_on_its_side_is_recognised(tmp_path: Path) -> None:
    files.write_label_map(tmp_path / "a.png", noise(5, 7))
    with pytest.raises(WsssError, match="is 7x5, its image 5x7; turn it as the photograph is"):
        pictures.read_label_map(tmp_path / "a.png", (7, 5))


def test_a_label_map_of_another_size_is_not_even_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    files.write_label_map(path, noise(50, 70))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(WsssError, match=r"is 70x50, its image 50x60$"):
        pictures.read_label_map(path, (60, 50))
    with pytest.raises(WsssError, match="truncated file"):
        pictures.read_label_map(path, (50, 70))


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_label_map_is_turned_as_viewers_turn_it(orientation: int, tmp_path: Path) -> None:
    labels = noise(5, 7)
    image = Image.fromarray(labels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    turned = np.rot90(labels, 2 if orientation == 3 else -1)
    assert np.array_equal(pictures.read_label_map(tmp_path / "a.png", turned.shape), turned)


@pytest.mark.parametrize("name", ["read_label_map", "read_grey", "read_image"])
def test_no_flipped_bit_of_a_png_gives_other_pixels(name: str, tmp_path: Path) -> None:
    """Pillow reads on over wrong checksums."""
    reader = getattr(pictures, name)
    pixels = np.random.default_rng(0).integers(0, 4, (12, 16), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    content, wanted, refused = bytearray(path.read_bytes()), reader(path), 0
    for bit in range(0, 8 * len(content), 3):
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        content[bit // 8] ^= 1 << bit % 8
        try:
            got = reader(path)
        except WsssError:
            refused += 1
        else:
            np.testing.assert_array_equal(got, wanted)
    assert refused > 100


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp"])
def test_a_picture_that_is_cut_is_called_so_in_one_line(suffix: str, tmp_path: Path) -> None:
    whole = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    # The tags of a compressed TIFF stand behind its pixels.
    more = {"compression": "tiff_lzw"} if suffix == "tif" else {}
    Image.fromarray(noise).save(whole, **more)
    content = whole.read_bytes()
    names = [f"{length}.{suffix}" for length in (12, 40, len(content) // 2, len(content) - 30)]
    for name in names:
        (tmp_path / name).write_bytes(content[: int(name.partition(".")[0])])
    script = (
        "from wsss_cli.files import WsssError, read_image\n"
        f"for name in {names}:\n"
        "    try: read_image(name)\n"
        "    except WsssError as error: print(error)\n"
    )
    # Not in this process, whose warnings pytest takes.
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stderr == ""
    for name, line in zip(names, done.stdout.splitlines(), strict=True):
        assert line.startswith(f"cannot read image: {name}: ")
        assert "truncated" in line


@pytest.mark.parametrize("name", ["read_label_map", "read_grey", "read_image"])
def test_a_file_without_end_is_not_read_whole(name: str, tmp_path: Path) -> None:
    """A sparse file takes no room on the disk, but all of it in memory."""
    reader = getattr(pictures, name)
    path = tmp_path / "a.png"
    path.touch()
    os.truncate(path, 1 << 36)
    with pytest.raises(WsssError, match="not a picture in a known format"):
        reader(path)
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(path)
    os.truncate(path, 1 << 36)
    with pytest.raises(WsssError, match="68,719,476,736 bytes for 9x9 pixels"):
        reader(path)


# ---- values that mean something else -------------------------------------------------------------


def tagged(path: Path, pixels: Any, **tags: Any) -> Path:
    Image.fromarray(pixels).save(
        path, tiffinfo={int(tag[1:]): value for tag, value in tags.items()}
    )
    return path


def pgm(path: Path, largest: int, numbers: list[int], kind: bytes = b"P5") -> Path:
    body = bytes(numbers) if kind == b"P5" else b" ".join(b"%d" % number for number in numbers)
    path.write_bytes(b"%s %d 1 %d\n" % (kind, len(numbers), largest) + body)
    return path


@pytest.mark.parametrize("kind", [b"P5", b"P2"])
@pytest.mark.parametrize("largest", [15, 20, 255])
def test_a_pgm_that_states_its_largest_value_is_no_label_map(
    kind: bytes, largest: int, tmp_path: Path
) -> None:
    """Pillow stretches 1, 2, 3 to 13, 26, 38."""
    path = pgm(tmp_path / "a.pgm", largest, [0, 1, 2, 3], kind)
    if largest == 255:
        assert files.read_label_map(path).tolist() == [[0, 1, 2, 3]]
        return
    with pytest.raises(WsssError, match="a largest value of its own; save its class numbers as PN"):
        files.read_label_map(path)


def test_label_maps_whose_bits_mean_something_else_are_refused(tmp_path: Path) -> None:
    numbers = np.array([[0, 1, 2, 3]], np.uint8)
    (tmp_path / "a.pbm").write_bytes(b"P4 8 1\n\x81")
    for path in (
        tagged(tmp_path / "white.tif", numbers, t262=0),
        tagged(tmp_path / "white1.tif", numbers > 1, t262=0),
        tagged(tmp_path / "signed.tif", numbers, t339=2),
        tmp_path / "a.pbm",
    ):
        with pytest.raises(WsssError, match="save its class numbers as PNG"):
            files.read_label_map(path)
    assert files.read_label_map(tagged(tmp_path / "a.tif", numbers)).tolist() == numbers.tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["tif", "jpg", "png"])
def test_the_size_of_a_turned_photograph_is_that_of_its_pixels(
    orientation: int, suffix: str, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(path, exif=exif)
    size = (64, 48) if orientation > 4 else (48, 64)
    assert files.image_size(path) == files.read_image(path).shape[:2] == size


@pytest.mark.parametrize("highest", [1.0001, 2.0, 15.9])
def test_fractions_just_above_one_are_refused(highest: float, tmp_path: Path) -> None:
    """Read as 0 to 255 the photograph would be black."""
    pixels = np.linspace(0, highest, 64, dtype=np.float32).reshape(8, 8)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    for read in (files.read_image, files.read_grey):
        with pytest.raises(WsssError, match="neither 0 to 1 nor 0 to 255"):
            read(tmp_path / "a.tif")


def test_8_bits_in_the_lower_half_of_16_are_refused(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 4, 1, 16, 2, 0, 0, 0)
    line = b"\0" + np.arange(0, 240, 20, dtype=">u2").tobytes()
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(line)), (b"IEND", b"")]
    chunks = b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    with pytest.raises(WsssError, match="uses 8 of its 16 bits, so that it would be dark"):
        files.read_image(tmp_path / "a.png")


def test_a_photograph_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to Ghostscript, whatever the suffix."""
    script = tmp_path / "gs"
    script.write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    for read in (files.read_image, files.image_size, files.read_grey, files.read_label_map):
        with pytest.raises(WsssError, match="not a picture in a known format"):
            read(path)
    assert not (tmp_path / "started").exists()
