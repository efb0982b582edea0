"""Files of weights, by their content: PyTorch's, safetensors, MXNet's ``.params``, Caffe's models.

The three that are not PyTorch's are read without the libraries that wrote them. Nothing in them is
ever executed, and no length that they state is trusted (:class:`wsss_cli.models.binary.Part`).
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsss_cli.files import load_tensors, opened
from wsss_cli.models.binary import Part
from wsss_cli.models.caffe import read_caffe

_MXNET_LIST = 0x112  # first eight bytes of a saved list of arrays
_MXNET_V1, _MXNET_V2, _MXNET_V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_MXNET_TYPES = {
    0: torch.float32,
    1: torch.float64,
    2: torch.float16,
    3: torch.uint8,
    4: torch.int32,
    5: torch.int8,
    6: torch.int64,
    7: torch.bool,
    12: torch.bfloat16,
}
_SAFE_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_MOST_AXES = 32
_MOST_HEADER = 100_000_000  # bytes; safetensors' own limit
_MOST_NAME = 1000  # bytes


def read_weights(path: str | Path, what: str = "weights") -> dict[str, Any]:
    """A dict of tensors and plain data, on the CPU, from a file of any known format.

    Args:
        path: the file. Its content tells its format; its name does where that says nothing.
        what: names it in messages.

    Returns:
        What a PyTorch file holds; of the other formats, tensors by name. Caffe's layers become
        ``NAME.weight`` and ``NAME.bias``.

    Raises:
        ConfigurationError: missing, truncated, damaged, holding code, or of no known format.
    """
    with opened(path, what) as stream:
        reader = _reader(stream.read(16), Path(path).suffix.lower())
        if reader is not None:
            stream.seek(0)
            return reader(Part(stream, os.fstat(stream.fileno()).st_size))
    return load_tensors(path, what)


# ---- MXNet ---------------------------------------------------------------------------------------
# src/ndarray/ndarray.cc: magic, 8 bytes reserved, all arrays, then all names.


def _mxnet(file: Part) -> dict[str, Tensor]:
    """A list of named arrays, as ``mxnet.nd.save`` writes it."""
    if file.numbers("Q")[0] != _MXNET_LIST:
        raise ValueError("it does not begin as one")
    file.skip(8)
    arrays = [_mxnet_array(file) for _ in range(_count(file, 4))]
    names = []
    for _ in range(_count(file, 8)):
        (length,) = file.numbers("Q")
        if length > _MOST_NAME:
            raise ValueError(f"a name of {length} bytes")
        names.append(file.bytes(length).decode("utf-8"))
    if len(names) != len(arrays) or len(set(names)) != len(names):
        raise ValueError(f"{len(arrays)} arrays with {len(set(names))} names")
    if file.left:
        raise ValueError(f"{file.left} bytes after its end")
    return {name: array for name, array in zip(names, arrays, strict=True) if array is not None}


def _count(file: Part, least: int) -> int:
    """A number of items of at least so many bytes."""
    (count,) = file.numbers("Q")
    if count * least > file.left:
        raise ValueError(f"{count} items announced, {file.left} bytes left")
    return int(count)


def _mxnet_array(file: Part) -> Tensor | None:
    """An array in any of the four layouts; None for one that holds nothing."""
    (magic,) = file.numbers("I")
    if magic in (_MXNET_V2, _MXNET_V3) and file.numbers("i")[0] != 0:
        raise ValueError("a sparse array")
    newer = magic in (_MXNET_V1, _MXNET_V2, _MXNET_V3)
    # The first layout begins with the number of axes, of 32 bits each.
    axes = file.numbers("i")[0] if newer else magic
    if axes == -1 or (axes == 0 and magic != _MXNET_V3):
        return None
    if not 0 <= axes <= _MOST_AXES:
        raise ValueError(f"an array of {axes} axes")
    shape = file.numbers("q" if newer else "I", axes)
    file.skip(8)  # type and number of the device it was on
    (code,) = file.numbers("i")
    if code not in _MXNET_TYPES:
        raise ValueError(f"an array of unknown type {code}")
    return file.tensor(_MXNET_TYPES[code], shape)


# ---- safetensors ---------------------------------------------------------------------------------
# Length of the header in eight bytes, the header in JSON, the values without gaps.


def _safetensors(file: Part) -> dict[str, Tensor]:
    (length,) = file.numbers("Q")
    if length > _MOST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    try:
        header = json.loads(file.bytes(length), object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("its header is no table of tensors") from error
    if not isinstance(header, dict):
        raise ValueError("its header is no table of tensors")
    header.pop("__metadata__", None)
    entries = sorted((_entry(name, each) for name, each in header.items()), key=lambda e: e[:2])
    reached, total, found = 0, file.left, {}
    for start, end, name, dtype, shape in entries:
        if start != reached or end > total:
            raise ValueError(f"{name} lies at {start} to {end}, not from {reached} of {total}")
        found[name], reached = file.tensor(dtype, shape), end
    if file.left:
        raise ValueError(f"{file.left} bytes that belong to no tensor")
    return {name: found[name] for name in header}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name twice in its header")
    return table


def _entry(name: str, entry: Any) -> tuple[int, int, str, torch.dtype, tuple[int, ...]]:
    """Start, end, name, type and shape of a tensor, from the header."""
    try:
        dtype, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{name[:80]}: no shape, type and place in its header") from error
    if len(shape) > _MOST_AXES:
        raise ValueError(f"{name[:80]}: {len(shape)} axes")
    if not isinstance(dtype, str) or dtype not in _SAFE_TYPES:
        raise ValueError(f"{name[:80]}: of type {str(dtype)[:20]}, which is not known here")
    if not whole or end - start != math.prod(shape) * _SAFE_TYPES[dtype].itemsize:
        raise ValueError(f"{name[:80]}: its shape, type and place do not agree")
    return start, end, name, _SAFE_TYPES[dtype], shape


def _named(
    name: str, read: Callable[[Part], dict[str, Tensor]]
) -> Callable[[Part], dict[str, Tensor]]:
    """A reader that names its format where a file is damaged."""

    def reader(file: Part) -> dict[str, Tensor]:
        try:
            return read(file)
        except ValueError as error:
            raise ValueError(f"truncated or damaged {name} file: {error}") from error

    return reader


_MXNET = _named("MXNet .params", _mxnet)
_SAFETENSORS = _named("safetensors", _safetensors)
_BY_SUFFIX = {
    ".params": _MXNET,
    ".safetensors": _SAFETENSORS,
    ".caffemodel": _named("Caffe", read_caffe),  # a protocol buffer has no magic number
}


def _reader(start: bytes, suffix: str) -> Callable[[Part], dict[str, Tensor]] | None:
    """The reader of a format that is not PyTorch's, by the first bytes and the name of a file."""
    if start[8:9] == b"{":
        return _SAFETENSORS
    if start[:8] == struct.pack("<Q", _MXNET_LIST):
        return _MXNET
    if start[:4] == b"PK\3\4" or start[:1] == b"\x80":
        return None
    return _BY_SUFFIX.get(suffix)
