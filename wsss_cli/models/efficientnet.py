"""EfficientNet-Lite0, 1, 2: EfficientNet-B0, B1, B2 without squeeze-and-excitation, with ReLU6.

Keys are those of the published PyTorch conversion (``_conv_stem``, ``_blocks.0._depthwise_conv``).

The weights were trained with TensorFlow's "same" padding: one pixel less at the top and the left
where a convolution strides over an even size. At sizes of 32 k + 1 that is the symmetric padding
used here; at 224 both paddings of Lite0 classify equally well (63 of 80 VOC photographs of one
animal are right, mean probability 0.53 against 0.57).
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.functional import relu6

from wsss_cli.models.base import Backbone
from wsss_cli.models.batchnorm import conv_bn

# expansion, kernel, stride, channels, repeats (Tan & Le 2019, table 1)
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_LEVEL_STAGES = (0, 1, 2, 4)  # the last stages at strides 2, 4, 8 and 16
_EPS = 1e-3  # of the TensorFlow original


class Block(nn.Module):
    """Inverted residual: expand 1×1, depthwise k×k, project 1×1."""

    def __init__(
        self, inputs: int, outputs: int, *, expansion: int, kernel: int, stride: int, dilation: int
    ) -> None:
        super().__init__()
        inner = inputs * expansion
        if expansion > 1:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, eps=_EPS)
        self._depthwise_conv = nn.Conv2d(
            inner,
            inner,
            kernel,
            stride,
            padding=kernel // 2 * dilation,
            dilation=dilation,
            groups=inner,
            bias=False,
        )
        self._bn1 = nn.BatchNorm2d(inner, eps=_EPS)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=_EPS)
        self.expands = expansion > 1
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.expands:
            y = relu6(conv_bn(y, self._expand_conv, self._bn0), inplace=True)
        y = relu6(conv_bn(y, self._depthwise_conv, self._bn1), inplace=True)
        y = conv_bn(y, self._project_conv, self._bn2)
        return x + y if self.residual else y


def scaled_stages(width: float, depth: float) -> tuple[tuple[int, int, int, int, int], ...]:
    """The stages of a larger network by compound scaling (Tan & Le 2019, sec. 3.3 and eq. 3).

    Args:
        width: factor of the channels, which are rounded to the nearest multiple of 8.
        depth: factor of the repeats, which are rounded up. Those of the first and the last stage
            are not scaled in the Lite networks.

    Returns:
        Expansion, kernel, stride, channels and repeats of each stage.
    """
    last = len(_STAGES) - 1
    return tuple(
        (
            expansion,
            kernel,
            stride,
            _rounded(channels * width),
            repeats if stage in (0, last) else math.ceil(repeats * depth),
        )
        for stage, (expansion, kernel, stride, channels, repeats) in enumerate(_STAGES)
    )


def _rounded(channels: float) -> int:
    # As the original does, which never rounds by more than a tenth down.
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def lite0(output_stride: int) -> EfficientNetLite:
    """EfficientNet-Lite0."""
    return EfficientNetLite(1.0, 1.0, output_stride)


def lite1(output_stride: int) -> EfficientNetLite:
    """EfficientNet-Lite1: deeper than Lite0."""
    return EfficientNetLite(1.0, 1.1, output_stride)


def lite2(output_stride: int) -> EfficientNetLite:
    """EfficientNet-Lite2: as deep as Lite1, and wider."""
    return EfficientNetLite(1.1, 1.2, output_stride)


class EfficientNetLite(Backbone):
    """The feature extractor, its 1×1 head convolution included.

    Stem (32 channels) and head (1280) are the same in all Lite networks. Strides beyond
    ``output_stride`` (8, 16 or 32) are replaced by dilation.

    Args:
        width, depth: factors of the stages' channels and repeats, see :func:`scaled_stages`.
        output_stride: stride of the last map.
    """

    def __init__(self, width: float, depth: float, output_stride: int) -> None:
        super().__init__()
        rows = scaled_stages(width, depth)
        early, *later = (rows[stage][3] for stage in _LEVEL_STAGES)
        self.early, self.channels = (early, 2), (*later, 1280)
        self.strides = (4, 8, min(16, output_stride), output_stride)
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, padding=1, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=_EPS)
        blocks: list[nn.Module] = []
        self.stages = {"stem": ("_conv_stem", "_bn0")}
        self._ends: list[int] = []  # index of the last block of each level
        inputs, reached, dilation = 32, 2, 1
        for stage, (expansion, kernel, stride, outputs, repeats) in enumerate(rows):
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                here = dilation
                if step > 1 and reached >= output_stride:
                    # The block that no longer strides still sees its input undilated.
                    dilation, step = dilation * step, 1
                reached *= step
                blocks.append(
                    Block(
                        inputs,
                        outputs,
                        expansion=expansion,
                        kernel=kernel,
                        stride=step,
                        dilation=here,
                    )
                )
                inputs = outputs
            first = len(blocks) - repeats
            self.stages[f"stage{stage + 1}"] = tuple(
                f"_blocks.{place}" for place in range(first, len(blocks))
            )
            if stage in _LEVEL_STAGES:
                self._ends.append(len(blocks) - 1)
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(inputs, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=_EPS)
        self.stages["head"] = ("_conv_head", "_bn1")

    def levels(self, images: Tensor) -> list[Tensor]:
        x = relu6(conv_bn(images, self._conv_stem, self._bn0), inplace=True)
        maps = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self._ends:
                maps.append(x)
        return [*maps, relu6(conv_bn(x, self._conv_head, self._bn1), inplace=True)]
