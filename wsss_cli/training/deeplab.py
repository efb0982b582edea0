"""Training a segmentation network on label maps (DeepLab: Chen et al. 2018)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from wsss_cli import console, files, inputs
from wsss_cli.classes import IGNORE, check_classes, numbers
from wsss_cli.datasets.augment import random_view, whole_view
from wsss_cli.datasets.check import check_numbering
from wsss_cli.datasets.samples import Sample, Samples, batches, in_order
from wsss_cli.datasets.strong import by_strength
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.methods.grids import on_image
from wsss_cli.methods.psl import prohibit
from wsss_cli.metrics import Confusion
from wsss_cli.models.deeplab import SegmentationNetwork
from wsss_cli.models.device import Compute
from wsss_cli.models.psl import Judged
from wsss_cli.records import KEYS, Record, first_key, need, paths
from wsss_cli.training.batch import Batch, SoftLabels, collate
from wsss_cli.training.distributed import Group
from wsss_cli.training.loop import Loss, Validate
from wsss_cli.training.losses import absent_loss, pixel_loss, soft_pixel_loss
from wsss_cli.training.psl import prohibitive_loss
from wsss_cli.training.session import pretrained, session


def segmentation_loss(
    stride: int,
    every: int,
    *,
    confidence: str | None = None,
    absent_weight: float | None = None,
) -> Loss:
    """The loss of a batch with label maps, see :func:`pixel_loss`.

    With multi-scale inputs it is the sum of the losses of each scale and of their maximum (the
    public code of DeepLab-v2, Chen et al. 2018). That code compares the logits of each scale with
    the label map reduced to their size; here all are compared with the same pixels.

    Args:
        stride: of the logits on the labels.
        every: compare every n-th row and column.
        confidence: how the soft labels p of the batch count: ``weights`` gives each pixel u, in
            :func:`pixel_loss`, the weight p_u(y_u), the probability of its label; ``soft-targets``
            learns all of p (:func:`soft_pixel_loss`). None if the batch has none.
        absent_weight: weight of :func:`absent_loss` beside the loss of the pixels, for batches with
            labels; None or 0 leaves it out.
    """

    def loss(forward: Callable[[Tensor], Tensor], batch: Batch) -> Tensor | dict[str, Tensor]:
        labels, weights, soft = batch.label_maps, batch.weights, batch.soft
        assert labels is not None
        logits = forward(batch.images)
        # Each image has the same labels in all its scales, so the mean over all is that of each.
        scales = logits.shape[1] if logits.ndim == 5 else 1

        def of_each(values: Tensor) -> Tensor:
            return values if logits.ndim == 4 else values.repeat_interleave(scales, 0)

        flat = logits if logits.ndim == 4 else logits.flatten(0, 1)
        compared: dict[str, Any] = {"weights": of_each(weights), "every": every}
        if confidence == "soft-targets":
            assert soft is not None
            soft = SoftLabels(*map(of_each, soft))
            pixels = soft_pixel_loss(flat, of_each(labels), soft, stride, **compared)
        else:
            if confidence is not None:
                assert soft is not None
                compared["confidence"] = of_each(soft.of(labels))
            pixels = pixel_loss(flat, of_each(labels), stride, **compared)
        if not absent_weight:
            return scales * pixels
        assert batch.labels is not None
        absent = absent_loss(
            flat, of_each(batch.labels), of_each(batch.cells(stride)), weights=of_each(weights)
        )
        return {"pixels": scales * pixels, "absent": scales * absent_weight * absent}

    return loss


def train_segmentation(
    records: Sequence[str],
    *,
    out: str,
    classes: Sequence[str] | None,
    start: Mapping[str, Any],
    head: str,
    keys: Sequence[str],
    strong_weight: float | None,
    balance: bool,
    scale: tuple[float, float],
    loss_stride: int,
    msc: Sequence[float],
    psl_weights: str | None,
    ema: float | None,
    confidence: str | None = None,
    absent_weight: float | None = None,
    training: Mapping[str, Any],
) -> None:
    """Train a DeepLab network and write its checkpoint.

    Args:
        records: files of records; none means stdin.
        out: path of the checkpoint.
        classes: class names, without background; None takes those that the label maps name.
        start: backbone, output stride and weights to begin with (:func:`pretrained`).
        head: a key of :data:`wsss_cli.models.deeplab.HEADS`.
        keys: record keys of the label map; the first that a record has is used.
        strong_weight: weight in the loss of a record that learns its true mask beside records that
            learn another map, whose weight is 1; None unless ``keys`` has ``mask`` and another.
        balance: with both, draw as many of each.
        scale: range of the factor that images are scaled by at random.
        loss_stride: compare every n-th row and column with the label map.
        msc: further scales of the multi-scale inputs of DeepLab-v2; none for plain inputs.
        psl_weights: weights of :func:`prohibitive_loss`; None trains without prohibitive
            segmentation learning.
        ema: decay of the average of the weights that is saved; None saves the last.
        confidence: what the records' `scores` are for (:func:`segmentation_loss`), but of those
            that learn their true mask, which is certain; None reads none.
        absent_weight: weight of the loss of classes without a label; None trains without.
        training: the options that all trainers share (:class:`wsss_cli.training.session.Options`).

    Raises:
        WsssError: records or settings cannot be used, or training fails.
    """
    psl = psl_weights is not None
    settings: dict[str, Any] = {"scale": scale, "loss_stride": loss_stride}
    groups = image_weights = None
    with session("train-seg", out=out, **training) as here:
        of_pseudo = (["scores"] if confidence else []) + (["labels"] if absent_weight else [])
        always = ["labels"] if psl else []
        needed = partial(check_needed, keys=keys, always=always, of_pseudo=of_pseudo)
        given = here.read(records, either=keys, check=needed)
        held_out = here.read_held_out(either=["mask"])
        names = class_list(classes, given, keys)
        for key in keys:
            here.group.on_main(partial(check_numbering, given, key, names))
        here.group.on_main(partial(check_numbering, held_out, "mask", names))
        if strong_weight is not None:
            strong, weak = by_strength(given, keys)
            settings |= {"strong_weight": strong_weight, "balance": balance}
            image_weights = [1.0] * len(given)
            for place in strong:
                image_weights[place] = strong_weight
            if balance and strong and weak:
                groups = [strong, weak]
            console.note("train-seg", _counts(len(strong), len(weak), balance))
        elif "mask" not in keys and (marked := sum(bool(r.get("strong")) for r in given)):
            console.note(
                "train-seg",
                f"{marked} records are marked strong: --target mask,{','.join(keys)} learns their "
                "masks",
            )
        if psl or absent_weight or confidence:
            here.group.on_main(lambda: check_labels(given, names))
        more: dict[str, Any] = {"psl": True} if psl else {}
        if msc:
            more["msc"] = list(msc)
        network, config = pretrained("segmentation", classes=names, head=head, **more, **start)
        chosen = {"confidence": confidence, "absent_weight": absent_weight}
        settings |= {name: value for name, value in chosen.items() if value is not None}
        loss = segmentation_loss(
            network.stride, loss_stride, confidence=confidence, absent_weight=absent_weight
        )
        if psl_weights is not None:
            settings["psl_weights"] = psl_weights
            loss = prohibitive_loss(network.stride, loss_stride, weights=psl_weights)
        validate = None
        if held_out:
            validate = segmentation_scores(
                network,
                here.samples(
                    held_out,
                    network.backbone,
                    view=whole_view,
                    label_map_keys=["mask"],
                    highest_label=len(names),
                ),
                num_classes=len(names) + 1,
                workers=here.options.workers,
                compute=here.compute,
                group=here.group,
                tell=here.unmeasured(),
            )
        here.train(
            kind="segmentation",
            network=network,
            classes=names,
            config=config,
            samples=here.samples(
                given,
                network.backbone,
                view=partial(random_view, crop=here.options.crop, scale=scale),
                classes=names if psl or absent_weight else None,
                label_map_keys=keys,
                highest_label=len(names),
                soft_classes=names if confidence else None,
                augmented=True,
                groups=groups,
                weights=image_weights,
            ),
            keys=[
                *keys,
                *(["scores"] if confidence else []),
                *(["labels"] if psl or absent_weight or confidence else []),
            ],
            loss=loss,
            settings=settings,
            weights=start["weights"],
            validate=validate,
            ema=ema,
        )


def segmentation_scores(
    network: SegmentationNetwork,
    samples: Samples,
    *,
    num_classes: int,
    workers: int,
    compute: Compute,
    group: Group,
    tell: Callable[[Sequence[Sample]], None] = lambda loaded: None,
) -> Validate:
    """Measures ``network`` on samples with label maps, each at its own size, at one scale: mIoU.

    Args:
        network: the network; if it has a classification branch, the classes that the branch rates
            unlikely are left out, as ``predict`` does.
        samples: whole photographs (`whole_view` without a crop).
        num_classes: number of classes, background included.
        workers: threads that load.
        compute: device and precision.
        group: the processes that share the work.
        tell: called with all samples loaded, also those that cannot be read.
    """

    def measure() -> dict[str, float]:
        confusion = Confusion(num_classes, ignore=IGNORE)
        draws = in_order(len(samples), batch=1, rank=group.rank, world=group.world)
        for loaded in batches(samples, draws, workers=workers, ahead=4):
            tell(loaded)
            sample = loaded[0]
            if not sample.error and sample.label_map is not None:
                images = collate(loaded, backbone=network.backbone, device=compute.device).images
                size = (images.shape[2], images.shape[3])
                output = network(images)
                judged = isinstance(output, Judged)
                logits = output.logits if judged else output
                logits = on_image(logits.float(), size, size, network.stride)[0]
                if judged:
                    logits = prohibit(logits.softmax(0), output.scores[0].float().sigmoid())
                prediction = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
                confusion.update(prediction, sample.label_map)
        whole = Confusion(num_classes, ignore=IGNORE)
        for each in group.gather(confusion):
            whole.merge(each)
        return {"val_miou": float(whole.miou())}

    return measure


# ---- records -------------------------------------------------------------------------------------


def check_needed(
    record: Record, *, keys: Sequence[str], always: Sequence[str], of_pseudo: Sequence[str]
) -> None:
    """Raise RecordError or OSError if a record lacks what training needs beside its label map.

    Args:
        record: the record.
        keys: keys of the label map, the first that it has is the one used.
        always: further keys that it needs.
        of_pseudo: further keys that it needs unless it learns its true ``mask``.
    """
    is_true = first_key(record, keys) == "mask"
    needed = [*always, *(() if is_true else of_pseudo)]
    need(record, needed)
    for path in paths(record, [key for key in needed if KEYS[key].path]):
        os.stat(path)


def check_labels(given: Sequence[Record], classes: Sequence[str]) -> None:
    """Raise WsssError naming the first record with a label that is not in the class list."""
    for record in given:
        try:
            numbers(record.get("labels") or (), classes)
        except WsssError as error:
            raise WsssError(f"{record['id']}: {error}; nothing was trained") from error


def class_list(
    classes: Sequence[str] | None, given: Sequence[Record], keys: Sequence[str]
) -> tuple[str, ...]:
    """The class list to train with.

    Args:
        classes: the list that the user gives, or None.
        given: records with label maps, whose provenance may name their classes.
        keys: keys of the label map, the first that a record has is the one used.

    Raises:
        ConfigurationError: none is given and no label map names one.
    """
    if classes is not None:
        return tuple(classes)
    for record in given:
        meta = files.read_meta(record[first_key(record, keys) or keys[0]])
        if meta and (names := inputs.class_list(meta)):
            return check_classes(names, "the label maps")
    raise ConfigurationError("the label maps do not name their classes: give --classes")


def _counts(strong: int, weak: int, balance: bool) -> str:
    """The numbers of records that learn their true mask and another map, in words."""
    if not strong:
        return "no record learns a true mask: none has a 'mask' or \"strong\": true"
    if not weak:
        return "every record learns its true mask: none has \"strong\": false or no 'mask'"
    drawn = ", drawn evenly" if balance else ""
    return f"records that learn their true mask: {strong}; another map: {weak}{drawn}"
