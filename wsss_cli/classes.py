"""Class lists, and the numbers and colours that label maps use for them.

In a label map 0 is background, 1 is the first class of the list, and 255 marks ignored pixels.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from wsss_cli import console
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.texts import read_text

BACKGROUND = "background"
IGNORE = 255  # in a label map: a pixel without a known label
MAX_CLASSES = 254  # the numbers between 0, background, and IGNORE

VOC: tuple[str, ...] = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

COCO: tuple[str, ...] = (
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
)

COLOURED = re.compile(r"([^:]+):(\d+),(\d+),(\d+):[^:]*:[^:]*")  # a line of CVAT's labelmap.txt
_WITH_NUMBERS = re.compile(r"[^,]+(,\s*\d+){3,}")  # NAME,R,G,B
_NUMBERED = re.compile(r"(\d+)\s*[:,;.)=]?\s*\D")
# What some lists begin with, for number 0 or 255.
_NOTHING = {"bg", "background(0)", "void", "unlabeled", "unlabelled", "ignore", "ignored", "none"}
_NAMED = {"voc": VOC, "coco": COCO}


def load_classes(spec: str) -> tuple[str, ...]:
    """The class list that ``spec`` names, without background.

    Lists of labelme and CVAT are read too: what stands for background at their beginning is left
    out, and told.

    Args:
        spec: ``voc``, ``coco``, or the path of a UTF-8 text file with one name per line (blank
            lines and lines starting with ``#`` are skipped).

    Raises:
        ConfigurationError: no such list or file, or not a valid list (:func:`check_classes`).
    """
    if spec in _NAMED:
        return _NAMED[spec]
    try:
        lines = read_text(spec, encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"--classes {spec}: not voc, coco or a readable text file with one class name a line"
        ) from error
    names = [name for line in lines if (name := line.strip()) and not name.startswith("#")]
    if why := _other_form(names):
        raise ConfigurationError(f"--classes {spec}: {why}; list the names alone, one a line")
    return check_classes(_without_background(_without_colours(names, spec), spec), spec)


def _other_form(lines: Sequence[str]) -> str | None:
    """Why a list is of another form, in which its lines are no names; None for one of names."""
    if hidden := [line for line in lines if not line.isprintable()]:
        return f"{hidden[0]!a} holds a tab or a character that does not show"
    if lines and (lines[0][0] in "[{" or lines[0].casefold().startswith("names:")):
        return f"'{lines[0][:40]}' is JSON or YAML"
    if any(map(COLOURED.fullmatch, lines)):
        return None
    if len(lines) == 1 and "," in lines[0]:
        return "several names stand on one line"
    if any(map(_WITH_NUMBERS.fullmatch, lines)):
        return "numbers stand behind the names"
    numbered = [match and int(match[1]) for match in map(_NUMBERED.match, lines)]
    if len(lines) > 1 and numbered in (list(range(len(lines))), list(range(1, len(lines) + 1))):
        return "its lines are numbered"
    if lines and lines[0].casefold().replace(" ", "") in _NOTHING:
        return f"'{lines[0]}' would be class 1, but looks like background or what to ignore"
    return None


def _without_colours(lines: Sequence[str], where: str) -> list[str]:
    """The names in a label map of CVAT, with lines ``NAME:R,G,B:PARTS:ACTIONS``.

    The masks of such an export hold these colours, not numbers; with those of VOC, in this order,
    they are label maps as well.
    """
    found = [COLOURED.fullmatch(line) for line in lines]
    if not any(found):
        return list(lines)
    names, number = [], 0
    for line, match in zip(lines, found, strict=True):
        if match is None:
            raise ConfigurationError(f"{where}: '{line}' has no colour, other lines have one")
        name, colour = match[1].strip(), tuple(map(int, match.groups()[1:]))
        names.append(name)
        number += not _is_background(name)
        place = IGNORE if _is_ignore(name) else 0 if _is_background(name) else number
        wanted = tuple(palette()[place].tolist())
        if colour != wanted:
            raise ConfigurationError(
                f"{where}: '{name}' has the colour {colour}, that of class {number} is {wanted}: "
                "list the names alone, and convert the masks to class numbers"
            )
    return names


def _without_background(names: Sequence[str], where: str) -> list[str]:
    """The names after ``__ignore__`` and ``_background_``, as labelme and others list them."""
    start = next((at for at, name in enumerate(names) if not _is_background(name)), len(names))
    if late := [name for name in names[start:] if _is_background(name)]:
        raise ConfigurationError(
            f"{where}: '{late[0]}' stands among the classes; background is always class 0, so the "
            "numbers in masks made with this list mean other classes: list the classes alone, and "
            "convert the masks"
        )
    if start:
        left_out = ", ".join(f"'{name}'" for name in names[:start])
        first = (*names[start:], "")[0]
        console.warn("--classes", f"{where}: {left_out} not counted; class 1 is '{first}'")
    return list(names[start:])


def _is_ignore(name: str) -> bool:
    return name.startswith("_") and name.casefold().strip("_") == "ignore"


def _is_background(name: str) -> bool:
    return name.casefold().strip("_") in ("background", "ignore") and (
        name.startswith("_") or name.casefold() == BACKGROUND
    )


def check_classes(names: Sequence[str], where: str) -> tuple[str, ...]:
    """``names`` as a class list, once it is known to be valid.

    Args:
        names: class names, without background.
        where: their source, named in front of the message of an error.

    Raises:
        ConfigurationError: no name, more than 254, a name twice, or ``background`` among them.
    """
    if not names:
        raise ConfigurationError(f"{where}: the class list is empty")
    if len(names) > MAX_CLASSES:
        raise ConfigurationError(f"{where}: {len(names)} classes; an 8-bit label map holds 254")
    same = [unicodedata.normalize("NFC", name) for name in names]
    if twice := sorted({name for name in same if same.count(name) > 1}):
        raise ConfigurationError(f"{where}: class named twice: {', '.join(twice)}")
    if listed := [name for name in names if _is_background(name)]:
        raise ConfigurationError(f"{where}: '{listed[0]}' is always class 0; do not list it")
    return tuple(names)


def check_labels(names: Sequence[str], where: str) -> tuple[str, ...]:
    """``names`` as a class list that :func:`load_classes` reads back as it is from a text file.

    Raises:
        ConfigurationError: as for :func:`check_classes`; or a name, or all of them, would be read
            as something else.
    """
    for name in check_classes(names, where):
        if not name or not name.isprintable() or name != name.strip() or name.startswith("#"):
            raise ConfigurationError(
                f"{where}: the label {name!r} is no name for a class; name it otherwise"
            )
    if why := _other_form(names) or (any(map(COLOURED.fullmatch, names)) and "it holds colours"):
        raise ConfigurationError(
            f"{where}: the labels make no class list: {why}; name them otherwise"
        )
    return tuple(names)


def numbers(labels: Iterable[str], classes: Sequence[str]) -> list[int]:
    """Class numbers of ``labels``: their places in the list ``classes``, counted from 1.

    Raises:
        WsssError: a label is not in the list; the message suggests similar names.

    >>> numbers(["dog", "cat"], ["cat", "dog"])
    [2, 1]
    """
    place = {name: number for number, name in enumerate(classes, start=1)}
    result = []
    for label in labels:
        if label not in place:
            near = difflib.get_close_matches(label, classes, n=2)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise WsssError(f"label '{label}' is not in the class list{hint}")
        result.append(place[label])
    return result


@cache
def palette() -> npt.NDArray[np.uint8]:
    """The VOC colour map, uint8 RGB of shape (256, 3): entry 0 is black, entry 255 cream.

    The array is shared by all callers and cannot be written to.
    """
    # As in VOC's own code: the class number is read three bits at a time, lowest first; they set
    # one bit each of red, green and blue, from the highest bit down.
    number = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((number >> channel & 1) << (7 - bit)).astype(np.uint8)
        number = number >> 3
    colours.setflags(write=False)
    return colours
