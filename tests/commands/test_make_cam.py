"""make-cam: which maps, at what size, with what provenance, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Run, as_lines
from wsss_cli import files
from wsss_cli.methods.grids import average_views
from wsss_cli.models.inference import Runner
from wsss_cli.models.networks import build_network

Records = list[dict[str, Any]]
CLASSES = ("cow", "cat", "dog")
FAST = ("--scales", "1", "--no-flip", "--device", "cpu", "--precision", "fp32")


@pytest.fixture
def network(workdir: Path) -> Path:
    """A classifier with random weights."""
    torch.manual_seed(0)
    config = {"output_stride": 16}
    made = build_network("cam", "efficientnet-lite0", CLASSES, config)
    files.save_checkpoint(
        "cam.pt",
        kind="cam",
        backbone="efficientnet-lite0",
        classes=CLASSES,
        config=config,
        state_dict=made.state_dict(),
    )
    return Path("cam.pt")


@pytest.fixture
def make_cam(inside: Run, network: Path) -> Run:
    """``make_cam("--all", input=records)`` in this process."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return inside("make-cam", "-c", network, *FAST, *args, **kwargs)

    return call


def test_maps_of_the_labels_at_a_quarter_of_the_size(make_cam: Run, photographs: Records) -> None:
    done = make_cam("-o", "a b", input=photographs, check=0)
    expected = [{**record, "cam": f"a b/{record['id']}.npz"} for record in photographs]
    assert done.records == expected
    assert [list(record) for record in done.records] == [["id", "image", "labels", "cam"]] * 4
    for record in done.records:
        with np.load(record["cam"], allow_pickle=False) as archive:
            assert set(archive) == {"cam", "classes", "size", "meta"}
            assert archive["cam"].dtype == np.float16
            assert archive["size"].dtype == np.int32
        maps = files.read_maps(record["cam"])
        height, width = files.image_size(record["image"])
        assert maps.size == (height, width)
        assert maps.classes == tuple(record["labels"])
        assert maps.cam.shape == (len(record["labels"]), height // 4, width // 4)
        assert all(plane.max() in (0, 1) for plane in maps.cam)
    assert len(files.read_maps("a b/photo 2 é.npz").classes) == 2


def test_what_made_them_is_in_them(make_cam: Run, photographs: Records, network: Path) -> None:
    make_cam("--flip", "--scales", "0.5,1", input=photographs[:1], check=0)
    meta = files.read_meta("out/cam/photo 0 é.npz")
    assert meta is not None
    assert meta["tool"] == "make-cam"
    assert meta["params"]["scales"] == [0.5, 1]
    assert meta["params"]["flip"] is True
    assert meta["classes"] == list(CLASSES)
    assert meta["checkpoint"] == files.load_checkpoint(network).digest


def test_only_what_changed_is_made_again(make_cam: Run, photographs: Records) -> None:
    first = make_cam(input=photographs, check=0)
    written = Path(first.records[0]["cam"]).stat().st_mtime_ns
    again = make_cam("--skip-existing", "--batch-size", "1", input=photographs, check=0)
    assert "4 reused" in again.err
    assert again.out == first.out
    assert Path(first.records[0]["cam"]).stat().st_mtime_ns == written
    changed = make_cam("--skip-existing", "--scales", "1.5", input=photographs, check=0)
    assert "reused" not in changed.err


def test_batches_change_nothing(make_cam: Run, photographs: Records) -> None:
    one = make_cam("-o", "one", "--batch-size", "1", "--workers", "0", input=photographs, check=0)
    four = make_cam("-o", "four", "--batch-size", "4", input=photographs, check=0)
    for a, b in zip(one.records, four.records, strict=True):
        maps = [files.read_maps(record["cam"]).cam.astype(float) for record in (a, b)]
        np.testing.assert_allclose(*maps, atol=2e-3)


def test_images_without_labels(make_cam: Run, photographs: Records) -> None:
    del photographs[0]["labels"]

    def classes(*options: str) -> list[tuple[str, ...]]:
        done = make_cam(*options, input=photographs[:2], check=0)
        return [files.read_maps(record["cam"]).classes for record in done.records]

    assert classes() == [(), ("dog",)]
    assert classes("--all") == [CLASSES, CLASSES]
    assert classes("--score-above", "0") == [CLASSES, ("dog",)]
    assert classes("--score-above", "1") == [(), ("dog",)]


def test_shards_are_parts_of_the_whole(make_cam: Run, photographs: Records) -> None:
    whole = make_cam(input=photographs, check=0)
    parts = [make_cam("--shard", f"{k}/3", input=photographs, check=0) for k in (1, 2, 3)]
    found = [record for part in parts for record in part.records]
    assert sorted(found, key=lambda record: record["id"]) == whole.records


def test_another_key_and_a_bound(make_cam: Run, photographs: Records) -> None:
    record = {"id": "x", "erased": photographs[0]["image"], "labels": ["cat"]}
    options = ("--image-key", "erased", "--max-side", "40")
    done = make_cam(*options, input=[record], check=0)
    assert files.read_maps(done.records[0]["cam"]).cam.shape == (1, 12, 16)


def test_a_very_wide_photograph(make_cam: Run, workdir: Path) -> None:
    Image.new("RGB", (20_000, 40), (90, 90, 90)).save("wide.png")
    record = {"id": "wide", "image": "wide.png", "labels": ["cat"]}
    done = make_cam(input=[record], check=0)
    assert files.read_maps(done.records[0]["cam"]).cam.shape == (1, 10, 5000)


def test_bad_records_fail_alone(make_cam: Run, photographs: Records) -> None:
    Path("cut.png").write_bytes(Path(photographs[0]["image"]).read_bytes()[:400])
    bad = [
        {"id": "cut", "image": "cut.png", "labels": ["cat"]},
        {"id": "gone", "image": "gone.png", "labels": ["cat"]},
        {"id": "kat", "image": photographs[0]["image"], "labels": ["kat"]},
        {"id": "../x", "image": photographs[0]["image"], "labels": ["cat"]},
        {"id": "blind", "labels": ["cat"]},
    ]
    done = make_cam("-q", input=[photographs[0], *bad, photographs[1]])
    assert done.code == 1
    assert [record["id"] for record in done.records] == ["photo 0 é", "photo 1 é"]
    said = sorted(line.removeprefix("wsss make-cam: ") for line in done.err.splitlines())
    assert "unsafe id" in said.pop(next(n for n, line in enumerate(said) if "../x" in line))
    assert said == [
        "blind: record has no 'image' (made by index)",
        "cut: cannot read image: cut.png: truncated file",
        "gone: cannot read image: gone.png: no such file",
        "kat: label 'kat' is not in the class list; did you mean cat?",
    ]
    strict = make_cam("-q", "--strict", "-o", "s", input=[photographs[0], *bad, photographs[1]])
    assert strict.code == 1
    assert len(strict.records) <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scales", "0,1"], "each must be greater than 0"),
        (["--scales", "one"], "'one' is not a list of numbers separated by commas"),
        (["--score-above", "2"], "2.0 is not in the range 0<=x<=1"),
        (["--shard", "4/3"], "K/N with K from 1 to N"),
        (["--device", "gpu"], "'gpu': auto, cpu, cuda, cuda:N or mps"),
        (["-c", "none.pt"], "File 'none.pt' does not exist"),
    ],
)
def test_wrong_use_ends_before_any_work(
    make_cam: Run, photographs: Records, options: list[str], said: str
) -> None:
    done = make_cam(*options, input=photographs)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", None])
def test_a_file_that_is_no_checkpoint(
    inside: Run, photographs: Records, network: Path, content: bytes | None
) -> None:
    whole = network.read_bytes()
    network.write_bytes(whole[: len(whole) // 2] if content is None else content)
    done = inside("make-cam", "-c", network, input=photographs)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("wsss make-cam: cannot read checkpoint: cam.pt: ")
    assert len(done.err.splitlines()) == 1


def test_in_a_pipe_with_head(shell: Run, photographs: Records, network: Path) -> None:
    Path("in.jsonl").write_text(as_lines(photographs * 2), encoding="utf-8")
    done = shell(
        f"set +o pipefail; cat in.jsonl | wsss make-cam -q -c cam.pt {' '.join(FAST)} | head -1",
        check=0,
    )
    assert [record["id"] for record in done.records] == ["photo 0 é"]
    assert done.err == ""


def test_roots_are_read_as_psa_does(inside: Run, ready: Records) -> None:
    """Square roots of the positive logits before the mean over the views, divided by their
    maximum."""
    plain = inside("make-cam", "-c", "cam.pt", *FAST, "-o", "p", input=ready, check=0).records
    rooted = inside(
        "make-cam", "-c", "cam.pt", *FAST, "--map", "root", "-o", "r", input=ready, check=0
    ).records
    runner = Runner(files.load_checkpoint("cam.pt"), device="cpu", precision="fp32")
    for one, other in zip(plain, rooted, strict=True):
        maps = files.read_maps(other["cam"])
        assert maps.meta["params"]["map"] == "root"
        assert "map" not in files.read_maps(one["cam"]).meta["params"]
        logits = runner(np.asarray(Image.open(one["image"]).convert("RGB")))
        for name, own in zip(maps.classes, maps.cam.astype(float), strict=True):
            root = logits[runner.classes.index(name)][None].relu().sqrt()
            size = (own.shape[0], own.shape[1])
            (large,) = average_views([root], size, [False], seen=[maps.size], stride=16)
            np.testing.assert_allclose(own, large / max(large.max(), 1e-9), atol=5e-3)
    told = inside("make-cam", "-c", "eps.pt", "--map", "root", input=ready, check=2).err
    assert "--map root is only for checkpoints of train-cam (eps.pt is of kind eps)" in told
