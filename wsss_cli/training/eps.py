"""Training a classifier on labels and saliency maps (EPS, Lee et al. 2021; EPS++, 2023)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from wsss_cli import records
from wsss_cli.errors import ConfigurationError
from wsss_cli.files import IGNORE
from wsss_cli.methods.eps import eps_loss, eps_pp_loss, foreground_map
from wsss_cli.methods.pamr import pamr
from wsss_cli.models.eps import EpsNetwork
from wsss_cli.records import Record
from wsss_cli.training.batch import Batch
from wsss_cli.training.loop import Loss
from wsss_cli.training.losses import multilabel_loss, pixel_loss

_FINER = 4  # pixels of the picture that maps are refined on to a cell of theirs, each way
_REACH = (1, 2, 3, 6)  # dilations there: the paper's, up to 24, in pixels four times as large
_MASK_EVERY = 4  # true masks are compared at every so-many-th pixel each way


def saliency_loss(
    network: EpsNetwork, *, variant: str, lam: float, tau: float = 0.4, drop_above: float = 0.5
) -> Loss:
    """The losses of a batch with labels and saliency maps, NaN where either is not known.

    ``classes``: the multi-label loss. ``saliency``: that of EPS or of EPS++. ``mask``: where the
    batch has true masks (255 elsewhere), their cross entropy; a true mask is also the image's
    saliency map, perfect, so that EPS++ leaves none of it out.

    Args:
        network: the network.
        variant: ``eps`` or ``eps++``.
        lam: weight of the foreground map beside what the background map leaves; 1 in EPS++ as
            its paper has it.
        tau: of EPS, the overlap from which a class is salient.
        drop_above: of EPS++, how far the refined foreground must be from the rounded saliency map
            for a pixel to be left out; 0.5 is the paper's.
    """

    def loss(forward: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        assert batch.labels is not None
        assert batch.grey is not None
        maps = forward(batch.images).float()
        found = {"classes": class_loss(network, maps, batch)}
        grey, sure = batch.grey, None
        if batch.label_maps is not None:
            sure = (batch.label_maps != IGNORE).any((1, 2))
            grey = torch.where(sure[:, None, None, None], _foreground(batch.label_maps), grey)
            first = maps.roll(1, 1)  # background first
            found["mask"] = pixel_loss(first, batch.label_maps, network.stride, every=_MASK_EVERY)
        # Cell (y, x) looks at pixel (stride y, stride x).
        grey = grey[:, :, :: network.stride, :: network.stride]
        if variant == "eps":
            found["saliency"] = eps_loss(maps, grey, batch.labels, tau, lam)
        else:
            refined = refined_foreground(maps, batch, network.stride)
            found["saliency"] = eps_pp_loss(
                maps, refined, grey, batch.labels, sure=sure, above=drop_above, lam=lam
            )
        return found

    return loss


def class_scores(network: EpsNetwork, maps: Tensor, batch: Batch) -> Tensor:
    """Class scores (N, C) of the class maps of a batch, without its padding."""
    return network.scores(maps, batch.cells(maps, network.stride))


def class_loss(network: EpsNetwork, maps: Tensor, batch: Batch) -> Tensor:
    """The multi-label loss over the images whose labels are known."""
    assert batch.labels is not None
    known = batch.labels.isfinite().all(1)
    scores = class_scores(network, maps, batch)
    return multilabel_loss(scores, batch.labels.nan_to_num(), batch.weights * known)


@torch.no_grad()
def refined_foreground(maps: Tensor, batch: Batch, stride: int) -> Tensor:
    """The foreground of class maps, refined by the colours of the photographs (PAMR).

    The photographs are seen at four pixels to a cell, a quarter of their size at stride 16: on
    whole ones the refinement would take longer than the step, and what it finds is looked at in the
    cells of the maps. Padding takes the values at the photograph's edge.

    What comes out is stretched to reach from 0 to 1 in each image, as it does anyway in a trained
    network. At first no foreground reaches one half: rounded as it is, it would contradict all that
    is salient, only background would be learned, and that for ever.

    Args:
        maps: class maps, background last, shape (N, C + 1, h, w).
        batch: the photographs, N.
        stride: of the maps on them.

    Returns:
        M_r in [0, 1], shape (N, 1, h, w).
    """
    assert batch.labels is not None
    step = max(stride // _FINER, 1)
    cells = torch.div(batch.valid + stride - 1, stride, rounding_mode="floor")
    foreground = repeat_edge(foreground_map(maps, batch.labels), cells)
    photographs, half = repeat_edge(batch.images, batch.valid), step // 2
    picture = functional.avg_pool2d(photographs, 2 * half + 1, step, half, count_include_pad=False)
    # Its corners are the centres of the corner cells.
    last = [(extent - 1) * (stride // step) + 1 for extent in maps.shape[2:]]
    fine = pamr(picture[:, :, : last[0], : last[1]], foreground, dilations=_REACH)
    fine = fine[:, :, :: stride // step, :: stride // step]
    low, high = fine.amin((2, 3), keepdim=True), fine.amax((2, 3), keepdim=True)
    return (fine - low) / (high - low).clamp(min=1e-4)


def repeat_edge(maps: Tensor, valid: Tensor) -> Tensor:
    """Maps (N, C, h, w) whose values outside a box are those at the nearest edge of it.

    Args:
        maps: any maps.
        valid: int64 (N, 4): top, left, bottom, right of the boxes.
    """
    top, left, bottom, right = valid[:, :, None].unbind(1)
    rows = torch.arange(maps.shape[2], device=maps.device).expand(len(maps), -1)
    columns = torch.arange(maps.shape[3], device=maps.device).expand(len(maps), -1)
    rows = rows.clamp(top, bottom - 1)[:, :, None]
    columns = columns.clamp(left, right - 1)[:, None]
    each = torch.arange(len(maps), device=maps.device)[:, None, None]
    return maps.permute(0, 2, 3, 1)[each, rows, columns].permute(0, 3, 1, 2)


def _foreground(masks: Tensor) -> Tensor:
    """True masks (N, H, W) as saliency maps (N, 1, H, W): 1 for any class, NaN where ignored."""
    salient = (masks > 0).float()
    return torch.where(masks == IGNORE, torch.nan, salient)[:, None]


# ---- records -------------------------------------------------------------------------------------


def check_supervision(given: Sequence[Record], *, strong: bool) -> None:
    """Raise ConfigurationError if nothing says what or nothing says where."""
    if not any(records.labels(record) for record in given):
        raise ConfigurationError("no record has labels: there is nothing to tell classes apart by")
    if not strong and not any(record.get("saliency") for record in given):
        raise ConfigurationError(
            "no record has 'saliency', which eps-train learns from: give its folder to "
            "'wsss index --saliency', or train on labels alone with 'wsss train-cam'"
        )
