"""Prohibitive segmentation learning against slow loops, and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wsss_cli.methods.psl import auxiliary_mask, prohibit, psl_loss


def slow_mask(probabilities: Tensor, scores: Tensor) -> Tensor:
    count, classes, height, width = probabilities.shape
    mask = torch.zeros(count, height, width, dtype=torch.long)
    for n in range(count):
        for y in range(height):
            for x in range(width):
                best = -1.0
                for c in range(classes):
                    value = probabilities[n, c, y, x].item() * (scores[n, c - 1].item() if c else 1)
                    if value > best:
                        best, mask[n, y, x] = value, c
    return mask


def slow_j(probabilities: Tensor, masks: Tensor, labels: Tensor) -> float:
    """J by its formula, class by class, the mean over images that have any pixel."""
    each = []
    for f, mask, given in zip(probabilities, masks, labels, strict=True):
        total, pixels = 0.0, 0
        for c in [0] + [c + 1 for c in range(len(given)) if given[c]]:
            for y, x in (mask == c).nonzero().tolist():
                total -= math.log(f[c, y, x].item())
                pixels += 1
        if pixels:
            each.append(total / pixels)
    return sum(each) / len(each) if each else 0.0


def test_by_hand() -> None:
    """4 x 4, background and two classes, the second of them not in the image."""
    # Left half: f = (.3, .5, .2); right half: f = (.2, .3, .5).
    left, right = torch.tensor([0.3, 0.5, 0.2]), torch.tensor([0.2, 0.3, 0.5])
    f = torch.stack([left, left, right, right], dim=1)[:, None].expand(3, 4, 4)[None]
    # Predicted: .3 .45 .04 on the left, .2 .27 .1 on the right, so class 1 all over.
    assert (auxiliary_mask(f, torch.tensor([[0.9, 0.2]])) == 1).all()
    # A sure second class keeps the right half.
    assert auxiliary_mask(f, torch.tensor([[0.9, 1.0]]))[0, 0].tolist() == [1, 1, 2, 2]
    # With true labels a class that is not in the image never wins; with none all is background.
    assert (auxiliary_mask(f, torch.tensor([[1.0, 0.0]])) == 1).all()
    assert (auxiliary_mask(f, torch.zeros(1, 2)) == 0).all()

    mask = torch.tensor([[[0, 1, 1, 1], [255, 255, 2, 255], [255] * 4, [255] * 4]])
    # S: background at the left, class 1 left and twice right; 2 is not in the image.
    first = -(math.log(0.3) + math.log(0.5) + 2 * math.log(0.3)) / 4
    second = -(8 * math.log(0.5) + 8 * math.log(0.3)) / 16
    labels = torch.tensor([[1.0, 0.0]])
    result = psl_loss(f.log(), mask, auxiliary_mask(f, torch.tensor([[0.9, 0.2]])), labels)
    assert result.item() == pytest.approx(first + second, rel=1e-6)


def test_against_slow_loops() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 6, 7, dtype=torch.float64)
    f = logits.softmax(1)
    scores = torch.rand(3, 4, dtype=torch.float64)
    auxiliary = auxiliary_mask(f, scores)
    assert torch.equal(auxiliary, slow_mask(f, scores))
    mask = torch.randint(0, 5, (3, 6, 7))
    mask[torch.rand(mask.shape) < 0.4] = 255
    mask[1] = 255  # nothing is known of this one
    labels = torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0]])
    expected = slow_j(f, mask, labels) + slow_j(f, auxiliary, labels)
    assert psl_loss(logits, mask, auxiliary, labels).item() == pytest.approx(expected, rel=1e-5)


def test_no_pixel_is_no_loss_and_gradients_are_finite() -> None:
    logits = torch.randn(2, 3, 4, 4).requires_grad_()
    nothing = torch.full((2, 4, 4), 255)
    loss = psl_loss(logits, nothing, nothing, torch.ones(2, 2))
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert not logits.grad.any()
    extreme = torch.tensor([[1e4, -1e4, 0.0]]).view(1, 3, 1, 1).requires_grad_()
    there = torch.ones(1, 1, 1, dtype=torch.long)
    psl_loss(extreme, there, there, torch.ones(1, 2)).backward()
    assert extreme.grad is not None
    assert extreme.grad.isfinite().all()


def test_a_class_with_a_low_score_is_prohibited() -> None:
    torch.manual_seed(0)
    f = torch.rand(4, 5, 6).softmax(0)
    left = prohibit(f, torch.tensor([0.09, 0.1, 1.0]))
    assert not left[1].any()
    torch.testing.assert_close(left.sum(0), torch.ones(5, 6))
    torch.testing.assert_close(left[2] / left[0], f[2] / f[0])
    assert torch.equal(prohibit(f, torch.zeros(3), 0), f / f.sum(0))
    assert (prohibit(f, torch.zeros(3))[0] == 1).all()


def test_shapes_that_do_not_fit() -> None:
    f, mask = torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="scores"):
        auxiliary_mask(f, torch.rand(2, 3))
    with pytest.raises(ValueError, match="labels"):
        psl_loss(f, mask, mask, torch.ones(2, 3))
    with pytest.raises(ValueError, match="masks"):
        psl_loss(f, mask, mask[:, :3], torch.ones(2, 2))
    with pytest.raises(ValueError, match="scores"):
        prohibit(f[0], torch.rand(3))


def test_where_nothing_is_left_there_is_background() -> None:
    probabilities = torch.tensor([[0.0, 0.5], [1.0, 0.25], [0.0, 0.25]])
    left = prohibit(probabilities, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(left, torch.tensor([[1.0, 2 / 3], [0, 0], [0, 1 / 3]]))
