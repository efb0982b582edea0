"""Colours of maps and label maps over a photograph."""

from __future__ import annotations

import numpy as np
import pytest

from wsss_cli import drawing


def test_heat_rises_from_blue_to_red() -> None:
    cold, hot = drawing.heat(np.array([[0.0, 1.0]]))[0].tolist()
    assert cold[2] > cold[0]
    assert hot[0] > hot[2]


def test_texts_are_one_line_and_fit() -> None:
    style = drawing.font(14)
    assert drawing.fitted("a cat", style, 100) == "a cat"
    for text in ("m" * 50, "i" * 1_000_000, "猫" * 40, "e\u0301" * 99):
        for width in (0, 20, 100):
            shown = drawing.fitted(text, style, width)
            assert shown.endswith("…")
            assert style.getlength(shown) <= width or shown == "…"
    assert len(drawing.fitted("i" * 99, style, 100)) > 20  # no shorter than needed
    strange = "a\nb\x1b[31m\u202e\u200f\ud800😀é"
    assert drawing.fitted(strange, style, 1000) == "a?b?[31m???😀é"


def test_ticks_are_round_and_span() -> None:
    assert drawing.ticks(0, 8) == [0, 2, 4, 6, 8]
    assert drawing.ticks(0, 0.034)[-1] >= 0.034
    assert drawing.ticks(1, 1)[0] <= 1 <= drawing.ticks(1, 1)[-1]


def test_small_losses_have_ticks() -> None:
    """They were rounded to 0, and a division by them ended the training."""
    assert drawing.ticks(0, 1e-12)[1:] == pytest.approx([2e-13, 4e-13, 6e-13, 8e-13, 1e-12])
    assert drawing.ticks(-1e20, -1e20)[0] < drawing.ticks(-1e20, -1e20)[-1]
