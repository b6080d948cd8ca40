"""Kernel of :class:`~pcloud.nn.pairs.messages.PairMessages`.

A jet of P particles has P (P - 1) messages, so most of the time and memory of a fully connected
graph network is spent here. The kernel computes the messages of some thousand pairs at a time,
which fit into the cache. Messages are not stored for the backward pass, but computed again.

Notation: ``z`` is the pre-activation of a pair, ``h = relu(z)`` its hidden layer,
``u = relu(W h + b)`` the message before the gate, ``g = sigmoid(gate . u)`` the gate, ``m = g u``
the message and ``phi_x(m)`` the number computed from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pcloud.nn.numerics.derivatives import kernel_allowed, through_relu
from pcloud.nn.numerics.threaded_matmul import add_row_product, for_threads, row_product, totals
from pcloud.nn.pairs.blocks import PairBlocks, PairRows

__all__ = ["messages"]

Formula = Callable[..., tuple[Tensor, Tensor]]
"""Function with the arguments and results of :func:`~pcloud.nn.pairs.messages.plain_messages`."""


@torch.compiler.disable
def messages(
    formula: Formula,
    pairs: PairBlocks,
    receiver: Tensor,
    sender: Tensor,
    products: Tensor,
    *weights: Tensor,
) -> tuple[Tensor, Tensor]:
    """Compute `formula` chunk by chunk, in less time and memory.

    Derivatives of higher order are those of `formula`, the plain formula.
    """
    store = torch.is_grad_enabled()
    return _Messages.apply(formula, pairs, store, receiver, sender, products, *weights)


class _Messages(torch.autograd.Function):
    """Messages chunk by chunk.

    For the backward pass each pair stores its gate, its number and the signs of the hidden layer of
    ``phi_x``, that is 8 + C bytes. The other quantities are computed again with one matrix product.
    Buffers are reused: a chunk is so small that the overhead of each call matters.
    """

    @staticmethod
    def forward(
        ctx: Any, formula: Formula, pairs: PairBlocks, store: bool, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        work = _Work(pairs, *tensors)
        total = torch.empty_like(work.receiver)
        gates, numbers = work.gate.new_empty(2, pairs.num_pairs)
        # The conversion of int8 to float is six times faster than that of bool.
        active = work.gate.new_empty(
            pairs.num_pairs, len(work.last) if store else 0, dtype=torch.int8
        )
        if not work.has_phi_x:
            numbers.zero_()
            active.zero_()
        work.forward(total, numbers, gates, active if store else None)
        ctx.formula = formula
        ctx.pairs = pairs
        ctx.save_for_backward(numbers, gates, active, *tensors)
        return total, numbers.to(work.products.dtype)

    @staticmethod
    def backward(ctx: Any, d_total: Tensor, d_numbers: Tensor) -> tuple[Tensor | None, ...]:
        numbers, gates, active, *tensors = ctx.saved_tensors
        needed = ctx.needs_input_grad[3:]
        # Gradients are enabled if backward is itself differentiated (create_graph=True).
        if torch.is_grad_enabled() or not kernel_allowed(d_total, d_numbers):
            upstream = d_total, d_numbers
            return (
                None,
                None,
                None,
                *_plain_gradients(ctx.formula, ctx.pairs, tensors, needed, upstream),
            )
        work = _Work(ctx.pairs, *tensors)
        backward = _Backward(work, d_total, d_numbers, numbers, gates, active)
        return None, None, None, *backward.gradients(needs_weights=any(needed[3:]))


def _plain_gradients(
    formula: Formula,
    pairs: PairBlocks,
    tensors: Sequence[Tensor],
    needed: Sequence[bool],
    upstream: tuple[Tensor, Tensor],
) -> tuple[Tensor | None, ...]:
    """Gradients of the plain formula, which can be differentiated again and transformed."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        # One tensor can be computed from another: terms that are normalised over the pairs depend
        # on the products. With views, this dependence is not counted twice.
        tensors = [t.view_as(t) for t in tensors]
        wanted = [t for t, need in zip(tensors, needed, strict=True) if need]
        outputs = formula(pairs, *tensors)
    gradients = iter(torch.autograd.grad(outputs, wanted, upstream, create_graph=differentiable))
    return tuple(next(gradients) if need else None for need in needed)


class _Work:
    """Inputs of the messages, and the forward pass over the chunks."""

    def __init__(
        self,
        pairs: PairBlocks,
        receiver: Tensor,
        sender: Tensor,
        products: Tensor,
        weight: Tensor,
        message: Tensor,
        gate: Tensor,
        first: Tensor,
        last: Tensor,
    ) -> None:
        self.pairs = pairs
        self.channels = receiver.shape[1]
        self.receiver = receiver
        self.sender = sender
        self.products = products
        self.weight = weight
        self.message = message
        self.gate = gate
        self.has_phi_x = len(last) > 0
        self.exact_dtype = receiver.dtype
        self.matrix_dtype = message.dtype
        # One more unit of phi_x without effect: its column is used for the gradient of the gate.
        self.first = F.pad(first, (0, 0, 0, 1))
        self.last = F.pad(last, (0, 1))
        # Products with a transposed view are slower.
        self.message_t = for_threads(message.t().contiguous(), pairs.threads)

    def ungated(self) -> Iterator[tuple[PairRows, PairRows]]:
        """``h`` and ``u`` of each chunk, shape (n, C + 1)."""
        pairs = self.pairs
        channels = self.channels
        products = pairs.by_chunk(self.products)
        receiver = pairs.by_receivers(self.receiver)
        exact = pairs.scratch("z", channels, self.exact_dtype)
        low = pairs.scratch("z", channels, self.matrix_dtype)
        ungated = pairs.scratch("u", channels, self.matrix_dtype)
        for k, (z, u) in enumerate(zip(exact, ungated, strict=True)):
            for part, r, out in zip(pairs.chunks[k].parts, receiver[k], z.by_jet, strict=True):
                s = self.sender[part.senders].view(part.jets, 1, -1, channels)
                torch.add(r.view(part.jets, -1, 1, channels), s, out=out)
            z.all.addmm_(products[k], self.weight).relu_()
            if self.matrix_dtype != self.exact_dtype:
                low[k].all.copy_(z.all)
            row_product(low[k].split, self.message_t, u.split)
            u.all.relu_()
            yield low[k], u

    def forward(self, total: Tensor, numbers: Tensor, gates: Tensor, active: Tensor | None) -> None:
        """Write the sums of messages, their numbers, and what the backward pass needs."""
        pairs = self.pairs
        first = for_threads(self.first.t().contiguous(), pairs.threads)
        mask, gate, number = map(pairs.by_chunk, (pairs.mask, gates, numbers))
        gate_rows = pairs.by_part(gates.unsqueeze(0))
        sums = pairs.by_receivers(total)
        hidden = pairs.scratch("hidden", len(self.last), self.matrix_dtype)
        signs = None if active is None else pairs.by_chunk(active)
        for k, (_, u) in enumerate(self.ungated()):
            torch.mv(u.all, self.gate, out=gate[k]).sigmoid_().mul_(mask[k])
            for row, message, out in zip(gate_rows[k], u.by_receiver, sums[k], strict=True):
                out.unsqueeze(1).copy_(row @ message)
            if not self.has_phi_x:
                continue
            # relu(W g u + b) = g relu(W u + b / g)
            torch.reciprocal(_above_zero(gate[k]), out=u.all[:, -1])
            row_product(u.split, first, hidden[k].split)
            torch.mv(hidden[k].all.relu_(), self.last, out=number[k])
            if signs is not None:
                signs[k].copy_(hidden[k].all.sign_())
        numbers.mul_(_above_zero(gates)).mul_(pairs.mask)


class _Backward:
    """Backward pass over the chunks, with one method for each gradient.

    The gate and ``phi_x`` are treated as one matrix: the gradients of the hidden layer of ``phi_x``
    and, in the last column, of the logit of the gate form ``d_outputs``.
    """

    def __init__(
        self,
        work: _Work,
        d_total: Tensor,
        d_numbers: Tensor,
        numbers: Tensor,
        gates: Tensor,
        active: Tensor,
    ) -> None:
        self.work = work
        self.pairs = pairs = work.pairs
        matrix = F.pad(work.first[:, :-1], (0, 1)) * work.last.unsqueeze(-1)
        matrix[-1] = work.gate
        self.phi_x_bias = work.first[:, -1] * work.last
        self.to_message = for_threads(matrix, pairs.threads)
        self.to_hidden = for_threads(work.message, pairs.threads)

        # Results
        self.d_logits = torch.empty_like(gates)
        self.d_outputs_matrix = totals(matrix, pairs.threads)
        self.d_message = totals(work.message, pairs.threads)
        # z is the sum of products of these terms with the receiver and with the weights
        terms = torch.cat([work.products.new_ones(1, len(gates)), work.products.t()])
        self.d_products = torch.empty_like(terms[1:])
        self.d_terms = work.receiver.new_empty(len(work.receiver), len(terms), work.channels)
        self.d_sender = torch.zeros_like(work.sender)

        # Views of each chunk, and of each part of each chunk
        d_total = d_total.contiguous().to(gates)
        d_numbers = (d_numbers * pairs.mask).to(gates.dtype)
        positive_gates = _above_zero(gates)
        closed = 1 - gates
        self.number = pairs.by_chunk(numbers)
        self.signs = pairs.by_chunk(active)
        self.d_logit = pairs.by_chunk(self.d_logits)
        self.inverse_gate = pairs.by_chunk(positive_gates.reciprocal())
        self.gate_slope = pairs.by_chunk(gates * closed)
        self.d_number_closed = pairs.by_chunk(d_numbers * closed)
        self.d_number_gated = pairs.by_chunk((d_numbers * positive_gates).unsqueeze(-1))
        self.d_product = pairs.by_chunk(self.d_products, dim=1)
        self.gate_rows = pairs.by_part(gates.unsqueeze(0))
        self.d_logit_rows = pairs.by_part(self.d_logits.unsqueeze(0))
        self.term_rows = pairs.by_part(terms)
        self.d_sums = pairs.by_receivers(d_total)
        self.d_receivers = pairs.by_receivers(self.d_terms)

        # Buffers
        self.d_outputs = pairs.scratch("hidden", len(work.last), work.matrix_dtype)
        self.d_u = pairs.scratch("d_u", work.channels, work.matrix_dtype)
        self.d_z_low = pairs.scratch("d_z", work.channels, work.matrix_dtype)
        self.d_z_exact = pairs.scratch("d_z", work.channels, work.exact_dtype)

    def gradients(self, needs_weights: bool) -> tuple[Tensor | None, ...]:
        """Gradients of all inputs; None for the weights if `needs_weights` is False."""
        for k, (h, u) in enumerate(self.work.ungated()):
            d_outputs = self._output_gradient(k, u)
            if needs_weights:
                u.all[:, -1] = self.inverse_gate[k]
                add_row_product(self.d_outputs_matrix, d_outputs.split, u.split)
            d_u = self._message_gradient(k, u, d_outputs)
            if needs_weights:
                add_row_product(self.d_message, d_u.split, h.split)
            self._add_term_gradients(k, self._hidden_gradient(k, h, d_u))
        inputs = self.d_terms[:, 0], self.d_sender, self.d_products.t()
        if not needs_weights:
            return *inputs, None, None, None, None, None
        return *inputs, *self._weight_gradients()

    def _output_gradient(self, k: int, u: PairRows) -> PairRows:
        """Gradients of the hidden layer of ``phi_x`` and of the logit of the gate.

        The logit acts on the message. It also acts on the number: an active unit of ``phi_x`` is
        linear in the gate, except for its bias.
        """
        rows = zip(self.d_logit_rows[k], self.d_sums[k], u.by_receiver, strict=True)
        for d_row, d_sum, message in rows:
            torch.bmm(d_sum.unsqueeze(1), message.mT, out=d_row)
        d_outputs = self.d_outputs[k]
        d_outputs.all.copy_(self.signs[k])
        without_bias = torch.addmv(self.number[k], d_outputs.all, self.phi_x_bias, alpha=-1)
        d_logit = self.d_logit[k]
        d_logit.mul_(self.gate_slope[k]).addcmul_(without_bias, self.d_number_closed[k])
        d_outputs.all.mul_(self.d_number_gated[k])[:, -1] = d_logit
        return d_outputs

    def _message_gradient(self, k: int, u: PairRows, d_outputs: PairRows) -> PairRows:
        """Gradient of ``W h + b``."""
        d_u = self.d_u[k]
        row_product(d_outputs.split, self.to_message, d_u.split)
        for d, row, d_sum in zip(d_u.by_receiver, self.gate_rows[k], self.d_sums[k], strict=True):
            d.baddbmm_(row.mT, d_sum.unsqueeze(1))
        through_relu(d_u.all, u.all, d_u.all)
        return d_u

    def _hidden_gradient(self, k: int, h: PairRows, d_u: PairRows) -> PairRows:
        """Gradient of ``z``."""
        d_z = self.d_z_low[k]
        row_product(d_u.split, self.to_hidden, d_z.split)
        through_relu(d_z.all, h.all, d_z.all)
        if self.work.matrix_dtype != self.work.exact_dtype:
            self.d_z_exact[k].all.copy_(d_z.all)
        return self.d_z_exact[k]

    def _add_term_gradients(self, k: int, d_z: PairRows) -> None:
        """Gradients of the terms of ``z``: products, receivers with weights, and senders."""
        torch.mm(self.work.weight, d_z.all.t(), out=self.d_product[k])
        rows = zip(self.term_rows[k], d_z.by_receiver, self.d_receivers[k], strict=True)
        for row, d, out in rows:
            torch.bmm(row, d, out=out)
        for part, d in zip(self.pairs.chunks[k].parts, d_z.by_jet, strict=True):
            d_sender = self.d_sender[part.senders].view(part.jets, -1, self.work.channels)
            d_sender.add_(d.sum(1))

    def _weight_gradients(self) -> tuple[Tensor, ...]:
        """Gradients of ``weight, message, gate, first, last``, summed over the chunks."""
        d_first, d_gate = self.d_outputs_matrix.sum(0).tensor_split([-1])
        d_gate[0, -1] = self.d_logits.sum()
        d_last = (self.work.first[:-1] * d_first).sum(1)
        d_first = d_first * self.work.last[:-1].unsqueeze(-1)
        d_weight = self.d_terms[:, 1:].sum(0)
        return d_weight, self.d_message.sum(0), d_gate.squeeze(0), d_first, d_last


def _above_zero(gate: Tensor) -> Tensor:
    """Gate with a lower bound of the rounding error, so that one can divide by it."""
    return gate.clamp(min=torch.finfo(gate.dtype).eps)
