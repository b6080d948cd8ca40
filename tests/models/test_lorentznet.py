"""LorentzNet: official weights, an edge list as reference, masses and options."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

import pcloud
from benchmarks.lorentznet import EdgeListLorentzNet
from pcloud import kinematics as kin
from pcloud.errors import UnknownNameError
from pcloud.nn import RaggedLayout
from tests.models.contract import COUNTS, make_jets, make_model


@pytest.fixture(scope="module")
def landscape(reference_data):
    """Real jets with the logits of the official network, in float64 and without padding."""
    jets = np.load(reference_data / "landscape_test_rows_0000_0999.npz")
    counts = torch.from_numpy(jets["counts"].astype(np.int64))
    batch = torch.repeat_interleave(torch.arange(len(counts)), counts)
    logits = torch.from_numpy(jets["logits_lorentznet_unpadded_float64"])
    return torch.from_numpy(jets["p4"]), batch, logits, jets["label"]


@pytest.fixture(scope="module")
def official(reference_data):
    return pcloud.load_official("lorentznet", reference_data / "lorentznet_top_official.pt")


@pytest.mark.rounding
@torch.no_grad()
def test_official_weights_give_official_logits_in_float64(landscape, official):
    p4, batch, logits, _ = landscape
    some = batch < 100
    ours = copy.deepcopy(official).double()(None, p4[some].double(), batch[some])
    assert (ours - logits[:100]).abs().max() < 1e-6


def test_official_logits_tag_as_published(landscape):
    *_, logits, label = landscape
    score = (logits[:, 1] - logits[:, 0]).numpy()
    assert roc_auc_score(label, score) == pytest.approx(0.98936, abs=1e-4)
    assert ((score > 0) == label).mean() == pytest.approx(0.960)


@pytest.mark.rounding
@torch.no_grad()
def test_official_weights_give_official_logits_in_float32(landscape, official):
    p4, batch, logits, label = landscape
    some = batch < 300
    logits, label = logits[:300], label[:300]
    ours = official(None, p4[some], batch[some])
    assert ours.dtype == torch.float32
    assert (ours - logits).abs().amax(1).quantile(0.99) < 1e-3
    score, published = ((x[:, 1] - x[:, 0]).numpy() for x in (ours, logits))
    assert roc_auc_score(label, score) == pytest.approx(roc_auc_score(label, published), abs=1e-4)
    np.testing.assert_array_equal(score > 0, published > 0)


def test_weights_return_from_the_official_names(tmp_path):
    model = pcloud.build_model("lorentznet", in_features=7, num_outputs=3, width=8, num_layers=2)
    state = {}
    for name, value in model.state_dict().items():
        for ours, theirs in [
            ("embed.", "embedding."),
            ("blocks.", "LGEBs."),
            ("head.0.", "graph_dec.0."),
            ("head.output.", "graph_dec.3."),
            ("phi_e.linear.", "phi_e.0."),
            ("phi_e.norm.", "phi_e.1."),
            ("messages.linear.", "phi_e.3."),
            ("messages.phi_m.", "phi_m.0."),
            ("messages.phi_x.", "phi_x."),
        ]:
            name = name.replace(ours, theirs)
        state[name] = value
    torch.save(state, tmp_path / "official.pt")
    loaded = pcloud.load_official("lorentznet", tmp_path / "official.pt", mass="zero")
    assert loaded.blocks[0].limit == 100
    for (name, ours), theirs in zip(
        model.state_dict().items(), loaded.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_parameters_are_the_published_number():
    model = pcloud.build_model("lorentznet", in_features=7)
    assert sum(p.numel() for p in model.parameters()) == 224_072


def moving_model(limit):
    """A network in training whose momenta move by some GeV, which a fresh one hardly does."""
    torch.manual_seed(0)
    model = pcloud.build_model("lorentznet", 7, 3, limit=limit, dropout=0.0, step=1.0).double()
    for block in model.blocks[:-1]:
        block.messages.phi_x[2].weight.data *= 1e3
    return model


@pytest.mark.rounding
@pytest.mark.parametrize("limit", [None, 0.1])
def test_training_is_that_of_an_edge_list(limit):
    model = moving_model(limit)
    other = copy.deepcopy(model)
    x, p4, batch = make_jets([3, 20, 1, 11])
    x, p4, layout = x.double(), p4.double(), RaggedLayout.from_batch(batch)
    target = torch.tensor([0, 1, 2, 1])
    for logits in (
        ours := model(x, p4, batch, layout),
        theirs := EdgeListLorentzNet(other)(x, p4, batch, layout),
    ):
        F.cross_entropy(logits, target).backward()
    torch.testing.assert_close(ours, theirs)
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-10, msg=name)
    for a, b in zip(model.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_a_limit_acts():
    x, p4, batch = make_jets()
    free, bound = (moving_model(limit).eval()(x, p4.double(), batch) for limit in (None, 0.1))
    assert (free - bound).abs().max() > 1e-3


def test_scores_are_differentiable_twice_in_the_momenta():
    model = make_model("lorentznet").double()
    x, p4, batch = make_jets([2, 4])
    x, p4 = x.double(), p4.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p: model(x, p, batch), p4, eps=1e-7, rtol=1e-3, atol=1e-5
    )
    (gradient,) = torch.autograd.grad(model(x, p4, batch).sum(), p4, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), p4)
    assert second.isfinite().all()
    step = 1e-7 * second / second.norm()
    change = [
        torch.autograd.grad(model(x, q, batch).sum(), q)[0].square().sum()
        for q in ((p4 + sign * step).detach().requires_grad_() for sign in (1, -1))
    ]
    expected = (2e-7 * second.norm()).item()
    assert (change[0] - change[1]).item() == pytest.approx(expected, rel=1e-2)


@torch.no_grad()
def test_features_are_used_only_where_wanted():
    x, p4, batch = make_jets()
    model = make_model("lorentznet")
    assert torch.equal(model(x, p4, batch), model(0 * x, p4, batch))
    torch.manual_seed(0)
    model = pcloud.build_model("lorentznet", 7, 3, scalars="features").eval()
    assert not torch.allclose(model(x, p4, batch), model(0 * x, p4, batch))


@pytest.mark.rounding
@torch.no_grad()
def test_beams_break_the_symmetry_and_can_be_left_out():
    x, p4, batch = make_jets()
    torch.manual_seed(0)
    model = pcloud.build_model("lorentznet", 7, 3, beams=()).eval().double()
    boosted = kin.boost(p4.double(), torch.tensor([0.3, 0.2, -0.4], dtype=torch.float64))
    logits = model(x, p4.double(), batch)
    assert logits.shape == (len(COUNTS), 3)
    torch.testing.assert_close(model(x, boosted, batch), logits, rtol=1e-8, atol=1e-8)


def test_options_that_do_not_exist_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'features'"):
        pcloud.build_model("lorentznet", 7, scalars="feature")
    with pytest.raises(UnknownNameError, match="did you mean 'stored'"):
        pcloud.build_model("lorentznet", 7, mass="store")


@pytest.mark.rounding
@torch.no_grad()
def test_float32_scores_of_jets_survive_a_turn_about_the_beam():
    jets = pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[:64])
    batch = torch.repeat_interleave(torch.arange(64), jets.ptr.diff())
    assert jets.p4.dtype == torch.float32
    model = make_model("lorentznet")
    score = model(jets.x, jets.p4, batch).softmax(-1)
    turned = model(jets.x, kin.rotate_z(jets.p4, 0.7), batch).softmax(-1)
    assert (turned - score).abs().max() < 1e-4
