"""DeepLab with the classification branch of prohibitive segmentation learning (Wei et al. 2017)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from wsss_cli.models.base import Backbone
from wsss_cli.models.deeplab import SegmentationNetwork


class Judged(NamedTuple):
    """Output of a network for N images.

    Attributes:
        logits: shape (N, 1 + C, h, w), background first.
        scores: logits of the classes of the whole image, shape (N, C).
    """

    logits: Tensor
    scores: Tensor


class ProhibitiveNetwork(SegmentationNetwork):
    """DeepLab with a classification branch (AE-PSL: Wei et al. 2017, sec. 3.2).

    The branch is global average pooling of the backbone's last map and one linear layer.
    """

    def __init__(self, backbone: Backbone, num_classes: int, head: str) -> None:
        super().__init__(backbone, num_classes, head)
        self.classify = nn.Linear(backbone.channels[-1], num_classes - 1)
        nn.init.xavier_uniform_(self.classify.weight)
        nn.init.zeros_(self.classify.bias)

    def forward(self, images: Tensor) -> Judged:  # type: ignore[override]
        """Logits of pixels and of images, of normalised images (N, 3, H, W)."""
        maps = self.backbone(images)
        pooled = maps[-1].mean((2, 3))
        # The branch's loss is a sum over C classes. Its whole gradient would outweigh that of the
        # pixels in the backbone; so the backbone gets the mean, and the branch itself the sum.
        share = pooled / self.classify.out_features
        return Judged(self.head(maps), self.classify(share + (pooled - share).detach()))
