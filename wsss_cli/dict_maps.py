"""Activation maps as the papers' repositories save them: a dict in a .npy.

{14: (H, W), …}               psa, EPS: number of a class, its map
{"keys", "cam", "high_res"}   irn: numbers, maps at a quarter of the size, maps (K, H, W)
{"keys", "IS_CAM"}            SIPE: numbers, 0 of which is background, maps (K, H, W)

Numbers are places in a class list, counted from 0. No file names its classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wsss_cli.classes import BACKGROUND

_SLACK = 1e-3  # by which values may leave [0, 1], rounded in another precision
_SUM = 1e-2  # by which probabilities may differ from 1 in all

Floats = npt.NDArray[np.floating[Any]]


class DictMaps(NamedTuple):
    """Maps that number their classes.

    Attributes:
        cam: (K, H, W) in [0, 1], at the size of the image.
        numbers: places of the K classes in a class list, from 0; -1 is background.
        size: (H, W) of the image; None where there are no maps to tell it.
    """

    cam: Floats
    numbers: tuple[int, ...]
    size: tuple[int, int] | None

    def names(self, classes: Sequence[str]) -> tuple[str, ...]:
        """The names of the K classes in a class list.

        Raises:
            ValueError: a number is beyond it.
        """
        if self.numbers and (most := max(self.numbers)) >= len(classes):
            raise ValueError(
                f"class number {most}, counted from 0, but the class list has {len(classes)} names"
            )
        return tuple(BACKGROUND if number < 0 else classes[number] for number in self.numbers)


def dict_maps(data: Mapping[Any, Any]) -> DictMaps:
    """The maps in a dict of one of the forms above.

    Args:
        data: from :func:`wsss_cli.pickled.read_dict`.

    Raises:
        ValueError: of another form, sizes that do not fit each other, or no maps in [0, 1].
    """
    if "keys" in data:
        numbers, maps = _of_lists(data)
    elif all(type(key) is int for key in data):
        numbers, maps = _of_numbers(data)
    else:
        raise ValueError(f"{_FORMS}, but {_listed(data)}")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"class number {_twice(numbers)} stands there twice")
    if not numbers:
        height, width = maps.shape[1:]
        return DictMaps(maps, (), (height, width) if height and width else None)
    if np.isnan(maps).any():
        raise ValueError(
            "maps hold NaN or values outside 0 to 1: here NaN, as of a map of zeros divided by its "
            "maximum, or of a training that diverged; put 0 in its place, or make the maps again"
        )
    if not (maps.min() >= -_SLACK and maps.max() <= 1 + _SLACK):
        below = "set those below 0 to 0 and " if maps.min() < -_SLACK else ""
        raise ValueError(
            f"maps hold NaN or values outside 0 to 1; {below}divide each by its maximum first"
        )
    return DictMaps(np.clip(maps, 0, 1), numbers, (maps.shape[1], maps.shape[2]))


_FORMS = "neither {class number: map}, as psa saves maps, nor 'keys' and 'high_res', as irn does"


def _of_numbers(data: Mapping[int, Any]) -> tuple[tuple[int, ...], Floats]:
    """Numbers and maps of psa's form."""
    numbers = _numbers(data)
    maps = [_maps(each, f"the map of {number}", sides=2) for number, each in data.items()]
    if shapes := sorted({each.shape for each in maps}):
        if len(shapes) > 1:
            raise ValueError(f"maps of {_by(shapes[0])} and of {_by(shapes[1])} for one image")
        joined = np.stack(maps)
        # With --out_la_crf and --out_ha_crf psa saves probabilities, whose 0 is background.
        if 0 in data and len(maps) > 1 and np.abs(joined.sum(0) - 1).max() < _SUM:
            raise ValueError(
                "the values of each pixel add up to 1: probabilities after a CRF, as psa's "
                "--out_la_crf, whose 0 is background, not maps (--out_cam)"
            )
        return numbers, joined
    return (), np.zeros((0, 0, 0), np.float32)


def _of_lists(data: Mapping[Any, Any]) -> tuple[tuple[int, ...], Floats]:
    """Numbers and maps of irn's form or SIPE's."""
    key = next((key for key in ("high_res", "IS_CAM") if key in data), None)
    if key is None:
        small = "; 'cam' alone does not tell the size of the image" if "cam" in data else ""
        raise ValueError(f"no 'high_res' beside 'keys', but {_listed(data)}{small}")
    # A list of lists of the same lists would become an array without end.
    given = data["keys"]
    is_flat = isinstance(given, list | tuple) and all(isinstance(key, int) for key in given)
    keys = np.asarray(given if is_flat or isinstance(given, np.ndarray) else None)
    if keys.ndim != 1 or (keys.size and keys.dtype.kind not in "iu"):
        raise ValueError("'keys' are no numbers of classes")
    maps = _maps(data[key], f"'{key}'", sides=3)
    if len(maps) != len(keys):
        raise ValueError(f"{len(keys)} 'keys', but {len(maps)} maps in '{key}'")
    first = 1 if key == "IS_CAM" else 0
    return tuple(number - first for number in _numbers(keys.tolist())), maps


def _numbers(keys: Iterable[int]) -> tuple[int, ...]:
    """Keys as numbers of classes; ValueError if one is none."""
    numbers = tuple(keys)
    if numbers and min(numbers) < 0:
        raise ValueError(f"{min(numbers)} is no number of a class")
    return numbers


def _maps(value: Any, what: str, *, sides: int) -> Floats:
    """A value as maps; ValueError for another."""
    if not isinstance(value, np.ndarray) or value.ndim != sides or value.dtype.kind != "f":
        form = "(H, W)" if sides == 2 else "(K, H, W)"
        found = f"{value.dtype.name} {value.shape}" if isinstance(value, np.ndarray) else "no array"
        raise ValueError(f"{what} is {found}, not floating point {form}")
    if not value.size and 0 in value.shape[-2:]:
        raise ValueError(f"{what} has no pixels")
    return value


def _by(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _twice(numbers: Sequence[int]) -> int:
    return next(number for number in numbers if numbers.count(number) > 1)


def _listed(data: Mapping[Any, Any]) -> str:
    return f"{', '.join(f'{key!r:.20}' for key in [*data][:6]) or 'nothing'}"
