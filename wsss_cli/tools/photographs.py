"""The part common to tools that run a network over whole photographs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wsss_cli.models.inference import Runner
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
        shape: tuple[int, ...] = item.image.shape
        return shape
