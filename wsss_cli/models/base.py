"""What every backbone offers."""

from __future__ import annotations

from torch import Tensor, nn


class Backbone(nn.Module):
    """Turns normalised images (N, 3, H, W) into feature maps, low level to high.

    Attributes:
        name: as in ``wsss_cli.models.backbones.BACKBONES``.
        channels, strides: of each feature map.
        mean, std: statistics that RGB in [0, 1] is normalised with.
        new_layers: prefixes of the keys that ImageNet weights do not hold.
    """

    name: str
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    new_layers: tuple[str, ...] = ()

    def forward(self, images: Tensor) -> list[Tensor]:
        """One map a level, shape (N, channels[l], ceil(H / strides[l]), ceil(W / strides[l])).

        Padding is symmetric everywhere, so cell (i, j) of a map is centred on pixel
        (strides[l] i, strides[l] j), not on the middle of a square of that side.
        """
        raise NotImplementedError
