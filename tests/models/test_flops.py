"""Counted operations against sums written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pcloud
from pcloud.models.flops import count_flops
from tests.models.contract import make_jets


def test_a_matrix_product_is_two_operations_per_pair():
    linear = nn.Linear(5, 7)
    assert count_flops(linear, torch.ones(3, 5)) == 2 * 3 * 5 * 7


def test_in_place_and_vector_products_count():
    class Products(nn.Module):
        def forward(self, a):
            sums = torch.zeros(4, 6).addmm_(a, torch.ones(5, 6))
            return sums + torch.mv(a, torch.ones(5)).unsqueeze(1)

    assert count_flops(Products(), torch.ones(4, 5)) == 2 * 4 * 5 * 6 + 2 * 4 * 5


def test_pfn_does_what_its_layers_say():
    x, p4, batch = make_jets()
    particles = 2 * len(x) * (7 * 128 + 2 * 128 * 128)
    jets = 2 * (int(batch.max()) + 1) * (3 * 128 * 128 + 128 * 2)
    assert count_flops(pcloud.build_model("pfn", 7), x, p4, batch) == particles + jets


def test_particlenet_multiplies_in_its_edges():
    x, p4, batch = make_jets([60])
    blocks = [(7, 64), (64, 128), (128, 256)]
    edges = 2 * 60 * 16 * sum(2 * c * c for _, c in blocks)
    nodes = 2 * 60 * sum(3 * a * c for a, c in blocks)  # both halves of the first layer, shortcut
    head = 2 * (256 * 256 + 256 * 2)
    search = 2 * 60 * 60 * sum(2 + d for d in (2, 64, 128))  # [-2 x, x^2, 1] . [y, 1, y^2]
    biases = 2 * sum(2 * c * c for _, c in blocks)  # left out of an edge, through the next maps
    expected = edges + nodes + head + search + biases
    assert count_flops(pcloud.build_model("particlenet", 7), x, p4, batch) == expected


@pytest.mark.parametrize("training", [True, False])
def test_the_model_stays_in_its_mode(training):
    model = pcloud.build_model("pfn", 7).train(training)
    count_flops(model, *make_jets([3]))
    assert model.training is training
