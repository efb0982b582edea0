"""The networks by kind: how a checkpoint is built and how its output is read as maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsss_cli.errors import ConfigurationError
from wsss_cli.models.affinity import AffinityNetwork
from wsss_cli.models.backbones import build_backbone
from wsss_cli.models.cam import CamNetwork, ClassMaps, Reading
from wsss_cli.models.deeplab import SegmentationNetwork
from wsss_cli.models.eps import EpsNetwork, Probabilities
from wsss_cli.models.psl import ProhibitiveNetwork
from wsss_cli.models.sipe import ImageSpecific, SipeNetwork


def build_network(
    kind: str, backbone: str, classes: Sequence[str], config: Mapping[str, Any]
) -> Any:
    """The network that a checkpoint describes, with random weights.

    Args:
        kind: cam, eps, sipe, affinity or segmentation.
        backbone: name of the backbone.
        classes: class names without background.
        config: plain data: ``output_stride``, and of a segmentation network ``head`` and, if it has
            the classification branch of prohibitive segmentation learning, ``psl``.

    Raises:
        ConfigurationError: there is no such kind, backbone, stride or head.
    """
    body = build_backbone(backbone, output_stride=config.get("output_stride"))
    if kind == "cam":
        return CamNetwork(body, len(classes))
    if kind == "eps":
        return EpsNetwork(body, len(classes))
    if kind == "sipe":
        return SipeNetwork(body, len(classes))
    if kind == "affinity":
        return AffinityNetwork(body)
    if kind == "segmentation":
        family = ProhibitiveNetwork if config.get("psl") else SegmentationNetwork
        return family(body, len(classes) + 1, str(config.get("head")))
    raise ConfigurationError(f"no network of kind '{kind}'")


# How each kind of checkpoint is read, if nothing else is asked for.
READINGS: dict[str, Reading] = {
    "cam": ClassMaps(),
    "eps": Probabilities(),
    "sipe": ImageSpecific(),
}
