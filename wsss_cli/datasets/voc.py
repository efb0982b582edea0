"""Data sets in the layout of PASCAL VOC: VOC itself, its augmented split, or the user's own.

ROOT/ImageSets/Segmentation/SPLIT.txt   ids, one per line
ROOT/JPEGImages/ID.jpg                  photographs
ROOT/Annotations/ID.xml                 names of the objects: the image-level labels
ROOT/SegmentationClass[Aug]/ID.png      ground-truth masks, optional
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal
from xml.parsers import expat

import numpy as np

from wsss_cli.classes import IGNORE, VOC
from wsss_cli.datasets._paths import (
    IMAGE_SUFFIXES,
    below,
    find_image,
    find_maps,
    open_list,
    same_but_for_case,
)
from wsss_cli.errors import ConfigurationError, WsssError, describe
from wsss_cli.files import read_labels
from wsss_cli.inputs import check_numbers
from wsss_cli.records import Record, check_id
from wsss_cli.texts import read_bytes

LabelsFrom = Literal["annotations", "masks", "none"]

_MASK_FOLDERS = ("SegmentationClassAug", "SegmentationClass")  # the first that has the file
_FLAGGED = re.compile(r"(.*\S)\s+(-?1|0)")  # of ImageSets/Main: an id and its flag for a class


def voc_records(
    root: str | Path,
    split: str,
    on_error: Callable[[str], None],
    *,
    labels_from: LabelsFrom = "annotations",
    difficult: bool = True,
    saliency: str | Path | None = None,
    cams: str | Path | None = None,
    classes: Sequence[str] = VOC,
) -> Iterator[Record]:
    """Records of a data set in VOC's layout, in the order of the list.

    The list is read line by line, so that memory does not grow with it. A line is an id; or an id
    and a flag, as in ImageSets/Main, where -1 leaves the image out; or the paths of a photograph
    and a mask below ``root``, as in the lists that go with SegmentationClassAug.

    Args:
        root: the folder.
        split: name of a list in ImageSets/Segmentation or else in ImageSets/Main, or the path of a
            list.
        on_error: called with the line ``id: problem`` for each image left out.
        labels_from: ``annotations``: the names of the objects, each once, in order of first
            appearance; without a folder Annotations the records have no labels. ``masks``: the
            classes in the ground-truth mask, in the order of ``classes``. ``none``: no labels.
        difficult: whether objects marked difficult count as labels.
        saliency: folder of maps ID.png, relative to ``root`` or to the working directory. A record
            without such a file has no ``saliency``.
        cams: the same for activation maps, ID.npz or ID.npy.
        classes: names of the numbers in the masks, counted from 1; for ``masks`` only.

    Raises:
        ConfigurationError: the layout, the list or the saliency folder does not exist, or the list
            is empty.
    """
    root = str(Path(root))
    if not os.path.isdir(f"{root}/JPEGImages"):
        inner = next(iter(sorted(Path(root).glob("*/JPEGImages"))), None)
        hint = f"did you mean {inner.parent}?" if inner else "'wsss index folder' takes any folder"
        if inner is None and os.path.isfile(f"{root}/labelmap.txt"):
            hint = (
                f"of an export of CVAT: 'wsss index folder PHOTOS --masks {root}/SegmentationClass "
                f"--unlabelled | wsss relabel --values {root}/labelmap.txt'"
            )
        raise ConfigurationError(f"{root}: no folder JPEGImages in it; {hint}")
    maps = below(root, saliency, "--saliency") if saliency is not None else None
    activations = below(root, cams, "--cams") if cams is not None else None
    if labels_from == "annotations" and not os.path.isdir(f"{root}/Annotations"):
        labels_from = "none"
    with open_list(source := _find_list(root, split)) as lines:
        is_empty = True
        for line in filter(None, map(str.strip, lines)):
            is_empty = False
            try:
                if (entry := _look_up(root, line)) is None:
                    continue
                name, image, mask = entry
                record: Record = {"id": name, "image": image}
                if labels_from == "annotations":
                    record["labels"] = _annotated(f"{root}/Annotations/{name}.xml", difficult)
                elif labels_from == "masks":
                    record["labels"] = labels_in_mask(mask, classes)
                cam = find_maps(f"{activations}/{name}") if activations else None
            except (WsssError, OSError) as error:
                on_error(f"{line}: {describe(error)}")
                continue
            if mask:
                record["mask"] = mask
            if maps and os.path.isfile(path := f"{maps}/{name}.png"):
                record["saliency"] = path
            if cam:
                record["cam"] = cam
            yield record
    if is_empty:
        raise ConfigurationError(f"{source}: an empty list: it names no images")


# ---- the list ------------------------------------------------------------------------------------


def listed(root: str, split: str) -> int | None:
    """How many images the list of a split names, those with the flag -1 aside.

    None if it is not in the data set (it may be a stream, which can be read once), or not readable.
    """
    try:
        path = _find_list(root := str(Path(root)), split)
        if not path.startswith(f"{root}/ImageSets/") or not os.path.isfile(path):
            return None
        with open_list(path) as lines:
            flags = (_FLAGGED.fullmatch(line) for line in filter(None, map(str.strip, lines)))
            return sum(not (flag and flag[2] == "-1") for flag in flags)
    except ConfigurationError:  # told when the list is read
        return None


def _find_list(root: str, split: str) -> str:
    """The list of a split."""
    sets = [f"{root}/ImageSets/{kind}" for kind in ("Segmentation", "Main")]
    for path in (*(f"{folder}/{split}.txt" for folder in sets), split):
        if os.path.exists(path) and not os.path.isdir(path):
            return path
    names = sorted(path.stem for path in Path(sets[0]).glob("*.txt"))
    hint = f"there are {', '.join(names)}" if names else "it can also be the path of a list of ids"
    masks = f"{root}/SegmentationClass"
    if not os.path.isdir(f"{root}/ImageSets") and os.path.isdir(masks):  # as of labelme2voc
        hint += (
            f", or 'wsss index folder {root}/JPEGImages --masks {masks} --unlabelled' needs none"
        )
    raise ConfigurationError(f"no split '{split}' in {root}/ImageSets/Segmentation; {hint}")


def _look_up(root: str, line: str) -> tuple[str, str, str | None] | None:
    """Id, image and mask of a line of the list; None for an image with the flag -1.

    Raises:
        WsssError: an unsafe id, or the image, or the mask that the line names, does not exist.
    """
    folder, listed = f"{root}/JPEGImages", []
    name, image = line, find_image(f"{folder}/{line}")  # the line may be a name with spaces
    if image is None and (flagged := _FLAGGED.fullmatch(line)):
        name, flag = flagged.groups()
        if flag == "-1":
            return None
        image = find_image(f"{folder}/{name}")
    elif image is None and line.split()[0].lower().endswith(IMAGE_SUFFIXES):
        given, *listed = (path.lstrip("/") for path in line.split())
        name = os.path.splitext(given.removeprefix("JPEGImages/"))[0]
        image = f"{root}/{given}" if "/" in given else f"{folder}/{given}"
        image = same_but_for_case(image) or image
    check_id(name)
    if image is None or not os.path.isfile(image):
        raise WsssError(f"no such image: {image or f'{folder}/{name}.jpg'}")
    masks = listed[:1] or [f"{kind}/{name}.png" for kind in _MASK_FOLDERS]
    mask = next(filter(os.path.isfile, (f"{root}/{each}" for each in masks)), None)
    if listed and mask is None:
        raise WsssError(f"no such mask: {root}/{listed[0]}")
    return name, image, mask


# ---- the labels ----------------------------------------------------------------------------------


def _annotated(path: str, difficult: bool) -> list[str]:
    """Names of the objects in an annotation file, each once."""
    try:
        objects = object_names(read_bytes(path))
    except FileNotFoundError as error:
        raise WsssError(
            f"no annotation: {path} (--labels-from masks or none does without)"
        ) from error
    except ValueError as error:
        raise WsssError(f"cannot read annotation: {path}: {error}") from error
    return list(dict.fromkeys(label for label, hard in objects if difficult or not hard))


def object_names(xml: bytes) -> list[tuple[str, bool]]:
    """Name of each object in a VOC annotation, and whether it is marked difficult.

    Only the names of the objects themselves count, not those of their parts. A document type
    declaration is refused, since its entities can expand until they fill the memory.

    Raises:
        ValueError: XML that is not well-formed, a document type, or an object without a name.

    >>> object_names(b"<annotation><object><name>cat</name></object></annotation>")
    [('cat', False)]
    """
    objects: list[tuple[str, bool]] = []
    open_tags: list[str] = []
    texts: dict[str, str] = {}  # of the elements directly in the object

    def start(tag: str, attributes: dict[str, str]) -> None:
        open_tags.append(tag)
        if open_tags[1:] == ["object"]:
            texts.clear()

    def text(content: str) -> None:
        if len(open_tags) == 3 and open_tags[1] == "object":
            texts[open_tags[2]] = texts.get(open_tags[2], "") + content

    def end(tag: str) -> None:
        if open_tags[1:] == ["object"]:
            name = texts.get("name", "").strip()
            if not name:
                raise ValueError("an object has no name")
            objects.append((name, texts.get("difficult", "").strip() == "1"))
        open_tags.pop()

    def doctype(*_: object) -> None:
        raise ValueError("a document type declaration; refused")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text, doctype
    try:
        parser.Parse(xml, True)
    except Exception as error:  # not well-formed, or an encoding that nobody knows
        raise ValueError(str(error)) from error
    return objects


def labels_in_mask(path: str | None, classes: Sequence[str]) -> list[str]:
    """Names of the classes in a mask.

    Args:
        path: of the label map; None if there is none.
        classes: names of its numbers, counted from 1.

    Raises:
        WsssError: there is none, it cannot be read, or has numbers that mean other classes.
    """
    if path is None:
        raise WsssError("no mask to take the labels from")
    numbers = numbers_in_mask(path, classes)
    if numbers and numbers[-1] > len(classes):
        raise WsssError(
            f"{path}: class number {numbers[-1]}, but the list has {len(classes)} names"
        )
    return [classes[number - 1] for number in numbers]


def numbers_in_mask(path: str, classes: Sequence[str]) -> list[int]:
    """The class numbers in a label map, ascending, without background and ignored pixels.

    Args:
        path: of the label map.
        classes: what its numbers are to mean, from 1.

    Raises:
        WsssError: it cannot be read, or says that they mean other classes.
    """
    labels, meta = read_labels(path)
    check_numbers(path, meta, classes, "the class list (--classes)")
    numbers = np.flatnonzero(np.bincount(labels.ravel(), minlength=256)).tolist()
    return [number for number in numbers if number not in (0, IGNORE)]
