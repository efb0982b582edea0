"""Models of Caffe: a protocol buffer, read without Caffe and without its compiled description.

The numbers of the fields are those of src/caffe/proto/caffe.proto.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from wsss_cli.models.binary import Part, is_shape

# Layers as they are today, and in version 1: number of the field; fields of their name and blobs.
_LAYERS = {100: (1, 7), 2: (4, 6)}
_MOST_NAME = 1000  # bytes


def read_caffe(file: Part) -> dict[str, Tensor]:
    """``NAME.weight`` and ``NAME.bias`` of the layers of a NetParameter that have blobs."""
    found: dict[str, Tensor] = {}
    for field, layer in _fields(file):
        if field not in _LAYERS or not isinstance(layer, Part):
            continue
        its_name, its_blobs = _LAYERS[field]
        name, blobs = "", []
        for key, value in _fields(layer):
            if key == its_name and isinstance(value, Part):
                name = value.bytes(min(value.left, _MOST_NAME)).decode("utf-8")
            elif key == its_blobs and isinstance(value, Part):
                blobs.append(_blob(value))
        parts = ("weight", "bias", *(f"blob{n}" for n in range(2, len(blobs))))
        found |= {f"{name}.{part}": blob for part, blob in zip(parts, blobs, strict=False)}
    if not found:
        raise ValueError("no layer with weights")
    return found


def _blob(file: Part) -> Tensor:
    """A BlobProto: its values, and its shape as a list or, in older files, as four numbers."""
    packed: list[Tensor] = []
    singles = bytearray()
    shape, old = None, [1, 1, 1, 1]
    for field, value in _fields(file):
        if field in (1, 2, 3, 4) and isinstance(value, int):
            old[field - 1] = value
        elif field == 5 and isinstance(value, Part):
            packed.append(value.tensor(torch.float32, [value.left // 4]))
        elif field == 5 and isinstance(value, bytes):
            singles += value
        elif field == 7 and isinstance(value, Part):
            shape = [side for _, part in _fields(value) for side in _varints(part)]
    if singles:
        packed.append(torch.frombuffer(singles, dtype=torch.float32))
    values = torch.cat(packed) if packed else torch.empty(0)
    if shape is None:
        shape = old
        while len(shape) > 1 and shape[0] == 1:  # a bias is (1, 1, 1, C)
            shape = shape[1:]
    if not is_shape(shape) or math.prod(shape) != len(values):
        raise ValueError(f"{len(values)} values of shape {tuple(shape[:8])}")
    return values.reshape(shape)


def _fields(file: Part) -> Iterator[tuple[int, int | bytes | Part]]:
    """Number and value of each field of a message; a part that is not read is skipped."""
    while file.left:
        key = _varint(file)
        kind = key & 7
        if kind == 0:
            yield key >> 3, _varint(file)
        elif kind in (1, 5):
            yield key >> 3, file.bytes(8 if kind == 1 else 4)
        elif kind == 2:
            inner = file.part(_varint(file))
            yield key >> 3, inner
            inner.skip(inner.left)
        else:
            raise ValueError(f"a field of kind {kind}")


def _varint(file: Part) -> int:
    value = 0
    for shift in range(0, 64, 7):
        (byte,) = file.bytes(1)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError("a number of more than 64 bits")


def _varints(value: int | bytes | Part) -> Iterator[int]:
    """Numbers of a field that may repeat or be packed."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, Part):
        while value.left:
            yield _varint(value)
