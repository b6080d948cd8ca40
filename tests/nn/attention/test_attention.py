"""Attention against a loop over jets that writes every weight out."""

from __future__ import annotations

import itertools

import pytest
import torch

from pcloud.nn import RaggedLayout
from pcloud.nn.attention import attention as module
from pcloud.nn.attention import head_slots
from pcloud.nn.attention.attention import (
    ClassAttention,
    SelfAttention,
    attend,
    padding_bias,
)
from pcloud.nn.attention.head_slots import HeadSlots

pytestmark = pytest.mark.rounding

COUNTS = [1, 7, 0, 30, 2, 29, 18, 5]
HEADS, WIDTH = 3, 4


def layout_of(counts=COUNTS) -> RaggedLayout:
    return RaggedLayout.from_ptr(torch.tensor([0, *counts]).cumsum(0))


def slots_of(counts=COUNTS) -> HeadSlots:
    return HeadSlots.of(layout_of(counts), HEADS)


def inputs(slots: HeadSlots, seed: int = 0):
    """Queries, keys, values, and a bias without symmetry, -inf on padding."""
    torch.manual_seed(seed)
    layout = slots.layout
    qkv = torch.randn(layout.num_particles, 3, HEADS, WIDTH, dtype=torch.float64)
    bias = [
        torch.randn(len(padding), HEADS, padding.shape[3], padding.shape[3]).double() + padding
        for padding in padding_bias(qkv, layout)
    ]
    return qkv.requires_grad_(), [b.requires_grad_() for b in bias]


def explicit(qkv: torch.Tensor, slots: HeadSlots, bias) -> torch.Tensor:
    """Jet by jet and head by head."""
    out = torch.zeros(len(qkv), HEADS, WIDTH, dtype=qkv.dtype)
    for block, b in zip(slots.layout.blocks, bias, strict=True):
        for jet in range(len(block.jets)):
            own = block.index[jet][block.mask[jet]]
            n = len(own)
            for head in range(HEADS):
                q, k, v = qkv[own, :, head].unbind(1)
                logits = q @ k.T / WIDTH**0.5 + b[jet, head, :n, :n]
                out[own, head] = logits.softmax(-1) @ v
    return out.flatten(1)


def gradients(function, slots: HeadSlots):
    qkv, bias = inputs(slots)
    out = function(qkv, slots, bias)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return [qkv.grad, *(b.grad for b in bias)]


@pytest.fixture(params=["blocks", "plain"])
def attention(request, monkeypatch):
    """The two ways in which it is computed; the first in many blocks."""
    monkeypatch.setattr(head_slots, "_CPU_BLOCK_WEIGHTS", 3000)
    function = attend if request.param == "blocks" else module._plain_attention
    return lambda qkv, slots, bias: function(qkv, slots, bias, 0.0)


def test_attention_is_that_of_each_jet(attention):
    slots = slots_of()
    qkv, bias = inputs(slots)
    torch.testing.assert_close(attention(qkv, slots, bias), explicit(qkv, slots, bias))


def test_gradients_are_those_of_each_jet(attention):
    slots = slots_of()
    for ours, expected in zip(gradients(attention, slots), gradients(explicit, slots), strict=True):
        torch.testing.assert_close(ours, expected)


def test_a_jet_of_far_smaller_logits_keeps_its_weights():
    slots = slots_of([4, 4])
    qkv, bias = inputs(slots)
    with torch.no_grad():
        bias[0][0] -= 1e4
        bias[0][1, :, 2] -= 1e4
    torch.testing.assert_close(attend(qkv, slots, bias, 0.0), explicit(qkv, slots, bias))


def test_dropout_has_the_gradient_of_what_it_kept():
    def function(qkv, *bias):
        torch.manual_seed(1)
        return attend(qkv, slots, bias, 0.3)

    for counts in ([3, 3], [3, 2]):  # with -inf on padding there is no numerical gradient
        slots = slots_of(counts)
        qkv, bias = inputs(slots)
        padded = counts[0] > counts[1]
        bias = [b.detach() for b in bias] if padded else bias
        assert not torch.allclose(function(qkv, *bias), explicit(qkv, slots, bias))
        assert torch.autograd.gradcheck(function, (qkv, *bias), fast_mode=True)


def test_dropout_is_right_on_average():
    slots = slots_of([6])
    qkv, bias = inputs(slots)
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = torch.stack([attend(qkv, slots, bias, 0.2) for _ in range(1000)])
        expected = attend(qkv, slots, bias, 0.0)
    error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - expected) / error).abs().max() < 5


def test_without_bias_only_the_own_jet_is_seen():
    slots = slots_of()
    torch.manual_seed(0)
    attention = SelfAttention(12, HEADS)
    x = torch.randn(slots.layout.num_particles, 12)
    together = attention(x, slots, padding_bias(x, slots.layout))
    for start, stop in itertools.pairwise(slots.layout.ptr.tolist()):
        alone, own = slots_of([stop - start]), x[start:stop]
        expected = attention(own, alone, padding_bias(own, alone.layout))
        torch.testing.assert_close(together[start:stop], expected)


def test_half_precision_is_computed_in_single():
    slots = slots_of()
    qkv, bias = inputs(slots)
    exact = attend(qkv, slots, bias, 0.0)
    half = attend(qkv.bfloat16(), slots, [b.bfloat16() for b in bias], 0.0)
    assert half.dtype == torch.bfloat16
    assert (half - exact).abs().max() < 0.03


def test_the_class_token_attends_to_itself_and_the_particles_of_its_jet():
    layout = layout_of()
    torch.manual_seed(0)
    attention = ClassAttention(12, HEADS).double()
    torch.nn.init.normal_(attention.head_scale)
    query, token = torch.randn(2, len(COUNTS), 12).double()
    x = torch.randn(layout.num_particles, 12).double()
    reference = torch.nn.MultiheadAttention(12, HEADS, batch_first=True).double()
    reference.load_state_dict(
        {
            "in_proj_weight": attention.qkv.weight,
            "in_proj_bias": attention.qkv.bias,
            "out_proj.weight": attention.out.weight,
            "out_proj.bias": attention.out.bias,
        }
    )
    out = attention(query, token, x, layout)
    for jet in range(len(COUNTS)):
        seen = torch.cat([token[jet : jet + 1], x[layout.batch == jet]])
        expected, _ = reference(query[jet : jet + 1], seen, seen)
        expected = expected * attention.head_scale.repeat_interleave(12 // HEADS)
        torch.testing.assert_close(out[jet : jet + 1], expected)


def test_heads_share_the_channels_evenly():
    with pytest.raises(ValueError, match="10 channels cannot be divided among 4 heads"):
        SelfAttention(10, 4)
