"""Every kind of network on every backbone, and the table of kinds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.conftest import CLASSES, EVERY, build, images
from wsss_cli import files
from wsss_cli.commands import _options
from wsss_cli.errors import ConfigurationError
from wsss_cli.models.batchnorm import freeze_batchnorm
from wsss_cli.models.deeplab import HEADS
from wsss_cli.models.networks import CLASSIFIERS, KINDS, LINKING, build_network, restored

BUILT = [
    ("cam", None),
    ("eps", None),
    ("affinity", None),
    *(("segmentation", head) for head in HEADS),
]


def test_the_kinds_that_options_name_without_torch_are_those_of_the_table() -> None:
    assert _options.CLASSIFIERS == CLASSIFIERS
    assert _options.LINKING == LINKING


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_read_by_what_its_row_says(kind: str) -> None:
    """The default comes first; a reading that is not is named in the provenance of its maps."""
    readings = [make() for make in KINDS[kind].readings.values()]
    assert bool(readings) == (kind in CLASSIFIERS)
    assert bool(readings) == hasattr(build(kind, "aspp"), "scores")
    names = list(KINDS[kind].readings)
    named = [reading.params["map"] for reading in readings if reading.params]
    assert named in (names, names[1:])


@pytest.mark.parametrize(("name", "stride"), EVERY)
@pytest.mark.parametrize(("kind", "head"), BUILT)
def test_shapes_gradients_and_groups(kind: str, head: str | None, name: str, stride: int) -> None:
    with torch.device("meta"):
        network = build(kind, head, name, stride)
        output = network.train()(torch.empty(2, 3, 50, 71))
    step = {"affinity": 8, "deeplabv3plus": 4}.get(head or kind, stride)
    channels = {"cam": 3, "eps": 4, "affinity": 448, "segmentation": 4}[kind]
    assert output.shape == (2, channels, -(-50 // step), -(-71 // step))
    assert network.stride == step

    output.sum().backward()
    assert [key for key, value in network.named_parameters() if value.grad is None] == []

    groups = network.parameter_groups()
    given = [id(value) for group in groups.values() for value in group]
    assert sorted(given) == sorted(id(value) for value in network.parameters())
    new = {id(value) for value in groups["new"]}
    expected = {
        key.split(".")[0] if not key.startswith("backbone.") else ".".join(key.split(".")[:2])
        for key, value in network.named_parameters()
        if id(value) in new
    }
    own = {"affinity": {"reduce", "join"}, "segmentation": {"head"}}.get(kind, {"classify"})
    vgg = name.startswith("vgg16")
    assert expected == own | ({"backbone.fc6", "backbone.fc7"} if vgg else set())


@pytest.mark.parametrize(("kind", "head"), BUILT)
def test_bf16_on_a_cpu(kind: str, head: str | None) -> None:
    network = build(kind, head).train()
    freeze_batchnorm(network.backbone)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    given = images(2, 40, 50).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(given)
    output.float().square().mean().backward()
    for key, value in network.named_parameters():
        if value.requires_grad:
            assert value.grad is not None, key
            assert value.grad.isfinite().all(), key


@pytest.mark.parametrize(("kind", "head"), BUILT)
def test_a_checkpoint_rebuilds_its_network(kind: str, head: str | None, tmp_path: Path) -> None:
    network = build(kind, head, stride=32).eval()
    config = {"output_stride": 32} | ({"head": head} if head else {})
    files.save_checkpoint(
        tmp_path / "net.pt",
        kind=kind,
        backbone="efficientnet-lite0",
        classes=CLASSES,
        config=config,
        state_dict=network.state_dict(),
    )
    read = files.load_checkpoint(tmp_path / "net.pt", kind)
    again = build_network(read.kind, read.backbone, read.classes, read.config).eval()
    again.load_state_dict(read.state_dict)
    with torch.inference_mode():
        assert torch.equal(again(images(1, 40, 50)), network(images(1, 40, 50)))


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("depth", {}, "no network of kind 'depth'"),
        ("segmentation", {"head": "fcn"}, "no head 'fcn'; there are classifier, two-conv, large"),
        ("segmentation", {}, "no head 'None'"),
        ("segmentation", {"head": "aspp", "msc": [0.5, -1]}, "no multi-scale inputs"),
        ("segmentation", {"head": "aspp", "msc": 0.5}, "no multi-scale inputs 0.5"),
        ("segmentation", {"head": "aspp", "msc": [0.5], "psl": True}, "with a classification br"),
        ("cam", {"dropout": 1}, "no dropout 1: it is from 0 to below 1"),
        ("sipe", {"dropout": "0.5"}, "no dropout '0.5'"),
        ("cam", {"output_stride": 4}, "no output stride 4; it offers 8, 16, 32"),
        ("cam", {"output_stride": "8"}, "no output stride 8"),
        ("cam", {"output_stride": 0}, "no output stride 0; it offers 8, 16, 32"),
    ],
)
def test_what_cannot_be_built_is_said(kind: str, config: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said), torch.device("meta"):
        build_network(kind, "efficientnet-lite0", CLASSES, config)


# ---- damaged checkpoints ----

GOOD: dict[str, Any] = {
    "format": "wsss-checkpoint-1",
    "kind": "cam",
    "backbone": "efficientnet-lite0",
    "classes": ["cat"],
    "config": {"output_stride": 16, "training": {}},
    "state_dict": {"weight": torch.ones(1)},
}
VALUES: list[Any] = [None, 5, -1, "x", "\x1b[2J", [], {}, [None], [["a"]], {1: 2}, {"weight": 3}]


def damaged() -> Iterator[tuple[str, dict[str, Any]]]:
    """A checkpoint with each part, and each setting, missing or replaced by something else."""
    for kind in KINDS:
        good = {**GOOD, "kind": kind}
        yield f"{kind}: weights of something else", good
        for key in good:
            yield f"{kind}: no {key}", {name: good[name] for name in good if name != key}
            for value in VALUES:
                yield f"{kind}: {key} = {value!r}", {**good, key: value}
        for key in ("output_stride", "head", "psl", "msc", "dropout", "cells"):
            for value in VALUES:
                changed = {**good["config"], key: value}
                yield f"{kind}: {key} = {value!r}", {**good, "config": changed}


def test_no_damage_to_a_checkpoint_is_an_internal_error(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    for what, data in damaged():
        torch.save(data, path)
        with pytest.raises(ConfigurationError, match=r"\A[^\n]*net\.pt: [^\n]+\Z"):
            pytest.fail(f"{what}: {restored(files.load_checkpoint(path))}")


def loadable(kind: str) -> dict[str, Any]:
    """A checkpoint with all its weights, which take no room: each tensor is one zero, repeated."""
    config = {"output_stride": 16, **({"head": "largefov"} if kind == "segmentation" else {})}
    state = build_network(kind, "efficientnet-lite0", ["cat"], config).state_dict()
    zeros = {
        key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in state.items()
    }
    return {**GOOD, "kind": kind, "config": config, "state_dict": zeros}


@pytest.mark.parametrize("kind", ["cam", "affinity", "segmentation"])
def test_one_wrong_part_of_a_good_checkpoint_is_noticed(kind: str, tmp_path: Path) -> None:
    """Nothing else is wrong with it, so what is not noticed is loaded."""
    path = tmp_path / "net.pt"
    good = loadable(kind)
    torch.save(good, path)
    restored(files.load_checkpoint(path))
    state = good["state_dict"]
    first = next(iter(state))
    cases = [{key: good[key] for key in good if key != lost} for lost in good]
    cases += [{**good, key: v} for key in good for v in (None, 5, "x", [], {}, [None])]
    cases += [
        {**good, "config": {**good["config"], "output_stride": v}}
        for v in (None, 0, -1, True, "x", [16])
    ]
    for wrong in (
        {key: state[key] for key in state if key != first},
        {**state, "another": torch.zeros(1)},
        {**state, first: torch.zeros(1)},
        {**state, first: state[first] * float("nan")},
        {**state, first: state[first].long()},
        {**state, first: state[first].to_sparse()},
        {**state, first: 5},
    ):
        cases.append({**good, "state_dict": wrong})
    for data in cases:
        torch.save(data, path)
        with pytest.raises(ConfigurationError, match=r"\A[^\n]*net\.pt: [^\n]+\Z"):
            pytest.fail(f"loaded: {restored(files.load_checkpoint(path))}")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network = build_network("cam", "efficientnet-lite0", ["cat"], {"output_stride": 16})
    state = network.state_dict()
    weight = state["classify.weight"]
    config = {"output_stride": 16}
    for broken in (weight * float("nan"), weight.double() + 1e300):
        state["classify.weight"] = broken
        checkpoint = files.Checkpoint(
            "cam", "efficientnet-lite0", ("cat",), config, state, "", "net.pt"
        )
        with pytest.raises(ConfigurationError, match=r"net\.pt: classify.weight holds NaN or inf"):
            restored(checkpoint)
