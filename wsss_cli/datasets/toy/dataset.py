"""The toy set on disk, in VOC's layout."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from PIL import Image

from wsss_cli import __version__
from wsss_cli.classes import palette
from wsss_cli.datasets.toy.animals import CLASSES
from wsss_cli.datasets.toy.scene import SMALLEST, SPLITS, Scene, make_scene
from wsss_cli.errors import ConfigurationError
from wsss_cli.files import atomic
from wsss_cli.texts import read_text

_MARK = "toy.json"  # marks a folder as a toy set and records its parameters
_FILES = {
    "JPEGImages": ".jpg",
    "SegmentationClass": ".png",
    "Saliency": ".png",
    "Annotations": ".xml",
}
_LISTS = Path("ImageSets", "Segmentation")


def make_toy(
    root: str | Path,
    *,
    train: int = 400,
    val: int = 100,
    seed: int = 0,
    size: int = 160,
    on_image: Callable[[], None] = lambda: None,
) -> int:
    """Write the toy set: pictures, masks, annotations, saliency maps, lists and ``classes.txt``.

    The same parameters give the same files, byte for byte, with the same versions of wsss, NumPy
    and Pillow. A picture does not depend on the number of pictures. Existing files are kept, so an
    interrupted run can be completed; the lists are written last.

    Args:
        root: a new or empty folder, or a toy set started with the same parameters.
        train: number of pictures for training.
        val: number of pictures for validation.
        seed: random seed, at least 0.
        size: long side of a picture in pixels, at least 64.
        on_image: called after each picture, whether drawn or kept.

    Returns:
        The number of pictures drawn.

    Raises:
        ConfigurationError: the folder has other content, or a parameter is out of range.
    """
    root = Path(root)
    parameters = {"train": train, "val": val, "seed": seed, "size": size}
    for key, value in parameters.items():
        if value < (least := SMALLEST if key == "size" else 0):
            raise ConfigurationError(f"{key} {value}: must be at least {least}")
    _claim(root, parameters)
    drawn = 0
    names: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split, count in zip(SPLITS, (train, val), strict=True):
        for index in range(count):
            name = f"{split}_{index:05d}"
            names[split].append(name)
            paths = {folder: root / folder / (name + end) for folder, end in _FILES.items()}
            if not all(path.exists() for path in paths.values()):
                for folder, content in _encode(make_scene(seed, split, index, size), name):
                    _write(paths[folder], content)
                drawn += 1
            on_image()
    for split in SPLITS:
        _write(root / _LISTS / f"{split}.txt", "".join(f"{name}\n" for name in names[split]))
    return drawn


def _claim(root: Path, parameters: Mapping[str, int]) -> None:
    """Make the folders; refuse a ``root`` with any content but this same set."""
    mark = {"made_by": "wsss toy", "version": __version__, **parameters}
    try:
        existing = json.loads(read_text(root / _MARK))
    except FileNotFoundError:
        # Temporary files are left behind by a run that was killed while it wrote its first file.
        if root.exists() and any(not e.name.startswith(".wsss-") for e in os.scandir(root)):
            raise ConfigurationError(f"{root}: the folder is not empty; name a new one") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{root}: not a folder that a toy set can be in") from error
    else:
        if existing != mark:
            old = existing if isinstance(existing, dict) else {}
            other = [f"{key} {old.get(key)}" for key in mark if old.get(key) != mark[key]]
            raise ConfigurationError(
                f"{root}: holds a toy set made otherwise ({', '.join(other)}); name a new folder"
            )
    for folder in (*_FILES, str(_LISTS)):
        (root / folder).mkdir(parents=True, exist_ok=True)
    _write(root / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    with atomic(root / _MARK) as temporary:
        temporary.write_text(json.dumps(mark) + "\n", encoding="utf-8")


def _write(path: Path, content: bytes | str) -> None:
    """Write a file that is complete when it exists.

    Unlike :func:`wsss_cli.files.atomic` this does not wait for the disk, which would take most of
    the time: a picture lost in a power failure can be drawn again.
    """
    temporary = path.parent / f".wsss-{os.getpid()}-toy.tmp"
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _encode(scene: Scene, name: str) -> Iterator[tuple[str, bytes | str]]:
    """Folder and content of each file of a picture."""
    yield "JPEGImages", _as_bytes(Image.fromarray(scene.image), "JPEG", quality=92)
    mask = Image.fromarray(scene.mask)
    mask.putpalette(palette().tobytes())
    yield "SegmentationClass", _as_bytes(mask, "PNG", compress_level=3)
    yield "Saliency", _as_bytes(Image.fromarray(scene.saliency), "PNG", compress_level=2)
    yield "Annotations", _annotation(scene, name)


def _as_bytes(picture: Image.Image, kind: str, **options: int) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _annotation(scene: Scene, name: str) -> str:
    """VOC's XML. Its boxes count from 1 and include their last row and column."""
    height, width = scene.mask.shape
    lines = [
        "<annotation>",
        "  <folder>toy</folder>",
        f"  <filename>{name}.jpg</filename>",
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
        "  <segmented>1</segmented>",
    ]
    for kind, (left, top, right, bottom) in scene.objects:
        is_cut = left == 0 or top == 0 or right == width or bottom == height
        lines += [
            "  <object>",
            f"    <name>{kind}</name>",
            f"    <truncated>{is_cut:d}</truncated>",
            "    <difficult>0</difficult>",
            f"    <bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
            f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])
