"""Features against their definitions, the official inputs and finite differences."""

from __future__ import annotations

import math

import awkward as ak
import numpy as np
import pytest
import torch
import vector

import pcloud
from pcloud import kinematics as kin
from pcloud.batch import batch_arguments
from pcloud.errors import InputError, UnknownNameError
from pcloud.features import FEATURE_SETS, Feature, FeatureSet, feature_set
from pcloud.nn.graph.coordinates import eta_phi
from pcloud.observables import compute_observables

COMPONENTS = ("E", "px", "py", "pz")

pytestmark = pytest.mark.rounding


def jets(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    counts = torch.tensor([1, 2, 30, 7])
    batch = torch.repeat_interleave(torch.arange(4), counts)
    n = len(batch)
    pt = torch.rand(n, generator=generator, dtype=torch.float64) * 50 + 0.5
    eta = torch.tensor([0.5, -1.5, 2.0, 0.0])[batch] + 0.2 * torch.randn(n, generator=generator)
    phi = 3.1 + 0.2 * torch.randn(n, generator=generator)  # jets lie across phi = pi
    p4 = kin.from_pt_eta_phi_mass(pt, eta.double(), phi.double())
    return p4.to(dtype), batch


def test_kin_is_its_definition():
    p4, batch = jets()
    x = feature_set("kin")(p4, batch)
    for i in range(4):
        own = p4[batch == i]
        jet = own.sum(0, keepdim=True)
        deta = (kin.eta(own) - kin.eta(jet)) * (1 if kin.eta(jet) >= 0 else -1)
        dphi = kin.delta_phi(own, jet)
        raw = [
            (kin.pt(own).log() - 1.7) * 0.7,
            (own[:, 0].log() - 2.0) * 0.7,
            ((kin.pt(own) / kin.pt(jet)).log() + 4.7) * 0.7,
            ((own[:, 0] / jet[:, 0]).log() + 4.7) * 0.7,
            ((deta**2 + dphi**2).sqrt() - 0.2) * 4.0,
        ]
        expected = torch.stack([*(v.clamp(-5, 5) for v in raw), deta, dphi], dim=-1)
        torch.testing.assert_close(x[batch == i], expected)


def test_kin_is_unchanged_by_a_turn_about_the_beam_and_by_reflection():
    p4, batch = jets()
    x = feature_set("kin")(p4, batch)
    torch.testing.assert_close(feature_set("kin")(kin.rotate_z(p4, 1.3), batch), x)
    mirrored = p4 * torch.tensor([1, 1, 1, -1])
    torch.testing.assert_close(feature_set("kin")(mirrored, batch), x)


def test_official_inputs_and_weights_give_the_official_logits(reference_data):
    stored = np.load(reference_data / "jetclass_kin_0000_0249.npz")
    batch = torch.from_numpy(np.repeat(np.arange(250), stored["counts"]))
    p4, delta = torch.from_numpy(stored["p4"]), torch.from_numpy(stored["deta_dphi"])
    x = feature_set("kin")(p4, batch, {"deta": delta[:, 0], "dphi": delta[:, 1]})
    weights = reference_data / "particlenet_jetclass_kin_official.pt"
    model = pcloud.load_official("particlenet", weights, coordinates="identity")
    with torch.no_grad():
        logits = model(x, delta, batch)
    assert stored["counts"].min() < 17  # short jets are among them
    np.testing.assert_allclose(logits.numpy(), stored["logits_particlenet_kin"], atol=1e-4, rtol=0)


def test_full_set_takes_extra_columns_in_the_official_order():
    p4, batch = jets()
    full = feature_set("full")
    assert len(full) == 17
    extras = {name: torch.full((len(p4),), float(i)) for i, name in enumerate(full.columns, 2)}
    x = full(p4, batch, extras)
    place = {name: i for i, name in enumerate(full.names)}
    assert (place["charge"], place["tanh_d0"], place["deta"], place["dphi"]) == (5, 11, 15, 16)
    assert (x[:, place["charge"]] == extras["charge"]).all()
    torch.testing.assert_close(x[:, place["tanh_d0"]], extras["d0"].double().tanh())
    assert (x[:, place["d0_err"]] == 1.0).all()  # clipped
    torch.testing.assert_close(x[:, [0, 1, 2, 3, 4, 15, 16]], feature_set("kin")(p4, batch))


def test_an_absent_column_is_named():
    p4, batch = jets()
    with pytest.raises(UnknownNameError, match="no feature or column named 'charge'"):
        feature_set("kinpid")(p4, batch)
    with pytest.raises(UnknownNameError, match="did you mean 'log_pt'"):
        feature_set(["log_ptt"])(p4, batch)


def test_a_subset_keeps_the_standardisation():
    p4, batch = jets()
    x = feature_set("kin")(p4, batch)
    names = ["dphi", "log_pt"]
    torch.testing.assert_close(feature_set("kin").subset(names)(p4, batch), x[:, [6, 0]])
    torch.testing.assert_close(feature_set(names)(p4, batch), x[:, [6, 0]])
    with pytest.raises(UnknownNameError, match="log_pt"):
        feature_set("kin").subset(["log_pt_"])


def test_a_column_of_ones_own_is_a_feature():
    p4, batch = jets()
    time = torch.linspace(0, 1, len(p4))
    x = feature_set([Feature("time", 0.5, 2.0, -0.5, None)])(p4, batch, {"time": time})
    torch.testing.assert_close(x[:, 0], ((time.double() - 0.5) * 2).clamp(min=-0.5))


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_feature_sets_survive_storage(name):
    features = feature_set(name)
    assert FeatureSet.from_dict(features.to_dict()) == features


def test_features_are_differentiable():
    p4, batch = jets()
    weight = torch.linspace(-1, 1, 7, dtype=torch.float64)

    def response(p4):
        return feature_set("kin")(p4, batch) @ weight

    assert torch.autograd.gradcheck(response, (p4.requires_grad_(),))


@pytest.mark.parametrize(
    "particle", [[0.0, 0, 0, 0], [5.0, 0, 0, 5.0], [5.0, 3.0, 0, 4.0], [1e-30, 1e-30, 0, 0]]
)
def test_strange_particles_have_finite_features_and_gradients(particle):
    p4 = torch.tensor([[9.0, 0.0, 9.0, 0.0], particle], requires_grad=True)
    x = feature_set("kin")(p4, torch.zeros(2, dtype=torch.long))
    x.sum().backward()
    assert x.isfinite().all()
    assert p4.grad.isfinite().all()


def test_senseless_sets_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'kin'"):
        feature_set("kim")
    with pytest.raises(InputError, match="at least one"):
        feature_set([])
    with pytest.raises(InputError, match="twice: deta"):
        feature_set(["deta", "dphi", "deta"])
    with pytest.raises(InputError, match="scale 0"):
        Feature("log_pt", scale=0.0)


def with_own_momentum(jets, factor=1.1):
    """Jets that are harder than their particles together."""
    total = {c: factor * ak.sum(jets.p4[c], axis=1) for c in ("E", "px", "py", "pz")}
    return ak.with_field(jets, ak.zip(total, with_name="Momentum4D"), "jet_p4")


def test_features_are_relative_to_the_stored_momentum_where_there_is_one():
    jets = pcloud.load_dataset("simulated", "test")[:20]
    names = ["log_pt_rel", "log_energy_rel", "log_pt", "deta", "dphi"]
    plain = pcloud.JetDataset(jets, names)
    stored = pcloud.JetDataset(with_own_momentum(jets), names)
    shift = stored.x - plain.x
    expected = torch.tensor([-0.7 * math.log(1.1)] * 2 + [0.0] * 3).expand_as(shift)
    torch.testing.assert_close(shift, expected, rtol=1e-4, atol=2e-6)
    assert stored.feature_set.reference == "stored"
    assert plain.feature_set.reference == "particles"
    old = feature_set(names).to_dict()
    del old["reference"]  # as older versions stored it
    same = pcloud.JetDataset(with_own_momentum(jets), FeatureSet.from_dict(old))
    assert torch.equal(same.x, plain.x)


def test_features_of_stored_momenta_refuse_jets_without():
    jets = pcloud.load_dataset("simulated", "test")[:3]
    inputs = pcloud.JetDataset(with_own_momentum(jets)).feature_set
    assert FeatureSet.from_dict(inputs.to_dict()) == inputs
    with pytest.raises(InputError, match="stored momentum of the jet, jet_p4"):
        pcloud.JetDataset(jets, inputs)
    with pytest.raises(UnknownNameError, match="did you mean 'stored'"):
        FeatureSet(inputs.features, "storde")


def test_coordinates_and_observables_are_relative_to_the_stored_momentum():
    jets = pcloud.load_dataset("simulated", "test")[:5]
    moved = with_own_momentum(jets)
    moved = ak.with_field(moved, ak.with_field(moved.jet_p4, -moved.jet_p4.px, "px"), "jet_p4")
    data = pcloud.JetDataset(moved)
    (batch,) = pcloud.JetLoader(data, 5)
    _, p4, _, layout = batch_arguments(batch)
    axis = vector.Array(moved.jet_p4)
    counts = data.ptr.diff().numpy()
    particles = vector.Array(
        ak.zip(
            {c: ak.unflatten(p4[:, i].double().numpy(), counts) for i, c in enumerate(COMPONENTS)},
            with_name="Momentum4D",
        )
    )
    found = eta_phi(p4, layout).numpy()
    np.testing.assert_allclose(found[:, 0], ak.flatten(particles.eta - axis.eta), atol=1e-6)
    np.testing.assert_allclose(found[:, 1], ak.flatten(particles.deltaphi(axis)), atol=1e-6)
    pt, eta = compute_observables(p4, layout, ["pt", "eta"]).T
    np.testing.assert_allclose(pt, axis.pt, rtol=1e-6)
    np.testing.assert_allclose(eta, axis.eta, atol=1e-6)


def test_a_name_is_not_suggested_for_itself():
    p4 = torch.rand(3, 4)
    with pytest.raises(UnknownNameError) as caught:
        feature_set(["charge"])(p4, torch.zeros(3, dtype=torch.long))
    assert "did you mean 'charge'" not in str(caught.value)
    assert "no model named 'a'; known: none" in str(UnknownNameError("model", "a", ["a"]))
