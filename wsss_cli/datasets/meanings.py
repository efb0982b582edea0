"""What the numbers or colours in label maps of other tools mean: a text file, one value a line.

7 road                 a number and a class
128,64,128 road        a colour, red, green and blue
0 ignore               ignored pixels; `background` is background
* ignore               all values that are not listed
* =                    they are the numbers of the class list already

`labelmap.txt` of CVAT and `_classes.csv` of Roboflow are read too, and ``cityscapes`` is the list
of that data set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsss_cli.classes import BACKGROUND, COLOURED, IGNORE, check_classes
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.pictures import Values
from wsss_cli.texts import read_text

Colour = tuple[int, int, int]

_NUMBER = re.compile(r"(\d{1,5})(?:\s+|\s*,\s*(?=[^\s\d]))(\S.*)")
_HEADER = "pixelvalue,class"  # of Roboflow's _classes.csv
_COLOUR = re.compile(r"(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s+(\S.*)")
_REST = re.compile(r"\*\s+(\S.*)")
_SAME = "="
_IGNORED = {"ignore", "__ignore__"}
_NOTHING = {BACKGROUND, "_background_"}
_BYTE = 1 << 8
# Label ids of Cityscapes with the names of its 19 classes; those between are not evaluated. Others
# are in no file of ids: train ids have 255, instances more.
_CITYSCAPES = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}


@dataclass(frozen=True)
class Meanings:
    """What values mean.

    Attributes:
        classes: the class list.
        numbers: number in our label maps by number in theirs; None if the values are colours.
        colours: the same by colour.
        other: number of all values that are not listed; None: they are refused.
        same: whether those stay as they are instead.
    """

    classes: tuple[str, ...]
    numbers: Mapping[int, int]
    colours: Mapping[Colour, int]
    other: int | None = None
    same: bool = False

    def applied(self, values: Values, path: str) -> npt.NDArray[np.uint8]:
        """The label map, uint8 (H, W): 0 background, class numbers from 1, 255 ignore.

        Args:
            values: of the label map of the other tool.
            path: its file.

        Raises:
            WsssError: it has a value that is not listed, or numbers where colours are, or colours
                where numbers are.
        """
        if self.colours:
            if values.colours is None:
                raise WsssError(f"{path}: holds numbers, but --values lists colours")
            shift = np.array([16, 8, 0])
            whole = (values.colours.astype(np.int32) << shift).sum(axis=2)
            listed = {_joined(colour): number for colour, number in self.colours.items()}
        elif values.numbers is None:
            raise WsssError(f"{path}: holds colours, but --values lists numbers")
        else:
            whole, listed = values.numbers, dict(self.numbers)
        found, place = np.unique(whole, return_inverse=True)
        table = [self._number(int(value), listed, path) for value in found]
        return np.array(table, np.uint8)[place.reshape(whole.shape)]

    def _number(self, value: int, listed: Mapping[int, int], path: str) -> int:
        if value in listed:
            return listed[value]
        if self.same and (value <= len(self.classes) or value == IGNORE):
            return value
        if self.other is not None:
            return self.other
        shown = f"{value >> 16},{value >> 8 & 255},{value & 255}" if self.colours else str(value)
        raise WsssError(
            f"{path}: {shown} is not listed in --values; '* ignore' would stand for others"
        )


def _joined(colour: Colour) -> int:
    red, green, blue = colour
    return red << 16 | green << 8 | blue


def load_meanings(spec: str, classes: Sequence[str] | None = None) -> Meanings:
    """Meanings from a text file, or those of a data set.

    Args:
        spec: ``cityscapes``, or the path of a file.
        classes: the class list that numbers the names; None: their order in the file.

    Raises:
        ConfigurationError: it cannot be read, is of another form, or has a name that is not in the
            class list.
    """
    if spec == "cityscapes":
        ids = [(number, _CITYSCAPES.get(number, "ignore")) for number in range(34)]
        return _made(ids, [], None, classes, spec)
    try:
        lines = read_text(spec, encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"--values {spec}: not cityscapes or a readable text file"
        ) from error
    numbers: list[tuple[int, str]] = []
    colours: list[tuple[Colour, str]] = []
    other = None
    for place, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#") or text.casefold().replace(" ", "") == _HEADER:
            continue
        if rest := _REST.fullmatch(text):
            if other is not None:
                raise ConfigurationError(f"--values {spec}:{place}: a second line for all others")
            other = rest[1]
        elif found := _COLOUR.fullmatch(text):
            colours.append((_colour(found.groups()[:3], f"{spec}:{place}"), found[4]))
        elif found := COLOURED.fullmatch(text):
            colours.append((_colour(found.groups()[1:], f"{spec}:{place}"), found[1].strip()))
        elif found := _NUMBER.fullmatch(text):
            numbers.append((int(found[1]), found[2]))
        else:
            raise ConfigurationError(
                f"--values {spec}:{place}: '{text[:40]}' is neither 'NUMBER NAME' nor 'R,G,B NAME' "
                "nor '* NAME'"
            )
    return _made(numbers, colours, other, classes, spec)


def _colour(parts: Sequence[str], where: str) -> Colour:
    red, green, blue = map(int, parts)
    if max(red, green, blue) >= _BYTE:
        raise ConfigurationError(f"--values {where}: no colour: {red},{green},{blue}")
    return red, green, blue


def _made(
    numbers: Sequence[tuple[int, str]],
    colours: Sequence[tuple[Colour, str]],
    other: str | None,
    classes: Sequence[str] | None,
    spec: str,
) -> Meanings:
    if numbers and colours:
        raise ConfigurationError(f"--values {spec}: lists numbers and colours; take two files")
    values: list[int | Colour] = [*(value for value, _ in numbers), *(c for c, _ in colours)]
    if twice := [value for value in values if values.count(value) > 1]:
        raise ConfigurationError(f"--values {spec}: {twice[0]} stands on two lines")
    named = [*(name for _, name in numbers), *(name for _, name in colours)]
    if other is not None and other != _SAME:
        named.append(other)
    own = [name for name in dict.fromkeys(named) if name.casefold() not in _IGNORED | _NOTHING]
    if other == _SAME and (classes is None or colours):
        raise ConfigurationError(
            f"--values {spec}: '* =' is for numbers, and --classes names them: "
            + ("these lines are colours" if colours else "give --classes")
        )
    if classes is None and not own:
        raise ConfigurationError(
            f"--values {spec}: no line names a class, so the class list is empty; write one line a "
            "value, 'NUMBER NAME' or 'R,G,B NAME'"
        )
    if not values and other is None:
        raise ConfigurationError(f"--values {spec}: no line says what a value means")
    listed = check_classes(own if classes is None else classes, f"--values {spec}")
    if lacking := [name for name in own if name not in listed]:
        raise ConfigurationError(f"--values {spec}: '{lacking[0]}' is not in the class list")

    def number(name: str) -> int:
        if name.casefold() in _IGNORED:
            return IGNORE
        return 0 if name.casefold() in _NOTHING else listed.index(name) + 1

    return Meanings(
        listed,
        {value: number(name) for value, name in numbers},
        {value: number(name) for value, name in colours},
        other=None if other in (None, _SAME) else number(other),
        same=other == _SAME,
    )
