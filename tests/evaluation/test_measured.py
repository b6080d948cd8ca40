from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import beta, binom, norm

from pcloud.errors import InputError
from pcloud.evaluation.measured import (
    Measured,
    fraction_interval,
    round_together,
    zero_fraction_limit,
)


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
        (1e-9, 1e-10, "(1.00 ± 0.10)e-09"),
        (0.0, 1e-7, "(0.0 ± 1.0)e-07"),
        (0.5, 0.0, "0.5"),  # no spread is no error
        (0.5, 1e-17, "0.5"),
        (0.5, math.nan, "0.5"),
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


def coverage(number: int, probabilities: np.ndarray, level: float) -> np.ndarray:
    """Exact coverage of the intervals of all possible counts."""
    passed = np.arange(number + 1)
    low, high = fraction_interval(passed, number, level)
    p = probabilities[:, None]
    return np.where((low <= p) & (p <= high), binom.pmf(passed, number, p), 0).sum(axis=1)


@pytest.mark.parametrize("number", [50, 100, 400])
def test_the_interval_of_a_fraction_covers_and_is_conservative_near_its_ends(number: int):
    p = np.linspace(0.2 / number, 1 - 0.2 / number, 801)
    rarer = number * np.minimum(p, 1 - p)  # jets expected on the smaller side
    covered = coverage(number, p, 0.6827)
    assert covered.min() > 0.62
    inside = covered[rarer >= 10]
    assert inside.min() > 0.65
    assert inside.max() < 0.80
    assert 0.66 < inside.mean() < 0.74
    assert coverage(number, p, 0.95).min() > 0.92


def test_low_and_high_cover_with_the_limit_in_their_place_where_none_or_all_pass():
    passed = np.arange(51)
    found = [Measured.fraction(k, 50) for k in passed]
    low, high = np.array([m.low for m in found]), np.array([m.high for m in found])
    for p in (0.002, 0.02, 0.06, 0.3, 0.5, 0.94, 0.998):
        covered = binom.pmf(passed, 50, p)[(low <= p) & (p <= high)].sum()
        assert covered > 0.63, p


def test_the_interval_lies_between_those_of_clopper_and_pearson_and_of_jeffreys():
    tail = norm.sf(1)
    for k, n in ((1, 10), (7, 40), (199, 200)):
        low, high = fraction_interval(k, n)
        assert Measured.fraction(k, n).interval() == (low, high)
        assert beta.ppf(tail, k, n - k + 1) < low < beta.ppf(tail, k + 0.5, n - k + 0.5)
        assert beta.isf(tail, k + 0.5, n - k + 0.5) < high < beta.isf(tail, k + 1, n - k)


def test_a_fraction_never_claims_to_be_exact():
    for passed in range(21):
        entry = Measured.fraction(passed, 20)
        assert entry.error > 0
        assert 0 <= entry.low <= entry.value <= entry.high <= 1
        assert "± 0 " not in f"{entry} "
    assert str(Measured.fraction(0, 50)) == "< 0.059"
    assert str(Measured.fraction(50, 50)) == "> 0.941"
    assert str(Measured.fraction(10_000, 10_000).scaled(100)) == "> 99.970"
    assert str(Measured.fraction(3, 50)) == "0.060 +0.050 -0.030"
    assert str(Measured.fraction(5000, 10000)) == "0.5000 ± 0.0050"
    assert math.isnan(Measured.fraction(0, 0).value)


def test_a_fraction_of_classes_of_fixed_size_has_the_spread_of_samples():
    generator = np.random.default_rng(0)
    numbers, rates = np.array([300, 100]), np.array([0.95, 0.4])
    drawn = [
        Measured.stratified_fraction(generator.binomial(numbers, rates), numbers)
        for _ in range(400)
    ]
    truth = (numbers * rates).sum() / numbers.sum()
    assert np.std([m.value for m in drawn]) == pytest.approx(drawn[0].error, rel=0.15)
    assert 0.63 < np.mean([m.low <= truth <= m.high for m in drawn]) < 0.78
    # all of one class pass and none of the other: known well, but not exactly
    constant = Measured.stratified_fraction([50, 0], [50, 50])
    assert constant.value == 0.5
    assert 1 / 100 < constant.interval(0.95)[1] - 0.5 < 3 / 100


@pytest.mark.parametrize("number", [2, 3, 5, 50])
def test_the_interval_of_a_mean_covers_with_few_values_too(number: int):
    values = np.random.default_rng(1).normal(5, 2, size=(1500, number))
    found = [Measured.mean(row) for row in values]
    for level, expected in ((0.6827, 0.6827), (0.95, 0.95)):
        covered = [m.interval(level)[0] <= 5 <= m.interval(level)[1] for m in found]
        assert np.mean(covered) == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("values", [[0.3], [0.1, 0.1, 0.1], [0.1 + 0.2, 0.3]])
def test_a_mean_of_values_without_spread_has_no_error(values: list[float]):
    entry = Measured.mean(values)
    assert entry.value == pytest.approx(np.mean(values))
    assert math.isnan(entry.error)
    assert math.isnan(entry.low)
    assert "±" not in str(entry)
    assert json.loads(json.dumps(entry.to_dict(), allow_nan=False))["error"] is None


def test_a_skewed_interval_is_printed_with_both_errors():
    entry = Measured(1000.0, 0.0, low=900.0, high=1200.0)
    assert entry.error == 150
    assert str(entry) == "1000 +200 -100"
    assert entry.interval(0.9545) == pytest.approx((800, 1400), rel=1e-3)
    assert str(entry.scaled(0.001)) == "1.00 +0.20 -0.10"
    percent = Measured.fraction(3, 50).scaled(100)
    assert percent.interval(0.95) == pytest.approx(
        [100 * end for end in Measured.fraction(3, 50).interval(0.95)]
    )


@pytest.mark.parametrize(
    "entry",
    [
        Measured.fraction(0, 30),
        Measured.fraction(3, 30),
        Measured(67412.3, 0.0, "no background passes", limit="lower"),
        Measured.mean([1.0, 2.0, 4.0]),
    ],
)
def test_every_kind_of_number_survives_strict_json(entry: Measured):
    assert Measured.from_dict(json.loads(json.dumps(entry.to_dict(), allow_nan=False))) == entry


def test_files_without_intervals_are_read():
    old = {"value": 0.9, "error": 0.1, "method": "DeLong", "bootstrap": None, "limit": None}
    assert Measured.from_dict(old) == Measured(0.9, 0.1, "DeLong")
    limit = Measured.from_dict(old | {"error": 0.0, "limit": "upper"})
    assert (limit.value, limit.high) == (0.9, 0.9)
    with pytest.raises(InputError, match=r"not at 0\.99"):
        limit.interval(0.99)
