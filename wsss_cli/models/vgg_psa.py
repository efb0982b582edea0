"""VGG-16 as the public code of AffinityNet (Ahn & Kwak 2018) uses it."""

from __future__ import annotations

from torch import Tensor

from wsss_cli.models.vgg import VGG16LargeFOV

_TAPS = (9, 22, 29)  # of ``features``: conv2 after pooling, conv4_3 and conv5_3 after ReLU


class VGG16Psa(VGG16LargeFOV):
    """VGG-16 whose fc6 sees conv5 without pooling between them, and is hardly dilated.

    Keys and levels are those of VGG16LargeFOV, in which fc6 has dilation 12 after pooling.

    Args:
        output_stride: 8.
        dilation: of fc6; 1 in the classifier, 4 in AffinityNet.
    """

    def __init__(self, output_stride: int, *, dilation: int = 1) -> None:
        super().__init__(output_stride)
        self.fc6.dilation = self.fc6.padding = (dilation, dilation)

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = images, []
        for index in range(_TAPS[-1] + 1):
            x = self.features[index](x)
            if index in _TAPS:
                maps.append(x)
        x = self.dropout(self.fc6(x).relu())
        return [*maps, self.dropout(self.fc7(x).relu())]


def affinity_vgg16(output_stride: int) -> VGG16Psa:
    """The VGG-16 under AffinityNet."""
    return VGG16Psa(output_stride, dilation=4)
