"""predict label maps, scores, CRF, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import Run
from wsss_cli import files
from wsss_cli.models.networks import build_network
from wsss_cli.models.weights import load_pretrained

Records = list[dict[str, Any]]


@pytest.fixture
def network(photographs: Records) -> Path:
    """A segmentation checkpoint with random weights that are not all alike."""
    torch.manual_seed(0)
    config = {"output_stride": 16, "head": "aspp"}
    made = build_network("segmentation", "efficientnet-lite0", ("cat", "dog"), config)
    for branch in made.head.branches:
        torch.nn.init.normal_(branch.weight, std=0.2)
    files.save_checkpoint(
        "seg.pt",
        kind="segmentation",
        backbone="efficientnet-lite0",
        classes=("cat", "dog"),
        config=config,
        state_dict=made.state_dict(),
    )
    return Path("seg.pt")


def test_label_maps_for_labelled_and_unlabelled_images(
    inside: Run, photographs: Records, network: Path
) -> None:
    del photographs[3]["labels"]
    done = inside("predict", "-c", network, "-o", "out", input=photographs, check=0)
    assert [record["id"] for record in done.records] == [record["id"] for record in photographs]
    for record in done.records:
        labels = files.read_label_map(record["pred"], files.image_size(record["image"]))
        assert set(np.unique(labels)) <= {0, 1, 2}
    meta = files.read_meta(done.records[0]["pred"])
    assert meta is not None
    assert meta["tool"] == "predict"
    assert meta["classes"] == ["cat", "dog"]
    assert meta["checkpoint"] == files.load_checkpoint(network).digest
    again = inside(
        "predict", "-c", network, "-o", "out", "--skip-existing", input=photographs, check=0
    )
    assert again.out == done.out


def test_scores_are_the_probabilities_the_labels_come_from(
    inside: Run, photographs: Records, network: Path
) -> None:
    settings = ("--scores", "--scales", "1", "--no-flip", "--precision", "fp32")
    done = inside("predict", "-c", network, *settings, input=photographs[:1], check=0)
    maps = files.read_maps(done.records[0]["scores"])
    assert maps.classes == ("background", "cat", "dog")
    assert maps.size == (48, 64)
    assert maps.cam.shape == (3, 12, 16)
    np.testing.assert_allclose(maps.cam.sum(0), 1, atol=0.01)
    labels = files.read_label_map(done.records[0]["pred"])
    coarse = labels[2::4, 2::4]
    assert (maps.cam.argmax(0) == coarse).mean() > 0.85


def test_a_crf_refines(inside: Run, photographs: Records, network: Path) -> None:
    plain = inside("predict", "-c", network, "-o", "a", input=photographs[:1], check=0)
    refined = inside("predict", "-c", network, "-o", "b", "--crf", input=photographs[:1], check=0)
    a, b = (files.read_label_map(done.records[0]["pred"]) for done in (plain, refined))
    assert a.shape == b.shape
    assert set(np.unique(b)) <= set(np.unique(a)) | {0}


def test_large_photographs_are_seen_small_and_answered_large(
    inside: Run, photographs: Records, network: Path
) -> None:
    done = inside("predict", "-c", network, "--max-side", "40", input=photographs[:1], check=0)
    assert files.read_label_map(done.records[0]["pred"]).shape == (48, 64)


@pytest.fixture
def judge(photographs: Records) -> Path:
    """A network that finds the dog everywhere, and whose branch finds it in no photograph."""
    torch.manual_seed(0)
    config = {"output_stride": 16, "head": "aspp", "psl": True}
    made = build_network("segmentation", "efficientnet-lite0", ("cat", "dog"), config)
    for branch in made.head.branches:
        torch.nn.init.zeros_(branch.weight)
        branch.bias.data = torch.tensor([0.0, 0.2, 1.0])
    torch.nn.init.zeros_(made.classify.weight)
    made.classify.bias.data = torch.tensor([0.15, 0.05]).logit()
    files.save_checkpoint(
        "psl.pt",
        kind="segmentation",
        backbone="efficientnet-lite0",
        classes=("cat", "dog"),
        config=config,
        state_dict=made.state_dict(),
    )
    return Path("psl.pt")


def test_classes_that_are_hardly_there_are_dropped(
    inside: Run, photographs: Records, judge: Path
) -> None:
    found = {}
    for least in (None, "0.04", "0.2"):
        chosen = ("--drop-below", least) if least else ()
        done = inside(
            "predict",
            "-c",
            judge,
            *chosen,
            "--scores",
            "-o",
            f"out{least}",
            input=photographs,
            check=0,
        )
        labels = [files.read_label_map(record["pred"]) for record in done.records]
        found[least] = {int(number) for one in labels for number in np.unique(one)}
        maps = files.read_maps(done.records[0]["scores"])
        np.testing.assert_allclose(maps.cam.astype(float).sum(0), 1, atol=0.01)
        assert bool(maps.cam[2].any()) == (least == "0.04")
    assert found == {None: {1}, "0.04": {2}, "0.2": {0}}
    meta = files.read_meta("outNone/photo 0 é.png")
    assert meta is not None
    assert meta["params"]["drop_below"] == 0.1
    again = inside(
        "predict",
        "-c",
        judge,
        "--drop-below",
        "0.1",
        "--scores",
        "-o",
        "outNone",
        "--skip-existing",
        input=photographs,
        check=0,
    )
    assert "4 reused" in again.err


def test_dropping_needs_a_network_that_knows(
    inside: Run, photographs: Records, network: Path
) -> None:
    done = inside("predict", "-c", network, "--drop-below", "0.1", input=photographs, check=2)
    assert "--drop-below is only for networks trained with --psl" in done.err
    inside("predict", "-c", network, "-o", "out", input=photographs[:1], check=0)
    meta = files.read_meta("out/photo 0 é.png")
    assert meta is not None
    assert "drop_below" not in meta["params"]


def test_a_broken_photograph_fails_alone(inside: Run, photographs: Records, network: Path) -> None:
    Path(photographs[1]["image"]).write_bytes(b"")
    done = inside("predict", "-c", network, input=photographs)
    assert done.code == 1
    name = photographs[1]["image"]
    assert f"wsss predict: photo 1 é: cannot read image: {name}: empty file\n" in done.err
    assert [record["id"] for record in done.records] == ["photo 0 é", "photo 2 é", "photo 3 é"]


def test_a_checkpoint_of_another_kind(inside: Run, photographs: Records) -> None:
    made = build_network("cam", "efficientnet-lite0", ("cat",), {"output_stride": 16})
    files.save_checkpoint(
        "cam.pt",
        kind="cam",
        backbone="efficientnet-lite0",
        classes=("cat",),
        config={},
        state_dict=made.state_dict(),
    )
    done = inside("predict", "-c", "cam.pt", input=photographs)
    assert done.code == 2
    assert done.err == (
        "wsss predict: cam.pt: a checkpoint of kind segmentation is needed, this is of kind cam\n"
    )


# ---- several checkpoints -------------------------------------------------------------------------

PLAIN = ("--scales", "1", "--no-flip", "--precision", "fp32", "--device", "cpu")


def trained(path: str, stride: int, seed: int, **config: Any) -> str:
    """A checkpoint with ImageNet's weights, so that photographs differ, and random ones on top."""
    torch.manual_seed(seed)
    config = {"output_stride": stride, "head": "aspp", **config}
    made = build_network("segmentation", "efficientnet-lite0", ("cat", "dog"), config)
    load_pretrained(made.backbone, "imagenet")
    for branch in made.head.branches:
        torch.nn.init.normal_(branch.weight, std=0.03)
    files.save_checkpoint(
        path,
        kind="segmentation",
        backbone="efficientnet-lite0",
        classes=("cat", "dog"),
        config=config,
        state_dict=made.state_dict(),
    )
    return path


TILED = ("--tile", "320", "--max-side", "300", "--overlap", "64")


@pytest.mark.parametrize(
    ("strides", "options"),
    [
        ((16, 8, 32), ("--scales", "1,0.75", "--flip")),
        ((16, 8, 32), ("--drop-below", "0.5")),
        ((16, 16), TILED),
        ((16, 32), TILED),
    ],
    ids=["views", "branch", "tiles", "other tiles"],
)
def test_of_several_checkpoints_the_mean_probabilities_decide(
    inside: Run, photographs: Records, strides: tuple[int, ...], options: tuple[str, ...]
) -> None:
    """Against the mean of what each stores alone."""
    psl = "--drop-below" in options
    records = photographs
    if "--tile" in options:
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (20, 35, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        files.write_image("large.png", pixels)
        records = [{"id": "large", "image": "large.png"}]
    paths = [
        trained(f"{'abc'[n]}.pt", stride, n, psl=psl and n == 0) for n, stride in enumerate(strides)
    ]
    each = tuple(part for path in paths for part in ("-c", path))
    common = (*PLAIN, *options, "--scores")
    mean = inside("predict", *each, *common, "-o", "mean", input=records, check=0).records
    alone = []
    for path in paths:
        own = common if path == "a.pt" or not psl else (*PLAIN, "--scores")
        done = inside("predict", "-c", path, *own, "-o", path[0], input=records, check=0)
        alone.append(done.records)
    digests = [files.load_checkpoint(path).digest for path in paths]
    for record, *single in zip(mean, *alone, strict=True):
        found = files.read_maps(record["scores"])
        apart = [files.read_maps(one["scores"]).cam.astype(float) for one in single]
        off = abs(found.cam.astype(float) - sum(apart) / len(apart))
        if options == TILED and strides[0] != strides[1]:
            # Together, they see the tiles of the larger stride; tiles end where they see nothing.
            assert off.mean() < 0.01
        else:
            assert off.max() < 2e-3
        assert max(abs(one - found.cam).mean() for one in apart) > 0.05
        labels = files.read_label_map(record["pred"])
        assert (found.cam.argmax(0) == labels[2::4, 2::4]).mean() > 0.85
        meta = files.read_meta(record["pred"])
        assert meta is not None
        assert meta["checkpoint"] == digests


def test_skipping_and_refusals_look_at_all_checkpoints(
    inside: Run, photographs: Records, network: Path
) -> None:
    paths = [trained(f"{n}.pt", 16, n) for n in range(2)]
    each = ("-c", paths[0], "-c", paths[1], *PLAIN)
    first = inside("predict", *each, input=photographs, check=0)
    again = inside("predict", *each, "--skip-existing", input=photographs, check=0)
    assert again.out == first.out
    assert "4 reused" in again.err
    other = inside("predict", *each[:2], *PLAIN, "--skip-existing", input=photographs, check=0)
    assert "reused" not in other.err
    done = inside("predict", *each, "--drop-below", "0.1", "-o", "x", input=photographs, check=2)
    assert "networks trained with --psl (0.pt, 1.pt are not)" in done.err
    done = inside("predict", "-c", network, "-c", network, "-o", "x", input=photographs, check=2)
    assert done.err == "wsss predict: seg.pt is the same checkpoint as seg.pt: give it once\n"
    assert not Path("x").exists()
