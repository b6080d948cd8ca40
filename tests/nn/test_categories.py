from __future__ import annotations

import torch

from pcloud.nn.categories import CategoriesOfCollections, CategoryEmbedding


def test_a_category_has_a_vector_of_its_own_and_others_none():
    embedding = CategoryEmbedding(3, {1: (2, 4)})
    x = torch.tensor([[0.5, 1.0, -1.0], [0.25, 2.0, 3.0], [0.5, 0.0, 1.0], [0.5, 1.0, 7.0]])
    found = embedding(x)
    assert found.shape == (4, embedding.width) == (4, 6)
    assert torch.equal(found[:, :2], x[:, [0, 2]])
    assert torch.equal(found[0, 2:], found[3, 2:])
    assert not torch.equal(found[0, 2:], found[1, 2:])
    assert not found[2, 2:].any()
    found.sum().backward()
    (table,) = embedding.tables.values()
    assert table.weight.grad.abs().sum(1).bool().all()


def test_an_unknown_number_stays_unknown():
    embedding = CategoryEmbedding(2, {0: (2, 3)})
    found = embedding(torch.tensor([[torch.nan, 1.0], [1.0, 1.0]]))
    assert found[0, 1:].isnan().all()
    assert found[1].isfinite().all()


def test_collections_have_categories_of_their_own():
    parts = [CategoryEmbedding(3, {0: (2, 4)}), CategoryEmbedding(1, {})]
    embedding = CategoriesOfCollections(parts)
    assert embedding.widths == (6, 1)
    x = torch.tensor([[1.0, 0.5, 0.5], [0.25, 0.0, 0.0], [2.0, 1.0, 1.0]])
    found = embedding(x, torch.tensor([0, 1, 0]))
    assert torch.equal(found[[0, 2]], parts[0](x[[0, 2]]))
    assert found[1].tolist() == [0.25, 0, 0, 0, 0, 0]
    assert torch.equal(embedding(x), parts[0](x))
