"""The part common to tools that run a network over whole photographs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wsss_cli import files
from wsss_cli.errors import ConfigurationError
from wsss_cli.models.inference import Image, Runner
from wsss_cli.stage import BatchTool


class PhotographTool(BatchTool):
    """A tool whose network sees photographs alone, those of one size together.

    Attributes:
        runner: the network.
        image_key: record key of the photograph.
    """

    runner: Runner
    image_key: str

    @property
    def needs(self) -> Sequence[str]:
        return (self.image_key,)

    @property
    def checkpoint(self) -> str | Sequence[str]:
        return self.runner.digest

    @property
    def classes(self) -> tuple[str, ...]:
        return self.runner.classes

    def group(self, item: Any) -> tuple[int, ...]:
        if item.image is None:
            return (id(item),)
        shape: tuple[int, ...] = item.image.shape
        return shape


def together(runners: Sequence[Runner]) -> Sequence[Runner]:
    """Networks whose outputs are to be averaged: they see the same tiles from then on.

    Raises:
        ConfigurationError: one is given twice, or their classes are not the same.
    """
    first, *more = runners
    seen = {first.digest: first.path}
    for other in more:
        if other.digest in seen:
            raise ConfigurationError(
                f"{other.path} is the same checkpoint as {seen[other.digest]}: give it once"
            )
        seen[other.digest] = other.path
        if other.classes != first.classes:
            differ = sorted({*first.classes} ^ {*other.classes})
            where = ", ".join(differ[:5]) + (", …" if len(differ) > 5 else "")
            raise ConfigurationError(
                f"{other.path} is not of the classes of {first.path}, with which it is averaged: "
                + (f"only one of them knows {where}" if differ else "they are in another order")
            )
    # Tiles begin where every network has a cell: strides are powers of two.
    align = max(runner.align for runner in runners)
    for runner in runners:
        runner.align = align
    return runners


def read(path: str, runner: Runner) -> tuple[Image | None, tuple[int, int]]:
    """A photograph as ``runner`` sees it whole, uint8 (h, w, 3), and its own size (H, W).

    None stands for one that it sees in tiles: such photographs are read one at a time when their
    turn comes, since those that wait for it could fill the memory.
    """
    if runner.tile and runner.in_tiles(size := files.image_size(path)):
        return None, size
    return files.read_bounded(path, runner.max_side)
