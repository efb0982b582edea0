"""Class lists, and the numbers and colours that label maps use for them.

In a label map 0 is background, 1 is the first class of the list, and 255 is ignored.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wsss_cli.errors import ConfigurationError, WsssError

BACKGROUND = "background"
IGNORE = 255  # in a label map: a pixel without a known label
MAX_CLASSES = 254  # 0 is background and 255 is ignored

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

_NAMED = {"voc": VOC, "coco": COCO}


def load_classes(spec: str) -> tuple[str, ...]:
    """The class list that ``spec`` names.

    Args:
        spec: ``voc``, ``coco``, or a UTF-8 text file with one name a line (blank lines and lines
            starting with ``#`` are left out).

    Raises:
        ConfigurationError: no such list or file, a name twice, no name, or more than 254.
    """
    if spec in _NAMED:
        return _NAMED[spec]
    try:
        lines = Path(spec).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"--classes {spec}: not voc, coco or a readable text file with one class name a line"
        ) from error
    names = tuple(name for line in lines if (name := line.strip()) and not name.startswith("#"))
    return check_classes(names, spec)


def check_classes(names: Sequence[str], where: str) -> tuple[str, ...]:
    """``names`` as a valid class list, or a ConfigurationError that says what is wrong."""
    if not names:
        raise ConfigurationError(f"{where}: the class list is empty")
    if len(names) > MAX_CLASSES:
        raise ConfigurationError(f"{where}: {len(names)} classes; an 8-bit label map holds 254")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(f"{where}: class named twice: {', '.join(twice)}")
    if BACKGROUND in names:
        raise ConfigurationError(f"{where}: '{BACKGROUND}' is always class 0; do not list it")
    return tuple(names)


def numbers(labels: Iterable[str], classes: Sequence[str]) -> list[int]:
    """Class numbers, counted from 1, of ``labels`` in the list ``classes``.

    Raises:
        WsssError: a label is not in the list; near misses are named.

    >>> numbers(["dog", "cat"], ["cat", "dog"])
    [2, 1]
    """
    place = {name: number for number, name in enumerate(classes, start=1)}
    found = []
    for label in labels:
        if label not in place:
            near = difflib.get_close_matches(label, classes, n=2)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise WsssError(f"label '{label}' is not in the class list{hint}")
        found.append(place[label])
    return found


@cache
def palette() -> npt.NDArray[np.uint8]:
    """The VOC colour map, uint8 RGB of shape (256, 3): entry 0 black, entry 255 cream.

    The bits of the class number, lowest three first, fill the channels from their highest bit.
    Made once, so it cannot be written to.
    """
    number = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((number >> channel & 1) << (7 - bit)).astype(np.uint8)
        number = number >> 3
    colours.setflags(write=False)
    return colours
