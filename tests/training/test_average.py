"""The moving average of the weights, against a loop over numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.test_loop import (  # noqa: F401 (a fixture)
    Tiny,
    brightness_loss,
    records,
    same,
    trainer,
    weights,
)
from wsss_cli.training.average import WeightAverage
from wsss_cli.training.loop import Trainer

Records = list[dict[str, Any]]


def by_hand(steps: list[dict[str, Tensor]], decay: float) -> dict[str, list[float]]:
    """The average of each number in the weights, in double precision; the first are the start."""
    found = {key: value.double().flatten().tolist() for key, value in steps[0].items()}
    for number, after in enumerate(steps[1:], start=1):
        share = min(decay, (1 + number) / (10 + number))
        for key, value in after.items():
            for place, new in enumerate(value.double().flatten().tolist()):
                old = found[key][place]
                whole = not value.is_floating_point()
                found[key][place] = new if whole else share * old + (1 - share) * new
    return found


def recorded(
    monkeypatch: pytest.MonkeyPatch, made: Trainer
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """The weights before and after each step of a run, and those that were measured."""
    seen: list[dict[str, Tensor]] = []
    measured: list[dict[str, Tensor]] = []

    def now() -> dict[str, Tensor]:
        return {key: value.clone() for key, value in made.network.state_dict().items()}

    def validate() -> dict[str, float]:
        measured.append(now())
        return {"miou": 0.5}

    step = made.step

    def stepping(*args: Any) -> Any:
        result = step(*args)
        seen.append(now())
        return result

    seen.append(now())
    monkeypatch.setattr(made, "step", stepping)
    made.validate = validate
    made.run()
    return seen, measured


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_what_is_saved_and_measured_is_the_average(
    records: Records,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    decay: float,
) -> None:
    made = trainer(records, tmp_path / "net.pt", plan={"ema": decay})
    seen, measured = recorded(monkeypatch, made)
    assert len(seen) == 11
    expected = by_hand(seen, decay)
    saved = weights(tmp_path / "net.pt")
    for key, value in saved.items():
        assert torch.allclose(value.double().flatten(), torch.tensor(expected[key]).double())
    assert same(saved, measured[-1])
    assert len(measured) == 4  # epochs, whose ends are steps 3, 5, 8 and 10
    for state, done in zip(measured, (3, 5, 8, 10), strict=True):
        early = by_hand(seen[: 1 + done], decay)
        for key, value in state.items():
            assert torch.allclose(value.double().flatten(), torch.tensor(early[key]).double())
    assert same(saved, seen[-1]) == (decay == 0)
    # Descent goes on from the weights, not from their average.
    plain = trainer(records, tmp_path / "plain.pt")
    alone, _ = recorded(monkeypatch, plain)
    assert all(same(*pair) for pair in zip(seen, alone, strict=True))


def test_an_interrupted_run_goes_on_with_its_average(
    records: Records,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = {"ema": 0.9}
    trainer(records, tmp_path / "whole.pt", plan=plan).run()
    made = trainer(records, tmp_path / "net.pt", plan=plan, save_every=1)
    step = made.step

    def stops(*args: Any) -> Any:
        if made.state.step == 4:
            raise ValueError("the power went")
        return step(*args)

    monkeypatch.setattr(made, "step", stops)
    with pytest.raises(ValueError, match="power"):
        made.run()
    trainer(records, tmp_path / "net.pt", plan=plan).run(resume=True)
    assert same(weights(tmp_path / "net.pt"), weights(tmp_path / "whole.pt"))


@pytest.mark.parametrize("damage", ["missing", "shape", "nan", "text"])
def test_a_damaged_average_is_refused(
    records: Records,  # noqa: F811
    tmp_path: Path,
    damage: str,
) -> None:
    from wsss_cli.errors import ConfigurationError

    out = tmp_path / "net.pt"
    trainer(records, out, plan={"ema": 0.9})._save_state()
    path = tmp_path / "net.resume.pt"
    data = torch.load(path, weights_only=True)
    average = data["state"]["average"]
    key = "head.weight"
    change: dict[str, Any] = {
        "missing": {name: average[name] for name in average if name != key},
        "shape": {**average, key: average[key][:1]},
        "nan": {**average, key: average[key] * float("nan")},
        "text": "x",
    }
    data["state"]["average"] = change[damage]
    torch.save(data, path)
    with pytest.raises(ConfigurationError, match=r"net\.resume\.pt"):
        trainer(records, out, plan={"ema": 0.9}).run(resume=True)


def test_weights_that_do_not_change_stay_exact() -> None:
    network = Tiny()
    average = WeightAverage(network, 0.9)
    for step in range(1, 200):
        average.update(step)
    assert same(average.state_dict(), network.state_dict())
    for decay in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="from 0 to below 1"):
            WeightAverage(network, decay)
