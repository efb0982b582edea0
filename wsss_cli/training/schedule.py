"""The learning rate over the steps of a training run."""

from __future__ import annotations


def poly(step: int, steps: int, *, power: float = 0.9, warmup: int = 0) -> float:
    """Factor of the learning rate at a step: (1 - step / steps) ** power (Chen 2018, sec. 4.1).

    With a warm-up, it is also multiplied by a factor that grows linearly from 1 / warmup to 1.

    Args:
        step: number of the step, counted from 0; below ``steps``.
        steps: number of steps in all.
        power: exponent; 0 keeps the rate constant.
        warmup: number of steps of the warm-up; 0 for none.

    >>> poly(0, 10), round(poly(5, 10), 4)
    (1.0, 0.5359)
    """
    factor: float = (1 - step / steps) ** power
    return factor * min(1.0, (step + 1) / warmup) if warmup else factor
