"""An exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from wsss_cli.models.weights import fill


class WeightAverage:
    """The moving average of the weights over the steps of a training (Polyak & Juditsky 1992).

    After step t = 1, 2 … the average becomes d · average + (1 - d) · weights, with d the smaller of
    ``decay`` and (1 + t) / (10 + t): without the latter, as in TensorFlow's
    ``ExponentialMovingAverage``, a short training would end with the weights that it began with.
    The statistics of batch normalisation are averaged too; whole numbers are those of the network.

    Args:
        network: whose parameters and buffers are averaged; it starts as the average.
        decay: in [0, 1); 0 keeps the last weights.

    Raises:
        ValueError: no such decay.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay is from 0 to below 1, not {decay}")
        self.network, self.decay = network, decay
        self._average = _copy(network)

    def update(self, step: int) -> None:
        """Take in the weights after ``step`` steps, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for key, value in self.network.state_dict().items():
                if value.is_floating_point():
                    self._average[key].lerp_(value, 1 - decay)  # what does not change stays exact
                else:
                    self._average[key].copy_(value)

    def state_dict(self) -> dict[str, Tensor]:
        """The average, by the keys of the network."""
        return dict(self._average)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from an earlier average.

        Raises:
            KeyError, RuntimeError, WsssError: it is not one of this network.
        """
        if state.keys() != self._average.keys():
            raise KeyError("average")
        with self.in_force():
            fill(self.network, state)  # checks shapes, types and numbers
            self._average = _copy(self.network)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """The network has the average in place of its weights."""
        kept = _copy(self.network)
        self.network.load_state_dict(self._average)
        try:
            yield
        finally:
            self.network.load_state_dict(kept)


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}
