"""Training a classifier on image-level labels, whose maps become CAMs (Zhou et al. 2016).

:func:`train_classifier` is the training run of train-cam, eps-train and sipe-train, which differ in
network and loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from wsss_cli import console
from wsss_cli.classes import numbers
from wsss_cli.datasets.augment import random_view, whole_view
from wsss_cli.datasets.samples import Sample, Samples, batches, in_order
from wsss_cli.errors import ConfigurationError
from wsss_cli.metrics import f1, mean_average_precision
from wsss_cli.models.cam import CamNetwork
from wsss_cli.models.device import Compute
from wsss_cli.records import Record, need
from wsss_cli.training.batch import Batch, collate
from wsss_cli.training.distributed import Group
from wsss_cli.training.loop import Loss, Validate
from wsss_cli.training.losses import CLASS_LOSSES
from wsss_cli.training.session import pretrained, session


def class_scores(
    network: CamNetwork, output: Any, batch: Batch, *, padding: bool = False
) -> Tensor:
    """Class scores (logits), shape (N, C): the means of the class maps over each photograph.

    Args:
        network: the network.
        output: its result for the images of the batch.
        batch: N images with the boxes that are no padding.
        padding: average over the cells that look at padding too, as the public code of psa, IRNet,
            EPS and SIPE does.
    """
    return network.scores(output, None if padding else batch.cells(network.stride))


def classification_loss(
    network: CamNetwork, *, padding: bool = False, of_scores: str = "soft-margin"
) -> Loss:
    """The multi-label loss of a batch with labels.

    Args:
        network: the network.
        padding: whether padding takes part in the class scores.
        of_scores: a key of :data:`wsss_cli.training.losses.CLASS_LOSSES`.
    """
    measure = CLASS_LOSSES[of_scores]

    def loss(forward: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        assert batch.labels is not None
        scores = class_scores(network, forward(batch.images), batch, padding=padding)
        return measure(scores, batch.labels, batch.weights)

    return loss


def train_classifier(
    tool: str,
    kind: str,
    records: Sequence[str],
    *,
    out: str,
    classes: Sequence[str],
    start: Mapping[str, Any],
    resize: tuple[int, int],
    dropout: float | None,
    pool_padding: bool,
    training: Mapping[str, Any],
    loss: Callable[..., Loss],
    check: Callable[[Record], object] | None = None,
    select: Callable[[list[Record]], list[Record]] | None = None,
    grey_key: str | None = None,
    label_map_keys: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Train a classifier and write its checkpoint.

    Args:
        tool: name of the command, for messages.
        kind: kind of the checkpoint.
        records: files of records; none means stdin.
        out: path of the checkpoint.
        classes: class names, without background.
        start: backbone, output stride and weights to begin with (:func:`pretrained`).
        resize: range of the long side that images are scaled to at random, in pixels.
        dropout: share of channels dropped before the classifier; None for none.
        pool_padding: whether padding takes part in the class scores (:func:`class_scores`).
        training: the options that all trainers share (:class:`wsss_cli.training.session.Options`).
        loss: makes the loss for the network and ``padding``, the same.
        check: raises WsssError for a record that cannot be trained on; by default, one without
            labels of the class list.
        select: the records to train on, of all those read.
        grey_key: key of the saliency map to learn from, if any.
        label_map_keys: keys of the label map to learn from, if any.
        settings: further settings that change the result.

    Raises:
        WsssError: records or settings cannot be used, or training fails.
    """
    labelled = needs_labels(classes)
    with session(tool, out=out, **training) as here:
        given = here.read(records, check=check or labelled)
        if select is not None:
            given = here.group.on_main(partial(select, given))
        held_out = here.read_held_out(check=labelled)
        network, config = pretrained(kind, classes=classes, dropout=dropout, **start)
        crop, validate = here.options.crop, None
        if held_out:
            whole = partial(whole_view, crop=crop)
            validate = classification_scores(
                network,
                here.samples(held_out, network.backbone, view=whole, classes=classes),
                batch=here.options.batch_size,
                workers=here.options.workers,
                compute=here.compute,
                group=here.group,
                tell=here.unmeasured(),
                padding=pool_padding,
            )
        padded = {"pool_padding": True} if pool_padding else {}
        here.train(
            kind=kind,
            network=network,
            classes=classes,
            config=config,
            samples=here.samples(
                given,
                network.backbone,
                view=partial(random_view, crop=crop, long_side=resize),
                classes=classes,
                grey_key=grey_key,
                label_map_keys=label_map_keys,
                highest_label=len(classes),
                augmented=True,
            ),
            keys=["labels", *([grey_key] if grey_key else []), *label_map_keys],
            loss=loss(network, padding=pool_padding),
            settings={"resize": resize, **padded, **(settings or {})},
            weights=start["weights"],
            validate=validate,
            advice=label_advice([record.get("labels") for record in given], classes),
        )


def classification_scores(
    network: CamNetwork,
    samples: Samples,
    *,
    batch: int,
    workers: int,
    compute: Compute,
    group: Group,
    padding: bool = False,
    tell: Callable[[Sequence[Sample]], None] = lambda loaded: None,
) -> Validate:
    """Measures ``network`` on samples with labels: mean average precision and F1.

    Args:
        network: the network.
        samples: with labels, all known.
        batch: samples at a time.
        workers: threads that load.
        compute: device and precision.
        group: the processes that share the work.
        tell: called with all samples loaded, also those that cannot be read.
        padding: whether padding takes part in the class scores.
    """

    def measure() -> dict[str, float]:
        scores: list[np.ndarray] = []
        truth: list[np.ndarray] = []
        draws = in_order(len(samples), batch=batch, rank=group.rank, world=group.world)
        for loaded in batches(samples, draws, workers=workers):
            tell(loaded)
            readable = [sample for sample in loaded if not sample.error]
            if readable:
                data = collate(readable, backbone=network.backbone, device=compute.device)
                assert data.labels is not None
                output = network(data.images)
                predicted = class_scores(network, output, data, padding=padding)
                scores.append(predicted.float().cpu().numpy())
                truth.append(data.labels.cpu().numpy() > 0)
        rows = [row for part in group.gather((scores, truth)) for row in zip(*part, strict=True)]
        if not rows:
            return {}
        predictions, labels = (np.concatenate(columns) for columns in zip(*rows, strict=True))
        return {
            "val_map": mean_average_precision(predictions, labels),
            "val_f1": f1(predictions, labels),
        }

    return measure


def some_labelled(given: list[Record]) -> list[Record]:
    """The records, all of them; ConfigurationError if not one of them shows a class."""
    if not any(record["labels"] for record in given):
        raise ConfigurationError(
            "no record shows a class, and --loss squared learns from those that do"
        )
    return given


def label_advice(labels: Sequence[Sequence[str] | None], classes: Sequence[str]) -> list[str]:
    """What these labels cannot teach, and what to do about it, in at most two lines.

    Args:
        labels: class names of each photograph; None where they are not known.
        classes: the class list.
    """
    if None in labels:
        return []
    shown = Counter(name for names in labels for name in set(names or ()))
    lines = []
    if absent := [name for name in classes if name not in shown]:
        lines.append(
            f"no photograph shows {console.listed(absent)}: there is nothing to learn it from"
        )
    if everywhere := [name for name in classes if shown[name] == len(labels)]:
        lines.append(
            f"every photograph shows {console.listed(everywhere)}: there is nothing to tell it "
            "from; add photographs without it"
        )
    return lines


def needs_labels(classes: Sequence[str]) -> Callable[[Record], None]:
    """A check that raises WsssError for a record without labels, or with one not in the list."""

    def check(record: Record) -> None:
        need(record, ["labels"])
        numbers(record["labels"], classes)

    return check
