from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from pcloud.errors import InputError
from pcloud.evaluation import EvaluationTable, Measured
from pcloud.evaluation.conformal_intervals import ConformalIntervals, fit_intervals
from pcloud.evaluation.figures.regression import (
    quantile_figure,
    residual_figure,
    resolution_figure,
    response_figure,
)
from pcloud.evaluation.quantiles import half_width, quantile, spread, standard_deviation
from pcloud.evaluation.regression import PredictedTarget, dependences, evaluate_target
from pcloud.objectives.predictions import Estimate, Normal, Point, Quantiles
from pcloud.objectives.target import Target


def sample_of(
    prediction: Estimate, truth: Any, target: Target | None = None, **others: Any
) -> PredictedTarget:
    return PredictedTarget.of(target or Target("mass"), np.asarray(truth), prediction, **others)


def normal_sample(number: int, seed: int, bias: float = 0.0, width: float = 1.0) -> PredictedTarget:
    """Jets whose sigma depends on pT, with true values of that spread."""
    rng = np.random.default_rng(seed)
    pt = rng.uniform(100, 1000, number)
    sigma = 5 + pt / 100
    mu = rng.normal(100, 20, number)
    truth = mu - bias + width * sigma * rng.normal(size=number)
    prediction = Normal(torch.from_numpy(mu), torch.from_numpy(sigma))
    return sample_of(prediction, truth, observables={"pt": pt})


STATISTICS = {
    "median": lambda x, w: quantile(x, 0.5, w),
    "tail quantile": lambda x, w: quantile(x, 0.95, w),
    "half width": half_width,
    "IQR": spread,
    "standard deviation": standard_deviation,
}


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_error_of_a_statistic_is_its_spread_over_toys(name, weighted):
    rng = np.random.default_rng(4)
    values, errors = [], []
    for _ in range(300):
        x = rng.standard_t(10, 600)
        w = rng.exponential(size=600) * (1 + (x > 0)) if weighted else None  # depends on the value
        found = STATISTICS[name](x, w)
        values.append(found.value)
        errors.append(found.error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.13)


def test_the_values_without_weights_are_those_of_numpy():
    x = np.random.default_rng(0).normal(size=501)
    assert quantile(x, 0.3).value == pytest.approx(np.quantile(x, 0.3))
    q = np.quantile(x, [0.15865525, 0.84134475])
    assert half_width(x).value == pytest.approx((q[1] - q[0]) / 2)
    assert standard_deviation(x).value == pytest.approx(x.std())
    assert spread(x).value == pytest.approx(np.subtract(*np.quantile(x, [0.75, 0.25])) / 1.34898)


def test_a_jet_of_weight_two_counts_as_two_jets():
    x = np.random.default_rng(0).normal(size=2000)
    w = np.ones(2000)
    w[:500] = 2
    twice = np.concatenate([x, x[:500]])
    for statistic in STATISTICS.values():
        assert statistic(x, w).value == pytest.approx(statistic(twice, None).value, abs=2e-3)


def test_bias_resolution_and_pulls_are_those_that_the_jets_were_made_with():
    found = evaluate_target(normal_sample(40_000, 1, bias=3.0, width=1.2))
    assert found["pull_width"].value == pytest.approx(1.2, abs=4 * found["pull_width"].error)
    assert found["bias"].value == pytest.approx(3.0, abs=4 * found["bias"].error)
    assert found["pull_mean"].value > 0  # the prediction is too high, and so is the pull
    inside = math.erf((1 - 0.0) / 1.2 / math.sqrt(2))
    assert found["coverage@0.68"].value < 0.68
    assert found["coverage@0.68"].value == pytest.approx(inside, abs=0.04)
    assert all(isinstance(entry, Measured) and entry.error > 0 for entry in found.values())


def test_a_perfect_sigma_has_pulls_of_width_1_and_the_coverage_of_its_level():
    found = evaluate_target(normal_sample(40_000, 2))
    for name, expected in (
        ("pull_mean", 0.0),
        ("pull_width", 1.0),
        ("coverage@0.68", 0.68),
        ("coverage@0.95", 0.95),
    ):
        assert found[name].value == pytest.approx(expected, abs=4 * found[name].error)


def test_the_quantiles_of_the_true_distribution_are_reliable():
    rng = np.random.default_rng(5)
    truth = rng.exponential(size=20_000)
    levels = (0.025, 0.16, 0.5, 0.84, 0.975)
    values = torch.tensor([-math.log1p(-p) for p in levels], dtype=torch.float64)
    sample = sample_of(Quantiles(levels, values.expand(20_000, -1)), truth)
    found = evaluate_target(sample)
    for level in levels:
        entry = found[f"below_quantile@{level:g}"]
        assert entry.value == pytest.approx(level, abs=4 * entry.error)
    assert found["coverage@0.95"].value == pytest.approx(0.95, abs=0.006)


def test_a_missing_truth_changes_nothing():
    whole = normal_sample(500, 3)
    truth = np.concatenate([whole.truth, [math.nan] * 100])
    more = Normal(*(torch.cat([v, v[:100]]) for v in vars(whole.prediction).values()))
    pt = np.concatenate([whole.observables["pt"], whole.observables["pt"][:100]])
    found = evaluate_target(sample_of(more, truth, observables={"pt": pt}))
    assert found == evaluate_target(whole)
    with pytest.raises(InputError, match="'mass' is missing for all 600 jets"):
        sample_of(more, truth * math.nan)


def test_a_logarithm_is_measured_in_the_unit_of_the_target():
    rng = np.random.default_rng(6)
    truth = np.exp(rng.normal(4, 0.5, 5000))
    log = torch.from_numpy(np.log(truth) + 0.1 * rng.normal(size=5000) + 0.05)
    sample = sample_of(Normal(log, torch.full_like(log, 0.1)), truth, Target("mass", "log"))
    found = evaluate_target(sample)
    assert found["response"].value == pytest.approx(math.exp(0.05), rel=0.01)
    assert found["response_resolution"].value == pytest.approx(0.1, rel=0.06)
    assert found["pull_width"].value == pytest.approx(1.0, abs=0.05)


def test_bins_of_an_observable_find_the_dependence():
    (found,) = dependences(normal_sample(20_000, 7))
    assert found.observable == "pt"
    assert len(found.rows()) == 7
    assert sum(found.jets) == 20_000
    first, last = found.resolution[0], found.resolution[-1]
    assert last.value - first.value > 5 * math.hypot(first.error, last.error)
    few = dependences(normal_sample(60, 7))[0]
    assert few.bias == [None] * 6


def test_a_constant_observable_has_one_bin():
    sample = normal_sample(100, 8)
    constant = PredictedTarget(
        sample.target, sample.truth, sample.prediction, None, {"multiplicity": np.full(100, 7.0)}
    )
    (found,) = dependences(constant)
    assert found.jets == [100]


def test_the_figures_can_be_drawn():
    sample = normal_sample(300, 9)
    found = dependences(sample)
    assert len(residual_figure(sample).axes) == 2
    assert len(response_figure(found, name="mass").axes) == 1
    assert len(resolution_figure(found, name="mass").axes) == 1
    values = torch.sort(torch.randn(50, 3, dtype=torch.float64)).values
    assert quantile_figure(sample_of(Quantiles((0.1, 0.5, 0.9), values), np.zeros(50) + 0.1)).axes


def test_the_table_names_target_and_quantity():
    entries = {"auc": Measured(0.9, 0.1), "m.bias": Measured(1.0, 0.1)}
    entries |= {"m.coverage@0.68": Measured(0.7, 0.1), "pt.bias": Measured(2.0, 0.1)}
    table = EvaluationTable(entries)
    titles = [row[0] for row in table.rows()]
    assert titles[1:] == ["AUC", "m: bias", "m: coverage of the interval of 0.68", "pt: bias"]
    assert table.target_rows()[0] == ["", "m", "pt"]
    assert table.target_rows()[2] == ["coverage of the interval of 0.68", "0.70 ± 0.10", ""]


# --- conformal intervals

PREDICTIONS = {
    "point": lambda mu, sigma: Point(mu),
    "normal": lambda mu, sigma: Normal(mu, 0.5 * sigma),  # far too narrow
    "quantiles": lambda mu, sigma: Quantiles(
        (0.16, 0.5, 0.84), torch.stack([mu - 0.3 * sigma, mu, mu + 0.3 * sigma], dim=-1)
    ),
}


def skewed(number: int, seed: int, kind: str) -> PredictedTarget:
    rng = np.random.default_rng(seed)
    pt = rng.uniform(100, 1000, number)
    sigma = 1 + pt / 300
    mu = rng.normal(size=number)
    truth = mu + sigma * (rng.exponential(size=number) - 1)
    prediction = PREDICTIONS[kind](torch.from_numpy(mu), torch.from_numpy(sigma))
    return sample_of(prediction, truth, observables={"pt": pt})


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("level", [0.68, 0.95])
def test_conformal_intervals_cover_also_in_each_third_of_pt(kind, level):
    fitted = fit_intervals(skewed(6000, 1, kind), level)
    test = skewed(10_000, 2, kind)
    covered = fitted.covered(test)
    assert covered.mean() == pytest.approx(level, abs=0.02)
    pt = test.observables["pt"]
    place = np.searchsorted(np.quantile(pt, [1 / 3, 2 / 3]), pt)
    for third in range(3):
        assert covered[place == third].mean() == pytest.approx(level, abs=0.04)
    low, high = fitted.ends(test)
    inside = (low <= test.truth) & (test.truth <= high)
    assert (inside == covered).mean() > 0.999  # rounding at the ends


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_the_width_is_the_smallest_that_covers_enough_jets(kind):
    sample = skewed(57, 3, kind)
    excess = np.sort(sample.prediction.excess(sample.learned_truth, 0.68).numpy())
    fitted = fit_intervals(sample, 0.68, bins=1)
    assert fitted.widths == [excess[math.ceil(0.68 * 58) - 1]]
    weighted = PredictedTarget(
        sample.target, sample.truth, sample.prediction, np.full(57, 3.0), sample.observables
    )
    assert fit_intervals(weighted, 0.68, bins=1).widths == fitted.widths


def test_the_expected_coverage_over_toys_is_the_level():
    covered = []
    for seed in range(400):
        sample = skewed(19, seed, "point")
        covered.append(fit_intervals(sample, 0.8).covered(skewed(50, 1000 + seed, "point")).mean())
    assert np.mean(covered) == pytest.approx(0.8, abs=0.015)


def test_too_few_jets_have_infinite_intervals():
    fitted = fit_intervals(skewed(10, 0, "normal"), 0.95)
    assert fitted.widths == [None]
    low, high = fitted.ends(skewed(5, 1, "normal"))
    assert np.isinf(low).all()
    assert np.isinf(high).all()


def test_levels_and_weights_that_cannot_be_used_are_refused():
    sample = skewed(50, 0, "point")
    with pytest.raises(InputError, match=r"between 0 and 1, got 1\.2"):
        fit_intervals(sample, 1.2)
    negative = PredictedTarget(sample.target, sample.truth, sample.prediction, -np.ones(50), {})
    with pytest.raises(InputError, match="weights that are not negative"):
        fit_intervals(negative, 0.68)
    with pytest.raises(InputError, match="not one for each bin"):
        ConformalIntervals("mass", 0.68, [1.0], [1.0])


def _estimators(number: int) -> list[Any]:
    """Estimators for MAPIE that have been fitted, each of which predicts one feature."""
    from sklearn.base import BaseEstimator, RegressorMixin

    class Stored(RegressorMixin, BaseEstimator):
        def __init__(self, column: int = 0) -> None:
            self.column = column

        def fit(self, x: Any, y: Any) -> Stored:
            return self

        def predict(self, x: Any) -> Any:
            return np.asarray(x)[:, self.column]

        def __sklearn_is_fitted__(self) -> bool:
            return True

    return [Stored(column) for column in range(number)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("level", [0.68, 0.95])
def test_intervals_of_values_are_those_of_mapie(level):
    regression = pytest.importorskip("mapie.regression")
    fit, test = skewed(303, 1, "point"), skewed(40, 2, "point")
    (estimator,) = _estimators(1)
    mapie = regression.SplitConformalRegressor(estimator, confidence_level=level, prefit=True)
    mapie.conformalize(fit.predicted[:, None], fit.truth)
    _, ends = mapie.predict_interval(test.predicted[:, None])
    low, high = fit_intervals(fit, level, bins=1).ends(test)
    np.testing.assert_allclose(low, ends[:, 0, 0])
    np.testing.assert_allclose(high, ends[:, 1, 0])


@pytest.mark.filterwarnings("ignore")
def test_intervals_of_quantiles_are_those_of_mapie():
    regression = pytest.importorskip("mapie.regression")

    def quantiles(sample: PredictedTarget) -> Any:
        ends = sample.prediction.interval(0.68)
        return np.stack([values.numpy() for values in (*ends, sample.prediction.mean)], axis=1)

    fit, test = skewed(303, 1, "quantiles"), skewed(40, 2, "quantiles")
    mapie = regression.ConformalizedQuantileRegressor(
        _estimators(3), confidence_level=0.68, prefit=True
    )
    mapie.conformalize(quantiles(fit), fit.truth)
    _, ends = mapie.predict_interval(quantiles(test), symmetric_correction=True)
    low, high = fit_intervals(fit, 0.68, bins=1).ends(test)
    np.testing.assert_allclose(low, ends[:, 0, 0])
    np.testing.assert_allclose(high, ends[:, 1, 0])
