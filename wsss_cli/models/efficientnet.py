"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6.

Keys are those of the published PyTorch conversion (``_conv_stem``, ``_blocks.0._depthwise_conv``).

The weights were trained with TensorFlow's "same" padding: one pixel less at the top and the left
where a convolution strides over an even size. At sizes of 32 k + 1 that is the symmetric padding
used here; at 224 both paddings classify equally well (63 of 80 VOC photographs of one animal are
right, mean probability 0.53 against 0.57).
"""

from __future__ import annotations

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
_LEVEL_STAGES = (1, 2, 4)  # the last stages at strides 4, 8 and 16
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


class EfficientNetLite0(Backbone):
    """The feature extractor, its 1×1 head convolution (1280 channels) included.

    Strides beyond ``output_stride`` (8, 16 or 32) are replaced by dilation.
    """

    channels = (24, 40, 112, 1280)

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.strides = (4, 8, min(16, output_stride), output_stride)
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, padding=1, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=_EPS)
        blocks: list[nn.Module] = []
        self.stages = {"stem": ("_conv_stem", "_bn0")}
        self._levels: list[int] = []  # index of the last block of each level
        inputs, reached, dilation = 32, 2, 1
        for stage, (expansion, kernel, stride, outputs, repeats) in enumerate(_STAGES):
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
                self._levels.append(len(blocks) - 1)
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(inputs, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=_EPS)
        self.stages["head"] = ("_conv_head", "_bn1")

    def forward(self, images: Tensor) -> list[Tensor]:
        x = relu6(conv_bn(images, self._conv_stem, self._bn0), inplace=True)
        maps = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self._levels:
                maps.append(x)
        return [*maps, relu6(conv_bn(x, self._conv_head, self._bn1), inplace=True)]
