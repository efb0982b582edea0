"""The part common to tools that run a network over whole photographs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wsss_cli import files
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
    def checkpoint(self) -> str:
        return self.runner.digest

    @property
    def classes(self) -> tuple[str, ...]:
        return self.runner.classes

    def group(self, item: Any) -> tuple[int, ...]:
        if item.image is None:
            return (id(item),)
        shape: tuple[int, ...] = item.image.shape
        return shape


def read(path: str, runner: Runner) -> tuple[Image | None, tuple[int, int]]:
    """A photograph as ``runner`` sees it whole, uint8 (h, w, 3), and its own size (H, W).

    None stands for one that it sees in tiles: such photographs are read one at a time when their
    turn comes, since those that wait for it could fill the memory.
    """
    if runner.tile and runner.in_tiles(size := files.image_size(path)):
        return None, size
    return files.read_bounded(path, runner.max_side)
