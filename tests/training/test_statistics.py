"""Statistics of other jets, and the same function."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pcloud
from pcloud.training.statistics import recompute_batch_norm
from tests.models.contract import make_jets, make_model

MODELS = ["particlenet_lite", "dgcnn", "pcnn"]


def spoil(model: nn.Module) -> None:
    """Statistics as far from those of the jets as padding would bring them."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d):
            norm.running_mean.mul_(0.3).add_(0.2)
            norm.running_var.mul_(2.5).add_(0.1)


@pytest.mark.parametrize("name", MODELS)
def test_scores_stay_and_training_mode_comes_close(name):
    model, jets = make_model(name), make_jets([30] * 16, seed=5)
    for dropout in model.modules():
        if isinstance(dropout, nn.Dropout):
            dropout.p = 0.0
    spoil(model)
    with torch.no_grad():
        expected = model(*jets)
        apart = (model.train()(*jets) - expected).abs().mean()
        norms = sum(isinstance(m, nn.BatchNorm1d) for m in model.modules())
        spoil(model)
        expected = model.eval()(*jets)
        assert recompute_batch_norm(model, [jets]) == norms
        torch.testing.assert_close(model(*jets), expected, rtol=1e-3, atol=1e-4)
        assert (model.train()(*jets) - expected).abs().mean() < 0.02 * apart


def test_statistics_are_those_of_all_batches_together():
    norm = nn.BatchNorm1d(3)
    x = torch.randn(50, 3) * 4 + 2
    recompute_batch_norm(norm, [(x[:20],), (x[20:21],), (x[21:],)])
    torch.testing.assert_close(norm.running_mean, x.mean(0))
    torch.testing.assert_close(norm.running_var, x.var(0, unbiased=False))
    y = torch.randn(9, 3)
    torch.testing.assert_close(norm(y), y / (1 + norm.eps) ** 0.5, rtol=1e-4, atol=1e-5)


def test_official_weights_are_the_same_tagger_in_training(reference_data):
    model = pcloud.load_official(
        "particlenet", reference_data / "particlenet_jetclass_kin_official.pt"
    )
    jets = pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[:64])
    (batch,) = pcloud.JetLoader(jets, batch_size=64)
    inputs = batch.x, batch.p4, batch.batch
    with torch.no_grad():
        expected = model.eval()(*inputs)
        before = (model.train()(*inputs) - expected).abs().median()
    model = pcloud.load_official(
        "particlenet", reference_data / "particlenet_jetclass_kin_official.pt"
    )
    recompute_batch_norm(model, [inputs])
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(*inputs), expected, rtol=1e-3, atol=2e-3)
        after = (model.train()(*inputs) - expected).abs().median()
    assert after < 0.3 * before
