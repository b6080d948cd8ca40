"""Gated messages between all pairs of particles of a jet, summed over the senders.

A jet of P particles has P (P - 1) messages, so this is where the time and the memory of a fully
connected graph network go. Here messages exist only for some thousand pairs at a time, which stay
in the cache, and nothing of them is kept for the backward pass: it computes them again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.numerics.derivatives import kernel_allowed, through_relu
from pcloud.nn.numerics.precision import product_dtype, without_autocast
from pcloud.nn.numerics.threaded_matmul import add_row_product, for_threads, row_product, totals
from pcloud.nn.pairs.blocks import PairBlocks, PairRows

__all__ = ["PairMessages", "messages"]

_LANES = 16  # numbers in a vector register: a compiled pass over other widths has slow ends


class PairMessages(nn.Module):
    """Messages ``m_ij = w_ij relu(W relu(z_ij) + b)`` with a gate ``w_ij``, and numbers from them.

    Parameters
    ----------
    channels : int
        Width of ``z_ij`` and of the messages.
    weigh : bool
        Whether there is a network ``phi_x`` that makes one number of every message.
    """

    def __init__(self, channels: int, *, weigh: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        self.phi_m = nn.Linear(channels, 1)
        self.phi_x = _phi_x(channels) if weigh else None

    def forward(
        self, receiver: Tensor, sender: Tensor, weight: Tensor, products: Tensor, pairs: PairBlocks
    ) -> tuple[Tensor, Tensor | None]:
        """Messages from ``z_ij = receiver_i + sender_j + e_ij @ weight``.

        Parameters
        ----------
        receiver, sender : Tensor, shape (N, C)
        weight : Tensor, shape (E, C)
        products : Tensor, shape (M, E)
            The features ``e_ij`` of the pairs.
        pairs : PairBlocks

        Returns
        -------
        Tensor, shape (N, C)
            Sum of the messages to each particle.
        Tensor, shape (M,), or None
            ``phi_x(m_ij)``, zero where there is no pair.
        """
        # The biases are weights of one more channel, which is 1 everywhere.
        receiver, sender = F.pad(receiver, (0, 1), value=1.0), F.pad(sender, (0, 1))
        weight, matrices = F.pad(weight, (0, 1)), self._matrices()
        with without_autocast(receiver):
            terms = pairs.gather(receiver), pairs.gather(sender), products, weight
            compute = messages if _fast(*terms) else plain_messages
            sums, numbers = compute(pairs, *terms, *matrices)
        return pairs.flatten(sums)[:, :-1], None if self.phi_x is None else numbers

    def _matrices(self) -> list[Tensor]:
        """Of the message (C + 1, C + 1), its gate (C + 1,), ``phi_x`` (C', C + 1) and (C',)."""
        gate = _with_bias(self.phi_m)
        one = F.pad(torch.zeros_like(self.phi_m.weight), (0, 1), value=1.0)
        matrices = [torch.cat([_with_bias(self.linear), one]), gate.squeeze(0)]
        if self.phi_x is None:
            matrices += [gate[:0], gate[:0, 0]]
        else:
            first, _, last = (cast(nn.Linear, layer) for layer in self.phi_x)
            matrices += [_with_bias(first), last.weight.squeeze(0)]
        dtype = product_dtype(self.phi_m.weight)
        return [matrix.to(dtype) for matrix in matrices]


def _phi_x(channels: int) -> nn.Sequential:
    last = nn.Linear(channels, 1, bias=False)
    nn.init.xavier_uniform_(last.weight, gain=1e-3)  # at first, nothing moves much
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), last)


def _with_bias(linear: nn.Linear) -> Tensor:
    return torch.cat([linear.weight, linear.bias.unsqueeze(-1)], dim=1)


@torch.compiler.disable  # compilation stops here, and the fast pass runs between its parts
def _fast(*tensors: Tensor) -> bool:
    return kernel_allowed(*tensors)


@torch.compiler.disable
def messages(
    pairs: PairBlocks, receiver: Tensor, sender: Tensor, products: Tensor, *weights: Tensor
) -> tuple[Tensor, Tensor]:
    """:func:`plain_messages`, faster and in little memory."""
    return _Messages.apply(pairs, torch.is_grad_enabled(), receiver, sender, products, *weights)


def plain_messages(
    pairs: PairBlocks,
    receiver: Tensor,
    sender: Tensor,
    products: Tensor,
    weight: Tensor,
    message: Tensor,
    gate: Tensor,
    first: Tensor,
    last: Tensor,
) -> tuple[Tensor, Tensor]:
    """Sums of messages (S, C + 1) and their numbers (M,), all pairs of a block at once.

    The last of the C + 1 channels is 1 in all but the sum, where it means nothing. Written for
    compilers: channels in whole vectors, rows as wide as they are, and all of a pair's terms in one
    product, where a sum would be fused with what made the terms, for each channel anew.
    """
    channels, spare, units = len(gate), -len(gate) % _LANES, -len(last) % _LANES
    receiver, sender, weight, gate = (
        F.pad(x, (0, spare)) for x in (receiver, sender, weight, gate)
    )
    message, first = F.pad(message, (0, spare, 0, spare)), F.pad(first, (0, spare, 0, units))
    last, ones = F.pad(last, (0, units)), F.pad(torch.ones_like(gate[:1]), (channels - 1, spare))

    sums, numbers = [receiver[:0]], [products[:0, 0]]
    blocks = pairs.by_block(receiver), pairs.by_block(sender)
    of_pairs = pairs.pairs_by_block(products), pairs.pairs_by_block(pairs.mask)
    for r, s, e, mask in zip(*blocks, *of_pairs, strict=True):
        # A receiver with every sender: [1, e_ij] @ [r_i, weight] + s_j
        factors = F.pad(e, (1, 0), value=1.0).flatten(0, 1)  # (b P, P, E + 1)
        terms = r.flatten(0, 1).unsqueeze(1), weight.expand(factors.shape[0], -1, -1)
        senders = s.unsqueeze(1).expand(-1, s.shape[1], -1, -1).flatten(0, 1)  # (b P, P, C + 1)
        z = torch.baddbmm(senders, factors, torch.cat(terms, dim=1))
        u = F.relu(F.relu(z.flatten(0, 1)).to(message.dtype) @ message.t())
        weights = (u @ gate).sigmoid() * mask.flatten()
        m = u * (weights.unsqueeze(-1) * (1 - ones)) + ones
        sums.append(m.view_as(z).sum(1, dtype=receiver.dtype))
        numbers.append((F.relu(m @ first.t()) @ last * mask.flatten()).to(products.dtype))
    return torch.cat(sums)[:, :channels], torch.cat(numbers)


class _Messages(torch.autograd.Function):
    """:func:`plain_messages`, chunk by chunk.

    For the backward pass a pair keeps its gate, its number and the signs in the hidden layer of
    ``phi_x``, 8 + C bytes; one matrix product gives the rest back. Memory is used again: a chunk is
    so small that every call counts.
    """

    @staticmethod
    def forward(ctx: Any, pairs: PairBlocks, keep: bool, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        work = _Work(pairs, *tensors)
        total, gates, numbers = (
            torch.empty_like(work.receiver),
            *work.gate.new_empty(2, pairs.num_pairs),
        )
        # Converting int8 to float is six times faster than bool to float.
        active = work.gate.new_empty(
            pairs.num_pairs, len(work.last) if keep else 0, dtype=torch.int8
        )
        if not work.has_phi_x:
            numbers.zero_()
            active.zero_()
        work.forward(total, numbers, gates, active if keep else None)
        ctx.pairs = pairs
        ctx.save_for_backward(numbers, gates, active, *tensors)
        return total, numbers.to(work.products.dtype)

    @staticmethod
    def backward(ctx: Any, d_total: Tensor, d_numbers: Tensor) -> tuple[Tensor | None, ...]:
        numbers, gates, active, *tensors = ctx.saved_tensors
        if torch.is_grad_enabled() or not kernel_allowed(d_total, d_numbers):
            needed = ctx.needs_input_grad[2:]
            return None, None, *_plain_gradients(ctx.pairs, tensors, needed, d_total, d_numbers)
        work = _Work(ctx.pairs, *tensors)
        d_numbers = (d_numbers * ctx.pairs.mask).to(gates.dtype)
        weighed = any(ctx.needs_input_grad[5:])  # not where only the inputs are asked about
        gradients = work.backward(d_total.contiguous(), d_numbers, numbers, gates, active, weighed)
        return None, None, *gradients


def _plain_gradients(
    pairs: PairBlocks,
    tensors: Sequence[Tensor],
    needed: Sequence[bool],
    d_total: Tensor,
    d_numbers: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients of the plain formula, which can be differentiated again and be transformed."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, because one tensor may be computed from another, as terms normalised over the pairs
        # are from the products: what comes through it would be counted a second time.
        tensors = [t.view_as(t) for t in tensors]
        wanted = [t for t, need in zip(tensors, needed, strict=True) if need]
        outputs = plain_messages(pairs, *tensors)
    upstream = d_total, d_numbers
    gradients = iter(torch.autograd.grad(outputs, wanted, upstream, create_graph=again))
    return tuple(next(gradients) if need else None for need in needed)


class _Work:
    """The passes over the chunks."""

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
        self.pairs, self.channels = pairs, receiver.shape[1]
        self.receiver, self.sender = receiver, sender
        self.products, self.weight = products, weight
        self.message, self.gate, self.has_phi_x = message, gate, len(last) > 0
        self.exact, self.low = receiver.dtype, message.dtype
        # One more unit of phi_x, which does nothing: its place is that of the gate's gradient.
        self.first, self.last = F.pad(first, (0, 0, 0, 1)), F.pad(last, (0, 1))
        # Products with a transposed view are slower.
        self.message_t = for_threads(message.t().contiguous(), pairs.threads)

    def ungated(self) -> Iterator[tuple[PairRows, PairRows]]:
        """Of every chunk ``relu(z)`` and the messages before the gate, (n, C + 1)."""
        pairs, channels = self.pairs, self.channels
        products, receiver = pairs.by_chunk(self.products), pairs.by_receivers(self.receiver)
        exact = pairs.scratch("z", channels, self.exact)
        low = pairs.scratch("z", channels, self.low)
        messages = pairs.scratch("u", channels, self.low)
        for k, (z, u) in enumerate(zip(exact, messages, strict=True)):
            for part, r, out in zip(pairs.chunks[k].parts, receiver[k], z.by_jet, strict=True):
                s = self.sender[part.senders].view(part.jets, 1, -1, channels)
                torch.add(r.view(part.jets, -1, 1, channels), s, out=out)
            z.all.addmm_(products[k], self.weight).relu_()
            if self.low != self.exact:
                low[k].all.copy_(z.all)
            row_product(low[k].split, self.message_t, u.split)
            u.all.relu_()
            yield low[k], u

    def forward(self, total: Tensor, numbers: Tensor, gates: Tensor, active: Tensor | None) -> None:
        """Fill in results, and what the backward pass will need."""
        pairs, first = self.pairs, for_threads(self.first.t().contiguous(), self.pairs.threads)
        mask, gate, number = map(pairs.by_chunk, (pairs.mask, gates, numbers))
        gate_rows, sums = pairs.by_part(gates.unsqueeze(0)), pairs.by_receivers(total)
        hidden = pairs.scratch("hidden", len(self.last), self.low)
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

    def backward(
        self,
        d_total: Tensor,
        d_numbers: Tensor,
        numbers: Tensor,
        gates: Tensor,
        active: Tensor,
        weighed: bool,
    ) -> tuple[Tensor | None, ...]:
        """Gradients with respect to all inputs, those of the weights where `weighed`."""
        pairs, channels, features = self.pairs, self.channels, len(self.weight)
        # What receiver and weight are multiplied with in z, and the sums over senders with these
        terms = torch.cat([self.products.new_ones(1, len(gates)), self.products.t()])
        d_terms = self.receiver.new_empty(len(self.receiver), 1 + features, channels)
        d_products, d_sender = torch.empty_like(terms[1:]), torch.zeros_like(self.sender)
        # Gate and phi_x are one matrix: the gradients of their outputs stand side by side.
        to_message = F.pad(self.first[:, :-1], (0, 1)) * self.last.unsqueeze(-1)
        to_message[-1] = self.gate
        bias = self.first[:, -1] * self.last
        d_both, d_message = (totals(m, pairs.threads) for m in (to_message, self.message))
        to_message, to_z = (for_threads(m, pairs.threads) for m in (to_message, self.message))
        safe, d_logits, closed = _above_zero(gates), torch.empty_like(gates), 1 - gates

        # Of every chunk; of every part of every chunk
        number, signs, d_logit, inverse = map(
            pairs.by_chunk, (numbers, active, d_logits, safe.reciprocal())
        )
        slope, d_open, d_scaled = map(
            pairs.by_chunk, (gates * closed, d_numbers * closed, (d_numbers * safe).unsqueeze(-1))
        )
        d_product = pairs.by_chunk(d_products, dim=1)
        gate_rows, d_rows, term_rows = map(
            pairs.by_part, (gates.unsqueeze(0), d_logits.unsqueeze(0), terms)
        )
        d_sums, d_receivers = map(pairs.by_receivers, (d_total.to(gates), d_terms))
        d_hidden = pairs.scratch("hidden", len(self.last), self.low)
        d_messages = pairs.scratch("d_u", channels, self.low)
        low = pairs.scratch("d_z", channels, self.low)
        exact = pairs.scratch("d_z", channels, self.exact)
        for k, (z, u) in enumerate(self.ungated()):
            # The logit of the gate acts on the message and, in an active unit of phi_x, which is
            # linear, on all but the bias of the number.
            for d_row, d_sum, message in zip(d_rows[k], d_sums[k], u.by_receiver, strict=True):
                torch.bmm(d_sum.unsqueeze(1), message.mT, out=d_row)
            both = d_hidden[k]
            both.all.copy_(signs[k])
            without_bias = torch.addmv(number[k], both.all, bias, alpha=-1)
            d_logit[k].mul_(slope[k]).addcmul_(without_bias, d_open[k])
            both.all.mul_(d_scaled[k])[:, -1] = d_logit[k]
            if weighed:
                u.all[:, -1] = inverse[k]
                add_row_product(d_both, both.split, u.split)

            d_u, d_z = d_messages[k], low[k]
            row_product(both.split, to_message, d_u.split)
            for d, row, d_sum in zip(d_u.by_receiver, gate_rows[k], d_sums[k], strict=True):
                d.baddbmm_(row.mT, d_sum.unsqueeze(1))
            through_relu(d_u.all, u.all, d_u.all)
            if weighed:
                add_row_product(d_message, d_u.split, z.split)
            row_product(d_u.split, to_z, d_z.split)
            through_relu(d_z.all, z.all, d_z.all)

            d_z = exact[k]
            if self.low != self.exact:
                d_z.all.copy_(low[k].all)
            torch.mm(self.weight, d_z.all.t(), out=d_product[k])
            for row, d, out in zip(term_rows[k], d_z.by_receiver, d_receivers[k], strict=True):
                torch.bmm(row, d, out=out)
            for part, d in zip(pairs.chunks[k].parts, d_z.by_jet, strict=True):
                d_sender[part.senders].view(part.jets, -1, channels).add_(d.sum(1))
        inputs = d_terms[:, 0], d_sender, d_products.t()
        if not weighed:
            return *inputs, None, None, None, None, None
        d_first, d_gate = d_both.sum(0).tensor_split([-1])
        d_gate[0, -1] = d_logits.sum()
        d_last = (self.first[:-1] * d_first).sum(1)
        d_first = d_first * self.last[:-1].unsqueeze(-1)
        d_weight = d_terms[:, 1:].sum(0)
        return *inputs, d_weight, d_message.sum(0), d_gate.squeeze(0), d_first, d_last


def _above_zero(gate: Tensor) -> Tensor:
    """The gate, but so large that one can divide by it; the difference is that of rounding."""
    return gate.clamp(min=torch.finfo(gate.dtype).eps)
