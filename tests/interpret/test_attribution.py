from __future__ import annotations

import sys

import awkward as ak
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pcloud
from pcloud.batch import JetDataset
from pcloud.errors import InputError, MissingExtraError, UnknownNameError
from pcloud.features import feature_set
from pcloud.interpret.attribution import attribute
from pcloud.interpret.edges import edge_importance, fixed_graph, record_graph
from pcloud.interpret.response import log_odds
from pcloud.nn.graph.edge_conv import EdgeBlock
from tests.models.contract import make_model

WEIGHT = torch.tensor([0.5, 0.0, -1.0, 0.3, 0.0, 2.0, 0.1])


class Additive(nn.Module):
    """Log-odds that add up over particles: every method has a closed form."""

    def __init__(self, curved: bool = False) -> None:
        super().__init__()
        self.curved = curved

    def forward(self, x: Tensor, p4: Tensor, batch: Tensor) -> Tensor:
        each = (x**2 if self.curved else x) @ WEIGHT.to(x)
        odds = x.new_zeros(int(batch[-1]) + 1).index_add(0, batch, each)
        return torch.stack([torch.zeros_like(odds) + 3, odds + 3], dim=1)


@pytest.fixture(scope="module")
def jets() -> ak.Array:
    return pcloud.load_dataset("simulated", "test")[:7]


@pytest.fixture(scope="module")
def particlenet() -> nn.Module:
    torch.manual_seed(0)
    model = pcloud.build_model("particlenet_lite", 7, 2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.momentum = 1.0  # statistics of a few jets, so that scores differ
    with torch.no_grad():
        data = JetDataset(pcloud.load_dataset("simulated", "train")[:50])
        model(data.x, data.p4, torch.repeat_interleave(torch.arange(50), data.ptr.diff()))
    return model.eval()


def inputs_of(jets):
    """Inputs of the network, particles in the order of the jets."""
    data = JetDataset(jets)
    return data.in_input_order(data.x)


def test_a_linear_response_is_attributed_exactly(jets):
    x = inputs_of(jets).numpy()
    saliency = attribute(Additive(), jets, "saliency")
    np.testing.assert_allclose(saliency.values, np.tile(WEIGHT.abs(), (len(x), 1)), rtol=1e-6)
    smooth = attribute(Additive(), jets, "smoothgrad", samples=3, batch_size=9)
    np.testing.assert_allclose(smooth.values, saliency.values, rtol=1e-5)
    path = attribute(Additive(), jets, steps=2)
    np.testing.assert_allclose(path.values, (x - x.mean(0)) * WEIGHT.numpy(), atol=1e-5)
    np.testing.assert_allclose(path.gap, 0, atol=1e-3)
    assert path.columns == feature_set("kin").names


def test_integrated_gradients_of_a_square_need_no_more_than_two_steps(jets):
    x = inputs_of(jets).numpy()
    found = attribute(Additive(curved=True), jets, baseline="zero", steps=2, batch_size=5)
    np.testing.assert_allclose(found.values, x**2 * WEIGHT.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.total, found.response - found.baseline, rtol=1e-4)


def test_smoothgrad_of_a_square_is_the_mean_gradient(jets):
    """Noise of mean zero leaves the gradient 2 w x, up to 2 w times its mean over samples."""
    x = inputs_of(jets)
    found = attribute(Additive(curved=True), jets, "smoothgrad", samples=50, noise=0.2)
    exact = (2 * WEIGHT * x).abs().numpy()
    error = 2 * WEIGHT.abs().numpy() * 0.2 * x.std(0).numpy() / np.sqrt(50)
    assert np.max(np.abs(found.values - exact) / np.maximum(error, 1e-5)) < 5.5
    assert not np.allclose(found.values, exact, atol=1e-3)
    again = attribute(Additive(curved=True), jets, "smoothgrad", samples=50, noise=0.2)
    np.testing.assert_array_equal(found.values, again.values)


def test_occlusion_is_the_response_without_the_particle(jets, particlenet):
    found = attribute(particlenet, jets[:3], "occlusion", batch_size=50)
    at = 0
    for jet in jets[:3]:
        for i in range(0, len(jet.p4), 9):
            rest = ak.Array({"p4": ak.from_regular(jet.p4[np.arange(len(jet.p4)) != i][None])})
            data = JetDataset(rest)
            with torch.no_grad():
                out = particlenet(data.x, data.p4, torch.zeros(len(data.x), dtype=torch.long))
            jet_at = int(np.searchsorted(found.offsets, at, side="right")) - 1
            expected = found.response[jet_at] - float(log_odds(out))
            assert found.values[at + i, 0] == pytest.approx(expected, abs=2e-5)
        at += len(jet.p4)


def test_the_only_particle_of_a_jet_cannot_be_left_out(jets):
    alone = ak.with_field(jets, jets.p4[:, :1], "p4")
    assert np.isnan(attribute(Additive(), alone, "occlusion").values).all()


@pytest.mark.parametrize("method", ["saliency", "smoothgrad", "integrated_gradients"])
def test_an_attribution_does_not_depend_on_the_batch(jets, particlenet, method):
    settings = {"noise": 0.0, "samples": 2, "steps": 4, "baseline": "zero"}
    whole = attribute(particlenet, jets, method, **settings)
    alone = [attribute(particlenet, jets[i : i + 1], method, **settings) for i in (0, 6)]
    for i, one in zip((0, 6), alone, strict=True):
        of_jet = whole.values[whole.offsets[i] : whole.offsets[i + 1]]
        np.testing.assert_allclose(one.values, of_jet, rtol=2e-3, atol=2e-5)


def test_integrated_gradients_become_complete_with_their_steps(jets, particlenet):
    gaps = []
    for steps in (8, 32):
        found = attribute(particlenet, jets[:3], steps=steps)
        gaps.append(np.abs(found.gap).mean())
    assert gaps[1] < 0.5 * gaps[0]
    assert gaps[1] < 0.06 * np.abs(found.response - found.baseline).mean()


class SeesMomenta(nn.Module):
    """log(1 + E) of the jet."""

    def forward(self, x: Tensor, p4: Tensor, batch: Tensor) -> Tensor:
        energy = p4.new_zeros(int(batch[-1]) + 1).index_add(0, batch, p4[:, 0])
        return torch.stack([torch.zeros_like(energy), torch.log1p(energy)], dim=1)


def test_a_model_that_sees_no_features_is_attributed_to_momenta(jets):
    found = attribute(SeesMomenta(), jets, steps=100, batch_size=700)
    assert found.columns == ("E", "px", "py", "pz")
    assert (found.values[:, 1:] == 0).all()
    np.testing.assert_allclose(found.gap, 0, atol=5e-3)
    energy = ak.sum(jets.p4.E, axis=1).to_numpy()
    np.testing.assert_allclose(found.response, np.log1p(energy), rtol=1e-5)
    share = ak.flatten(jets.p4.E / ak.sum(jets.p4.E, axis=1)).to_numpy()
    jet = np.repeat(np.arange(7), np.diff(found.offsets))
    np.testing.assert_allclose(found.values[:, 0], share * found.total[jet], rtol=1e-3)
    with pytest.raises(InputError, match="does not use features"):
        attribute(SeesMomenta(), jets, respect_to="features")


def test_gradients_reach_momenta_through_the_pairs_of_a_transformer(jets):
    """The derivative by a shift of log pT of all particles is the change of the log-odds."""
    model = make_model("part", num_outputs=2).double()
    data = JetDataset(jets[:2])
    batch = torch.repeat_interleave(torch.arange(2), data.ptr.diff())
    features = feature_set("kin")
    way = torch.randn(len(data.x), 1, generator=torch.Generator().manual_seed(0)).double()
    momenta = data.p4.double()  # of mass 1 GeV: a stored mass of about 0 is rounding
    momenta[:, 0] = (momenta[:, 1:].square().sum(1) + 1).sqrt()

    def response(step):
        p4 = momenta * (1 + step * way)
        return log_odds(model(features(p4, batch).double(), p4, batch))

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(response(step).sum(), step)
    with torch.no_grad():
        expected = (response(1e-5) - response(-1e-5)).sum() / 2e-5
    torch.testing.assert_close(slope, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("name", "start"),
    [("efn", "axis"), ("hl_mlp", "zero"), ("hl_logistic", "zero"), ("lorentznet", "zero")],
)
def test_integrated_gradients_of_momenta_are_complete_to_a_tenth_or_refused(jets, name, start):
    """An energy flow network does not change when all momenta grow: from zero nothing is explained."""
    model = make_model(name, num_outputs=2)
    if name == "efn":  # biases of zero would leave it piecewise linear in the angles
        torch.nn.init.uniform_(model.phi[0].bias, -0.5, 0.5)
    found = attribute(model, jets[:2], steps=16)
    assert found.start == start
    change = np.abs(found.response - found.baseline).mean()
    assert np.abs(found.gap).mean() < 0.1 * change
    if start == "axis":
        with pytest.raises(InputError, match="baseline zero leave out"):
            attribute(model, jets[:2], baseline="zero", steps=16)


@pytest.mark.parametrize("name", ["one_cut", "image_cnn"])
def test_a_response_that_is_constant_on_the_way_or_jumps_is_refused(jets, name):
    with pytest.raises(InputError, match=r"leave out|one pixel"):
        attribute(make_model(name, num_outputs=2), jets[:2], steps=16)


def test_gradients_reach_momenta_through_the_features(jets):
    found = attribute(Additive(), jets[:1], "saliency", respect_to="momenta")
    data = JetDataset(jets[:1])
    p4 = data.p4.double().requires_grad_()
    batch = torch.zeros(len(p4), dtype=torch.long)
    odds = (feature_set("kin")(p4, batch) @ WEIGHT.double()).sum()
    (expected,) = torch.autograd.grad(odds, p4)
    expected = data.in_input_order(expected.abs())
    np.testing.assert_allclose(found.values, expected, rtol=0.02, atol=1e-4)
    with pytest.raises(InputError, match="need respect_to='features'"):
        attribute(Additive(), jets, respect_to="momenta")


def test_the_graph_is_let_go_and_the_mode_restored(jets, particlenet):
    particlenet.train()
    attribute(particlenet, jets[:1], steps=2)
    assert particlenet.training
    particlenet.eval()
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in particlenet.modules())


def test_a_held_graph_repeats_for_copies(jets, particlenet):
    data = JetDataset(jets[:2])
    batch = torch.repeat_interleave(torch.arange(2), data.ptr.diff())
    graph = record_graph(particlenet, data.x, data.p4, batch)
    assert len(graph) == 2
    with torch.no_grad(), fixed_graph(particlenet, graph):
        twice = particlenet(
            data.x.repeat(2, 1), data.p4.repeat(2, 1), torch.cat([batch, batch + 2])
        )
        once = particlenet(data.x, data.p4, batch)
    torch.testing.assert_close(twice, once.repeat(2, 1), rtol=1e-4, atol=1e-5)


def test_edge_importance_is_the_effect_of_a_slightly_weaker_message(jets, particlenet):
    data = JetDataset(jets[:1])
    batch = torch.zeros(len(data.x), dtype=torch.long)
    model = particlenet.double()
    try:
        x, p4 = data.x.double(), data.p4.double()
        found = edge_importance(model, x, p4, batch)
        graph = record_graph(model, x, p4, batch)
        for block in range(2):
            particle, slot = 3, 5
            up, down = (
                _with_weaker_message(model, graph, (x, p4, batch), block, particle, slot, e)
                for e in (1e-4, -1e-4)
            )
            slope = (down - up) / 2e-4
            assert float(found[block].importance[particle, slot]) == pytest.approx(slope, rel=1e-3)
    finally:
        particlenet.float()


def _with_weaker_message(model, graph, inputs, block, particle, slot, amount) -> float:
    target = [m for m in model.modules() if isinstance(m, EdgeBlock)][block]

    def weaken(module, given, out):
        messages = module.messages(*given).detach().clone()
        messages[particle, slot] *= 1 - amount
        return torch.relu(messages.mean(1) + module.shortcut(given[0]))

    handle = target.register_forward_hook(weaken)
    with torch.no_grad(), fixed_graph(model, graph):
        response = float(log_odds(model(*inputs)))
    handle.remove()
    return response


def test_messages_have_the_mean_that_the_block_takes():
    torch.manual_seed(0)
    block, x = EdgeBlock(4, (8, 6)).eval(), torch.randn(9, 4)
    neighbors = torch.randint(0, 10, (9, 3))  # 9 is a missing neighbour
    expected = torch.relu(block.messages(x, neighbors).mean(1) + block.shortcut(x))
    torch.testing.assert_close(block(x, neighbors), expected)


def test_log_odds_are_those_of_the_softmax():
    logits = torch.randn(5, 4, dtype=torch.double)
    p = logits.softmax(1)[:, 2]
    torch.testing.assert_close(log_odds(logits, 2), (p / (1 - p)).log())
    with pytest.raises(InputError, match="no class 4"):
        log_odds(logits, 4)


def test_mistakes_are_said(jets, monkeypatch):
    with pytest.raises(UnknownNameError, match="saliency"):
        attribute(Additive(), jets, "saliencies")
    with pytest.raises(UnknownNameError, match="mean"):
        attribute(Additive(), jets, baseline="means")
    with pytest.raises(UnknownNameError, match="baseline of momenta"):
        attribute(SeesMomenta(), jets, baseline="mean")
    with pytest.raises(InputError, match="7 numbers"):
        attribute(Additive(), jets, baseline=[1.0])
    with pytest.raises(InputError, match="has no baseline"):
        _ = attribute(Additive(), jets, "saliency").gap
    with pytest.raises(InputError, match="EdgeConv"):
        edge_importance(Additive(), *(torch.zeros(1, n) for n in (7, 4)), torch.zeros(1).long())
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingExtraError, match=r"pcloud-hep\[trust\]"):
        attribute(Additive(), jets, "saliency")


@pytest.mark.parametrize("method", ["saliency", "occlusion"])
def test_the_stored_momentum_of_a_jet_follows_its_particles(method):
    """Where it is the sum of the particles it makes no difference that it is stored."""
    torch.manual_seed(0)
    model = pcloud.build_model("efn", 7).double().eval()
    jets = pcloud.load_dataset("simulated", "test")[:3]
    jets = ak.with_field(jets, ak.values_astype(jets.p4, "float64"), "p4")
    total = ak.zip({c: ak.sum(jets.p4[c], axis=1) for c in ("E", "px", "py", "pz")})
    plain, stored = (
        attribute(model, sample, method, respect_to="momenta").values
        for sample in (jets, ak.with_field(jets, total, "jet_p4"))
    )
    np.testing.assert_allclose(stored, plain, rtol=1e-6, atol=1e-9)
