from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import distance

from pcloud.errors import InputError
from pcloud.evaluation.sculpting import Sculpting, measure_sculpting


def sample(number: int = 6000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, a score that knows nothing of the mass, and the mass in GeV."""
    generator = np.random.default_rng(seed)
    labels = np.repeat([0, 1], number // 2)
    mass = np.where(labels, generator.normal(173, 15, number), generator.exponential(60, number))
    return labels, generator.normal(labels), mass


def test_the_distance_is_that_of_the_histograms():
    for found in measure_sculpting(*sample()):
        expected = distance.jensenshannon(found.before, found.after, base=2)
        assert found.distance.value == pytest.approx(expected)
    labels = np.repeat([0, 0, 1], 50)
    mass = np.repeat([10.0, 90.0, 90.0], 50)
    (disjoint,) = measure_sculpting(labels, mass, mass, efficiencies=[0.5])
    assert disjoint.distance.value == pytest.approx(0.558, abs=0.001)  # half of the jets are left
    (equal,) = measure_sculpting(labels, np.ones(150), mass, efficiencies=[0.5])
    assert equal.distance.value == 0


def test_a_score_without_mass_is_at_the_noise_level():
    pulls = []
    for seed in range(30):
        (found,) = measure_sculpting(*sample(2000, seed), efficiencies=[0.5], num_resamplings=50)
        pulls.append((found.distance.value - found.noise.value) / found.noise.error)
    assert abs(np.mean(pulls)) < 0.6
    assert np.std(pulls) == pytest.approx(1, abs=0.35)


def test_a_score_of_the_mass_is_far_above_it():
    labels, scores, mass = sample()
    found = measure_sculpting(labels, scores - np.abs(mass - 173) / 20, mass)
    for cut in found:
        assert cut.distance.value > cut.noise.value + 3 * cut.noise.error
    assert found[0].distance.value > found[-1].distance.value  # the tighter the cut
    assert sum(found[0].before) == 3000
    assert sum(found[0].after) == found[0].jets
    assert sum(found[0].signal) == 3000
    assert Sculpting.from_dict(found[0].to_dict()) == found[0]


def test_no_background_left_is_not_a_number():
    labels = np.repeat([0, 1], 50)
    (found,) = measure_sculpting(labels, labels * 1.0, np.arange(100.0), efficiencies=[0.5])
    assert found.jets == 0
    assert np.isnan(found.distance.value)


def test_masses_of_another_length_are_refused():
    labels, scores, mass = sample(100)
    with pytest.raises(InputError, match="one finite number per jet"):
        measure_sculpting(labels, scores, mass[1:])
