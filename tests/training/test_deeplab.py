"""The loss of a segmentation network, and the class list it is trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsss_cli import files
from wsss_cli.classes import VOC
from wsss_cli.errors import ConfigurationError
from wsss_cli.training.batch import Batch, SoftLabels
from wsss_cli.training.deeplab import class_list, segmentation_loss
from wsss_cli.training.losses import absent_loss, pixel_loss, soft_pixel_loss


def test_the_loss_is_that_of_the_pixels_with_the_weights_of_the_images() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 4, 6, 6), torch.randint(0, 4, (3, 6, 6))
    labels[torch.rand(labels.shape) < 0.3] = 255
    weights = torch.tensor([3.0, 0.5, 0.0])
    result = pixel_loss(logits, labels, 1, weights=weights)
    batch = Batch(torch.zeros(3, 3, 6, 6), weights, torch.zeros(3, 4), label_maps=labels)
    assert segmentation_loss(1, 1)(lambda images: logits, batch) == result


def test_the_loss_of_multi_scale_inputs_is_the_sum_over_scales_and_their_maximum() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 4, 5, 6, 6), torch.randint(0, 5, (3, 24, 24))
    labels[torch.rand(labels.shape) < 0.3] = 255
    weights = torch.tensor([3.0, 0.5, 0.0])
    batch = Batch(torch.zeros(3, 3, 24, 24), weights, torch.zeros(3, 4), label_maps=labels)
    expected = sum(pixel_loss(logits[:, scale], labels, 4, weights=weights) for scale in range(4))
    found = segmentation_loss(4, 1)(lambda images: logits, batch)
    torch.testing.assert_close(found, expected)


@pytest.fixture
def soft_batch() -> Batch:
    """Three images in two of which padding is at the right; classes 0 and 2 have soft labels."""
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (3, 24, 24))
    labels[:2, :, 16:] = 255
    shares = torch.rand(3, 2, 24, 24)
    return Batch(
        torch.zeros(3, 3, 24, 24),
        torch.tensor([3.0, 0.5, 0.0]),
        torch.tensor([[0, 0, 24, 16], [0, 0, 24, 16], [0, 0, 0, 0]]),
        torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]),
        label_maps=labels,
        soft=SoftLabels(torch.tensor([[2, 0]] * 3), shares / shares.sum(1, keepdim=True)),
    )


@pytest.mark.parametrize("scales", [None, 3])
@pytest.mark.parametrize("confidence", ["weights", "soft-targets"])
def test_the_loss_of_uncertain_pixels(
    soft_batch: Batch, confidence: str, scales: int | None
) -> None:
    batch, labels = soft_batch, soft_batch.label_maps
    assert labels is not None
    assert batch.soft is not None
    logits = torch.randn(3, *([scales] if scales else []), 3, 6, 6)
    found = segmentation_loss(4, 1, confidence=confidence)(lambda images: logits, batch)
    expected: Any = 0
    for each in logits.unbind(1) if scales else [logits]:
        if confidence == "soft-targets":
            expected += soft_pixel_loss(each, labels, batch.soft, 4, weights=batch.weights)
        else:
            shares = batch.soft.probabilities
            own = shares[:, 0] * (labels == 2) + shares[:, 1] * (labels == 0)
            expected += pixel_loss(each, labels, 4, weights=batch.weights, confidence=own)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("scales", [None, 3])
def test_the_loss_of_absent_classes_is_a_part_of_its_weight(
    soft_batch: Batch, scales: int | None
) -> None:
    batch = soft_batch
    assert batch.label_maps is not None
    assert batch.labels is not None
    logits = torch.randn(3, *([scales] if scales else []), 3, 6, 6)
    found = segmentation_loss(4, 1, absent_weight=0.25)(lambda images: logits, batch)
    inside = torch.zeros(3, 1, 6, 6, dtype=torch.bool)
    inside[:2, :, :, :4] = True  # cells at pixels 0 to 12; 16 is padding
    pixels = absent = torch.zeros(())
    for each in logits.unbind(1) if scales else [logits]:
        pixels = pixels + pixel_loss(each, batch.label_maps, 4, weights=batch.weights)
        absent = absent + absent_loss(each, batch.labels, inside, weights=batch.weights)
    assert isinstance(found, dict)
    torch.testing.assert_close(found, {"pixels": pixels, "absent": 0.25 * absent})


def test_the_class_list_comes_from_the_user_or_the_masks(tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    made_from = {"cam": files.provenance("make-cam", {}, classes=["cow"])}
    meta = {**files.provenance("crf", {}), "from": made_from}
    files.write_label_map(mask, np.zeros((4, 4), np.uint8), meta)
    records: list[dict[str, Any]] = [{"id": "a", "pseudo": str(mask)}]
    assert class_list(None, records, ["mask", "pseudo"]) == ("cow",)
    assert class_list(VOC, records, ["pseudo"])[0] == "aeroplane"
    files.write_label_map(mask, np.zeros((4, 4), np.uint8))
    with pytest.raises(ConfigurationError, match="give --classes"):
        class_list(None, records, ["pseudo"])
