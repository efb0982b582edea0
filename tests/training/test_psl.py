"""The loss of prohibitive segmentation learning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from wsss_cli.methods.psl import auxiliary_mask, psl_loss
from wsss_cli.training.batch import Batch
from wsss_cli.training.psl import prohibitive_loss


def test_weights_of_images_in_prohibitive_learning() -> None:
    """An image of weight 2 is as good as the same image twice."""
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 3, 5, 5), torch.randint(0, 3, (2, 5, 5))
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    twice = torch.tensor([0, 0, 1])
    result = psl_loss(logits, mask, mask, labels, weights=torch.tensor([2.0, 1.0]))
    expected = psl_loss(logits[twice], mask[twice], mask[twice], labels[twice])
    torch.testing.assert_close(result, expected)
    assert result != psl_loss(logits, mask, mask, labels)


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
    result = prohibitive_loss(1, 1, weights=weights)(lambda images: (logits, scores), batch)

    given = labels if weights == "labels" else scores.sigmoid()
    auxiliary = auxiliary_mask(logits.softmax(1), given)
    auxiliary[:, 6:] = auxiliary[:, :, :1] = auxiliary[2] = 255
    cross = functional.binary_cross_entropy_with_logits(scores, labels, reduction="none")
    branch = cross[:2].sum(1).mean()
    expected = psl_loss(logits[:2], mask[:2], auxiliary[:2], labels[:2]) + branch
    torch.testing.assert_close(result, expected)
    result.backward()
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
        result = prohibitive_loss(8, every, weights="predicted")
        return result(lambda images: (logits, torch.full((1, 1), 3.0)), batch).item()

    result = [loss(4) for _ in range(300)]
    assert np.std(result) > 0
    assert np.mean(result) == pytest.approx(loss(1), rel=0.03)
