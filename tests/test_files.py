"""Files: round trips, refusals in one line, whole files only."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import io
import json
import os
import pickle
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.conftest import Evil
from wsss_cli import console, files
from wsss_cli.errors import ConfigurationError, WsssError, describe

META = {"tool": "t", "version": "1", "params": {"a": [1, 2.5]}}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


# ---- writing ----


def test_atomic_leaves_the_old_file_and_no_debris_when_it_fails(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "x.txt"
    with files.atomic(target) as temporary:
        temporary.write_text("old")

    def fail() -> None:
        with files.atomic(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert os.listdir(target.parent) == ["x.txt"]


def test_a_temporary_name_that_is_taken_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes on other machines, or with the same number in other containers, share a folder."""
    drawn = iter([b"same", b"same", b"other"])
    monkeypatch.setattr(os, "urandom", lambda count: next(drawn))
    with files.atomic(tmp_path / "a") as first, files.atomic(tmp_path / "b") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a").read_text() == "first"
    assert (tmp_path / "b").read_text() == "second"


def aged(path: Path, seconds: float) -> Path:
    """An empty file, last written so long ago."""
    path.touch()
    os.utime(path, (time.time() - seconds,) * 2)
    return path


@pytest.fixture
def verbose() -> Iterator[None]:
    console.configure(verbose=True)
    yield
    console.configure()


@pytest.mark.usefixtures("verbose")
def test_leftovers_that_nobody_is_at_work_on_are_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = aged(tmp_path / f".wsss-{'0' * 16}.tmp", 1)
    dead = aged(tmp_path / f".wsss-{'1' * 16}.tmp", 120)
    early = aged(tmp_path / ".wsss-4711-3.tmp", 120)  # named by process and number
    stranger = aged(tmp_path / ".wsss-notes.tmp", 1e6)
    mine = aged(tmp_path / "a.png", 1e6)
    with files.atomic(tmp_path / "b.png") as working:
        os.utime(working, (time.time() - 120,) * 2)
        files.remove_leftovers(tmp_path, "crf")
        assert working.exists()
    assert sorted(capsys.readouterr().err.splitlines()) == [
        f"wsss crf: removed {path}, left by a killed process" for path in (dead, early)
    ]
    assert {path.name for path in tmp_path.iterdir()} == {
        fresh.name,
        stranger.name,
        mine.name,
        "b.png",
    }


def test_a_leftover_of_yesterday_is_removed_whoever_locked_it(tmp_path: Path) -> None:
    yesterday = aged(tmp_path / f".wsss-{'1' * 16}.tmp", 90_000)
    with open(yesterday, "r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        files.remove_leftovers(tmp_path, "crf")
    assert list(tmp_path.iterdir()) == []


def test_no_leftover_leads_elsewhere(tmp_path: Path) -> None:
    victim = aged(tmp_path / "victim", 120)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / f".wsss-{'1' * 16}.tmp").symlink_to(victim)
    os.utime(folder / f".wsss-{'1' * 16}.tmp", (1, 1), follow_symlinks=False)
    files.remove_leftovers(folder, "crf")
    assert len(list(folder.iterdir())) == 1
    assert victim.exists()
    files.remove_leftovers(tmp_path / "none", "crf")  # nothing to do


def test_a_failed_write_names_the_file_that_was_wanted(tmp_path: Path) -> None:
    """A full disk names no file, and a missing permission the temporary one."""
    with pytest.raises(OSError, match="No space left") as full, files.atomic(tmp_path / "a.png"):
        raise OSError(28, "No space left on device")
    assert full.value.filename == str(tmp_path / "a.png")
    with pytest.raises(PermissionError) as denied, files.atomic(tmp_path / "b.png") as temporary:
        raise PermissionError(13, "Permission denied", str(temporary))
    assert denied.value.filename == str(tmp_path / "b.png")
    with pytest.raises(FileNotFoundError) as other, files.atomic(tmp_path / "c.png"):
        (tmp_path / "unrelated").read_bytes()
    assert other.value.filename == str(tmp_path / "unrelated")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path, *args: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(PermissionError) as caught, files.atomic(tmp_path / "a.png"):
        pass
    assert caught.value.filename == str(tmp_path / "a.png")


def test_a_file_where_a_folder_must_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match="File exists") as caught, files.atomic(tmp_path / "taken/a"):
        pass
    assert describe(caught.value) == f"{tmp_path / 'taken'}: not a folder"


def test_written_files_are_readable_by_others(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        files.write_label_map(tmp_path / "a.png", np.zeros((2, 2), np.uint8))
    finally:
        os.umask(old)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o644


# ---- pictures ----


@pytest.mark.parametrize("size", [(40, 60), (1, 1), (3, 1), (1, 7)])
def test_photographs_are_written_as_they_are(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    meta = {"tool": "erase", "classes": ["Käse", "犬"]}
    files.write_photograph(tmp_path / "a.png", pixels, meta)
    assert np.array_equal(files.read_image(tmp_path / "a.png"), pixels)
    assert files.read_meta(tmp_path / "a.png") == meta
    with Image.open(tmp_path / "a.png") as image:
        image.verify()
        assert (image.format, image.mode) == ("PNG", "RGB")


def test_labels_and_provenance_in_one_reading(tmp_path: Path) -> None:
    labels, meta = np.array([[0, 3]], np.uint8), {"tool": "crf", "classes": ["é"]}
    path = tmp_path / "a.png"
    for stored in (meta, None):
        files.write_label_map(path, labels, stored)
        read, provenance = files.read_labels(path, (1, 2))
        assert (read == labels).all()
        assert provenance == files.read_meta(path) == stored
    with pytest.raises(WsssError, match="label map is 2x1"):
        files.read_labels(path, (2, 3))
    for text in ("[1]", "{", "[" * 100_000, ""):
        strange = PngImagePlugin.PngInfo()
        strange.add_text("wsss", text)
        Image.fromarray(labels).save(path, pnginfo=strange)
        assert files.read_labels(path)[1] is files.read_meta(path) is None


def test_label_map_round_trip_with_voc_colours_and_provenance(tmp_path: Path) -> None:
    labels = noise(5, 7)
    files.write_label_map(tmp_path / "a.png", labels, META)
    assert np.array_equal(files.read_label_map(tmp_path / "a.png", (5, 7)), labels)
    assert files.read_meta(tmp_path / "a.png") == META
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[3:6] == [128, 0, 0]  # type: ignore[index]
        assert image.getpalette()[-3:] == [224, 224, 192]  # type: ignore[index]


# ---- activation maps ----


def write_some(path: Path, **changes: object) -> None:
    arrays = {
        "cam": np.zeros((1, 2, 2), np.float16),
        "classes": np.array(["cat"]),
        "size": np.array([8, 8], np.int32),
        "meta": np.array("{}"),
        **changes,
    }
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def test_maps_round_trip(tmp_path: Path) -> None:
    cam = np.random.default_rng(0).random((2, 3, 4), dtype=np.float32)
    files.write_maps(tmp_path / "a.npz", cam, ["cat", "dog"], (12, 16), META)
    maps = files.read_maps(tmp_path / "a.npz")
    assert maps.cam.dtype == np.float16
    assert np.abs(maps.cam - cam).max() < 1e-3
    assert (maps.classes, maps.size, maps.meta) == (("cat", "dog"), (12, 16), META)
    assert files.read_meta(tmp_path / "a.npz") == META


def test_maps_of_an_unlabelled_image_are_empty(tmp_path: Path) -> None:
    files.write_maps(tmp_path / "a.npz", np.zeros((0, 3, 4)), [], (12, 16), META)
    maps = files.read_maps(tmp_path / "a.npz")
    assert maps.cam.shape == (0, 3, 4)
    assert maps.classes == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"cam": np.full((1, 2, 2), np.nan)}, "NaN or values outside"),
        ({"cam": np.full((1, 2, 2), 1.5)}, "NaN or values outside"),
        ({"cam": np.zeros((1, 0, 2))}, "maps without pixels"),
        ({"cam": np.zeros((1, 2, 2), int)}, "floating point"),
        ({"cam": np.zeros((2, 2))}, "1 classes"),
        ({"classes": np.array(["a", "b"])}, "2 classes"),
        ({"size": np.array([0, 4])}, "image size"),
        ({"size": np.zeros(100_000, int)}, "100000 numbers for the size of the image, not two"),
        ({"meta": None}, "no array"),
        ({"meta": np.array("[]")}, "JSON meta"),
        ({"meta": np.array('{"classes": 5}')}, "its meta is not what wsss writes"),
        ({"meta": np.array("{")}, "truncated or not an NPZ"),
        ({"classes": np.array([["cat"], {}], object)}, "truncated or not an NPZ"),
    ],
)
def test_wrong_maps_are_refused(changes: dict[str, object], problem: str, tmp_path: Path) -> None:
    write_some(tmp_path / "a.npz", **changes)
    with pytest.raises(WsssError) as caught:
        files.read_maps(tmp_path / "a.npz")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_maps_of_another_image_are_refused(tmp_path: Path) -> None:
    write_some(tmp_path / "a.npz")
    assert files.read_maps(tmp_path / "a.npz", (8, 8)).size == (8, 8)
    with pytest.raises(WsssError, match="maps of an image of 8x8, but this one is 9x8"):
        files.read_maps(tmp_path / "a.npz", (8, 9))


def test_maps_are_read_in_any_order_packed_or_not(tmp_path: Path) -> None:
    cam = np.random.default_rng(0).random((2, 3, 4)).astype(np.float16)
    arrays = {"classes": np.array(["a", "b"]), "size": np.array([8, 8]), "meta": np.array("{}")}
    np.savez_compressed(tmp_path / "a.npz", cam=np.asfortranarray(cam), **arrays)
    read = files.read_maps(tmp_path / "a.npz").cam
    assert np.array_equal(read, cam)
    assert read.flags.writeable


def claiming(path: Path, shape: tuple[int, ...], size: tuple[int, int], length: int) -> Path:
    """An NPZ whose maps have ``shape`` by their header, but only ``length`` bytes."""
    write_some(path, cam=None, classes=np.array(["a"] * shape[0]), size=np.array(size))
    header = io.BytesIO()
    kind = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, kind)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cam.npy", header.getvalue() + bytes(length))
    return path


@pytest.mark.parametrize(
    ("shape", "size", "length", "problem"),
    [
        ((2, 20_000, 50_000), (60_000, 60_000), 1 << 20, "truncated or not an NPZ"),
        ((2, 1000, 1000), (8, 8), 4_000_000, "more than an image of (8, 8) can have"),
        ((300, 8, 8), (8, 8), 300 * 128, "more than an image of (8, 8) can have"),
        ((1, 8, 8), (60_000, 60_000), 128, "make the image smaller first"),
    ],
)
def test_an_archive_that_claims_much_is_not_unpacked(
    shape: tuple[int, ...],
    size: tuple[int, int],
    length: int,
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = claiming(tmp_path / "a.npz", shape, size, length)
    unpack = zipfile.ZipFile.read
    unpacked = []

    def read(archive: zipfile.ZipFile, entry: Any) -> bytes:
        unpacked.append(entry.filename)
        return unpack(archive, entry)

    monkeypatch.setattr(zipfile.ZipFile, "read", read)
    with pytest.raises(WsssError) as caught:
        files.read_maps(path)
    assert problem in str(caught.value)
    assert "cam.npy" not in unpacked


def test_a_provenance_that_claims_much_is_not_unpacked(tmp_path: Path) -> None:
    write_some(tmp_path / "a.npz", meta=np.array("0" * 5_000_000))
    tracemalloc.start()
    try:
        assert files.read_meta(tmp_path / "a.npz") is None
        with pytest.raises(WsssError, match="truncated or not an NPZ"):
            files.read_maps(tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def flips(content: bytes, every: int) -> Iterator[bytes]:
    """The content with one bit turned, at each ``every``-th place."""
    for place in range(0, 8 * len(content), every):
        broken = bytearray(content)
        broken[place // 8] ^= 1 << place % 8
        yield bytes(broken)


@pytest.mark.parametrize("suffix", ["npz", "png", "jpg", "tif"])
@pytest.mark.filterwarnings("ignore")
def test_a_flipped_bit_is_one_error_of_ours(suffix: str, tmp_path: Path) -> None:
    """Or none, where it is in a name or a pixel."""
    path = tmp_path / f"a.{suffix}"
    if suffix == "npz":
        write_some(path, meta=np.array(json.dumps(META)))
    elif suffix == "png":
        files.write_label_map(path, noise(6, 8) // 9, META)
    else:
        Image.fromarray(noise(6, 8, 3)).save(path)
    readers: list[Callable[..., Any]] = [files.read_maps]
    if suffix != "npz":
        readers = [files.read_image, files.image_size, files.read_grey, files.read_label_map]
    content = path.read_bytes()
    whole, passed = len(content) * 8 // 23 * len(readers), 0
    for broken in flips(content, 23):
        path.write_bytes(broken)
        files.read_meta(path)
        files.made_by(path)
        for read in readers:
            with contextlib.suppress(WsssError):
                read(path)
                passed += 1
    assert 0 < passed < whole


def test_a_pipe_is_no_archive(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(WsssError, match=r"cannot read maps: .*a\.npz: not a regular file"):
        files.read_maps(tmp_path / "a.npz")
    assert files.read_meta(tmp_path / "a.npz") is None
    assert files.made_by(tmp_path / "a.npz") is None


def test_truncated_missing_and_foreign_archives(tmp_path: Path) -> None:
    write_some(tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "b.npz", np.zeros(3))
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("a.npz", "b.npz", "empty.npz", "none.npz"):
        with pytest.raises(WsssError, match="cannot read maps"):
            files.read_maps(tmp_path / name)
        assert files.read_meta(tmp_path / name) is None


def test_maps_are_read_by_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header at a time: Python 3.11 cannot parse two, and numpy parses each."""
    path = tmp_path / "maps.npz"
    files.write_maps(path, np.full((1, 3, 4), 0.5), ["cat"], (12, 16), {"classes": ["cat"]})
    parse, parsing, most = ast.literal_eval, [], []

    def slow(text: str) -> Any:
        parsing.append(text)
        time.sleep(0.002)
        most.append(len(parsing))
        parsing.pop()
        return parse(text)

    monkeypatch.setattr(ast, "literal_eval", slow)
    with ThreadPoolExecutor(4) as pool:
        read = [pool.submit(reader, path) for reader in (files.read_maps, files.read_meta) * 4]
    assert all(one.result() for one in read)
    assert set(most) == {1}


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(WsssError, match="NaN"):
        files.write_maps(tmp_path / "a.npz", np.full((1, 2, 2), np.nan), ["cat"], (8, 8), META)
    assert not list(tmp_path.iterdir())


# ---- provenance ----


def test_provenance_is_plain_json() -> None:
    made = files.provenance("t", {"scales": (1, 2)}, checkpoint="ab")
    assert made["params"] == {"scales": [1, 2]}
    assert made["checkpoint"] == "ab"
    assert made == json.loads(json.dumps(made))


# ---- checkpoints ----


def save(path: Path, kind: str = "cam") -> None:
    import torch

    files.save_checkpoint(
        path,
        kind=kind,
        backbone="resnet50",
        classes=["cat"],
        config={"a": 1},
        state_dict={"w": torch.ones(2)},
    )


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    save(tmp_path / "a.pt")
    loaded = files.load_checkpoint(tmp_path / "a.pt", "cam", "eps")
    assert (loaded.kind, loaded.backbone, loaded.classes) == ("cam", "resnet50", ("cat",))
    assert loaded.config == {"a": 1}
    assert loaded.state_dict["w"].tolist() == [1, 1]
    assert len(loaded.digest) == 16
    save(tmp_path / "b.pt", kind="affinity")
    assert files.load_checkpoint(tmp_path / "b.pt").digest != loaded.digest


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.pt")
    with pytest.raises(ConfigurationError, match="of kind affinity is needed, this is of kind cam"):
        files.load_checkpoint(tmp_path / "a.pt", "affinity")


def test_broken_and_evil_checkpoints_are_refused(workdir: Path) -> None:
    import torch

    save(workdir / "a.pt")
    whole = Path("a.pt").read_bytes()
    Path("half.pt").write_bytes(whole[: len(whole) // 2])
    Path("empty.pt").write_bytes(b"")
    Path("text.pt").write_text("hello")
    Path("pickle.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"format": Evil()}, "evil.pt")
    torch.save({"w": torch.ones(1)}, "weights.pt")
    torch.save([1], "list.pt")
    names = ["half", "empty", "text", "pickle", "evil", "weights", "list", "none"]
    for name in names:
        with pytest.raises(ConfigurationError) as caught:
            files.load_checkpoint(f"{name}.pt")
        assert f"{name}.pt" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not Path("evil-ran").exists()


def test_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pt")
    for path in (tmp_path, tmp_path / "a.pt"):
        with pytest.raises(ConfigurationError, match=f"checkpoint: {path}: not a regular file"):
            files.load_checkpoint(path)


@pytest.mark.parametrize("names", [["cat", "cat"], ["background", "cat"], ["cat", ""], []])
def test_a_checkpoint_with_a_class_list_that_cannot_be_is_refused(
    names: list[str], workdir: Path
) -> None:
    files.save_checkpoint(
        "a.pt", kind="cam", backbone="resnet50", classes=names, config={}, state_dict={}
    )
    with pytest.raises(ConfigurationError, match="a damaged checkpoint: 'classes' is missing or"):
        files.load_checkpoint("a.pt")


def test_a_flipped_bit_in_a_checkpoint_is_found(workdir: Path) -> None:
    """Anywhere in the weights; torch would load other weights without a word."""
    import torch

    torch.manual_seed(0)
    state = {"w": torch.randn(1000)}
    files.save_checkpoint(
        "a.pt", kind="cam", backbone="resnet50", classes=["cat"], config={}, state_dict=state
    )
    whole = Path("a.pt").read_bytes()
    data = state["w"].numpy().tobytes()
    start = whole.index(data)
    for place in np.random.default_rng(0).integers(start, start + len(data), 20):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(place) % 8
        Path("b.pt").write_bytes(broken)
        with pytest.raises(ConfigurationError, match=r"b\.pt: .* is damaged; copy or make"):
            files.load_checkpoint("b.pt")
    assert torch.equal(files.load_checkpoint("a.pt").state_dict["w"], state["w"])


def test_who_made_a_file(tmp_path: Path) -> None:
    labels = np.zeros((4, 4), np.uint8)
    files.write_label_map(tmp_path / "a.png", labels, files.provenance("crf", {}))
    files.write_label_map(tmp_path / "b.png", labels)
    files.write_maps(tmp_path / "a.npz", np.zeros((0, 2, 2)), [], (8, 8), {"tool": "make-cam"})
    np.savez(tmp_path / "b.npz", x=np.zeros(3))
    Image.new("RGB", (4, 4)).save(tmp_path / "photograph.png", format="JPEG")
    (tmp_path / "empty.png").touch()
    (tmp_path / "half.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:40])
    assert [
        files.made_by(tmp_path / name)
        for name in ("a.png", "b.png", "a.npz", "b.npz", "photograph.png")
    ] == ["crf", "", "make-cam", "", ""]
    for name in ("empty.png", "half.npz", "none.png"):
        assert files.made_by(tmp_path / name) is None


def test_equal_tensors_give_equal_files(workdir: Path) -> None:
    """Otherwise what is made anew with the same result makes all stages after it anew too."""
    import torch

    for name in ("a.pt", "other.pt"):
        files.save_tensors(name, {"step": 3, "weights": torch.arange(64.0)})
    assert Path("a.pt").read_bytes() == Path("other.pt").read_bytes()


def test_no_flipped_bit_of_a_tensor_file_is_read_as_something_else(workdir: Path) -> None:
    """Those in the directory of the archive ended as internal errors, or were read by torch."""
    import torch

    weights = torch.arange(64.0)
    files.save_tensors("a.pt", {"format": "x", "step": 3, "weights": weights})
    content = bytearray(Path("a.pt").read_bytes())
    directory = content.index(b"PK\1\2")
    refused = 0
    for place in [*range(0, 8 * directory, 13), *range(8 * directory, 8 * len(content))]:
        content[place // 8] ^= 1 << place % 8
        Path("b.pt").write_bytes(content)
        content[place // 8] ^= 1 << place % 8
        try:
            read = files.load_tensors("b.pt", "state")
        except ConfigurationError as error:
            refused += str(error).startswith("cannot read state: b.pt: ")
        else:
            assert read["step"] == 3, place
            assert torch.equal(read["weights"], weights), place
    assert refused > 500


@pytest.mark.parametrize("name", ["a.png", "a.npz"])
def test_a_file_that_was_damaged_later_is_not_whole(name: str, workdir: Path) -> None:
    if name == "a.png":
        files.write_label_map(name, np.eye(40, dtype=np.uint8), {})
    else:
        files.write_maps(name, np.ones((1, 20, 20)), ["cat"], (40, 40), {})
    content = Path(name).read_bytes()
    assert files.is_whole(name)
    for cut in (0, 20, len(content) // 2, len(content) - 13):
        Path(name).write_bytes(content[:cut])
        assert not files.is_whole(name), cut
    place = content.index(b"IDAT") + 9 if name == "a.png" else len(content) // 4
    Path(name).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert not files.is_whole(name)
    Path(name).unlink()
    assert not files.is_whole(name)


def test_of_results_damaged_later_none_is_reused_and_few_are_foreign(workdir: Path) -> None:
    """A flipped bit in the provenance made them foreign, so that no run replaced them."""
    maps = np.random.default_rng(0).random((1, 4, 4))
    files.write_maps("a.npz", maps, ["cat"], (16, 16), {"tool": "t"})
    content, wanted = bytearray(Path("a.npz").read_bytes()), files.read_maps("a.npz")
    foreign = 0
    for place in range(8 * len(content)):
        content[place // 8] ^= 1 << place % 8
        Path("b.npz").write_bytes(content)
        content[place // 8] ^= 1 << place % 8
        if files.read_meta("b.npz") == {"tool": "t"} and files.is_whole("b.npz"):
            assert np.array_equal(files.read_maps("b.npz").cam, wanted.cam), place
        foreign += files.made_by("b.npz") == ""
    assert foreign < 0.01 * 8 * len(content)
    np.savez("b.npz", x=np.ones(3))
    assert files.made_by("b.npz") == ""
