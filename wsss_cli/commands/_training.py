"""Options that all trainers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from wsss_cli.commands import _options

F = TypeVar("F", bound=Callable[..., Any])

positive = click.FloatRange(min=0, min_open=True)


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


def training_options(*, epochs: int, batch_size: int, crop: int, lr: float) -> Callable[[F], F]:
    """What the loop is told, with a trainer's own defaults."""
    return _options.chain(
        click.option(
            "--epochs",
            default=epochs,
            show_default=True,
            type=click.IntRange(min=1),
            help="Passes over the records.",
        ),
        click.option(
            "--batch-size",
            default=batch_size,
            show_default=True,
            type=click.IntRange(min=1),
            help="Images a step, on each process.",
        ),
        click.option(
            "--crop",
            default=crop,
            show_default=True,
            type=click.IntRange(min=32),
            help="Side of the square crops in pixels.",
        ),
        click.option(
            "--lr",
            default=lr,
            show_default=True,
            type=positive,
            help="Learning rate at the start; new layers take --new-lr times this.",
        ),
        click.option(
            "--new-lr",
            default=10.0,
            show_default=True,
            type=positive,
            help="How many times faster new layers learn.",
        ),
        click.option(
            "--weight-decay",
            default=1e-4,
            show_default=True,
            type=click.FloatRange(min=0),
            help="Weight decay of stochastic gradient descent.",
        ),
        click.option(
            "--warmup",
            default=0,
            show_default=True,
            type=click.IntRange(min=0),
            help="Steps over which the learning rate grows at the start.",
        ),
        click.option(
            "--freeze-bn/--no-freeze-bn",
            default=None,
            help="Keep the batch normalisation of the backbone as it is; right for small batches."
            "  [default: --freeze-bn, but not with --weights none]",
        ),
        click.option(
            "--val",
            default=None,
            metavar="FILE",
            type=click.Path(exists=True, dir_okay=False),
            help="Records to measure on after each epoch. The last weights are kept all the same: "
            "picking the best would train on them.",
        ),
        click.option(
            "--resume",
            is_flag=True,
            help="Go on where a killed or interrupted run of the same settings stopped.",
        ),
        click.option(
            "--save-every",
            default=0,
            show_default=True,
            type=click.IntRange(min=0),
            metavar="STEPS",
            help="Save the state to resume from within an epoch too.",
        ),
        click.option(
            "--strict",
            is_flag=True,
            help="Stop at the first image that cannot be read, instead of leaving it out.",
        ),
        _options.image_key_option,
        _options.seed_option,
        _options.workers_option,
        _options.device_options,
    )


def _output_stride_option(default: str) -> Callable[[F], F]:
    return click.option(
        "--output-stride",
        default=None,
        type=click.IntRange(min=1),
        metavar="PIXELS",
        help=f"Pixels of the image to one of the last map: 8, 16 or 32.  [default: {default}]",
    )


output_stride_option = _output_stride_option("that of the checkpoint")
backbone_options = _options.chain(
    click.option(
        "--backbone",
        default="efficientnet-lite0",
        show_default=True,
        metavar="NAME",
        help="efficientnet-lite0 (made for a CPU), resnet50, resnet101, resnet38 or vgg16.",
    ),
    _output_stride_option("16; vgg16 and resnet38 have 8 only"),
    click.option(
        "--weights",
        default="imagenet",
        show_default=True,
        metavar="imagenet|none|FILE",
        help="Weights of the backbone to start from. A checkpoint of this same tool and classes "
        "brings its other layers too.",
    ),
)
