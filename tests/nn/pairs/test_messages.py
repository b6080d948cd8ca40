"""Messages in chunks against the same messages written plainly."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from pcloud.nn import RaggedLayout
from pcloud.nn.numerics.derivatives import higher_derivatives
from pcloud.nn.pairs import blocks as blocks_module
from pcloud.nn.pairs import messages_kernel
from pcloud.nn.pairs.blocks import PairBlocks
from pcloud.nn.pairs.messages import PairMessages, plain_messages

pytestmark = pytest.mark.rounding

messages = partial(messages_kernel.messages, plain_messages)

COUNTS = [40, 7, 6, 6, 1, 30]


def layout_of(counts):
    return RaggedLayout.from_ptr(torch.tensor([0, *counts]).cumsum(0))


def arguments(weigh=True, channels=5, counts=COUNTS, dtype=torch.float64):
    """Pairs of jets, and what the messages are made of."""
    torch.manual_seed(0)
    pairs = PairBlocks.of(layout_of(counts))
    layer = PairMessages(channels, weigh=weigh).to(dtype)
    receiver, sender = torch.randn(2, len(pairs.source), channels + 1, dtype=dtype)
    receiver[..., -1], sender[..., -1] = 1, 0
    weight = torch.nn.functional.pad(torch.randn(2, channels, dtype=dtype), (0, 1))
    products = torch.randn(pairs.num_pairs, 2, dtype=dtype) * pairs.mask.unsqueeze(-1)
    tensors = [receiver, sender, products, weight, *(10 * w.detach() for w in layer._matrices())]
    tensors[4] = tensors[4] / 10  # has the row that keeps the channel of ones
    return pairs, [t.requires_grad_() for t in tensors]


def real(pairs, outputs):
    """Sums of messages to particles without the last channel, and numbers, as one vector."""
    total, numbers = outputs
    return torch.cat([pairs.flatten(total)[:, :-1].flatten(), numbers[pairs.mask]])


@pytest.mark.parametrize("limit", [1, 5, 40, 80, 10_000])
def test_chunks_hold_every_pair_once(monkeypatch, limit):
    monkeypatch.setattr(blocks_module, "_CPU_CHUNK_PAIRS", limit)
    counts = [2, 40, 0, 37, 5, 1, 40, 40, 17]
    pairs = PairBlocks.of(layout_of(counts))
    jet = pairs.layout.batch[pairs.source]
    slots = torch.arange(len(pairs.source))
    found, receivers = [], pairs.by_receivers(slots)
    for chunk, of_parts in zip(pairs.chunks, receivers, strict=True):
        before = len(found)
        for part, receiver in zip(chunk.parts, of_parts, strict=True):
            i = receiver.view(part.jets, -1, 1).expand(part.shape)
            j = slots[part.senders].view(part.jets, 1, -1).expand(part.shape)
            found.append(torch.stack([i.flatten(), j.flatten()], 1))
            assert part.pairs == i.numel()
        assert sum(map(len, found[before:])) == chunk.pairs <= max(limit, max(counts))
    i, j = torch.cat(found).t()
    assert len(i) == pairs.num_pairs
    assert torch.equal(jet[i], jet[j])
    both = torch.stack([pairs.source[i], pairs.source[j]], 1)[pairs.mask]
    assert len(both.unique(dim=0)) == len(both) == sum(n * (n - 1) for n in counts)


def test_jets_of_one_length_are_worked_on_together():
    pairs = PairBlocks.of(layout_of([20] * 3 + [30] * 2))
    assert [part.shape for chunk in pairs.chunks for part in chunk.parts] == [
        (2, 30, 30),
        (3, 20, 20),
    ]
    assert pairs.num_pairs == 3 * 400 + 2 * 900  # no padding


@pytest.mark.parametrize("weigh", [True, False])
@pytest.mark.parametrize("limit", [5, 80, 10_000])
def test_messages_in_chunks_are_those_written_plainly(monkeypatch, limit, weigh):
    monkeypatch.setattr(blocks_module, "_CPU_CHUNK_PAIRS", limit)
    pairs, tensors = arguments(weigh)
    ours = real(pairs, messages(pairs, *tensors))
    plain = real(pairs, plain_messages(pairs, *tensors))
    torch.testing.assert_close(ours, plain)
    with torch.no_grad():
        assert torch.equal(real(pairs, messages(pairs, *tensors)), ours)

    upstream = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, tensors, upstream),
        torch.autograd.grad(plain, tensors, upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("weigh", [True, False])
def test_gradients_are_those_of_finite_differences(weigh):
    pairs, tensors = arguments(weigh, channels=2, counts=[3, 2])
    free = [t for t in tensors if t is not tensors[4] and t.numel()]
    rest = [t for t in tensors if not t.numel()]

    def function(*values):
        values = [*values[:4], tensors[4], *values[4:], *rest]
        return real(pairs, messages(pairs, *values))

    assert torch.autograd.gradcheck(function, free)
    assert torch.autograd.gradgradcheck(function, free)


def test_terms_computed_from_the_products_are_not_counted_twice():
    pairs, tensors = arguments()
    receiver, sender, products, *rest = (t.detach().requires_grad_() for t in tensors)
    receiver = receiver * products.std()
    gradients = [
        torch.autograd.grad(
            real(pairs, function(pairs, receiver, sender, products, *rest)).sum(),
            products,
            create_graph=again,
            retain_graph=True,
        )[0]
        for function in (messages, plain_messages)
        for again in (False, True)
    ]
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0])


def test_parameters_that_are_frozen_get_no_gradient():
    pairs, tensors = arguments()
    tensors[5].requires_grad_(False)
    total, _ = messages(pairs, *tensors)
    wanted = [t for t in tensors if t.requires_grad]
    gradients = torch.autograd.grad(total.sum(), wanted, create_graph=True)
    plain = torch.autograd.grad(
        plain_messages(pairs, *tensors)[0].sum(), wanted, materialize_grads=True
    )
    for a, b in zip(gradients, plain, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("weigh", [True, False])
def test_gradients_of_the_inputs_alone_are_the_same(weigh):
    pairs, tensors = arguments(weigh)
    wanted = tensors[:3]
    outputs = real(pairs, messages(pairs, *tensors))
    both = torch.autograd.grad(outputs.square().sum(), wanted)
    for weight in tensors[3:]:
        weight.requires_grad_(False)
    outputs = real(pairs, messages(pairs, *tensors))
    for a, b in zip(torch.autograd.grad(outputs.square().sum(), wanted), both, strict=True):
        assert torch.equal(a, b)


def test_half_precision_messages_and_gradients_are_close():
    pairs, tensors = arguments(dtype=torch.float32)
    low = [*tensors[:4], *(t.bfloat16() for t in tensors[4:])]
    exact, coarse = (real(pairs, messages(pairs, *t)) for t in (tensors, low))
    assert coarse.dtype == torch.float32
    assert (coarse - exact).abs().max() < 0.03 * exact.abs().max()
    upstream = torch.randn_like(exact)
    for a, b in zip(
        torch.autograd.grad(coarse, tensors, upstream),
        torch.autograd.grad(exact, tensors, upstream),
        strict=True,
    ):
        assert (a - b).norm() < 0.1 * b.norm()


@pytest.mark.parametrize("weigh", [True, False])
def test_the_layer_gives_the_same_by_its_plain_formula(weigh):
    torch.manual_seed(0)
    layout = layout_of(COUNTS)
    pairs, layer = PairBlocks.of(layout), PairMessages(5, weigh=weigh).double()
    if weigh:
        torch.nn.init.normal_(layer.phi_x[-1].weight)
    receiver, sender = torch.randn(2, layout.num_particles, 5, dtype=torch.float64)
    weight = torch.randn(2, 5, dtype=torch.float64)
    products = torch.randn(pairs.num_pairs, 2, dtype=torch.float64)
    arguments = receiver, sender, weight, products, pairs
    ours = layer(*arguments)
    with higher_derivatives():
        plain = layer(*arguments)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b)
        assert a is None or a.abs().max() > 0.1


def test_the_number_of_threads_may_change_before_the_gradients_are_asked_for():
    before = torch.get_num_threads()
    layout, layer = layout_of(COUNTS), PairMessages(5).double()
    receiver, sender = torch.randn(2, layout.num_particles, 5, dtype=torch.float64)
    weight, found = torch.randn(2, 5, dtype=torch.float64), []
    receiver.requires_grad_()
    products = torch.randn(PairBlocks.of(layout).num_pairs, 2, dtype=torch.float64)
    try:
        for threads in ((1, 1), (2, 1), (1, 2)):
            torch.set_num_threads(threads[0])
            sums, numbers = layer(receiver, sender, weight, products, PairBlocks.of(layout))
            torch.set_num_threads(threads[1])
            wanted = [receiver, *layer.parameters()]
            found.append(torch.autograd.grad(sums.square().sum() + numbers.sum(), wanted))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])
