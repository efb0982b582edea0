"""Options that two or more commands share. Nothing here imports torch."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from wsss_cli.commands._settings import origin
from wsss_cli.errors import ConfigurationError, describe
from wsss_cli.texts import check_ends

F = TypeVar("F", bound=Callable[..., Any])

# Kinds of checkpoints whose output can be read as maps, and that random-walk goes along:
# `models.networks.KINDS`, without torch.
CLASSIFIERS = ("cam", "eps", "sipe")
LINKING = ("affinity", "irn")

positive = click.FloatRange(min=0, min_open=True)


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
        parts = parts if isinstance(parts, list | tuple) else [parts]
        try:
            numbers = tuple(self.kind(part) for part in parts)
        except (TypeError, ValueError, OverflowError):
            self.fail(f"{value!r} is not a list of numbers separated by commas", param, ctx)
        if self.count is not None and len(numbers) != self.count:
            self.fail(f"{self.count} numbers are needed, {value!r} has {len(numbers)}", param, ctx)
        if not numbers or (self.low is not None and min(numbers) <= self.low):
            self.fail(f"{value!r}: each must be greater than {self.low}", param, ctx)
        return numbers


class ClassList(click.ParamType):  # type: ignore[type-arg]
    """A class list by name, or a text file with one name a line; becomes a tuple of names."""

    name = "list"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...] | None:
        from wsss_cli.classes import load_classes  # loads numpy, which no help needs

        if isinstance(value, tuple):
            return value
        try:
            return load_classes(str(value)) if value != "" else None
        except ConfigurationError as error:
            place = origin(ctx, param.name) if ctx and param else ""
            raise ConfigurationError(place + str(error)) from error


class ReadableFile(click.Path):
    """A file that is there and ends: opening a pipe could wait for ever.

    Args:
        stream: let a pipe pass that the shell has opened, such as ``<(…)``.
        words: values that name no file and are kept as they are.
    """

    def __init__(self, *words: str, stream: bool = False) -> None:
        super().__init__(exists=True, dir_okay=False)
        self.words, self.stream = words, stream

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in self.words:
            return value
        path = os.fsdecode(super().convert(value, param, ctx))
        try:
            check_ends(path, stream=self.stream)
        except (OSError, ValueError) as error:
            self.fail(f"'{path}': {describe(error)}", param, ctx)
        return path


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


# ---- several options together --------------------------------------------------------------------


def chain(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """One decorator from several, shown in the help in the order given."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def gather(name: str, *keys: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Hand the parameters ``keys`` to a command as one dict, its parameter ``name``."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def gathered(*args: Any, **params: Any) -> Any:
            value = {key: params.pop(key) for key in keys}
            return function(*args, **params, **{name: value})

        return gathered

    return decorate


Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def completed(names: Callable[[click.Context], Iterable[str]]) -> Complete:
    """What a shell offers for the value of an option: the names that begin as what is typed."""

    def complete(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
        return [name for name in names(context) if name.startswith(typed)]

    return complete


def only_with(need: str, holds: bool, *names: str, choice: str | None = None) -> None:
    """Refuse the options ``names`` unless ``holds``.

    An option that comes from a weaker source than the choice that makes it idle is passed over: on
    the command line ``--method pamr`` overrides a settings file that tunes the dense CRF.

    Args:
        need: the option, with its value, or the thing that makes the others meaningful.
        holds: whether it is there.
        names: parameters of the command.
        choice: the parameter that decides; by default the option that ``need`` begins with.

    Raises:
        click.UsageError: one of them was given.
    """
    if holds:
        return
    context = click.get_current_context()
    decides = choice or need.split()[0].removeprefix("--").replace("-", "_")
    strength = max(_rank(context, decides), 1)
    for param in context.command.params:
        if param.name in names and _rank(context, str(param.name)) >= strength:
            place = origin(context, param.name)
            raise click.UsageError(f"{place}{param.opts[0]} is only for {need}", context)


def either(one: str, other: str, params: dict[str, Any]) -> None:
    """Of two options that exclude each other, keep the one from the stronger source.

    Args:
        one: a parameter of the command that is None unless it is given.
        other: a parameter that may have a default.
        params: their values; that of the one that is not in force becomes None.

    Raises:
        click.UsageError: both are given, in the same source.
    """
    if params[one] is None:
        return
    context = click.get_current_context()
    ranks = _rank(context, one), _rank(context, other)
    if ranks[0] == ranks[1]:
        flags = (f"--{name.replace('_', '-')}" for name in (one, other))
        place = origin(context, other)
        raise click.UsageError(place + " and ".join(flags) + " exclude each other", context)
    params[one if ranks[0] < ranks[1] else other] = None


def _rank(context: click.Context, name: str) -> int:
    source = context.get_parameter_source(name)
    return 0 if source is None else _SOURCES.get(source, 0)


_SOURCES = {
    ParameterSource.DEFAULT_MAP: 1,
    ParameterSource.ENVIRONMENT: 2,
    ParameterSource.COMMANDLINE: 3,
}


# ---- streams and files ---------------------------------------------------------------------------

records_argument = click.argument("records", nargs=-1, type=click.Path(allow_dash=True))

check_option = click.option(
    "--check",
    is_flag=True,
    help="Name the records whose labels and true mask disagree; exit with 1 if there are any.",
)

strict_option = click.option("--strict", is_flag=True, help="Stop at the first record that fails.")


def out_option(default: str, **attributes: Any) -> Callable[[F], F]:
    """``-o/--out``: a folder, unless the attributes of the option say otherwise."""
    folder = {
        "metavar": "DIR",
        "type": click.Path(file_okay=False),
        "help": "Output folder.",
    }
    return click.option(
        "-o", "--out", default=default, show_default=True, **{**folder, **attributes}
    )


def new_file_option(help: str) -> Callable[[F], F]:
    """``-o/--out FILE`` of a tool that makes a single file, which must be named."""
    return click.option(
        "-o", "--out", required=True, metavar="FILE", type=click.Path(dir_okay=False), help=help
    )


def stage_options(out: str, **out_attributes: Any) -> Callable[[F], F]:
    """``--out`` and the other options of every streaming tool; handed over as ``stage``.

    Args:
        out: default of ``--out``.
        out_attributes: of the option ``--out``, where it is more than a folder.
    """
    return chain(
        out_option(out, **out_attributes),
        click.option(
            "--skip-existing",
            is_flag=True,
            help="Keep files that the same tool made with the same parameters and checkpoint.",
        ),
        strict_option,
        click.option(
            "--shard",
            default=None,
            metavar="K/N",
            callback=_shard,
            help="Work on the K-th of every N records only.",
        ),
        gather("stage", "out", "skip_existing", "strict", "shard"),
    )


def model_out_option(default: str) -> Callable[[F], F]:
    """``-o/--out FILE`` of a trainer."""
    return out_option(
        default,
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="Output checkpoint; its log and plot lie beside it.",
    )


class Repeatable(click.Option):
    """An option of files that may be given more than once; becomes a tuple of them.

    In wsss.toml it is a file or a list of files. In the environment several are separated by
    colons, unless there is a file of the whole name.
    """

    def value_from_envvar(self, ctx: click.Context) -> Any:
        value = self.resolve_envvar_value(ctx)
        several = value is not None and os.pathsep in value and not os.path.exists(value)
        return value.split(os.pathsep) if value is not None and several else value

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        return super().type_cast_value(ctx, (value,) if isinstance(value, str) else value)


def checkpoint_option(*kinds: str, several: str | None = None) -> Callable[[F], F]:
    """``-c/--checkpoint FILE`` holding a network of one of ``kinds``.

    Args:
        kinds: of checkpoints.
        several: what is averaged over several of them; None where only one can be given.
    """
    more = f"; of several, -c A -c B, the mean of {several} is taken" if several else ""
    return click.option(
        "-c",
        "--checkpoint",
        required=True,
        metavar="FILE",
        type=ReadableFile(),
        cls=Repeatable if several else click.Option,
        multiple=bool(several),
        help=f"Trained network ({', '.join(kinds)}){more}.",
    )


def classes_option(
    help: str = "Class list, if not that of the CAMs' checkpoint", **attributes: Any
) -> Callable[[F], F]:
    """``--classes LIST``: a name of a list or a file; becomes a tuple of names, or None."""
    return click.option(
        "--classes",
        metavar="LIST",
        type=ClassList(),
        help=f"{help}: voc, coco, or a text file with one name a line.",
        **attributes,
    )


def key_option(default: str | None, what: str, **attributes: Any) -> Callable[[F], F]:
    """``--key KEY``: the record key of the input that a tool works on."""
    shown = {"show_default": True, **attributes}
    return click.option(
        "--key", default=default, metavar="KEY", help=f"Record key of {what}.", **shown
    )


image_key_option = click.option(
    "--image-key",
    default="image",
    show_default=True,
    metavar="KEY",
    help="Record key of the image.",
)

# ---- where and how work is done ------------------------------------------------------------------

device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    callback=_device,
    help="auto, cpu, cuda, cuda:N or mps.",
)

device_options = chain(
    device_option,
    click.option(
        "--precision",
        default="auto",
        show_default=True,
        type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
        help="Number format of the network; auto is bf16 where the device computes in it.",
    ),
)

workers_option = click.option(
    "--workers",
    default=2,
    show_default=True,
    type=click.IntRange(min=0),
    help="Parallel threads that read and write files.",
)

processes_option = click.option(
    "--workers",
    default=lambda: os.cpu_count() or 1,
    show_default="one a core",
    type=click.IntRange(min=0),
    help="Parallel processes.",
)

seed_option = click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**32 - 1),
    help="Random seed.",
)


def batch_size_option(default: int, what: str) -> Callable[[F], F]:
    """``--batch-size N``."""
    return click.option(
        "--batch-size",
        default=default,
        show_default=True,
        type=click.IntRange(min=1),
        help=f"Images in a batch{what}.",
    )


max_side_option = click.option(
    "--max-side",
    default=1024,
    show_default=True,
    type=click.IntRange(min=0),
    metavar="PIXELS",
    help="Photographs with a longer side are processed at this size; the output has the "
    "photograph's own. 0 is no limit.",
)


def _tiles_checked(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def checked(*args: Any, runner: dict[str, Any], **params: Any) -> Any:
        only_with("--tile", runner["tile"] is not None, "overlap")
        return function(*args, runner=runner, **params)

    return checked


# How a network sees photographs; handed over as ``runner``, with ``workers`` apart.
runner_options = chain(
    max_side_option,
    click.option(
        "--tile",
        default=None,
        show_default="off",
        type=click.IntRange(min=1),
        metavar="PIXELS",
        help="Photographs beyond --max-side are not shrunk but seen in tiles of this side at most.",
    ),
    click.option(
        "--overlap",
        default=128,
        show_default=True,
        type=click.IntRange(min=0),
        metavar="PIXELS",
        help="With --tile: tiles share at least so many pixels, over which they are blended.",
    ),
    workers_option,
    device_options,
    gather("runner", "max_side", "tile", "overlap", "device", "precision"),
    _tiles_checked,
)

# ---- methods -------------------------------------------------------------------------------------


def inference_options(default_scales: Sequence[float]) -> Callable[[F], F]:
    """``--scales`` and ``--flip`` of the tools that run a network over whole images."""
    return chain(
        click.option(
            "--scales",
            default=",".join(f"{scale:g}" for scale in default_scales),
            show_default=True,
            type=Numbers(low=0),
            help="Input scales, relative to the image.",
        ),
        click.option(
            "--flip/--no-flip",
            default=True,
            show_default=True,
            help="Average with the mirrored image.",
        ),
    )


_BILATERAL = (80.0, 13.0, 10.0)


def crf_options(
    switch: str | None = None,
    *,
    when: Callable[[dict[str, Any]], bool] = lambda params: True,
    other: tuple[tuple[str, ...], tuple[float, float, float]] | None = None,
) -> Callable[[F], F]:
    """Settings of the dense CRF, handed over as ``crf``.

    That is a dict of arguments of :func:`wsss_cli.methods.crf.dense_crf`, or None where no CRF is
    asked for.

    Args:
        switch: the scores that ``--crf`` refines, for tools where it is optional.
        when: whether the parameters of a call ask for the CRF.
        other: parameters with any of which the appearance kernel has another default, and that.
    """
    usual = ",".join(f"{value:g}" for value in _BILATERAL)
    shown = usual
    if other:
        names = " or ".join(f"--{name.replace('_', '-')}" for name in other[0])
        shown += f"; {','.join(f'{value:g}' for value in other[1])} with {names}"

    def as_value(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **params: Any) -> Any:
            given = [params.pop(name) for name in ("crf_steps", "gaussian", "bilateral")]
            if given[-1] is None:
                chosen = other and any(params[name] is not None for name in other[0])
                given[-1] = other[1] if other and chosen else _BILATERAL
            wanted = params.pop("crf") if switch else when(params)
            return function(*args, **params, crf=_crf(*given) if wanted else None)

        return call

    flag = click.option("--crf", is_flag=True, help=f"Refine the {switch} with a dense CRF.")
    return chain(
        *([flag] if switch else []),
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
            help="Smoothness kernel of the CRF: width in pixels, weight.",
        ),
        click.option(
            "--bilateral",
            default=None if other else usual,
            show_default=shown,
            type=Numbers(count=3),
            metavar="SXY,SRGB,COMPAT",
            help="Appearance kernel of the CRF: width in pixels, in grey levels, weight.",
        ),
        as_value,
    )


def _crf(
    steps: int, gaussian: tuple[float, float], bilateral: tuple[float, float, float]
) -> dict[str, float]:
    from wsss_cli.methods.crf import Kernels, engine

    engine()  # raises before any work if pydensecrf is missing
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
    return {"steps": steps, **kernels}


def alpha_option(
    default: float | None = 16.0, *, show_default: bool | str = True
) -> Callable[[F], F]:
    """``--alpha A``: the background score of maps."""
    return click.option(
        "--alpha",
        default=default,
        show_default=show_default,
        type=positive,
        metavar="A",
        help="Background score of maps is (1 - max CAM)^A; smaller gives more background.",
    )


threshold_option = click.option(
    "--threshold",
    default=None,
    type=click.FloatRange(0, 1),
    metavar="T",
    help="Background score of maps is the constant T.",
)
certainty_option = click.option(
    "--certainty",
    default=0.7,
    show_default=True,
    type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
    help="Probability given to the label of each pixel of a label map.",
)


def radius_option(default: int = 5) -> Callable[[F], F]:
    """``--radius CELLS``: the pairs of cells that have an affinity."""
    return click.option(
        "--radius",
        default=default,
        show_default=True,
        type=click.IntRange(min=2),
        help="Radius of the affinities, in cells of the feature grid.",
    )


cells_option = click.option(
    "--cells",
    default="centred",
    show_default=True,
    type=click.Choice(["centred", "parts"]),
    help="Cells of the network's maps lie on the pixels that they look at, or are equal parts of "
    "the image, as in public code.",
)
