"""The networks by kind, one row each: how a checkpoint is built and how its output is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from wsss_cli.errors import ConfigurationError
from wsss_cli.files import Checkpoint
from wsss_cli.models.affinity import AffinityNetwork, FeatureLinks
from wsss_cli.models.backbones import BACKBONES, build_backbone
from wsss_cli.models.base import Backbone, Colours, Network, colours_of
from wsss_cli.models.cam import CamNetwork, ClassMaps, Reading, Roots
from wsss_cli.models.deeplab import SegmentationNetwork
from wsss_cli.models.eps import EpsNetwork, Probabilities, Relative
from wsss_cli.models.irn import BoundaryLinks, IrnNetwork
from wsss_cli.models.links import Links
from wsss_cli.models.psl import ProhibitiveNetwork
from wsss_cli.models.sipe import General, ImageSpecific, SipeNetwork
from wsss_cli.models.weights import unusable

Config = Mapping[str, Any]


class Kind(NamedTuple):
    """A kind of network.

    Attributes:
        build: makes one, given its backbone, its number of classes without background, and the
            config of its checkpoint.
        readings: how its output is read as maps, by name, the default first; empty for networks
            that make no maps. A name is that of ``make-cam --map``.
        links: how its output links the cells of the random walk, for networks that do.
    """

    build: Callable[[Backbone, int, Config], Network]
    readings: Mapping[str, Callable[..., Reading]] = {}
    links: type[Links] | None = None


def _classifier(
    network: Callable[..., CamNetwork], *more: str
) -> Callable[[Backbone, int, Config], Network]:
    def build(backbone: Backbone, classes: int, config: Config) -> Network:
        dropout = config.get("dropout") or 0
        if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
            raise ConfigurationError(f"no dropout {dropout!r}: it is from 0 to below 1")
        settings = {key: config.get(key) for key in more}
        return network(backbone, classes, dropout=dropout, **settings)

    return build


def _segmentation(backbone: Backbone, classes: int, config: Config) -> Network:
    head, scales = str(config.get("head")), config.get("msc") or ()
    if not isinstance(scales, list | tuple) or not all(map(_is_scale, scales)):
        raise ConfigurationError(f"no multi-scale inputs {scales!r}: each is above 0, at most 4")
    if not config.get("psl"):
        return SegmentationNetwork(backbone, classes + 1, head, scales)
    if scales:
        raise ConfigurationError("no multi-scale inputs with a classification branch")
    return ProhibitiveNetwork(backbone, classes + 1, head)


def _is_scale(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value <= 4


def _affinity(backbone: Backbone, _: int, config: Config) -> Network:
    return AffinityNetwork(backbone, group_norm=bool(config.get("group_norm")))


def _irn(backbone: Backbone, _: int, config: Config) -> Network:
    cells = config.get("cells") or "centred"
    if cells not in ("centred", "parts"):
        raise ConfigurationError(f"no cells {cells!r}: they are centred or parts")
    return IrnNetwork(backbone, cells=cells)


KINDS: dict[str, Kind] = {
    "cam": Kind(_classifier(CamNetwork), {"cam": ClassMaps, "root": Roots}),
    "eps": Kind(_classifier(EpsNetwork), {"probabilities": Probabilities, "relative": Relative}),
    "sipe": Kind(
        _classifier(SipeNetwork, "fine_stride"), {"is-cam": ImageSpecific, "cam": General}
    ),
    "affinity": Kind(_affinity, links=FeatureLinks),
    "irn": Kind(_irn, links=BoundaryLinks),
    "segmentation": Kind(_segmentation),
}

# Kinds that make-cam reads maps from, and whose backbone train-aff starts from.
CLASSIFIERS = tuple(name for name, kind in KINDS.items() if kind.readings)
# Kinds that random-walk goes along.
LINKING = tuple(name for name, kind in KINDS.items() if kind.links)


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
    for key, value in network.state_dict().items():
        if problem := unusable(key, value):
            raise ConfigurationError(
                f"{checkpoint.path}: {key} holds {problem}; train again with a smaller --lr, or "
                "import whole weights"
            )
    return network


def build_network(kind: str, backbone: str, classes: Sequence[str], config: Config) -> Any:
    """The network that a checkpoint describes, with random weights.

    Args:
        kind: a key of ``KINDS``.
        backbone: a key of ``BACKBONES``.
        classes: class names without background.
        config: plain data: ``output_stride``, and of a segmentation network ``head`` and, if it has
            the classification branch of prohibitive segmentation learning, ``psl``; ``msc``, the
            further scales of multi-scale inputs; ``dropout`` of a classifier; of one of SIPE
            ``fine_stride``; of an AffinityNet ``group_norm``; of an IRNet ``cells``; ``mean`` and
            ``std`` where images are not normalised as the backbone's row says.

    Raises:
        ConfigurationError: there is no such kind, backbone, stride, head or normalisation.
    """
    if kind not in KINDS:
        raise ConfigurationError(f"no network of kind '{kind}'; there are {', '.join(KINDS)}")
    if type(config.get("output_stride")) not in (int, type(None)):
        raise ConfigurationError(f"no output stride {config['output_stride']}")
    body = build_backbone(backbone, output_stride=config.get("output_stride"))
    if (colours := colours_of(config)) is not None:
        body.colours = colours
    return KINDS[kind].build(body, len(classes), config)


def colours_to_state(backbone: Backbone) -> dict[str, Any]:
    """The part of a config that states how images are normalised, if not as the row says."""
    row = BACKBONES.get(backbone.name)
    if row is None or backbone.colours == Colours(row.mean, row.std):
        return {}
    return {name: list(values) for name, values in backbone.colours._asdict().items()}
