from __future__ import annotations

import numpy as np
import pytest

from pcloud.errors import InputError
from pcloud.evaluation.dependence import Dependence, measure_dependence


def test_rates_are_counts_in_bins(tagger):
    labels, scores = tagger.draw(500, 700, np.random.default_rng(0))
    x = np.random.default_rng(1).integers(0, 1000, len(labels)).astype(float)
    (found,) = measure_dependence(labels, scores, {"x": x}, efficiency=0.6, bins=5)
    cut = np.sort(scores[labels == 1])[::-1][int(0.6 * 500) - 1]
    edges = np.array(found.edges)
    for i in range(5):
        inside = (x >= edges[i]) & ((x < edges[i + 1]) | (i == 4))
        for kind, rates in ((1, found.signal), (0, found.background)):
            assert rates[i].value == pytest.approx(
                np.mean(scores[inside & (labels == kind)] >= cut)
            )
    assert len(found.edges) == 6


def test_a_tagger_of_the_mass_depends_on_the_mass_alone():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 4000)
    mass, other = generator.normal(80 + 60 * labels, 30), generator.normal(size=8000)
    found = measure_dependence(labels, mass, {"mass": mass, "other": other})
    assert [m.value for m in found[0].background[:3]] == pytest.approx(
        [1 - 0.05 ** (1 / n) for n in _counts(mass, labels, found[0].edges)[:3]]
    )
    assert found[0].background[-1].limit == "lower"  # all pass
    spread = [
        (m.value - np.mean([n.value for n in found[1].signal])) / m.error for m in found[1].signal
    ]
    assert np.max(np.abs(spread)) < 3.5


def _counts(mass, labels, edges):
    return np.histogram(mass[labels == 0], edges)[0]


def test_errors_are_the_spread_over_samples(tagger):
    generator = np.random.default_rng(0)
    values, errors = [], []
    for _ in range(200):
        labels, scores = tagger.draw(400, 400, generator)
        x = np.tile(np.arange(400), 2)  # the same bins every time
        (found,) = measure_dependence(labels, scores, {"x": x}, efficiency=0.8, bins=4)
        values.append(found.signal[0].value)
        errors.append(found.signal[0].error)
    # the threshold is fitted on the same jets, of which a bin has a quarter
    assert np.std(values) == pytest.approx(np.mean(errors) * np.sqrt(3 / 4), rel=0.15)


def test_bins_without_a_kind_of_jets_have_no_rate_and_ties_fewer_bins():
    labels, x = np.repeat([0, 1], 20), np.repeat([1.0, 2.0], 20)
    (found,) = measure_dependence(labels, x / 4, {"x": x}, bins=5)
    assert found.edges == [1.0, 2.0]
    (wide,) = measure_dependence(labels, x / 4, {"x": x + np.arange(40)}, bins=2)
    assert wide.background[1] is None
    assert Dependence.from_dict(wide.to_dict()) == wide
    with pytest.raises(InputError, match="'x' must be one finite"):
        measure_dependence(labels, x / 4, {"x": x[:3]})
