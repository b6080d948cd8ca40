"""Counted operations against sums written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pcloud
from pcloud.models.flops import count_flops, flops_per_jet
from pcloud.nn import RaggedLayout, knn
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
    search = 2 * 60 * 60 * (2 + 64 + 128)  # every pair, whichever kernel finds neighbours
    expected = edges + nodes + head + search
    assert count_flops(pcloud.build_model("particlenet", 7), x, p4, batch) == expected


class Search(nn.Module):
    """The neighbour search, as it runs with values."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, pos, ptr):
        layout = RaggedLayout.from_ptr(ptr)  # needs values
        return knn(pos.to(self.dtype), layout, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["keys", "topk"])
@pytest.mark.parametrize("dimensions", [2, 32])
def test_a_search_counts_its_pairs_whichever_kernel_runs(dtype, dimensions):
    ptr = torch.tensor([0, 7, 7, 12])
    pairs = 7 * 7 + 5 * 5
    found = count_flops(Search(dtype), torch.ones(12, dimensions), ptr)
    assert found == 2 * dimensions * pairs


@pytest.mark.parametrize(
    "name", ["hl_mlp", "lorentznet", "part", "particlenet_lite", "pcnn", "pelican", "recnn"]
)
def test_operations_of_a_batch_are_those_of_its_jets(name):
    model, counts = pcloud.build_model(name, 7), [3, 7, 20]
    batch = count_flops(model, *make_jets(counts))
    assert batch == sum(flops_per_jet(model, num_particles=n) for n in counts)


def test_operations_do_not_depend_on_threads_nor_on_the_training_mode():
    model, jets = pcloud.build_model("lorentznet", 7), make_jets([5, 9, 17])
    expected, threads = count_flops(model, *jets), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert count_flops(model, *jets) == expected
    finally:
        torch.set_num_threads(threads)
    with torch.no_grad():
        assert count_flops(model.train(), *jets) == expected


def test_a_model_that_looks_at_values_is_counted_too():
    class LooksAtValues(nn.Module):
        def forward(self, x):
            return x @ torch.ones(5, int(x[0, 0].item()))

    assert count_flops(LooksAtValues(), torch.full((3, 5), 4.0)) == 2 * 3 * 5 * 4


def test_an_error_of_the_model_is_the_callers_to_see():
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        count_flops(nn.Linear(5, 7), torch.ones(3, 6))


@pytest.mark.parametrize("name", ["particlenet_lite", "lgatr_slim", "pcnn"])
def test_a_model_scores_as_before_once_counted(name):
    model, jets = pcloud.build_model(name, 7).eval(), make_jets([3, 8])
    with torch.no_grad():
        before = model(*jets)
        count_flops(model, *jets)
        assert torch.equal(model(*jets), before)


def test_layers_stay_in_their_modes_where_some_are_frozen():
    model = pcloud.build_model("particlenet_lite", 7).train()
    frozen = next(m for m in model.modules() if isinstance(m, nn.BatchNorm1d)).eval()
    count_flops(model, *make_jets([3]))
    assert not frozen.training
    assert model.training
    assert all(m.training for m in model.modules() if m is not frozen)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_stays_in_its_mode(training):
    model = pcloud.build_model("pfn", 7).train(training)
    count_flops(model, *make_jets([3]))
    assert model.training is training
