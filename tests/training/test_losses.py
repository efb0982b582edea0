"""Losses that several trainers share, against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from wsss_cli.training.batch import SoftLabels
from wsss_cli.training.losses import (
    absent_loss,
    multilabel_loss,
    pixel_loss,
    soft_pixel_loss,
    squared_label_loss,
)


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


def same_gradient(first: torch.Tensor, second: torch.Tensor, of: torch.Tensor) -> None:
    for mine, theirs in zip(
        torch.autograd.grad(first, of), torch.autograd.grad(second, of), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_a_pixel_of_confidence_a_half_counts_as_half() -> None:
    """Pixel by pixel from the log of the softmax; the images have weights too."""
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 5, 6).requires_grad_(), torch.randint(0, 4, (2, 5, 6))
    labels[torch.rand(labels.shape) < 0.3] = 255
    confidence, weights = torch.rand(2, 5, 6), torch.tensor([3.0, 0.5])
    confidence[0, 2] = 0
    total = count = torch.zeros(())
    for n in range(2):
        for y in range(5):
            for x in range(6):
                if labels[n, y, x] != 255:
                    f = logits[n, :, y, x].exp() / logits[n, :, y, x].exp().sum()
                    counts = weights[n] * confidence[n, y, x]
                    total = total - counts * f[labels[n, y, x]].log()
                    count = count + counts
    result = pixel_loss(logits, labels, 1, weights=weights, confidence=confidence)
    torch.testing.assert_close(result, total / count)
    same_gradient(result, total / count, logits)
    even = pixel_loss(logits, labels, 1, confidence=torch.full((2, 5, 6), 0.25))
    torch.testing.assert_close(even, pixel_loss(logits, labels, 1))
    assert pixel_loss(logits, labels, 1, confidence=torch.zeros(2, 5, 6)) == 0


def soft_labels(size: tuple[int, int]) -> SoftLabels:
    """Of two images: background and classes 3 and 1; background alone, filled up."""
    shares = torch.rand(2, 3, *size)
    shares[1, 1:] = 0
    shares = shares / shares.sum(1, keepdim=True)
    shares[0, :, 1] = 0  # a row of which nothing is known
    return SoftLabels(torch.tensor([[3, 0, 1], [0, 0, 0]]), shares)


def test_soft_labels_are_learnt_at_the_pixels_that_count() -> None:
    """Pixel by pixel and class by class."""
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 5, 6).requires_grad_(), torch.randint(0, 4, (2, 5, 6))
    labels[torch.rand(labels.shape) < 0.3] = 255
    soft, weights = soft_labels((5, 6)), torch.tensor([3.0, 0.5])
    total = count = torch.zeros(())
    for n in range(2):
        for y in range(5):
            for x in range(6):
                f = logits[n, :, y, x].exp() / logits[n, :, y, x].exp().sum()
                for number, p in zip(soft.numbers[n], soft.probabilities[n, :, y, x], strict=True):
                    if labels[n, y, x] != 255:
                        total = total - weights[n] * p * f[number].log()
                        count = count + weights[n] * p
    result = soft_pixel_loss(logits, labels, soft, 1, weights=weights)
    torch.testing.assert_close(result, total / count)
    same_gradient(result, total / count, logits)
    unknown = torch.full((2, 5, 6), 255)
    assert soft_pixel_loss(logits, unknown, soft, 1) == 0


def test_certain_soft_labels_are_labels() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 3, 3), torch.randint(0, 4, (2, 12, 12))
    labels[:, :4] = 255
    held = torch.arange(4)
    soft = SoftLabels(
        held.expand(2, 4), (labels[:, None] == held[:, None, None]).float().contiguous()
    )
    torch.manual_seed(1)
    result = soft_pixel_loss(logits, labels, soft, 4, every=3)
    torch.manual_seed(1)
    torch.testing.assert_close(result, pixel_loss(logits, labels, 4, every=3))


def test_the_least_loss_of_soft_labels_is_at_their_probabilities() -> None:
    torch.manual_seed(0)
    soft, labels = soft_labels((5, 6)), torch.zeros(2, 5, 6, dtype=torch.long)
    labels[:, 1] = 255
    numbers, shares = soft.numbers[0, :, None, None].expand(3, 5, 6), soft.probabilities[0]
    whole = torch.zeros(4, 5, 6).scatter_add_(0, numbers, shares)
    logits = (whole + 1e-12).log()[None].requires_grad_()
    first = SoftLabels(soft.numbers[:1], soft.probabilities[:1])
    loss = soft_pixel_loss(logits, labels[:1], first, 1)
    (slope,) = torch.autograd.grad(loss, logits)
    assert slope.abs().max() < 1e-6
    entropy = -(shares * (shares + 1e-12).log()).sum() / 24
    assert loss.item() == pytest.approx(entropy.item(), abs=1e-5)


def test_absent_classes_cost_what_their_likeliest_cell_says() -> None:
    """Image by image, class by class and cell by cell."""
    torch.manual_seed(0)
    logits = torch.randn(5, 4, 3, 4).requires_grad_()
    labels = torch.tensor([[1.0, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, math.nan, 0]])
    inside = torch.rand(5, 1, 3, 4) < 0.7
    inside[3] = False  # one that could not be read
    weights = torch.tensor([2.0, 0.5, 1.0, 0.0, 1.0])
    total = torch.zeros(())
    for n in range(2):  # those of all labels, of unknown ones and without a cell have none
        absent = [c for c in range(3) if labels[n, c] == 0]
        for c in absent:
            f = []
            for y in range(3):
                for x in range(4):
                    powers = logits[n, :, y, x].exp()
                    if inside[n, 0, y, x]:
                        f.append(powers[1 + c] / powers.sum())
            total = total - weights[n] * (1 - torch.stack(f).max()).log() / len(absent)
    result = absent_loss(logits, labels, inside, weights=weights)
    torch.testing.assert_close(result, total / 4.5)
    same_gradient(result, total / 4.5, logits)
    (slope,) = torch.autograd.grad(absent_loss(logits, labels, inside), logits)
    assert slope[0].any()
    assert not slope[2:].any()
    assert absent_loss(logits, labels, inside, weights=torch.zeros(5)) == 0


def test_a_class_that_is_surely_wrong_has_a_finite_loss_and_slope() -> None:
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 1, 0, 1] = 200.0  # a probability that a float cannot tell from 1
    logits.requires_grad_()
    loss = absent_loss(logits, torch.tensor([[0.0, 1.0]]), torch.ones(1, 1, 2, 2).bool())
    assert loss.item() == pytest.approx(200 - math.log(2), rel=1e-6)
    (slope,) = torch.autograd.grad(loss, logits)
    assert slope[0, 1, 0, 1] == pytest.approx(1)
    assert slope[0, :, 1].abs().max() == 0
