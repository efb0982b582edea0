"""Weights in the formats of other programs, written here from the descriptions of the formats."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wsss_cli.errors import ConfigurationError
from wsss_cli.models.formats import read_weights

Arrays = Mapping[str, np.ndarray]

RNG = np.random.default_rng(0)
SMALL = {
    "arg:a_weight": RNG.random((2, 3), dtype=np.float32),
    "aux:b_moving_mean": RNG.random(4),
    "arg:c": np.arange(3, dtype=np.int32),
}


# ---- MXNet: mxnet.nd.save ------------------------------------------------------------------------

MX_TYPES = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}


def mx_array(array: np.ndarray, version: int) -> bytes:
    """An array as version 0 (to 2017), 1, 2 (with a storage type) or 3 (NumPy's shapes) has it."""
    ndim, sides = array.ndim, array.shape
    if version == 0:
        start = struct.pack(f"<I{ndim}I", ndim, *sides)
    else:
        start = struct.pack("<I", 0xF993FAC7 + version)
        start += struct.pack("<i", 0) if version > 1 else b""
        start += struct.pack(f"<i{ndim}q", ndim, *sides)
    device = struct.pack("<ii", 1, 0)
    return start + device + struct.pack("<i", MX_TYPES[array.dtype.name]) + array.tobytes()


def mx_list(arrays: Arrays, version: int = 2, names: list[str] | None = None) -> bytes:
    names = list(arrays) if names is None else names
    body = struct.pack("<QQQ", 0x112, 0, len(arrays))
    body += b"".join(mx_array(array, version) for array in arrays.values())
    body += struct.pack("<Q", len(names))
    return body + b"".join(struct.pack("<Q", len(n.encode())) + n.encode() for n in names)


# ---- safetensors ---------------------------------------------------------------------------------

SAFE_TYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64", "int32": "I32"}


def safe(arrays: Arrays, change: Callable[[dict], None] = lambda header: None) -> bytes:
    header: dict = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, array in arrays.items():
        end = len(body) + array.nbytes
        kind = SAFE_TYPES[array.dtype.name]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(body), end]}
        body += array.tobytes()
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


# ---- Caffe: a NetParameter -----------------------------------------------------------------------


def varint(number: int) -> bytes:
    low = number & 127
    return bytes([low | 128]) + varint(number >> 7) if number > 127 else bytes([low])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(array: np.ndarray, old: bool) -> bytes:
    if old:  # num, channels, height, width, and each value a field
        four = (1,) * (4 - array.ndim) + array.shape
        values = b"".join(varint(5 << 3 | 5) + struct.pack("<f", v) for v in array.ravel())
        return b"".join(field(n, side) for n, side in enumerate(four, start=1)) + values
    shape = field(7, field(1, b"".join(varint(side) for side in array.shape)))
    return field(5, array.astype("<f4").tobytes()) + shape


def caffe(layers: Mapping[str, list[np.ndarray]], old: bool = False) -> bytes:
    number, its_name, its_blobs = (2, 4, 6) if old else (100, 1, 7)
    body = field(1, b"a network") + field(3, b"data")
    for name, blobs in {"data": [], **layers}.items():
        layer = field(its_name, name.encode()) + field(3, b"bottom")
        layer += b"".join(field(its_blobs, blob(each, old)) for each in blobs)
        body += field(number, layer)
    return body


CAFFE = {
    "conv1_1": [
        RNG.random((2, 3, 1, 3), dtype=np.float32),
        np.arange(2, dtype=np.float32),
    ]
}
FILES = {
    "net.params": mx_list(SMALL),
    "old.params": mx_list(SMALL, 0),
    "net.safetensors": safe({**SMALL, "empty": np.zeros((0, 2), np.float32)}),
    "net.caffemodel": caffe(CAFFE),
    "old.caffemodel": caffe(CAFFE, old=True),
}


def read(path: Path, content: bytes) -> dict[str, Tensor]:
    path.write_bytes(content)
    return read_weights(path)


def refusal(path: Path) -> str | None:
    """What is said of a file that is refused: one line, and nothing but our error."""
    try:
        read_weights(path)
    except ConfigurationError as error:
        said = str(error)
    else:
        return None
    assert "\n" not in said
    return said


def same(read: Mapping[str, Tensor], wanted: Arrays) -> None:
    assert list(read) == list(wanted)
    for name, array in wanted.items():
        assert read[name].numpy().dtype == array.dtype
        np.testing.assert_array_equal(read[name].numpy(), array)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_mxnet_in_all_its_versions(version: int, tmp_path: Path) -> None:
    arrays = {**SMALL, "é": np.float16([[[[1, 2]]]]), "u": np.uint8([255]), "l": np.int64([-1])}
    same(read(tmp_path / "a.bin", mx_list(arrays, version)), arrays)


def test_mxnet_arrays_without_values_are_left_out(tmp_path: Path) -> None:
    none = {0: struct.pack("<I", 0), 3: struct.pack("<Iii", 0xF993FACA, 0, -1)}
    for version, nothing in none.items():
        body = struct.pack("<QQQ", 0x112, 0, 2) + nothing + mx_array(SMALL["arg:c"], version)
        body += struct.pack("<QQ1sQ1s", 2, 1, b"a", 1, b"c")
        same(read(tmp_path / "a.params", body), {"c": SMALL["arg:c"]})
    scalar = np.array(3, np.float32)  # only NumPy's shapes have scalars
    assert read(tmp_path / "a.params", mx_list({"s": scalar}, 3))["s"] == 3


def test_mxnet_bfloat16(tmp_path: Path) -> None:
    body = mx_list({"a": np.float16([0])})
    at = body.index(struct.pack("<iiiH", 1, 0, 2, 0))
    value = struct.pack("<f", 1.5)[2:]  # the upper half of a float
    body = body[: at + 8] + struct.pack("<i", 12) + value + body[at + 14 :]
    assert read(tmp_path / "a.params", body)["a"].equal(torch.tensor([1.5], dtype=torch.bfloat16))


def test_safetensors(tmp_path: Path) -> None:
    arrays = {"b": SMALL["aux:b_moving_mean"], "a": np.float16([[1, 2]]), "n": np.array(5)}
    arrays["empty"] = np.zeros((0, 2), np.float32)
    same(read(tmp_path / "a.bin", safe(arrays)), arrays)


def test_safetensors_bfloat16(tmp_path: Path) -> None:
    body = safe({"a": np.float16([0])}).replace(b'"F16"', b'"BF16"')
    body = struct.pack("<Q", struct.unpack("<Q", body[:8])[0] + 1) + body[8:-2]
    body += struct.pack("<f", -2.5)[2:]
    wanted = torch.tensor([-2.5], dtype=torch.bfloat16)
    assert read(tmp_path / "a.safetensors", body)["a"].equal(wanted)


@pytest.mark.parametrize("old", [False, True])
def test_caffe(old: bool, tmp_path: Path) -> None:
    weight, bias = CAFFE["conv1_1"]
    found = read(tmp_path / "a.caffemodel", caffe(CAFFE, old))
    same(found, {"conv1_1.weight": weight, "conv1_1.bias": bias})


@pytest.mark.parametrize("name", ["a.pth", "a.params", "a.caffemodel"])
@pytest.mark.parametrize("archive", [True, False])
def test_pytorch_files_are_known_by_their_content(name: str, archive: bool, tmp_path: Path) -> None:
    data = {"a": torch.ones(2), "epoch": 3}
    torch.save(data, tmp_path / name, _use_new_zipfile_serialization=archive)
    found = read_weights(tmp_path / name)
    assert found["a"].equal(torch.ones(2))
    assert found["epoch"] == 3


def test_safetensors_are_known_whatever_the_length_of_their_header(tmp_path: Path) -> None:
    for longer in range(256):
        body = safe({"a" * (1 + longer): np.zeros(1, np.float32)})
        assert len(read(tmp_path / "a.bin", body)) == 1


# ---- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_anywhere_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path, whole = tmp_path / name, FILES[name]
    assert read(path, whole)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        said = refusal(path)
        if said is None:  # a protocol buffer has no end of its own: a whole first part is a message
            assert name.endswith(".caffemodel")
            assert read_weights(path).keys() <= {"conv1_1.weight", "conv1_1.bias"}
        else:
            assert said.startswith(f"cannot read weights: {path}: truncated or damaged ")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("value", [0, 1, 0x7F, 0xFF])
def test_a_changed_byte_is_refused_or_read_but_harms_nothing(
    name: str, value: int, tmp_path: Path
) -> None:
    path, whole = tmp_path / name, FILES[name]
    tracemalloc.start()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
        refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


HUGE = 1 << 40


def lying_mx(at: str, value: int) -> bytes:
    body = bytearray(mx_list({"name": np.zeros(4, np.float32)}))
    place = {
        "arrays": 16,
        "storage": 28,
        "axes": 32,
        "side": 36,
        "type": 52,
        "names": 72,
        "length": 80,
    }[at]
    size = 4 if at in ("storage", "axes", "type") else 8
    body[place : place + size] = value.to_bytes(size, "little")
    return bytes(body)


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        ("arrays", HUGE, "1099511627776 items announced, 68 bytes left"),
        ("arrays", 0, "bytes left|names|items"),
        ("storage", 1, "a sparse array"),
        ("axes", 33, "an array of 33 axes"),
        ("axes", 2, "."),
        ("side", HUGE, "a tensor of shape"),
        ("side", 1 << 30, "4294967296 bytes announced, 36 left"),
        ("side", 3, "."),
        ("type", 99, "an array of unknown type 99"),
        ("names", HUGE, "1099511627776 items announced"),
        ("names", 0, "1 arrays with 0 names"),
        ("length", HUGE, "a name of 1099511627776 bytes"),
        ("length", 5, "5 bytes announced, 4 left"),
        ("length", 3, "1 bytes after its end"),
    ],
)
def test_sizes_that_lie_are_refused_in_mxnet_files(
    at: str, value: int, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        read(tmp_path / "a.params", lying_mx(at, value))


def test_names_twice_are_refused_in_mxnet_files(tmp_path: Path) -> None:
    arrays = {"a": np.zeros(1, np.float32), "b": np.zeros(1, np.float32)}
    with pytest.raises(ConfigurationError, match="2 arrays with 1 names"):
        read(tmp_path / "a.params", mx_list(arrays, names=["a", "a"]))
    with pytest.raises(ConfigurationError, match="it does not begin as one"):
        read(tmp_path / "a.params", bytes(64))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h["a"].update(data_offsets=[0, HUGE]), "a: its shape, type and place do not"),
        (lambda h: h["a"].update(shape=[HUGE], data_offsets=[0, 4 * HUGE]), "a lies at 0 to"),
        (lambda h: h["a"].update(shape=[1]), "a: its shape, type and place do not agree"),
        (lambda h: h["a"].update(shape=[-2]), "a: its shape, type and place do not agree"),
        (lambda h: h["a"].update(shape=[2.0]), "a: its shape, type and place do not agree"),
        (lambda h: h["a"].update(dtype="F8_E4M3"), "a: of type F8_E4M3, which is not known"),
        (lambda h: h["a"].update(dtype=["F32"]), "a: of type"),
        (lambda h: h["a"].pop("shape"), "a: no shape, type and place"),
        (lambda h: h.update(a=3), "a: no shape, type and place"),
        (lambda h: h["b"].update(data_offsets=[4, 12]), "b lies at 4 to 12, not from 8 of 16"),
        (lambda h: h["b"].update(data_offsets=[0, 8]), "b lies at 0 to 8, not from 8 of 16"),
        (lambda h: h["b"].update(data_offsets=[12, 20]), "b lies at 12 to 20"),
        (lambda h: h.pop("b"), "8 bytes that belong to no tensor"),
        (lambda h: h["a"].update(shape=[1] * 33 + [2]), "a: 34 axes"),
        (
            lambda h: h.update(
                b={"dtype": "F32", "shape": [0, *[1 << 30] * 3], "data_offsets": [8, 8]},
                c=h["b"],
            ),
            "a tensor of shape",
        ),
    ],
)
def test_headers_that_lie_are_refused_in_safetensors(
    change: Callable[[dict], None], said: str, tmp_path: Path
) -> None:
    arrays = {"a": np.zeros(2, np.float32), "b": np.ones(2, np.float32)}
    with pytest.raises(ConfigurationError, match=said):
        read(tmp_path / "a.safetensors", safe(arrays, change))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"[]", "its header is no table"),
        (b"{", "Expecting"),
        (b"\xff\xfe{", "decode|Expecting|utf"),
        (b'{"a":1,"a":2}', "a name twice"),
        (b"[" * 100_000, "no table"),
    ],
)
def test_headers_that_are_none_are_refused(header: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        read(tmp_path / "a.safetensors", struct.pack("<Q", len(header)) + header)
    with pytest.raises(ConfigurationError, match="a header of 1099511627776 bytes"):
        read(tmp_path / "a.safetensors", struct.pack("<Q", HUGE) + header)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no layer with weights"),
        (field(1, b"only a name"), "no layer with weights"),
        (b"\xff" * 20, "more than 64 bits"),
        (b"\x0b", "a field of kind 3"),
        (field(100, field(7, field(5, bytes(8)) + field(7, field(1, varint(3))))), "2 values of"),
        (field(100, field(7, field(7, field(1, varint(0) + varint(1 << 63))))), "0 values of"),
        (varint(100 << 3 | 2) + varint(HUGE), "1099511627776 bytes announced, 0 left"),
        (field(100, varint(7 << 3 | 2) + varint(9)), "9 bytes announced, 0 left"),
    ],
)
def test_caffe_files_that_lie_are_refused(content: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=said):
        read(tmp_path / "a.caffemodel", content)


@pytest.mark.parametrize("name", ["a.params", "a.safetensors", "a.caffemodel", "a.pth"])
def test_what_is_no_file_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(ConfigurationError, match=f"{name}: no such file"):
        read_weights(path)
    os.mkfifo(path)  # nobody writes into it: reading would wait for ever
    with pytest.raises(ConfigurationError, match=f"{name}: not a regular file"):
        read_weights(path)
