"""State dicts of other programs: wrappers, prefixes, names and colours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.test_formats import caffe, mx_list
from wsss_cli import files
from wsss_cli.errors import ConfigurationError
from wsss_cli.models.backbones import BACKBONES, IMAGENET_MEAN, build_backbone
from wsss_cli.models.base import Backbone, Colours, colours_of
from wsss_cli.models.networks import build_network, colours_to_state, restored
from wsss_cli.models.resnet38 import Unit
from wsss_cli.models.states import CAFFE_COLOURS, described, needed, state_of, under_prefix
from wsss_cli.models.weights import load_pretrained
from wsss_cli.training.session import pretrained


class Small(Backbone):
    """Two layers; the second has a key that ends like one of the first."""

    name = "resnet50"
    channels, strides = (2,), (1,)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 2, 1)
        self.block = nn.Sequential(nn.Conv2d(2, 2, 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.block(self.conv1(images))]


def state(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {key: torch.rand_like(value) for key, value in Small().state_dict().items()}


def loaded(path: Path, content: Any) -> dict[str, Tensor]:
    torch.save(content, path)
    backbone = Small()
    load_pretrained(backbone, str(path))
    return backbone.state_dict()


# ---- wrappers and prefixes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "model.", "encoder.", "resnet50.", "module.encoder_q.", "a.strange.one."],
)
@pytest.mark.parametrize("wrapper", [(), ("state_dict",), ("model",), ("net",), ("model", "net")])
def test_wrappers_and_prefixes_are_taken_off(
    prefix: str, wrapper: tuple[str, ...], tmp_path: Path
) -> None:
    wanted = state()
    content: Any = {prefix + key: value for key, value in wanted.items()}
    content["fc.weight"] = torch.zeros(3)
    for name in wrapper:
        content = {name: content, "epoch": 3}
    torch.testing.assert_close(loaded(tmp_path / "a.pth", content), wanted)


def test_weights_in_a_dict_under_any_name_are_found(tmp_path: Path) -> None:
    wanted = state()
    inner = {f"backbone.{key}": value for key, value in wanted.items()}
    content: dict[str, Any] = {"steps": torch.tensor(3), "teacher": inner, "optimizer": {"lr": 0.1}}
    content["teacher"]["self"] = content
    assert set(state_of(content).tensors) == {
        "steps",
        *(f"teacher.{key}" for key in inner if key != "self"),
    }
    del inner["self"]
    torch.testing.assert_close(loaded(tmp_path / "a.pth", content), wanted)
    content["student"] = {key: value + 1 for key, value in inner.items()}
    with pytest.raises(ConfigurationError, match=r"two sets .* under 'teacher\.backb.* and 'stud"):
        loaded(tmp_path / "a.pth", content)
    content = {"teacher": {"strange": torch.zeros(2, 2)}}
    with pytest.raises(ConfigurationError, match=r"it begins with teacher\.strange; they fit no"):
        loaded(tmp_path / "a.pth", content)


def test_what_holds_itself_or_has_endless_prefixes_is_no_trap() -> None:
    data: dict[str, Any] = state()
    data["model"] = data
    assert list(state_of(data).tensors) == list(state())
    deep = {"a." * 200_000 + "conv1.weight": torch.zeros(2, 3, 1, 1)}
    assert under_prefix(deep, Small().state_dict())[0] == ""


def test_a_prefix_is_only_taken_off_where_that_makes_the_keys_fit() -> None:
    """A part of the network that is called like a prefix keeps its name."""

    class Named(Small):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Conv2d(3, 2, 1)

    own = Named().state_dict()
    assert under_prefix(own, own) == ("", dict(own))
    prefixed = {f"encoder.{key}": value for key, value in own.items()}
    assert under_prefix(prefixed, own) == ("encoder.", dict(own))


def test_of_two_sets_the_usual_one_is_taken(tmp_path: Path) -> None:
    """MoCo stores the encoder twice, as learned and as averaged over the steps."""
    query, key = state(1), state(2)
    content = {f"module.encoder_k.{k}": v for k, v in key.items()}
    content |= {f"module.encoder_q.{k}": v for k, v in query.items()}
    torch.testing.assert_close(loaded(tmp_path / "a.pth", content), query)
    twice = {f"student.{k}": v for k, v in query.items()}
    same = {f"teacher.{k}": v.clone() for k, v in query.items()}
    torch.testing.assert_close(loaded(tmp_path / "a.pth", {**twice, **same}), query)
    other = {f"teacher.{k}": v for k, v in key.items()}
    with pytest.raises(ConfigurationError, match=r"two sets .* under 'student.' and 'teacher.'"):
        loaded(tmp_path / "a.pth", {**twice, **other})


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BACKBONES)
def test_a_refusal_names_the_first_keys_and_the_nearest_backbone(name: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name)
    tensors = {f"net.{key}": value for key, value in backbone.state_dict().items()}
    said = described(tensors)
    keys, count = list(tensors), len(needed(backbone))
    assert said.startswith(f"it begins with {keys[0]}, {keys[1]}, {keys[2]}, …; ")
    nearest, fit, whole = (
        said.rpartition("the nearest backbone is ")[2].split(", of which ")[0],
        *(int(word) for word in said.split() if word.isdigit()),
    )
    twin = BACKBONES[nearest]
    assert (fit, whole) == (count, count)
    assert nearest == name or twin.weights == BACKBONES[name].weights  # a variant with its keys


def test_the_refusal_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path / "a.pth", {"strange": torch.zeros(1), "other": torch.zeros(2)})
    assert str(caught.value) == (
        f"{tmp_path}/a.pth: not weights of resnet50: 4 of 4 tensors are missing (conv1.weight, "
        "conv1.bias, block.0.weight, …); it begins with strange, other; they fit no backbone"
    )
    with pytest.raises(ConfigurationError, match=r"missing .*; it holds no tensors"):
        loaded(tmp_path / "a.pth", {"epoch": 3})


# ---- MXNet's names of ResNet-38 ------------------------------------------------------------------


def published() -> Iterator[tuple[str, str]]:
    """Names in Wu et al.'s file of model A1, by the symbols in their code, and ours."""
    yield "arg:conv1a_weight", "conv1a.weight"
    for level, units in {2: 3, 3: 3, 4: 6, 5: 3, 6: 1, 7: 1}.items():
        for number in range(units):
            theirs = f"{level}a" if number == 0 else f"{level}b{number}"
            ours = f"b{level}" if number == 0 else f"b{level}_{number}"
            for branch in ("2a", "2b1", *(["2b2"] if level > 5 else [])):
                yield from norms(f"bn{theirs}_branch{branch}", f"{ours}.bn_branch{branch}")
                yield (
                    f"arg:res{theirs}_branch{branch}_weight",
                    f"{ours}.conv_branch{branch}.weight",
                )
            if number == 0:
                yield f"arg:res{theirs}_branch1_weight", f"{ours}.conv_branch1.weight"
    yield from norms("bn7", "bn7")


def norms(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    yield f"arg:{theirs}_gamma", f"{ours}.weight"
    yield f"arg:{theirs}_beta", f"{ours}.bias"
    yield f"aux:{theirs}_moving_mean", f"{ours}.running_mean"
    yield f"aux:{theirs}_moving_var", f"{ours}.running_var"


def test_every_tensor_of_resnet38_has_its_name_in_mxnet() -> None:
    with torch.device("meta"):
        own = build_backbone("resnet38").state_dict()
    names = dict(published())
    file = {theirs: own[ours] for theirs, ours in names.items()}
    file |= {"arg:linear1000_weight": torch.zeros(1), "arg:linear1000_bias": torch.zeros(1)}
    found = state_of(file)
    assert found.colours is None  # RGB, divided by ImageNet's deviation, as ours
    assert {key: id(value) for key, value in found.tensors.items() if "linear" not in key} == {
        key: id(value) for key, value in own.items() if not key.endswith("num_batches_tracked")
    }


class Few(Backbone):
    """A few units of ResNet-38, thinner."""

    name = "resnet38"
    channels, strides = (4,), (2,)

    def __init__(self) -> None:
        super().__init__()
        self.conv1a = nn.Conv2d(3, 2, 3, bias=False)
        self.b2, self.b2_1 = Unit(2, 4, 4, stride=2), Unit(4, 4, 4)
        self.bn7 = nn.BatchNorm2d(4)


def test_a_params_file_fills_a_backbone(tmp_path: Path) -> None:
    wanted = {
        key: torch.rand(value.shape)
        for key, value in Few().state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    names = {ours: theirs for theirs, ours in published()}
    arrays = {names[key]: value.numpy() for key, value in wanted.items()}
    for version in range(4):
        path = tmp_path / f"a{version}.params"
        path.write_bytes(mx_list(arrays, version))
        backbone = Few()
        load_pretrained(backbone, str(path))
        torch.testing.assert_close({k: backbone.state_dict()[k] for k in wanted}, wanted)


# ---- Caffe's names of VGG-16 and their colours ---------------------------------------------------


def vgg_in_caffe() -> tuple[dict[str, Tensor], dict[str, tuple[int, ...]]]:
    """Names and shapes of the 13 convolutions, by group, with values that tell them apart."""
    tensors, inputs, number = {}, 3, 0
    for group, (width, depth) in enumerate(((1, 2), (2, 2), (3, 3), (4, 3), (4, 3)), start=1):
        for n in range(1, depth + 1):
            tensors[f"conv{group}_{n}.weight"] = torch.full((width, inputs, 3, 3), float(number))
            tensors[f"conv{group}_{n}.bias"] = torch.full((width,), float(number))
            inputs, number = width, number + 1
    return tensors, {key: tuple(value.shape) for key, value in tensors.items()}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_caffes_convolutions_are_torchvisions_in_order(prefix: str) -> None:
    tensors, _ = vgg_in_caffe()
    found = state_of({prefix + key: value for key, value in tensors.items()})
    assert found.colours == CAFFE_COLOURS
    with torch.device("meta"):
        vgg = build_backbone("vgg16").state_dict()
    ours = [key for key in vgg if key.startswith("features.")]
    assert list(found.tensors) == ours
    assert [found.tensors[key].flatten()[0] for key in ours[::2]] == list(range(13))


def test_fully_connected_layers_of_caffe_are_left_out_and_convolutions_taken() -> None:
    base, _ = vgg_in_caffe()
    matrices = {"fc6.weight": torch.zeros(4, 9), "fc6.bias": torch.zeros(4)}
    assert not any(key.startswith("fc") for key in state_of({**base, **matrices}).tensors)
    bias = {"fc6.bias": torch.zeros(4)}
    assert "fc6.bias" not in state_of({**base, **bias}).tensors
    layers = {"fc6.weight": torch.zeros(4, 1, 3, 3), "fc6.bias": torch.zeros(4)}
    assert layers.items() <= state_of({**base, **layers}).tensors.items()


def test_images_reach_a_caffe_network_as_they_did_in_caffe(tmp_path: Path) -> None:
    """BGR of 0 to 255 minus the mean, not divided: the first layer's output is the same."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in build_backbone("vgg16").state_dict().items()}
    names = [f"conv{g}_{n}" for g in range(1, 6) for n in range(1, 3 + (g > 2))]
    keys = [key for key in shapes if key.startswith("features.") and key.endswith("weight")]
    layers = {
        name: [
            (torch.randn(shapes[key]) * 0.01).numpy(),
            torch.randn(shapes[key][0]).numpy(),
        ]
        for name, key in zip(names, keys, strict=True)
    }
    path = tmp_path / "vgg.caffemodel"
    path.write_bytes(caffe(layers))
    network, config = pretrained("cam", "vgg16", ("a", "b"), weights=str(path), output_stride=None)
    backbone = network.backbone
    pixels = torch.randint(0, 256, (1, 3, 9, 9)).float()
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in backbone.colours)
    ours = backbone.features[0]((pixels / 255 - mean) / std)
    bgr = pixels.flip(1) - torch.tensor([104.008, 116.669, 122.675]).view(1, 3, 1, 1)
    weight, bias = map(torch.from_numpy, layers["conv1_1"])
    torch.testing.assert_close(ours, nn.functional.conv2d(bgr, weight, bias, padding=1))
    # A checkpoint made from it says so, and what starts from that checkpoint does too.
    assert config["mean"] == [122.675 / 255, 116.669 / 255, 104.008 / 255]
    files.save_checkpoint(
        tmp_path / "cam.pt",
        kind="cam",
        backbone="vgg16",
        classes=("a", "b"),
        config=config,
        state_dict=network.state_dict(),
    )
    again = restored(files.load_checkpoint(tmp_path / "cam.pt"))
    assert again.backbone.colours == CAFFE_COLOURS
    other = build_backbone("vgg16")
    load_pretrained(other, str(tmp_path / "cam.pt"))
    assert other.colours == CAFFE_COLOURS


def test_images_reach_deeplabs_resnet_as_they_did_in_caffe(tmp_path: Path) -> None:
    given = state()
    torch.save({f"Scale.{key}": value for key, value in given.items()}, tmp_path / "coco.pth")
    backbone = Small()
    load_pretrained(backbone, str(tmp_path / "coco.pth"))
    pixels = torch.randint(0, 256, (1, 3, 5, 5)).float()
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in backbone.colours)
    bgr = pixels.flip(1) - torch.tensor([104.008, 116.669, 122.675]).view(1, 3, 1, 1)
    torch.testing.assert_close(
        backbone.conv1((pixels / 255 - mean) / std),
        nn.functional.conv2d(bgr, given["conv1.weight"], given["conv1.bias"]),
    )
    torch.testing.assert_close(backbone.block[0].weight.data, given["block.0.weight"])


def test_a_checkpoint_states_its_colours_only_where_they_are_not_the_backbones() -> None:
    backbone = build_backbone("efficientnet-lite0")
    assert colours_to_state(backbone) == {}
    backbone.colours = Colours(IMAGENET_MEAN, (0.5, 0.5, 0.5))
    config = colours_to_state(backbone)
    assert config == {"mean": list(IMAGENET_MEAN), "std": [0.5, 0.5, 0.5]}
    network = build_network("cam", "efficientnet-lite0", ("a",), {"output_stride": 16, **config})
    assert network.backbone.colours == backbone.colours
    assert colours_of({"output_stride": 16}) is None


@pytest.mark.parametrize(
    "config",
    [
        {"mean": [0.5] * 3},
        {"std": [0.5] * 3},
        {"mean": [0.5] * 3, "std": [0.5, 0.5]},
        {"mean": [0.5] * 3, "std": [0.5, 0.5, 0]},
        {"mean": [0.5] * 3, "std": [0.5, -1, 0.5]},
        {"mean": [0.5, float("nan"), 0.5], "std": [0.5] * 3},
        {"mean": ["red"] * 3, "std": [0.5] * 3},
        {"mean": 0.5, "std": 0.5},
    ],
)
def test_colours_that_cannot_be_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="a damaged checkpoint: "):
        build_network("cam", "efficientnet-lite0", ("a",), {"output_stride": 16, **config})
