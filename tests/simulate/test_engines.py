from __future__ import annotations

import subprocess
import sys

import awkward as ak
import numpy as np
import pytest

from pcloud.errors import MissingExtraError
from pcloud.simulate import simulate_jets
from pcloud.simulate.recipe import PROCESSES


@pytest.fixture(scope="module")
def generator(sim):
    from pcloud.simulate.engines import EventGenerator

    return EventGenerator(PROCESSES["top"], seed=11)


@pytest.fixture(scope="module")
def events(generator):
    return generator.events(60)


def test_events_conserve_momentum_and_charge(events):
    count, particles, _ = events
    assert set(particles.event) == set(range(count))
    for component, expected in enumerate((14_000, 0, 0, 0)):
        total = np.bincount(particles.event, particles.p4[:, component])
        np.testing.assert_allclose(total, expected, atol=0.5)
    np.testing.assert_allclose(np.bincount(particles.event, particles.charge), 2)


def test_the_quarks_of_a_top_add_up_to_it(events):
    count, _, decays = events
    assert decays.shape == (count, 2, 4, 4)
    top, bottom, first, second = np.moveaxis(decays, 2, 0)
    rest = np.abs(bottom + first + second - top).max(axis=-1) / top[..., 0]
    assert np.median(rest) < 0.02  # the W takes the recoil of radiation off the bottom
    assert rest.max() < 0.5

    def mass(p4):
        return np.sqrt(p4[..., 0] ** 2 - (p4[..., 1:] ** 2).sum(axis=-1))

    assert np.median(mass(top)) == pytest.approx(172.5, abs=2)
    assert np.median(mass(first + second)) == pytest.approx(80.4, abs=1)


def test_decays_are_those_of_a_walk_through_the_event_record(generator):
    record = generator.pythia.nextBatch(1)
    event = generator.pythia.event
    tops = [i for i in range(event.size()) if event[i].idAbs() == 6 and event[i].status() == -62]
    walked = []
    for top in tops:
        daughters = [event[top].daughter1(), event[top].daughter2()]
        w = next(i for i in daughters if event[i].idAbs() == 24)
        quark = next(i for i in daughters if event[i].idAbs() != 24)
        w = event[w].iBotCopyId()
        rows = [top, quark, event[w].daughter1(), event[w].daughter2()]
        assert all(1 <= event[i].idAbs() <= 5 for i in rows[1:])
        walked.append(rows)
    from pcloud.simulate.engines import _top_decays

    particle = record.prt[0]
    pid = np.asarray(particle.id)
    daughters = np.stack([np.asarray(particle.daughter1), np.asarray(particle.daughter2)], axis=1)
    assert _top_decays(np.array(tops), pid, daughters).tolist() == walked


def test_the_same_seed_makes_the_same_events(sim):
    from pcloud.simulate.engines import EventGenerator

    one, two, other = (EventGenerator(PROCESSES["qcd"], seed).events(5) for seed in (3, 3, 4))
    assert np.array_equal(one[1].p4, two[1].p4)
    assert not np.array_equal(one[1].p4, other[1].p4)
    assert one[2].shape == (5, 0, 4, 4)


def test_multi_parton_interactions_and_the_tune_reach_pythia(sim):
    from pcloud.simulate.engines import EventGenerator

    def size(**options):
        count, particles, _ = EventGenerator(PROCESSES["qcd"], 3, **options).events(15)
        return len(particles.event) / count

    assert size(mpi=True) > 1.5 * size()
    assert size(tune=21) != size()


def anti_kt(p4: np.ndarray, radius: float) -> list[tuple[np.ndarray, set[int]]]:
    """Cluster by brute force: the definition, in cubic time."""
    jets = []
    open_ = [(p, {i}) for i, p in enumerate(p4)]
    while open_:
        p = np.array([momentum for momentum, _ in open_])
        pt = np.hypot(p[:, 1], p[:, 2])
        rapidity = 0.5 * np.log((p[:, 0] + p[:, 3]) / (p[:, 0] - p[:, 3]))
        phi = np.arctan2(p[:, 2], p[:, 1])
        dphi = (phi[:, None] - phi + np.pi) % (2 * np.pi) - np.pi
        distance2 = (rapidity[:, None] - rapidity) ** 2 + dphi**2
        weight = np.minimum(pt[:, None] ** -2, pt**-2)
        pair = np.where(np.eye(len(p), dtype=bool), np.inf, weight * distance2 / radius**2)
        i, j = np.unravel_index(pair.argmin(), pair.shape)
        beam = int(np.argmax(pt))
        if len(open_) == 1 or pt[beam] ** -2 < pair[i, j]:
            jets.append(open_.pop(beam))
        else:
            merged = (open_[i][0] + open_[j][0], open_[i][1] | open_[j][1])
            open_ = [one for k, one in enumerate(open_) if k not in (i, j)] + [merged]
    return jets


def test_the_leading_jet_is_that_of_brute_force(sim):
    from pcloud.simulate.engines import leading_jets

    rng = np.random.default_rng(8)
    count = 12
    sizes = rng.integers(0, 60, count)
    sizes[3] = 0
    event = np.repeat(np.arange(count), sizes)
    pt, eta = rng.exponential(8.0, len(event)), rng.normal(0, 1.2, len(event))
    phi = rng.uniform(-np.pi, np.pi, len(event))
    p4 = np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], 1)
    which, counts, index = leading_jets(event, p4, count, radius=0.8, pt_min=40.0)
    found = dict(zip(which, np.split(index, np.cumsum(counts)[:-1]), strict=True))
    for number in range(count):
        rows = np.flatnonzero(event == number)
        jets = anti_kt(p4[rows], 0.8)
        best = max(jets, key=lambda jet: np.hypot(*jet[0][1:3]), default=(np.zeros(4), set()))
        if np.hypot(*best[0][1:3]) > 40:
            assert set(found[number]) == {rows[i] for i in best[1]}
        else:
            assert number not in found
    assert 3 < len(found) < count


def test_no_library_prints_on_the_screen(sim):
    code = (
        "from pcloud.simulate.block import Settings, make_block\n"
        "make_block('qcd', 0, Settings(block_size=1))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_an_absent_extra_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "pythia8mc", None)
    monkeypatch.delitem(sys.modules, "pcloud.simulate.engines", raising=False)
    with pytest.raises(MissingExtraError, match=r"fastjet: pip install 'pcloud-hep\[sim\]'"):
        simulate_jets(10)


def test_the_jet_before_the_detector_is_the_nearest_of_its_event(sim):
    from pcloud.simulate.detector import Particles
    from pcloud.simulate.engines import particle_level_jets

    p4 = np.array(
        [
            [500.0, 500.0, 0.0, 0.0],
            [300.0, 0.0, 300.0, 0.0],  # a jet at a right angle
            [200.0, 200.0, 0.0, 0.0],  # of the other event
            [400.0, 0.0, 400.0, 0.0],
            [900.0, 900.0, 0.0, 0.0],  # a neutrino
        ]
    )
    pid = np.array([211, 211, 211, 211, 12])
    particles = Particles(np.array([0, 0, 2, 2, 2]), pid, np.ones(5), p4)
    axis = np.array([[600.0, 0.0, 600.0, 0.0], [600.0, 600.0, 10.0, 0.0]])
    found = particle_level_jets(particles, np.array([0, 2]), axis)
    np.testing.assert_allclose(found, [[300.0, 0.0], [200.0, 0.0]], atol=1e-3)
    far = np.array([[600.0, 0.0, -600.0, 0.0]])
    assert np.isnan(particle_level_jets(particles, np.array([0]), far)).all()


def test_w_bosons_decay_to_two_quarks_inside_their_jet(sim):
    from pcloud.simulate.block import Settings, make_block
    from pcloud.simulate.engines import EventGenerator
    from pcloud.simulate.recipe import contained

    count, _, decays = EventGenerator(PROCESSES["w"], 5).events(10)
    assert decays.shape == (count, 2, 3, 4)
    boson, first, second = np.moveaxis(decays, 2, 0)
    np.testing.assert_allclose(first + second, boson, rtol=1e-6, atol=1e-6)
    mass = np.sqrt(boson[..., 0] ** 2 - (boson[..., 1:] ** 2).sum(-1))
    assert abs(np.median(mass) - 80.4) < 2
    jets = make_block("w", 0, Settings(block_size=12)).to_awkward(("qcd", "w"))
    assert set(jets.label) == {1}
    names = ("E", "px", "py", "pz")
    truth = np.stack([ak.to_numpy(jets[f"truth_{name}"]) for name in names], axis=1)
    axis = np.stack([ak.to_numpy(ak.sum(jets.p4[name], axis=1)) for name in names], axis=1)
    assert contained(axis, truth[:, None, None]).all()
    pt = np.hypot(axis[:, 1], axis[:, 2])
    assert pt.min() > 549
    assert pt.max() < 651
