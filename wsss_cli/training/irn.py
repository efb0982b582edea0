"""Training IRNet on confident regions (Ahn, Cho & Kwak 2019, sec. 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from wsss_cli.datasets.augment import random_view
from wsss_cli.datasets.check import check_numbering
from wsss_cli.methods.affinity import affinity_loss, affinity_targets
from wsss_cli.methods.irn import displacement_losses, path_affinity
from wsss_cli.models.irn import IrnNetwork, Relations
from wsss_cli.training.affinity import to_grid
from wsss_cli.training.batch import Batch
from wsss_cli.training.deeplab import class_list
from wsss_cli.training.loop import Loss
from wsss_cli.training.session import pretrained, session


def relation_losses(network: IrnNetwork, radius: int) -> Loss:
    """The losses of a batch with label maps, over pairs of cells nearer than ``radius`` (sec. 4.2).

    ``affinity``: that of AffinityNet, of path affinities. ``displacement``: half of the mean over
    the pairs of the foreground and half of that over those of the background. Each is weighted as
    in the authors' code, which takes only the pairs of cells whose whole neighbourhood is inside
    the crop; here every pair inside counts.

    The running mean of the displacements follows the training. The authors' code measures it
    afterwards, over all photographs.

    Args:
        network: the network.
        radius: of the pairs, cells.
    """

    def losses(forward: Callable[[Tensor], Relations], batch: Batch) -> dict[str, Tensor]:
        assert batch.label_maps is not None
        output = forward(batch.images)
        boundary, field = output.boundary.float(), output.displacement.float()
        network.displacement.mean_shift.update(field.detach(), batch.cells(network.stride))
        labels = to_grid(batch.label_maps, (boundary.shape[2], boundary.shape[3]))
        background, foreground, different = affinity_targets(labels, radius)
        affinity = path_affinity(boundary.sigmoid(), radius)
        towards, still = displacement_losses(field, background, foreground, radius)
        return {
            "affinity": affinity_loss(affinity, background, foreground, different),
            "displacement": (towards + still) / 2,
        }

    return losses


def train_relations(
    records: Sequence[str],
    *,
    out: str,
    classes: Sequence[str] | None,
    start: Mapping[str, Any],
    cells: str,
    scale: tuple[float, float],
    radius: int,
    key: str,
    training: Mapping[str, Any],
) -> None:
    """Train IRNet and write its checkpoint.

    Args:
        records: files of records; none means stdin.
        out: path of the checkpoint.
        classes: class names, without background; None takes those that the label maps name.
        start: backbone, output stride and weights to begin with (:func:`pretrained`).
        cells: of the network (:class:`wsss_cli.models.irn.IrnNetwork`).
        scale: range of the factor that images are scaled by at random.
        radius: of the pairs, in cells.
        key: record key of the confident regions.
        training: the options that all trainers share (:class:`wsss_cli.training.session.Options`),
            but ``val`` and those of a backbone that learns.

    Raises:
        WsssError: records or settings cannot be used, or training fails.
    """
    # The backbone does not learn, and its batch normalisation is never in training mode.
    with session("irn-train", out=out, freeze_bn=True, val=None, **training) as here:
        given = here.read(records, either=[key])
        names = class_list(classes, given, [key])
        here.group.on_main(partial(check_numbering, given, key, names))
        more: dict[str, Any] = {} if cells == "centred" else {"cells": cells}
        network, config = pretrained("irn", classes=names, **more, **start)
        here.train(
            kind="irn",
            network=network,
            classes=names,
            config=config,
            samples=here.samples(
                given,
                network.backbone,
                view=partial(random_view, crop=here.options.crop, scale=scale),
                label_map_keys=[key],
                highest_label=len(names),
                augmented=True,
            ),
            keys=[key],
            loss=relation_losses(network, radius),
            settings={"scale": scale, "radius": radius},
            weights=start["weights"],
        )
