"""make-aff-labels as a process: sure classes, sure background, neutral between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Run, as_lines
from wsss_cli import files
from wsss_cli.methods.crf import confident_regions

Records = list[dict[str, Any]]

PROVENANCE = {"tool": "make-cam", "version": "1", "params": {}, "classes": ["cat", "cow", "dog"]}
AREAS = np.kron(np.arange(4), np.ones((40, 20), int))  # four areas of 40 x 20 side by side
CLASSES = {
    # In the area 0 the first class is sure, in 1 the second, in 2 the first is unsure, 3 is empty.
    "both": (("dog", "cat"), [[0.9, 0.1, 0.25, 0.02], [0.0, 0.8, 0.0, 0.02]], [3, 1, 255, 0]),
    "one": (("cow",), [[0.9, 0.7, 0.25, 0.0]], [2, 2, 255, 0]),
    "none": ((), [], [0, 0, 0, 0]),
}


@pytest.fixture
def areas(workdir: Path) -> Records:
    """Photographs of four grey areas, with CAMs that are constant in each."""
    made = []
    for name, (classes, activations, _) in CLASSES.items():
        grey = np.array([40, 100, 160, 220], np.uint8)[AREAS]
        Image.fromarray(grey).convert("RGB").save(f"{name} é.png")
        small = np.array(activations, np.float16).reshape(len(classes), 4)[:, AREAS[::4, ::4]]
        files.write_maps(f"{name}.npz", small, classes, AREAS.shape, PROVENANCE)
        made.append({"id": name, "image": f"{name} é.png", "cam": f"{name}.npz", "x": [name]})
    return made


@pytest.fixture
def regions(inside: Run) -> Run:
    """``regions("--low-alpha", 2, input=records)`` in this process."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return inside("make-aff-labels", "--workers", "0", *args, **kwargs)

    return call


def numbers(record: dict[str, Any]) -> list[int]:
    """The number in the middle of each area."""
    labels = files.read_label_map(record["aff_label"], AREAS.shape)
    return labels[20, 10::20].tolist()


def test_sure_classes_sure_background_and_neutral(run: Run, areas: Records) -> None:
    done = run("make-aff-labels", "--workers", "2", "-o", "out", input=areas, check=0)
    wanted = {name: expected for name, (_, _, expected) in CLASSES.items()}
    assert {record["id"]: numbers(record) for record in done.records} == wanted
    assert [list(record) for record in done.records] == [
        ["id", "image", "cam", "x", "aff_label"]
    ] * 3
    meta = files.read_meta("out/both.png")
    assert meta is not None
    assert meta["tool"] == "make-aff-labels"
    assert (meta["params"]["low_alpha"], meta["params"]["high_alpha"]) == (4, 32)
    assert meta["classes"] == PROVENANCE["classes"]
    assert meta["from"]["cam"] == PROVENANCE
    with Image.open("out/both.png") as image:
        assert image.mode == "P"


def test_alphas_move_both_borders(regions: Run, areas: Records) -> None:
    # 0.25 against 0.75^alpha: 0.06 at alpha 10, 0.32 at 4, 0.42 at 3.
    for low, high, unsure in ((10, 32, 3), (4, 10, 255), (2, 3, 0)):
        done = regions("--low-alpha", low, "--high-alpha", high, input=areas[:1], check=0)
        assert numbers(done.records[0])[2] == unsure


def test_a_window_averages_before_the_label_is_chosen(regions: Run, areas: Records) -> None:
    rng = np.random.default_rng(0)
    cam = (0.8 * rng.random((1, *AREAS.shape))).astype(np.float16)
    files.write_maps("one.npz", cam, ("cow",), AREAS.shape, PROVENANCE)
    made = {}
    for window in (1, 9):
        options = ("--window", window, "--crf-steps", "0", "--low-alpha", "1", "--high-alpha", "3")
        done = regions(*options, "-o", window, input=areas[1:2], check=0).records[0]
        made[window] = files.read_label_map(done["aff_label"])
        meta = files.read_meta(done["aff_label"])
        assert meta is not None
        assert meta["params"].get("window") == (9 if window == 9 else None)
        again = regions(*options, "--skip-existing", "-o", window, input=areas[1:2], check=0)
        assert "1 reused" in again.err
    image = np.asarray(Image.open("one é.png"))
    expected = confident_regions(image, cam, 1, 3, steps=0, window=9)
    expected[expected == 1] = 2  # the number of cow
    np.testing.assert_array_equal(made[9], expected)
    assert (made[1] != made[9]).any()
    changed = regions(*options, "--window", "8", "--skip-existing", "-o", 9, input=areas[1:2])
    assert "reused" not in changed.err


def test_maps_with_their_own_background(regions: Run, areas: Records) -> None:
    # The background of area 2 is 0.5: 0.78 when strong, 0.14 when weak, against 0.25.
    background = np.array([[0.05, 0.05, 0.5, 0.98]], np.float16)[:, AREAS[::4, ::4]]
    cam = np.array([[0.9, 0.9, 0.25, 0.05]], np.float16)[:, AREAS[::4, ::4]]
    files.write_maps(
        "one.npz", np.concatenate([background, cam]), ("background", "cow"), AREAS.shape, PROVENANCE
    )
    done = regions(input=areas[1:2], check=0)
    assert numbers(done.records[0]) == [2, 2, 255, 0]


def test_shares_are_told_with_v(run: Run, areas: Records) -> None:
    for workers in ("0", "2"):
        done = run("make-aff-labels", "-v", "--workers", workers, input=areas, check=0)
        told = [line for line in done.err.splitlines() if "background" in line]
        assert sorted(told) == [
            "wsss make-aff-labels: both: 25% background, 25% dog, 25% cat, 25% neutral",
            "wsss make-aff-labels: none: 100% background, 0% neutral",
            "wsss make-aff-labels: one: 25% background, 50% cow, 25% neutral",
        ]
    assert "background" not in run("make-aff-labels", input=areas, check=0).err


def test_only_what_changed_is_made_again(regions: Run, areas: Records) -> None:
    regions(input=areas, check=0)
    assert "3 reused" in regions("--skip-existing", input=areas, check=0).err
    changed = regions("--skip-existing", "--low-alpha", "3", input=areas, check=0)
    assert "reused" not in changed.err


def test_a_large_photograph_is_answered_large(regions: Run, areas: Records) -> None:
    big = np.kron(AREAS, np.ones((8, 8), int))
    Image.fromarray(np.array([40, 100, 160, 220], np.uint8)[big]).save("both é.png")
    classes, activations, wanted = CLASSES["both"]
    small = np.array(activations, np.float16)[:, AREAS[::4, ::4]]
    files.write_maps("both.npz", small, classes, big.shape, PROVENANCE)
    done = regions("--max-side", "100", input=areas[:1], check=0)
    labels = files.read_label_map(done.records[0]["aff_label"], big.shape)
    assert labels[160, 80::160].tolist() == wanted


def test_bad_input_fails_alone(regions: Run, areas: Records) -> None:
    nan = np.full((1, 10, 20), np.nan, np.float16)
    meta = np.array('{"classes": ["cow"]}')
    np.savez("nan.npz", cam=nan, classes=np.array(["cow"]), size=np.array([40, 80]), meta=meta)
    files.write_maps("other.npz", np.zeros((1, 5, 5)), ("cow",), (20, 20), PROVENANCE)
    files.write_maps("stranger.npz", np.zeros((1, 5, 5)), ("crow",), AREAS.shape, PROVENANCE)
    Path("cut.png").write_bytes(Path("one é.png").read_bytes()[:80])
    bad = [
        {"id": "nan", "image": "one é.png", "cam": "nan.npz"},
        {"id": "other", "image": "one é.png", "cam": "other.npz"},
        {"id": "stranger", "image": "one é.png", "cam": "stranger.npz"},
        {"id": "cut", "image": "cut.png", "cam": "one.npz"},
        {"id": "none yet", "image": "one é.png"},
    ]
    done = regions("-q", input=[areas[0], *bad, areas[1]])
    assert done.code == 1
    assert [record["id"] for record in done.records] == ["both", "one"]
    tool = "wsss make-aff-labels"
    assert sorted(done.err.splitlines()) == sorted(
        [
            f"{tool}: nan: nan.npz: maps hold NaN or values outside 0 to 1; make them again",
            f"{tool}: other: other.npz: maps of an image of 20x20, but this one is 80x40",
            f"{tool}: stranger: label 'crow' is not in the class list; did you mean cow?",
            f"{tool}: cut: cannot read image: cut.png: truncated file",
            f"{tool}: none yet: record has no 'cam' (made by make-cam)",
        ]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--low-alpha", "32", "--high-alpha", "4"], "--high-alpha: must be larger than"),
        (["--low-alpha", "0"], "0.0 is not in the range x>0"),
        (["--window", "0"], "0 is not in the range x>=1"),
        (["--bilateral", "80,13,-1"], "--bilateral: bilateral_compat must be 0 or more"),
        (["--classes", "nowhere.txt"], "--classes nowhere.txt: not voc, coco or a readable text"),
    ],
)
def test_wrong_settings_end_before_any_work(
    regions: Run, areas: Records, options: list[str], message: str
) -> None:
    done = regions(*options, input=areas)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_in_a_pipe_with_head(shell: Run, areas: Records) -> None:
    Path("in.jsonl").write_text(as_lines(areas * 3), encoding="utf-8")
    done = shell("set +o pipefail; cat in.jsonl | wsss make-aff-labels -q | head -1", check=0)
    assert [record["id"] for record in done.records] == ["both"]
    assert done.err == ""


# ---- by thresholds (IRNet) -----------------------------------------------------------------------


def test_regions_by_thresholds(regions: Run, areas: Records) -> None:
    done = regions("--cut", "0.5,0.1", input=areas, check=0)
    wanted = {"both": [3, 1, 255, 0], "one": [2, 2, 255, 0], "none": [0, 0, 0, 0]}
    assert {record["id"]: numbers(record) for record in done.records} == wanted
    meta = files.read_meta(done.records[0]["aff_label"])
    assert meta is not None
    params = meta["params"]
    assert (params["thresholds"], params["certainty"]) == ([0.5, 0.1], 0.7)
    assert "low_alpha" not in params
    crf = params["crf"]
    assert (crf["bilateral_sxy"], crf["bilateral_srgb"], crf["bilateral_compat"]) == (50, 5, 10)
    low = regions("--cut", "0.2,0.1", "--bilateral", "80,13,10", input=areas, check=0)
    assert numbers(low.records[1]) == [2, 2, 2, 0]
    meta = files.read_meta(low.records[0]["aff_label"])
    assert meta is not None
    assert meta["params"]["crf"]["bilateral_sxy"] == 80
    plain = regions(input=areas, check=0)
    meta = files.read_meta(plain.records[0]["aff_label"])
    assert meta is not None
    assert meta["params"]["crf"]["bilateral_sxy"] == 80
    assert "thresholds" not in meta["params"]


def test_thresholds_take_the_place_of_a_background_of_the_maps(
    regions: Run, areas: Records
) -> None:
    maps = files.read_maps("one.npz")
    own = np.concatenate([np.ones_like(maps.cam), maps.cam])
    files.write_maps("one.npz", own, ("background", "cow"), AREAS.shape, PROVENANCE)
    done = regions("--cut", "0.5,0.1", input=areas[1:2], check=0)
    assert numbers(done.records[0]) == [2, 2, 255, 0]


def test_regions_by_a_background_of_the_maps(regions: Run, areas: Records) -> None:
    """Where the class is above the background; background where it is below half of it."""
    background = np.array([[0.1, 0.6, 0.4, 0.8]], np.float16)[:, AREAS[::4, ::4]]
    cam = np.array([[0.9, 0.7, 0.3, 0.3]], np.float16)[:, AREAS[::4, ::4]]
    own = np.concatenate([background, cam])
    files.write_maps("one.npz", own, ("background", "cow"), AREAS.shape, PROVENANCE)
    done = regions("--cut-own", "1,0.5", input=areas[1:2], check=0)
    assert numbers(done.records[0]) == [2, 2, 255, 0]
    meta = files.read_meta(done.records[0]["aff_label"])
    assert meta is not None
    params = meta["params"]
    assert (params["own_background"], params["certainty"]) == ([1, 0.5], 0.7)
    assert not params.keys() & {"low_alpha", "thresholds"}
    assert params["crf"]["bilateral_sxy"] == 50
    strict = regions("--cut-own", "1.5,0.5", input=areas[1:2], check=0)
    assert numbers(strict.records[0]) == [2, 255, 255, 0]


def test_maps_without_a_background_of_their_own(regions: Run, areas: Records) -> None:
    done = regions("--cut-own", "1,0.5", input=areas[1:2], check=1)
    assert "one: its maps have no background of their own (one.npz): take --cut" in done.err
    assert done.out == ""


def test_the_command_line_chooses_between_a_cut_and_a_background(
    inside: Run, areas: Records
) -> None:
    Path("wsss.toml").write_text('[make-aff-labels]\ncut_own = "1,0.5"\n')
    call = ("--config", "wsss.toml", "make-aff-labels", "--workers", "0")
    assert inside(*call, input=areas[1:2], check=1).out == ""
    done = inside(*call, "--cut", "0.5,0.1", "--certainty", "0.8", input=areas[1:2], check=0)
    assert numbers(done.records[0]) == [2, 2, 255, 0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--cut-own", "0.5,1"), "0.5,1: the first must be larger, and both at least 0"),
        (("--cut-own", "1,-1"), "1,-1: the first must be larger, and both at least 0"),
        (
            ("--cut-own", "1,0.5", "--cut", "0.3,0.05"),
            "--cut and --cut-own exclude each other",
        ),
        (
            ("--cut-own", "1,0.5", "--high-alpha", "20"),
            "--high-alpha is only for regions without --cut-own",
        ),
        (("--cut", "0.1,0.3"), "0.1,0.3: the first must be larger, and both from 0 to 1"),
        (("--cut", "1.5,0.3"), "1.5,0.3: the first must be larger, and both from 0 to 1"),
        (("--cut", "0.3"), "2 numbers are needed, '0.3' has 1"),
        (
            ("--cut", "0.3,0.1", "--low-alpha", "2"),
            "--low-alpha is only for regions without",
        ),
        (("--certainty", "0.8"), "--certainty is only for --cut and --cut-own"),
    ],
)
def test_thresholds_that_cannot_be(
    regions: Run, areas: Records, options: tuple[str, ...], said: str
) -> None:
    done = regions(*options, input=areas, check=2)
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert done.out == ""
