"""State dicts of other programs, as ours: what wraps them, prefixes, names, and colours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from wsss_cli.errors import ConfigurationError
from wsss_cli.models.backbones import BACKBONES, build_backbone
from wsss_cli.models.base import Backbone, Colours, colours_of

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
# Of two sets of the same tensors, the one under these is meant: MoCo's encoder_q, not encoder_k.
_PREFIXES = {
    "module",
    "model",
    "net",
    "network",
    "encoder",
    "encoder_q",
    "base_encoder",
    "backbone",
    *BACKBONES,
}
_DEPTH = 8  # of wrappers, and of prefixes
_SHOWN = 3  # keys in a message

# Chen et al. subtract this mean colour, RGB, from pixels of 0 to 255 and do not divide.
CAFFE_COLOURS = Colours((122.675 / 255, 116.669 / 255, 104.008 / 255), (1 / 255, 1 / 255, 1 / 255))


@dataclass(frozen=True)
class State:
    """The tensors of a file of weights.

    Attributes:
        tensors: by key.
        colours: statistics that images are normalised with, where they are not the backbone's.
    """

    tensors: dict[str, Tensor]
    colours: Colours | None = None


def state_of(data: Mapping[Any, Any]) -> State:
    """The tensors of what a file of weights holds, under names of ours where those are known.

    Dicts under usual names (``state_dict``, ``model``, ``net``) are opened; where there are no
    weights even so, those in dicts under any name are taken, as ``NAME.KEY``. MXNet's names of
    ResNet-38 and Caffe's names of VGG-16 become those of our backbones. Weights of Caffe are known
    by their names, and turned round for images in RGB.

    Args:
        data: result of :func:`wsss_cli.models.formats.read_weights`.

    Raises:
        ConfigurationError: a checkpoint of wsss with statistics that cannot be.
    """
    inner: Mapping[Any, Any] = data
    for _ in range(_DEPTH):  # a dict may hold itself
        inner = next((inner[w] for w in _WRAPPERS if isinstance(inner.get(w), dict)), inner)
    tensors = {str(key): value for key, value in inner.items() if isinstance(value, Tensor)}
    if all(value.ndim < 2 for value in tensors.values()):  # counters, if any
        tensors = dict(_inside(inner, "", {id(inner)}))
    if any(key.startswith(("arg:", "aux:")) for key in tensors):
        return State({_of_mxnet(key): value for key, value in tensors.items()})
    if any(key.endswith("conv1_1.weight") for key in tensors):
        return State(_of_caffe(tensors), CAFFE_COLOURS)
    if (first := tensors.get(_SCALE)) is not None and first.ndim == 4:
        return State({**tensors, _SCALE: first.flip(1)}, CAFFE_COLOURS)
    config = data.get("config")
    return State(tensors, colours_of(config) if isinstance(config, dict) else None)


def _inside(data: Mapping[Any, Any], prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """The tensors in dicts of a dict, at most ``_DEPTH`` deep, each dict once."""
    for key, value in data.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, dict) and id(value) not in seen and prefix.count(".") < _DEPTH:
            seen.add(id(value))
            yield from _inside(value, f"{prefix}{key}.", seen)


# The first convolution of DeepLab v2's ResNet-101, weights of Caffe under these names for PyTorch.
# It takes BGR.
_SCALE = "Scale.conv1.weight"

# ---- names ---------------------------------------------------------------------------------------

_UNIT = re.compile(r"(res|bn)(\d)(?:a|b(\d))_(branch\w+?)_(\w+)")
_LAST = {
    "weight": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}


def _of_mxnet(key: str) -> str:
    """A key of ResNet-38 from its name in Wu et al.'s files.

    ``arg:res4b2_branch2b1_weight`` is ``b4_2.conv_branch2b1.weight``: units of a level are called
    a, b1, b2, … there, and ``bn…`` is the normalisation before the convolution ``res…``.
    """
    name = key.partition(":")[2]
    if match := _UNIT.fullmatch(name):
        layer, level, number, branch, last = match.groups()
        unit = f"b{level}" + (f"_{number}" if number else "")
        if last in _LAST:
            return f"{unit}.{'conv' if layer == 'res' else 'bn'}_{branch}.{_LAST[last]}"
    layer, _, last = name.partition("_")
    return f"{layer}.{_LAST[last]}" if layer in ("conv1a", "bn7") and last in _LAST else key


_CAFFE_NAMES = [f"conv{group}_{n}" for group in range(1, 6) for n in range(1, 3 + (group > 2))]


def _of_caffe(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under Caffe's names of VGG-16 under torchvision's, for images in RGB.

    Caffe's networks take BGR: the first convolution's channels are turned round. fc6 and fc7 are
    kept as convolutions; in the original network they are matrices, which DeepLab does not have.
    """
    prefix = next(k for k in tensors if k.endswith("conv1_1.weight"))[: -len("conv1_1.weight")]
    found = {}

    def is_convolution(layer: str) -> bool:
        weight = tensors.get(f"{prefix}{layer}.weight")
        return weight is not None and weight.ndim == 4

    for key, value in tensors.items():
        layer, _, part = key.removeprefix(prefix).rpartition(".")
        if layer in _CAFFE_NAMES:
            number = _CAFFE_NAMES.index(layer)
            pooled = sum(number >= first for first in (2, 4, 7, 10))
            if number == 0 and part == "weight" and value.ndim == 4:
                value = value.flip(1)
            found[f"features.{2 * number + pooled}.{part}"] = value
        elif layer not in ("fc6", "fc7") or is_convolution(layer):
            found[key.removeprefix(prefix)] = value
    return found


# ---- prefixes ------------------------------------------------------------------------------------


def under_prefix(
    tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[str, dict[str, Tensor]]:
    """The tensors under the prefix with which most of them fit, and that prefix.

    Args:
        tensors: of a file.
        own: of the network that they are meant for.

    Returns:
        The prefix, and all tensors under it by the rest of their keys.

    Raises:
        ConfigurationError: two sets of different tensors fit equally well.
    """
    fits: Counter[str] = Counter({"": 0})
    for key, value in tensors.items():
        dots = islice(re.finditer(r"\.", key), _DEPTH)
        for start in (0, *(dot.end() for dot in dots)):
            if (same := own.get(key[start:])) is not None and same.shape == value.shape:
                fits[key[:start]] += 1
    most = max(fits.values())
    best = [prefix for prefix, count in fits.items() if count == most]
    usual = [prefix for prefix in best if set(prefix.split(".")[:-1]) <= _PREFIXES]
    prefix, *others = usual or best
    for other in others:
        if any(
            not equal(tensors[prefix + key], tensors[other + key])
            for key in own
            if prefix + key in tensors and other + key in tensors
        ):
            raise ConfigurationError(
                f"holds two sets of these weights, under '{prefix}' and '{other}'; "
                "save one of them as a file of its own"
            )
    start = len(prefix)
    return prefix, {key[start:]: each for key, each in tensors.items() if key.startswith(prefix)}


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape hold the same values."""
    if one is other:
        return True
    dense = all(each.layout is torch.strided and not each.is_meta for each in (one, other))
    return dense and torch.equal(one, other)


def needed(backbone: Backbone) -> list[str]:
    """The keys that weights of a backbone must hold."""
    new = tuple(f"{layer}." for layer in backbone.new_layers) or ("\0",)
    return [
        key
        for key in backbone.state_dict()
        if not key.endswith("num_batches_tracked") and not key.startswith(new)
    ]


# ---- refusals ------------------------------------------------------------------------------------


def shown(keys: Iterable[str]) -> str:
    """The first keys, for a message."""
    keys = list(keys)
    return ", ".join(keys[:_SHOWN]) + (", …" if len(keys) > _SHOWN else "")


def described(tensors: Mapping[str, Tensor]) -> str:
    """What tensors that do not fit are, for a message: their first keys, the nearest backbone."""
    if not tensors:
        return "it holds no tensors"
    best, fitting, whole = "", 0, 1
    for name in BACKBONES:
        with torch.device("meta"):
            backbone = build_backbone(name)
        keys, own = needed(backbone), backbone.state_dict()
        try:
            found = under_prefix(tensors, own)[1]
        except ConfigurationError:
            continue
        count = sum(key in found and found[key].shape == own[key].shape for key in keys)
        if (count, count / len(keys)) > (fitting, fitting / whole):
            best, fitting, whole = name, count, len(keys)
    nearest = (
        f"the nearest backbone is {best}, of which {fitting} of {whole} tensors are there"
        if best
        else "they fit no backbone"
    )
    return f"it begins with {shown(tensors)}; {nearest}"
