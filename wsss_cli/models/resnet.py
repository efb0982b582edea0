"""ResNet-50 and ResNet-101 (He et al. 2016) with the keys and the strides of torchvision."""

from __future__ import annotations

from torch import Tensor, nn

from wsss_cli.models.base import Backbone
from wsss_cli.models.batchnorm import conv_bn


class Bottleneck(nn.Module):
    """1×1, 3×3 (which carries the stride), 1×1."""

    expansion = 4

    def __init__(
        self, inputs: int, planes: int, *, stride: int, dilation: int, downsample: bool
    ) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
            if downsample
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = conv_bn(x, self.conv1, self.bn1).relu()
        y = conv_bn(y, self.conv2, self.bn2).relu()
        y = conv_bn(y, self.conv3, self.bn3)
        if self.downsample is not None:
            conv, bn = self.downsample[0], self.downsample[1]
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(bn, nn.BatchNorm2d)
            x = conv_bn(x, conv, bn)
        return (x + y).relu()


class ResNet(Backbone):
    """A bottleneck ResNet without its classifier; levels are layer1 to layer4.

    Below them is the pooling after the first convolution.

    Args:
        depths: blocks in each of the four layers.
        output_stride: 8, 16 or 32; strides beyond are replaced by dilation, as torchvision's
            ``replace_stride_with_dilation`` does.
        dilated: False leaves out the dilation: the layers then see less of the image than those
            that the weights were trained for.
    """

    channels = (256, 512, 1024, 2048)
    early = (64, 4)
    stages = {  # noqa: RUF012
        "conv1": ("conv1", "bn1"),
        **{f"layer{number}": (f"layer{number}",) for number in range(1, 5)},
    }

    def __init__(
        self, depths: tuple[int, int, int, int], output_stride: int, *, dilated: bool = True
    ) -> None:
        super().__init__()
        self.strides = (4, 8, min(16, output_stride), output_stride)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        inputs, reached, dilation = 64, 4, 1
        for number, depth in enumerate(depths, start=1):
            planes, stride = 32 * 2**number, 1 if number == 1 else 2
            first = dilation
            if reached * stride > output_stride:
                dilation, stride = dilation * stride if dilated else 1, 1
            reached *= stride
            blocks = []
            for index in range(depth):
                blocks.append(
                    Bottleneck(
                        inputs,
                        planes,
                        stride=stride if index == 0 else 1,
                        dilation=first if index == 0 else dilation,
                        downsample=index == 0,
                    )
                )
                inputs = planes * Bottleneck.expansion
            setattr(self, f"layer{number}", nn.Sequential(*blocks))

    def levels(self, images: Tensor) -> list[Tensor]:
        x = self.maxpool(conv_bn(images, self.conv1, self.bn1).relu())
        maps = [x]
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
            maps.append(x)
        return maps


def resnet50(output_stride: int) -> ResNet:
    """ResNet-50."""
    return ResNet((3, 4, 6, 3), output_stride)


def resnet50_undilated(output_stride: int) -> ResNet:
    """ResNet-50 of IRNet (Ahn et al. 2019) and SIPE (Chen et al. 2022), by their public code.

    The last stage keeps stride 16 and is not dilated. Its keys are those of ResNet-50.
    """
    return ResNet((3, 4, 6, 3), output_stride, dilated=False)


def resnet101(output_stride: int) -> ResNet:
    """ResNet-101."""
    return ResNet((3, 4, 23, 3), output_stride)
