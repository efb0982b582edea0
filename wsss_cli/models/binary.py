"""A binary file of stated lengths, read without trusting them."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

import torch
from torch import Tensor


def is_shape(shape: Sequence[int]) -> bool:
    """Whether a tensor can have these sides: an empty one, too, has strides that are counted."""
    return all(0 <= side < 1 << 31 for side in shape) and math.prod(filter(None, shape)) < 1 << 60


class Part:
    """A part of a file, read from its start to its end.

    Every length is compared with what is left before memory is taken, so that a file that lies
    takes no more memory than its own size. All methods raise ValueError where it does.

    Args:
        stream: the file, at the start of the part.
        size: of the part, in bytes.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.left = stream, size

    def part(self, size: int) -> Part:
        """The next bytes, which must be read before this part goes on."""
        self._take(size)
        return Part(self.stream, size)

    def bytes(self, size: int) -> bytes:
        self._take(size)
        content = self.stream.read(size)
        if len(content) < size:
            raise ValueError("it became shorter")
        return content

    def skip(self, size: int) -> None:
        self._take(size)
        self.stream.seek(size, os.SEEK_CUR)

    def numbers(self, code: str, count: int = 1) -> tuple[Any, ...]:
        """Little-endian numbers of one type (:mod:`struct`)."""
        return struct.unpack(f"<{count}{code}", self.bytes(count * struct.calcsize(f"<{code}")))

    def tensor(self, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
        """The next values, row by row."""
        if not is_shape(shape):
            raise ValueError(f"a tensor of shape {tuple(shape)}")
        size = math.prod(shape) * dtype.itemsize
        self._take(size)
        if not size:
            return torch.empty(tuple(shape), dtype=dtype)
        values = bytearray(size)
        if self.stream.readinto(values) < size:  # type: ignore[attr-defined]
            raise ValueError("it became shorter")
        if dtype is torch.bool and values.translate(None, b"\0\1"):
            raise ValueError("truth values other than 0 and 1")
        return torch.frombuffer(values, dtype=dtype).reshape(tuple(shape))

    def _take(self, size: int) -> None:
        if not 0 <= size <= self.left:
            raise ValueError(f"{size} bytes announced, {self.left} left")
        self.left -= size
