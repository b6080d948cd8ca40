"""High-level observables against closed forms, brute force and FastJet axes."""

from __future__ import annotations

import itertools
import math

import awkward as ak
import numpy as np
import pytest
import torch
import uproot

import pcloud
from pcloud import kinematics as kin
from pcloud.errors import UnknownNameError
from pcloud.io.jets import FlatJets
from pcloud.nn import RaggedLayout
from pcloud.observables import (
    OBSERVABLES,
    compute_observables,
    correlators,
    jet_observables,
    n_subjettiness,
)
from tests.models.contract import make_jets

pytestmark = pytest.mark.rounding

COUNTS = [1, 2, 3, 20, 45]


@pytest.fixture(scope="module")
def jets():
    _, p4, batch = make_jets(COUNTS)
    p4 = p4.double()
    p4[5] = p4[4] + 0.1  # the contract's pair no longer coincides
    return p4, RaggedLayout.from_batch(batch)


def massless(*particles):
    """A jet of particles (pT, eta, phi)."""
    pt, eta, phi = torch.tensor(particles, dtype=torch.float64).unbind(-1)
    p4 = kin.from_pt_eta_phi_mass(pt, eta, phi)
    return p4, RaggedLayout.from_batch(torch.zeros(len(p4), dtype=torch.long))


def values(p4, layout):
    return dict(zip(OBSERVABLES, compute_observables(p4, layout)[0].tolist(), strict=True))


def test_two_particles_have_the_textbook_values():
    z, delta = 0.3, 0.4
    found = values(*massless((100 * z, 0.0, math.pi - 0.1), (100 * (1 - z), 0.0, -math.pi + 0.3)))
    assert found["multiplicity"] == 2
    assert found["mass"] == pytest.approx(100 * math.sqrt(2 * z * (1 - z) * (1 - math.cos(delta))))
    assert found["ptd"] == pytest.approx(math.sqrt(z**2 + (1 - z) ** 2))
    assert found["tau1"] == pytest.approx(z * delta / 0.8)  # the axis is the harder of the two
    assert found["tau2"] == found["tau3"] == found["tau4"] == 0
    assert found["tau21"] == 0
    assert found["tau32"] == found["tau43"] == 1  # 0 / 0: one more axis gains nothing
    assert found["c2"] == pytest.approx(0, abs=1e-12)


def test_three_particles_have_the_correlators_of_the_definition():
    p4, layout = massless((50, 0, 0), (30, 0.4, 0), (20, 0, 0.3))
    e2, e3 = correlators(p4, layout)
    expected = 0.15 * 0.4 + 0.1 * 0.3 + 0.06 * 0.5
    assert e2.item() == pytest.approx(expected)
    assert e3.item() == pytest.approx(0.5 * 0.3 * 0.2 * 0.4 * 0.3 * 0.5)
    found = values(p4, layout)
    assert found["d2"] == pytest.approx(e3.item() / expected**3)
    assert found["c2"] == pytest.approx(e3.item() / expected**2)


def test_correlators_are_the_sums_over_pairs_and_triples(jets):
    p4, layout = jets
    e2, e3 = correlators(p4, layout)
    for i, n in enumerate(COUNTS):
        own = p4[layout.batch == i]
        z = (kin.pt(own) / kin.pt(own).sum()).tolist()
        y, phi = kin.rapidity(own), kin.phi(own)
        dphi = kin.wrap_phi(phi[:, None] - phi)
        r = ((y[:, None] - y) ** 2 + dphi**2).sqrt().tolist()
        pairs = sum(z[a] * z[b] * r[a][b] for a, b in itertools.combinations(range(n), 2))
        triples = sum(
            z[a] * z[b] * z[c] * r[a][b] * r[b][c] * r[a][c]
            for a, b, c in itertools.combinations(range(n), 3)
        )
        assert e2[i].item() == pytest.approx(pairs, abs=1e-12)
        assert e3[i].item() == pytest.approx(triples, abs=1e-12)


def test_observables_of_arrays_are_those_of_vector():
    jets = pcloud.load_dataset("simulated", "test")[:50]
    p4 = ak.values_astype(jets.p4, np.float64)
    p4 = ak.with_field(p4, p4.mag, "E")  # stored in float32, it would have them slower than light
    axis = ak.sum(p4, axis=1)
    found = jet_observables(FlatJets.from_awkward(ak.with_field(jets, p4, "p4")))
    total = ak.sum(p4.pt, axis=1)
    expected = {
        "pt": axis.pt,
        "eta": axis.eta,
        "mass": axis.mass,
        "multiplicity": ak.num(p4),
        "girth": ak.sum(p4.pt * p4.deltaRapidityPhi(axis), axis=1) / total,
        "ptd": np.sqrt(ak.sum(p4.pt**2, axis=1)) / total,
        "leading_share": ak.max(p4.pt, axis=1) / total,
    }
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], ak.to_numpy(values), rtol=1e-9, err_msg=name)


def test_n_subjettiness_is_that_of_fastjet_axes(jets):
    fastjet = pytest.importorskip("fastjet", reason="takes axes from FastJet")
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, 1000.0, fastjet.WTA_pt_scheme)
    p4, layout = jets
    tau = n_subjettiness(p4, layout, radius=0.8, beta=1.0)
    for i, n in enumerate(COUNTS):
        particles = [fastjet.PseudoJet(*p[[1, 2, 3, 0]].tolist()) for p in p4[layout.batch == i]]
        sequence = fastjet.ClusterSequence(particles, definition)
        for number in range(1, 5):
            if n <= number:
                assert tau[i, number - 1] == 0
                continue
            axes = sequence.exclusive_jets(number)
            total = sum(p.pt() * min(p.delta_R(a) for a in axes) for p in particles)
            expected = total / (0.8 * sum(p.pt() for p in particles))
            assert tau[i, number - 1].item() == pytest.approx(expected, rel=1e-8)


def test_observables_of_a_jet_do_not_depend_on_the_batch_or_the_order(jets):
    p4, layout = jets
    together = compute_observables(p4, layout)
    for i, n in enumerate(COUNTS):
        own = p4[layout.batch == i][torch.randperm(n)]
        alone = compute_observables(own, RaggedLayout.from_batch(torch.zeros(n, dtype=torch.long)))
        torch.testing.assert_close(alone[0], together[i])


def test_gradients_are_finite_also_for_coinciding_particles():
    _, p4, batch = make_jets([1, 2, 40])
    p4 = p4.double().requires_grad_()
    observables = compute_observables(p4, RaggedLayout.from_batch(batch))
    observables.sum().backward()
    assert p4.grad.isfinite().all()
    assert p4.grad[batch == 2].any(-1).all()


def test_an_unknown_observable_is_refused_with_the_nearest(jets):
    with pytest.raises(UnknownNameError, match="did you mean 'tau32'"):
        compute_observables(*jets, ["tau_32"])


def test_stored_n_subjettiness_of_jetclass_is_close(reference_data):
    """Delphes moves its axes towards the minimum, so single jets differ by some ten per cent."""
    path = reference_data / "jetclass2_example_100.root"
    data = pcloud.JetDataset(pcloud.read_jets(path))
    tau = n_subjettiness(data.p4.double(), RaggedLayout.from_ptr(data.ptr), radius=0.8)
    with uproot.open(path) as file:
        names = [f"jet_tau{n}" for n in (1, 2, 3, 4)]
        columns = file["tree"].arrays(names, library="np")
    for own, name in zip(tau.unbind(-1), names, strict=True):
        stored = torch.from_numpy(columns[name]).double()
        some = stored > 1e-3
        assert (own[some] / stored[some]).median().item() == pytest.approx(1, abs=0.02)
        assert torch.corrcoef(torch.stack([own, stored]))[0, 1] > 0.985
