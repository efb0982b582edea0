"""Maps as psa, irn and SIPE save them: read like ours, or refused in a line."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Run
from wsss_cli import files
from wsss_cli.classes import VOC
from wsss_cli.errors import WsssError
from wsss_cli.pickled import read_dict

SIZE = (12, 16)
RNG = np.random.default_rng(0)
CAT, PERSON = (RNG.random(SIZE, np.float32) for _ in range(2))  # numbers 7 and 14 of VOC, from 0
PAIR = np.stack([CAT, PERSON])

PSA = {7: CAT, 14: PERSON}
IRN = {"keys": np.array([7, 14]), "cam": PAIR[:, ::4, ::4], "high_res": PAIR}
SIPE = {"keys": np.array([0, 8, 15]), "IS_CAM": np.stack([1 - CAT, CAT, PERSON])}


def save(path: Path, value: Any) -> Path:
    np.save(path, value, allow_pickle=True)
    return path


def with_tensors(data: dict[str, Any]) -> dict[str, Any]:
    """irn's own files: two of three values are tensors."""
    torch = pytest.importorskip("torch")
    tensors = {key: torch.from_numpy(data[key].copy()) for key in ("keys", "cam")}
    return {**tensors, "high_res": data["high_res"]}


@pytest.mark.parametrize("form", ["psa", "irn", "irn with tensors"])
def test_the_same_maps_from_each_form(form: str, tmp_path: Path) -> None:
    data: Any = {"psa": PSA, "irn": IRN}.get(form) or with_tensors(IRN)
    maps = files.read_maps(save(tmp_path / "a.npy", data), SIZE, VOC)
    assert maps.classes == ("cat", "person")
    assert maps.size == SIZE
    np.testing.assert_array_equal(maps.cam, PAIR.astype(np.float16), strict=True)
    files.write_maps(tmp_path / "a.npz", PAIR, ["cat", "person"], SIZE, {})
    ours = files.read_maps(tmp_path / "a.npz", SIZE)
    assert (maps.classes, maps.size, maps.meta) == (ours.classes, ours.size, ours.meta)
    np.testing.assert_array_equal(maps.cam, ours.cam, strict=True)


def test_the_background_of_sipe(tmp_path: Path) -> None:
    maps = files.read_maps(save(tmp_path / "a.npy", SIPE), SIZE, VOC)
    assert maps.classes == ("background", "cat", "person")
    np.testing.assert_array_equal(maps.cam[0], (1 - CAT).astype(np.float16))


def test_photographs_without_labels(tmp_path: Path) -> None:
    none = {"keys": np.zeros(0, int), "cam": np.zeros((0, 3, 4)), "high_res": np.zeros((0, *SIZE))}
    maps = files.read_maps(save(tmp_path / "irn.npy", none), None, VOC)
    assert (maps.cam.shape[0], maps.size) == (0, SIZE)
    empty = save(tmp_path / "psa.npy", {})
    assert files.read_maps(empty, SIZE, VOC).size == SIZE
    with pytest.raises(WsssError, match="no maps in it, so the size of its image is not known"):
        files.read_maps(empty, None, VOC)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({20: CAT}, "class number 20, counted from 0, but the class list has 20 names"),
        ({-1: CAT}, "-1 is no number of a class"),
        ({7: CAT, 14: CAT[:6]}, "maps of 16x6 and of 16x12 for one image"),
        ({7: CAT[:6]}, "maps of an image of 16x6, but this one is 16x12"),
        ({7: np.where(CAT > 0.5, np.nan, CAT)}, "NaN or values outside 0 to 1"),
        ({7: CAT * 20}, "divide each by its maximum first"),
        ({7: CAT - 0.5}, "NaN or values outside 0 to 1"),
        ({7: CAT - 0.5}, "set those below 0 to 0 and divide each by its maximum first"),
        ({7: np.where(CAT > 0.5, np.nan, CAT)}, "a map of zeros divided by its maximum"),
        ({7: CAT[None]}, "the map of 7 is float32 (1, 12, 16), not floating point (H, W)"),
        ({7: (CAT * 255).astype(np.uint8)}, "the map of 7 is uint8 (12, 16)"),
        ({7: 0.5}, "the map of 7 is no array"),
        ({7: CAT[:0]}, "the map of 7 has no pixels"),
        ({"cat": CAT}, "nor 'keys' and 'high_res', as irn does, but 'cat'"),
        ({True: CAT}, "neither {class number: map}"),
        ({0: 1 - CAT, 8: CAT}, "probabilities after a CRF, as psa's --out_la_crf"),
        ({"keys": np.array([7])}, "no 'high_res' beside 'keys', but 'keys'"),
        ({"keys": np.array([7]), "cam": PAIR[:1]}, "'cam' alone does not tell the size"),
        ({**IRN, "keys": np.array([7])}, "1 'keys', but 2 maps in 'high_res'"),
        ({**IRN, "keys": np.array([7, 7])}, "class number 7 stands there twice"),
        ({**IRN, "keys": np.array([7.0, 14.0])}, "'keys' are no numbers of classes"),
        ({**IRN, "high_res": CAT}, "'high_res' is float32 (12, 16), not floating point (K, H, W)"),
        ({**SIPE, "keys": np.array([0, 8, 21])}, "class number 20, counted from 0"),
    ],
)
def test_what_is_none_is_refused(data: Any, why: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", data)
    with pytest.raises(WsssError) as refused:
        files.read_maps(path, SIZE, VOC)
    assert why in str(refused.value)
    assert str(path) in str(refused.value)


def test_the_class_list_is_never_guessed(tmp_path: Path) -> None:
    with pytest.raises(WsssError, match=r"numbers its classes .*; give --classes, their list"):
        files.read_maps(save(tmp_path / "a.npy", PSA), SIZE)


def test_what_is_no_dict(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PAIR)
    with pytest.raises(WsssError, match="no dict that numpy saved: an array, not a dict"):
        files.read_maps(tmp_path / "a.npy", SIZE, VOC)
    with pytest.raises(WsssError, match=r"cannot read maps: .*none\.npy: no such file"):
        files.read_maps(tmp_path / "none.npy", SIZE, VOC)


class Runs:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made",)


def test_lists_of_the_same_lists_take_no_time(tmp_path: Path) -> None:
    numbers: Any = [0] * 1000
    for _ in range(5):  # 10 to the 18th numbers, in a file of 12 kB
        numbers = [numbers] * 1000
    path = save(tmp_path / "a.npy", {**IRN, "keys": numbers})
    with pytest.raises(WsssError, match="'keys' are no numbers of classes"):
        files.read_maps(path, classes=VOC)
    path = save(tmp_path / "b.npy", {**IRN, "keys": [7, 14]})
    assert files.read_maps(path, classes=VOC).classes == ("cat", "person")


def test_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "a.npy", {7: Runs()})
    with pytest.raises(WsssError, match=r"would make or run posix\.mkdir: refused"):
        files.read_maps(path, SIZE, VOC)
    assert [each.name for each in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.parametrize("form", ["psa", "irn with tensors"])
def test_damage_is_refused_or_of_single_values(form: str, tmp_path: Path) -> None:
    """A damaged file gives a line, or maps of the same classes that differ in a damaged value."""
    path = save(tmp_path / "a.npy", PSA if form == "psa" else with_tensors(IRN))
    whole = path.read_bytes()
    told: list[str] = []
    for seed in range(300):
        rng = random.Random(seed)
        damaged = bytearray(whole)
        place = rng.randrange(len(damaged))
        if (kind := seed % 4) == 0:
            damaged[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del damaged[place : place + rng.randrange(1, 9)]
        elif kind == 2:
            damaged[place:place] = rng.randbytes(rng.randrange(1, 9))
        else:
            del damaged[place:]
        path.write_bytes(damaged)
        try:
            maps = files.read_maps(path, SIZE, VOC)
        except WsssError as error:
            told.append(str(error))
        else:
            assert kind in (0, 1, 2)
            assert maps.size == SIZE
            assert set(maps.classes) <= set(VOC)
            assert 0 <= maps.cam.min() <= maps.cam.max() <= 1
    assert len(told) > 150
    assert [each for each in told if len(each.splitlines()) > 1 or str(path) not in each] == []


def test_the_reader_gives_what_numpy_gives(tmp_path: Path) -> None:
    """numpy runs the pickle; the file is ours."""
    path = save(tmp_path / "a.npy", IRN)
    theirs = np.load(path, allow_pickle=True).item()
    for key, value in read_dict(path).items():
        np.testing.assert_array_equal(value, theirs[key], strict=True)


# ---- the tools ----


@pytest.fixture
def records(ready: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of `ready`, with maps at the size of the photographs as `cam` and in psa's form."""
    rng = np.random.default_rng(0)
    for number, record in enumerate(ready):
        size = files.image_size(record["image"])
        cam = rng.random((len(record["labels"]), *size), np.float32)
        cam[:, 10:30, 10:30] = cam[:, 10:30, 10:30] * 0.5 + 0.5
        meta = files.provenance("make-cam", {}, classes=["cat", "dog"])
        files.write_maps(record["cam"], cam, record["labels"], size, meta)
        places = [["cat", "dog"].index(name) for name in record["labels"]]
        record["theirs"] = f"theirs {number}.npy"
        save(Path(record["theirs"]), dict(zip(places, cam, strict=True)))
    return ready


def foreign(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**record, "cam": record["theirs"]} for record in records]


def test_eval_measures_them_the_same(inside: Run, records: list[dict[str, Any]]) -> None:
    options = ("--key", "cam", "--format", "csv", "--per-image", "each.jsonl", "--threshold", "0.6")
    ours = inside("eval", *options, input=records, check=0)
    each = Path("each.jsonl").read_text()
    theirs = inside("eval", *options, "--classes", "classes.txt", input=foreign(records), check=0)
    assert theirs.out == ours.out
    assert "nan" not in ours.out.splitlines()[-1]
    assert Path("each.jsonl").read_text() == each
    table = inside("eval", "--key", "cam", "--classes", "classes.txt", input=foreign(records))
    assert "made by" not in table.out  # as nobody says
    result = inside("eval", "--key", "cam", input=foreign(records), check=2)
    assert result.err.endswith("does not name them; give --classes, their list\n")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    "call",
    [
        ("crf", "--workers", "0"),
        ("crf", "--method", "pamr", "--device", "cpu"),
        ("make-aff-labels", "--workers", "0"),
        ("random-walk", "-c", "affinity.pt", "--device", "cpu"),
        ("erase", "--workers", "0", "--fill", "9,9,9"),
    ],
    ids=lambda call: " ".join(call[:3]),
)
def test_the_tools_make_the_same_of_them(
    call: tuple[str, ...], inside: Run, records: list[dict[str, Any]]
) -> None:
    listed = ("--classes", "classes.txt")
    ours = inside(*call, *listed, "-o", "ours", input=records, check=0).records
    theirs = inside(*call, *listed, "-o", "theirs", input=foreign(records), check=0).records
    for one, other in zip(ours, theirs, strict=True):
        for key in ("pseudo", "aff_label", "mined"):
            if one.get(key, "").startswith("ours"):
                found, meta = files.read_labels(other[key])
                np.testing.assert_array_equal(found, files.read_label_map(one[key]))
                assert meta is not None
                assert meta["classes"] == ["cat", "dog"]
    # Without a list nothing is done, and one line names the option.
    result = inside(*call, "-o", "none", "-q", input=foreign(records), check=2)
    assert result.err.endswith("does not name them; give --classes, their list\n")
    assert result.err.count("\n") == 1


def test_view_draws_them(inside: Run, records: list[dict[str, Any]]) -> None:
    call = ("view", "--keys", "image,cam", "--classes", "classes.txt")
    inside(*call, "-o", "theirs.png", input=foreign(records), check=0)
    inside(*call, "-o", "ours.png", input=records, check=0)
    assert np.array_equal(files.read_image("ours.png"), files.read_image("theirs.png"))


def test_maps_of_other_labels_are_refused(inside: Run, records: list[dict[str, Any]]) -> None:
    """So are those whose numbers count from 1, or in another list."""
    Path("other.txt").write_text("fox\ncat\ndog\n")
    call = ("crf", "--workers", "0", "-o", "none", "--classes", "other.txt")
    result = inside(*call, input=foreign(records), check=1)
    assert "theirs 0.npy: a map of fox, but the labels of the record are cat" in result.err
