"""train-seg: its targets, its class list, and its errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Run, as_lines
from wsss_cli import files
from wsss_cli.models.networks import restored

Records = list[dict[str, Any]]

SMALL = (
    "--weights",
    "none",
    "--crop",
    "64",
    "--batch-size",
    "2",
    "--epochs",
    "2",
    "--device",
    "cpu",
    "--freeze-bn",
    "--lr",
    "0.001",
)


@pytest.fixture
def masked(photographs: Records) -> Records:
    """Photographs with pseudo-masks that name their classes, two of them with true masks too."""
    Path("names.txt").write_text("cat\ndog\n")
    for number, record in enumerate(photographs):
        labels = np.zeros(files.image_size(record["image"]), np.uint8)
        labels[10:30, 10:30] = 1
        labels[:, 40:44] = 255
        record["pseudo"] = f"pseudo {number}.png"
        meta = files.provenance("random-walk", {}, classes=["cat", "dog"])
        files.write_label_map(record["pseudo"], labels, meta)
        if number < 2:
            record["mask"] = f"mask {number}.png"
            files.write_label_map(record["mask"], np.where(labels == 1, 2, labels).astype(np.uint8))
    return photographs


def test_from_pseudo_masks_with_their_own_class_list(inside: Run, masked: Records) -> None:
    Path("val.jsonl").write_text(as_lines(masked[:2]))
    done = inside("train-seg", *SMALL, "--val", "val.jsonl", input=masked, check=0)
    assert done.out == ""
    checkpoint = files.load_checkpoint("seg.pt", "segmentation")
    assert checkpoint.classes == ("cat", "dog")
    assert checkpoint.config["head"] == "aspp"
    lines = [json.loads(line) for line in Path("seg.log.jsonl").read_text().splitlines()]
    assert sum("val_miou" in line for line in lines) == 2
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)


@pytest.mark.parametrize("head", ["classifier", "two-conv", "largefov", "deeplabv3plus"])
def test_the_other_heads(inside: Run, masked: Records, head: str) -> None:
    inside("train-seg", *SMALL, "--head", head, "--loss-stride", "1", input=masked, check=0)
    assert files.load_checkpoint("seg.pt").config["head"] == head


def test_multi_scale_inputs_are_kept_in_the_checkpoint(inside: Run, masked: Records) -> None:
    inside("train-seg", *SMALL, "--msc", "0.5,0.75", input=masked, check=0)
    checkpoint = files.load_checkpoint("seg.pt")
    assert checkpoint.config["msc"] == [0.5, 0.75]
    assert restored(checkpoint).scales == (0.5, 0.75)
    inside("predict", "-c", "seg.pt", "--device", "cpu", input=masked[:1], check=0)
    Path("seg.pt").unlink()
    for wrong, said in (
        (("--msc", "0.5,5"), "no multi-scale inputs [0.5, 5.0]: each is above 0, at most 4"),
        (("--msc", "0"), "each must be greater than 0"),
        (("--msc", "0.5", "--psl"), "--msc is not for --psl"),
    ):
        assert said in inside("train-seg", *SMALL, *wrong, input=masked, check=2).err
    assert not Path("seg.pt").exists()


def test_true_masks_need_a_class_list(inside: Run, masked: Records) -> None:
    done = inside("train-seg", *SMALL, "--target", "mask", input=masked[:2])
    assert done.code == 2
    assert done.err == (
        "wsss train-seg: the label maps do not name their classes: give --classes\n"
    )
    settings = ("--target", "mask", "--classes", "names.txt")
    inside("train-seg", *SMALL, *settings, input=masked[:2], check=0)


def test_true_masks_where_there_are_some(inside: Run, masked: Records) -> None:
    inside("train-seg", *SMALL, "--target", "mask,pseudo", input=masked, check=0)
    assert files.load_checkpoint("seg.pt").classes == ("cat", "dog")


def test_a_record_with_no_target(inside: Run, masked: Records) -> None:
    del masked[2]["pseudo"]
    done = inside("train-seg", *SMALL, "--target", "mask,pseudo", input=masked)
    assert done.code == 1
    assert done.err == (
        "wsss train-seg: photo 2 é: record has no 'mask' (made by index)\n"
        "wsss train-seg: 1 record cannot be used; nothing was trained\n"
    )


def test_a_class_number_beyond_the_list(inside: Run, masked: Records) -> None:
    Path("names.txt").write_text("cat\n")
    done = inside(
        "train-seg", *SMALL, "--classes", "names.txt", "--target", "mask", input=masked[:2]
    )
    assert done.code == 1
    assert (
        "wsss train-seg: photo 0 é: mask 0.png: class number 2, but the class list ends at 1\n"
    ) in done.err


# ---- strong and weak records in one stream ----

MIXED = ("--target", "mask,pseudo")


@pytest.fixture
def marked(masked: Records) -> Records:
    """All four have a true mask and a pseudo-mask; the second is marked strong."""
    for number, record in enumerate(masked):
        record["mask"] = f"mask {number}.png"
        size = files.image_size(record["image"])
        files.write_label_map(record["mask"], np.full(size, 2, np.uint8))
        record["strong"] = number == 1
    return masked


def learnt(inside: Run, monkeypatch: pytest.MonkeyPatch, *args: Any, **kwargs: Any) -> Any:
    """What each step of a training sees, as (id, epoch's sum of labels, weight), and the result."""
    from wsss_cli.training.loop import Trainer

    seen: list[list[tuple[str, bool, float]]] = []
    step = Trainer.step

    def noted(self: Trainer, network: Any, loaded: Any, lr: float) -> Any:
        seen.append([(s.record["id"], 2 in s.label_map, s.weight) for s in loaded])
        return step(self, network, loaded, lr)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", noted)
        done = inside("train-seg", *SMALL, *MIXED, *args, **kwargs)
    return seen, done


def test_marked_records_learn_their_mask_and_the_rest_their_pseudo_mask(
    inside: Run, marked: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, done = learnt(inside, monkeypatch, "--strong-weight", "3", input=marked, check=0)
    assert done.err.splitlines()[0] == (
        "wsss train-seg: records that learn their true mask: 1; another map: 3, drawn evenly"
    )
    strong = marked[1]["id"]
    assert len(steps) == 6  # two epochs of two times three, two at a time
    for draws in steps:
        assert [(name == strong, true, weight) for name, true, weight in draws] == [
            (True, True, 3.0),
            (False, False, 1.0),
        ]
    weak = [name for draws in steps for name, *_ in draws if name != strong]
    assert set(weak[:3]) == set(weak[3:]) == {marked[0]["id"], marked[2]["id"], marked[3]["id"]}
    training = files.load_checkpoint("seg.pt").config["training"]
    assert (training["strong_weight"], training["balance"]) == (3.0, True)


def test_without_marks_those_with_a_mask_learn_it(
    inside: Run, masked: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, done = learnt(inside, monkeypatch, "--no-balance", input=masked, check=0)
    assert "true mask: 2; another map: 2\n" in done.err
    assert len(steps) == 4
    weights = {weight for draws in steps for *_, weight in draws}
    assert weights == {1.0}


@pytest.mark.parametrize(
    ("strong", "said"),
    [
        (True, "every record learns its true mask: none has \"strong\": false or no 'mask'"),
        (False, "no record learns a true mask: none has a 'mask' or \"strong\": true"),
    ],
)
def test_a_stream_of_one_kind(
    inside: Run, marked: Records, monkeypatch: pytest.MonkeyPatch, strong: bool, said: str
) -> None:
    for record in marked:
        record["strong"] = strong
    args = ("--classes", "names.txt")
    steps, done = learnt(inside, monkeypatch, *args, input=marked, check=0)
    assert done.err.splitlines()[0] == f"wsss train-seg: {said}"
    assert len(steps) == 4
    assert all(true == strong for draws in steps for _, true, _ in draws)


def test_marks_that_a_target_passes_over_are_told(inside: Run, marked: Records) -> None:
    done = inside("train-seg", *SMALL, input=marked, check=0)
    assert (
        "wsss train-seg: 1 records are marked strong: --target mask,pseudo learns their masks\n"
    ) in done.err
    done = inside("train-seg", *SMALL, "--target", "mask", "-q", input=marked, check=1)
    assert done.err.splitlines()[-1] == (
        "wsss train-seg: 3 records cannot be used; nothing was trained"
    )
    done = inside("train-seg", "--strong-weight", "2", input=marked, check=2)
    assert "--strong-weight is only for --target mask,pseudo" in done.err


def cut_short(
    inside: Run, monkeypatch: pytest.MonkeyPatch, settings: Any, records: Records, *, at: int
) -> None:
    """A run to whole.pt, and the same to cut.pt that stops before step ``at``."""
    from wsss_cli.training.loop import Trainer

    inside("train-seg", *settings, "-o", "whole.pt", input=records, check=0)
    step = Trainer.step

    def stops(self: Trainer, *args: Any) -> Any:
        if self.state.step == at:
            raise RuntimeError("the power went")
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", stops)
        inside("train-seg", *settings, "-o", "cut.pt", input=records, check=1)


def resumed(inside: Run, settings: Any, records: Records) -> str:
    """What is said when cut.pt is taken up again; it ends as whole.pt."""
    import torch

    done = inside("train-seg", *settings, "-o", "cut.pt", "--resume", input=records, check=0)
    whole, cut = (files.load_checkpoint(path).state_dict for path in ("whole.pt", "cut.pt"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    return done.err


def test_a_balanced_run_resumed_is_as_left_alone(
    inside: Run, marked: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*SMALL, *MIXED, "--save-every", "1", "--strong-weight", "2")
    cut_short(inside, monkeypatch, settings, marked, at=3)
    for other, said in (
        ("--strong-weight=3", "strong_weight 2.0, now 3.0"),
        ("--no-balance", "balance true, now false"),
    ):
        done = inside("train-seg", *settings, other, "-o", "cut.pt", "--resume", input=marked)
        assert (done.code, said in done.err) == (2, True)
    assert "resumed at step 3 of 6" in resumed(inside, settings, marked)


# ---- the average of the weights ----


def test_the_average_of_the_weights_is_another_network_of_the_same_run(
    inside: Run, masked: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*SMALL, "--ema", "0.99", "--save-every", "1")
    cut_short(inside, monkeypatch, settings, masked, at=2)
    done = inside("train-seg", *SMALL, "-o", "cut.pt", "--resume", input=masked, check=2)
    assert "ema 0.99, now null" in done.err
    assert "resumed at step 2 of 4" in resumed(inside, settings, masked)
    inside("train-seg", *SMALL, "-o", "last.pt", input=masked, check=0)
    average, last = (files.load_checkpoint(path) for path in ("whole.pt", "last.pt"))
    assert last.config["training"]["ema"] is None
    assert any((last.state_dict[key] != average.state_dict[key]).any() for key in last.state_dict)
    refused = inside("train-seg", *SMALL, "--ema", "1", input=masked, check=2)
    assert "'--ema'" in refused.err or "--ema: 1.0 is not in the range 0<=x<1" in refused.err


# ---- uncertain pixels, and classes without a label ----

BOTH = ("--confidence", "weights", "--absent-weight", "0.5")


def write_scores(record: dict[str, Any], scores: Any, meta: Any = None) -> None:
    size = files.image_size(record["image"])
    names = ("background", "cat", "dog")
    files.write_maps(record["scores"], scores, names, size, meta or {})


@pytest.fixture
def scored(masked: Records) -> Records:
    """With scores of all classes at a quarter of the size, largest for background on the left."""
    for number, record in enumerate(masked):
        record["scores"] = f"scores {number}.npz"
        height, width = files.image_size(record["image"])
        scores = np.full((3, -(-height // 4), -(-width // 4)), 0.1)
        scores[0, :, : width // 8], scores[1, :, width // 8 :] = 0.9, 0.4
        write_scores(record, scores)
    return masked


def weights_of(path: str) -> dict[str, Any]:
    return files.load_checkpoint(path).state_dict


@pytest.mark.parametrize(
    "option",
    [
        ("--confidence", "weights"),
        ("--confidence", "soft-targets"),
        ("--absent-weight", "1"),
        ("--confidence", "soft-targets", "--absent-weight", "1", "--msc", "0.5"),
    ],
    ids=" ".join,
)
def test_each_is_another_training(inside: Run, scored: Records, option: tuple[str, ...]) -> None:
    inside("train-seg", *SMALL, "-o", "plain.pt", input=scored, check=0)
    inside("train-seg", *SMALL, *option, "-o", "other.pt", input=scored, check=0)
    plain, other = weights_of("plain.pt"), weights_of("other.pt")
    assert any((plain[key] != other[key]).any() for key in plain)
    training = files.load_checkpoint("other.pt").config["training"]
    chosen = dict(zip(option[::2], option[1::2], strict=True))
    assert training.get("confidence") == chosen.get("--confidence")
    assert training.get("absent_weight") == (1 if "--absent-weight" in option else None)
    lines = [json.loads(line) for line in Path("other.log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["loss"]) for line in lines)
    assert all(("loss_absent" in line) == ("--absent-weight" in option) for line in lines)
    earlier = files.load_checkpoint("plain.pt").config["training"]
    assert not {"confidence", "absent_weight"} & set(earlier)  # it is resumed as before


@pytest.mark.parametrize("confidence", ["weights", "soft-targets"])
def test_certain_scores_change_nothing(inside: Run, scored: Records, confidence: str) -> None:
    for record in scored:
        record["labels"] = ["cat"]
        labels = files.read_label_map(record["pseudo"])
        write_scores(record, np.stack([labels != 1, labels == 1, labels == 9]) * 1.0)
    settings = (*SMALL, "--scale", "1,1", "--loss-stride", "1", "--precision", "fp32")
    inside("train-seg", *settings, "-o", "plain.pt", input=scored, check=0)
    inside(
        "train-seg", *settings, "--confidence", confidence, "-o", "same.pt", input=scored, check=0
    )
    plain, same = weights_of("plain.pt"), weights_of("same.pt")
    assert max(float((plain[key] - same[key]).abs().max()) for key in plain) < 1e-5


def test_confident_runs_resumed_are_as_left_alone(
    inside: Run, scored: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*SMALL, *BOTH, "--save-every", "1")
    cut_short(inside, monkeypatch, settings, scored, at=2)
    for other, said in (
        ("--confidence=soft-targets", 'confidence "weights", now "soft-targets"'),
        ("--absent-weight=1", "absent_weight 0.5, now 1.0"),
    ):
        done = inside("train-seg", *settings, other, "-o", "cut.pt", "--resume", input=scored)
        assert (done.code, said in done.err) == (2, True)
    before = Path(scored[0]["scores"]).read_bytes()
    write_scores(scored[0], np.full((3, 12, 16), 0.5))
    done = inside("train-seg", *settings, "-o", "cut.pt", "--resume", input=scored, check=2)
    assert "cut.resume.pt was trained on other scores" in done.err
    Path(scored[0]["scores"]).write_bytes(before)
    assert "resumed at step 2 of 4" in resumed(inside, settings, scored)


def test_true_masks_need_no_scores(inside: Run, scored: Records) -> None:
    for record in scored[:2]:
        del record["scores"], record["labels"]
    inside("train-seg", *SMALL, *MIXED, *BOTH, input=scored, check=0)
    del scored[3]["scores"], scored[2]["labels"]
    done = inside("train-seg", *SMALL, *MIXED, *BOTH, input=scored, check=1)
    assert done.err == (
        "wsss train-seg: photo 2 é: record has no 'labels' (made by index)\n"
        "wsss train-seg: photo 3 é: record has no 'scores' "
        "(made by random-walk or predict, --scores)\n"
        "wsss train-seg: 2 records cannot be used; nothing was trained\n"
    )


def test_scores_that_cannot_be_used_are_told_before_training(inside: Run, scored: Records) -> None:
    there = scored[1]["scores"]
    for wrong, said in (
        (3, "'scores' is not a path but 3"),
        ("nix.npz", "nix.npz: No such file or directory"),
    ):
        scored[1]["scores"] = wrong
        done = inside("train-seg", *SMALL, *BOTH, input=scored, check=1)
        assert done.err.splitlines()[0].endswith(f"photo 1 é: {said}")
        assert done.err.endswith("1 record cannot be used; nothing was trained\n")
    scored[1]["scores"] = there
    meta = files.provenance("predict", {}) | {"inputs": {"labels": ["cat"]}}
    write_scores(scored[1], np.full((3, 12, 16), 0.5), meta)
    done = inside("train-seg", *SMALL, *BOTH, input=scored, check=1)
    assert "made for the labels cat, but the record's are dog; make it again" in done.err
    scored[1]["labels"] = ["bog"]
    done = inside("train-seg", *SMALL, "--absent-weight", "1", input=scored, check=1)
    assert "photo 1 é: label 'bog' is not in the class list; did you mean dog?" in done.err
    assert not Path("seg.pt").exists()


def test_scores_that_turn_out_wrong_are_left_out(inside: Run, scored: Records) -> None:
    broken = dict(cam=np.full((3, 12, 16), np.nan, np.float16), meta=np.array("{}"))
    names = dict(classes=np.array(["background", "cat", "dog"]), size=np.array([48, 64]))
    np.savez(scored[0]["scores"], **broken, **names)
    scored[2]["scores"] = scored[3]["scores"]
    files.write_maps(scored[1]["scores"], np.ones((2, 4, 4)), ("background", "cow"), (48, 64), {})
    done = inside("train-seg", *SMALL, *BOTH, input=scored, check=1)
    for said in (
        "photo 0 é: scores 0.npz: maps hold NaN or values outside 0 to 1; make them again\n",
        "photo 1 é: scores 1.npz: label 'cow' is not in the class list",
        "photo 2 é: scores 3.npz: maps of an image of 64x48, but this one is 48x64\n",
        "left out 3 records that cannot be read\n",
    ):
        assert said in done.err
    assert files.load_checkpoint("seg.pt").config["left_out"]


def test_where_they_have_no_meaning_they_are_refused(inside: Run, scored: Records) -> None:
    for wrong, said in (
        (("--target", "mask", "--confidence", "weights"), "only for a --target with pseudo-masks"),
        (("--psl", "--confidence", "weights"), "--confidence is only for training without --psl"),
        (("--psl", "--absent-weight", "1"), "--absent-weight is only for training without --psl"),
        (("--absent-weight", "0"), "0.0 is not in the range x>0"),
        (("--confidence", "scores"), "'scores' is not one of 'weights', 'soft-targets'"),
    ):
        assert said in inside("train-seg", *SMALL, *wrong, input=scored, check=2).err
    # What the command line says makes settings of a file idle, as for the other options.
    Path("wsss.toml").write_text('[train-seg]\nconfidence = "weights"\nabsent_weight = 0.5\n')
    inside("train-seg", *SMALL, "--psl", "-o", "psl.pt", input=scored, check=0)
    inside("train-seg", *SMALL, "-o", "file.pt", input=scored, check=0)
    psl, file = (files.load_checkpoint(f"{n}.pt").config["training"] for n in ("psl", "file"))
    assert not {"confidence", "absent_weight"} & set(psl)
    assert (file["confidence"], file["absent_weight"]) == ("weights", 0.5)


# ---- prohibitive segmentation learning ----


@pytest.mark.parametrize("weights", [None, "labels"])
def test_psl_learns_masks_and_labels(inside: Run, masked: Records, weights: str | None) -> None:
    Path("val.jsonl").write_text(as_lines(masked[:2]))
    chosen = ("--psl-weights", weights) if weights else ()
    settings = (*SMALL, "--psl", *chosen, "--val", "val.jsonl")
    inside("train-seg", *settings, input=masked, check=0)
    made = files.load_checkpoint("seg.pt", "segmentation")
    assert made.config["psl"] is True
    assert made.config["training"]["psl_weights"] == (weights or "predicted")
    assert made.state_dict["classify.weight"].shape[0] == 2
    lines = [json.loads(line) for line in Path("seg.log.jsonl").read_text().splitlines()]
    assert sum("val_miou" in line for line in lines) == 2
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)
    again = inside("train-seg", *settings, "--resume", input=masked, check=0)
    assert "finished already" in again.err
    other = inside("train-seg", *SMALL, "--val", "val.jsonl", "--resume", input=masked, check=2)
    assert "psl true, now null" in other.err
    result = inside("predict", "-c", "seg.pt", "--scales", "1", input=masked, check=0)
    assert len(result.records) == 4


@pytest.mark.parametrize(
    "option",
    [
        ("--psl",),
        ("--ema", "0.5"),
        ("--confidence", "weights"),
        ("--confidence", "soft-targets", "--absent-weight", "1"),
    ],
    ids=" ".join,
)
def test_under_torchrun_it_learns_what_one_process_does(
    inside: Run, scored: Records, option: tuple[str, ...]
) -> None:
    settings = (*SMALL, *option, "--precision", "fp32", "--val", "val.jsonl")
    Path("val.jsonl").write_text(as_lines(scored[:2]))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            "2",
            "-m",
            "wsss_cli",
            "train-seg",
            *settings,
            "--batch-size",
            "1",
            "-o",
            "two.pt",
        ],
        input=as_lines(scored),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.count("wsss train-seg: epoch 2/2") == 1
    inside("train-seg", *settings, "-o", "one.pt", input=scored, check=0)
    one, two = (files.load_checkpoint(name) for name in ("one.pt", "two.pt"))
    assert two.config["training"]["processes"] == 2
    for key, value in one.state_dict.items():
        assert (value - two.state_dict[key]).abs().max() < 1e-3, key


def test_a_network_without_psl_does_not_speak_of_it(inside: Run, masked: Records) -> None:
    inside("train-seg", *SMALL, input=masked, check=0)
    assert "psl" not in files.load_checkpoint("seg.pt").config


def test_psl_resumed_is_as_left_alone(
    inside: Run, masked: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*SMALL, "--psl", "--save-every", "1")
    cut_short(inside, monkeypatch, settings, masked, at=2)
    assert "resumed at step 2 of 4" in resumed(inside, settings, masked)


def test_psl_needs_labels_of_the_class_list(inside: Run, masked: Records) -> None:
    del masked[1]["labels"]
    done = inside("train-seg", *SMALL, "--psl", input=masked, check=1)
    assert "photo 1 é: record has no 'labels' (made by index)\n" in done.err
    masked[1]["labels"] = ["bog"]
    done = inside("train-seg", *SMALL, "--psl", "-q", input=masked, check=1)
    assert done.err == (
        "wsss train-seg: photo 1 é: label 'bog' is not in the class list; did you mean dog?; "
        "nothing was trained\n"
    )
    done = inside("train-seg", *SMALL, "--psl-weights", "labels", input=masked, check=2)
    assert "--psl-weights is only for --psl" in done.err


def test_psl_leaves_out_what_cannot_be_read(inside: Run, masked: Records) -> None:
    Path(masked[1]["image"]).write_bytes(b"")
    done = inside("train-seg", *SMALL, "--psl", input=masked, check=1)
    assert "left out 1 record that cannot be read" in done.err
    assert files.load_checkpoint("seg.pt").config["psl"] is True


def test_label_maps_that_are_border_all_over_teach_nothing(inside: Run, masked: Records) -> None:
    for record in masked:
        size = files.image_size(record["image"])
        files.write_label_map(record["pseudo"], np.full(size, 255, np.uint8))
    result = inside("train-seg", *SMALL, "--classes", "names.txt", input=masked, check=1)
    assert "there is nothing to learn from: no sample has a known label or a pixel" in result.err
    lines = [json.loads(line) for line in Path("seg.log.jsonl").read_text().splitlines()]
    assert {line["loss"] for line in lines} == {0}
    assert not Path("seg.pt").exists()


def test_masks_of_two_class_lists_are_not_mixed(inside: Run, masked: Records) -> None:
    for wrong, classes in ((0, ()), (1, ()), (0, ("--classes", "names.txt"))):
        labels = files.read_label_map(masked[wrong]["pseudo"])
        before = Path(masked[wrong]["pseudo"]).read_bytes()
        files.write_label_map(masked[wrong]["pseudo"], labels, {"classes": ["dog", "cat"]})
        done = inside("train-seg", *SMALL, *classes, input=masked)
        assert done.code == 1
        assert "class number 1 is '" in done.err
        assert done.err.endswith("in the class list of the training; nothing was trained\n")
        Path(masked[wrong]["pseudo"]).write_bytes(before)
    assert not Path("seg.pt").exists()


def test_files_of_other_origins_are_not_replaced(inside: Run, masked: Records) -> None:
    """A classifier, a text, a photograph where the plot goes, a log of something else."""
    Path("in.jsonl").write_text(as_lines(masked))
    Path("notes.txt").write_text("mine\n")
    files.save_checkpoint(
        "cam.pt", kind="cam", backbone="vgg16", classes=["a"], config={}, state_dict={}
    )
    for name in ("plot.png", "b.log.jsonl"):
        Path(name).write_bytes(Path(masked[0]["image"]).read_bytes())
    os.mkfifo("pipe.pt")
    names = [path.name for path in Path().iterdir() if not path.is_fifo()]
    before = {name: Path(name).read_bytes() for name in names if Path(name).is_file()}
    for out, named in {
        "in.jsonl": "in.jsonl",
        "notes.txt": "notes.txt",
        masked[0]["image"]: masked[0]["image"],
        "cam.pt": "cam.pt",
        "plot.pt": "plot.png",
        "b.pt": "b.log.jsonl",
        "pipe.pt": "pipe.pt",
    }.items():
        done = inside("train-seg", *SMALL, "-o", out, "in.jsonl", check=2)
        assert f"wsss train-seg: {named}: would be replaced, but is of another origin" in done.err
    assert {name: Path(name).read_bytes() for name in before} == before
    Path("seg.pt").touch()  # as mktemp makes it
    for _ in range(2):  # its own it does replace
        inside("train-seg", *SMALL, "--epochs", "1", "in.jsonl", check=0)
    done = inside("train-seg", *SMALL, "--weights", "seg.pt", "in.jsonl", check=2)
    assert "seg.pt: would overwrite its own input; change --out" in done.err


def test_a_val_record_that_cannot_be_read_is_told_once(inside: Run, masked: Records) -> None:
    Path("val.jsonl").write_text(as_lines(masked[:2]))
    Path("broken.png").write_bytes(Path(masked[1]["mask"]).read_bytes()[:-30])
    Path(masked[1]["mask"]).write_bytes(Path("broken.png").read_bytes())
    for record in masked:
        record.pop("mask", None)
    done = inside("train-seg", *SMALL, "--val", "val.jsonl", input=masked, check=0)
    told = [line for line in done.err.splitlines() if "not measured" in line]
    assert len(told) == 1
    assert told[0].startswith("wsss train-seg: --val: photo 1 é: cannot read label map: mask 1.png")
