from __future__ import annotations

import numpy as np
import vector

from pcloud.simulate.recipe import contained, in_window


def momenta(rng: np.random.Generator, *shape: int) -> vector.MomentumNumpy4D:
    return vector.array(
        {
            "pt": rng.uniform(10, 700, shape),
            "eta": rng.uniform(-2.2, 2.2, shape),
            "phi": rng.uniform(-np.pi, np.pi, shape),
            "mass": np.full(shape, 1.0),
        }
    )


def as_array(p4: vector.MomentumNumpy4D) -> np.ndarray:
    return np.stack([p4.E, p4.px, p4.py, p4.pz], axis=-1)


def test_containment_is_that_of_vector():
    rng = np.random.default_rng(0)
    axis, decay = momenta(rng, 500), momenta(rng, 500, 2, 4)
    close = vector.array(
        {
            "pt": decay.pt,
            "eta": axis.eta[:, None, None] + rng.uniform(-0.7, 0.7, decay.shape),
            "phi": axis.phi[:, None, None] + rng.uniform(-0.7, 0.7, decay.shape),
            "mass": decay.mass,
        }
    )
    for some in (decay, close):
        expected = (axis[:, None, None].deltaR(some) < 0.8).all(axis=-1)
        assert (contained(as_array(axis), as_array(some)) == expected).all()
    assert 0 < expected.mean() < 1


def test_the_window_is_that_of_vector():
    axis = momenta(np.random.default_rng(1), 2000)
    expected = (axis.pt > 550) & (axis.pt < 650) & (np.abs(axis.eta) < 2)
    assert (in_window(as_array(axis)) == expected).all()
    assert 0 < expected.sum() < 2000
