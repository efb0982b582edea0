"""Training a segmentation network on label maps (DeepLab; Chen 2018)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from wsss_cli import files
from wsss_cli.classes import check_classes, load_classes, numbers
from wsss_cli.datasets.samples import Samples, batches, in_order
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.files import IGNORE
from wsss_cli.methods.psl import auxiliary_mask, prohibit, psl_loss
from wsss_cli.methods.sampling import on_image, sample
from wsss_cli.metrics import Confusion
from wsss_cli.models.networks import Judged, SegmentationNetwork
from wsss_cli.models.precision import Compute
from wsss_cli.records import Record
from wsss_cli.training.batch import Batch, collate
from wsss_cli.training.classification import multilabel_loss
from wsss_cli.training.distributed import Group
from wsss_cli.training.loop import Loss, Validate


def pixel_loss(
    logits: Tensor,
    labels: Tensor,
    stride: int,
    *,
    weights: Tensor | None = None,
    every: int = 1,
    ignore: int = IGNORE,
) -> Tensor:
    """Cross entropy, the weighted mean over the pixels that have a label.

    Args:
        logits: shape (N, C, h, w); cell (y, x) looks at pixel (stride y, stride x), and between the
            cells they are bilinear.
        labels: int64 (N, H, W): 0 to C - 1, or `ignore`.
        stride: of the logits on the labels.
        weights: how much the pixels of each image count, shape (N,), at least 0; by default 1.
        every: look at every so-many-th pixel each way, beginning at a random one: the same in the
            mean, at a fraction of the work.
        ignore: the label that does not count.

    Returns:
        The mean; 0 if no pixel has a label.
    """
    rows, columns = _some_places(labels, every)
    logits = sample(logits.float(), rows / stride, columns / stride)
    labels = labels[:, rows[:, None], columns]
    each = functional.cross_entropy(logits, labels, ignore_index=ignore, reduction="none")
    if weights is None:
        weights = each.new_ones(len(each))
    total = weights @ each.sum((1, 2))
    return total / (weights @ (labels != ignore).sum((1, 2)).float()).clamp(min=1e-6)


def _some_places(labels: Tensor, every: int) -> tuple[Tensor, Tensor]:
    """Every so-many-th row and column of label maps (N, H, W), beginning at random ones."""
    rows, columns = (
        torch.arange(int(torch.randint(min(every, size), ())), size, every, device=labels.device)
        for size in labels.shape[1:]
    )
    return rows, columns


def segmentation_loss(stride: int, every: int) -> Loss:
    """The loss of a batch with label maps, see :func:`pixel_loss`."""

    def loss(forward: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        assert batch.label_maps is not None
        return pixel_loss(
            forward(batch.images), batch.label_maps, stride, weights=batch.weights, every=every
        )

    return loss


def prohibitive_loss(stride: int, every: int, *, weights: str) -> Loss:
    """The loss of a network with a classification branch on a batch with label maps and labels.

    J(f, S) + J(f, Ŝ) of Wei et al. 2017, sec. 3.2, at the pixels that :func:`pixel_loss` looks at,
    and the multi-label loss of the branch, summed over the classes: averaged over twenty, beside
    the losses of pixels, it hardly teaches the branch, whose doubt then makes Ŝ all background. The
    padding of a photograph is in neither mask.

    Args:
        stride: of the logits on the labels.
        every: look at every so-many-th pixel each way.
        weights: what weighs the maps for Ŝ: ``predicted`` scores, or the true ``labels``, which is
            the paper's upper bound.
    """

    def loss(forward: Callable[[Tensor], Any], batch: Batch) -> Tensor:
        assert batch.label_maps is not None
        assert batch.labels is not None
        logits, scores = forward(batch.images)
        rows, columns = _some_places(batch.label_maps, every)
        logits = sample(logits.float(), rows / stride, columns / stride)
        mask = batch.label_maps[:, rows[:, None], columns]
        with torch.no_grad():
            given = batch.labels if weights == "labels" else scores.float().sigmoid()
            auxiliary = auxiliary_mask(logits.softmax(1), given)
            auxiliary[~batch.inside(rows, columns)] = IGNORE
        masks = psl_loss(
            logits, mask, auxiliary, batch.labels, weights=batch.weights, ignore=IGNORE
        )
        classes = multilabel_loss(scores, batch.labels, batch.weights)
        return masks + batch.labels.shape[1] * classes

    return loss


def segmentation_scores(
    network: SegmentationNetwork,
    samples: Samples,
    *,
    num_classes: int,
    workers: int,
    compute: Compute,
    group: Group,
) -> Validate:
    """Measures ``network`` on samples with label maps, each at its own size, at one scale: mIoU.

    Args:
        network: the network; one with a classification branch leaves out the classes that it finds
            unlikely, as ``predict`` does.
        samples: whole photographs (`whole_view` without a crop).
        num_classes: number of classes, background included.
        workers: threads that load.
        compute: device and precision.
        group: the processes that share the work.
    """

    def measure() -> dict[str, float]:
        confusion = Confusion(num_classes, ignore=IGNORE)
        draws = in_order(len(samples), batch=1, rank=group.rank, world=group.world)
        for loaded in batches(samples, draws, workers=workers, ahead=4):
            sample = loaded[0]
            if not sample.error and sample.label_map is not None:
                images = collate(loaded, backbone=network.backbone, device=compute.device).images
                size = (images.shape[2], images.shape[3])
                seen = network(images)
                judged = isinstance(seen, Judged)
                logits = seen.logits if judged else seen
                logits = on_image(logits.float(), size, size, network.stride)[0]
                if judged:
                    logits = prohibit(logits.softmax(0), seen.scores[0].float().sigmoid())
                found = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
                confusion.update(found, sample.label_map)
        whole = Confusion(num_classes, ignore=IGNORE)
        for part in group.gather(confusion):
            whole.merge(part)
        return {"val_miou": float(whole.miou())}

    return measure


def check_labels(given: Sequence[Record], classes: Sequence[str]) -> None:
    """Raise WsssError naming the first record with a label that is not in the class list."""
    for record in given:
        try:
            numbers(record["labels"], classes)
        except WsssError as error:
            raise WsssError(f"{record['id']}: {error}; nothing was trained") from error


def by_strength(given: Sequence[Record], keys: Sequence[str]) -> tuple[list[int], list[int]]:
    """Places of the records that learn their true ``mask``, and of those that learn another map.

    Args:
        given: records as a session reads them.
        keys: keys of the label map, the first that a record has is the one used.
    """
    places: tuple[list[int], list[int]] = ([], [])
    for place, record in enumerate(given):
        used = next(key for key in keys if record.get(key))
        places[used != "mask"].append(place)
    return places


def class_list(spec: str | None, given: Sequence[Record], keys: Sequence[str]) -> tuple[str, ...]:
    """The class list to train with.

    Args:
        spec: what ``--classes`` says, or None.
        given: records with label maps, whose provenance may say what they count.
        keys: keys of the label map, the first that a record has is the one used.

    Raises:
        ConfigurationError: none is given and no label map names one.
    """
    if spec is not None:
        return load_classes(spec)
    for record in given:
        meta = files.read_meta(record[next(key for key in keys if record.get(key))])
        if meta and (names := _classes_in(meta)):
            return check_classes(names, "the label maps")
    raise ConfigurationError("the label maps do not name their classes: give --classes")


def _classes_in(meta: Mapping[str, Any]) -> list[str] | None:
    """The class list in the provenance of a file, or of those that it was made from."""
    found: list[str] | None = meta.get("classes")
    for earlier in meta.get("from", {}).values():
        found = found or _classes_in(earlier)
    return found
