"""Training a classifier on labels and saliency maps (EPS, Lee et al. 2021; EPS++, 2023)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from wsss_cli.classes import IGNORE, numbers
from wsss_cli.datasets.strong import with_strong_masks
from wsss_cli.errors import ConfigurationError
from wsss_cli.methods.eps import eps_loss, eps_pp_loss, foreground_map
from wsss_cli.methods.pamr import pamr
from wsss_cli.models.eps import EpsNetwork
from wsss_cli.records import Record, labels, need, path
from wsss_cli.training.batch import Batch
from wsss_cli.training.cam import class_scores
from wsss_cli.training.loop import Loss
from wsss_cli.training.losses import multilabel_loss, pixel_loss

_FINER = 4  # maps are refined on an image reduced to this many pixels per cell, each way
_REACH = (4, 8, 12, 24)  # dilations in pixels of the photograph, the larger ones of PAMR's six
_MASK_EVERY = 4  # true masks are compared at every 4th row and column


def saliency_loss(
    network: EpsNetwork,
    *,
    variant: str,
    lam: float,
    tau: float = 0.4,
    drop_above: float = 0.5,
    stretch: bool = True,
    mean_over: str = "images",
    padding: bool = False,
) -> Loss:
    """The losses of a batch with labels and saliency maps, NaN where either is not known.

    ``classes``: the multi-label loss. ``saliency``: that of EPS or of EPS++. ``mask``: the cross
    entropy where the batch has true masks (255 elsewhere). The foreground of a true mask also
    replaces the saliency map of its image, and EPS++ leaves none of its pixels out.

    Args:
        network: the network.
        variant: ``eps`` or ``eps++``.
        lam: weight of the foreground map in the estimated saliency; the complement of the
            background map has the rest. The paper of EPS++ has 1.
        tau: of EPS, the overlap with the saliency map from which a class is salient.
        drop_above: of EPS++, leave out a pixel where the refined foreground differs by more than
            this from the rounded saliency map; 0.5 is the paper's.
        stretch: of EPS++, let the refined foreground of each image reach from 0 to 1.
        mean_over: ``images`` or ``pixels``, see :func:`wsss_cli.methods.eps.eps_loss`.
        padding: whether padding takes part in the class scores. It is in no other loss.
    """

    def loss(forward: Callable[[Tensor], Tensor], batch: Batch) -> dict[str, Tensor]:
        assert batch.labels is not None
        assert batch.grey is not None
        maps = forward(batch.images).float()
        parts = {"classes": class_loss(network, maps, batch, padding=padding)}
        grey, sure = batch.grey, None
        if batch.label_maps is not None:
            sure = (batch.label_maps != IGNORE).any((1, 2))
            grey = torch.where(sure[:, None, None, None], _foreground(batch.label_maps), grey)
            logits = maps.roll(1, 1)  # background first, as in label maps
            parts["mask"] = pixel_loss(logits, batch.label_maps, network.stride, every=_MASK_EVERY)
        # Cell (y, x) looks at pixel (stride y, stride x).
        grey = grey[:, :, :: network.stride, :: network.stride]
        if variant == "eps":
            parts["saliency"] = eps_loss(maps, grey, batch.labels, tau, lam, mean_over=mean_over)
        else:
            refined = refined_foreground(maps, batch, network.stride, stretch=stretch)
            parts["saliency"] = eps_pp_loss(
                maps,
                refined,
                grey,
                batch.labels,
                sure=sure,
                above=drop_above,
                lam=lam,
                mean_over=mean_over,
            )
        return parts

    return loss


def class_loss(network: EpsNetwork, maps: Tensor, batch: Batch, *, padding: bool = False) -> Tensor:
    """The multi-label loss over the images whose labels are known."""
    assert batch.labels is not None
    known = batch.labels.isfinite().all(1)
    scores = class_scores(network, maps, batch, padding=padding)
    return multilabel_loss(scores, batch.labels.nan_to_num(), batch.weights * known)


@torch.no_grad()
def refined_foreground(maps: Tensor, batch: Batch, stride: int, *, stretch: bool = True) -> Tensor:
    """The foreground of class maps, refined by the colours of the photographs (PAMR).

    The photographs are reduced to four pixels per cell, a quarter of their size at stride 16: at
    full size the refinement would take longer than the rest of the step, and its result is only
    needed in the cells of the maps. The neighbours are at 4, 8, 12 and 24 pixels of the photograph,
    whatever the stride, but for distances of less than a pixel of the picture. Padding is filled
    with the values at the photograph's edge.

    Stretched, it reaches from 0 to 1 in each image, as it nearly does in a trained network. In a
    new network no foreground reaches 0.5: rounded without scaling, it would contradict every
    salient pixel, these would be left out, and the network would learn background only. Not
    stretched, rounded it gives N as the paper of EPS++ has it.

    Args:
        maps: class maps, background last, shape (N, C + 1, h, w).
        batch: the N photographs.
        stride: of the maps on the photographs.
        stretch: whether to.

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
    dilations = sorted({-(-pixels // step) for pixels in _REACH})
    fine = pamr(picture[:, :, : last[0], : last[1]], foreground, dilations=dilations)
    fine = fine[:, :, :: stride // step, :: stride // step]
    if not stretch:
        return fine
    low, high = fine.amin((2, 3), keepdim=True), fine.amax((2, 3), keepdim=True)
    return (fine - low) / (high - low).clamp(min=1e-4)


def repeat_edge(maps: Tensor, valid: Tensor) -> Tensor:
    """Maps (N, C, h, w) whose values outside a box are those at the nearest edge of it.

    Args:
        maps: any.
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


def needs_labels_or_files(classes: Sequence[str], keys: Sequence[str]) -> Callable[[Record], None]:
    """A check that raises WsssError for a record that has neither labels nor one of some files.

    Args:
        classes: class names that labels must be among.
        keys: keys of the files; each that a record has must exist.
    """

    def check(record: Record) -> None:
        if not any(record.get(key) for key in keys):
            need(record, ["labels"])
        numbers(labels(record) or (), classes)
        for key in keys:
            if record.get(key):
                os.stat(path(record, key))

    return check


def select_supervised(given: list[Record], *, strong_masks: bool) -> list[Record]:
    """The records to train on, of which only those marked strong keep their ``mask``.

    Args:
        given: all records.
        strong_masks: learn from true masks.

    Raises:
        ConfigurationError: no record has labels, or none has a saliency map or a strong mask.
    """
    check_supervision(given, strong_masks=strong_masks)
    return with_strong_masks(given) if strong_masks else given


def check_supervision(given: Sequence[Record], *, strong_masks: bool) -> None:
    """Raise ConfigurationError if no record has labels, or none says where something is."""
    if not any(labels(record) for record in given):
        raise ConfigurationError("no record has labels: without them the classes cannot be learned")
    if not strong_masks and not any(record.get("saliency") for record in given):
        raise ConfigurationError(
            "no record has 'saliency', which eps-train learns from: give its folder to "
            "'wsss index --saliency', or train on labels alone with 'wsss train-cam'"
        )
