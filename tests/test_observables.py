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
from pcloud.nn.clustering import e_scheme, winner_take_all
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


@pytest.fixture(scope="module")
def real_jets():
    data = pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[:6])
    p4 = data.p4.double()
    return kin.pt(p4), kin.eta(p4), kin.phi(p4), RaggedLayout.from_ptr(data.ptr)


def two_derivatives(values, shift):
    """First and second derivative (B, number of values) by a shift (B,) of each jet."""
    firsts, seconds = [], []
    for value in values.sum(0):
        (first,) = torch.autograd.grad(value, shift, create_graph=True, materialize_grads=True)
        second = torch.zeros_like(first)
        if first.requires_grad:
            (second,) = torch.autograd.grad(
                first.sum(), shift, retain_graph=True, materialize_grads=True
            )
        firsts.append(first.detach())
        seconds.append(second)
    return torch.stack(firsts, -1), torch.stack(seconds, -1)


def test_both_derivatives_of_every_observable_are_those_of_finite_differences(real_jets):
    """Each particle goes its own way: an axis that does not follow its particles would show."""
    pt, eta, phi, layout = real_jets
    generator = torch.Generator().manual_seed(1)
    way = 0.1 * torch.randn(3, len(pt), dtype=torch.float64, generator=generator)

    def along(step):
        s = step[layout.batch]
        moved = pt * (s * way[0]).exp(), eta + s * way[1], phi + s * way[2]
        return compute_observables(kin.from_pt_eta_phi_mass(*moved, 0.14), layout)

    zero = torch.zeros(layout.num_jets, dtype=torch.float64, requires_grad=True)
    slopes, curvatures = two_derivatives(along(zero), zero)
    h = 1e-4
    with torch.no_grad():
        f = {k: along(zero + k * h) for k in (-2, -1, 0, 1, 2)}
    expected = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * h)
    expected2 = (16 * (f[1] + f[-1]) - (f[2] + f[-2]) - 30 * f[0]) / (12 * h**2)
    for i, name in enumerate(OBSERVABLES):
        for found, differences, tolerance in (
            (slopes[:, i], expected[:, i], 1e-6),
            (curvatures[:, i], expected2[:, i], 1e-3),
        ):
            assert differences.any() == (name != "multiplicity")
            size = float(differences.abs().max())
            torch.testing.assert_close(
                found, differences, rtol=0, atol=tolerance * size, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_derivatives_know_turns_about_the_beam_boosts_along_it_and_the_scale_of_momenta(real_jets):
    pt, eta, phi, layout = real_jets
    for variable in ("phi", "eta", "log_pt"):
        shift = torch.zeros(layout.num_jets, dtype=torch.float64, requires_grad=True)
        s = shift[layout.batch]
        moved = {
            "phi": (pt, eta, phi + s),
            "eta": (pt, eta + s, phi),  # of massless particles a boost
            "log_pt": (pt * s.exp(), eta, phi),
        }[variable]
        values = compute_observables(kin.from_pt_eta_phi_mass(*moved), layout)
        known = values.detach()
        first, second = two_derivatives(values, shift)
        for i, name in enumerate(OBSERVABLES):
            if (variable, name) == ("eta", "eta"):
                continue  # the axis is that of a jet with mass
            grows = variable == "log_pt" and name in ("pt", "mass")
            expected = known[:, i] if grows else torch.zeros_like(known[:, i])
            size = float(known[:, i].abs().max())
            for found in (first[:, i], second[:, i]):
                assert found.sub(expected).abs().max() < 1e-8 * size, (variable, name)


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


def test_observables_of_jets_are_those_of_their_stored_momenta():
    p4 = (
        np.array([60.0, 50.0]),
        np.array([50.0, 40.0]),
        np.array([0.0, 10.0]),
        np.array([3.0, 4.0]),
    )
    stored = {"jet_p4_E": [200.0], "jet_p4_px": [90.0], "jet_p4_py": [120.0], "jet_p4_pz": [0.0]}
    jets = FlatJets(np.array([0, 2]), p4, {}, {name: np.array(v) for name, v in stored.items()})
    found = jet_observables(jets, ("pt", "eta", "multiplicity"))
    assert found["pt"] == pytest.approx([150.0])
    assert found["eta"] == pytest.approx([0.0], abs=1e-12)
    assert found["multiplicity"] == pytest.approx([2.0])
    sums = jet_observables(FlatJets(jets.offsets, p4, {}, {}), ("pt",))
    assert sums["pt"] == pytest.approx([np.hypot(90.0, 10.0)])


@pytest.mark.usefixtures("fast_passes")
@pytest.mark.parametrize("algorithm", ["kt", "cambridge_aachen"])
@pytest.mark.parametrize("recombine", [winner_take_all, e_scheme])
def test_axes_by_fastjet_give_the_same_subjettiness(monkeypatch, capfd, algorithm, recombine):
    pytest.importorskip("fastjet", reason="compares with FastJet")
    data = pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[:40])
    first = int(data.ptr[30])
    ptr = torch.cat([data.ptr[:31], first + torch.tensor([0, 1, 3, 6, 10])])  # with short jets
    p4, layout = data.p4[: first + 10].double(), RaggedLayout.from_ptr(ptr)
    options = {"algorithm": algorithm, "recombine": recombine}
    found = n_subjettiness(p4, layout, **options)
    with monkeypatch.context() as patched:
        patched.setattr("pcloud.observables.can_use_fastjet", lambda *arguments: False)
        expected = n_subjettiness(p4, layout, **options)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=3e-8)
    assert "FastJet" not in capfd.readouterr().out
    p4.requires_grad_()  # by our own clustering
    n_subjettiness(p4, layout, **options).sum().backward()
    assert p4.grad.isfinite().all()
