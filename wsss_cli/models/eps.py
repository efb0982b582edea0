"""The EPS classifier (Lee et al. 2021, 2023) and how its output is read as maps."""

from __future__ import annotations

from torch import Tensor

from wsss_cli.classes import BACKGROUND
from wsss_cli.models.base import Backbone
from wsss_cli.models.cam import CamNetwork, ClassMaps


class EpsNetwork(CamNetwork):
    """Classifier with a map of the background after those of the C classes (Lee et al. 2021)."""

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__(backbone, num_classes + 1)

    def scores(self, maps: Tensor, inside: Tensor | None = None) -> Tensor:
        """Class scores (logits), shape (N, C), of class maps (N, C + 1, h, w).

        Args:
            maps: class maps, background last.
            inside: bool (N, 1, h, w), the cells to average over; None takes all.
        """
        return super().scores(maps[:, :-1], inside)


class Probabilities(ClassMaps):
    """A classifier of the kind eps: of its softmax, background and the classes asked for.

    Divided by their sum, they are the probabilities given that no other class is there.
    """

    first: tuple[str, ...] = (BACKGROUND,)

    def scores(self, output: Tensor) -> Tensor:
        return output[:-1].mean((1, 2))

    def evidence(self, output: Tensor, wanted: list[int]) -> Tensor:
        return output.softmax(0)[[-1, *wanted]]

    def maps(self, mean: Tensor) -> Tensor:
        return mean / mean.sum(0)
