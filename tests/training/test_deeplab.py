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
from wsss_cli.training.batch import Batch
from wsss_cli.training.deeplab import class_list, segmentation_loss
from wsss_cli.training.losses import pixel_loss


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
