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
from wsss_cli.models.weights import load_pretrained

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


# ---- several checkpoints -------------------------------------------------------------------------


def classifier(path: str, kind: str = "cam", *, seed: int = 1, **changed: Any) -> str:
    """A checkpoint with ImageNet's weights, so that photographs differ, and random ones on top."""
    torch.manual_seed(seed)
    given = {"backbone": "efficientnet-lite0", "classes": CLASSES, "stride": 16, **changed}
    config = {"output_stride": given["stride"]}
    made = build_network(kind, given["backbone"], given["classes"], config)
    load_pretrained(made.backbone, "imagenet")
    files.save_checkpoint(
        path,
        kind=kind,
        backbone=given["backbone"],
        classes=given["classes"],
        config=config,
        state_dict=made.state_dict(),
    )
    return path


def both(paths: tuple[str, ...], *options: str) -> tuple[str, ...]:
    return ("make-cam", *(each for path in paths for each in ("-c", path)), *FAST, *options)


@pytest.mark.parametrize(
    ("kinds", "options"),
    [
        (("cam", "cam", "cam"), ("--scales", "0.5,1", "--flip")),
        (("cam", "eps"), ("--map", "relative")),
        (("eps", "sipe"), ()),
        (("cam", "sipe", "eps"), None),
        (("cam", "cam"), ("--tile", "256", "--max-side", "32", "--overlap", "0")),
    ],
)
def test_of_several_checkpoints_the_mean_is_written(
    inside: Run, photographs: Records, kinds: tuple[str, ...], options: tuple[str, ...] | None
) -> None:
    """Against the mean of what each writes alone; a background has no mean with none."""
    paths = tuple(
        classifier(f"{n}.pt", kind, seed=n, stride=(16, 32)[n % 2]) for n, kind in enumerate(kinds)
    )
    if options is None:
        done = inside(*both(paths), input=photographs, check=2)
        assert "maps of 1.pt have a background, those of 0.pt have none" in done.err
        assert not Path("out").exists()
        return
    mean = inside(*both(paths, *options, "-o", "mean"), input=photographs, check=0).records
    # --map holds for the checkpoints of its kind.
    own = {"cam": (), "eps": ("--map", "relative")} if "relative" in options else {}
    alone = [
        inside(
            *both((path,), *own.get(kind, options), "-o", path[0]), input=photographs, check=0
        ).records
        for path, kind in zip(paths, kinds, strict=True)
    ]
    digests = [files.load_checkpoint(path).digest for path in paths]
    for record, *single in zip(mean, *alone, strict=True):
        found = files.read_maps(record["cam"])
        each = [files.read_maps(one["cam"]) for one in single]
        assert {one.classes for one in each} == {found.classes}
        expected = sum(one.cam.astype(float) for one in each) / len(each)
        np.testing.assert_allclose(found.cam.astype(float), expected, atol=1e-3)
        meta = files.read_meta(record["cam"])
        assert meta is not None
        assert meta["checkpoint"] == digests
        if found.cam.size:
            assert max(abs(one.cam - found.cam).max() for one in each) > 0.1


def test_several_checkpoints_agree_on_what_is_in_unlabelled_photographs(
    inside: Run, photographs: Records
) -> None:
    """By the mean of their probabilities, where none may be above the bound in one."""
    del photographs[0]["labels"]
    paths = tuple(classifier(f"{n}.pt", seed=n) for n in range(2))
    scores = []
    for path in paths:
        runner = Runner(files.load_checkpoint(path), device="cpu", precision="fp32")
        image = files.read_image(photographs[0]["image"])
        scores.append(runner(image).mean((1, 2)).sigmoid().numpy())
    mean = sum(scores) / 2
    between = float(np.sort(mean)[:2].mean())  # one class is below it, two are above
    expected = tuple(np.array(CLASSES)[mean > between])
    assert len(expected) == 2
    for tiles in ((), ("--tile", "256", "--max-side", "32", "--overlap", "0")):
        options = ("--score-above", str(between), *tiles)
        done = inside(*both(paths, *options), input=photographs[:2], check=0)
        found = [files.read_maps(record["cam"]).classes for record in done.records]
        assert found == [expected, ("dog",)]


def test_skipping_looks_at_all_checkpoints(inside: Run, photographs: Records) -> None:
    paths = tuple(classifier(f"{n}.pt", seed=n) for n in range(3))
    first = inside(*both(paths[:2]), input=photographs, check=0)
    again = inside(*both(paths[:2], "--skip-existing"), input=photographs, check=0)
    assert "4 reused" in again.err
    assert again.out == first.out
    for changed in (paths[:1], paths[1:], paths):
        done = inside(*both(changed, "--skip-existing"), input=photographs, check=0)
        assert "reused" not in done.err
        assert "checkpoint" in done.err


def test_checkpoints_that_have_no_mean(inside: Run, photographs: Records) -> None:
    path = classifier("a.pt")
    other = classifier("b.pt", classes=("cow", "cat", "fox"))
    order = classifier("c.pt", classes=("cat", "cow", "dog"))
    Path("same.pt").write_bytes(Path(path).read_bytes())
    for second, said in (
        (
            other,
            "b.pt is not of the classes of a.pt, with which it is averaged: "
            "only one of them knows dog, fox",
        ),
        (
            order,
            "c.pt is not of the classes of a.pt, with which it is averaged: "
            "they are in another order",
        ),
        ("same.pt", "same.pt is the same checkpoint as a.pt: give it once"),
    ):
        done = inside(*both((path, second)), input=photographs, check=2)
        assert done.err == f"wsss make-cam: {said}\n"
        assert not Path("out").exists()
    done = inside(*both((path, classifier("d.pt")), "--map", "relative"), input=[], check=2)
    assert "--map relative is only for checkpoints of eps-train (none of those" in done.err


def test_checkpoints_in_settings_and_environment(
    inside: Run, photographs: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One as a text, as ever; several as a list, or between colons."""
    paths = tuple(classifier(f"{name}.pt", seed=len(name)) for name in ("a", "bb", "c:c"))
    digests = [files.load_checkpoint(path).digest for path in paths]

    def used() -> Any:
        done = inside("make-cam", *FAST, input=photographs[:1], check=0)
        meta = files.read_meta(done.records[0]["cam"])
        assert meta is not None
        return meta["checkpoint"]

    for text, expected in (
        ('"a.pt"', digests[0]),
        ('["bb.pt"]', digests[1]),
        ('["a.pt", "c:c.pt"]', [digests[0], digests[2]]),
    ):
        Path("wsss.toml").write_text(f"[make-cam]\ncheckpoint = {text}\n")
        assert used() == expected
    for text, expected in (("c:c.pt", digests[2]), ("bb.pt:a.pt", [digests[1], digests[0]])):
        monkeypatch.setenv("WSSS_MAKE_CAM_CHECKPOINT", text)
        assert used() == expected
    monkeypatch.delenv("WSSS_MAKE_CAM_CHECKPOINT")
    Path("wsss.toml").write_text('[make-cam]\ncheckpoint = ["a.pt", 3]\n')
    done = inside("make-cam", input=photographs, check=2)
    assert "wsss.toml:2: [make-cam] checkpoint = ['a.pt', 3]: not a value of --check" in done.err
