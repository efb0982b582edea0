"""Colours of maps and label maps over a photograph."""

from __future__ import annotations

import numpy as np

from wsss_cli import drawing


def test_heat_rises_from_blue_to_red() -> None:
    cold, hot = drawing.heat(np.array([[0.0, 1.0]]))[0].tolist()
    assert cold[2] > cold[0]
    assert hot[0] > hot[2]
