"""The arrays of a large JSON file, element by element, so that memory does not grow with it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any, BinaryIO

_CHUNK = 1 << 20  # bytes
_LONGEST = 1 << 26  # bytes of an element, or of a value that is left out


@dataclass(frozen=True)
class Element:
    """An element of an array.

    Attributes:
        array: key of the array in the object that the file is.
        value: the element.
        start, length: where it stands in the file, in bytes.
    """

    array: str
    value: Any
    start: int
    length: int


def elements(stream: BinaryIO, arrays: Collection[str]) -> Iterator[Element]:
    """The elements of some arrays of a JSON object, in the order of the file.

    Args:
        stream: the file, UTF-8; read from where it stands.
        arrays: keys of the arrays in the outermost object. Other keys are passed over.

    Raises:
        ValueError: no such JSON, a wanted key whose value is no array, or an element beyond 64 MiB.
    """
    scanner = _Scanner(stream)
    if scanner.next() != "{":
        raise ValueError("not a JSON object")
    scanner.take("{")
    first = True
    while scanner.next() != "}":
        if not first:
            scanner.take(",")
        first = False
        key = scanner.value()[0]
        if not isinstance(key, str):
            raise ValueError(f"not JSON: a key at byte {scanner.at:,} is no text")
        scanner.take(":")
        if key not in arrays:
            scanner.value()
            continue
        scanner.take("[")
        while scanner.next() != "]":
            start = scanner.at
            value, length = scanner.value()
            yield Element(key, value, start, length)
            if scanner.next() != "]":
                scanner.take(",")
                if scanner.next() == "]":
                    raise ValueError(f"not JSON at byte {scanner.at:,}")
        scanner.take("]")
    scanner.take("}")
    scanner.end()


class _Scanner:
    """A place in a JSON text, of which only the part around it is in memory.

    A byte is a character here (Latin-1), so that places are those of the file.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._text = ""
        self._place = 0  # in the text
        self._before = 0  # bytes of the file before the text
        self._decoder = json.JSONDecoder(parse_constant=_refused)
        self._more()
        if self._text.startswith("\xef\xbb\xbf"):  # byte order mark
            self._place = 3

    @property
    def at(self) -> int:
        """The place in the file, in bytes."""
        return self._before + self._place

    def next(self) -> str:
        """The character after white space; ValueError at the end of the file."""
        while True:
            while self._place < len(self._text):
                if (char := self._text[self._place]) not in " \t\r\n":
                    return char
                self._place += 1
            if not self._more():
                raise ValueError(f"cut off at byte {self.at:,}")

    def take(self, char: str) -> None:
        """Pass over a character that must come next."""
        if self.next() != char:
            raise ValueError(f"not JSON at byte {self.at:,}: '{char}' expected")
        self._place += 1

    def end(self) -> None:
        """Raise ValueError if anything but white space follows."""
        try:
            char = self.next()
        except ValueError:
            return
        raise ValueError(f"not JSON at byte {self.at:,}: {char!a} after its end")

    def value(self) -> tuple[Any, int]:
        """Decode and pass over the value that comes next; it and its length in bytes."""
        self.next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._place)
                # A number may go on: 1 is a beginning of 1e3.
                whole = self._text[end : end + 1] in set(" \t\r\n,:]}") or not self._more()
            except JSONDecodeError as error:
                if len(self._text) - self._place > _LONGEST:
                    raise ValueError(f"not JSON, or too long, at byte {self.at:,}") from error
                if not self._more():
                    raise ValueError(f"not JSON, or cut off, at byte {self.at:,}") from error
                continue
            except RecursionError as error:
                raise ValueError(f"too deep at byte {self.at:,}") from error
            if whole:
                break
        text = self._text[self._place : end]
        if not text.isascii():
            try:
                value = json.loads(text.encode("latin-1").decode("utf-8"))
            except UnicodeDecodeError as error:
                raise ValueError(f"no UTF-8 at byte {self.at:,}") from error
        self._place = end
        return value, len(text)

    def _more(self) -> bool:
        """Read on, by as much as is waiting; whether there was more."""
        self._text, self._before, self._place = self._text[self._place :], self.at, 0
        read = self._stream.read(max(_CHUNK, len(self._text)))
        self._text += read.decode("latin-1")
        return bool(read)


def _refused(name: str) -> float:
    raise ValueError(f"not JSON: {name}")
