"""Recurrent networks on packed particles, beside a loop over jets, and the orders."""

from __future__ import annotations

import pytest
import torch

import pcloud
from pcloud.errors import InputError
from pcloud.nn import RaggedLayout
from pcloud.nn.clustering import clustering_trees
from pcloud.nn.sequences import by_clustering, by_pt
from tests.models.contract import make_jets, make_model

COUNTS = [3, 0, 20, 1, 7, 0]


@pytest.mark.parametrize("order", ["pt", "clustering"])
@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
@torch.no_grad()
def test_packed_particles_give_the_states_of_a_loop_over_jets(name, order):
    model = make_model(name, order=order, num_layers=2)
    x, p4, batch = make_jets(COUNTS)
    layout = RaggedLayout.from_batch(batch, len(COUNTS))
    indices = {"pt": by_pt, "clustering": by_clustering}[order](p4, layout)
    logits = model(x, p4, batch, layout)
    for jet in range(len(COUNTS)):
        own = indices[batch[indices] == jet]
        state = torch.zeros(model.recurrent.hidden_size)
        if len(own):
            states, _ = model.recurrent(x[own])
            state = states[-1]
        torch.testing.assert_close(logits[jet], model.head(state[None])[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_the_plain_formula_gives_the_states_and_gradients_of_torch(name, monkeypatch):
    model = make_model(name, num_layers=2)
    x, p4, batch = make_jets([3, 20, 1])
    results = []
    for allowed in (True, False):
        monkeypatch.setattr("pcloud.nn.sequences.kernel_allowed", lambda *_, a=allowed: a)
        logits = model(x, p4, batch)
        gradients = torch.autograd.grad(logits.square().sum(), list(model.parameters()))
        results.append([logits, *gradients])
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-6)


def leaves(trees, node, number):
    if node < number:
        return [node]
    first, second = trees.children[node - number].tolist()
    return leaves(trees, first, number) + leaves(trees, second, number)


def test_the_order_of_clustering_is_that_of_the_leaves():
    _, p4, batch = make_jets(COUNTS)
    layout = RaggedLayout.from_batch(batch, len(COUNTS))
    trees = clustering_trees(p4, layout, "cambridge_aachen")
    roots = [root for root in trees.root.tolist() if root >= 0]
    expected = [leaf for root in roots for leaf in leaves(trees, root, len(p4))]
    assert trees.leaves().tolist() == expected
    permuted = by_clustering(p4, layout)
    torch.testing.assert_close(p4[permuted].sum(-1), p4[trees.leaves()].sum(-1))


def test_an_unknown_order_is_refused():
    with pytest.raises(InputError, match="no order of particles named 'eta'"):
        pcloud.build_model("lstm", 7, order="eta")
