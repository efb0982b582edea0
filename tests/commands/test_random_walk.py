"""random-walk: label maps and scores from CAMs, with every background, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import Run
from wsss_cli import files
from wsss_cli.models.networks import build_network
from wsss_cli.models.weights import load_pretrained
from wsss_cli.tools import label_maps

Records = list[dict[str, Any]]
CLASSES = ("cow", "cat", "dog")
META = {"tool": "make-cam", "version": "1", "params": {}, "classes": list(CLASSES)}
FAST = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture
def network(workdir: Path) -> Path:
    """An AffinityNet on ImageNet features that nothing has been taught."""
    torch.manual_seed(0)
    config = {"output_stride": 16}
    made = build_network("affinity", "efficientnet-lite0", CLASSES, config)
    load_pretrained(made.backbone, "imagenet")
    files.save_checkpoint(
        "aff.pt",
        kind="affinity",
        backbone="efficientnet-lite0",
        classes=CLASSES,
        config=config,
        state_dict=made.state_dict(),
    )
    return Path("aff.pt")


@pytest.fixture
def cams(photographs: Records) -> Records:
    """The photographs with CAMs: each label in a part of its own, for sure."""
    for record in photographs:
        height, width = files.image_size(record["image"])
        cam = np.zeros((len(record["labels"]), height // 4, width // 4))
        for number, plane in enumerate(cam):
            plane[:, 6 * number : 6 * number + 5] = 1
        record["cam"] = f"{record['id']}.npz"
        files.write_maps(record["cam"], cam, record["labels"], (height, width), META)
    return photographs


@pytest.fixture
def walk(inside: Run, network: Path) -> Run:
    """``walk("--beta", 4, input=records)`` in this process."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return inside("random-walk", "-c", network, *FAST, *args, **kwargs)

    return call


def labels_of(record: dict[str, Any]) -> Any:
    return files.read_label_map(record["pseudo"], files.image_size(record["image"]))


def test_label_maps_of_the_photographs_size(walk: Run, cams: Records, network: Path) -> None:
    done = walk("-o", "out", input=cams, check=0)
    assert [record["id"] for record in done.records] == [record["id"] for record in cams]
    assert list(done.records[0]) == ["id", "image", "labels", "cam", "pseudo"]
    for record in done.records:
        numbers = {CLASSES.index(name) + 1 for name in record["labels"]}
        assert set(np.unique(labels_of(record))) <= {0} | numbers
    assert not labels_of(done.records[3]).any()  # no labels: all background
    meta = files.read_meta(done.records[0]["pseudo"])
    assert meta is not None
    assert meta["tool"] == "random-walk"
    assert meta["params"]["beta"] == 8
    assert meta["checkpoint"] == files.load_checkpoint(network).digest
    assert meta["from"] == {"cam": META}


def test_no_step_leaves_the_maps_where_they_are(walk: Run, cams: Records) -> None:
    done = walk("--steps", "0", input=cams[:3], check=0)
    cat, dog, both = map(labels_of, done.records)
    assert (cat[:, :12] == 2).all()
    assert (cat[:, 32:] == 0).all()
    assert (dog[:, :12] == 3).all()
    assert (both[:, :14] == 2).all()
    assert (both[:, 30:42] == 3).all()


def test_settings_reach_the_walk(walk: Run, cams: Records) -> None:
    def share(*options: str) -> float:
        done = walk(*options, "--scores", input=cams[:1], check=0)
        maps = files.read_maps(done.records[0]["scores"])
        assert maps.classes == ("background", "cat")
        return float(maps.cam[1].std())

    # With affinities of 1 (beta 0) all pixels mix; with none (beta large) they stay apart.
    assert share("--beta", "0", "--steps", "5000") < 0.1 < share("--beta", "100000")
    assert share("--beta", "0", "--steps", "4") > share("--beta", "0", "--steps", "400")
    assert share("--beta", "1", "--exact") == pytest.approx(share("--beta", "1"), abs=2e-3)
    few = ("--beta", "0", "--steps", "4")
    assert share(*few, "--radius", "2") > share(*few, "--radius", "6")


def test_the_three_backgrounds(walk: Run, cams: Records) -> None:
    still = ("--steps", "0")
    soft = np.full((2, 12, 16), 0.5)
    soft[0, :, :8], soft[1, :, :8] = 0.9, 0.2  # background and cat, left and right
    soft[0, :, 8:], soft[1, :, 8:] = 0.1, 1.0
    record = {**cams[0], "cam": "own.npz"}
    files.write_maps("own.npz", soft, ("background", "cat"), (48, 64), META)

    def found(*options: str) -> tuple[int, int]:
        labels = labels_of(walk(*still, *options, input=[record], check=0).records[0])
        return int(labels[24, 10]), int(labels[24, 54])

    assert found() == (0, 2)  # its own
    assert found("--threshold", "0.1") == (2, 2)
    assert found("--threshold", "0.3") == (0, 2)
    assert found("--threshold", "1") == (0, 0)
    files.write_maps("own.npz", soft[1:], ("cat",), (48, 64), META)
    assert found("--alpha", "16") == (2, 2)  # 0.8^16 = 0.03
    assert found("--alpha", "4") == (0, 2)  # 0.8^4 = 0.41
    assert found("--alpha", "16", "--floor", "0.1") == (2, 2)
    assert found("--alpha", "16", "--floor", "0.3") == (0, 2)  # the left has 0.2 of 1


def test_scores_and_labels_agree(walk: Run, cams: Records) -> None:
    done = walk("--scores", "--alpha", "6", input=cams, check=0)
    for record in done.records:
        maps = files.read_maps(record["scores"])
        assert maps.classes == ("background", *record["labels"])
        assert maps.size == files.image_size(record["image"])
        numbers = np.array([0, *(CLASSES.index(name) + 1 for name in record["labels"])])
        coarse = labels_of(record)[2::4, 2::4]
        assert (numbers[maps.cam.argmax(0)] == coarse).mean() > 0.9


@pytest.mark.parametrize("crf", [(), ("--crf", "--crf-steps", "2")])
def test_large_photographs_are_walked_small_and_answered_large(
    walk: Run, cams: Records, crf: tuple[str, ...]
) -> None:
    Image.new("RGB", (1600, 40), (90, 90, 90)).save("wide.png")
    cam = np.zeros((1, 10, 400))
    cam[:, :, :200] = 1
    files.write_maps("wide.npz", cam, ("dog",), (40, 1600), META)
    record = {"id": "wide", "image": "wide.png", "cam": "wide.npz"}
    options = ("--max-side", "200", "--steps", "0", "--scores", *crf)
    done = walk(*options, input=[record], check=0)
    labels = labels_of(done.records[0])
    assert (labels[:, :700] == 3).all()
    assert (labels[:, 900:] == 0).all()
    maps = files.read_maps(done.records[0]["scores"])
    assert (maps.size, maps.cam.shape) == ((40, 1600), (2, 10, 400))


def test_the_crf_is_asked_at_the_bounded_size(
    walk: Run, cams: Records, monkeypatch: pytest.MonkeyPatch
) -> None:

    sizes: list[tuple[int, ...]] = []

    def spy(image: Any, scores: Any, **settings: Any) -> Any:
        sizes.append(image.shape)
        assert scores.shape[1:] == image.shape[:2]
        return scores

    monkeypatch.setattr(label_maps, "dense_crf", spy)
    walk("--crf", "--max-side", "40", input=cams[:1], check=0)
    walk("--crf", input=cams[:1], check=0)
    assert sizes == [(30, 40, 3), (48, 64, 3)]


def test_other_class_lists(walk: Run, cams: Records) -> None:
    Path("list.txt").write_text("dog\nhorse\ncat\n")
    options = ("--steps", "0", "--classes", "list.txt")
    done = walk(*options, input=cams[:1], check=0)
    assert labels_of(done.records[0])[24, 4] == 3
    meta = files.read_meta(done.records[0]["pseudo"])
    assert meta is not None
    assert meta["classes"] == ["dog", "horse", "cat"]


def test_only_what_changed_is_made_again(walk: Run, cams: Records) -> None:
    walk(input=cams, check=0)
    assert "4 reused" in walk("--skip-existing", input=cams, check=0).err
    assert "reused" not in walk("--skip-existing", "--beta", "4", input=cams, check=0).err
    cam = files.read_maps(cams[0]["cam"])
    changed = {**META, "params": {"scales": [1]}}
    files.write_maps(cams[0]["cam"], cam.cam, cam.classes, cam.size, changed)
    assert "3 reused" in walk("--skip-existing", "--beta", "4", input=cams, check=0).err


def test_bad_cams_fail_alone(walk: Run, cams: Records) -> None:
    nan = np.full((1, 12, 16), np.nan, np.float16)
    with np.load(cams[1]["cam"]) as archive:
        np.savez("nan.npz", **{**archive, "cam": nan})
    files.write_maps("other.npz", np.zeros((1, 5, 5)), ("cat",), (20, 20), META)
    cut = Path("cut.npz")
    cut.write_bytes(Path(cams[1]["cam"]).read_bytes()[:100])
    image = cams[0]["image"]
    bad = [{"id": name, "image": image, "cam": f"{name}.npz"} for name in ("nan", "other", "cut")]
    done = walk("-q", input=[cams[0], *bad, {"id": "none", "image": image}, cams[1]])
    assert done.code == 1
    assert [record["id"] for record in done.records] == ["photo 0 é", "photo 1 é"]
    tool = "wsss random-walk"
    assert sorted(done.err.splitlines()) == sorted(
        [
            f"{tool}: nan: nan.npz: maps hold NaN or values outside 0 to 1; make them again",
            f"{tool}: other: other.npz: maps of an image of 20x20, but this one is 64x48",
            f"{tool}: cut: cannot read maps: cut.npz: truncated or not an NPZ of wsss",
            f"{tool}: none: record has no 'cam' (made by make-cam)",
        ]
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--beta", "-1"], "-1.0 is not in the range x>=0"),
        (["--alpha", "0"], "0.0 is not in the range x>0"),
        (["--radius", "1"], "1 is not in the range x>=2"),
        (["--threshold", "2"], "2.0 is not in the range 0<=x<=1"),
        (["--crf", "--bilateral", "80,0,10"], "bilateral_srgb must be above 0"),
        (["--classes", "nowhere.txt"], "--classes nowhere.txt: not voc, coco or a readable text"),
    ],
)
def test_wrong_settings_end_before_any_work(
    walk: Run, cams: Records, options: list[str], said: str
) -> None:
    done = walk(*options, input=cams)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_a_checkpoint_of_another_kind(inside: Run, cams: Records, network: Path) -> None:
    content = torch.load(network, weights_only=True)
    torch.save({**content, "kind": "cam"}, network)
    done = inside("random-walk", "-c", network, input=cams)
    assert done.code == 2
    assert done.err == (
        "wsss random-walk: aff.pt: a checkpoint of kind affinity or irn is needed, "
        "this is of kind cam\n"
    )


def test_affinities_as_a_picture(walk: Run, cams: Records, inside: Run) -> None:
    """An edge in the photograph is a dark line; the pictures of masks are the same with it."""
    edge = np.full((48, 64, 3), 30, np.uint8)
    edge[:, 32:] = (240, 200, 20)
    Image.fromarray(edge).save(cams[0]["image"])
    plain = walk("-o", "plain", input=cams, check=0).records
    done = walk("--affinity", "-o", "out", input=cams, check=0)
    assert list(done.records[0]) == ["id", "image", "labels", "cam", "pseudo", "affinity"]
    for record, other in zip(done.records, plain, strict=True):
        assert record["affinity"] == f"out/{record['id']}.affinity.png"
        np.testing.assert_array_equal(labels_of(record), labels_of(other))
        grey = files.read_grey(record["affinity"], files.image_size(record["image"]))
        assert 0 <= grey.min() <= grey.max() <= 1
    grey = files.read_grey(done.records[0]["affinity"], (48, 64))
    assert grey[:, 28:36].mean() < grey[:, 46:58].mean() - 0.02
    meta = files.read_meta(done.records[0]["affinity"])
    assert meta is not None
    assert meta["tool"] == "random-walk"
    assert done.records[3]["labels"] == []  # also without a class to walk

    # What is there is kept; what another run did not make is made.
    again = walk("--affinity", "-o", "out", "--skip-existing", input=cams, check=0)
    assert f"{len(cams)} reused" in again.err
    first = walk("--affinity", "-o", "plain", "--skip-existing", input=cams, check=0)
    assert "reused" not in first.err
    drawn = ("--keys", "image,affinity,pseudo", "-o", "sheet.png", "-q")
    assert inside("view", *drawn, input=done.records, check=0).err == ""

    cams[1]["id"] = f"{cams[0]['id']}.Affinity"
    refused = walk("--affinity", input=cams, check=1)
    assert f"its pseudo-mask would be the affinity of {cams[0]['id']}" in refused.err
    assert len(refused.records) == len(cams) - 1


# ---- with an IRNet -------------------------------------------------------------------------------


@pytest.fixture
def boundaries(workdir: Path) -> Path:
    """An IRNet on random features that nothing has been taught."""
    torch.manual_seed(0)
    config = {"output_stride": 16}
    made = build_network("irn", "efficientnet-lite0", CLASSES, config)
    made.boundary.join.bias.data.fill_(-3)
    files.save_checkpoint(
        "irn.pt",
        kind="irn",
        backbone="efficientnet-lite0",
        classes=CLASSES,
        config=config,
        state_dict=made.state_dict(),
    )
    return Path("irn.pt")


def test_irnet_brings_its_own_settings(
    inside: Run, network: Path, boundaries: Path, cams: Records
) -> None:
    def params(checkpoint: Path, *options: str) -> dict[str, Any]:
        done = inside("random-walk", "-c", checkpoint, *FAST, *options, input=cams[:1], check=0)
        meta = files.read_meta(done.records[0]["pseudo"])
        assert meta is not None
        found: dict[str, Any] = meta["params"]
        return found

    plain = params(boundaries)
    assert (plain["beta"], plain["alpha"], plain["else_threshold"]) == (10, None, 0.25)
    given = params(boundaries, "--beta", "4", "--alpha", "8")
    assert (given["beta"], given["alpha"]) == (4, 8)
    other = params(network)
    assert (other["beta"], other["alpha"], "else_threshold" in other) == (8, 16, False)


def test_masks_along_boundaries_are_kept_while_the_network_is_the_same(
    inside: Run, boundaries: Path, cams: Records
) -> None:
    call = ("random-walk", "-c", boundaries, *FAST, "--affinity", "--skip-existing")
    done = inside(*call, input=cams, check=0)
    for record in done.records:
        numbers = {CLASSES.index(name) + 1 for name in record["labels"]}
        assert set(np.unique(labels_of(record))) <= {0} | numbers
        assert files.image_size(record["affinity"]) == files.image_size(record["image"])
    assert "4 reused" in inside(*call, input=cams, check=0).err
    again = files.load_checkpoint(boundaries)
    state = {**again.state_dict}
    state["boundary.join.bias"] = state["boundary.join.bias"] + 1
    files.save_checkpoint(
        boundaries,
        kind="irn",
        backbone=again.backbone,
        classes=CLASSES,
        config=again.config,
        state_dict=state,
    )
    assert "reused" not in inside(*call, input=cams, check=0).err


# ---- instances -----------------------------------------------------------------------------------


def test_instances_are_files_and_objects_of_the_record(
    inside: Run, boundaries: Path, cams: Records
) -> None:
    call = ("random-walk", "-c", boundaries, *FAST, "--instances", "--skip-existing", "-o", "out")
    done = inside(*call, input=cams, check=0)
    assert list(done.records[0])[-3:] == ["pseudo", "instances", "objects"]
    for record in done.records:
        ids, objects = files.read_instance_map(
            record["instances"], files.image_size(record["image"])
        )
        assert objects == record["objects"]
        assert [each["id"] for each in objects] == list(range(1, len(objects) + 1))
        assert set(np.unique(ids)) - {0, 255} == {each["id"] for each in objects}
        assert all(0 < each["score"] <= 1 for each in objects)
        labels = labels_of(record)
        assert ((labels > 0) == (ids > 0)).all()
        for each in objects:
            assert np.unique(labels[ids == each["id"]]).tolist() == [
                CLASSES.index(each["class"]) + 1
            ]
        with Image.open(record["instances"]) as picture:
            assert picture.mode == "P"
            assert picture.getpalette()[3:6] == [128, 0, 0]  # VOC's colour of 1
    assert done.records[0]["objects"]
    assert done.records[3]["objects"] == []  # no labels
    again = inside(*call, input=cams, check=0)
    assert "4 reused" in again.err
    assert again.records == done.records
    plain = inside(*call[:-2], "-o", "out", input=cams, check=0)
    assert plain.records == done.records


def test_instances_of_a_network_without_a_field_are_refused(walk: Run, cams: Records) -> None:
    refused = walk("--instances", "-o", "out", input=cams, check=2)
    assert refused.err == (
        "wsss random-walk: --instances: aff.pt has no displacement field, by which objects are "
        "told apart; give a checkpoint of irn-train\n"
    )
    assert refused.out == ""
    assert not Path("out").exists()


def test_an_id_whose_pseudo_mask_would_be_an_instance_map_is_refused(
    inside: Run, boundaries: Path, cams: Records
) -> None:
    cams[1]["id"] = f"{cams[0]['id']}.instances"
    call = ("random-walk", "-c", boundaries, *FAST, "--instances")
    refused = inside(*call, input=cams, check=1)
    assert f"its pseudo-mask would be the instances of {cams[0]['id']}" in refused.err
    assert len(refused.records) == len(cams) - 1
