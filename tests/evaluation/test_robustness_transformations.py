from __future__ import annotations

from dataclasses import replace

import awkward as ak
import numpy as np
import pytest

import pcloud
from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.robustness_transformations import TRANSFORMATIONS, prepare, transform
from pcloud.io.jets import JET_MOMENTUM, FlatJets
from pcloud.observables import jet_observables
from tests.collection_jets import jets_with_collections


@pytest.fixture(scope="module")
def jets() -> FlatJets:
    """In double precision, with an extra column that numbers the particles."""
    flat = FlatJets.from_awkward(pcloud.load_dataset("simulated", "test")[:300])
    flat.p4 = tuple(component.astype(np.float64) for component in flat.p4)
    flat.particle = {"number": np.arange(flat.offsets[-1]), "deta": np.zeros(flat.offsets[-1])}
    return prepare(flat)


def total(jets: FlatJets) -> np.ndarray:
    return np.stack([np.add.reduceat(component, jets.offsets[:-1]) for component in jets.p4], 1)


def directions(jets: FlatJets) -> tuple[np.ndarray, np.ndarray]:
    _, px, py, pz = jets.p4
    return np.arcsinh(pz / np.hypot(px, py)), np.arctan2(py, px)


@pytest.mark.parametrize("name", sorted(TRANSFORMATIONS))
def test_strength_zero_changes_nothing(jets, name):
    same = transform(jets, name, 0.0)
    np.testing.assert_array_equal(same.offsets, jets.offsets)
    np.testing.assert_allclose(np.stack(same.p4), np.stack(jets.p4), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(same.particle["number"], jets.particle["number"])


@pytest.mark.parametrize("name", sorted(TRANSFORMATIONS))
def test_a_seed_decides_and_the_jets_given_stay(jets, name):
    before = [component.copy() for component in jets.p4]
    strength = TRANSFORMATIONS[name].strengths[-1]
    first, again = (transform(jets, name, strength, seed=3) for _ in range(2))
    np.testing.assert_array_equal(np.stack(first.p4), np.stack(again.p4))
    np.testing.assert_array_equal(np.stack(before), np.stack(jets.p4))
    assert len(first) == len(jets)
    assert (first.counts > 0).all()
    pt = np.hypot(first.p4[1], first.p4[2])
    inside = np.diff(np.repeat(np.arange(len(first)), first.counts)) == 0
    assert (np.diff(pt)[inside] <= 0).all()


def test_stored_angles_are_left_out():
    flat = FlatJets(np.array([0, 1]), (np.ones(1),) * 4, {"deta": np.ones(1), "d0": np.ones(1)})
    assert list(prepare(flat).particle) == ["d0"]


def test_energy_scale_scales_the_jet(jets):
    np.testing.assert_allclose(total(transform(jets, "energy_scale", 0.05)), 1.05 * total(jets))


def test_energy_resolution_has_mean_one_and_the_width_asked_for(jets):
    factor = []
    for seed in range(20):
        smeared = transform(jets, "energy_resolution", 0.2, seed)
        order = np.argsort(smeared.particle["number"])
        factor.append(smeared.p4[0][order] / jets.p4[0][np.argsort(jets.particle["number"])])
    assert np.mean(factor) == pytest.approx(1, abs=0.002)
    assert np.std(factor) == pytest.approx(0.2, abs=0.003)


def test_particle_loss_loses_its_share_but_never_the_hardest(jets):
    thinned = transform(jets, "particle_loss", 0.2)
    rest = jets.counts.sum() - len(jets)
    lost = jets.counts.sum() - thinned.counts.sum()
    assert lost / rest == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / rest))
    hardest = jets.particle["number"][jets.offsets[:-1]]
    assert np.isin(hardest, thinned.particle["number"]).all()
    alone = transform(jets, "particle_loss", 1.0)
    assert (alone.counts == 1).all()


def test_soft_particles_are_soft_massless_and_in_the_disc(jets):
    crowded = transform(jets, "soft_particles", 10.0)
    added = crowded.counts - jets.counts
    assert added.mean() == pytest.approx(10, abs=4 * np.sqrt(10 / len(jets)))
    assert added.var() == pytest.approx(10, rel=0.4)  # Poisson
    e, px, py, pz = crowded.p4
    new = ~np.isin(np.stack(crowded.p4, 1), np.stack(jets.p4, 1)).any(axis=1)
    assert new.sum() == added.sum()
    np.testing.assert_allclose((e**2 - px**2 - py**2 - pz**2)[new], 0, atol=1e-6)
    assert np.hypot(px, py)[new].mean() == pytest.approx(1, abs=0.1)
    axis = total(jets)
    jet = np.repeat(np.arange(len(jets)), crowded.counts)
    eta, phi = directions(crowded)
    jet_eta = np.arcsinh(axis[:, 3] / np.hypot(axis[:, 1], axis[:, 2]))[jet]
    angle = np.remainder(phi - np.arctan2(axis[:, 2], axis[:, 1])[jet] + np.pi, 2 * np.pi) - np.pi
    distance = np.hypot(eta - jet_eta, angle)[new]
    assert distance.max() <= 0.8 + 1e-9
    assert (distance**2).mean() == pytest.approx(0.32, abs=0.02)  # uniform in area


def test_soft_emissions_have_the_share_of_the_jet_asked_for(jets):
    soft = transform(jets, "soft_emission", 1e-3)
    np.testing.assert_array_equal(soft.counts, jets.counts + 5)
    new = ~np.isin(soft.p4[0], jets.p4[0])
    jet_pt = np.repeat(np.hypot(*total(jets)[:, 1:3].T), 5)
    np.testing.assert_allclose(
        np.sort(np.hypot(soft.p4[1], soft.p4[2])[new]), np.sort(1e-3 * jet_pt)
    )


def test_collinear_splitting_keeps_every_collinear_safe_quantity(jets):
    split = transform(jets, "collinear_splitting", 1.0)
    np.testing.assert_array_equal(split.counts, 2 * jets.counts)
    np.testing.assert_allclose(total(split), total(jets), rtol=1e-12)
    before, after = jet_observables(jets), jet_observables(split)
    for name in ("pt", "eta", "mass", "girth"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-6)
    assert (after["ptd"] < before["ptd"]).all()
    original = np.stack(jets.p4, 1)[np.argsort(jets.particle["number"])]
    parts = np.stack(split.p4, 1)
    whole = original[split.particle["number"]]
    np.testing.assert_allclose(parts / parts[:, :1], whole / whole[:, :1], rtol=1e-9, atol=1e-12)


def test_angular_smearing_moves_directions_alone(jets):
    smeared = transform(jets, "angular_smearing", 0.05)
    order, back = (np.argsort(j.particle["number"]) for j in (jets, smeared))
    pt = [np.hypot(j.p4[1], j.p4[2])[o] for j, o in ((jets, order), (smeared, back))]
    np.testing.assert_allclose(pt[1], pt[0])
    for i in range(2):
        shift = directions(smeared)[i][back] - directions(jets)[i][order]
        shift = np.remainder(shift + np.pi, 2 * np.pi) - np.pi
        assert shift.std() == pytest.approx(0.05, rel=0.05)
        assert shift.mean() == pytest.approx(0, abs=0.002)


def test_rotation_and_boost_move_the_jet_as_a_whole(jets):
    before = jet_observables(jets)
    turned, boosted = (jet_observables(transform(jets, n, 0.5)) for n in ("rotation", "boost"))
    for name in before:
        shift = 0.5 * (name == "eta")
        np.testing.assert_allclose(turned[name], before[name], rtol=1e-6)
        if name in ("pt", "mass", "multiplicity"):
            np.testing.assert_allclose(boosted[name], before[name] + shift, rtol=1e-6)
    assert (boosted["eta"] > before["eta"]).all()


def test_unknown_names_and_impossible_strengths_are_refused(jets):
    with pytest.raises(UnknownNameError, match="energy_scale"):
        transform(jets, "energy_scales", 0.1)
    with pytest.raises(InputError, match="probability"):
        transform(jets, "particle_loss", 1.5)
    with pytest.raises(InputError, match="relative shift"):
        transform(jets, "energy_scale", -1.0)


def test_empty_jets_survive_all_transformations():
    empty = FlatJets(np.array([0, 0, 1]), tuple(np.array([v]) for v in (5.0, 3.0, 0.0, 4.0)))
    for name, transformation in TRANSFORMATIONS.items():
        changed = transform(empty, name, transformation.strengths[0])
        assert len(changed) == 2, name
        assert np.isfinite(np.stack(changed.p4)).all()


@pytest.mark.parametrize("name", sorted(TRANSFORMATIONS))
def test_the_stored_momentum_of_a_jet_follows_its_particles(jets, name):
    """Where it is the sum of the particles, it stays so; twice that, it turns and boosts alike."""
    strength = TRANSFORMATIONS[name].strengths[-1]
    for factor in (1, 2):
        stored = dict(zip(JET_MOMENTUM, factor * total(jets).T, strict=True))
        after = transform(replace(jets, jet=stored), name, strength, seed=3)
        own = np.stack([after.jet[column] for column in JET_MOMENTUM], 1)
        if name in ("rotation", "boost"):
            expected = factor * total(after)
        else:
            expected = (factor - 1) * total(jets) + total(after)
        np.testing.assert_allclose(own, expected, rtol=1e-9, atol=1e-6)


def test_rotations_and_boosts_move_every_collection(tmp_path):
    jets = jets_with_collections(tmp_path / "a.parquet", 20)
    flat = FlatJets.from_awkward(jets)
    turned = transform(flat, "rotation", 0.5).to_awkward()
    boosted = transform(flat, "boost", 0.5).to_awkward()
    for before, changed in ((jets.sv.p4, turned.sv.p4), (jets.lost, turned.lost)):
        difference = ak.to_numpy(ak.flatten(changed.phi - before.phi))
        np.testing.assert_allclose((difference + np.pi) % (2 * np.pi) - np.pi, 0.5, atol=1e-5)
    along = boosted.sv.p4.rapidity - jets.sv.p4.rapidity
    np.testing.assert_allclose(ak.flatten(along), 0.5, atol=1e-4)
    np.testing.assert_allclose(ak.flatten(boosted.lost.eta - jets.lost.eta), 0.5, atol=1e-5)
    assert ak.array_equal(turned.flow, jets.flow)
    for name, strength in (("energy_scale", 0.1), ("soft_particles", 5.0), ("particle_loss", 0.2)):
        assert ak.array_equal(transform(flat, name, strength).to_awkward().sv, jets.sv)
