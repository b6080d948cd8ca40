"""Embedding of several collections: each by its own map, and its own columns only."""

from __future__ import annotations

import torch
from torch import nn

from pcloud.nn.collections import CollectionEmbedding

IN_WIDTHS = (5, 3)


def make_rows() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(40, max(IN_WIDTHS))
    collection = (torch.arange(40) % 3 == 0).long()
    x[collection == 1, IN_WIDTHS[1] :] = 0
    return x, collection


def test_each_collection_has_its_own_map():
    x, collection = make_rows()
    embed = CollectionEmbedding(IN_WIDTHS, 8)
    found = embed(x, collection)
    for i, width in enumerate(IN_WIDTHS):
        rows = x[collection == i, :width]
        parts = (embed.norms[i], embed.linears[i], embed.out_norms[i], nn.ReLU())
        torch.testing.assert_close(found[collection == i], nn.Sequential(*parts)(rows))


def test_columns_of_wider_collections_are_not_read():
    x, collection = make_rows()
    embed = CollectionEmbedding(IN_WIDTHS, 8).eval()
    expected = embed(x, collection)
    x[collection == 1, IN_WIDTHS[1] :] = torch.nan
    assert torch.equal(embed(x, collection), expected)


def test_rows_without_collections_are_of_the_first():
    x, _ = make_rows()
    embed = CollectionEmbedding(IN_WIDTHS, 8).eval()
    assert torch.equal(embed(x), embed(x, torch.zeros(40, dtype=torch.long)))


def test_a_collection_with_one_row_or_none_can_be_trained_with():
    x, collection = make_rows()
    embed = CollectionEmbedding(IN_WIDTHS, 8).train()
    for few in (torch.zeros_like(collection), (torch.arange(40) == 7).long()):
        found = embed(x, few)
        assert found.isfinite().all()
        found.sum().backward()
