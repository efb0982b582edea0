"""The loop: what it writes, how it ends, and that an interruption changes nothing."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from wsss_cli import files
from wsss_cli.datasets.augment import random_view
from wsss_cli.datasets.samples import Samples
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.models.device import Compute
from wsss_cli.training import resume
from wsss_cli.training.batch import Batch
from wsss_cli.training.distributed import Group
from wsss_cli.training.loop import Plan, Trainer

CPU = Compute(torch.device("cpu"), "fp32")


class Tiny(nn.Module):
    """Three layers with batch norm and dropout, which make a run depend on its history."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)
        )
        self.backbone.mean, self.backbone.std = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images)).mean((2, 3))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"backbone": [*self.backbone.parameters()], "new": [*self.head.parameters()]}


def brightness_loss(forward: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
    each = nn.functional.multilabel_soft_margin_loss(
        forward(batch.images), batch.labels, reduction="none"
    )
    return (each * batch.weights).sum() / batch.weights.sum().clamp(min=1)


@pytest.fixture
def records(tmp_path: Path) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(10):
        path = tmp_path / f"{number}.png"
        pixels = rng.integers(0, 100, (12, 16, 3)) + 100 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        labels = [["dark", "bright"][number % 2]]
        made.append({"id": f"image-{number}", "image": str(path), "labels": labels})
    return made


def trainer(records: list[dict[str, Any]], out: Path, **settings: Any) -> Trainer:
    plan = {
        "epochs": 4,
        "batch_size": 4,
        "lr": 0.05,
        "freeze_bn": False,
        **settings.pop("plan", {}),
    }
    samples = Samples(
        records, view=partial(random_view, crop=16, long_side=(12, 20)), classes=("dark", "bright")
    )
    known = {
        "network": Tiny(),
        "samples": samples,
        "loss": brightness_loss,
        "plan": Plan(**plan),
        "compute": CPU,
        "group": Group(),
        "out": out,
        "checkpoint": {"kind": "cam", "backbone": "tiny", "classes": ["dark"], "config": {}},
        "run": {"backbone": "tiny"},
    }
    return Trainer("train-test", **{**known, **settings})


def weights(path: Path) -> dict[str, Tensor]:
    return files.load_checkpoint(path).state_dict


def log(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_what_was_done_to_maps_is_said_once(
    records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (8, 6)).save(tmp_path / "small.png")
    for record in records:
        record["saliency"] = str(tmp_path / "small.png")
    view = partial(random_view, crop=16, long_side=(12, 20))
    samples = Samples(records, view=view, classes=("dark", "bright"), grey_key="saliency")
    trainer(records, tmp_path / "net.pt", samples=samples).run()
    said = [line for line in capsys.readouterr().err.splitlines() if "resized" in line]
    assert len(said) == 1
    assert said[0].endswith(": 'saliency' of 8x6 resized to 16x12; further ones are not reported")


def test_a_run_learns_and_leaves_checkpoint_and_log(
    records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "net.pt"
    assert trainer(records, out, plan={"epochs": 20}).run() == []
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "net.log.jsonl",
        "net.png",
        "net.pt",
    ]
    lines = log(out.with_name("net.log.jsonl"))
    assert [line["step"] for line in lines] == list(range(1, 51))
    assert lines[-1]["epoch"] == 20
    assert lines[0]["lr"] == 0.05
    assert lines[25]["lr"] == pytest.approx(0.05 * 0.5**0.9, rel=1e-5)
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    checkpoint = files.load_checkpoint(out, "cam")
    assert checkpoint.config["training"]["lr"] == 0.05
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "wsss train-test: epoch 20/20: loss 0." in captured.err


@pytest.mark.parametrize("epochs", [23, 24])
def test_a_training_too_short_to_learn_much_is_told(
    epochs: int, records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(records, tmp_path / "net.pt", plan={"epochs": epochs}).run()
    told = "wsss train-test: only 58 steps from 10 photographs: too few to learn much; --steps 200"
    assert (told in capsys.readouterr().err) == (epochs == 23)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_goes_on_bit_for_bit(
    records: list[dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    number: int,
    code: int,
) -> None:
    trainer(records, tmp_path / "whole.pt").run()

    told: list[float] = []

    def telling(forward: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        told.append(batch.progress)
        return brightness_loss(forward, batch)

    def interrupting(forward: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        if len(told) == 3:
            signal.raise_signal(number)
        return telling(forward, batch)

    out = tmp_path / "net.pt"
    with pytest.raises(SystemExit) as ended:
        trainer(records, out, loss=interrupting).run()
    assert ended.value.code == code
    assert capsys.readouterr().err.splitlines()[-1] == (
        "wsss train-test: interrupted at step 4 of 10; "
        "the same command with --resume goes on from there"
    )
    assert not out.exists()
    trainer(records, out, loss=telling).run(resume=True)
    assert "wsss train-test: resumed at step 4 of 10\n" in capsys.readouterr().err
    assert told == [step / 10 for step in range(10)]
    assert same(weights(out), weights(tmp_path / "whole.pt"))
    assert log(out.with_name("net.log.jsonl")) == log(tmp_path / "whole.log.jsonl")
    assert not (tmp_path / "net.resume.pt").exists()


def test_an_interruption_while_measuring_measures_again(
    records: list[dict[str, Any]], tmp_path: Path
) -> None:
    calls: list[int] = []

    def validate() -> dict[str, float]:
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return {"val_score": float(len(calls))}

    out = tmp_path / "net.pt"
    with pytest.raises(SystemExit):
        trainer(records, out, validate=validate).run()
    trainer(records, out, validate=validate).run(resume=True)
    lines = log(out.with_name("net.log.jsonl"))
    scores = [(line["step"], line["val_score"]) for line in lines if "val_score" in line]
    assert scores == [(3, 1), (5, 3), (8, 4), (10, 5)]
    trainer(records, tmp_path / "whole.pt").run()
    assert same(weights(out), weights(tmp_path / "whole.pt"))


def test_a_finished_run_is_not_repeated(
    records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.pt"
    trainer(records, out).run(resume=True)
    written = out.stat().st_mtime_ns
    capsys.readouterr()
    trainer(records, out).run(resume=True)
    assert capsys.readouterr().err == f"wsss train-test: {out}: finished already\n"
    assert out.stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", ["emptied", "one missing", "NaN", "another shape"])
def test_a_finished_run_with_other_weights_is_not_finished(
    damage: str, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "net.pt"
    trainer(records, out).run()
    data = torch.load(out, weights_only=True)
    state = data["state_dict"]
    if damage == "emptied":
        state.clear()
    elif damage == "one missing":
        del state["head.bias"]
    elif damage == "NaN":
        state["head.bias"][0] = torch.nan
    else:
        state["head.bias"] = torch.zeros(3)
    torch.save(data, out)
    with pytest.raises(ConfigurationError, match=r"net\.pt: damaged: .*remove it, and train anew"):
        trainer(records, out).run(resume=True)


def test_only_the_same_run_is_resumed(records: list[dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "net.pt"
    trainer(records, out).run()
    with pytest.raises(ConfigurationError) as refused:
        trainer(records, out, plan={"lr": 0.1}).run(resume=True)
    assert str(refused.value) == (
        f"{out} is of another run (lr 0.05, now 0.1): give another --out, or --replace it"
    )


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_state(
    records: list[dict[str, Any]], tmp_path: Path
) -> None:
    steps = 0

    def diverging(forward: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        nonlocal steps
        steps += 1
        loss = brightness_loss(forward, batch)
        return loss * float("nan") if steps == 5 else loss

    out = tmp_path / "net.pt"
    with pytest.raises(WsssError) as ended:
        trainer(records, out, loss=diverging).run()
    assert str(ended.value) == (
        "the loss is no longer finite at step 5 of 10 (learning rate 0.032): try a smaller --lr "
        f"or --precision fp32; the state before is kept in {tmp_path / 'net.resume.pt'}"
    )
    assert ended.value.exit_code == 1
    assert not out.exists()
    trainer(records, out).run(resume=True)
    trainer(records, tmp_path / "whole.pt").run()
    assert same(weights(out), weights(tmp_path / "whole.pt"))


def test_an_unreadable_image_is_named_once_and_has_no_weight(
    records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Path(records[3]["image"])
    broken.write_bytes(b"")
    out = tmp_path / "net.pt"
    assert trainer(records, out).run() == ["image-3"]
    said = f"wsss train-test: image-3: cannot read image: {broken}: empty file\n"
    assert capsys.readouterr().err.count(said) == 1
    with pytest.raises(WsssError, match="--strict"):
        trainer(records, out, strict=True).run()


def test_nothing_readable_leaves_the_weights_alone(
    records: list[dict[str, Any]], tmp_path: Path
) -> None:
    for record in records:
        Path(record["image"]).write_bytes(b"")
    made = trainer(records, tmp_path / "net.pt", plan={"weight_decay": 0.0, "freeze_bn": True})
    with pytest.raises(WsssError, match="nothing to learn from"):
        made.run()
    assert same(made.network.state_dict(), Tiny().state_dict())


def test_new_layers_learn_faster(records: list[dict[str, Any]], tmp_path: Path) -> None:
    made = trainer(records, tmp_path / "net.pt", plan={"new_lr": 7})
    made.run()
    rates = [group["lr"] for group in made.optimizer.param_groups]
    assert rates[1] == pytest.approx(7 * rates[0])


def test_frozen_statistics_stay(records: list[dict[str, Any]], tmp_path: Path) -> None:
    trainer(records, tmp_path / "net.pt", plan={"freeze_bn": True}).run()
    state = weights(tmp_path / "net.pt")
    assert torch.equal(state["backbone.1.running_mean"], torch.zeros(8))
    trainer(records, tmp_path / "net.pt").run()
    state = weights(tmp_path / "net.pt")
    assert not torch.equal(state["backbone.1.running_mean"], torch.zeros(8))


def test_fewer_records_than_a_batch(records: list[dict[str, Any]], tmp_path: Path) -> None:
    trainer(records[:1], tmp_path / "net.pt").run()
    assert log(tmp_path / "net.log.jsonl")[-1]["step"] == 1


# ---- the optimiser ----


def moved(records: list[dict[str, Any]], out: Path, **plan: Any) -> tuple[Trainer, dict[str, Any]]:
    """A trainer after a few steps in which every weight has the gradient 3, and what it began with.

    So the result follows from the formula of the optimiser alone.
    """
    settings = {"epochs": None, "steps": 1, "lr": 0.01, "weight_decay": 0.0, "clip": 0.0, **plan}

    def loss(forward: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        return torch.stack([3 * weight.sum() for weight in made.network.parameters()]).sum()

    made = trainer(records, out, loss=loss, plan=settings)
    before = {name: weight.clone() for name, weight in made.network.named_parameters()}
    made.run()
    return made, before


@pytest.mark.parametrize("decay_biases", [None, False])
@pytest.mark.parametrize("bias_lr", [None, 2.0])
def test_four_rates_and_biases_that_do_not_decay(
    records: list[dict[str, Any]], tmp_path: Path, bias_lr: float | None, decay_biases: bool | None
) -> None:
    """1 and 2 in the backbone, 10 and 20 in new layers: those of the public code of psa."""
    plan = {"bias_lr": bias_lr, "decay_biases": decay_biases, "weight_decay": 0.1}
    made, before = moved(records, tmp_path / "net.pt", new_lr=10.0, momentum=0.0, **plan)
    for name, weight in made.network.named_parameters():
        times = 10.0 if name.startswith("head") else 1.0
        decay = 0.1
        if name.endswith(".bias"):
            times *= bias_lr or 1
            decay = 0.1 if decay_biases is None else 0.0
        expected = before[name] - 0.01 * times * (3 + decay * before[name])
        torch.testing.assert_close(weight.data, expected.data)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_momentum_is_that_of_the_formula(
    records: list[dict[str, Any]], tmp_path: Path, momentum: float
) -> None:
    made, before = moved(records, tmp_path / "net.pt", steps=3, new_lr=1.0, momentum=momentum)
    speed = way = 0.0
    for step in range(3):
        speed = momentum * speed + 3
        way += 0.01 * (1 - step / 3) ** 0.9 * speed
    for name, weight in made.network.named_parameters():
        torch.testing.assert_close(weight.data, before[name].data - way)


@pytest.mark.parametrize(("clip", "share"), [(0.0, 1.0), (1e9, 1.0), (0.5, None)])
def test_longer_gradients_are_scaled_down(
    records: list[dict[str, Any]], tmp_path: Path, clip: float, share: float | None
) -> None:
    plan = {"new_lr": 1.0, "momentum": 0.0, "clip": clip}
    made, before = moved(records, tmp_path / "net.pt", **plan)
    weights_now = dict(made.network.named_parameters())
    length = 3 * sum(weight.numel() for weight in weights_now.values()) ** 0.5
    for name, weight in weights_now.items():
        expected = before[name] - 0.01 * 3 * (share or clip / length)
        torch.testing.assert_close(weight.data, expected.data, rtol=1e-5, atol=1e-7)


def test_a_run_without_momentum_is_resumed(records: list[dict[str, Any]], tmp_path: Path) -> None:
    """Its optimiser has no state, which is no damage."""
    plan = {"momentum": 0.0, "bias_lr": 2.0}
    trainer(records, tmp_path / "whole.pt", plan=plan).run()
    stopping_at(5, records, tmp_path / "net.pt", plan)
    trainer(records, tmp_path / "net.pt", plan=plan).run(resume=True)
    assert same(weights(tmp_path / "net.pt"), weights(tmp_path / "whole.pt"))


def stopping_at(number: int, records: Any, out: Path, plan: dict[str, Any]) -> None:
    """A run that is interrupted in a step."""
    steps: list[int] = []

    def interrupting(forward: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        steps.append(1)
        if len(steps) == number:
            signal.raise_signal(signal.SIGINT)
        return brightness_loss(forward, batch)

    with pytest.raises(SystemExit):
        trainer(records, out, loss=interrupting, plan=plan).run()
    assert not out.exists()


# ---- a number of steps ----


def test_steps_instead_of_epochs(
    records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seven steps of four are 2.8 passes over ten records; the rest of a pass counts as its end."""
    plan = {"epochs": None, "steps": 7}
    calls: list[int] = []

    def validate() -> dict[str, float]:
        calls.append(1)
        return {"val_score": float(len(calls))}

    out = tmp_path / "net.pt"
    trainer(records, out, plan=plan, validate=validate).run()
    lines = log(out.with_name("net.log.jsonl"))
    scores = [(line["step"], line["epoch"]) for line in lines if "val_score" in line]
    assert scores == [(3, 1.2), (5, 2.0), (7, 2.8)]
    assert [line["lr"] for line in lines if "lr" in line] == pytest.approx(
        [0.05 * (1 - step / 7) ** 0.9 for step in range(7)], rel=1e-5
    )
    told = [line for line in capsys.readouterr().err.splitlines() if "loss" in line]
    assert [line.partition(": loss")[0] for line in told] == [
        f"wsss train-test: step {step}/7" for step in (3, 5, 7)
    ]
    training = files.load_checkpoint(out).config["training"]
    assert (training["epochs"], training["steps"]) == (None, 7)
    stopping_at(4, records, tmp_path / "again.pt", plan)
    trainer(records, tmp_path / "again.pt", plan=plan, validate=validate).run(resume=True)
    assert same(weights(tmp_path / "again.pt"), weights(out))
    with pytest.raises(ConfigurationError, match="steps 7, now 8"):
        trainer(records, out, plan={**plan, "steps": 8}).run(resume=True)


def test_as_many_steps_as_some_epochs_have_are_the_same_training(
    records: list[dict[str, Any]], tmp_path: Path
) -> None:
    trainer(records, tmp_path / "epochs.pt").run()
    trainer(records, tmp_path / "steps.pt", plan={"epochs": None, "steps": 10}).run()
    assert same(weights(tmp_path / "epochs.pt"), weights(tmp_path / "steps.pt"))
    logs = [log(tmp_path / f"{name}.log.jsonl") for name in ("epochs", "steps")]
    assert logs[0] == logs[1]


def test_steps_or_epochs() -> None:
    for wrong in ({}, {"epochs": 1, "steps": 1}):
        with pytest.raises(ValueError, match="either epochs or steps"):
            Plan(batch_size=1, lr=1, **wrong)


def test_a_run_from_before_an_option_existed_is_the_same_run(
    records: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Its identity does not name the option."""
    made = trainer(records, tmp_path / "net.pt")
    old = {key: value for key, value in made.run_identity.items() if value is not None}
    assert {"steps", "bias_lr", "decay_biases"} & set(old) == set()
    assert {"epochs", "momentum", "clip"} <= set(old)
    resume.check_same(old, made.run_identity, "net.pt")
    resume.check_same(made.run_identity, old, "net.pt")


# ---- nothing to learn from ----


def unreadable(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for record in records:
        record["image"] = "gone.png"
    return records


def test_a_run_that_could_read_nothing_writes_no_checkpoint(
    records: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "net.pt"
    with pytest.raises(WsssError, match="nothing to learn from: no record could be read; no check"):
        trainer(unreadable(records), out).run()
    assert not out.exists()
    assert not (tmp_path / "net.resume.pt").exists()


def test_it_stops_after_the_first_epoch(records: list[dict[str, Any]], tmp_path: Path) -> None:
    steps = []

    def counting(network: Any, batch: Any) -> Any:
        steps.append(1)
        return network(batch.images).mean() * 0

    many = [{**record, "id": str(number)} for number, record in enumerate(unreadable(records) * 20)]
    with pytest.raises(WsssError, match="nothing to learn from"):
        trainer(many, tmp_path / "net.pt", loss=counting, plan={"epochs": 50}).run()
    assert len(steps) < len(many)


def test_what_was_left_out_is_told_again(
    records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--resume` of a finished run ends with its exit code."""
    records[0]["image"] = "gone.png"
    out = tmp_path / "net.pt"
    assert trainer(records, out).run() == [records[0]["id"]]
    capsys.readouterr()
    assert trainer(records, out).run(resume=True) == [records[0]["id"]]
    assert capsys.readouterr().err == f"wsss train-test: {out}: finished already\n"


def test_a_plot_or_log_that_cannot_be_written_costs_no_checkpoint(
    records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.pt"
    (tmp_path / "net.log.jsonl").mkdir()
    (tmp_path / "net.png").mkdir()
    assert trainer(records, out).run() == []
    assert files.load_checkpoint(out).kind
    told = capsys.readouterr().err
    assert f"{tmp_path / 'net.log.jsonl'}: Is a directory; the log of this training ends" in told
    assert f"no plot {tmp_path / 'net.png'}: " in told


def test_no_damage_to_a_state_is_an_internal_error(
    records: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Each part of the state, missing or replaced by something else."""
    out, path = tmp_path / "net.pt", tmp_path / "net.resume.pt"
    made = trainer(records, out)
    made._save_state()
    good = torch.load(path, weights_only=True)
    changes: list[dict[str, Any]] = []
    for key in good:
        changes += [{**good, key: value} for value in (None, 5, "x", "[]", [], {})]
        changes.append({name: good[name] for name in good if name != key})
    for key in {*good["state"]} - {"scaler"}:  # which does nothing in fp32
        for value in (None, 5, "x", [], {"x": 1}):
            changes.append({**good, "state": {**good["state"], key: value}})
    state = good["state"]
    wrong: dict[str, list[Any]] = {
        **{"step": [-1, 10_000, 1.5, True, "x", None], "loss_sum": ["x"], "validated": ["x"]},
        **{"log_position": ["x"], "taught": ["x"], "unreadable": [7, [7]]},
    }
    for key, values in wrong.items():
        for value in values:
            progress = {**state["progress"], key: value}
            changes.append({**good, "state": {**state, "progress": progress}})
    for key, value in (("momentum", 0.1), ("maximize", True), ("times", "x")):
        groups = [{**each, key: value} for each in state["optimizer"]["param_groups"]]
        optimizer = {**state["optimizer"], "param_groups": groups}
        changes.append({**good, "state": {**state, "optimizer": optimizer}})
    name = next(iter(state["network"]))
    for kind in (torch.int32, torch.complex64):
        network = {**state["network"], name: state["network"][name].to(kind)}
        changes.append({**good, "state": {**state, "network": network}})
    changes.append({**good, "run": "[" * 100_000})
    for data in changes:
        torch.save(data, path)
        with pytest.raises(WsssError, match=r"net\.resume\.pt"):
            pytest.fail(f"{data.keys()}: {trainer(records, out).run(resume=True)}")
        assert not out.exists()


def test_who_asked_to_resume_need_not_ask_again(
    records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupting(forward: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        return brightness_loss(forward, batch)

    with pytest.raises(SystemExit):
        trainer(records, tmp_path / "net.pt", loss=interrupting).run(resume=True)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("interrupted at step 1 of 10; the same command goes on from there")
