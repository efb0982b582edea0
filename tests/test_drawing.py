"""Colours of maps and label maps over a photograph."""

from __future__ import annotations

import numpy as np

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
