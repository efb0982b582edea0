"""Training a segmentation network on label maps (DeepLab; Chen 2018)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wsss_cli import files
from wsss_cli.classes import check_classes, load_classes, numbers
from wsss_cli.datasets.samples import Samples, batches, in_order
from wsss_cli.errors import ConfigurationError, WsssError
from wsss_cli.files import IGNORE
from wsss_cli.methods.grids import on_image
from wsss_cli.methods.psl import prohibit
from wsss_cli.metrics import Confusion
from wsss_cli.models.deeplab import SegmentationNetwork
from wsss_cli.models.device import Compute
from wsss_cli.models.psl import Judged
from wsss_cli.records import Record
from wsss_cli.training.batch import Batch, collate
from wsss_cli.training.distributed import Group
from wsss_cli.training.loop import Loss, Validate
from wsss_cli.training.losses import pixel_loss


def segmentation_loss(stride: int, every: int) -> Loss:
    """The loss of a batch with label maps, see :func:`pixel_loss`."""

    def loss(forward: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        assert batch.label_maps is not None
        return pixel_loss(
            forward(batch.images), batch.label_maps, stride, weights=batch.weights, every=every
        )

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
