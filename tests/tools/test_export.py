"""What all formats have in common: class lists, what is counted, and files of others that stay."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from wsss_cli import files
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.stage import Halt, Job
from wsss_cli.tools.export import Exporter, Folder, painted, polygons

Labels = npt.NDArray[np.uint8]
CLASSES = ["cat", "dog"]


class Plain(Exporter):
    """Writes nothing; gives back a map of one class less."""

    name = "export plain"
    unfinished = "the list is not written"
    exact = False
    ignored = "gone"
    closed = 0

    def write(self, job: Job, labels: Labels) -> Labels:
        return np.where(labels == 2, 0, labels)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def job(workdir: Path) -> Any:
    """``job("a", [[0, 1]], classes)``: a photograph and its label map."""

    def make(name: str, rows: Any, classes: list[str] | None = None, **more: Any) -> Job:
        labels = np.array(rows, np.uint8)
        Image.new("RGB", labels.shape[::-1]).save(f"{name}.jpg")
        meta = files.provenance("t", {}, classes=classes) if classes else None
        files.write_label_map(f"{name}.png", labels, meta)
        record = {"id": name, "image": f"{name}.jpg", "mask": f"{name}.png", **more}
        return Job(record, {}, {})

    return make


# ---- class lists ----


def test_the_class_list_is_that_of_the_first_file_and_of_all(job: Any) -> None:
    plain = Plain("mask")
    plain.work(job("a", [[0, 1]], CLASSES))
    assert plain.names == ("cat", "dog")
    with pytest.raises(WsssError, match=r"b\.png: its class list is not that of the first file"):
        plain.work(job("b", [[0, 1]], ["dog", "cat"]))
    with pytest.raises(WsssError, match=r"c\.png: does not name its classes; give --classes"):
        plain.work(job("c", [[0, 1]]))
    assert plain.count == 1


def test_a_stream_without_a_class_list_is_stopped(job: Any) -> None:
    with pytest.raises(Halt, match=r"a\.png: does not name its classes") as stopped:
        Plain("mask").work(job("a", [[0, 1]]))
    assert stopped.value.exit_code == 2


def test_the_users_class_list_must_be_that_of_the_files(job: Any) -> None:
    plain = Plain("mask", CLASSES)
    plain.work(job("a", [[0, 1]]))
    with pytest.raises(WsssError, match="class number 1 is 'dog' in this file, but 'cat'"):
        plain.work(job("b", [[0, 1]], ["dog", "cat"]))
    with pytest.raises(WsssError, match="holds class number 3, but there are 2 in the class list"):
        plain.work(job("c", [[0, 3]]))
    with pytest.raises(WsssError, match="label 'cow' is not in the class list"):
        plain.work(job("d", [[0, 1]], labels=["cow"]))
    Image.new("RGB", (3, 3)).save("e3.jpg")
    with pytest.raises(WsssError, match="label map is 2x1, its image 3x3"):
        plain.work(job("e", [[0, 1]], image="e3.jpg"))


def test_masks_whose_labels_speak_for_another_order_are_not_completed(job: Any) -> None:
    plain = Plain("mask", CLASSES)
    for name in "abcd":
        plain.work(job(name, [[1, 0]] * 4, labels=["dog"]))
    with pytest.raises(WsssError, match="'mask' holds another class in place of 'dog'"):
        plain.finish()
    assert plain.closed == 0


# ---- what is told ----


def test_what_does_not_come_back_is_told(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    plain = Plain("mask", CLASSES)
    plain.work(job("a", [[0, 1, 1, 1], [2, 1, 1, 255]]))
    plain.finish()
    assert capsys.readouterr().err.splitlines() == [
        "wsss export plain: 17 % of the labelled pixels changed, by filling the polygons again",
        "wsss export plain: 12 % of the pixels are 255: gone",
    ]
    assert plain.closed == 1


def test_what_comes_back_whole_is_told_too(job: Any, capsys: pytest.CaptureFixture[str]) -> None:
    plain = Plain("mask", CLASSES)
    plain.work(job("a", [[0, 1]]))
    plain.finish()
    said = "wsss export plain: no pixel changed, by filling the polygons again\n"
    assert capsys.readouterr().err == said


def test_nothing_is_closed_without_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    plain = Plain("mask")
    plain.finish()
    assert plain.closed == 0
    assert "no record, so nothing is written" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError, WsssError])
def test_a_stop_on_the_way_is_told(
    job: Any, error: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    plain = Plain("mask", CLASSES)
    plain.work(job("a", [[0, 1]]))
    with pytest.raises(error), plain:
        raise error
    said = "wsss export plain: stopped before its end: the list is not written\n"
    assert capsys.readouterr().err == said


# ---- polygons ----

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))
MAPS = SIZES.flatmap(lambda size: arrays(np.uint8, size, elements=st.sampled_from([0, 1, 2, 255])))


@given(MAPS)
@settings(deadline=None)
def test_exact_polygons_painted_are_the_label_map(labels: Labels) -> None:
    found = polygons(labels, 0)
    assert np.array_equal(painted([(p.number, p.points) for p in found], labels.shape), labels)
    areas = [polygon.area for polygon in found]
    assert areas == sorted(areas, reverse=True)
    assert sum(areas) == (labels > 0).sum()


@given(MAPS, st.sampled_from([0.5, 2.0, 40.0]), st.booleans())
@settings(deadline=None)
def test_no_region_vanishes(labels: Labels, tolerance: float, centres: bool) -> None:
    found = polygons(labels, tolerance, centres=centres)
    assert len(found) == len(polygons(labels, 0))
    for polygon in found:
        assert len(polygon.points) > 2
        assert (polygon.points >= 0).all()
        assert (polygon.points <= labels.shape[::-1]).all()
        assert centres or painted([(1, polygon.points)], labels.shape).any()


# ---- folders ----


def test_what_a_folder_wrote_it_replaces_and_nothing_else(workdir: Path) -> None:
    path = Path("out/labels/a.txt")
    Folder(Path("out"), "export x").write(path, b"1")
    Folder(Path("out"), "export x").write(path, b"2")
    assert path.read_bytes() == b"2"
    path.write_bytes(b"corrected")
    with pytest.raises(WsssError, match=r"out/labels/a\.txt was made or changed by something else"):
        Folder(Path("out"), "export x").write(path, b"3")
    assert path.read_bytes() == b"corrected"
    Folder(Path("out"), "export x").write(path, b"corrected")  # no change
    path.write_bytes(b"1")  # as it was once written
    Folder(Path("out"), "export x").write(path, b"3")
    with pytest.raises(WsssError, match="by something else"):
        Folder(Path("out"), "export y").write(path, b"4")


@pytest.mark.parametrize("there", ["folder", "fifo", "link", "dangling"])
def test_what_is_no_file_of_the_folder_stays(workdir: Path, there: str) -> None:
    path = Path("out/a.txt")
    path.parent.mkdir()
    Path("other").write_text("kept")
    if there == "folder":
        path.mkdir()
    elif there == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("../other" if there == "link" else "nowhere")
    with pytest.raises(WsssError, match="by something else"):
        Folder(Path("out"), "x").write(path, b"1")
    assert Path("other").read_text() == "kept"
    assert not Path("out/nowhere").exists()


def test_a_damaged_ledger_makes_all_files_those_of_others(workdir: Path) -> None:
    Folder(Path("out"), "x").write(Path("out/a"), b"1")
    ledger = Path("out/.wsss-export")
    ledger.write_bytes(os.urandom(3000) + b"\n" * 9 + b"\xff" * 100_000)
    with pytest.raises(WsssError, match="by something else"):
        Folder(Path("out"), "x").write(Path("out/a"), b"2")
    Folder(Path("out"), "x").write(Path("out/b"), b"1")
    Folder(Path("out"), "x").write(Path("out/b"), b"2")


def test_photographs_are_linked_or_copied(workdir: Path) -> None:
    Path("photos").mkdir()
    Path("photos/a.jpg").write_bytes(b"a picture")
    folder, path = Folder(Path("out"), "x"), Path("out/images/a.jpg")
    folder.photograph(path, "photos/a.jpg", copy=False)
    assert os.readlink(path) == "../../photos/a.jpg"
    assert path.read_bytes() == b"a picture"
    folder.photograph(path, "photos/a.jpg", copy=True)
    assert not path.is_symlink()
    assert path.read_bytes() == b"a picture"
    Path("photos/a.jpg").write_bytes(b"another")
    folder.photograph(path, "photos/a.jpg", copy=True)
    assert path.read_bytes() == b"another"
    folder.photograph(path, "photos/a.jpg", copy=False)
    assert path.is_symlink()
    path.unlink()
    path.write_bytes(b"mine")
    for copy in (False, True):
        with pytest.raises(WsssError, match="by something else"):
            folder.photograph(path, "photos/a.jpg", copy=copy)
    assert not [name for name in os.listdir("out/images") if name.startswith(".wsss-")]


def test_a_photograph_that_lies_there_already_stays(workdir: Path) -> None:
    path = Path("out/JPEGImages/a.jpg")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a picture")
    for copy in (False, True):
        Folder(Path("out"), "x").photograph(path, str(path), copy=copy)
    assert path.read_bytes() == b"a picture"
    assert not path.is_symlink()


def test_where_no_links_can_be_made_copies_are_named(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    Path("a.jpg").write_bytes(b"a picture")
    with pytest.raises(WsssError, match=r"cannot link out/a\.jpg .*; give --copy"):
        Folder(Path("out"), "x").photograph(Path("out/a.jpg"), "a.jpg", copy=False)


def test_no_id_and_no_link_leads_out(workdir: Path) -> None:
    Path("out").mkdir()
    Path("elsewhere").mkdir()
    Path("out/labels").symlink_to("../elsewhere")
    folder = Folder(Path("out"), "x")
    for record_id in ("../a", "/a", "a/../../b", "a"):
        with pytest.raises(WsssError, match=r"unsafe id|leads out of"):
            folder.path(record_id, "labels", ".txt")
    assert folder.path("a/b", "", ".txt") == Path("out/a/b.txt")


def test_a_file_of_the_record_is_not_written_over(workdir: Path) -> None:
    Path("a.png").write_bytes(b"a mask")
    record = {"id": "a", "mask": "a.png"}
    with pytest.raises(WsssError, match="would overwrite its own 'mask'"):
        Folder(Path("."), "x").write(Path("a.png"), b"1", record)


def test_names_that_no_list_can_hold_are_refused_at_once() -> None:
    from wsss_cli.tools.export_labelme import LabelmeExporter
    from wsss_cli.tools.export_voc import VocExporter

    for names, said in ((["a\nb"], "is no name for a class"), (["#a"], "is no name for a class")):
        for exporter in (LabelmeExporter, VocExporter):
            with pytest.raises(ConfigurationError, match=said):
                exporter("mask", names, out=Path("out"))
    with pytest.raises(ConfigurationError, match=r"labelmap\.txt cannot hold the name 'a:b'"):
        VocExporter("mask", ["a:b", "c"], out=Path("out"))
