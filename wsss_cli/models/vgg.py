"""VGG-16 (Simonyan & Zisserman 2015) as DeepLab-LargeFOV (Chen et al. 2015) uses it.

The 13 convolutions have torchvision's keys (``features.0`` … ``features.28``). The last two pooling
layers keep the size and the fifth group of convolutions is dilated by 2, which gives stride 8.
"""

from __future__ import annotations

from torch import Tensor, nn

from wsss_cli.models.base import Backbone

_GROUPS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class VGG16LargeFOV(Backbone):
    """Levels: conv2 after pooling (stride 4), then conv4, conv5 and fc7, which AffinityNet joins.

    fc6 is a 3×3 convolution with dilation 12, fc7 a 1×1 convolution. torchvision's fully connected
    layers are of another shape, so both begin at random (He et al. 2015) unless the weights hold
    them.
    """

    channels = (128, 512, 512, 1024)
    strides = (4, 8, 8, 8)
    new_layers = ("fc6", "fc7")

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self._levels: list[int] = []
        inputs = 3
        for number, (width, depth) in enumerate(_GROUPS):
            dilation = 2 if number == 4 else 1
            for _ in range(depth):
                layers += [
                    nn.Conv2d(inputs, width, 3, padding=dilation, dilation=dilation),
                    nn.ReLU(inplace=True),
                ]
                inputs = width
            if number >= 3:
                self._levels.append(len(layers) - 1)
            layers.append(nn.MaxPool2d(3, 2 if number < 3 else 1, padding=1))
            if number == 1:
                self._levels.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        self.fc6 = nn.Conv2d(512, 1024, 3, padding=12, dilation=12)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        self.dropout = nn.Dropout2d(0.5)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = images
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._levels:
                maps.append(x)
        x = self.dropout(self.fc6(x).relu())
        return [*maps, self.dropout(self.fc7(x).relu())]
