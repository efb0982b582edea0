"""What is read, checked and said around a training; the loop itself: test_loop.py."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import as_lines
from wsss_cli import files
from wsss_cli.datasets.augment import random_view, whole_view
from wsss_cli.datasets.samples import Draw
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.models.backbones import build_backbone
from wsss_cli.models.weights import published
from wsss_cli.training.cam import classification_loss
from wsss_cli.training.session import Session, pretrained, session

OPTIONS: dict[str, Any] = {
    "out": "net.pt",
    "epochs": 1,
    "steps": None,
    "batch_size": 2,
    "crop": 64,
    "jitter": True,
    "lr": 0.01,
    "new_lr": 10.0,
    "bias_lr": 1.0,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "decay_biases": True,
    "clip": 10.0,
    "warmup": 0,
    "freeze_bn": None,
    "val": None,
    "resume": False,
    "replace": False,
    "save_every": 0,
    "strict": False,
    "image_key": "image",
    "seed": 3,
    "workers": 1,
    "device": "cpu",
    "precision": "fp32",
}
Records = list[dict[str, Any]]
CROPPED = partial(random_view, crop=64, scale=(1, 1))


@pytest.fixture
def here(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with session("train-test", **OPTIONS) as made:
        return made


def read(here: Session, records: Records, **settings: Any) -> Records:
    Path("in.jsonl").write_text(as_lines(records), encoding="utf-8")
    return here.read(["in.jsonl"], **settings)


def test_good_records_pass_untouched(here: Session, photographs: Records) -> None:
    assert read(here, photographs) == photographs
    for number, record in enumerate(photographs):
        record["mask" if number % 2 else "pseudo"] = record["image"]
    assert read(here, photographs, either=["pseudo", "mask"]) == photographs


def test_each_bad_record_is_named_and_nothing_is_trained(
    here: Session, photographs: Records, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(record: dict[str, Any]) -> None:
        if record["labels"] == ["dog"]:
            raise WsssError("no dogs")

    photographs[0]["pseudo"] = "gone.png"
    photographs[1]["mask"] = photographs[1]["image"]
    with pytest.raises(WsssError, match=r"^4 records cannot be used; nothing was trained$"):
        read(here, photographs, either=["pseudo", "mask"], check=check)
    assert capsys.readouterr().err.splitlines() == [
        "wsss train-test: photo 0 é: gone.png: No such file or directory",
        "wsss train-test: photo 1 é: no dogs",
        "wsss train-test: photo 2 é: record has no 'pseudo' (made by random-walk, crf or erase)",
        "wsss train-test: photo 3 é: record has no 'pseudo' (made by random-walk, crf or erase)",
    ]


def test_a_mask_that_is_to_be_measured_with_is_never_learnt(
    here: Session, photographs: Records
) -> None:
    """The one place that all trainers read through takes it away."""
    for number, record in enumerate(photographs):
        record |= {"mask": record["image"], "pseudo": record["image"]}
        if number < 3:
            record["strong"] = number == 1
    kept = read(here, photographs, either=["mask", "pseudo"])
    assert ["mask" in record for record in kept] == [False, True, False, True]
    assert kept[0] == {key: value for key, value in photographs[0].items() if key != "mask"}
    assert ["mask" in record for record in read(here, photographs)] == [False, True, False, True]


def test_held_out_masks_are_there_to_measure_with(workdir: Path, photographs: Records) -> None:
    for record in photographs:
        record |= {"mask": record["image"], "strong": False}
    Path("val.jsonl").write_text(as_lines(photographs), encoding="utf-8")
    with session("train-test", **{**OPTIONS, "val": "val.jsonl"}) as here:
        assert here.read_held_out(either=["mask"]) == photographs


def test_marks_that_a_record_cannot_keep(
    here: Session, photographs: Records, capsys: pytest.CaptureFixture[str]
) -> None:
    image = photographs[0]["image"]
    photographs[0] |= {"strong": True, "pseudo": image}
    photographs[1] |= {"strong": False, "mask": image}
    photographs[2] |= {"strong": False}
    photographs[3] |= {"strong": "yes"}
    with pytest.raises(WsssError, match=r"^4 records cannot be used; nothing was trained$"):
        read(here, photographs, either=["mask", "pseudo"])
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "wsss train-test: in.jsonl:4: photo 3 é: 'strong' is neither true nor false",
        "wsss train-test: photo 0 é: marked \"strong\": true, but it has no 'mask'",
        "wsss train-test: photo 1 é: marked \"strong\": false, so its 'mask' is only to measure "
        "with, and it has no other map to learn",
        "wsss train-test: photo 2 é: marked \"strong\": false, so its 'mask' is only to measure "
        "with, and it has no other map to learn",
    ]


@pytest.mark.parametrize("jitter", [True, False])
def test_colours_change_in_training_alone_and_not_without_jitter(
    workdir: Path, photographs: Records, jitter: bool
) -> None:
    def plain(size: tuple[int, int], rng: np.random.Generator) -> Any:
        return whole_view(size, rng)

    with session("train-test", **{**OPTIONS, "jitter": jitter}) as here:
        backbone = build_backbone("efficientnet-lite0")
        for augmented in (True, False):
            samples = here.samples(photographs, backbone, view=plain, augmented=augmented)
            seen = samples[Draw(0, 0)].image
            original = np.asarray(Image.open(photographs[0]["image"]))
            assert np.array_equal(seen, original) == (not (augmented and jitter))


def test_many_problems_are_counted(
    here: Session, photographs: Records, capsys: pytest.CaptureFixture[str]
) -> None:
    many = [{"id": f"{number}", "image": "gone.png"} for number in range(30)]
    with pytest.raises(WsssError, match=r"^30 records cannot be used \(10 of them not shown\);"):
        read(here, [*many, *photographs])
    assert len(capsys.readouterr().err.splitlines()) == 20


def test_an_empty_stream_trains_nothing(here: Session) -> None:
    with pytest.raises(WsssError, match="no records to train on: the stream is empty"):
        read(here, [])


def test_held_out_records_are_optional(workdir: Path, photographs: Records) -> None:
    Path("val.jsonl").write_text(as_lines(photographs), encoding="utf-8")
    with session("train-test", **OPTIONS) as here:
        assert here.read_held_out() == []
    with session("train-test", **{**OPTIONS, "val": "val.jsonl"}) as here:
        assert here.read_held_out() == photographs


def test_new_layers_begin_as_the_seed_says(workdir: Path) -> None:
    def first(seed: int) -> float:
        with session("train-test", **{**OPTIONS, "seed": seed}):
            return float(torch.rand(()))

    assert first(1) == first(1) != first(2)


def test_a_device_that_is_not_there(workdir: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="no such device"),
        session("train-test", **{**OPTIONS, "device": "cuda:77"}),
    ):
        pass


def test_padding_has_the_mean_colour_of_the_backbone(here: Session, photographs: Records) -> None:
    network, _ = pretrained("cam", "resnet50", ["cat"], weights="none", output_stride=None)
    Image.new("RGB", (40, 10)).save("thin.png")
    records = [{"id": "thin", "image": "thin.png"}]
    sample = here.samples(records, network.backbone, view=CROPPED)[Draw(0, 0)]
    top, left, bottom, right = sample.valid
    inside = np.zeros(sample.image.shape[:2], bool)
    inside[top:bottom, left:right] = True
    assert (sample.image[~inside] == [124, 116, 104]).all()
    whole = here.samples(records, network.backbone, view=whole_view)[Draw(0, 0)]
    assert whole.image.shape == (10, 40, 3)


def test_a_network_with_weights_and_the_config_that_rebuilds_it(workdir: Path) -> None:
    network, config = pretrained(
        "segmentation",
        "efficientnet-lite0",
        ["cat"],
        weights="imagenet",
        output_stride=None,
        head="aspp",
    )
    assert config == {"output_stride": 16, "head": "aspp"}
    weights = build_backbone("efficientnet-lite0").imagenet
    assert weights is not None
    stored = torch.load(published(weights).file(), weights_only=True)
    key = "_conv_stem.weight"
    assert torch.equal(network.backbone.state_dict()[key], stored[key])
    _, config = pretrained("cam", "efficientnet-lite0", ["a"], weights="none", output_stride=8)
    assert config == {"output_stride": 8}
    with pytest.raises(ConfigurationError, match="no backbone 'resnet5'"):
        pretrained("cam", "resnet5", ["a"], weights="none", output_stride=None)


@pytest.mark.parametrize(
    ("weights", "asked", "expected"),
    [("none", None, False), ("imagenet", None, True), ("none", True, True)],
)
def test_statistics_are_frozen_unless_the_weights_are_random(
    workdir: Path, photographs: Records, weights: str, asked: bool | None, expected: bool
) -> None:
    """And a record that cannot be decoded is left out, with exit code 1."""
    Path(photographs[0]["image"]).write_bytes(b"")
    network, config = pretrained(
        "cam", "efficientnet-lite0", ["cat", "dog"], weights="none", output_stride=32
    )
    with (
        session("train-test", **{**OPTIONS, "freeze_bn": asked}) as here,
        pytest.raises(SystemExit) as ended,
    ):
        here.train(
            kind="cam",
            network=network,
            classes=["cat", "dog"],
            config=config,
            samples=here.samples(
                photographs, network.backbone, view=CROPPED, classes=("cat", "dog")
            ),
            keys=["labels"],
            loss=classification_loss(network),
            settings={},
            weights=weights,
        )
    assert ended.value.code == 1
    training = files.load_checkpoint("net.pt").config["training"]
    assert training["freeze_bn"] is expected
    assert training["weights"] == weights
