"""The optimiser of a network's weights: stochastic gradient descent at several rates."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from wsss_cli.models.base import Network


def descent(
    network: Network,
    *,
    lr: float,
    new_lr: float,
    bias_lr: float = 1.0,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    decay_biases: bool = True,
) -> torch.optim.SGD:
    """Stochastic gradient descent; each group holds as ``times`` its rate relative to ``lr``.

    The public code of psa and EPS has four rates: 1, 2 for biases, 10 in new layers, 20 for biases
    there; biases do not decay. That of IRNet and SIPE makes no difference between biases and other
    weights.

    Args:
        network: the network; a bias is a parameter of this name, also the shift of a normalisation.
        lr: learning rate of the backbone.
        new_lr: how many times as large that of new layers is.
        bias_lr: how many times as large that of biases is, in either.
        momentum: momentum.
        weight_decay: weight decay.
        decay_biases: whether that of biases too.
    """
    groups = network.parameter_groups()
    biases = {id(each) for name, each in network.named_parameters() if name.endswith(".bias")}
    apart = bias_lr != 1 or not decay_biases
    settings: list[dict[str, Any]] = []
    for name, times in (("backbone", 1.0), ("new", new_lr)):
        if not apart:  # two groups, as states to resume of earlier versions have them
            settings.append({"params": groups[name], "times": times})
            continue
        own: dict[bool, list[nn.Parameter]] = {False: [], True: []}
        for each in groups[name]:
            own[id(each) in biases].append(each)
        decay = weight_decay if decay_biases else 0.0
        settings.append({"params": own[False], "times": times})
        settings.append({"params": own[True], "times": times * bias_lr, "weight_decay": decay})
    return torch.optim.SGD(settings, lr=lr, momentum=momentum, weight_decay=weight_decay)
