"""The ragged layout: every particle in exactly one slot, whatever the lengths."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcloud.nn import RaggedLayout


def layout_of(counts: list[int]) -> RaggedLayout:
    return RaggedLayout.from_ptr(torch.tensor([0, *counts]).cumsum(0))


@given(st.lists(st.integers(0, 130), min_size=1, max_size=60))
def test_dense_blocks_hold_every_particle_once(counts):
    layout = layout_of(counts)
    held = torch.cat(
        [block.index[block.mask] for block in layout.blocks] or [torch.empty(0).long()]
    )
    assert held.sort().values.tolist() == list(range(sum(counts)))
    for block in layout.blocks:
        assert block.full == bool(block.mask.all())
        assert (layout.batch[block.index] == block.jets[:, None]).all()  # padding stays in its jet


@given(st.lists(st.integers(0, 130), min_size=1, max_size=60))
def test_flatten_undoes_gather(counts):
    layout = layout_of(counts)
    x = torch.arange(sum(counts))
    if layout.blocks:
        assert torch.equal(layout.flatten(list(layout.gather(x))), x)


def test_layout_from_batch_is_that_from_ptr():
    batch = torch.tensor([0, 0, 2, 2, 2, 3])  # jet 1 is empty
    layout = RaggedLayout.from_batch(batch)
    assert layout.counts.tolist() == [2, 0, 3, 1]
    assert torch.equal(layout.batch, batch)
    assert layout.ptr.tolist() == [0, 2, 2, 5, 6]
    assert RaggedLayout.from_batch(batch, num_jets=6).counts.tolist() == [2, 0, 3, 1, 0, 0]


def test_an_unsorted_batch_is_refused():
    with pytest.raises(ValueError, match="sorted"):
        RaggedLayout.from_batch(torch.tensor([0, 1, 0]))
    with pytest.raises(ValueError, match="jet 2, but there are 2"):
        RaggedLayout.from_batch(torch.tensor([0, 2]), num_jets=2)


def test_little_is_computed_on_padding():
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(10, 120, (512,), generator=generator).tolist()
    layout = layout_of(counts)
    pairs = sum(block.mask.shape[1] * block.mask.numel() for block in layout.blocks)
    assert pairs < 1.35 * sum(n * n for n in counts)
    assert len(layout.blocks) < 20


def test_layout_moves_as_a_whole():
    layout = layout_of([3, 20, 1]).to("meta")
    assert layout.position.is_meta
    assert layout.blocks[0].mask.is_meta


def test_padded_rows_belong_to_a_jet_beyond_the_last():
    counts = torch.tensor([2, 0, 3])
    layout = RaggedLayout.of_padded(counts, 4, empty=2)
    assert layout.batch.tolist() == [0, 0, 3, 3, 3, 3, 3, 3, 2, 2, 2, 3]
    assert layout.counts.tolist() == [2, 0, 3, 7]
    (block,) = layout.blocks
    assert block.mask.shape == (3, 4)
    assert layout.spare_slots == 2
    assert block.mask.sum(1).tolist() == counts.tolist()
    x = torch.arange(12.0)
    dense = block.gather(x)
    assert torch.equal(dense[block.mask], x[layout.batch < 3])
    assert layout.flatten([torch.arange(12).view(3, 4)]).tolist() == list(range(12))
