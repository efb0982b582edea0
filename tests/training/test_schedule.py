from __future__ import annotations

import pytest

from wsss_cli.training.schedule import poly


def test_poly_is_its_closed_form() -> None:
    for step in range(10):
        assert poly(step, 10) == pytest.approx((1 - step / 10) ** 0.9)
    assert poly(0, 10) == 1
    assert poly(5, 10, power=0) == 1
    assert poly(5, 10, power=1) == pytest.approx(0.5)


def test_the_warm_up_grows_linearly_to_the_curve() -> None:
    assert poly(0, 100, power=0, warmup=4) == pytest.approx(0.25)
    assert poly(2, 100, power=0, warmup=4) == pytest.approx(0.75)
    for step in range(3, 100):
        assert poly(step, 100, warmup=4) == poly(step, 100)
