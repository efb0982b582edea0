"""Dicts of arrays that other programs saved with ``numpy.save``: read without running anything.

Such a .npy is a pickle, which in general is a program. Here whatever it names is replaced by
classes of this module that take nothing but arrays of numbers and texts.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
from typing import Any

import numpy as np
from numpy.lib import format as npy

from wsss_cli.errors import WsssError, describe
from wsss_cli.texts import open_regular

_MOST = 1 << 30  # bytes of a file
_DEEPEST = 20  # levels of dicts and lists
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy")
_NUMBERS = re.compile(r"[iuf][1248]|b1|U\d{1,4}")  # numpy's names of number and text types
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_dict(path: str | os.PathLike[str]) -> dict[Any, Any]:
    """The dict in a .npy: ``numpy.save`` of one, as PSA and IRNet write them.

    Args:
        path: the file.

    Returns:
        Texts, numbers, None, and dicts, lists, tuples and arrays (of numbers or texts) of them.

    Raises:
        WsssError: it cannot be read, is none, or would make something else.
    """
    try:
        with open_regular(path) as stream:
            if os.fstat(stream.fileno()).st_size > _MOST:
                raise ValueError(f"more than {_MOST:,} bytes")
            version = npy.read_magic(stream)
            if version not in _HEADERS:
                raise ValueError(f"version {version}")
            shape, _, dtype = _HEADERS[version](stream)
            if shape != () or not dtype.hasobject:
                raise ValueError("an array, not a dict")
            value = _plain(_Reader(io.BytesIO(stream.read()), encoding="latin1").load())
    except _Refused as error:
        raise WsssError(f"{path}: would make or run {describe(error)}: refused") from error
    except Exception as error:  # damage shows anywhere in pickle and numpy
        why = describe(error) if isinstance(error, OSError | ValueError) else "damaged"
        raise WsssError(f"{path}: no dict that numpy saved: {why}") from error
    if not isinstance(value, dict):
        raise WsssError(f"{path}: no dict that numpy saved, but {type(value).__name__}")
    return value


class _Refused(Exception):
    """Something that a pickle would call."""


class _Dtype:
    """Stands for numpy.dtype: a name, and the order of bytes."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.order = name, "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def numbers(self) -> np.dtype[Any]:
        """The type of numbers or texts; ValueError for any other."""
        if not isinstance(self.name, str) or not _NUMBERS.fullmatch(self.name):
            raise ValueError(f"an array of {self.name!r:.20}")
        if self.order not in ("<", ">", "|", "="):
            raise ValueError(f"bytes in the order {self.order!r:.20}")
        return np.dtype(f"{self.order}{self.name}")


class _Array:
    """Stands for numpy.ndarray: its state, as numpy writes it."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def value(self) -> Any:
        """The array; the object in it if it is one of a single object. ValueError for others."""
        _, shape, dtype, by_column, content = self.state
        if shape == () and isinstance(dtype, _Dtype) and dtype.name in ("O8", "O"):
            (only,) = content
            return only
        if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
            raise ValueError("an array without a type or shape")
        if not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError("an array without a shape")
        kind = dtype.numbers()
        if isinstance(content, str):  # of Python 2
            content = content.encode("latin1")
        if not isinstance(content, bytes) or len(content) != math.prod(shape) * kind.itemsize:
            raise ValueError("an array of another length")
        flat = np.frombuffer(content, kind)
        return flat.reshape(shape, order="F" if by_column else "C").copy()


class _Number:
    """Stands for a number of numpy."""

    def __init__(self, dtype: Any, content: Any) -> None:
        self.array = _Array()
        self.array.state = (1, (), dtype, False, content)

    def value(self) -> Any:
        """The number as an array without sides."""
        found = self.array.value()
        if not isinstance(found, np.ndarray):
            raise ValueError("a number that is none")
        return found[()]


def _encoded(text: Any = "", encoding: Any = "latin1") -> bytes:
    """Bytes, as pickles of the second protocol write them; none if there is no text."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused("bytes of another text")
    return text.encode("latin1")


class _Reader(pickle._Unpickler):
    """Names nothing but what is above. Python's own, as the one in C warns of damage itself."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("_codecs", "encode"), ("__builtin__", "bytes")):
            return _encoded
        stands_for = {"_reconstruct": _Array, "scalar": _Number, "ndarray": _Array, "dtype": _Dtype}
        if module in _MODULES and name in stands_for:
            return stands_for[name]
        raise _Refused(f"{module}.{name}"[:100])

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent id")


def _plain(value: Any, levels: int = _DEEPEST) -> Any:
    """``value`` with arrays in place of what stands for them."""
    if not levels:
        raise ValueError("too deep")
    if isinstance(value, _Array | _Number):
        return _plain(value.value(), levels - 1)
    if isinstance(value, dict):
        return {_key(key): _plain(each, levels - 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(each, levels - 1) for each in value)
    if isinstance(value, str | int | float | np.ndarray | np.generic) or value is None:
        return value
    raise ValueError(f"holds {type(value).__name__}")


def _key(value: Any) -> Any:
    """A key of a dict: a text or a number."""
    if isinstance(value, _Number):
        value = value.value().item()
    if not isinstance(value, str | int):
        raise ValueError(f"a key that is {type(value).__name__}")
    return value
