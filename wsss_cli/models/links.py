"""How the output of a network links the cells of the random walk: one row of the table of kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch import Tensor

from wsss_cli.methods.affinity import mean_affinity

if TYPE_CHECKING:
    from wsss_cli.models.inference import View


class Ties(NamedTuple):
    """The links of an image on a grid (h, w).

    Attributes:
        affinity: of each cell to its P neighbours, (P, h, w).
        passing: 1 - the boundary map, (h, w), by which maps are multiplied before they walk; None
            of networks that have no such map.
        clusters: which cells are one object, int64 (h, w), where that is asked for.
    """

    affinity: Tensor
    passing: Tensor | None = None
    clusters: Tensor | None = None

    def shown(self, radius: int) -> Tensor:
        """How strongly each cell is tied to its surroundings, in [0, 1], (h, w)."""
        if self.passing is not None:
            return self.passing
        return mean_affinity(self.affinity[None], radius)[0]


class Links:
    """The links that a kind of network gives, and the settings of the walk that its paper has.

    Of an image seen in tiles, planes of numbers in the cells are blended, then linked as a whole.

    Args:
        radius: neighbours are nearer than this, cells of the grid.
        instances: ask which cells are one object.

    Attributes:
        tells_instances: whether the network knows that.
        beta: exponent of the affinities.
        alpha: exponent of the background score that walks along; None for no such score.
        threshold: without alpha, the background that walked maps without one of their own are
            compared with.
        flip: whether the network sees the mirror image too.
        share_maximum: whether walked maps that are compared with a threshold are divided by one
            maximum; else each by its own.
    """

    beta: ClassVar[float]
    alpha: ClassVar[float | None]
    threshold: ClassVar[float | None]
    flip: ClassVar[bool] = False
    share_maximum: ClassVar[bool] = False
    tells_instances: ClassVar[bool] = False

    def __init__(self, radius: int = 5, *, instances: bool = False) -> None:
        self.radius, self.instances = radius, instances

    @property
    def reach(self) -> int:
        """How many cells beyond its own the planes of a cell depend on."""
        return 0

    def prepare(self, network: Any) -> None:
        """Switch off what is not needed of a network."""

    def keep(self, output: Any, part: slice) -> Tensor:
        """The part of the network's output that the planes are made of, (N, D, h, w)."""
        raise NotImplementedError

    def planes(self, views: Sequence[View], stride: int) -> Tensor:
        """The planes of an image from its views, (Q, h, w)."""
        raise NotImplementedError

    def weights(self, cells: Tensor) -> Tensor:
        """Weights of the planes where tiles are blended, (Q, h, w), from those of the cells."""
        raise NotImplementedError

    def ties(self, planes: Tensor) -> Ties:
        """The links of an image from its planes."""
        raise NotImplementedError
