"""The contract that every registered model keeps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pcloud
from pcloud.models import model_info
from pcloud.models.parts import outputs_and_particles
from pcloud.models.registry import offers_particles
from pcloud.nn import RaggedLayout
from tests.jets import on_a_grid, shuffled
from tests.models.contract import COUNTS, VARIANTS, build, make_jets, make_model, variant


@pytest.fixture(params=[*pcloud.list_models(), *VARIANTS], scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    torch.manual_seed(0)
    return make_model(name)


def test_one_row_of_logits_per_jet(model):
    logits = model(*make_jets())
    assert logits.shape == (len(COUNTS), 3)
    assert logits.isfinite().all()
    assert logits.std(0).min() > 0


def test_every_parameter_has_a_gradient(model):
    model.train()
    logits = model(*make_jets([20] * 8))
    nn.functional.cross_entropy(logits, torch.arange(8) % 3).backward()
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    without = [n for n, p in trained if p.grad is None or not p.grad.any()]
    model.zero_grad()
    model.eval()
    assert without == []


@pytest.mark.rounding
@torch.no_grad()
def test_the_order_of_particles_is_irrelevant(model):
    x, p4, batch = make_jets()
    generator = torch.Generator().manual_seed(1)
    shuffled = torch.argsort(batch + 0.9 * torch.rand(len(batch), generator=generator))
    torch.testing.assert_close(
        model(x[shuffled], p4[shuffled], batch), model(x, p4, batch), rtol=1e-5, atol=1e-5
    )


@pytest.fixture(scope="module")
def batches():
    """Batches of the same jets, as they are and on a grid: the particles in four orders each."""
    jets = pcloud.load_dataset("simulated", "test")[:8]
    return [
        [one_batch(order) for order in (stored, *(shuffled(stored, seed)[0] for seed in range(3)))]
        for stored in (jets, on_a_grid(jets))
    ]


def one_batch(jets):
    (batch,) = pcloud.JetLoader(pcloud.JetDataset(jets), len(jets))
    return batch


@pytest.mark.rounding
@torch.no_grad()
def test_a_score_is_bit_equal_however_the_particles_are_stored(model, batches):
    for orders in batches:
        expected, *others = (model(batch.x, batch.p4, batch.batch) for batch in orders)
        assert all(torch.equal(scores, expected) for scores in others)


@pytest.mark.rounding
@torch.no_grad()
def test_a_jet_alone_scores_as_in_any_batch(model):
    x, p4, batch = make_jets()
    together = model(x, p4, batch)
    for i in range(len(COUNTS)):
        own = batch == i
        alone = model(x[own], p4[own], torch.zeros_like(batch[own]))
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_batch_of_short_jets_scores(model):
    x, p4, batch = make_jets([1, 2, 1])
    assert model(x, p4, batch).isfinite().all()


@pytest.mark.rounding
@torch.no_grad()
def test_an_empty_jet_has_a_defined_score_and_leaves_others_alone(model):
    x, p4, batch = make_jets()
    expected = model(x, p4, batch)
    logits = model(x, p4, batch + (batch >= 3))
    assert logits.isfinite().all()
    others = torch.cat([logits[:3], logits[4:]])
    torch.testing.assert_close(others, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.rounding
@torch.no_grad()
def test_a_precomputed_layout_changes_nothing(model):
    x, p4, batch = make_jets()
    layout = RaggedLayout.from_batch(batch)
    assert torch.equal(model(x, p4, batch, layout), model(x, p4, batch))


def test_inputs_are_left_as_they_are(model):
    inputs = make_jets()
    copies = [t.clone() for t in inputs]
    model(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))


@torch.no_grad()
def test_saved_weights_give_the_same_scores(name, model, tmp_path):
    inputs = make_jets()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = build(name, seed=1).eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other(*inputs), model(*inputs))


@torch.no_grad()
def test_bfloat16_scores_are_close(model):
    inputs = make_jets()
    exact = model(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = model(*inputs).float()
    assert coarse.isfinite().all()
    spread = exact.std(0)
    assert ((coarse - exact).abs().median(0).values < 0.15 * spread + 0.02).all()


WITHOUT_PARTICLES = {"hl_logistic", "hl_mlp", "image_cnn", "image_resnext", "one_cut"}
WITHOUT_PARTICLES |= {
    "deepjet",
    "gru",
    "jet_images",
    "lloca",
    "lstm",
    "pcnn",
    "pelican",
    "recnn",
    "rnn",
}
"""Networks without a representation of each particle."""


def test_networks_on_particles_offer_representations(name, model):
    registered, _ = variant(name)
    assert offers_particles(registered) == (registered not in WITHOUT_PARTICLES)
    assert hasattr(model, "particle_width") or registered in WITHOUT_PARTICLES


@torch.no_grad()
def test_a_score_is_the_composition_of_its_parts(name, model):
    if variant(name)[0] in WITHOUT_PARTICLES:
        pytest.skip("no representation of particles")
    x, p4, batch = make_jets()
    outputs, particles = outputs_and_particles(model, x, p4, batch)
    assert torch.equal(outputs, model(x, p4, batch))
    assert particles.shape == (len(x), model.particle_width)
    assert particles.isfinite().all()


@pytest.mark.rounding
@torch.no_grad()
def test_representations_follow_their_particles(name, model):
    if variant(name)[0] in WITHOUT_PARTICLES:
        pytest.skip("no representation of particles")
    x, p4, batch = make_jets([5, 16, 8])
    generator = torch.Generator().manual_seed(1)
    shuffled = torch.argsort(batch + 0.9 * torch.rand(len(batch), generator=generator))
    before = outputs_and_particles(model, x, p4, batch)[1]
    after = outputs_and_particles(model, x[shuffled], p4[shuffled], batch)[1]
    scale = before.abs().max()
    torch.testing.assert_close(after / scale, before[shuffled] / scale, rtol=1e-4, atol=1e-5)


def test_models_are_described():
    for name in pcloud.list_models():
        info = model_info(name)
        assert info.summary
        assert info.use
        assert info.paper[4] == "."
        assert 2010 <= info.year < 2100
