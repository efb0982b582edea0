"""Training a classifier on image-level labels, whose maps become CAMs (Zhou 2016)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from torch import Tensor

from wsss_cli.classes import numbers
from wsss_cli.datasets.augment import whole_view
from wsss_cli.datasets.samples import Samples, batches, in_order
from wsss_cli.metrics import f1, mean_average_precision
from wsss_cli.models.cam import CamNetwork
from wsss_cli.models.device import Compute
from wsss_cli.records import Record, need
from wsss_cli.training.batch import Batch, collate
from wsss_cli.training.distributed import Group
from wsss_cli.training.loop import Loss, Validate
from wsss_cli.training.losses import multilabel_loss
from wsss_cli.training.session import Session


def classification_loss(network: CamNetwork) -> Loss:
    """The loss of a batch with labels under ``network``."""

    def loss(forward: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        assert batch.labels is not None
        return multilabel_loss(network.scores(forward(batch.images)), batch.labels, batch.weights)

    return loss


def classification_scores(
    network: CamNetwork,
    samples: Samples,
    *,
    batch: int,
    workers: int,
    compute: Compute,
    group: Group,
    scores: Callable[[Batch], Tensor] | None = None,
) -> Validate:
    """Measures ``network`` on samples with labels: mean average precision and F1.

    Args:
        network: the network.
        samples: with labels, all known.
        batch: samples at a time.
        workers: threads that load.
        compute: device and precision.
        group: the processes that share the work.
        scores: the class scores (N, C) of a batch; None takes the means of the network's maps.
    """
    judge = scores or (lambda data: network.scores(network(data.images)))

    def measure() -> dict[str, float]:
        found: list[np.ndarray] = []
        truth: list[np.ndarray] = []
        draws = in_order(len(samples), batch=batch, rank=group.rank, world=group.world)
        for loaded in batches(samples, draws, workers=workers):
            seen = [sample for sample in loaded if not sample.error]
            if seen:
                data = collate(seen, backbone=network.backbone, device=compute.device)
                assert data.labels is not None
                found.append(judge(data).float().cpu().numpy())
                truth.append(data.labels.cpu().numpy() > 0)
        rows = [row for part in group.gather((found, truth)) for row in zip(*part, strict=True)]
        if not rows:
            return {}
        said, there = (np.concatenate(columns) for columns in zip(*rows, strict=True))
        return {"val_map": mean_average_precision(said, there), "val_f1": f1(said, there)}

    return measure


def needs_labels(classes: Sequence[str]) -> Callable[[Record], None]:
    """A check that raises WsssError for a record without labels, or with one not in the list."""

    def check(record: Record) -> None:
        need(record, ["labels"])
        numbers(record["labels"], classes)

    return check


def held_out_scores(
    here: Session,
    network: CamNetwork,
    held_out: Sequence[Record],
    classes: Sequence[str],
    scores: Callable[[Batch], Tensor] | None = None,
) -> Validate | None:
    """Measures ``network`` on the records of ``--val``, seen whole; None if there are none.

    Args:
        here: the session.
        network: the network.
        held_out: records with labels.
        classes: class names, without background.
        scores: see :func:`classification_scores`.
    """
    if not held_out:
        return None
    whole = partial(whole_view, crop=here.options.crop)
    return classification_scores(
        network,
        here.samples(held_out, network.backbone, view=whole, classes=classes),
        batch=here.options.batch_size,
        workers=here.options.workers,
        compute=here.compute,
        group=here.group,
        scores=scores,
    )
