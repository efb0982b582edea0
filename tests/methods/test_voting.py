from __future__ import annotations

import pytest
import torch

from wsss_cli.methods.grids import vote


def test_the_mean_of_probabilities_turned_back() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(3, 4, 5), torch.randn(3, 4, 5)
    expected = (a.softmax(0) + b.flip(-1).softmax(0)) / 2
    torch.testing.assert_close(vote([a, b], (4, 5), [False, True]), expected)


def test_scales_are_brought_to_one_size_and_probabilities_add_up() -> None:
    torch.manual_seed(0)
    found = vote([torch.randn(4, 3, 5), torch.randn(4, 6, 10)], (24, 40), [False, False])
    assert found.shape == (4, 24, 40)
    torch.testing.assert_close(found.sum(0), torch.ones(24, 40))


@pytest.mark.parametrize(("maps", "flags"), [([], []), ([torch.zeros(2, 3, 3)], [])])
def test_flags_and_logits_must_match(maps: list[torch.Tensor], flags: list[bool]) -> None:
    with pytest.raises(ValueError, match="flags"):
        vote(maps, (3, 3), flags)
