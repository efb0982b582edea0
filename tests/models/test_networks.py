"""Networks and heads on every backbone; what learns, what is frozen, what a checkpoint rebuilds."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from wsss_cli import files
from wsss_cli.errors import ConfigurationError
from wsss_cli.methods.affinity import pairwise_affinity
from wsss_cli.models.affinity import AffinityNetwork
from wsss_cli.models.backbones import BACKBONES, build_backbone
from wsss_cli.models.base import Network
from wsss_cli.models.batchnorm import freeze_batchnorm
from wsss_cli.models.cam import CamNetwork
from wsss_cli.models.deeplab import ASPP, HEADS, DeepLabV3Plus, LargeFOV, SegmentationNetwork
from wsss_cli.models.networks import build_network
from wsss_cli.models.sipe import SipeNetwork

# Every backbone at its default stride, one at all of them.
EVERY = [(name, spec.output_strides[0]) for name, spec in BACKBONES.items()]
EVERY += [("efficientnet-lite0", 8), ("efficientnet-lite0", 32)]
CLASSES = ("cat", "dog", "cow")
KINDS = [
    ("cam", None),
    ("eps", None),
    ("affinity", None),
    *(("segmentation", head) for head in HEADS),
]


def build(
    kind: str, head: str | None = None, name: str = "efficientnet-lite0", stride: int = 16
) -> Network:
    network: Network = build_network(kind, name, CLASSES, {"output_stride": stride, "head": head})
    return network


def images(count: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_the_branch_of_a_prohibitive_network() -> None:
    torch.manual_seed(0)
    config = {"output_stride": 16, "head": "aspp", "psl": True}
    network = build_network("segmentation", "efficientnet-lite0", CLASSES, config).eval()
    plain = build_network("segmentation", "efficientnet-lite0", CLASSES, {**config, "psl": False})
    branch = {"classify.weight", "classify.bias"}
    assert set(network.state_dict()) - set(plain.state_dict()) == branch
    weights = {key: value for key, value in network.state_dict().items() if key not in branch}
    plain.eval().load_state_dict(weights)
    image = images(2, 50, 71)
    with torch.inference_mode():
        logits, scores = network(image)
        assert torch.equal(logits, plain(image))
        assert scores.shape == (2, 3)
        pooled = network.backbone(image)[-1].mean((2, 3))
        torch.testing.assert_close(scores, pooled @ network.classify.weight.T)  # no bias yet
    new = network.parameter_groups()["new"]
    assert any(value is network.classify.weight for value in new)


def test_the_branch_teaches_the_backbone_with_the_mean_over_the_classes() -> None:
    config = {"output_stride": 16, "head": "aspp", "psl": True}
    network = build_network("segmentation", "efficientnet-lite0", CLASSES, config).eval()
    image = images(2, 50, 71)
    last = next(reversed(list(network.backbone.parameters())))
    own = network.classify.weight
    found = torch.autograd.grad(network(image).scores.sum(), [last, own])
    whole = network.classify(network.backbone(image)[-1].mean((2, 3)))
    expected = torch.autograd.grad(whole.sum(), [last, own])
    torch.testing.assert_close(found[0], expected[0] / len(CLASSES))
    torch.testing.assert_close(found[1], expected[1])


# ---- every network on every backbone -------------------------------------------------------------


@pytest.mark.parametrize(("name", "stride"), EVERY)
@pytest.mark.parametrize(("kind", "head"), KINDS)
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
    assert expected == own | ({"backbone.fc6", "backbone.fc7"} if name == "vgg16" else set())


def test_maps_averaged_are_the_scores_of_averaged_features() -> None:
    torch.manual_seed(0)
    network = CamNetwork(build_backbone("efficientnet-lite0"), 3).eval()
    assert network.classify.bias is None
    image = images(2, 65, 50)
    with torch.inference_mode():
        maps = network(image)
        pooled = network.backbone(image)[-1].mean((2, 3))
        expected = pooled @ network.classify.weight[:, :, 0, 0].T
    assert network.scores(maps).shape == (2, 3)
    torch.testing.assert_close(network.scores(maps), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "stride"), EVERY)
def test_hierarchical_features_of_every_backbone(name: str, stride: int) -> None:
    with torch.device("meta"):
        network = build("sipe", None, name, stride)
        found = network.train()(torch.empty(2, 3, 50, 71))
    assert found.maps.shape == (2, 3, -(-50 // stride), -(-71 // stride))
    assert found.features.shape[1] == network.backbone.channels[-1]
    assert found.features.shape[2:] == found.maps.shape[2:]
    assert found.hierarchical.shape == (2, 768, 7, 9)
    assert network.stride == stride
    (found.maps.sum() + found.hierarchical.sum()).backward()
    assert [key for key, value in network.named_parameters() if value.grad is None] == []
    new = network.parameter_groups()["new"]
    assert sum(value is layer.weight for value in new for layer in network.side) == 4


def test_hierarchical_features_are_levels_of_unit_length_at_stride_8() -> None:
    torch.manual_seed(0)
    network = SipeNetwork(build_backbone("efficientnet-lite0"), 3).eval()
    image = images(1, 65, 50).requires_grad_()
    found = network(image)
    levels = network.backbone(image)
    starts = [0, 128, 256, 512, 768]
    parts = [found.hierarchical[:, a:b] for a, b in pairwise(starts)]
    for part, level, layer, stride in zip(
        parts, levels, network.side, network.backbone.strides, strict=True
    ):
        for y, x in ((0, 0), (4, 2), (8, 6)):  # pixel (8 y, 8 x), where all strides have a cell
            cell = layer(level)[:, :, 8 * y // stride, 8 * x // stride]
            torch.testing.assert_close(part[:, :, y, x], nn.functional.normalize(cell))
    torch.testing.assert_close(found.maps, network.classify(levels[-1]))
    assert torch.equal(found.features, levels[-1])
    # They learn without changing the backbone.
    found.hierarchical.square().mean().backward()
    assert all(value.grad is None for value in network.backbone.parameters())


def test_scores_of_the_cells_inside() -> None:
    network = SipeNetwork(build_backbone("efficientnet-lite0"), 2)
    maps = torch.tensor([[[[1.0, 3.0, 99.0]], [[-1.0, 0.0, 99.0]]]])
    inside = torch.tensor([[[[True, True, False]]]])
    assert network.scores(maps, inside).tolist() == [[2.0, -0.5]]
    assert network.scores(maps, ~inside).tolist() == [[99.0, 99.0]]
    assert network.scores(maps, inside & False).tolist() == [[0.0, 0.0]]


def test_affinity_features_come_from_three_levels() -> None:
    """64, 128 and 256 channels, as on the ResNet-38 of the paper: 512, 1024 and 4096 in."""
    with torch.device("meta"):
        network = AffinityNetwork(build_backbone("resnet38"))
    assert [tuple(layer.weight.shape) for layer in network.reduce] == [
        (64, 512, 1, 1),
        (128, 1024, 1, 1),
        (256, 4096, 1, 1),
    ]
    assert tuple(network.join.weight.shape) == (448, 448, 1, 1)


def test_affinities_begin_undecided() -> None:
    """Neither all alike nor all apart, where nothing would be learned."""
    torch.manual_seed(0)
    network = build("affinity")
    levels = [torch.randn(1, c, 12, 12).relu() for c in network.backbone.channels]
    network.backbone.forward = lambda images: levels
    affinity = pairwise_affinity(network(torch.empty(0)))
    assert 0.5 < affinity[affinity > 0].mean() < 0.9


def test_affinity_on_vgg16_joins_conv4_conv5_and_fc7() -> None:
    """The upper three levels, before their pooling, as in the public code of the paper."""
    backbone = build_backbone("vgg16").eval()
    with torch.device("meta"):
        network = AffinityNetwork(build_backbone("vgg16"))
    assert [layer.in_channels for layer in network.reduce] == [512, 512, 1024]
    image = images(1, 33, 41)
    with torch.inference_mode():
        maps = backbone(image)
        conv4 = backbone.features[:23](image)  # to the third ReLU of the fourth group
        conv5 = backbone.features[:30](image)
    assert torch.equal(maps[1], conv4)
    assert torch.equal(maps[2], conv5)


@pytest.mark.parametrize(
    ("stride", "fov", "aspp", "plus"),
    [
        (8, 12, [6, 12, 18, 24], [12, 24, 36]),
        (16, 6, [3, 6, 9, 12], [6, 12, 18]),
        (32, 3, [1, 3, 4, 6], [3, 6, 9]),
    ],
)
def test_heads_see_the_same_field_at_every_stride(
    stride: int, fov: int, aspp: list[int], plus: list[int]
) -> None:
    def dilations(module: nn.Module) -> list[int]:
        layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
        return [layer.dilation[0] for layer in layers if layer.kernel_size == (3, 3)]

    channels, strides = (4, 8, 8, 16), (4, 8, min(16, stride), stride)
    assert dilations(LargeFOV(channels, strides, 2)) == [fov]
    assert dilations(ASPP(channels, strides, 2)) == aspp
    assert dilations(DeepLabV3Plus(channels, strides, 2).branches) == plus


@pytest.mark.parametrize(("kind", "head"), KINDS)
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


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_deeplabv3plus_takes_a_single_small_image(stride: int) -> None:
    network = build("segmentation", "deeplabv3plus", stride=stride)
    assert network.eval()(images(1, 33, 33)).isfinite().all()
    assert network.train()(images(1, 33, 33)).isfinite().all()


# ---- frozen batch normalisation ------------------------------------------------------------------


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_frozen_layers_stay_through_training() -> None:
    network = build("segmentation", "deeplabv3plus")
    freeze_batchnorm(network.backbone)
    network.train()
    before = [layer.running_mean.clone() for layer in norms(network.backbone)]
    network(images(2, 40, 40)).square().mean().backward()
    assert not any(layer.training for layer in norms(network.backbone))
    for layer, mean in zip(norms(network.backbone), before, strict=True):
        assert torch.equal(layer.running_mean, mean)
        assert layer.weight.grad is None
        assert not layer.weight.requires_grad
        assert not layer.bias.requires_grad
    assert all(layer.training and layer.weight.requires_grad for layer in norms(network.head))
    assert any(layer.running_mean.abs().sum() > 0 for layer in norms(network.head))
    network.eval()
    assert not any(layer.training for layer in network.modules())


def test_scale_and_shift_may_go_on_learning() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    freeze_batchnorm(network, affine=False)
    network.train()(images(2, 4, 4) + 5).sum().backward()
    assert torch.equal(network[1].running_mean, torch.zeros(4))
    assert network[1].bias.grad is not None


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_copies_are_frozen_too(duplicate: object) -> None:
    network = nn.Sequential(nn.BatchNorm2d(4))
    freeze_batchnorm(network)
    twin = duplicate(network)  # type: ignore[operator]
    assert twin.train()[0].train() is twin[0]
    assert not twin[0].training
    assert twin[0] is not network[0]


# ---- from a checkpoint ---------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "head"), KINDS)
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


def test_affinity_starts_from_the_backbone_of_a_cam_network() -> None:
    cam, affinity = build("cam"), build("affinity")
    affinity.backbone.load_state_dict(cam.backbone.state_dict())
    with torch.inference_mode():
        given = images(1, 40, 40)
        expected = cam.eval().backbone(given)
        torch.testing.assert_close(affinity.eval().backbone(given), expected)


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("depth", {}, "no network of kind 'depth'"),
        ("segmentation", {"head": "fcn"}, "no head 'fcn'; there are largefov, aspp, deeplabv3plus"),
        ("segmentation", {}, "no head 'None'"),
        ("cam", {"output_stride": 4}, "no output stride 4; it offers 8, 16, 32"),
        ("cam", {"output_stride": "8"}, "no output stride 8"),
    ],
)
def test_what_cannot_be_built_is_said(kind: str, config: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said), torch.device("meta"):
        build_network(kind, "efficientnet-lite0", CLASSES, config)


def test_segmentation_has_one_class_more() -> None:
    with torch.device("meta"):
        network = SegmentationNetwork(build_backbone("vgg16"), 21, "largefov")
    assert network.head.classify.out_channels == 21
