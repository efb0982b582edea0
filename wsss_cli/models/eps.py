"""The EPS classifier (Lee et al. 2021, 2023) and how its output is read as maps."""

from __future__ import annotations

from torch import Tensor

from wsss_cli.classes import BACKGROUND
from wsss_cli.methods.cam import normalise
from wsss_cli.models.base import Backbone
from wsss_cli.models.cam import CamNetwork, ClassMaps


class EpsNetwork(CamNetwork):
    """Classifier with a background map after those of the C classes (Lee et al. 2021)."""

    def __init__(self, backbone: Backbone, num_classes: int, *, dropout: float = 0) -> None:
        super().__init__(backbone, num_classes + 1, dropout=dropout)

    def scores(self, output: Tensor, inside: Tensor | None = None) -> Tensor:
        """Class scores (logits), shape (N, C), of maps (N, C + 1, h, w); background has none."""
        return super().scores(output[:, :-1], inside)


class Probabilities(ClassMaps):
    """Maps of the kind eps: the softmax over background and the classes asked for.

    The softmax is over all C + 1 maps; divided by their sum, those asked for are the probabilities
    given that no other class is there.
    """

    first: tuple[str, ...] = (BACKGROUND,)

    def scores(self, kept: Tensor) -> Tensor:
        return kept[:-1].mean((1, 2))

    def evidence(self, kept: Tensor, wanted: list[int]) -> Tensor:
        return kept.softmax(0)[[-1, *wanted]]

    def maps(self, mean: Tensor) -> Tensor:
        return mean / mean.sum(0)


class Relative(Probabilities):
    """Maps of the kind eps as in the authors' public code: no background, each of maximum 1.

    The probabilities of the classes asked for, in the softmax over all C + 1 maps, are added over
    the views and each class is divided by its maximum, like CAMs. The authors take a constant
    background of 0.2.
    """

    first: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.params = {"map": "relative"}

    def evidence(self, kept: Tensor, wanted: list[int]) -> Tensor:
        return kept.softmax(0)[wanted]

    def maps(self, mean: Tensor) -> Tensor:
        return normalise(mean)
