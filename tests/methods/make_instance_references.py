"""Make instances.json by running the public code of IRNet.

    python -m tests.methods.make_instance_references IRN

with the folder of a clone of jiwoon-ahn/irn. Nothing of theirs is kept but the numbers that their
functions give for the fields and maps below. ``cuda()`` does nothing here; scikit-image and
pydensecrf have to be installed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from tests.models import formula
from tests.models.make_references import OWN, public

FILE = Path(__file__).with_name("instances.json")
SIZE = (22, 30)  # of a grid
CENTRES = ((7, 7), (8, 20), (17, 14))
RADIUS, BACKGROUND = 5, 0.25


def noise(number: int, channels: int) -> npt.NDArray[np.float64]:
    """Values in [-1, 1), shape (channels, h, w)."""
    values = formula.uniform(channels * SIZE[0] * SIZE[1], number)
    return values.reshape(channels, *SIZE) * 2 - 1


def apart() -> Tensor:
    """The squared distance of each cell to each centre, (3, h, w)."""
    y, x = torch.meshgrid(*map(torch.arange, SIZE), indexing="ij")
    return torch.stack([(y - row) ** 2 + (x - column) ** 2 for row, column in CENTRES]).double()


def field() -> Tensor:
    """Displacements, float32 (2, h, w): much of the way to the nearest centre, and noise; in a
    corner none leads to one."""
    y, x = torch.meshgrid(*map(torch.arange, SIZE), indexing="ij")
    nearest = apart().argmin(0)
    ends = torch.tensor(CENTRES, dtype=torch.float64)[nearest].permute(2, 0, 1)
    found = (ends - torch.stack([y, x])) / 1.7 + 0.4 * torch.from_numpy(noise(1, 2))
    found[:, -5:, -6:] = 5.0
    return found.float()


def edge() -> Tensor:
    """A boundary map, float32 (h, w): high between the areas of the centres."""
    nearest = apart().argmin(0)
    walls = torch.zeros(SIZE)
    walls[:, 1:] += (nearest[:, 1:] != nearest[:, :-1]) * 0.8
    walls[1:] += (nearest[1:] != nearest[:-1]) * 0.8
    spread = torch.from_numpy(noise(2, 1)[0]).float()
    return (walls + 0.1 + 0.1 * spread).clamp(0, 1)


def maps() -> Tensor:
    """Maps of two classes, float32 (2, h, w): the first has two objects that touch."""
    near = (-apart() / 40).exp().float()
    return torch.stack([torch.maximum(near[0], near[1]), near[2] * 0.9])


def main(irn: str) -> None:
    command = ["git", "-C", irn, "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    found: dict[str, Any] = {"source": f"jiwoon-ahn/irn@{commit}"}
    OWN.add("step")
    nothing = mock.patch.object(Tensor, "cuda", lambda tensor, *_, **__: tensor)
    # When it is imported, their data loader needs a package and reads a file of labels.
    unused = mock.patch.dict(sys.modules, imageio=mock.MagicMock())
    with unused, nothing, mock.patch.object(np, "load", return_value=mock.MagicMock()):
        step = public(irn, "step.make_ins_seg_labels")
        displacement = field().numpy()
        ends = step.find_centroids_with_refinement(displacement)
        masks = step.cluster_centroids(ends, displacement)
        cut = step.separte_score_by_mask(maps(), masks)
        walked = step.indexing.propagate_to_edge(
            cut, edge()[None], beta=10, exp_times=8, radius=RADIUS
        )
        size = (4 * SIZE[0] - 3, 4 * SIZE[1] - 1)
        large = functional.interpolate(
            walked, scale_factor=4, mode="bilinear", align_corners=False
        )[:, 0, : size[0], : size[1]]
        large = large / large.max()
        padded = functional.pad(large, (0, 0, 0, 0, 1, 0), value=BACKGROUND)
        count = len(masks)
        shapes = step.pyutils.to_one_hot(padded.argmax(0).numpy(), maximum_val=2 * count + 1)[1:]
        classes = np.repeat([0, 1], count)
        detected = step.detect_instance(
            large.numpy(), shapes, classes, max_fragment_size=size[0] * size[1] * 0.01
        )
    found["ends"] = ends.reshape(2, -1)[:, ::7].tolist()
    found["clusters"] = masks.argmax(0).tolist()
    found["walked"] = walked[:, 0].flatten(1)[:, ::37].tolist()
    found["detected"] = [
        {
            "class": int(kind),
            "score": float(score),
            "area": int(mask.sum()),
            "rows": int((mask * np.arange(size[0])[:, None]).sum()),
            "columns": int((mask * np.arange(size[1])).sum()),
        }
        for kind, score, mask in zip(
            detected["class"], detected["score"], detected["mask"], strict=True
        )
    ]
    text = json.dumps(found, indent=1)
    FILE.write_text(re.sub(r"\n\s+(?=[-\d\]])", " ", text) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
