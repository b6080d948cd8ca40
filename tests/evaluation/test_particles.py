from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from pcloud.errors import InputError
from pcloud.evaluation.figures.vertices import vertex_number_figure
from pcloud.evaluation.particles import (
    PredictedParticles,
    PredictedVertices,
    evaluate_particles,
)


def particles(number: int = 300, seed: int = 0, spread: float = 1.0) -> PredictedParticles:
    """Particles whose scores of one jet share a fluctuation."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 12, number)
    jet = np.repeat(np.arange(number), counts)
    labels = rng.integers(-1, 3, len(jet))
    logits = rng.normal(0, 1, (len(jet), 3)) + spread * rng.normal(0, 1, (number, 3))[jet]
    logits[np.arange(len(jet)), labels] += 1.5
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return PredictedParticles("origin", ("a", "b", "c"), p, counts, labels)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_accuracy_and_areas_are_those_of_scikit_learn(is_weighted):
    sample = particles()
    weights = np.random.default_rng(1).exponential(size=300) if is_weighted else None
    found = evaluate_particles(sample, weights, num_bootstrap=0)
    known = sample.labels >= 0
    labels, p = sample.labels[known], sample.probabilities[known]
    w = None if weights is None else weights[sample.jet[known]]
    expected = accuracy_score(labels, p.argmax(axis=1), sample_weight=w)
    assert found["accuracy"].value == pytest.approx(expected, abs=1e-12)
    for i, name in enumerate(sample.classes):
        area = roc_auc_score(labels == i, p[:, i], sample_weight=w)
        assert found[f"class_auc@{name}"].value == pytest.approx(area, abs=1e-9)


def test_errors_are_those_of_resampled_jets():
    found = evaluate_particles(particles(), num_bootstrap=300)
    for entry in found.values():
        assert entry.bootstrap == pytest.approx(entry.error, rel=0.15)


def test_particles_of_a_jet_are_not_counted_as_independent():
    spread = [evaluate_particles(particles(seed=i, spread=2.0), num_bootstrap=0) for i in range(60)]
    values = [found["class_auc@a"].value for found in spread]
    error = np.mean([found["class_auc@a"].error for found in spread])
    assert np.std(values, ddof=1) == pytest.approx(error, rel=0.3)
    sample = particles(spread=2.0)
    number = (sample.labels >= 0).sum()
    accuracy = spread[0]["accuracy"]
    independent = np.sqrt(accuracy.value * (1 - accuracy.value) / number)
    assert accuracy.error > 1.1 * independent


def test_efficiency_and_purity_count_vertices():
    counts = np.array([4, 4, 3])
    true = np.array([0, 0, 1, 1, 0, 0, -2, -2, 5, 5, 5])
    predicted = np.array([0, 0, -1, -1, 0, 0, 0, 0, 0, 0, -1])
    known = np.ones(11, dtype=bool)
    sample = PredictedVertices("vertex", predicted, counts, true, known)
    found = evaluate_particles(sample, num_bootstrap=0)
    assert found["efficiency"].value == pytest.approx(2 / 4)  # not 1, nor that of jet 1
    assert found["purity"].value == pytest.approx(2 / 3)
    weighted = evaluate_particles(sample, np.array([1.0, 2.0, 1.0]), num_bootstrap=0)
    assert weighted["efficiency"].value == pytest.approx(2 / 5)


def test_labels_that_no_particle_has_are_an_error():
    sample = particles()
    sample.labels[:] = -1
    with pytest.raises(InputError, match="'origin' is missing for all"):
        evaluate_particles(sample)


def test_numbers_of_vertices_are_drawn():
    counts = np.array([4, 0, 2])
    true = np.array([0, 0, 1, 1, -1, -1])
    sample = PredictedVertices("vertex", np.array([0] * 6), counts, true, np.ones(6, dtype=bool))
    (axes,) = vertex_number_figure(sample).axes
    heights = [bars[0].get_ydata().tolist() for bars in axes.containers]
    assert heights == [[2, 0, 1], [1, 2, 0], [3, 0, 0]]  # true, predicted, matched
