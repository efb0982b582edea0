"""Options that all trainers share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, TypeVar

import click

from wsss_cli.commands import _options
from wsss_cli.models.backbones import BACKBONES

F = TypeVar("F", bound=Callable[..., Any])


def low_high(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Callback of options that take a range."""
    if value[0] > value[1]:
        raise click.BadParameter(f"{value[0]:g} is larger than {value[1]:g}")
    return value


resize_option = click.option(
    "--resize",
    default="320,640",
    show_default=True,
    type=_options.Numbers(count=2, kind=int, low=0),
    callback=low_high,
    help="Range of the long side that images are scaled to at random, in pixels.",
)
scale_option = click.option(
    "--scale",
    default="0.5,1.5",
    show_default=True,
    type=_options.Numbers(count=2, low=0),
    callback=low_high,
    help="Range of the factor that images are scaled by at random.",
)


dropout_option = click.option(
    "--dropout",
    default=None,
    show_default="none",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="P",
    help="Share of the channels of the last feature map that are dropped before the classifier.",
)
pool_padding_option = click.option(
    "--pool-padding/--no-pool-padding",
    default=False,
    show_default=True,
    help="Class scores are means over the padding of a crop too, as in the public code of psa, "
    "IRNet, EPS and SIPE.",
)


def _output_stride_option(default: str) -> Callable[[F], F]:
    strides = sorted({stride for spec in BACKBONES.values() for stride in spec.output_strides})
    return click.option(
        "--output-stride",
        default=None,
        show_default=default,
        type=click.IntRange(min=1),
        metavar="PIXELS",
        help="Stride of the last feature map: "
        f"{', '.join(map(str, strides[:-1]))} or {strides[-1]} pixels of the image per cell.",
    )


def _strides_by_default() -> str:
    """Such as ``16; resnet38 offers 8 only; vgg16 offers 8 only``."""
    usual = next(iter(BACKBONES.values())).output_strides[0]
    fixed = {
        name: spec.output_strides[0]
        for name, spec in BACKBONES.items()
        if len(spec.output_strides) == 1 and spec.output_strides[0] != usual
    }
    each = (f"{name} offers {stride} only" for name, stride in fixed.items())
    return "; ".join([str(usual), *each])


output_stride_option = _output_stride_option("that of the checkpoint")

start_options = _options.chain(
    click.option(
        "--backbone",
        default=next(iter(BACKBONES)),
        show_default=True,
        metavar="NAME",
        shell_complete=_options.completed(lambda context: BACKBONES),
        help=f"{', '.join(BACKBONES)}; the default is made for a CPU.",
    ),
    _output_stride_option(_strides_by_default()),
    click.option(
        "--weights",
        default="imagenet",
        show_default=True,
        metavar="imagenet|none|FILE",
        help="Weights of the backbone to start from: a file of PyTorch, safetensors, MXNet or "
        "Caffe. A checkpoint of the same tool and classes fills the other layers too.",
    ),
    _options.gather("start", "backbone", "output_stride", "weights"),
)


def training_options(
    *,
    epochs: int,
    batch_size: int,
    crop: int,
    lr: float,
    new_lr: float = 10.0,
    rates: tuple[str, str] = ("the backbone", "new layers"),
    without: Collection[str] = (),
) -> Callable[[F], F]:
    """Settings of the training loop, with a trainer's own defaults; handed over as ``training``.

    Args:
        epochs, batch_size, crop, lr, new_lr: the defaults.
        rates: what learns at the rate ``--lr``, and what at ``--new-lr`` times this.
        without: fields that are not offered: ``val``, and all of :data:`FREEZING` together.
    """
    return _options.chain(
        click.option(
            "--epochs",
            default=epochs,
            show_default=True,
            type=click.IntRange(min=1),
            help="Passes over the records.",
        ),
        click.option(
            "--steps",
            default=None,
            type=click.IntRange(min=1),
            help="Steps of gradient descent, instead of --epochs.",
        ),
        _options.batch_size_option(batch_size, ", on each process"),
        click.option(
            "--crop",
            default=crop,
            show_default=True,
            type=click.IntRange(min=32),
            help="Side of the square crops in pixels.",
        ),
        click.option(
            "--jitter/--no-jitter",
            default=True,
            show_default=True,
            help="Change the colours of the crops at random; IRNet and SIPE do not.",
        ),
        click.option(
            "--lr",
            default=lr,
            show_default=True,
            type=_options.positive,
            help=f"Learning rate of {rates[0]} at the start; {rates[1]} have --new-lr times this.",
        ),
        click.option(
            "--new-lr",
            default=new_lr,
            show_default=True,
            type=_options.positive,
            help="Factor of the learning rate of new layers; of displacements in irn-train.",
        ),
        click.option(
            "--bias-lr",
            default=1.0,
            show_default=True,
            type=_options.positive,
            help="Factor of the learning rate of biases, times --new-lr in new layers; 2 in psa "
            "and EPS.",
        ),
        click.option(
            "--momentum",
            default=0.9,
            show_default=True,
            type=click.FloatRange(0, 1, max_open=True),
            help="Momentum of stochastic gradient descent; 5e-4 in psa and EPS, 1e-4 in IRNet and "
            "SIPE, whose public code passes the weight decay in its place.",
        ),
        click.option(
            "--weight-decay",
            default=1e-4,
            show_default=True,
            type=click.FloatRange(min=0),
            help="Weight decay of stochastic gradient descent; 5e-4 in psa and EPS, 1e-4 in IRNet "
            "and SIPE.",
        ),
        click.option(
            "--decay-biases/--no-decay-biases",
            default=True,
            show_default=True,
            help="Decay biases too; psa and EPS do not.",
        ),
        click.option(
            "--clip",
            default=10.0,
            show_default=True,
            type=click.FloatRange(min=0),
            metavar="NORM",
            help="Scale gradients with a larger 2-norm down to this one; 0 turns it off. 1 in "
            "SIPE, off in psa, IRNet and EPS.",
        ),
        click.option(
            "--warmup",
            default=0,
            show_default=True,
            type=click.IntRange(min=0),
            help="Steps over which the learning rate grows at the start.",
        ),
        *(() if "freeze_bn" in without else _freezing),
        *(() if "val" in without else (_val,)),
        click.option(
            "--resume",
            is_flag=True,
            help="Continue a killed or interrupted run of the same settings on the same records.",
        ),
        click.option(
            "--replace",
            is_flag=True,
            help="With --resume: train anew where settings or records have changed, instead of "
            "stopping.",
        ),
        click.option(
            "--save-every",
            default=0,
            show_default=True,
            type=click.IntRange(min=0),
            metavar="STEPS",
            help="Save the state to resume from every so many steps; 0 saves it after each epoch "
            "only.",
        ),
        click.option(
            "--tensorboard",
            default=None,
            type=click.Path(file_okay=False),
            metavar="DIR",
            help="Also write the log for TensorBoard, into a folder in DIR that is named like the "
            "checkpoint. Needs tensorboard (pip install tensorboard).",
        ),
        _options.strict_option,
        _options.image_key_option,
        _options.seed_option,
        _options.workers_option,
        _options.device_options,
        _options.gather("training", *(key for key in _SHARED if key not in without)),
        _checked,
    )


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def checked(*args: Any, training: dict[str, Any], **params: Any) -> Any:
        _options.only_with("--resume", training["resume"], "replace")
        _options.only_with("--freeze-bn", training.get("freeze_bn") is not False, "bn_affine")
        _options.either("steps", "epochs", training)
        return function(*args, training=training, **params)

    return checked


_val = click.option(
    "--val",
    default=None,
    metavar="FILE",
    type=_options.ReadableFile(stream=True),
    help="Records to measure on after each epoch and at the end. The last weights are kept "
    "whatever the result: choosing the best would train on these records.",
)
_freezing = (
    click.option(
        "--freeze-bn/--no-freeze-bn",
        default=None,
        show_default="--freeze-bn, but not with --weights none",
        help="Freeze the batch normalisation of the backbone; right for small batches.",
    ),
    click.option(
        "--bn-affine",
        is_flag=True,
        help="Freeze the statistics of the batch normalisation only: scale and shift learn.",
    ),
    click.option(
        "--freeze-until",
        metavar="STAGE",
        default="none",
        show_default=True,
        callback=lambda context, parameter, value: None if value == "none" else value,
        help="Freeze the backbone up to this stage: conv1, layer1 … of ResNet-50 and 101, "
        "conv1a, b2, b3 … of ResNet-38, conv1, conv2 … of VGG-16, stem, stage1 … of "
        "EfficientNet; none of them with none.",
    ),
)
FREEZING = ("freeze_bn", "bn_affine", "freeze_until")

# The fields of `training.session.Options`, without torch; ``out`` has an option of its own.
_SHARED = (
    "epochs",
    "steps",
    "batch_size",
    "crop",
    "jitter",
    "lr",
    "new_lr",
    "bias_lr",
    "momentum",
    "weight_decay",
    "decay_biases",
    "clip",
    "warmup",
    "freeze_bn",
    "bn_affine",
    "freeze_until",
    "val",
    "resume",
    "replace",
    "save_every",
    "tensorboard",
    "strict",
    "image_key",
    "seed",
    "workers",
    "device",
    "precision",
)
