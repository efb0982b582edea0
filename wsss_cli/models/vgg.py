"""VGG-16 (Simonyan & Zisserman 2015) as DeepLab-LargeFOV (Chen et al. 2015) and its users have it.

The 13 convolutions have torchvision's keys (``features.0`` … ``features.28``). The last two pooling
layers keep the size and the fifth group of convolutions is dilated by 2, which gives stride 8. fc6
is a 3×3 convolution and fc7 a 1×1 convolution, each followed by ReLU and dropout. What lies between
the thirteenth convolution and fc6 differs, and so does the dilation of fc6; the keys do not.
"""

from __future__ import annotations

from torch import Tensor, nn

from wsss_cli.models.base import Backbone

_GROUPS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class VGG16(Backbone):
    """Levels: conv2 after pooling (stride 4), then conv4, conv5 and fc7, which AffinityNet joins.

    Below them is conv1 after pooling.

    torchvision's fully connected layers are of another shape, so fc6 and fc7 begin at random (He et
    al. 2015) unless the weights hold them, as DeepLab's do.

    Args:
        output_stride: 8.
        pool5: how many of DeepLab's two 3×3 poolings lie before fc6: 0, 1 (the maximum, pool5) or 2
            (then the mean, pool5a).
        dilation: of fc6.
    """

    channels = (128, 512, 512, 1024)
    strides = (4, 8, 8, 8)
    early = (64, 2)
    new_layers = ("fc6", "fc7")

    def __init__(self, output_stride: int, *, pool5: int = 1, dilation: int = 12) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        stages: dict[str, tuple[str, ...]] = {}
        self._ends: list[int] = []
        inputs = 3
        for number, (width, depth) in enumerate(_GROUPS):
            dilated = 2 if number == 4 else 1
            stages[f"conv{number + 1}"] = tuple(
                f"features.{len(layers) + 2 * place}" for place in range(depth)
            )
            for _ in range(depth):
                layers += [
                    nn.Conv2d(inputs, width, 3, padding=dilated, dilation=dilated),
                    nn.ReLU(inplace=True),
                ]
                inputs = width
            if number >= 3:
                self._ends.append(len(layers) - 1)
            if number < 4 or pool5:
                layers.append(nn.MaxPool2d(3, 2 if number < 3 else 1, padding=1))
            if number <= 1:
                self._ends.append(len(layers) - 1)
        self.stages = {**stages, "fc6": ("fc6",), "fc7": ("fc7",)}
        self.features = nn.Sequential(*layers)
        # Zeros beyond the border count in the mean, as in Caffe.
        self.pool5a = nn.AvgPool2d(3, 1, padding=1) if pool5 == 2 else nn.Identity()
        self.fc6 = nn.Conv2d(512, 1024, 3, padding=dilation, dilation=dilation)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        self.drop6, self.drop7 = nn.Dropout2d(0.5), nn.Dropout2d(0.5)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def levels(self, images: Tensor) -> list[Tensor]:
        x = images
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._ends:
                maps.append(x)
        x = self.drop6(self.fc6(self.pool5a(x)).relu())
        return [*maps, self.drop7(self.fc7(x).relu())]


def largefov(output_stride: int) -> VGG16:
    """DeepLab-LargeFOV (Chen et al. 2015, sec. 4.1): pool5, pool5a, fc6 of dilation 12."""
    return VGG16(output_stride, pool5=2)


def psa(output_stride: int) -> VGG16:
    """VGG-16 of the public code of Ahn & Kwak 2018: no pooling before fc6, which is not dilated."""
    return VGG16(output_stride, pool5=0, dilation=1)


def psa_affinity(output_stride: int) -> VGG16:
    """The same in AffinityNet, where fc6 has dilation 4 and fc7 is not followed by dropout."""
    backbone = VGG16(output_stride, pool5=0, dilation=4)
    backbone.drop7.p = 0
    return backbone
