from __future__ import annotations

import math

import pytest

from pcloud.evaluation.measured import Measured, round_together, zero_fraction_limit


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.984746, 0.000178, "0.98475 ± 0.00018"),
        (1269.937, 100.63, "1270 ± 100"),
        (1269.937, 93.4, "1270 ± 93"),
        (326.2, 13.24, "326 ± 13"),
        (12.345, 1.04, "12.3 ± 1.0"),
        (0.5, 0.0996, "0.50 ± 0.10"),  # rounds up to the next power of ten
        (99.96, 9.96, "100 ± 10"),
        (123456.0, 7891.0, "123500 ± 7900"),
        (-1.5, 0.25, "-1.50 ± 0.25"),
        (0.5, 0.0, "0.5 ± 0"),
        (0.5, math.nan, "0.5 ± nan"),
    ],
)
def test_value_is_printed_to_two_digits_of_its_error(value: float, error: float, text: str):
    assert str(Measured(value, error)) == text


def test_more_digits_can_be_asked_for():
    assert round_together(1269.937, 100.63, digits=3) == ("1270", "101")


@pytest.mark.parametrize(
    ("value", "limit", "text"),
    [
        (67412.3, "lower", "> 67000"),
        (679.99, "lower", "> 670"),
        (0.998523, "lower", "> 0.9985"),
        (0.97, "lower", "> 0.970"),
        (0.0014771, "upper", "< 0.0015"),
    ],
)
def test_limits_are_marked_and_rounded_to_the_safe_side(value: float, limit: str, text: str):
    assert str(Measured(value, 0.0, limit=limit)) == text  # type: ignore[arg-type]


def test_limit_is_the_probability_with_which_none_of_n_happens_once_in_twenty():
    for trials in (1, 3, 100, 200_000):
        assert (1 - zero_fraction_limit(trials)) ** trials == pytest.approx(0.05, rel=1e-9)
    assert zero_fraction_limit(200_000) == pytest.approx(3 / 200_000, rel=2e-3)


def test_measured_survives_its_dictionary():
    entry = Measured(1.5, 0.1, "DeLong", bootstrap=0.11, limit=None)
    assert Measured.from_dict(entry.to_dict()) == entry
    assert float(entry) == 1.5
