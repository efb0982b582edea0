"""Dicts that numpy saved: the same values as numpy's, and nothing is run."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsss_cli.errors import WsssError
from wsss_cli.pickled import read_dict

DATA: dict[Any, Any] = {
    "2007_000032": np.array([0, 1, 0], np.float32),
    "whole": np.arange(3),
    "by column": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">f4"),
    "texts": np.array(["ab", "ç"]),
    "scalar": np.float32(3),
    "list": [1, "x", None, 2.5],
    "inner": {"é": np.ones(2, bool)},
    3: np.zeros((2, 0)),
}


def write(path: Path, value: Any, protocol: int) -> None:
    """As numpy saves an object, with a protocol of any age."""
    with open(path, "wb") as stream:
        header = {"shape": (), "fortran_order": False, "descr": "|O"}
        np.lib.format.write_array_header_1_0(stream, header)
        pickle.dump(np.array(value, dtype=object), stream, protocol=protocol)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_values_are_those_that_numpy_reads(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    write(path, DATA, protocol)
    found = read_dict(path)
    assert list(found) == list(DATA)
    for key in ("2007_000032", "whole", "by column", "big-endian", "texts", 3):
        np.testing.assert_array_equal(found[key], DATA[key], strict=True)
    assert found["scalar"] == 3
    assert found["list"] == DATA["list"]
    np.testing.assert_array_equal(found["inner"]["é"], [True, True])


def test_what_numpy_itself_saves(tmp_path: Path) -> None:
    maps = {14: np.random.default_rng(0).random((3, 4), np.float32)}
    np.save(tmp_path / "a.npy", maps, allow_pickle=True)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_dict(tmp_path / "a.npy")[14], maps[14], strict=True)


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"a": Runs(os.mkdir, "made")}, "posix.mkdir"),
        ({"a": Runs(eval, "1 + 1")}, "builtins.eval"),
        ({"a": Path("x")}, "pathlib"),
        ({"a": np.random.default_rng()}, "numpy.random"),
        ({"a": {1, 2}}, "set"),
        ({"a": 1j}, "complex"),
        ({"a": np.array([{}, {}])}, "'O8'"),
        ({(1, 2): 1}, "a key that is tuple"),
        ([1, 2], "no dict"),
    ],
)
def test_nothing_else_is_made(
    value: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for protocol in (0, 2, 4):
        write(tmp_path / "a.npy", value, protocol)
        with pytest.raises(WsssError, match=r"a\.npy: ") as refused:
            read_dict(tmp_path / "a.npy")
        if protocol == 4:
            assert name in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"PK\x03\x04", b"x" * 1000, b"\x93NUMPY\x09\x00" + bytes(200)]
)
def test_what_is_no_npy(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(WsssError, match="no dict that numpy saved"):
        read_dict(tmp_path / "a.npy")


def test_arrays_are_no_dicts(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(WsssError, match="an array, not a dict"):
        read_dict(tmp_path / "a.npy")


def test_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    write(path, DATA, 3)
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1  # after the header, which numpy reads
    told: list[str] = []
    for seed in range(500):
        rng = random.Random(seed)
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(start, len(damaged))
            if (kind := rng.randrange(3)) == 0:
                damaged[place] = rng.randrange(256)
            elif kind == 1:
                del damaged[place : place + rng.randrange(1, 5)]
            else:
                damaged[place:place] = bytes([rng.randrange(256)])
        path.write_bytes(damaged)
        try:
            read_dict(path)
        except WsssError as error:
            told.append(str(error))
    assert len(told) > 100
    assert [each for each in told if len(each.splitlines()) > 1] == []


def saved(path: Path, value: Any) -> bytes:
    """As numpy saves a dict, and what it wrote."""
    np.save(path, value, allow_pickle=True)
    return path.read_bytes()


def test_tensors_are_arrays(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    rng = torch.Generator().manual_seed(0)
    whole = torch.rand(5, 6, 4, generator=rng)
    tensors = {
        "whole": whole,
        "part": whole[2:4, 1],
        "turned": whole.permute(2, 0, 1),
        "every other": whole[::2, :, 1::2],
        "spread": whole[:1, :1].expand(1, 1, 4),
        "numbers": torch.nonzero(torch.tensor([0, 1, 0, 1]))[:, 0],
        "none": torch.zeros(0, 3),
        "single": torch.tensor(2.5, dtype=torch.float64),
        "half": whole.half(),
        "bytes": torch.arange(4, dtype=torch.uint8),
        "yes": torch.tensor([True, False]),
        "needs": whole.clone().requires_grad_(True),
    }
    saved(tmp_path / "a.npy", tensors)
    found = read_dict(tmp_path / "a.npy")
    assert list(found) == list(tensors)
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(found[key], tensor.detach().numpy(), strict=True)


def test_a_tensor_beyond_its_numbers_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.npy"
    # A shape is written K side, tuple; of 7 numbers, one of 8 is asked for.
    whole = saved(path, {"a": torch.arange(7, dtype=torch.uint8)})
    assert whole.count(b"K\x07\x85") == 1
    path.write_bytes(whole.replace(b"K\x07\x85", b"K\x08\x85"))
    with pytest.raises(WsssError, match="a tensor beyond its numbers"):
        read_dict(path)
    saved(path, {"a": torch.zeros(1).expand(1 << 40)})  # of four bytes
    with pytest.raises(WsssError, match="a tensor beyond its numbers"):
        read_dict(path)
    saved(path, {"a": torch.zeros(2, dtype=torch.bfloat16)})
    with pytest.raises(WsssError, match=r"would make or run torch\.BFloat16Storage: refused"):
        read_dict(path)


def test_what_is_written_a_thousand_times_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    value: Any = [0] * 10
    for _ in range(12):  # 10 to the 13th numbers
        value = [value] * 10
    saved(path, {"a": value})
    found: Any = read_dict(path)["a"]
    assert found[0] is found[9]
    while isinstance(found, list):
        found = found[-1]
    assert found == 0


def test_nothing_changes_what_is_read_later(tmp_path: Path) -> None:
    """The state of a class or function would be that of the next file, too."""
    path = tmp_path / "a.npy"
    good = {"a": np.arange(3)}
    for module, name in [("_codecs", "encode"), ("torch._utils", "_rebuild_tensor_v2")]:
        state = b"N}X\x0c\x00\x00\x00__defaults__\x8c\x01xs\x86b"
        header = saved(path, {}).partition(b"\n")[0] + b"\n"
        path.write_bytes(header + f"\x80\x02c{module}\n{name}\n".encode("latin1") + state + b".")
        with pytest.raises(WsssError, match="damaged"):
            read_dict(path)
        saved(path, good)
        np.testing.assert_array_equal(read_dict(path)["a"], good["a"])


def test_memory_is_not_taken_on_a_word(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    header = saved(path, {}).partition(b"\n")[0] + b"\n"
    path.write_bytes(header + b"\x80\x05\x96" + (1 << 36).to_bytes(8, "little") + b".")
    with pytest.raises(WsssError, match="damaged"):
        read_dict(path)


def test_tuples_of_the_same_tuples_take_no_time(tmp_path: Path) -> None:
    """Their hash and their text, of 2 to the 60th parts, would never be there."""
    path = tmp_path / "a.npy"
    header = saved(path, {}).partition(b"\n")[0] + b"\n"
    made = b"\x80\x02K\x01\x85q\x000"
    for level in range(60):
        made += (b"h" + bytes([level])) * 2 + b"\x86q" + bytes([level + 1]) + b"0"
    many, named = b"h\x3c", b"cnumpy\ndtype\n"
    for rest in (
        b"}" + many + b"K\x01s.",
        b"}(" + many + b"K\x01u.",
        b"(" + many + b"K\x01d.",
        b"\x8f(" + many + b"\x90.",
        b"ccollections\nOrderedDict\n]" + many + b"K\x01\x86a\x85R.",
        b"}K\x01cnumpy\nndarray\n)R(K\x01K\x02\x85" + named + many + b"\x85RNU\x01xtbs.",
        b"}K\x01cnumpy\nndarray\n)R(K\x01K\x02\x85"
        + (named + b"X\x02\x00\x00\x00f4\x85RK\x03" + many + b"\x86bNC\x01xtbs."),
    ):
        path.write_bytes(header + made + rest)
        with pytest.raises(WsssError):
            read_dict(path)
