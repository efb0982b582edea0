"""What each head computes and how far it sees. Shapes on every backbone: test_networks.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.models.conftest import build, images
from wsss_cli.errors import ConfigurationError
from wsss_cli.methods.grids import on_image
from wsss_cli.models.backbones import build_backbone
from wsss_cli.models.batchnorm import freeze_batchnorm
from wsss_cli.models.deeplab import (
    ASPP,
    HEADS,
    Classifier,
    DeepLabV3Plus,
    LargeFOV,
    SegmentationNetwork,
    TwoConv,
    build_head,
)

CHANNELS, STRIDES = (4, 6, 8, 10), (4, 8, 16, 16)


def maps(size: int = 31) -> list[Tensor]:
    """Maps of a backbone, low level to high."""
    generator = torch.Generator().manual_seed(0)
    sides = (4 * size - 3, 2 * size - 1, size, size)
    return [
        torch.randn(1, channels, side, side, generator=generator)
        for channels, side in zip(CHANNELS, sides, strict=True)
    ]


def reached(head: torch.nn.Module, given: list[Tensor]) -> list[int]:
    """Rows of the output, in the middle column, that the middle cell of the highest map reaches."""
    middle = given[-1].shape[2] // 2
    changed = [*given[:-1], given[-1].clone()]
    changed[-1][:, :, middle, middle] += 10
    with torch.inference_mode():
        moved = (head(changed) - head(given)).abs().amax(1)[0]
    column = moved[:, moved.shape[1] // 2]
    return (column > 1e-6).nonzero().flatten().tolist()


def test_aspp_sums_classifiers_at_four_dilations() -> None:
    torch.manual_seed(0)
    head = ASPP(CHANNELS, STRIDES, 3).eval()
    given = maps()
    expected = torch.zeros(1, 3, 31, 31)
    for branch, rate in zip(head.branches, (3, 6, 9, 12), strict=True):
        expected += functional.conv2d(
            given[-1], branch.weight, branch.bias, padding=rate, dilation=rate
        )
    torch.testing.assert_close(head(given), expected)
    assert reached(head, given) == [3, 6, 9, 12, 15, 18, 21, 24, 27]


def test_aspp_begins_small_and_without_a_favourite() -> None:
    head = ASPP(CHANNELS, STRIDES, 3)
    for branch in head.branches:
        assert not branch.bias.any()
        assert branch.weight.std() < 0.02


def test_largefov_sees_one_ring() -> None:
    torch.manual_seed(0)
    head = LargeFOV(CHANNELS, STRIDES, 3).eval()
    assert reached(head, maps()) == [9, 15, 21]
    given = maps()
    x = functional.conv2d(
        given[-1], head.conv6.weight, head.conv6.bias, padding=6, dilation=6
    ).relu()
    x = functional.conv2d(x, head.conv7.weight, head.conv7.bias).relu()
    x = functional.conv2d(x, head.classify.weight, head.classify.bias)
    torch.testing.assert_close(head(given), x)


def test_the_classifier_sees_one_cell_and_is_all_that_is_new() -> None:
    torch.manual_seed(0)
    head = Classifier(CHANNELS, STRIDES, 3)
    given = maps()
    assert reached(head, given) == [15]
    expected = functional.conv2d(given[-1], head.classify.weight, head.classify.bias)
    torch.testing.assert_close(head(given), expected)
    with torch.device("meta"):
        network = build("segmentation", "classifier", "vgg16-largefov", 8)
    convolutions = [
        (layer.kernel_size[0], layer.dilation[0], layer.out_channels)
        for layer in network.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    # conv5_3, then fc6, fc7 and fc8 of LargeFOV once each.
    assert convolutions[-4:] == [(3, 2, 512), (3, 12, 1024), (1, 1, 1024), (1, 1, 4)]


def test_two_conv_are_two_dilated_convolutions() -> None:
    torch.manual_seed(0)
    head = TwoConv(CHANNELS, (4, 8, 8, 8), 3)
    given = maps(63)
    assert reached(head, given) == [7, 19, 31, 43, 55]
    x = functional.conv2d(given[-1], head.conv.weight, head.conv.bias, padding=12, dilation=12)
    x = functional.conv2d(
        x.relu(), head.classify.weight, head.classify.bias, padding=12, dilation=12
    )
    assert head.conv.out_channels == 512
    torch.testing.assert_close(head(given), x)


# ---- multi-scale inputs --------------------------------------------------------------------------


def test_multi_scale_inputs_are_runs_on_resized_images_and_their_maximum() -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(build_backbone("efficientnet-lite0"), 4, "aspp", (0.5, 2))
    plain = SegmentationNetwork(network.backbone, 4, "aspp")
    plain.head = network.head
    given = images(2, 97, 130)
    freeze_batchnorm(network)  # so that training computes the same
    with torch.inference_mode():
        plain.eval()
        whole = plain(given)
        size = (97, 130)
        expected = [whole]
        for seen in ((48, 65), (194, 260)):
            resized = functional.interpolate(given, seen, mode="bilinear", align_corners=False)
            # Laid onto the pixels first, then read at those that the cells at scale 1 look at.
            pixels = on_image(plain(resized), size, seen, 16)
            expected.append(pixels[:, :, ::16, ::16])
        fused = torch.stack(expected).amax(0)
        found = network.train()(given)
        assert found.shape == (2, 4, 4, 7, 9)
        torch.testing.assert_close(found, torch.stack([*expected, fused], 1))
        torch.testing.assert_close(network.eval()(given), fused)


def test_multi_scale_inputs_of_a_small_image_stay_large_enough() -> None:
    network = SegmentationNetwork(build_backbone("efficientnet-lite0"), 4, "aspp", (0.5,)).eval()
    assert network(images(1, 33, 40)).isfinite().all()


def test_deeplabv3plus_sees_all_of_the_image_and_the_low_level() -> None:
    torch.manual_seed(0)
    head = DeepLabV3Plus(CHANNELS, STRIDES, 3).eval()
    given = maps(9)
    with torch.inference_mode():
        before = head(given)
        high = [*given[:-1], given[-1] + torch.eye(9) * 5]
        assert ((head(high) - before).abs().amax(1) > 0).all()  # image pooling
        low = [given[0].clone(), *given[1:]]
        low[0][:, :, 10, 10] += 5
        rows = ((head(low) - before).abs().amax((0, 1)) > 0).any(1).nonzero().flatten().tolist()
        middle = [given[0], given[1] + 5, given[2] + 5, given[3]]
        assert torch.equal(head(middle), before)  # levels between are not used
    assert before.shape == (1, 3, 33, 33)
    assert rows == [8, 9, 10, 11, 12]  # two 3×3 convolutions around row 10


@pytest.mark.parametrize("name", HEADS)
def test_dropout_only_in_training(name: str) -> None:
    torch.manual_seed(0)
    head = build_head(name, CHANNELS, STRIDES, 3)
    given = [each.repeat(2, 1, 1, 1) for each in maps(9)]
    with torch.inference_mode():
        assert torch.equal(head.eval()(given), head(given))
        differs = not torch.equal(head.train()(given), head(given))
    assert differs == (name in ("largefov", "deeplabv3plus"))


def test_an_unknown_head_lists_what_there_is() -> None:
    with pytest.raises(ConfigurationError, match="no head 'fcn'; there are classifier, two-conv"):
        build_head("fcn", CHANNELS, STRIDES, 3)


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


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_deeplabv3plus_takes_a_single_small_image(stride: int) -> None:
    network = build("segmentation", "deeplabv3plus", stride=stride)
    assert network.eval()(images(1, 33, 33)).isfinite().all()
    assert network.train()(images(1, 33, 33)).isfinite().all()


def test_segmentation_has_one_class_more() -> None:
    with torch.device("meta"):
        network = SegmentationNetwork(build_backbone("vgg16"), 21, "largefov")
    assert network.head.classify.out_channels == 21
