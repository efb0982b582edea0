"""The networks by kind, one row each: how a checkpoint is built and how its output is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from wsss_cli.errors import ConfigurationError
from wsss_cli.files import Checkpoint
from wsss_cli.models.affinity import AffinityNetwork
from wsss_cli.models.backbones import build_backbone
from wsss_cli.models.base import Backbone, Network
from wsss_cli.models.cam import CamNetwork, ClassMaps, Reading
from wsss_cli.models.deeplab import SegmentationNetwork
from wsss_cli.models.eps import EpsNetwork, Probabilities
from wsss_cli.models.psl import ProhibitiveNetwork
from wsss_cli.models.sipe import General, ImageSpecific, SipeNetwork

Config = Mapping[str, Any]


class Kind(NamedTuple):
    """A kind of network.

    Attributes:
        build: makes one, given its backbone, its number of classes without background, and the
            config of its checkpoint.
        readings: how its output is read as maps, by name, the default first; empty for networks
            that make no maps. A name is that of ``make-cam --map``.
    """

    build: Callable[[Backbone, int, Config], Network]
    readings: Mapping[str, Callable[..., Reading]] = {}


def _segmentation(backbone: Backbone, classes: int, config: Config) -> Network:
    network = ProhibitiveNetwork if config.get("psl") else SegmentationNetwork
    return network(backbone, classes + 1, str(config.get("head")))


KINDS: dict[str, Kind] = {
    "cam": Kind(lambda backbone, classes, _: CamNetwork(backbone, classes), {"cam": ClassMaps}),
    "eps": Kind(lambda backbone, classes, _: EpsNetwork(backbone, classes), {"eps": Probabilities}),
    "sipe": Kind(
        lambda backbone, classes, config: SipeNetwork(backbone, classes, config.get("fine_stride")),
        {"is-cam": ImageSpecific, "cam": General},
    ),
    "affinity": Kind(lambda backbone, *_: AffinityNetwork(backbone)),
    "segmentation": Kind(_segmentation),
}

# Kinds that make-cam reads maps from, and whose backbone train-aff starts from.
CLASSIFIERS = tuple(name for name, kind in KINDS.items() if kind.readings)


def restored(checkpoint: Checkpoint) -> Any:
    """The network of a checkpoint, with its weights.

    Raises:
        ConfigurationError: what it describes cannot be built, its weights are those of another
            network, or they are not finite.
    """
    try:
        # Its weights fit at any stride: the backbone's own would be silently wrong.
        if checkpoint.config.get("output_stride") is None:
            raise ConfigurationError("a damaged checkpoint: its config has no 'output_stride'")
        # The random weights that are filled leave the next network's as they would be.
        with torch.random.fork_rng(devices=[]):
            network = build_network(
                checkpoint.kind, checkpoint.backbone, checkpoint.classes, checkpoint.config
            )
        network.load_state_dict(checkpoint.state_dict)
        for key, own in network.state_dict().items():
            if own.is_floating_point() != checkpoint.state_dict[key].is_floating_point():
                raise ValueError(key)
    except ConfigurationError as error:
        raise ConfigurationError(f"{checkpoint.path}: {error}") from error
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigurationError(
            f"{checkpoint.path}: its weights do not fit its network ({checkpoint.backbone})"
        ) from error
    if not all(each.isfinite().all() for each in checkpoint.state_dict.values()):
        raise ConfigurationError(
            f"{checkpoint.path}: holds NaN or infinite values; train again with a smaller --lr"
        )
    return network


def build_network(kind: str, backbone: str, classes: Sequence[str], config: Config) -> Any:
    """The network that a checkpoint describes, with random weights.

    Args:
        kind: a key of ``KINDS``.
        backbone: a key of ``BACKBONES``.
        classes: class names without background.
        config: plain data: ``output_stride``, and of a segmentation network ``head`` and, if it has
            the classification branch of prohibitive segmentation learning, ``psl``; of a network of
            SIPE ``fine_stride``.

    Raises:
        ConfigurationError: there is no such kind, backbone, stride or head.
    """
    if kind not in KINDS:
        raise ConfigurationError(f"no network of kind '{kind}'; there are {', '.join(KINDS)}")
    if type(config.get("output_stride")) not in (int, type(None)):
        raise ConfigurationError(f"no output stride {config['output_stride']}")
    body = build_backbone(backbone, output_stride=config.get("output_stride"))
    return KINDS[kind].build(body, len(classes), config)
