"""Make irn.json by running the public code of IRNet, and of SIPE, which refines with it.

    python -m tests.methods.make_irn_references IRN SIPE

with the folders of clones of jiwoon-ahn/irn and chenqi1126/SIPE. Nothing of theirs is kept but the
numbers that their functions give for the maps, masks and photographs of formula.py. ``cuda()`` does
nothing here, and pydensecrf has to be installed.
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
import torch
from torch import Tensor

from tests.models import formula
from tests.models.make_references import public

FILE = Path(__file__).with_name("irn.json")
SIZE = (13, 17)  # of a grid
RADIUS = 4


def grid(number: int, channels: int = 1, size: tuple[int, int] = SIZE) -> Tensor:
    """Values in [0, 1), shape (1, channels, h, w)."""
    values = formula.uniform(channels * size[0] * size[1], number)
    return torch.from_numpy(values).view(1, channels, *size)


def sharp(number: int) -> Tensor:
    """A boundary map: low at most places."""
    return grid(number) ** 4


def field(number: int) -> Tensor:
    """Displacements of up to three cells, (1, 2, h, w)."""
    return grid(number, 2) * 6 - 3


def regions() -> Tensor:
    """Labels of 0, 1, 2 and 255 in blocks, int64 (1, h, w)."""
    blocks = formula.uniform(5 * 6, 7).reshape(5, 6)
    choice = np.array([0, 0, 1, 2, 255])[(blocks * 5).astype(int)]
    return torch.from_numpy(choice.repeat(3, 0).repeat(3, 1)[: SIZE[0], : SIZE[1]].copy())[None]


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A photograph, uint8 (40, 56, 3), and maps of two classes, float32 (2, 40, 56)."""
    y, x = np.mgrid[:40, :56]
    maps = [
        np.exp(-(((y - row) / 10) ** 2) - ((x - column) / 8) ** 2)
        for row, column in ((16, 17), (24, 42))
    ]
    maps[0] = np.maximum(maps[0], 0.15 * (y > 34))  # between both thresholds
    return formula.photograph(40, 56), np.stack(maps).astype(np.float32)


def own_background() -> np.ndarray:
    """A background map of the scene, float32 (40, 56): the class wins in the middle of its area."""
    return (0.6 - 0.5 * scene()[1].max(0)).astype(np.float32)


def commit(clone: str) -> str:
    command = ["git", "-C", clone, "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def main(irn: str, sipe: str) -> None:
    sources = f"jiwoon-ahn/irn@{commit(irn)}, chenqi1126/SIPE@{commit(sipe)}"
    found: dict[str, Any] = {"source": sources}
    nothing = mock.patch.object(Tensor, "cuda", lambda tensor, *_, **__: tensor)
    with nothing, mock.patch.object(torch, "cuda", mock.MagicMock()):
        indexing = public(irn, "misc.indexing")
        index = indexing.PathIndex(radius=RADIUS, default_size=SIZE)
        edge = sharp(1)
        affinity = indexing.edge_to_affinity(edge, list(index.path_indices))[0]
        found["offsets"] = np.asarray(index.search_dst).tolist()
        found["affinity"] = affinity.double().mean(1).tolist()
        found["affinity_picked"] = affinity[:, ::11].tolist()

        module = public(irn, "net.resnet50_irn")
        labels = module_labels(irn, index)
        found["losses"] = losses(module, index, labels)

        maps = torch.stack([grid(11)[0, 0], grid(12)[0, 0]])
        walked = indexing.propagate_to_edge(maps, edge[0], radius=RADIUS, beta=10, exp_times=8)
        found["walked"] = walked[:, 0].flatten(1)[:, ::7].tolist()
    imutils = public(irn, "misc.imutils")
    photo, cam = scene()
    found["regions"] = confident(imutils, photo, cam).flatten()[::9].tolist()
    found["regions_sipe"] = confident_sipe(sipe, photo, cam).flatten()[::9].tolist()
    text = json.dumps(found, indent=1, default=str)
    FILE.write_text(re.sub(r"\n\s+(?=[-\d\]])", " ", text) + "\n")


def module_labels(irn: str, index: Any) -> Any:
    # When it is imported, their data loader needs a package and reads a file of labels.
    unused = mock.patch.dict(sys.modules, imageio=mock.MagicMock())
    with unused, mock.patch.object(np, "load", return_value=mock.MagicMock()):
        loader = public(irn, "voc12.dataloader")
    extract = loader.GetAffinityLabelFromIndices(index.src_indices, index.dst_indices)
    return extract(regions()[0].numpy())


def losses(module: Any, index: Any, labels: Any) -> dict[str, float]:
    """The losses of train_irn.py, and the slopes of their sum at some cells."""
    network = module.AffinityDisplacementLoss.__new__(module.AffinityDisplacementLoss)
    torch.nn.Module.__init__(network)
    network.path_index = index
    network.n_path_lengths = len(index.path_indices)
    for number, indices in enumerate(index.path_indices):
        network.register_buffer(f"path_indices{number}", torch.from_numpy(np.asarray(indices)))
    due = torch.from_numpy(index.search_dst).transpose(1, 0)[None, :, :, None].float()
    network.register_buffer("disp_target", due)
    bg, fg, neg = (label[None] for label in labels)
    edge, disp = sharp(1).requires_grad_(), field(3).requires_grad_()
    affinity = network.to_affinity(edge)
    same, other = -torch.log(affinity + 1e-5), -torch.log(1 + 1e-5 - affinity)
    pairs = network.to_pair_displacement(disp)
    towards, still = network.to_displacement_loss(pairs), pairs.abs()
    tiny = 1e-5
    found = {
        "bg": (bg * same).sum() / (bg.sum() + tiny),
        "fg": (fg * same).sum() / (fg.sum() + tiny),
        "neg": (neg * other).sum() / (neg.sum() + tiny),
        "dp_fg": (towards * fg[:, None]).sum() / (2 * fg.sum() + tiny),
        "dp_bg": (still * bg[:, None]).sum() / (2 * bg.sum() + tiny),
    }
    total = (found["bg"] / 2 + found["fg"] / 2 + found["neg"]) / 2
    total = total + (found["dp_fg"] + found["dp_bg"]) / 2
    total.backward()
    values: dict[str, Any] = {name: value.item() for name, value in found.items()}
    assert edge.grad is not None
    assert disp.grad is not None
    values["edge_slope"] = edge.grad.flatten()[::5].tolist()
    values["field_slope"] = disp.grad.flatten()[::9].tolist()
    return values


def confident(imutils: Any, photo: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """What cam_to_ir_label.py does with its defaults."""

    def run(threshold: float) -> Any:
        padded = np.pad(cam, ((1, 0), (0, 0), (0, 0)), constant_values=threshold)
        return imutils.crf_inference_label(photo, padded.argmax(0), n_labels=3)

    foreground, background = run(0.30), run(0.05)
    both = foreground.copy()
    both[foreground == 0] = 255
    both[background + foreground == 0] = 0
    return both


def confident_sipe(sipe: str, photo: np.ndarray, cam: np.ndarray) -> Any:
    """What cam2ir.py writes."""
    maps = {"keys": np.arange(3), "IS_CAM": np.concatenate([own_background()[None], cam])}
    stored = mock.patch.object(np, "load", return_value=mock.Mock(item=lambda: maps))
    names = ("imageio", "torchvision", "cv2")
    unused = {name: mock.MagicMock() for name in names}
    with mock.patch.dict(sys.modules, unused):
        with mock.patch.object(np, "load", return_value=mock.MagicMock()):
            module = public(sipe, "cam2ir")
        picture = {"name": "a", "img": photo}
        args = mock.Mock(session_name="", num_workers=9)
        with stored:
            module._work(0, [[picture]], args)
        return module.imageio.imwrite.call_args.args[1]


if __name__ == "__main__":
    main(*sys.argv[1:])
