from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from pcloud.evaluation import EvaluationTable, evaluate
from pcloud.evaluation.measured import CONFIDENCE, ONE_SIGMA, zero_fraction_limit
from pcloud.evaluation.ranking import Ranking
from pcloud.evaluation.resampling import counting_error
from pcloud.evaluation.roc_point import BetaMixture, RocPoint

from .conftest import GaussianTagger

Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


def point(labels: np.ndarray, scores: np.ndarray, efficiency: float) -> RocPoint:
    return RocPoint(Ranking(scores, labels == 1, labels == 0).counts, efficiency)


def coverage(draw: Draw, efficiency: float, truth: float, number: int) -> tuple[float, float]:
    """Part of the samples whose 68 % and 95 % interval, or limit, contains the truth."""
    found = []
    for seed in range(number):
        sample = point(*draw(np.random.default_rng([23, seed])), efficiency)
        if sample.missing:
            found.append((sample.limit("upper") > truth,) * 2)
            continue
        low = sample.distribution("lower").cdf(truth)  # the truth lies between two quantiles
        high = sample.distribution("upper").cdf(truth)
        tails = [(1 - level) / 2 for level in (ONE_SIGMA, CONFIDENCE)]
        found.append(tuple(low > tail and high < 1 - tail for tail in tails))
    narrow, wide = np.mean(found, axis=0)
    return float(narrow), float(wide)


# --- toys; three standard errors of 250 samples are 0.08 at 70 % and 0.05 at 92 %


@pytest.mark.parametrize(
    ("num_signal", "efficiency", "num_background", "separation"),
    [
        (200, 0.99, 1000, 3.0),  # two signal jets fail
        (500, 0.99, 200, 1.5),
        (100, 0.9, 1000, 3.0),
        (100, 0.3, 2000, 2.0),
        (1000, 0.5, 300, 2.0),  # seven background jets pass
    ],
)
def test_intervals_cover_the_truth_with_few_jets(
    num_signal: int, efficiency: float, num_background: int, separation: float
):
    tagger = GaussianTagger(separation)
    truth = 1 / tagger.rejection(efficiency)
    draw: Draw = lambda generator: tagger.draw(num_signal, num_background, generator)  # noqa: E731
    narrow, wide = coverage(draw, efficiency, truth, number=250)
    assert 0.63 - 0.08 < narrow < 0.78 + 0.08
    assert wide > 0.92 - 0.05


def test_the_counting_error_alone_covers_too_little_with_few_failing_signal_jets():
    tagger, efficiency = GaussianTagger(3.0), 0.99
    true, inside = tagger.rejection(efficiency), []
    for seed in range(300):
        labels, scores = tagger.draw(200, 1000, np.random.default_rng([29, seed]))
        ranking = Ranking(scores, labels == 1, labels == 0)
        value = 1 / RocPoint(ranking.counts, efficiency).value
        influence = ranking.background_efficiency_influence(efficiency)
        inside.append(abs(value - true) < counting_error(influence, labels) * value**2)
    assert np.mean(inside) < 0.58


@pytest.mark.parametrize("step", [0.5, 2.0])
def test_intervals_of_tied_scores_cover_the_truth(step: float):
    efficiency, separation = 0.6, 1.0
    cuts = np.arange(-8, 9) * step
    signal, background = (stats.norm.sf(cuts[::-1], loc) for loc in (separation, 0.0))
    truth = float(np.interp(efficiency, signal, background))

    def draw(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat([1, 0], [200, 400])
        return labels, np.floor((generator.normal(size=600) + separation * labels) / step)

    narrow, wide = coverage(draw, efficiency, truth, number=250)
    assert 0.63 - 0.08 < narrow < 0.78 + 0.08
    assert wide > 0.92 - 0.05


def test_limits_without_background_know_the_error_of_the_threshold():
    # With 3.2 background jets expected, the limit of a known threshold excludes the truth
    # whenever none passes.
    tagger, efficiency = GaussianTagger(), 0.3
    truth = 1 / tagger.rejection(efficiency)
    num_background = round(3.2 / truth)
    limits = []
    for seed in range(600):
        sample = point(*tagger.draw(30, num_background, np.random.default_rng([31, seed])), 0.3)
        if sample.value == 0:
            found = sample.measured()
            assert found.limit == "upper"
            limits.append(found.value)
    assert zero_fraction_limit(num_background) < truth
    assert len(limits) / 600 > 0.08
    assert np.sum(np.array(limits) < truth) / 600 < 0.03


def test_limits_with_one_failing_signal_jet_hold():
    tagger, efficiency = GaussianTagger(1.5), 0.99
    truth = 1 / tagger.rejection(efficiency)
    held = []
    for seed in range(200):
        sample = point(*tagger.draw(100, 500, np.random.default_rng([37, seed])), efficiency)
        found = sample.measured()
        assert found.limit == "lower"
        held.append(found.value < truth)
    assert np.mean(held) > 0.93


# --- exact cases


def test_ends_of_an_interval_are_quantiles():
    labels, scores = GaussianTagger().draw(300, 1000, np.random.default_rng(2))
    sample = point(labels, scores, 0.7)
    for level in (0.5, ONE_SIGMA, CONFIDENCE):
        low, high = sample.interval(level)
        assert sample.distribution("lower").cdf(low) == pytest.approx((1 - level) / 2, abs=1e-4)
        assert sample.distribution("upper").cdf(high) == pytest.approx((1 + level) / 2, abs=1e-4)


def test_quantiles_of_one_beta_distribution_are_those_of_scipy():
    mixture = BetaMixture(np.ones(1), np.array([3.5]), np.array([200.0]))
    for probability in (0.025, 0.5, 0.9):
        expected = stats.beta(3.5, 200).ppf(probability)
        assert mixture.quantile(probability) == pytest.approx(expected, rel=1e-5)


def test_quantiles_in_point_masses_are_0_and_1():
    mixture = BetaMixture(np.array([0.2, 0.5, 0.3]), np.array([0.0, 2, 5]), np.array([9.0, 3, 0]))
    assert (mixture.quantile(0.1), mixture.quantile(0.8)) == (0.0, 1.0)
    assert mixture.quantile(0.45) == pytest.approx(stats.beta(2, 3).ppf(0.5), rel=1e-5)


def test_a_threshold_that_does_not_matter_leaves_the_counting_of_background():
    scores = np.concatenate([np.linspace(0, 1, 500), np.full(7, 2.0), np.full(93, -1.0)])
    labels = np.repeat([1, 0], [500, 100])
    low, high = point(labels, scores, 0.5).interval()
    tail = (1 - ONE_SIGMA) / 2
    assert low == pytest.approx(stats.beta(7.4, 93.6).ppf(tail), rel=1e-4)
    assert high == pytest.approx(stats.beta(7.6, 93.4).ppf(1 - tail), rel=1e-4)


def test_a_limit_with_a_threshold_that_does_not_matter_is_that_of_counting():
    scores = np.concatenate([np.linspace(0, 1, 500), np.full(100, -1.0)])
    labels = np.repeat([1, 0], [500, 100])
    assert point(labels, scores, 0.5).measured().value == pytest.approx(
        zero_fraction_limit(100), rel=1e-4
    )


def test_ample_jets_have_the_first_order_error():
    efficiency, separation, num_signal, num_background = 0.5, 1.5, 10_000, 20_000
    tagger = GaussianTagger(separation)
    truth = 1 / tagger.rejection(efficiency)
    cut = separation + stats.norm.isf(efficiency)
    slope = stats.norm.pdf(cut) / stats.norm.pdf(cut - separation)
    variance = truth * (1 - truth) / num_background
    variance += slope**2 * efficiency * (1 - efficiency) / num_signal
    errors = [
        point(*tagger.draw(num_signal, num_background, generator), efficiency).measured().error
        for generator in np.random.default_rng(3).spawn(20)
    ]
    assert np.mean(errors) == pytest.approx(variance**0.5, rel=0.1)


def test_equal_scores_have_a_small_error_and_not_none():
    sample = point(np.arange(1000) % 2, np.zeros(1000), 0.3)
    assert 0 < sample.measured().error < 0.01
    assert sample.value == pytest.approx(0.3)


# --- what a table says


def test_a_table_says_where_no_signal_jet_fails_the_cut():
    labels, scores = GaussianTagger().draw(100, 1000, np.random.default_rng(4))
    efficiencies = (0.5, 0.985, 0.999)
    table = evaluate(labels, scores, efficiencies=efficiencies, num_bootstrap=10)
    assert table["rejection@0.999"].limit == table["rejection@0.985"].limit == "upper"
    assert table["rejection@0.999"].method == "no signal jet fails"
    assert str(table["rejection@0.999"]).startswith("< ")
    assert table["rejection@0.999"].bootstrap is None
    said = " ".join(table.notes)
    assert "No interval for 1/εB at εS = 0.999: no signal jet fails the cut." in said
    assert "εS = 0.985: one signal jet fails the cut." in said
    assert "0.5:" not in said
    assert EvaluationTable.from_dict(table.to_dict()).entries == table.entries


def test_few_background_jets_have_a_limit_and_keep_their_interval():
    scores = np.concatenate([np.linspace(0, 1, 500), [2.0, 2.0], np.full(98, -1.0)])
    entry = evaluate(np.repeat([1, 0], [500, 100]), scores, efficiencies=(0.5,), num_bootstrap=0)[
        "rejection@0.5"
    ]
    # two of 100 jets pass, at a threshold that does not matter
    assert entry.limit == "lower"
    assert entry.value == pytest.approx(1 / stats.beta(3, 98).ppf(CONFIDENCE), rel=1e-4)
    assert entry.low < 50 < entry.high
    assert entry.interval(CONFIDENCE)[0] < entry.low


def test_separated_classes_bound_nothing_beyond_the_last_signal_jet():
    labels = np.repeat([0, 1], [40, 60])
    table = evaluate(labels, labels * 0.8 + 0.1, efficiencies=(0.5, 0.99), num_bootstrap=0)
    assert table["rejection@0.99"].limit == "lower"
    assert table["rejection@0.99"].value == pytest.approx(1.0)


def test_a_rejection_has_the_inverse_interval_of_the_background_efficiency():
    labels, scores = GaussianTagger().draw(300, 1000, np.random.default_rng(5))
    entry = evaluate(labels, scores, efficiencies=(0.9,), num_bootstrap=0)["rejection@0.9"]
    sample = point(labels, scores, 0.9)
    for level in (ONE_SIGMA, CONFIDENCE):
        low, high = sample.interval(level)
        assert entry.interval(level) == pytest.approx((1 / high, 1 / low))
    assert entry.error == pytest.approx((entry.high - entry.low) / 2)
    assert entry.low < entry.value < entry.high
