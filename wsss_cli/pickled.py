"""Dicts of arrays that other programs saved with ``numpy.save``: read without running anything.

Such a .npy is a pickle, which in general is a program. Here whatever it names is replaced by
classes of this module that take nothing but arrays of numbers and texts. Tensors of PyTorch, which
IRNet saves among them, are read as arrays too, without PyTorch.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
import struct
import threading
from typing import Any, ClassVar

import numpy as np
from numpy.lib import format as npy

from wsss_cli.errors import WsssError, describe
from wsss_cli.texts import open_regular

_MOST = 1 << 30  # bytes of a file
_DEEPEST = 20  # levels of dicts and lists
_NUMBERS = re.compile(r"[iuf][1248]|b1|U\d{1,4}")  # numpy's names of number and text types
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# numpy parses headers as Python, and Python 3.11 fails when two threads do so at once (gh-106905).
PARSING = threading.Lock()
_TORCH = {  # classes of PyTorch's storages, and numpy's names of their numbers
    **{"FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BoolStorage": "b1"},
    **{"ByteStorage": "u1", "CharStorage": "i1", "ShortStorage": "i2", "IntStorage": "i4"},
    "LongStorage": "i8",
}
_TORCH_MAGIC, _TORCH_VERSION = 0x1950A86A20F9469CFC6C, 1001
# What numpy and PyTorch never write: codes that take names from a registry, or memory unasked.
_UNUSED = (
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.INST, pickle.OBJ),
    *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
)


def read_dict(path: str | os.PathLike[str]) -> dict[Any, Any]:
    """The dict in a .npy: ``numpy.save`` of one, as PSA and IRNet write them.

    Args:
        path: the file.

    Returns:
        Texts, numbers, None, and dicts, lists, tuples and arrays (of numbers or texts) of them;
        tensors as arrays.

    Raises:
        WsssError: it cannot be read, is none, or would make something else.
    """
    try:
        with open_regular(path) as stream:
            if os.fstat(stream.fileno()).st_size > _MOST:
                raise ValueError(f"more than {_MOST:,} bytes")
            version = npy.read_magic(stream)
            if version not in HEADERS:
                raise ValueError(f"version {version}")
            with PARSING:
                shape, _, dtype = HEADERS[version](stream)
            if shape != () or not dtype.hasobject:
                raise ValueError("an array, not a dict")
            value = _Plain()(_Reader(io.BytesIO(stream.read()), encoding="latin1").load())
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


class _Stand:
    """What stands for a class. Of itself it takes no state, neither as an object nor as a class."""

    def __setstate__(self, state: Any) -> None:
        raise _Refused("an object with a state")


class _Dtype(_Stand):
    """Stands for numpy.dtype: a name, and the order of bytes."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.order = name, "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def numbers(self) -> np.dtype[Any]:
        """The type of numbers or texts; ValueError for any other."""
        # Other values are not shown: tuples of tuples of few bytes would be texts without end.
        if not isinstance(self.name, str) or not isinstance(self.order, str):
            raise ValueError("an array without a type")
        if not _NUMBERS.fullmatch(self.name):
            raise ValueError(f"an array of {self.name!r:.20}")
        if self.order not in ("<", ">", "|", "="):
            raise ValueError(f"bytes in the order {self.order!r:.20}")
        return np.dtype(f"{self.order}{self.name}")


class _Array(_Stand):
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
        if not isinstance(dtype, _Dtype) or not _are_sides(shape):
            raise ValueError("an array without a type or shape")
        kind = dtype.numbers()
        if isinstance(content, str):  # of Python 2
            content = content.encode("latin1")
        if not isinstance(content, bytes) or len(content) != math.prod(shape) * kind.itemsize:
            raise ValueError("an array of another length")
        flat = np.frombuffer(content, kind)
        return flat.reshape(shape, order="F" if by_column else "C").copy()


class _Number(_Stand):
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


class _Storage(_Stand):
    """Stands for the numbers of a tensor: the bytes of ``torch.save`` in its first format.

    Five pickles (magic number, version, the machine, the storage, its name), how many numbers
    there are, and the numbers.
    """

    def __init__(self, content: Any) -> None:
        self.content = content

    def value(self) -> Any:
        """The numbers, shape (N,). ValueError for anything else."""
        if not isinstance(self.content, bytes):
            raise ValueError("a tensor without bytes")
        stream = io.BytesIO(self.content)
        magic, version, machine, named, names = (_TorchReader(stream).load() for _ in range(5))
        if (magic, version) != (_TORCH_MAGIC, _TORCH_VERSION) or not isinstance(named, _Named):
            raise ValueError("a tensor of another format")
        if machine.get("little_endian") is not True or names != [named.name]:
            raise ValueError("a tensor of another format")
        (count,) = struct.unpack("<q", stream.read(8))
        values = stream.read()
        if count != named.count or len(values) != count * named.kind.itemsize:
            raise ValueError("a tensor of another length")
        return np.frombuffer(values, named.kind)


class _Named:
    """The storage that a pickle of PyTorch names: type, name and number of its numbers."""

    def __init__(self, pid: Any) -> None:
        kind, self.kind, self.name, _, self.count, *view = pid
        if kind != "storage" or not isinstance(self.kind, np.dtype) or any(view):
            raise ValueError("a tensor of another format")
        if not isinstance(self.name, str):
            raise ValueError("a tensor of another format")


class _Tensor(_Stand):
    """Stands for a tensor: its numbers, and where each is among them."""

    def __init__(self, storage: Any, start: Any, shape: Any, steps: Any, *_: Any) -> None:
        self.parts = storage, start, shape, steps

    def value(self) -> Any:
        """The tensor as an array. ValueError for one that reaches beyond its numbers."""
        storage, start, shape, steps = self.parts
        if not isinstance(storage, _Storage) or not _are_sides((start,)):
            raise ValueError("a tensor without numbers")
        if not _are_sides(shape) or not _are_sides(steps) or len(shape) != len(steps):
            raise ValueError("a tensor without a shape")
        flat = storage.value()
        if 0 in shape:
            return np.zeros(shape, flat.dtype)
        last = start + sum((side - 1) * step for side, step in zip(shape, steps, strict=True))
        # One number may stand for many; a file of few bytes must not become a large array.
        if last >= len(flat) or math.prod(shape) > len(flat):
            raise ValueError("a tensor beyond its numbers")
        places = start + sum(
            np.arange(side).reshape(-1, *[1] * (len(shape) - at - 1)) * step
            for at, (side, step) in enumerate(zip(shape, steps, strict=True))
        )
        return flat[places]


class _Ordered(_Stand, dict[Any, Any]):
    """Stands for collections.OrderedDict, made empty."""

    def __init__(self, items: Any = ()) -> None:
        super().__init__()
        if items:  # Python 2 wrote an empty list
            raise _Refused("a dict with entries")


class _Bytes(_Stand):
    """Stands for what gives bytes, as pickles of the second protocol write them."""

    def __new__(cls, text: Any = "", encoding: Any = "latin1") -> Any:
        if not isinstance(text, str) or encoding != "latin1":
            raise _Refused("bytes of another text")
        return text.encode("latin1")


def _are_sides(value: Any) -> bool:
    """Whether a value can be a shape."""
    return isinstance(value, tuple) and all(type(side) is int and side >= 0 for side in value)


_STANDS: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _Bytes,
    ("__builtin__", "bytes"): _Bytes,
    ("collections", "OrderedDict"): _Ordered,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch.storage", "_load_from_bytes"): _Storage,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy"):
    _STANDS |= {(_module, name): _Array for name in ("_reconstruct", "ndarray")}
    _STANDS |= {(_module, "scalar"): _Number, (_module, "dtype"): _Dtype}


def _set_item(reader: Any) -> None:
    _check_key(reader.stack[-2])
    reader.load_setitem()


def _set_items(reader: Any) -> None:
    for key in reader.stack[::2]:
        _check_key(key)
    reader.load_setitems()


def _dict(reader: Any) -> None:
    items = reader.pop_mark()
    reader.append({})
    reader.metastack.append(reader.stack)
    reader.stack = items
    _set_items(reader)


def _set(reader: Any) -> None:
    raise ValueError("holds set")


def _check_key(key: Any) -> None:
    """Raise ValueError for a key that is neither text nor number.

    The hash of tuples of the same tuples, of tuples and so on takes forever, in C, where no signal
    ends it.
    """
    if not isinstance(key, str | int | _Number):
        raise ValueError(f"a key that is {type(key).__name__}")


class _Reader(pickle._Unpickler):
    """Names nothing but what is above. Python's own, as the one in C warns of damage itself."""

    dispatch: ClassVar = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if bytes([code]) not in _UNUSED
    } | {pickle.SETITEM[0]: _set_item, pickle.SETITEMS[0]: _set_items}
    dispatch |= {pickle.DICT[0]: _dict, pickle.EMPTY_SET[0]: _set, pickle.FROZENSET[0]: _set}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _STANDS:
            return _STANDS[module, name]
        raise _Refused(f"{module}.{name}"[:100])

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent id")


class _TorchReader(_Reader):
    """Names nothing but the storages of PyTorch, and refers to them."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.cuda") and name in _TORCH:
            return np.dtype(f"<{_TORCH[name]}")
        raise _Refused(f"{module}.{name}"[:100])

    def persistent_load(self, pid: Any) -> Any:
        return _Named(pid)


class _Plain:
    """Puts arrays in place of what stands for them.

    What occurs many times is one value, and all arrays together are of a bounded size: written out
    again and again, a few bytes could fill the memory.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Any]] = {}  # by identity: a value, and what it becomes
        self._room = _MOST

    def __call__(self, value: Any, levels: int = _DEEPEST) -> Any:
        """The value itself, written with texts, numbers, None, dicts, lists, tuples and arrays."""
        if not levels:
            raise ValueError("too deep")
        if isinstance(value, str | int | float | np.ndarray | np.generic) or value is None:
            return value
        if id(value) not in self._known:
            self._known[id(value)] = value, self._made(value, levels - 1)
        return self._known[id(value)][1]

    def _made(self, value: Any, levels: int) -> Any:
        if isinstance(value, _Array | _Number | _Tensor):
            found = value.value()
            self._room -= found.nbytes if isinstance(found, np.ndarray) else 0
            if self._room < 0:
                raise ValueError(f"more than {_MOST:,} bytes")
            return self(found, levels)
        if isinstance(value, dict):
            return {_key(key): self(each, levels) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self(each, levels) for each in value)
        raise ValueError(f"holds {type(value).__name__}")


def _key(value: Any) -> Any:
    """A key of a dict: a text or a number."""
    if isinstance(value, _Number):
        value = value.value().item()
    if not isinstance(value, str | int):
        raise ValueError(f"a key that is {type(value).__name__}")
    return value
