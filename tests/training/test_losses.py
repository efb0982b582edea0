"""Losses that several trainers share, against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from wsss_cli.training.losses import multilabel_loss, pixel_loss, squared_label_loss


def test_multilabel_soft_margin() -> None:
    scores = torch.tensor([[2.0, -1.0], [0.0, 3.0], [9.0, 9.0]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])

    def s(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    first = -(math.log(s(2)) + math.log(1 - s(-1))) / 2
    second = -(math.log(1 - s(0)) + math.log(s(3))) / 2
    result = multilabel_loss(scores, labels, torch.tensor([1.0, 1.0, 0.0]))
    assert result.item() == pytest.approx((first + second) / 2)
    assert multilabel_loss(scores, labels, torch.zeros(3)) == 0
    light = multilabel_loss(scores, labels, torch.tensor([0.1, 0.1, 0.0]))
    assert light.item() == pytest.approx(result.item())


def test_squared_label_prediction() -> None:
    """Sample by sample and class by class; one that shows no class does not count."""
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]])
    weights = torch.tensor([1.0, 0.5, 2.0, 0.25])
    total = 0.0
    for sample in (0, 1, 3):
        powers = [math.exp(score) for score in scores[sample].tolist()]
        number = labels[sample].sum().item()
        for c in range(3):
            wanted = labels[sample, c].item() / number
            total += weights[sample].item() * (powers[c] / sum(powers) - wanted) ** 2
    result = squared_label_loss(scores, labels, weights)
    assert result.item() == pytest.approx(total / 1.75)
    # Nothing but the labels' shares is asked for: there the loss is 0, whatever the level.
    even = torch.tensor([[5.0, 5.0, -60.0]])
    assert squared_label_loss(even, labels[1:2], torch.ones(1)).item() == pytest.approx(0, abs=1e-9)
    assert squared_label_loss(scores[2:3], labels[2:3], torch.ones(1)) == 0


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
    result = pixel_loss(logits, labels, 1, weights=weights)
    torch.testing.assert_close(result, total / count)
    for mine, theirs in zip(
        torch.autograd.grad(result, logits),
        torch.autograd.grad(total / count, logits),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)
    assert pixel_loss(logits, labels, 1, weights=torch.zeros(3)) == 0


def test_pixel_loss_at_some_pixels_is_the_same_in_the_mean() -> None:
    torch.manual_seed(0)
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[:, 5:21, 9:26] = 1
    logits = functional.one_hot(labels[:, ::8, ::8], 2).permute(0, 3, 1, 2) * 6.0
    result = [pixel_loss(logits, labels, 8, every=4).item() for _ in range(400)]
    exact = pixel_loss(logits, labels, 8).item()
    assert np.std(result) > 0.05 * exact
    assert np.mean(result) == pytest.approx(exact, rel=0.03)


def test_no_labelled_pixel_is_no_loss() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = pixel_loss(logits, torch.full((1, 8, 8), 255), 2, every=2)
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert not logits.grad.any()
