"""Branches that random jets lose while training."""

from __future__ import annotations

import pytest
import torch

from pcloud.nn.stochastic_depth import StochasticDepth


def test_the_particles_of_a_jet_keep_or_lose_a_branch_together():
    torch.manual_seed(0)
    num_jets = 2000
    jet = torch.arange(num_jets).repeat_interleave(3)
    out = StochasticDepth(0.25).train()(torch.ones(len(jet), 2), jet, num_jets)
    by_jet = out.view(num_jets, 6)
    assert (by_jet == by_jet[:, :1]).all()
    assert sorted(set(by_jet[:, 0].tolist())) == pytest.approx([0, 1 / 0.75])
    kept = (by_jet[:, 0] > 0).float().mean().item()
    assert abs(kept - 0.75) < 5 * (0.75 * 0.25 / num_jets) ** 0.5


def test_scoring_loses_no_branch():
    x = torch.randn(5, 2)
    assert StochasticDepth(0.5).eval()(x, torch.zeros(5, dtype=torch.long), 1) is x


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_probabilities_outside_the_range_are_refused(p):
    with pytest.raises(ValueError, match=r"must be in \[0, 1\), got"):
        StochasticDepth(p)
