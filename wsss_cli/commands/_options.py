"""Options that two or more commands share, and the frame that every command stands in."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]


# ---- the frame -----------------------------------------------------------------------------------


# ---- values --------------------------------------------------------------------------------------


class Numbers(click.ParamType):  # type: ignore[type-arg]  # generic only in new versions
    """Numbers separated by commas; in wsss.toml a list of numbers.

    Args:
        count: how many there must be, or None.
        kind: float or int.
        low: the smallest allowed, exclusive, or None.
    """

    name = "numbers"

    def __init__(
        self, *, count: int | None = None, kind: type = float, low: float | None = None
    ) -> None:
        self.count, self.kind, self.low = count, kind, low

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return ",".join(["N"] * (self.count or 1)) + ("" if self.count else ",...")

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        try:
            numbers = tuple(self.kind(part) for part in parts)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is not a list of numbers separated by commas", param, ctx)
        if self.count is not None and len(numbers) != self.count:
            self.fail(f"{self.count} numbers are needed, {value!r} has {len(numbers)}", param, ctx)
        if not numbers or (self.low is not None and min(numbers) <= self.low):
            self.fail(f"{value!r}: each must be greater than {self.low}", param, ctx)
        return numbers


def _device(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise click.BadParameter(f"{value!r}: auto, cpu, cuda, cuda:N or mps")
    return value


def _shard(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", value)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise click.BadParameter(f"{value!r}: K/N with K from 1 to N, such as 3/8")
    return int(match[1]), int(match[2])


# ---- options -------------------------------------------------------------------------------------


def _chain(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """One decorator from several, shown in the help in the order given."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


records_argument = click.argument("records", nargs=-1, type=click.Path(allow_dash=True))


def out_option(default: str) -> Callable[[F], F]:
    """``-o/--out DIR`` of a streaming tool."""
    return click.option(
        "-o",
        "--out",
        default=default,
        show_default=True,
        metavar="DIR",
        type=click.Path(file_okay=False),
        help="Folder for the files made.",
    )


def model_out_option(default: str) -> Callable[[F], F]:
    """``-o/--out FILE`` of a trainer."""
    return click.option(
        "-o",
        "--out",
        default=default,
        show_default=True,
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="Checkpoint to write; log and plot lie beside it.",
    )


def checkpoint_option(*kinds: str) -> Callable[[F], F]:
    """``-c/--checkpoint FILE`` holding a network of one of ``kinds``."""
    return click.option(
        "-c",
        "--checkpoint",
        required=True,
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False),
        help=f"Trained network ({', '.join(kinds)}).",
    )


device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    callback=_device,
    help="auto, cpu, cuda, cuda:N or mps.",
)

device_options = _chain(
    device_option,
    click.option(
        "--precision",
        default="auto",
        show_default=True,
        type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
        help="Number format of the network; auto takes the fastest sound one.",
    ),
)

workers_option = click.option(
    "--workers",
    default=2,
    show_default=True,
    type=click.IntRange(min=0),
    help="Helpers that read, write or compute beside the main process.",
)

processes_option = click.option(
    "--workers",
    default=lambda: os.cpu_count() or 1,
    show_default="one a core",
    type=click.IntRange(min=0),
    help="Processes that compute side by side.",
)

seed_option = click.option(
    "--seed", default=0, show_default=True, type=int, help="Seed of all chance."
)

stage_options = _chain(
    click.option(
        "--skip-existing",
        is_flag=True,
        help="Keep files that the same tool, parameters and checkpoint made.",
    ),
    click.option("--strict", is_flag=True, help="Stop at the first record that fails."),
    click.option(
        "--shard",
        default=None,
        metavar="K/N",
        callback=_shard,
        help="Work on the K-th of every N records only.",
    ),
)


def classes_option(*, required: bool = False, help: str | None = None) -> Callable[[F], F]:
    """``--classes LIST``: a name of a list or a file."""
    return click.option(
        "--classes",
        required=required,
        metavar="LIST",
        help=help or "Class list: voc, coco, or a text file with one name a line.",
    )


def inference_options(default_scales: Sequence[float]) -> Callable[[F], F]:
    """``--scales`` and ``--flip`` of the tools that run a network over whole images."""
    return _chain(
        click.option(
            "--scales",
            default=",".join(f"{scale:g}" for scale in default_scales),
            show_default=True,
            type=Numbers(low=0),
            help="Sizes the image is seen at, relative.",
        ),
        click.option(
            "--flip/--no-flip",
            default=True,
            show_default=True,
            help="See the mirrored image too.",
        ),
    )


batch_size_option = click.option(
    "--batch-size",
    default=4,
    show_default=True,
    type=click.IntRange(min=1),
    help="Images of one size that go through the network together.",
)

max_side_option = click.option(
    "--max-side",
    default=1024,
    show_default=True,
    type=click.IntRange(min=0),
    metavar="PIXELS",
    help="Work on photographs with a longer side at this size; what is written has the "
    "photograph's own. 0 is no bound.",
)

image_key_option = click.option(
    "--image-key",
    default="image",
    show_default=True,
    metavar="KEY",
    help="Record key of the image.",
)

crf_options = _chain(
    click.option(
        "--crf-steps",
        default=10,
        show_default=True,
        type=click.IntRange(min=0),
        help="Mean-field iterations of the CRF.",
    ),
    click.option(
        "--gaussian",
        default="3,3",
        show_default=True,
        type=Numbers(count=2),
        metavar="SXY,COMPAT",
        help="Smoothness kernel: width in pixels, weight.",
    ),
    click.option(
        "--bilateral",
        default="80,13,10",
        show_default=True,
        type=Numbers(count=3),
        metavar="SXY,SRGB,COMPAT",
        help="Appearance kernel: width in pixels, in grey levels, weight.",
    ),
)


def crf_settings(
    crf_steps: int, gaussian: tuple[float, float], bilateral: tuple[float, float, float]
) -> dict[str, float]:
    """The options of ``crf_options`` as arguments of ``wsss_cli.methods.crf.dense_crf``.

    Raises:
        click.BadParameter: values no image can be refined with.
        ConfigurationError: pydensecrf is missing.
    """
    from wsss_cli.methods.crf import Kernels, engine

    engine()
    kernels = {
        "gaussian_sxy": gaussian[0],
        "gaussian_compat": gaussian[1],
        "bilateral_sxy": bilateral[0],
        "bilateral_srgb": bilateral[1],
        "bilateral_compat": bilateral[2],
    }
    try:
        Kernels(**kernels)
    except ValueError as error:
        flag = "--gaussian" if "gaussian" in str(error) else "--bilateral"
        raise click.BadParameter(str(error), param_hint=flag) from error
    return {"steps": crf_steps, **kernels}


alpha_option = click.option(
    "--alpha",
    default=16.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Exponent of the background score (1 - max CAM)^alpha; smaller gives more background.",
)
threshold_option = click.option(
    "--threshold",
    default=None,
    type=click.FloatRange(0, 1),
    metavar="T",
    help="Background is where no map exceeds T, instead of --alpha.",
)
radius_option = click.option(
    "--radius",
    default=5,
    show_default=True,
    type=click.IntRange(min=2),
    help="Reach of affinities, in cells of the feature grid.",
)
