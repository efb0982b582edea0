"""Elements of arrays in a JSON file: those that json finds, at the places where they stand."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import pytest

from wsss_cli.datasets import json_arrays
from wsss_cli.datasets.json_arrays import elements

DATA: dict[str, Any] = {
    "info": {"text": 'é [ } \\ "'},
    "images": [{"id": number, "file_name": f"é {number}\u2028.jpg"} for number in range(40)],
    "number": 12345,
    "annotations": [{"id": 1, "runs": [1, [2, 3.5]], "text": "]}"}, 7, "x", None, []],
    "categories": [],
    "last": -1e-3,
}
ARRAYS = ("images", "annotations", "categories")


@pytest.fixture(params=[1, 7, 1 << 20], ids=["1 byte", "7 bytes", "1 MiB"])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(json_arrays, "_CHUNK", request.param)
    size: int = request.param
    return size


@pytest.mark.parametrize(
    "form",
    [{}, {"indent": 1}, {"ensure_ascii": False}, {"separators": (",", ":")}],
    ids=["plain", "indented", "UTF-8", "compact"],
)
def test_all_elements_are_found_at_their_places(form: dict[str, Any], chunk: int) -> None:
    text = json.dumps(DATA, **form).encode()
    found: dict[str, list[Any]] = {name: [] for name in ARRAYS}
    for each in elements(io.BytesIO(text), ARRAYS):
        found[each.array].append(each.value)
        assert json.loads(text[each.start : each.start + each.length]) == each.value
    assert found == {name: DATA[name] for name in ARRAYS}


def test_a_byte_order_mark_is_passed_over() -> None:
    (only,) = elements(io.BytesIO(b'\xef\xbb\xbf{"a": [5]}'), ["a"])
    assert (only.value, only.start, only.length) == (5, 10, 1)


def test_what_is_refused_is_what_json_refuses() -> None:
    short = {key: value[:3] if isinstance(value, list) else value for key, value in DATA.items()}
    text = json.dumps(short, ensure_ascii=False).encode()
    rng = random.Random(0)
    refused = 0
    for _ in range(2000):
        damaged = bytearray(text)
        place = rng.randrange(len(text))
        if (kind := rng.randrange(3)) == 0:
            del damaged[place:]
        elif kind == 1:
            damaged[place] = rng.randrange(256)
        else:
            del damaged[place : place + rng.randrange(1, 9)]
        try:
            expected: Any = json.loads(damaged.decode("utf-8"))
        except ValueError:
            expected = None
        try:
            found = list(elements(io.BytesIO(damaged), ARRAYS))
        except ValueError:
            refused += 1
            # Only in what is passed over are bytes that are no UTF-8 left to others.
            assert expected is None or not all(isinstance(expected[key], list) for key in ARRAYS)
        else:
            assert expected is not None
            assert [each.value for each in found] == [
                value for key in expected if key in ARRAYS for value in expected[key]
            ]
    assert refused > 500


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "cut off at byte 0"),
        (b"[1]", "not a JSON object"),
        (b'{"a": 1}', "at byte 6: '[' expected"),
        (b'{"a": [1,]}', "not JSON at byte 9"),
        (b'{"a": [NaN]}', "not JSON: NaN"),
        (b'{"a": [1]} x', "'x' after its end"),
        (b'{"a": ["\xff"]}', "no UTF-8 at byte 7"),
        (b'{"a": [' + b"[" * 100_000, "too deep at byte 7"),
        (b"{1: []}", "a key at byte 2 is no text"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("[", r"\[")):
        list(elements(io.BytesIO(text), ["a"]))


def test_memory_does_not_grow_with_what_is_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_arrays, "_CHUNK", 100)
    monkeypatch.setattr(json_arrays, "_LONGEST", 1000)
    stream = io.BytesIO(b'{"a": ["' + b"x" * 1_000_000)
    with pytest.raises(ValueError, match="not JSON, or too long, at byte 7"):
        list(elements(stream, ["a"]))
    assert stream.tell() < 10_000
