from __future__ import annotations

import numpy as np
import pytest
import vector

from pcloud.io.momentum import four_momenta

RNG = np.random.default_rng(3)
N = 500
MASS = RNG.uniform(0, 5, N)
P4 = vector.array(
    {
        "pt": RNG.uniform(0.1, 900, N),
        "eta": RNG.normal(0, 2, N),
        "phi": RNG.uniform(-4, 4, N),
        "mass": MASS,
    }
)
MASSLESS = vector.array({"pt": P4.pt, "eta": P4.eta, "phi": P4.phi, "mass": 0 * MASS})


def components(p4):
    return [p4.E, p4.px, p4.py, p4.pz]


def quantity(p4, name):
    """vector takes the rapidity from E - pz, which has lost its digits at large rapidities."""
    if name == "rapidity":
        return np.arcsinh(p4.pz / np.hypot(p4.pt, p4.mass))
    return np.asarray(getattr(p4, name))


@pytest.mark.parametrize(
    "names",
    [
        ("E", "px", "py", "pz"),
        ("px", "py", "pz", "mass"),
        ("pt", "eta", "phi", "mass"),
        ("pt", "eta", "phi", "E"),
        ("pt", "rapidity", "phi", "mass"),
        ("pt", "rapidity", "phi", "E"),
    ],
)
def test_all_quantities_give_the_momenta_of_vector(names):
    found = four_momenta({name: quantity(P4, name) for name in names}, 1.0)
    for ours, theirs in zip(found, components(P4), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize(
    "direction", [("px", "py", "pz"), ("pt", "eta", "phi"), ("pt", "rapidity", "phi")]
)
def test_without_energy_or_mass_particles_are_massless(direction):
    columns = {name: quantity(MASSLESS, name) for name in direction}
    for ours, theirs in zip(four_momenta(columns, 1.0), components(MASSLESS), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-10)


def test_float32_is_rounded_once_after_computing_in_float64():
    names = ("pt", "eta", "phi", "mass")
    single = {name: np.asarray(getattr(P4, name), dtype=np.float32) for name in names}
    double = {name: values.astype(np.float64) for name, values in single.items()}
    for ours, exact in zip(four_momenta(single, 1.0), four_momenta(double, 1.0), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, exact.astype(np.float32))


def test_stored_momenta_in_gev_are_not_copied():
    columns = {name: np.asarray(getattr(P4, name)) for name in ("E", "px", "py", "pz")}
    for ours, stored in zip(four_momenta(columns, 1.0), columns.values(), strict=True):
        assert ours is stored


def test_units_are_converted():
    columns = {name: 1000 * np.asarray(getattr(P4, name)) for name in ("E", "px", "py", "pz")}
    for ours, theirs in zip(four_momenta(columns, 1e-3), components(P4), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)
    polar = {"pt": 1000 * P4.pt, "eta": P4.eta, "phi": P4.phi, "mass": 1000 * P4.mass}
    np.testing.assert_allclose(four_momenta(polar, 1e-3)[0], P4.E, rtol=1e-12)


def test_negative_masses_are_spacelike_as_in_root():
    energy, *_ = four_momenta(
        {n: np.array([v]) for n, v in {"px": 3.0, "py": 0.0, "pz": 4.0, "mass": -3.0}.items()}, 1.0
    )
    assert energy[0] == 4.0


def test_integers_and_half_precision_become_float32():
    columns = {name: np.array([3, 4]) for name in ("px", "py", "pz")}
    assert four_momenta(columns, 1.0)[0].dtype == np.float32
    half = {name: np.array([3, 4], dtype=np.float16) for name in ("px", "py", "pz")}
    assert four_momenta(half, 1.0)[0].dtype == np.float32
