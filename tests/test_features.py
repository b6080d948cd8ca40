"""Features against their definitions, the official inputs and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pcloud
from pcloud import kinematics as kin
from pcloud.errors import InputError, UnknownNameError
from pcloud.features import FEATURE_SETS, Feature, FeatureSet, feature_set


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
