"""Training AffinityNet on confident regions (Ahn & Kwak 2018, sec. 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from torch import Tensor
from torch.nn import functional

from wsss_cli import console
from wsss_cli.datasets.augment import random_view
from wsss_cli.files import load_checkpoint
from wsss_cli.methods.affinity import affinity_loss, affinity_targets, pairwise_affinity
from wsss_cli.models.backbones import BACKBONES
from wsss_cli.models.networks import CLASSIFIERS, build_network, colours_to_state, restored
from wsss_cli.models.weights import load_pretrained
from wsss_cli.training.batch import Batch
from wsss_cli.training.loop import Loss
from wsss_cli.training.outputs import log_path
from wsss_cli.training.plot import read_curves
from wsss_cli.training.session import session


def region_loss(radius: int) -> Loss:
    """The balanced loss over pairs of cells nearer than ``radius``, of a batch with label maps."""

    def loss(forward: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        assert batch.label_maps is not None
        features = forward(batch.images).float()
        labels = to_grid(batch.label_maps, (features.shape[2], features.shape[3]))
        targets = affinity_targets(labels, radius)
        return affinity_loss(pairwise_affinity(features, radius), *targets)

    return loss


def to_grid(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels at the pixels that the cells of a feature grid look at, their top left ones.

    Args:
        labels: int64 (N, H, W).
        size: height and width of the grid.

    Returns:
        int64 (N, h, w).
    """
    return functional.interpolate(labels[:, None].float(), size, mode="nearest")[:, 0].long()


def train_affinity(
    records: Sequence[str],
    *,
    out: str,
    checkpoint: str,
    weights: str | None = None,
    output_stride: int | None,
    scale: tuple[float, float],
    radius: int,
    key: str,
    training: Mapping[str, Any],
) -> None:
    """Train AffinityNet from the backbone of a classifier and write its checkpoint.

    Args:
        records: files of records; none means stdin.
        out: path of the checkpoint.
        checkpoint: path of the classifier's checkpoint.
        weights: imagenet, none or a file that the backbone starts from instead, as in the public
            code of Ahn & Kwak; None for the classifier's weights.
        output_stride: of the backbone; None is that of the classifier.
        scale: range of the factor that images are scaled by at random.
        radius: of the affinities, in cells.
        key: record key of the confident regions.
        training: the options that all trainers share (:class:`wsss_cli.training.session.Options`).

    Raises:
        WsssError: the checkpoint or records cannot be used, or training fails.
    """
    with session("train-aff", out=out, **training) as here:
        start = load_checkpoint(checkpoint, *CLASSIFIERS)
        given = here.read(records, either=[key])
        backbone = restored(start).backbone
        stride = output_stride or backbone.strides[-1]
        config: dict[str, Any] = {"output_stride": stride}
        name = BACKBONES[start.backbone].in_affinity or start.backbone
        if BACKBONES[name].group_norm:
            config["group_norm"] = True
        network = build_network("affinity", name, start.classes, config)
        if weights is None:
            network.backbone.load_state_dict(backbone.state_dict())
            network.backbone.new_layers = ()
            network.backbone.colours = backbone.colours
        else:
            load_pretrained(network.backbone, weights)
        config |= colours_to_state(network.backbone)
        here.train(
            kind="affinity",
            network=network,
            classes=start.classes,
            config=config,
            samples=here.samples(
                given,
                network.backbone,
                view=partial(random_view, crop=here.options.crop, scale=scale),
                label_map_keys=[key],
                highest_label=len(start.classes),
                augmented=True,
            ),
            keys=[key],
            loss=region_loss(radius),
            settings={"checkpoint": start.digest, "scale": scale, "radius": radius},
            weights=weights,
        )
        log = log_path(Path(out))
        if here.group.main and log.exists():
            losses = [loss for _, loss in read_curves(log)["loss"]]
            if line := loss_advice(losses):
                console.warn("train-aff", line)


def loss_advice(losses: Sequence[float]) -> str | None:
    """What a loss that has not fallen means, where there are enough values to tell.

    Args:
        losses: those logged during training, in order.
    """
    tenth = len(losses) // 10
    if not tenth:
        return None
    first, last = mean(losses[:tenth]), mean(losses[-tenth:])
    if last <= _FALLEN * first:
        return None
    return (
        f"the loss has not fallen ({first:.3f} at first, {last:.3f} in the end): the affinities "
        "say little; train for longer (--steps), or look at the confident regions (wsss view)"
    )


_FALLEN = 0.95  # of the loss at first; a useful AffinityNet ends at about half of it
