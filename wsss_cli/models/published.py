"""Checkpoints that the papers' public repositories publish, as ours.

Kind and backbone are found from the keys. Each repository has its names for the layers on top of
the backbone; those of the backbones are ours already, or become so by
:func:`wsss_cli.models.states.state_of`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wsss_cli.classes import COCO, MAX_CLASSES, VOC
from wsss_cli.errors import ConfigurationError
from wsss_cli.files import load_checkpoint
from wsss_cli.models.backbones import BACKBONES
from wsss_cli.models.formats import read_weights
from wsss_cli.models.networks import build_network, colours_to_state
from wsss_cli.models.states import described, equal, shown, state_of, under_prefix
from wsss_cli.models.weights import fill

_LISTS = {len(VOC): ("voc", VOC), len(COCO): ("coco", COCO)}  # all that is published is for these


@dataclass(frozen=True)
class Layout:
    """The form of a published checkpoint.

    Attributes:
        kinds: that it may be of, and whose it is then; EPS's network differs from a CAM classifier
            only in its number of maps.
        backbone: that it is on.
        heads: its names of the layers on top of the backbone, and ours.
        inside: prefix of the backbone's keys, which the layers on top do not have.
        config: of our network, beside its stride.
        beside: beginnings of the keys of what is no weight.
    """

    kinds: Mapping[str, str]
    backbone: str
    heads: Mapping[str, str]
    inside: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    beside: tuple[str, ...] = ()


_REDUCE = ((0, "conv"), (1, "norm"))
_FC8 = {"fc8": "classify"}
_F8 = {"f8_3": "reduce.0", "f8_4": "reduce.1", "f8_5": "reduce.2", "f9": "join"}
_GN8 = {"gn8_3": "norm.0", "gn8_4": "norm.1", "gn8_5": "norm.2"}
_EDGES = {
    f"fc_edge{n}.{at}": f"boundary.reduce.{n - 1}.{part}"
    for n in range(1, 6)
    for at, part in _REDUCE
}
_FIELD = {
    f"fc_dp{n}.{at}": f"displacement.reduce.{n - 1}.{part}"
    for n in range(1, 6)
    for at, part in _REDUCE
}
_FIELD |= {f"fc_dp6.{at}": f"displacement.join_upper.{part}" for at, part in _REDUCE}
_FIELD |= {f"fc_dp7.{at}": f"displacement.join.{part}" for at, part in _REDUCE}
_IRN = {
    **_EDGES,
    "fc_edge6": "boundary.join",
    **_FIELD,
    "fc_dp7.3": "displacement.field",
    "mean_shift": "displacement.mean_shift",
}
_SIDES = {f"side{n}": f"side.{n - 1}" for n in range(1, 5)}
_CLASSIFIER = {"classifier": "classify"}
LAYOUTS = (
    Layout({"cam": "psa or EPS", "eps": "EPS"}, "resnet38", _FC8),
    Layout({"affinity": "psa"}, "resnet38", _F8),
    Layout({"cam": "psa"}, "vgg16-psa", _FC8),
    Layout({"affinity": "psa"}, "vgg16-psa-aff", _F8 | _GN8, config={"group_norm": True}),
    Layout({"cam": "irn"}, "resnet50-undilated", _CLASSIFIER, "resnet50."),
    Layout(
        {"sipe": "SIPE"},
        "resnet50-undilated",
        _CLASSIFIER | _SIDES,
        "resnet50.",
        config={"fine_stride": 16},
    ),
    Layout(
        {"irn": "irn or SIPE"},
        "resnet50-undilated",
        _IRN,
        "resnet50.",
        config={"cells": "parts"},
        # The pairs of cells of a crop of 512 pixels, and their offsets.
        beside=("path_indices", "disp_target"),
    ),
)


class Match(NamedTuple):
    """The tensors of a file as those of one of our networks.

    Attributes:
        layout: the form that the file is taken for.
        kind, backbone: of the network.
        classes: class names, without background.
        state: by our keys.
        lacking: keys of the file that should be there.
        wrong: keys of the file with another shape, and both shapes.
        extra: keys of the file that the network has no place for.
        unnamed: why the class names are not those of the maps, if they are not.
    """

    layout: Layout
    kind: str
    backbone: str
    classes: Sequence[str]
    state: dict[str, Tensor]
    lacking: list[str]
    wrong: list[str]
    extra: list[str]
    unnamed: str

    @property
    def repository(self) -> str:
        return self.layout.kinds[self.kind]

    @property
    def whole(self) -> bool:
        return not (self.lacking or self.wrong or self.extra)


class Published(NamedTuple):
    """A published network.

    Attributes:
        repository: whose it is.
        network: ours, with its weights.
        classes: class names, without background.
        kind: a key of ``KINDS``.
        config: plain data that it is rebuilt from.
    """

    repository: str
    network: Any
    classes: Sequence[str]
    kind: str
    config: dict[str, Any]

    def described(self) -> str:
        """What it is, in a line."""
        lists = (name for name, names in _LISTS.values() if tuple(names) == tuple(self.classes))
        return (
            f"kind {self.kind}, backbone {self.network.backbone.name}, {len(self.classes)} classes "
            f"({next(lists, 'those given')}), from {self.repository}"
        )


def check_replaceable(path: str | Path, digest: str | None) -> None:
    """Make sure that an imported checkpoint replaces nothing but one from the same file.

    Args:
        path: where it is to be written.
        digest: of the file that it is made from (:func:`wsss_cli.inputs.digest`).

    Raises:
        ConfigurationError: something else is there.
    """
    if not Path(path).exists():
        return
    try:
        origin = load_checkpoint(path).config.get("imported")
    except ConfigurationError:
        origin = None
    if not isinstance(origin, dict):
        problem = "is no checkpoint that was imported"
    elif origin.get("digest") != digest:
        problem = f"was imported from another file, {origin.get('file')}"
    else:
        return
    raise ConfigurationError(f"{path}: exists, and {problem}; name another file")


def load_published(path: str | Path, **choice: Any) -> Published:
    """The network of a checkpoint that psa, irn, EPS or SIPE published.

    Args:
        path: the file, in a format that :func:`wsss_cli.models.formats.read_weights` knows.
        choice: see :func:`published`.

    Raises:
        ConfigurationError: the file is unreadable or of no known form; the message names what does
            not fit.
    """
    data = read_weights(path, "checkpoint")
    try:
        return published(data, **choice)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def published(
    data: Mapping[Any, Any],
    *,
    kind: str | None = None,
    backbone: str | None = None,
    classes: Sequence[str] | None = None,
) -> Published:
    """The network whose checkpoint holds ``data``.

    Args:
        data: tensors, and plain data.
        kind: of the network, a key of ``KINDS``; found from the keys if not given.
        backbone: a key of ``BACKBONES``, with the keys of the file; found if not given.
        classes: class names in the order of the maps; by default those of VOC or COCO, by number.

    Raises:
        ConfigurationError: it is of no known form.
    """
    if backbone is not None and backbone not in BACKBONES:
        raise ConfigurationError(f"no backbone '{backbone}'; there are {', '.join(BACKBONES)}")
    if str(data.get("format", "")).startswith("wsss-checkpoint"):
        raise ConfigurationError("a checkpoint of wsss already; use it as it is")
    state = state_of(data)
    match = recognise(state.tensors, kind, backbone, classes)
    config = {"output_stride": BACKBONES[match.backbone].output_strides[0], **match.layout.config}
    with torch.random.fork_rng(devices=[]):  # the random weights are filled
        network = build_network(match.kind, match.backbone, match.classes, config)
    fill(network, match.state)
    if state.colours is not None:
        network.backbone.colours = state.colours
    return Published(
        match.repository,
        network,
        tuple(match.classes),
        match.kind,
        {**config, **colours_to_state(network.backbone)},
    )


def recognise(
    tensors: Mapping[str, Tensor],
    kind: str | None = None,
    backbone: str | None = None,
    classes: Sequence[str] | None = None,
) -> Match:
    """The tensors as those of the network that they fit; see :func:`published`.

    Raises:
        ConfigurationError: they fit none.
    """
    with torch.device("meta"):
        matches = list(_matches(tensors, kind, backbone, classes))
    if not matches:
        raise ConfigurationError(
            "no checkpoint of psa, irn, EPS or SIPE"
            + (f" of kind {kind}" if kind else "")
            + ": no layers on top of a backbone, which alone is for --weights of a trainer; "
            + described(tensors)
        )
    best = max(matches, key=lambda match: (match.whole, len(match.state), -len(match.extra)))
    if best.whole and best.unnamed:
        raise ConfigurationError(best.unnamed)
    if best.whole:
        return best
    if len(best.lacking) > len(best.state):
        raise ConfigurationError(f"no checkpoint of psa, irn, EPS or SIPE: {described(tensors)}")
    problems = [
        f"{problem} {shown(keys)}"
        for problem, keys in (
            ("it lacks", best.lacking),
            ("of another shape:", best.wrong),
            ("unknown there:", best.extra),
        )
        if keys
    ]
    name = f"{best.repository}'s checkpoints of kind {best.kind} on {best.backbone}"
    raise ConfigurationError(f"like {name}, but {'; '.join(problems)}")


def _matches(
    tensors: Mapping[str, Tensor],
    kind: str | None,
    backbone: str | None,
    classes: Sequence[str] | None,
) -> Iterator[Match]:
    """The tensors as each network whose layers on top of the backbone are there."""
    for layout in LAYOUTS:
        if kind is not None and kind not in layout.kinds:
            continue
        first = f"{next(iter(layout.heads))}.weight"
        keys = [key for key in tensors if f".{key}".endswith(f".{first}")]
        if not keys:
            continue
        outer = min(keys, key=len).removesuffix(first)
        sides = tensors[outer + first].shape
        maps = sides[0] if sides and "classify" in layout.heads.values() else None
        chosen, names, unnamed = _kind_and_classes(layout, maps, kind, classes)
        body = backbone or layout.backbone
        stride = BACKBONES[body].output_strides[0]
        network = build_network(chosen, body, names, {"output_stride": stride, **layout.config})
        yield _matched(tensors, layout, network, outer)._replace(
            kind=chosen, backbone=body, classes=names, unnamed=unnamed
        )


def _matched(
    tensors: Mapping[str, Tensor],
    layout: Layout,
    network: Any,
    outer: str,
) -> Match:
    """The tensors as those of ``network``, on the meta device; ``outer`` is the prefix of all."""
    theirs: dict[str, str] = {}  # our key: the file's
    inner, _ = under_prefix(tensors, network.backbone.state_dict())
    for key in network.backbone.state_dict():
        theirs[f"backbone.{key}"] = f"{inner}{key}"
    for name, ours in layout.heads.items():
        for part in ("weight", "bias", "running_mean"):
            theirs[f"{ours}.{part}"] = f"{outer}{name}.{part}"
    state, lacking, wrong = {}, [], []
    for key, own in network.state_dict().items():
        value = tensors.get(theirs.get(key, ""))
        if value is not None and value.shape == own.shape:
            state[key] = value
        elif value is not None:
            shapes = f"{tuple(value.shape)}, not {tuple(own.shape)}"
            wrong.append(f"{theirs[key]} {shapes}")
        elif not key.endswith("num_batches_tracked"):  # PyTorch 0.4 had none
            lacking.append(theirs.get(key, key))
    used = {theirs[key] for key in state}
    extra = [
        key
        for key, value in tensors.items()
        if key not in used
        and not key.endswith("num_batches_tracked")
        and not (layout.beside and key.removeprefix(outer).startswith(layout.beside))
        and not any(key == each.split(" ")[0] for each in wrong)
        and not _repeats(value, (tensors[each] for each in used))
    ]
    return Match(layout, "", "", (), state, lacking, wrong, extra, "")


def _repeats(value: Tensor, others: Iterator[Tensor]) -> bool:
    """Whether a tensor is another one under a second name, as irn and SIPE store each of theirs."""
    return any(equal(value, other) for other in others if value.shape == other.shape)


def _kind_and_classes(
    layout: Layout, maps: int | None, kind: str | None, classes: Sequence[str] | None
) -> tuple[str, Sequence[str], str]:
    """The kind and the class names of a network with so many maps (None for no maps).

    The third is why the names are not known; they are then numbers.
    """
    if maps is None:
        return next(iter(layout.kinds)), classes or VOC, ""
    kinds = (kind,) if kind else tuple(layout.kinds)
    numbers = {each: maps - (each == "eps") for each in kinds}
    for each, number in numbers.items():
        if classes is None and number in _LISTS:
            return each, _LISTS[number][1], ""
        if classes is not None and len(classes) == number:
            return each, classes, ""
    needed = " or ".join(f"{number} classes (kind {each})" for each, number in numbers.items())
    given = f"the class list has {len(classes)}" if classes else "name them with --classes"
    number = min(max(numbers[kinds[0]], 1), MAX_CLASSES)  # more cannot be named
    names = [str(place) for place in range(number)]
    return kinds[0], names, f"{maps} maps, so {needed}; {given}"
