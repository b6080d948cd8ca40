"""Messages in chunks against the same messages written plainly."""

from __future__ import annotations

import pytest
import torch

from pcloud.nn import RaggedLayout
from pcloud.nn import pair_blocks as blocks_module
from pcloud.nn.pair_blocks import pair_blocks
from pcloud.nn.pair_messages import PairMessages, messages_of_block, plain_messages

COUNTS = [7, 6, 6, 1]


def arguments(weigh=True, channels=5, counts=COUNTS, dtype=torch.float64):
    """One block of jets of similar length, and what the messages are made of."""
    torch.manual_seed(0)
    layout = RaggedLayout.from_ptr(torch.tensor([0, *counts]).cumsum(0))
    (block,) = pair_blocks(layout)
    b, p = block.block.mask.shape
    layer = PairMessages(channels, weigh=weigh).to(dtype)
    receiver, sender = torch.randn(2, b, p, channels + 1, dtype=dtype)
    receiver[..., -1], sender[..., -1] = 1, 0
    weight = torch.nn.functional.pad(torch.randn(2, channels, dtype=dtype), (0, 1))
    pairs = torch.randn(b, p, p, 2, dtype=dtype) * block.mask.unsqueeze(-1)
    tensors = [receiver, sender, pairs, weight, *(10 * w.detach() for w in layer._matrices())]
    tensors[4] = tensors[4] / 10  # has the row that keeps the channel of ones
    return block, [t.requires_grad_() for t in tensors]


def real(block, outputs):
    """Sums of messages to particles without the last channel, and numbers, as one vector."""
    total, numbers = outputs
    flat = total[block.block.mask][:, :-1].flatten()
    return torch.cat([flat, numbers[block.mask]])


@pytest.mark.parametrize("limit", [1, 5, 40, 80, 10_000])
def test_chunks_hold_every_pair_once(monkeypatch, limit):
    monkeypatch.setattr(blocks_module, "_PAIRS_CPU", limit)
    layout = RaggedLayout.from_ptr(torch.tensor([0, 2, 40, 0, 37, 5, 1]).cumsum(0))
    for block in pair_blocks(layout):
        number = torch.arange(block.mask.numel()).view(block.mask.shape)
        assert torch.equal(torch.cat(block.by_pair(number)), number.flatten())
        jets = block.by_jet(number)
        for pairs, receivers, of_jets in zip(
            block.by_pair(number), block.by_receiver(number), jets, strict=True
        ):
            assert torch.equal(receivers.flatten(), pairs)
            assert torch.isin(pairs, of_jets).all()


def test_pairs_are_of_different_particles_of_one_jet():
    layout = RaggedLayout.from_ptr(torch.tensor([0, *COUNTS]).cumsum(0))
    pairs = sum(int(block.mask.sum()) for block in pair_blocks(layout))
    assert pairs == sum(n * (n - 1) for n in COUNTS)


@pytest.mark.parametrize("weigh", [True, False])
@pytest.mark.parametrize("limit", [5, 80, 10_000])
def test_messages_in_chunks_are_those_written_plainly(monkeypatch, limit, weigh):
    monkeypatch.setattr(blocks_module, "_PAIRS_CPU", limit)
    block, tensors = arguments(weigh)
    ours = real(block, messages_of_block(block, *tensors))
    plain = real(block, plain_messages(block.mask, *tensors))
    torch.testing.assert_close(ours, plain)
    with torch.no_grad():
        assert torch.equal(real(block, messages_of_block(block, *tensors)), ours)

    upstream = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, tensors, upstream),
        torch.autograd.grad(plain, tensors, upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("weigh", [True, False])
def test_gradients_are_those_of_finite_differences(weigh):
    block, tensors = arguments(weigh, channels=2, counts=[3, 2])
    free = [t for t in tensors if t is not tensors[4] and t.numel()]
    rest = [t for t in tensors if not t.numel()]

    def function(*values):
        values = [*values[:4], tensors[4], *values[4:], *rest]
        return real(block, messages_of_block(block, *values))

    assert torch.autograd.gradcheck(function, free)
    assert torch.autograd.gradgradcheck(function, free)


def test_parameters_that_are_frozen_get_no_gradient():
    block, tensors = arguments()
    tensors[5].requires_grad_(False)
    total, _ = messages_of_block(block, *tensors)
    wanted = [t for t in tensors if t.requires_grad]
    gradients = torch.autograd.grad(total.sum(), wanted, create_graph=True)
    plain = torch.autograd.grad(
        plain_messages(block.mask, *tensors)[0].sum(), wanted, materialize_grads=True
    )
    for a, b in zip(gradients, plain, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("weigh", [True, False])
def test_gradients_of_the_inputs_alone_are_the_same(weigh):
    block, tensors = arguments(weigh)
    wanted = tensors[:3]
    outputs = real(block, messages_of_block(block, *tensors))
    both = torch.autograd.grad(outputs.square().sum(), wanted)
    for weight in tensors[3:]:
        weight.requires_grad_(False)
    outputs = real(block, messages_of_block(block, *tensors))
    for a, b in zip(torch.autograd.grad(outputs.square().sum(), wanted), both, strict=True):
        assert torch.equal(a, b)


def test_half_precision_messages_and_gradients_are_close():
    block, tensors = arguments(dtype=torch.float32)
    low = [*tensors[:4], *(t.bfloat16() for t in tensors[4:])]
    exact, coarse = (real(block, messages_of_block(block, *t)) for t in (tensors, low))
    assert coarse.dtype == torch.float32
    assert (coarse - exact).abs().max() < 0.03 * exact.abs().max()
    upstream = torch.randn_like(exact)
    for a, b in zip(
        torch.autograd.grad(coarse, tensors, upstream),
        torch.autograd.grad(exact, tensors, upstream),
        strict=True,
    ):
        assert (a - b).norm() < 0.1 * b.norm()
