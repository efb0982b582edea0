"""Commands called in the process of the tests: much faster where torch would be imported anew."""

from __future__ import annotations

from pathlib import Path

from wsss_cli import files

# Options of a classifier's trainer for a short run.
SMALL = (
    "--classes",
    "voc",
    "--weights",
    "none",
    "--crop",
    "64",
    "--resize",
    "48,80",
    "--batch-size",
    "2",
    "--device",
    "cpu",
    "--freeze-bn",
)


def same(a: str | Path, b: str | Path) -> bool:
    """Whether two checkpoints have the same weights."""
    import torch

    one, two = (files.load_checkpoint(path).state_dict for path in (a, b))
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
