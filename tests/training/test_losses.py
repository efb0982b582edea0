"""Losses of the trainers against their formulas."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from wsss_cli import files
from wsss_cli.datasets.strong import by_strength
from wsss_cli.errors import ConfigurationError
from wsss_cli.methods.psl import auxiliary_mask, psl_loss
from wsss_cli.training.affinity import region_loss, to_grid
from wsss_cli.training.batch import Batch
from wsss_cli.training.deeplab import class_list, segmentation_loss
from wsss_cli.training.losses import multilabel_loss, pixel_loss
from wsss_cli.training.psl import prohibitive_loss


def test_multilabel_soft_margin() -> None:
    scores = torch.tensor([[2.0, -1.0], [0.0, 3.0], [9.0, 9.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])

    def s(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    first = -(math.log(s(2)) + math.log(1 - s(-1))) / 2
    second = -(math.log(1 - s(0)) + math.log(s(3))) / 2
    found = multilabel_loss(scores, labels, torch.tensor([1.0, 1.0, 0.0]))
    assert found.item() == pytest.approx((first + second) / 2)
    assert multilabel_loss(scores, labels, torch.zeros(3)) == 0
    light = multilabel_loss(scores, labels, torch.tensor([0.1, 0.1, 0.0]))
    assert light.item() == pytest.approx(found.item())


def test_pixel_loss_is_the_mean_over_labelled_pixels() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 16, 16))
    labels[:, :5] = 255
    # Cell 3 looks at pixel 12; beyond it the edge is repeated.
    inner = functional.interpolate(logits, (13, 13), mode="bilinear", align_corners=True)
    large = functional.pad(inner, (0, 3, 0, 3), mode="replicate")
    expected = functional.cross_entropy(large, labels, ignore_index=255)
    torch.testing.assert_close(pixel_loss(logits, labels, 4), expected)


def test_an_image_of_weight_three_counts_as_three() -> None:
    """Pixel by pixel from the log of the softmax; images of weight 0 not at all."""
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 4, 6, 6).requires_grad_(), torch.randint(0, 4, (3, 6, 6))
    labels[torch.rand(labels.shape) < 0.3] = 255
    weights = torch.tensor([3.0, 0.5, 0.0])
    total = count = torch.zeros(())
    for image, mask, weight in zip(logits, labels, weights, strict=True):
        for y in range(6):
            for x in range(6):
                if mask[y, x] != 255:
                    f = image[:, y, x].exp() / image[:, y, x].exp().sum()
                    total = total - weight * f[mask[y, x]].log()
                    count = count + weight
    found = pixel_loss(logits, labels, 1, weights=weights)
    torch.testing.assert_close(found, total / count)
    for mine, theirs in zip(
        torch.autograd.grad(found, logits),
        torch.autograd.grad(total / count, logits),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)
    batch = Batch(torch.zeros(3, 3, 6, 6), weights, torch.zeros(3, 4), label_maps=labels)
    assert segmentation_loss(1, 1)(lambda images: logits, batch) == found
    assert pixel_loss(logits, labels, 1, weights=torch.zeros(3)) == 0


def test_weights_of_images_in_prohibitive_learning() -> None:
    """An image of weight 2 is as good as the same image twice."""
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 3, 5, 5), torch.randint(0, 3, (2, 5, 5))
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    twice = torch.tensor([0, 0, 1])
    found = psl_loss(logits, mask, mask, labels, weights=torch.tensor([2.0, 1.0]))
    expected = psl_loss(logits[twice], mask[twice], mask[twice], labels[twice])
    torch.testing.assert_close(found, expected)
    assert found != psl_loss(logits, mask, mask, labels)


def test_pixel_loss_at_some_pixels_is_the_same_in_the_mean() -> None:
    torch.manual_seed(0)
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[:, 5:21, 9:26] = 1
    logits = functional.one_hot(labels[:, ::8, ::8], 2).permute(0, 3, 1, 2) * 6.0
    found = [pixel_loss(logits, labels, 8, every=4).item() for _ in range(400)]
    exact = pixel_loss(logits, labels, 8).item()
    assert np.std(found) > 0.05 * exact
    assert np.mean(found) == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("weights", ["predicted", "labels"])
def test_prohibitive_loss_is_that_of_the_paper_and_of_the_branch(weights: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 8, 8).requires_grad_()
    scores = torch.randn(3, 3).requires_grad_()
    mask = torch.randint(0, 4, (3, 8, 8))
    mask[torch.rand(mask.shape) < 0.5] = 255
    mask[:, 6:] = mask[:, :, :1] = 255  # padding
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    valid = torch.tensor([[0, 1, 6, 8], [0, 1, 6, 8], [0, 0, 0, 0]])
    mask[2] = 255  # this one could not be read
    batch = Batch(
        torch.zeros(3, 3, 8, 8), torch.tensor([1.0, 1.0, 0.0]), valid, labels, label_maps=mask
    )
    found = prohibitive_loss(1, 1, weights=weights)(lambda images: (logits, scores), batch)

    given = labels if weights == "labels" else scores.sigmoid()
    auxiliary = auxiliary_mask(logits.softmax(1), given)
    auxiliary[:, 6:] = auxiliary[:, :, :1] = auxiliary[2] = 255
    cross = functional.binary_cross_entropy_with_logits(scores, labels, reduction="none")
    branch = cross[:2].sum(1).mean()
    expected = psl_loss(logits[:2], mask[:2], auxiliary[:2], labels[:2]) + branch
    torch.testing.assert_close(found, expected)
    found.backward()
    assert logits.grad is not None
    assert scores.grad is not None
    assert not logits.grad[2].any()
    assert not scores.grad[2].any()
    (branch_alone,) = torch.autograd.grad(branch, scores)  # the masks do not teach the branch
    torch.testing.assert_close(scores.grad, branch_alone)


def test_prohibitive_loss_at_some_pixels_is_the_same_in_the_mean() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(1, 32, 32, dtype=torch.long)
    mask[:, 5:21, 9:26] = 1
    logits = functional.one_hot(mask[:, ::8, ::8], 2).permute(0, 3, 1, 2) * 6.0
    batch = Batch(
        torch.zeros(1, 3, 32, 32),
        torch.ones(1),
        torch.tensor([[0, 0, 32, 32]]),
        torch.ones(1, 1),
        label_maps=mask,
    )

    def loss(every: int) -> float:
        found = prohibitive_loss(8, every, weights="predicted")
        return found(lambda images: (logits, torch.full((1, 1), 3.0)), batch).item()

    found = [loss(4) for _ in range(300)]
    assert np.std(found) > 0
    assert np.mean(found) == pytest.approx(loss(1), rel=0.03)


def test_no_labelled_pixel_is_no_loss() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = pixel_loss(logits, torch.full((1, 8, 8), 255), 2, every=2)
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_labels_on_the_grid_are_those_at_the_corners_of_its_cells() -> None:
    labels = torch.arange(64 * 48).view(1, 64, 48) % 200
    assert torch.equal(to_grid(labels, (8, 6)), labels[:, ::8, ::8])


def test_region_loss_learns_to_tell_regions_apart() -> None:
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[:, :, 16:] = 1
    alike = torch.zeros(1, 4, 8, 8)
    apart = alike.clone()
    apart[..., 4:] = 9

    def loss(features: torch.Tensor) -> float:
        batch = Batch(
            torch.zeros(1, 3, 32, 32), torch.ones(1), torch.zeros(1, 4), label_maps=labels
        )
        return region_loss(3)(lambda images: features, batch).item()

    assert loss(apart) < 0.01 < 1 < loss(alike)


def test_who_learns_a_true_mask() -> None:
    given = [{"mask": "a", "pseudo": "b"}, {"pseudo": "b"}, {"mask": "a"}]
    assert by_strength(given, ["mask", "pseudo"]) == ([0, 2], [1])
    assert by_strength(given, ["pseudo", "mask"]) == ([2], [0, 1])


def test_the_class_list_comes_from_the_user_or_the_masks(tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    made_from = {"cam": files.provenance("make-cam", {}, classes=["cow"])}
    files.write_label_map(
        mask, np.zeros((4, 4), np.uint8), files.provenance("crf", {}, sources=made_from)
    )
    records: list[dict[str, Any]] = [{"id": "a", "pseudo": str(mask)}]
    assert class_list(None, records, ["mask", "pseudo"]) == ("cow",)
    assert class_list("voc", records, ["pseudo"])[0] == "aeroplane"
    files.write_label_map(mask, np.zeros((4, 4), np.uint8))
    with pytest.raises(ConfigurationError, match="give --classes"):
        class_list(None, records, ["pseudo"])
