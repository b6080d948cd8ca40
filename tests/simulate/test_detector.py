from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pcloud.errors import InputError
from pcloud.simulate import DETECTORS, Calorimeter, Detector, Resolution, TrackRegion
from pcloud.simulate.detector import Particles, energy_flow

PION, KAON0, PHOTON, ELECTRON, MUON, NEUTRINO = 211, 130, 22, 11, 13, 12
CHARGE = {PION: 1, KAON0: 0, PHOTON: 0, ELECTRON: -1, MUON: -1, NEUTRINO: 0}

EXACT = Resolution(4.9, constant=0.0, stochastic=0.0)
PERFECT = Detector(
    field=0.0,
    track_pt_min=0.0,
    tracks=(TrackRegion(2.5, 1.0, 1.0, 0.0, 0.0),),
    photon_cells=Calorimeter(0.025, (EXACT,), energy_min=1e-6, significance_min=0.0),
    hadron_cells=Calorimeter(0.1, (EXACT,), energy_min=1e-6, significance_min=0.0),
)


def particles(pid, pt, eta, phi, event=None) -> Particles:
    pid, pt, eta, phi = np.broadcast_arrays(np.atleast_1d(pid), pt, eta, phi)
    p4 = np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], 1)
    charge = np.array([CHARGE[int(code)] for code in pid])
    event = np.zeros(len(pid), dtype=int) if event is None else np.asarray(event)
    return Particles(event, pid, charge, p4)


def spray(count: int, rng: np.random.Generator, pids=(PION, KAON0, PHOTON, ELECTRON)) -> Particles:
    """A jet-like mix of particles in ten events."""
    return particles(
        rng.choice(pids, count),
        0.5 + rng.exponential(5.0, count),
        rng.normal(0.5, 0.3, count),
        rng.normal(3.0, 0.3, count),
        np.sort(rng.integers(10, size=count)),
    )


def flow(some: Particles, detector: Detector, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return energy_flow(some, detector, np.random.default_rng(seed))


def without_tracks(detector: Detector) -> Detector:
    return replace(detector, tracks=(TrackRegion(2.5, 0.0, 0.0, 0.0, 0.0),))


def eta_phi(p4: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pt = np.hypot(p4[:, 1], p4[:, 2])
    return np.arcsinh(p4[:, 3] / pt), np.arctan2(p4[:, 2], p4[:, 1])


@pytest.mark.parametrize("field", [0.0, 2.0])
@pytest.mark.parametrize("tracking", [True, False])
def test_a_perfect_detector_counts_all_energy_once(field, tracking):
    some = spray(3000, np.random.default_rng(1))
    detector = replace(PERFECT, field=field)
    event, p4 = flow(some, detector if tracking else without_tracks(detector))
    seen = np.bincount(event, p4[:, 0], minlength=10)
    true = np.bincount(some.event, some.p4[:, 0], minlength=10)
    np.testing.assert_allclose(seen, true, rtol=1e-5)


def test_half_of_the_tracks_lost_are_found_in_the_cells():
    some = spray(3000, np.random.default_rng(2))
    detector = replace(PERFECT, tracks=(TrackRegion(2.5, 0.5, 0.5, 0.0, 0.0),))
    event, p4 = flow(some, detector)
    seen = np.bincount(event, p4[:, 0], minlength=10)
    np.testing.assert_allclose(
        seen, np.bincount(some.event, some.p4[:, 0], minlength=10), rtol=1e-5
    )


def test_the_default_detector_keeps_the_energy_scale_of_hard_jets():
    rng = np.random.default_rng(3)
    some = particles(
        rng.choice((PION, PION, PHOTON, KAON0), 20_000),
        rng.exponential(15.0, 20_000) + 1.0,
        rng.normal(0.0, 0.3, 20_000),
        rng.normal(0.0, 0.3, 20_000),
        np.sort(rng.integers(500, size=20_000)),
    )
    event, p4 = flow(some, Detector())
    response = np.bincount(event, p4[:, 0]) / np.bincount(some.event, some.p4[:, 0])
    assert 0.95 < response.mean() < 1.05
    assert 0.02 < response.std() < 0.15


def test_constituents_are_massless_and_sorted_by_event():
    event, p4 = flow(spray(2000, np.random.default_rng(4)), Detector())
    assert (np.diff(event) >= 0).all()
    assert set(event) == set(range(10))
    mass2 = p4[:, 0] ** 2 - (p4[:, 1:] ** 2).sum(axis=1)
    np.testing.assert_allclose(mass2 / p4[:, 0] ** 2, 0, atol=1e-12)


def test_photons_in_one_cell_are_one_constituent():
    one = particles([PHOTON, PHOTON], [10.0, 5.0], [0.110, 0.115], [0.51, 0.515])
    event, p4 = flow(one, PERFECT)
    assert len(event) == 1
    assert p4[0, 0] == pytest.approx(one.p4[:, 0].sum())
    two = particles([PHOTON, PHOTON], [10.0, 5.0], [0.11, 0.15], [0.51, 0.51])
    assert len(flow(two, PERFECT)[0]) == 2


def test_a_photon_and_a_neutral_hadron_at_one_place_are_two_constituents():
    both = particles([PHOTON, KAON0], [10.0, 5.0], 0.11, 0.51)
    assert len(flow(both, PERFECT)[0]) == 2


@pytest.mark.parametrize(("pid", "side"), [(PHOTON, 0.025), (KAON0, 0.1)])
def test_a_constituent_of_a_cell_lies_in_that_cell(pid, side):
    count = 4000
    rng = np.random.default_rng(5)
    eta, phi = rng.uniform(-2, 2, count), rng.uniform(-np.pi, np.pi, count)
    some = particles(pid, 20.0, eta, phi, np.arange(count))
    event, p4 = flow(some, PERFECT)
    assert (event == np.arange(count)).all()
    seen_eta, seen_phi = eta_phi(p4)
    deta = seen_eta - eta
    dphi = (seen_phi - phi + np.pi) % (2 * np.pi) - np.pi
    for distance in (deta, dphi):
        assert np.abs(distance).max() < 1.01 * side
        assert distance.std() == pytest.approx(side / np.sqrt(6), rel=0.05)  # triangular


def test_neutrinos_leave_nothing_and_muons_only_a_track():
    assert len(flow(particles(NEUTRINO, 50.0, 0.0, 0.0), PERFECT)[0]) == 0
    muon = particles(MUON, 50.0, 0.0, 0.0)
    assert len(flow(muon, PERFECT)[0]) == 1
    assert len(flow(muon, without_tracks(PERFECT))[0]) == 0


def test_nothing_is_seen_beyond_the_calorimeters():
    far = particles([PION, PHOTON, KAON0], 5.0, [5.5, -5.5, 5.0], 0.0)
    assert len(flow(far, PERFECT)[0]) == 0


def test_tracks_bend_as_in_a_field():
    """Against small steps along the trajectory."""
    pt, eta, phi, field, radius = 0.8, 0.4, 1.0, 2.0, 1.15
    position, angle = np.zeros(3), phi
    step = 1e-5
    while np.hypot(*position[:2]) < radius:
        position += step * np.array([np.cos(angle), np.sin(angle), np.sinh(eta)])
        angle -= step * 0.3 * field / pt  # of a positive charge
    hit_eta = np.arcsinh(position[2] / np.hypot(*position[:2]))
    hit_phi = np.arctan2(position[1], position[0])
    detector = without_tracks(replace(PERFECT, field=field, radius=radius))
    fine = replace(detector, hadron_cells=replace(detector.hadron_cells, cell=0.002))
    _, p4 = flow(particles(PION, pt, eta, phi), fine)
    seen_eta, seen_phi = eta_phi(p4)
    assert seen_eta[0] == pytest.approx(hit_eta, abs=0.002)
    assert seen_phi[0] == pytest.approx(hit_phi, abs=0.002)
    assert abs(hit_phi - phi) > 0.3  # it did bend


def test_charged_particles_that_curl_up_never_reach_the_cells():
    soft = particles(PION, 0.3, 0.0, 0.0)  # turns within 0.3 * 2 T * 1.15 m / 2 = 0.345 GeV
    assert len(flow(soft, without_tracks(replace(PERFECT, field=2.0)))[0]) == 0
    assert len(flow(soft, replace(PERFECT, field=2.0))[0]) == 1


@pytest.mark.parametrize(
    ("pt", "eta", "efficiency"), [(0.5, 0.0, 0.7), (5.0, 1.0, 0.95), (5.0, -2.0, 0.85), (5, 2.6, 0)]
)
def test_tracks_are_found_with_the_efficiency_of_the_card(pt, eta, efficiency):
    count = 20_000
    muons = particles(MUON, np.full(count, float(pt)), eta, 0.0, np.arange(count))
    event, _ = flow(muons, Detector())
    error = np.sqrt(efficiency * (1 - efficiency) / count)
    assert len(event) / count == pytest.approx(efficiency, abs=4 * error + 1e-12)


def test_tracks_are_smeared_by_the_resolution_of_the_card():
    count = 20_000
    _, p4 = flow(particles(MUON, np.full(count, 100.0), 0.2, 0.0, np.arange(count)), Detector())
    pt = np.hypot(p4[:, 1], p4[:, 2])
    sigma = np.hypot(0.06, 0.13)
    assert pt.mean() == pytest.approx(100.0, abs=5 * sigma * 100 / np.sqrt(len(pt)))
    assert pt.std() == pytest.approx(100 * sigma, rel=0.03)
    eta, phi = eta_phi(p4)
    np.testing.assert_allclose(eta, 0.2)
    np.testing.assert_allclose(phi, 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("pid", "sigma"),
    [
        (PHOTON, np.sqrt((0.0017 * 100) ** 2 + 0.101**2 * 100)),
        (KAON0, np.sqrt((0.0302 * 100) ** 2 + 0.5205**2 * 100 + 1.59**2)),
    ],
)
def test_cells_are_smeared_by_the_resolution_of_the_card(pid, sigma):
    count = 20_000
    _, p4 = flow(particles(pid, np.full(count, 100.0), 0.0, 0.0, np.arange(count)), Detector())
    assert p4[:, 0].mean() == pytest.approx(100.0, abs=5 * sigma / np.sqrt(count))
    assert p4[:, 0].std() == pytest.approx(sigma, rel=0.03)


def test_cells_below_threshold_are_not_seen():
    detector = replace(
        PERFECT, photon_cells=replace(PERFECT.photon_cells, energy_min=0.5, significance_min=0.0)
    )
    assert len(flow(particles(PHOTON, 0.49, 0.0, 0.0), detector)[0]) == 0
    assert len(flow(particles(PHOTON, 0.51, 0.0, 0.0), detector)[0]) == 1


def test_events_do_not_see_each_other():
    rng = np.random.default_rng(6)
    some = spray(400, rng)
    _, together = flow(some, without_tracks(PERFECT))
    apart = [flow(some[some.event == e], without_tracks(PERFECT))[1] for e in range(10)]
    np.testing.assert_allclose(together[:, 0], np.concatenate(apart)[:, 0])


def test_coarse_cells_merge_what_fine_cells_tell_apart():
    rng = np.random.default_rng(7)
    some = spray(3000, rng, pids=(PHOTON, KAON0))
    number = {name: len(flow(some, detector)[0]) for name, detector in DETECTORS.items()}
    assert number["coarse"] < 0.8 * number["fine"]
    assert DETECTORS["fine"] == Detector()


def test_numbers_that_make_no_detector_are_refused():
    with pytest.raises(InputError, match="field must not be negative, got -1"):
        Detector(field=-1)
    with pytest.raises(InputError, match=r"efficiency must be in \[0, 1\], got 1.2"):
        Detector(tracks=(TrackRegion(2.5, 0.5, 1.2, 0, 0),))
    with pytest.raises(InputError, match="photon_cells: cell must be between"):
        Detector(photon_cells=replace(Detector().photon_cells, cell=0.0))
