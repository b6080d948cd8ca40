from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from pcloud.errors import InputError
from pcloud.objectives.predictions import (
    Bernoulli,
    Categorical,
    Normal,
    Point,
    Quantiles,
    average,
    estimate_from_columns,
)
from pcloud.objectives.target import Target

GENERATOR = torch.Generator().manual_seed(0)
ESTIMATES = [
    Point(torch.randn(7, dtype=torch.float64, generator=GENERATOR)),
    Normal(
        torch.randn(7, dtype=torch.float64, generator=GENERATOR),
        torch.rand(7, dtype=torch.float64, generator=GENERATOR) + 0.1,
    ),
    Quantiles(
        (0.16, 0.5, 0.84),
        torch.randn(7, 3, dtype=torch.float64, generator=GENERATOR).sort(dim=-1).values,
    ),
]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_the_losses_are_those_of_torch():
    truth = torch.randn(9)
    mu, sigma = torch.randn(9), torch.rand(9) + 0.1
    expected = -torch.distributions.Normal(mu, sigma).log_prob(truth)
    torch.testing.assert_close(Normal(mu, sigma).loss(truth), expected)
    logits, labels = torch.randn(9, 3), torch.randint(3, (9,))
    expected = -torch.distributions.Categorical(logits=logits).log_prob(labels)
    torch.testing.assert_close(Categorical(logits).loss(labels), expected)
    label = (truth > 0).float()
    expected = -torch.distributions.Bernoulli(logits=mu).log_prob(label)
    torch.testing.assert_close(Bernoulli(mu).loss(label), expected)


def test_the_pinball_loss_is_smallest_at_the_quantiles_of_the_sample():
    generator = torch.Generator().manual_seed(1)
    truth = torch.randn(4001, generator=generator, dtype=torch.float64)
    levels = (0.1, 0.5, 0.8)
    best = truth.quantile(torch.tensor(levels, dtype=torch.float64))

    def loss(values: torch.Tensor) -> float:
        return float(Quantiles(levels, values.expand(len(truth), 3)).loss(truth).mean())

    for i in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[i] = 0.02
        assert loss(best) < min(loss(best + step), loss(best - step))


@pytest.mark.parametrize("found", ESTIMATES)
def test_columns_give_back_the_prediction(found):
    levels = getattr(found, "probabilities", ())
    again = estimate_from_columns(found.kind, found.columns(), levels)
    assert all(
        torch.equal(v, vars(again)[n]) for n, v in vars(found).items() if n != "probabilities"
    )


@pytest.mark.parametrize("found", ESTIMATES[1:])
def test_an_interval_grown_by_the_excess_of_a_jet_just_reaches_its_truth(found):
    truth = torch.randn(7, dtype=torch.float64)
    for jet, width in enumerate(found.excess(truth, 0.68).tolist()):
        low, high = found.widened(0.68, width)
        at_an_end = min(abs(float(low[jet] - truth[jet])), abs(float(high[jet] - truth[jet])))
        assert at_an_end < 1e-12 or width < 0


@pytest.mark.parametrize("found", ESTIMATES)
def test_a_scaled_prediction_is_that_of_the_scaled_quantity(found):
    scaled = found.scaled(3.0, -1.0)
    torch.testing.assert_close(scaled.mean, 3 * found.mean - 1)
    for level in found.levels:
        for end, before in zip(scaled.interval(level), found.interval(level), strict=True):
            torch.testing.assert_close(end, 3 * before - 1)


def test_a_normal_prediction_covers_as_many_jets_as_its_level_says():
    generator = torch.Generator().manual_seed(2)
    mu = torch.randn(20000, generator=generator)
    sigma = torch.rand(20000, generator=generator) + 0.5
    truth = mu + sigma * torch.randn(20000, generator=generator)
    for level in (0.5, 0.68, 0.95):
        low, high = Normal(mu, sigma).interval(level)
        assert ((low < truth) & (truth < high)).double().mean() == pytest.approx(level, abs=0.011)


def test_quantiles_between_levels_are_interpolated_and_none_is_extrapolated():
    found = Quantiles((0.2, 0.5, 0.8), torch.tensor([[0.0, 3.0, 9.0]]))
    assert float(found.quantile(0.3)) == pytest.approx(1.0)
    assert found.levels == (0.6,)
    with pytest.raises(InputError, match=r"no quantile at 0\.1: the levels are 0\.2, 0\.5, 0\.8"):
        found.quantile(0.1)


def test_an_ensemble_of_normal_predictions_has_the_moments_of_their_mixture():
    parts = [
        Normal(torch.tensor([0.0]), torch.tensor([1.0])),
        Normal(torch.tensor([4.0]), torch.tensor([2.0])),
    ]
    samples = np.concatenate(
        [np.random.default_rng(0).normal(m, s, 400_000) for m, s in ((0, 1), (4, 2))]
    )
    found = average(parts)
    assert float(found.mean) == pytest.approx(samples.mean(), abs=0.02)
    assert float(found.sigma) == pytest.approx(samples.std(), abs=0.02)


def test_an_ensemble_of_classes_has_the_mean_probability():
    logits = [torch.randn(5, 3), torch.randn(5, 3)]
    found = average([Categorical(part) for part in logits])
    expected = sum(nn.functional.softmax(part, -1) for part in logits) / 2
    torch.testing.assert_close(found.mean, expected)


def test_damaged_columns_end_in_one_line():
    x = torch.ones(3)
    with pytest.raises(InputError, match="'gauss'; known: normal, point, quantiles"):
        estimate_from_columns("gauss", {"": x})
    with pytest.raises(InputError, match="standard deviation is not positive"):
        estimate_from_columns("normal", {"": x, "_sigma": -x})


# --- targets


def test_a_target_is_standardised_by_median_and_spread():
    values = torch.randn(
        5000, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).exp()
    values[::7] = math.nan
    target = Target("mass", "log").fitted(values)
    known = values[~values.isnan()]
    assert target.shift == pytest.approx(float(known.log().median()), abs=1e-3)
    standard = target.standardised(known)
    q = torch.tensor([0.1587, 0.8413], dtype=torch.float64)
    low, high = standard.quantile(q).tolist()
    assert (high - low) / 2 == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(target.value(standard * target.scale + target.shift), known)


@pytest.mark.parametrize(
    ("values", "transform", "message"),
    [
        ([math.nan, math.nan], "none", "'mass' is missing for all of the training jets"),
        ([2.0, 2.0, math.nan], "none", "'mass' is constant in the training jets, 2"),
        (
            [2.0, math.inf, 1.0],
            "none",
            "'mass' is infinite for 1 of 3 training jets, the first is jet 1",
        ),
        (
            [2.0, 1.0, 0.0],
            "log",
            "'mass' is not positive for 1 of 3 training jets, the first is jet 2",
        ),
    ],
)
def test_a_target_that_cannot_be_learned_is_refused(values, transform, message):
    with pytest.raises(InputError, match=message):
        Target("mass", transform).fitted(torch.tensor(values))
