from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pcloud.errors import InputError
from pcloud.evaluation.working_points import working_points


def test_a_threshold_lets_the_wanted_part_pass(tagger):
    labels, scores = tagger.draw(1000, 800, np.random.default_rng(0))
    for point in working_points(labels, scores, efficiencies=[0.3], mistag_rates=[0.05]):
        passed = scores >= point.threshold.value
        efficiency, mistag = passed[labels == 1].mean(), passed[labels == 0].mean()
        assert point.efficiency.value == pytest.approx(efficiency, abs=1e-3)
        assert point.mistag_rate.value == pytest.approx(mistag, abs=1.3e-3)
    by_efficiency = working_points(labels, scores, efficiencies=[0.3], mistag_rates=[])[0]
    assert (scores >= by_efficiency.threshold.value)[labels == 1].sum() == 300


def test_errors_of_thresholds_are_the_spread_over_samples(tagger):
    found = points_of_samples(tagger, 400, efficiencies=[0.5], mistag_rates=[0.1])
    for points in zip(*found, strict=True):
        values = [point.threshold.value for point in points]
        errors = [point.threshold.error for point in points]
        assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.15)


@pytest.mark.parametrize("number", [150, 400])  # 3.4 and 9 background jets pass the first cut
def test_intervals_of_the_other_rate_cover_the_truth(tagger, number):
    found = points_of_samples(tagger, number, efficiencies=[0.5], mistag_rates=[0.1])
    separation = tagger.separation
    truths = (stats.norm.sf(separation), stats.norm.sf(stats.norm.isf(0.1) - separation))
    for points, name, truth in zip(
        zip(*found, strict=True), ("mistag_rate", "efficiency"), truths, strict=True
    ):
        rates = [getattr(point, name) for point in points]
        inside = [rate.low < truth < rate.high for rate in rates]
        assert 0.63 - 0.08 < np.mean(inside) < 0.80 + 0.08, name


def points_of_samples(tagger, number: int, **wanted):
    generator = np.random.default_rng(1)
    return [working_points(*tagger.draw(number, number, generator), **wanted) for _ in range(300)]


def test_the_wanted_rate_is_met_in_new_samples_within_its_error(tagger):
    generator = np.random.default_rng(2)
    passed = []
    for _ in range(300):
        (point,) = working_points(
            *tagger.draw(400, 400, generator), efficiencies=[0.5], mistag_rates=[]
        )
        labels, scores = tagger.draw(4000, 2, generator)
        passed.append((scores[labels == 1] >= point.threshold.value).mean())
    assert np.mean(passed) == pytest.approx(0.5, abs=0.005)
    assert np.std(passed) == pytest.approx(point.efficiency.error, rel=0.15)


def test_no_background_beyond_the_threshold_is_a_limit():
    labels, scores = np.repeat([0, 1], 50), np.linspace(0, 1, 100)
    point = working_points(labels, scores, efficiencies=[0.5])[0]
    assert point.mistag_rate.limit == "upper"
    assert point.mistag_rate.value == pytest.approx(1 - 0.05 ** (1 / 50))


@pytest.mark.parametrize("digits", [0, 1, 2, 6])
def test_the_rates_are_those_of_the_threshold_where_scores_tie(tagger, digits):
    labels, scores = tagger.draw(1000, 2000, np.random.default_rng(5))
    scores = np.round(scores, digits)
    points = working_points(labels, scores, efficiencies=[0.3, 0.7], mistag_rates=[0.1, 0.01])
    for point in points:
        passed = scores >= point.threshold.value
        for part, label in ((point.efficiency, 1), (point.mistag_rate, 0)):
            assert part.limit or part.value == pytest.approx(passed[labels == label].mean())
            assert part.error > 0
    assert points[0].efficiency.value >= 0.3
    if digits:  # of 0 and 1, one alone is a cut
        assert points[2].mistag_rate.value <= 0.1


def test_where_all_scores_tie_all_pass():
    labels = np.repeat([0, 1], [30, 70])
    points = working_points(labels, np.full(100, 0.4), mistag_rates=[0.01])
    for point in points:
        assert point.threshold.value == 0.4
        assert "±" not in str(point.threshold)
        assert (point.efficiency.limit, point.mistag_rate.limit) == ("lower", "lower")


def test_the_error_of_a_rate_at_a_tied_threshold_is_that_of_counting(tagger):
    """The threshold for an efficiency of 0.5 is 0.9 in every sample of this size."""
    generator = np.random.default_rng(6)
    found = []
    for _ in range(200):
        labels, scores = tagger.draw(2000, 2000, generator)
        found += working_points(labels, np.round(scores, 1), efficiencies=[0.5], mistag_rates=[])
    assert {point.threshold.value for point in found} == {0.9}
    for name in ("efficiency", "mistag_rate"):
        values = [getattr(point, name).value for point in found]
        errors = [getattr(point, name).error for point in found]
        assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.2), name


def test_many_classes_need_a_signal():
    labels = np.arange(90) % 3
    scores = 0.1 + 0.7 * np.eye(3)[labels]
    with pytest.raises(InputError, match="which of a, b, c is it"):
        working_points(labels, scores, classes=["a", "b", "c"])
    points = working_points(labels, scores, classes=["a", "b", "c"], signal="b", background="a")
    assert points[0].threshold.value == pytest.approx(0.8 / 0.9)
    with pytest.raises(InputError, match="between 0 and 1"):
        working_points(labels, scores, signal=1, efficiencies=[1.5])
