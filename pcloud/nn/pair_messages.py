"""Gated messages between all pairs of particles of a jet, summed over the senders.

A jet of P particles has P (P - 1) messages, so this is where the time and the memory of a fully
connected graph network go. Here messages exist only for some thousand pairs at a time, which stay
in the cache, and nothing of them is kept for the backward pass: it computes them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.pair_blocks import Chunk, PairBlocks, Part
from pcloud.nn.precision import product_dtype, without_autocast
from pcloud.nn.row_products import add_row_product, row_product

__all__ = ["PairMessages", "messages"]


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
        self.gate = nn.Linear(channels, 1)
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
            sums, numbers = messages(pairs, *terms, *matrices)
        return pairs.flatten(sums)[:, :-1], None if self.phi_x is None else numbers

    def _matrices(self) -> list[Tensor]:
        """Of the message (C + 1, C + 1), its gate (C + 1,), ``phi_x`` (C', C + 1) and (C',)."""
        gate = _with_bias(self.gate)
        one = F.pad(torch.zeros_like(self.gate.weight), (0, 1), value=1.0)
        matrices = [torch.cat([_with_bias(self.linear), one]), gate.squeeze(0)]
        if self.phi_x is None:
            matrices += [gate[:0], gate[:0, 0]]
        else:
            first, _, last = (cast(nn.Linear, layer) for layer in self.phi_x)
            matrices += [_with_bias(first), last.weight.squeeze(0)]
        dtype = product_dtype(self.gate.weight)
        return [matrix.to(dtype) for matrix in matrices]


def _phi_x(channels: int) -> nn.Sequential:
    last = nn.Linear(channels, 1, bias=False)
    nn.init.xavier_uniform_(last.weight, gain=1e-3)  # at first, nothing moves much
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), last)


def _with_bias(linear: nn.Linear) -> Tensor:
    return torch.cat([linear.weight, linear.bias.unsqueeze(-1)], dim=1)


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

    The last of the C + 1 channels is 1 in all but the sum, where it means nothing.
    """
    sums, numbers = [receiver[:0]], [products[:0, 0]]
    blocks = pairs.by_block(receiver), pairs.by_block(sender)
    of_pairs = pairs.pairs_by_block(products), pairs.pairs_by_block(pairs.mask)
    for r, s, e, mask in zip(*blocks, *of_pairs, strict=True):
        z = r.unsqueeze(2) + s.unsqueeze(1) + e @ weight  # (b, P, P, C + 1)
        u = F.relu(F.relu(z).to(message.dtype) @ message.t())
        m = u * ((u @ gate).sigmoid() * mask).unsqueeze(-1)
        hidden = F.relu(m[..., :-1] @ first[:, :-1].t() + first[:, -1])
        sums.append(m.sum(2, dtype=receiver.dtype).flatten(0, 1))
        numbers.append((hidden @ last * mask).to(products.dtype).flatten())
    return torch.cat(sums), torch.cat(numbers)


class _Messages(torch.autograd.Function):
    """:func:`plain_messages`, chunk by chunk.

    For the backward pass a pair keeps its gate, its number and the signs in the hidden layer of
    ``phi_x``, 8 + C bytes; one matrix product gives the rest back. Memory is used again: a chunk is
    so small that every call counts.
    """

    @staticmethod
    def forward(ctx: Any, pairs: PairBlocks, keep: bool, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        work = _Work(pairs, *tensors)
        total, gates, numbers = torch.empty_like(work.receiver), *work.gate.new_empty(2, len(pairs))
        # Converting int8 to float is six times faster than bool to float.
        active = work.gate.new_empty(len(pairs), len(work.last) if keep else 0, dtype=torch.int8)
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
        if torch.is_grad_enabled():  # somebody wants to differentiate again
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
    """Gradients that can be differentiated again."""
    wanted = [t for t, need in zip(tensors, needed, strict=True) if need]
    outputs = plain_messages(pairs, *tensors)
    gradients = iter(torch.autograd.grad(outputs, wanted, (d_total, d_numbers), create_graph=True))
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
        self.pairs, self.scratch = pairs, pairs.scratch
        self.receiver, self.sender = receiver, sender
        self.products, self.weight = products, weight
        self.message, self.gate, self.has_phi_x = message, gate, len(last) > 0
        # One more unit of phi_x, which does nothing: its place is that of the gate's gradient.
        self.first, self.last = F.pad(first, (0, 0, 0, 1)), F.pad(last, (0, 1))
        self.message_t = message.t().contiguous()  # products with a transposed view are slower

    def ungated(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """``relu(z)`` and the messages before the gate, (n, C + 1)."""
        products = self.products[chunk.pairs]
        n, channels = len(products), self.receiver.shape[1]
        z = self.scratch(0, self.receiver, n, channels)
        for part in chunk.parts:
            jets, receivers, senders = part.shape
            receiver = self.receiver[part.receivers].view(jets, receivers, 1, channels)
            sender = self.sender[part.senders].view(jets, 1, senders, channels)
            out = z[part.pairs].view(jets, receivers, senders, channels)
            torch.add(receiver, sender, out=out)
        z.addmm_(products, self.weight).relu_()
        if z.dtype != self.message.dtype:
            z = z.to(self.message.dtype)
        u = self.scratch(1, self.message, n, channels)
        return z, row_product(z, self.message_t, u).relu_()

    def forward(self, total: Tensor, numbers: Tensor, gates: Tensor, active: Tensor | None) -> None:
        """Fill in results, and what the backward pass will need."""
        mask, first = self.pairs.mask, self.first.t().contiguous()
        for chunk in self.pairs.chunks:
            _, u = self.ungated(chunk)
            n, gate = len(u), gates[chunk.pairs]
            torch.mv(u, self.gate, out=gate).sigmoid_().mul_(mask[chunk.pairs])
            for part in chunk.parts:
                row = gate[part.pairs].view(-1, 1, part.length)
                total[part.receivers].unsqueeze(1).copy_(row @ _by_receiver(u, part))
            if not self.has_phi_x:
                continue
            # relu(W g u + b) = g relu(W u + b / g)
            torch.reciprocal(_above_zero(gate), out=u[:, -1])
            hidden = row_product(u, first, self.scratch(2, u, n, len(self.last))).relu_()
            torch.mv(hidden, self.last, out=numbers[chunk.pairs])
            if active is not None:
                active[chunk.pairs].copy_(hidden.sign_())
        numbers.mul_(_above_zero(gates)).mul_(mask)

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
        d_receiver, d_products = torch.empty_like(self.receiver), torch.empty_like(self.products)
        d_sender, d_weight = torch.zeros_like(self.sender), torch.zeros_like(self.weight)
        d_message = torch.zeros_like(self.message)
        # Gate and phi_x are one matrix: the gradients of their outputs stand side by side.
        to_message = F.pad(self.first[:, :-1], (0, 1)) * self.last.unsqueeze(-1)
        to_message[-1] = self.gate
        d_both = torch.zeros_like(to_message)
        bias, to_products = self.first[:, -1] * self.last, self.weight.t().contiguous()
        safe, d_logits, d_sums = _above_zero(gates), torch.empty_like(gates), d_total.to(gates)
        d_scaled, inverse, closed = (d_numbers * safe).unsqueeze(-1), safe.reciprocal(), 1 - gates
        for chunk in self.pairs.chunks:
            z, u = self.ungated(chunk)
            here, (n, channels) = chunk.pairs, u.shape
            gate, d_logit = gates[here], d_logits[here]

            # The logit of the gate acts on the message and, in an active unit of phi_x, which is
            # linear, on all but the bias of the number.
            for part in chunk.parts:
                row, d_sum = d_logit[part.pairs], d_sums[part.receivers].unsqueeze(1)
                torch.bmm(d_sum, _by_receiver(u, part).mT, out=row.view(-1, 1, part.length))
            both = self.scratch(2, u, n, len(self.last)).copy_(active[here])
            from_number = torch.addmv(numbers[here], both, bias, alpha=-1).mul_(d_numbers[here])
            d_logit.mul_(gate).add_(from_number).mul_(closed[here])
            both.mul_(d_scaled[here])[:, -1] = d_logit
            if weighed:
                u[:, -1] = inverse[here]
                add_row_product(d_both, both, u)

            d = row_product(both, to_message, self.scratch(3, u, n, channels))
            for part in chunk.parts:
                column = gate[part.pairs].view(-1, part.length, 1)
                _by_receiver(d, part).addcmul_(column, d_sums[part.receivers].unsqueeze(1))
            d = _through_relu(d, u)
            if weighed:
                add_row_product(d_message, d, z)
            d = _through_relu(row_product(d, self.message, self.scratch(4, u, n, channels)), z)

            d = d.to(self.weight.dtype)
            if weighed:
                add_row_product(d_weight, self.products[here], d)
            torch.mm(d, to_products, out=d_products[here])
            for part in chunk.parts:
                jets, receivers, senders = part.shape
                of_pairs = d[part.pairs].view(jets, receivers, senders, channels)
                of_receivers = d_receiver[part.receivers].view(jets, receivers, channels)
                torch.sum(of_pairs, 2, out=of_receivers)
                d_sender[part.senders].view(jets, senders, channels).add_(of_pairs.sum(1))
        if not weighed:
            return d_receiver, d_sender, d_products, None, None, None, None, None
        d_first, d_gate = d_both[:-1], d_both[-1]
        d_gate[-1] = d_logits.sum()
        d_last = (self.first[:-1] * d_first).sum(1)
        d_first = d_first * self.last[:-1].unsqueeze(-1)
        return d_receiver, d_sender, d_products, d_weight, d_message, d_gate, d_first, d_last


def _by_receiver(x: Tensor, part: Part) -> Tensor:
    """The pairs ``x (n, C)`` of a chunk that are in `part`, (receivers, senders of each, C)."""
    return x[part.pairs].view(-1, part.length, x.shape[1])


def _above_zero(gate: Tensor) -> Tensor:
    """The gate, but so large that one can divide by it; the difference is that of rounding."""
    return gate.clamp(min=torch.finfo(gate.dtype).eps)


def _through_relu(d: Tensor, out: Tensor) -> Tensor:
    """`d`, in place, from behind a ReLU that gave `out` to before it."""
    return torch.ops.aten.threshold_backward.grad_input(d, out, 0, grad_input=d)
