"""The device and the number format that options mean on this machine."""

from __future__ import annotations

import threading

import pytest
import torch

from wsss_cli.errors import ConfigurationError
from wsss_cli.models.device import Compute, SideBySide, choose


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize(("knows", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_the_fastest_sound_format_of_the_cpu(
    no_gpu: None, monkeypatch: pytest.MonkeyPatch, knows: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: knows)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert choose() == Compute(torch.device("cpu"), precision)
    assert choose("cpu", "fp32").precision == "fp32"


def test_auto_takes_the_gpu_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert choose(local_rank=2) == Compute(torch.device("cuda:2"), "bf16")
    assert choose("cuda:1", local_rank=2).device == torch.device("cuda:1")
    assert choose("cuda", "fp16").needs_scaler
    assert not choose("cuda", "bf16").needs_scaler
    with pytest.raises(ConfigurationError, match="--device cuda:4: this machine has no such"):
        choose("cuda:4")


@pytest.mark.parametrize(
    ("device", "precision", "said"),
    [
        ("cuda", "auto", "--device cuda:0: this machine has no such device"),
        ("mps", "auto", "--device mps: this machine has no such device"),
        ("cpu", "fp16", "fp16 needs a GPU; on a CPU use bf16 or fp32"),
    ],
)
def test_what_this_machine_lacks(no_gpu: None, device: str, precision: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        choose(device, precision)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16")])
def test_layers_compute_in_the_format(precision: str, dtype: str) -> None:
    compute = Compute(torch.device("cpu"), precision)
    with compute.autocast():
        result = torch.nn.Linear(2, 2)(torch.ones(1, 2))
    assert result.dtype == getattr(torch, dtype)


@pytest.mark.parametrize("items", [1, 2, 5])
def test_items_side_by_side_may_have_items_of_their_own(items: int) -> None:
    """None waits for a thread: with a thread for each item, none would be left."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        spread = SideBySide(torch.device("cpu"))
    finally:
        torch.set_num_threads(threads)
    assert spread.abreast == 2

    def row(number: int) -> list[int]:
        return spread(lambda other: 10 * number + other, [1, 2, 3])

    done: list[list[list[int]]] = []
    worker = threading.Thread(target=lambda: done.append(spread(row, range(items))), daemon=True)
    worker.start()
    worker.join(60)
    assert done == [[[10 * n + 1, 10 * n + 2, 10 * n + 3] for n in range(items)]]
