"""Convolutions along jets of any length against PyTorch's own, jet by jet."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pcloud.nn import RaggedLayout
from pcloud.nn.sequences import RaggedConv1d, by_pt, halved_sequences
from tests.models.contract import make_jets

pytestmark = pytest.mark.rounding

COUNTS = [1, 2, 0, 7, 8, 3]


@pytest.fixture
def layout():
    return RaggedLayout.from_ptr(torch.tensor([0, *COUNTS]).cumsum(0))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_is_that_of_pytorch_on_each_jet_alone(layout, stride):
    torch.manual_seed(0)
    conv, x = RaggedConv1d(3, 5), torch.randn(sum(COUNTS), 3)
    resolutions = halved_sequences(layout, 1)
    target = resolutions[stride - 1]
    y = conv(x, resolutions[0], target)
    kernel = conv.linear.weight.unflatten(1, (3, 3)).transpose(1, 2)  # (out, in, offset)
    for i, n in enumerate(COUNTS):
        own = y[target.batch == i]
        assert len(own) == -(-n // stride)
        if n:
            expected = F.conv1d(x[layout.batch == i].T[None], kernel, stride=stride, padding=1)
            torch.testing.assert_close(own, expected[0].T)


def test_halving_twice_keeps_every_fourth(layout):
    assert [r.counts.tolist() for r in halved_sequences(layout, 2)] == [
        [1, 2, 0, 7, 8, 3],
        [1, 1, 0, 4, 4, 2],
        [1, 1, 0, 2, 2, 1],
    ]


def test_particles_stand_by_falling_pt_whatever_their_order():
    _, p4, batch = make_jets([5, 30, 1])
    p4[7] = p4[6] * torch.tensor([1.0, -1.0, 1.0, 1.0])  # same pT and energy, another direction
    layout = RaggedLayout.from_batch(batch)
    ordered = p4[by_pt(p4, layout)]
    for i in range(3):
        pt = ordered[batch == i, 1:3].norm(dim=-1)
        assert (pt.diff() <= 1e-5).all()
    shuffled = torch.argsort(batch + 0.9 * torch.rand(len(batch)))
    assert torch.equal(p4[shuffled][by_pt(p4[shuffled], layout)], ordered)
