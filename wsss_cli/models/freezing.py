"""Lower stages of a backbone that keep their weights."""

from __future__ import annotations

from wsss_cli.errors import ConfigurationError
from wsss_cli.models.base import Backbone
from wsss_cli.models.batchnorm import freeze_batchnorm


def freeze_until(backbone: Backbone, stage: str) -> None:
    """Keep the weights of all stages up to one, and the statistics of their normalisation.

    psa freezes ResNet-38 up to ``b2`` and VGG-16 up to ``conv2``; irn and SIPE let no gradient
    below ``layer3`` of ResNet-50, which is freezing it up to ``layer2``.

    Args:
        backbone: changed in place.
        stage: the last one to freeze, a key of ``backbone.stages``.

    Raises:
        ConfigurationError: there is no such stage.
    """
    names = list(backbone.stages)
    if stage not in names:
        raise ConfigurationError(
            f"--freeze-until {stage}: {backbone.name} has no such stage; it has "
            f"{', '.join(names)}; none freezes nothing",
            option="freeze_until",
        )
    for name in names[: names.index(stage) + 1]:
        for layer in backbone.stages[name]:
            module = backbone.get_submodule(layer)
            module.requires_grad_(False)
            freeze_batchnorm(module)
