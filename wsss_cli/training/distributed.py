"""Several processes training one network, as started by torchrun.

Without torchrun there is one process, and everything here does nothing.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed as dist

from wsss_cli import console
from wsss_cli.errors import WsssError

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """The processes that train together.

    Attributes:
        rank: number of this process, from 0; process 0 reads, writes and reports for all.
        world: number of processes.
    """

    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        """Whether this process reads, writes and reports."""
        return self.rank == 0

    def on_main(self, function: Callable[[], T]) -> T:
        """Call ``function`` in the main process only, and return its result in every process.

        If it fails, the main process raises the error and the others exit with its exit code.
        """
        if self.world == 1:
            return function()
        outcome: list[Any] = [None, 0]
        error: BaseException | None = None
        if self.main:
            try:
                outcome = [function(), 0]
            except BaseException as caught:
                error = caught
                outcome = [None, caught.exit_code if isinstance(caught, WsssError) else 1]
        dist.broadcast_object_list(outcome, src=0)
        if error is not None:
            raise error
        if outcome[1]:
            sys.exit(outcome[1])
        result: T = outcome[0]
        return result

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in their order, in every process."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values


@contextmanager
def group(device_type: str) -> Iterator[Group]:
    """The processes that torchrun started, connected while the block runs.

    Args:
        device_type: cpu (connected by gloo) or cuda (by nccl, one device per process).
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Group()
        return
    if device_type == "cuda":
        torch.cuda.set_device(local_rank())
    dist.init_process_group("nccl" if device_type == "cuda" else "gloo")
    try:
        joined = Group(dist.get_rank(), dist.get_world_size())
        if not joined.main:
            console.configure(quiet=True)
        yield joined
    except WsssError as error:
        if joined.main:
            raise
        sys.exit(error.exit_code)  # the main process reports the same error
    finally:
        gc.collect()  # reference cycles that hold the group must not outlive it
        dist.destroy_process_group()


def local_rank() -> int:
    """Number of this process among those on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))
