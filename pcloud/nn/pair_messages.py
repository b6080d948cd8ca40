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

from pcloud.nn.layout import RaggedLayout
from pcloud.nn.pair_blocks import PairBlock
from pcloud.nn.precision import product_dtype, without_autocast
from pcloud.nn.row_products import add_row_product, row_product

__all__ = ["PairMessages", "messages_of_block"]


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
        self,
        receiver: Tensor,
        sender: Tensor,
        weight: Tensor,
        pairs: Sequence[Tensor],
        blocks: Sequence[PairBlock],
        layout: RaggedLayout,
    ) -> tuple[Tensor, list[Tensor] | None]:
        """Messages from ``z_ij = receiver_i + sender_j + e_ij @ weight``.

        Parameters
        ----------
        receiver, sender : Tensor, shape (N, C)
        weight : Tensor, shape (E, C)
        pairs : sequence of Tensor, shape (b, P, P, E)
            The features ``e_ij`` of the pairs of each block.
        blocks : sequence of PairBlock
        layout : RaggedLayout
            Of the particles.

        Returns
        -------
        Tensor, shape (N, C)
            Sum of the messages to each particle.
        list of Tensor, shape (b, P, P), or None
            ``phi_x(m_ij)``, zero where there is no pair.
        """
        # The biases are weights of one more channel, which is 1 everywhere.
        receiver, sender = F.pad(receiver, (0, 1), value=1.0), F.pad(sender, (0, 1))
        weight, matrices = F.pad(weight, (0, 1)), self._matrices()
        with without_autocast(receiver):
            sums, numbers = zip(
                *(
                    messages_of_block(block, *terms, weight, *matrices)
                    for block, *terms in zip(
                        blocks, layout.gather(receiver), layout.gather(sender), pairs, strict=True
                    )
                ),
                strict=True,
            )
        return layout.flatten(sums)[:, :-1], None if self.phi_x is None else list(numbers)

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
def messages_of_block(
    block: PairBlock, receiver: Tensor, sender: Tensor, pairs: Tensor, *weights: Tensor
) -> tuple[Tensor, Tensor]:
    """:func:`plain_messages` of a block, faster and in little memory."""
    return _Messages.apply(block, torch.is_grad_enabled(), receiver, sender, pairs, *weights)


def plain_messages(
    mask: Tensor,
    receiver: Tensor,
    sender: Tensor,
    pairs: Tensor,
    weight: Tensor,
    message: Tensor,
    gate: Tensor,
    first: Tensor,
    last: Tensor,
) -> tuple[Tensor, Tensor]:
    """Sums of messages (b, P, C + 1) and their numbers (b, P, P), all pairs at once.

    The last of the C + 1 channels is 1 in all but the sum, where it means nothing.
    """
    z = receiver.unsqueeze(2) + sender.unsqueeze(1) + pairs @ weight  # (b, P, P, C + 1)
    u = F.relu(F.relu(z).to(message.dtype) @ message.t())
    m = u * ((u @ gate).sigmoid() * mask).unsqueeze(-1)
    total = m.sum(2, dtype=receiver.dtype)
    hidden = F.relu(m[..., :-1] @ first[:, :-1].t() + first[:, -1])
    return total, (hidden @ last * mask).to(pairs.dtype)


class _Messages(torch.autograd.Function):
    """:func:`plain_messages`, chunk by chunk.

    For the backward pass a pair keeps its gate, its number and the signs in the hidden layer of
    ``phi_x``, 8 + C bytes; one matrix product gives the rest back. Views are made for all chunks at
    once, and memory is used again: a chunk is so small that every call counts.
    """

    @staticmethod
    def forward(ctx: Any, block: PairBlock, keep: bool, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        work = _Work(block, *tensors)
        total, shape = torch.empty_like(work.receiver), block.mask.shape
        gates, numbers = work.gate.new_empty(2, *shape)
        # Converting int8 to float is six times faster than bool to float.
        active = work.gate.new_empty(*shape, len(work.last) if keep else 0, dtype=torch.int8)
        if not work.has_phi_x:
            numbers.zero_()
            active.zero_()
        work.forward(total, numbers, gates, active if keep else None)
        ctx.block = block
        ctx.save_for_backward(numbers, gates, active, *tensors)
        return total, numbers.to(work.pairs.dtype)

    @staticmethod
    def backward(ctx: Any, d_total: Tensor, d_numbers: Tensor) -> tuple[Tensor | None, ...]:
        numbers, gates, active, *tensors = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants to differentiate again
            needed = ctx.needs_input_grad[2:]
            return None, None, *_plain_gradients(ctx.block, tensors, needed, d_total, d_numbers)
        work = _Work(ctx.block, *tensors)
        d_numbers = (d_numbers * ctx.block.mask).to(gates.dtype)
        weighed = any(ctx.needs_input_grad[5:])  # not where only the inputs are asked about
        gradients = work.backward(d_total.contiguous(), d_numbers, numbers, gates, active, weighed)
        return None, None, *gradients


def _plain_gradients(
    block: PairBlock,
    tensors: Sequence[Tensor],
    needed: Sequence[bool],
    d_total: Tensor,
    d_numbers: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated again."""
    wanted = [t for t, need in zip(tensors, needed, strict=True) if need]
    outputs = plain_messages(block.mask, *tensors)
    gradients = iter(torch.autograd.grad(outputs, wanted, (d_total, d_numbers), create_graph=True))
    return tuple(next(gradients) if need else None for need in needed)


class _Work:
    """The passes over the chunks of a block."""

    def __init__(
        self,
        block: PairBlock,
        receiver: Tensor,
        sender: Tensor,
        pairs: Tensor,
        weight: Tensor,
        message: Tensor,
        gate: Tensor,
        first: Tensor,
        last: Tensor,
    ) -> None:
        self.block, self.scratch = block, block.scratch
        self.receiver, self.sender, self.pairs, self.weight = receiver, sender, pairs, weight
        self.message, self.gate, self.has_phi_x = message, gate, len(last) > 0
        # One more unit of phi_x, which does nothing: its place is that of the gate's gradient.
        self.first, self.last = F.pad(first, (0, 0, 0, 1)), F.pad(last, (0, 1))
        self.message_t = message.t().contiguous()  # products with a transposed view are slower

    def inputs(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For each chunk receivers and senders, ready to be added, and features of the pairs."""
        return zip(
            (
                r.view(jets.stop - jets.start, -1, 1, r.shape[-1])
                for r, jets in zip(
                    self.block.by_receiver(self.receiver), self.block.jets, strict=True
                )
            ),
            self.block.by_jet(self.sender.unsqueeze(1)),
            self.block.by_pair(self.pairs),
            strict=True,
        )

    def ungated(self, receiver: Tensor, sender: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """``relu(z)`` and the messages before the gate, (pairs, C + 1)."""
        jets, rows, _, channels = receiver.shape
        n = len(pairs)
        z = self.scratch(0, receiver, n, channels)
        out = self.scratch(0, receiver, jets, rows, n // (jets * rows), channels)
        torch.add(receiver, sender, out=out)
        z.addmm_(pairs, self.weight).relu_()
        if z.dtype != self.message.dtype:
            z = z.to(self.message.dtype)
        u = self.scratch(1, self.message, n, channels)
        return z, row_product(z, self.message_t, u).relu_()

    def forward(self, total: Tensor, numbers: Tensor, gates: Tensor, active: Tensor | None) -> None:
        """Fill in results, and what the backward pass will need."""
        block, senders = self.block, self.block.mask.shape[2]
        outputs = zip(
            block.by_receiver(total),
            block.by_pair(numbers),
            block.by_pair(gates),
            block.by_pair(block.mask),
            block.by_pair(active) if active is not None else [None] * len(block.jets),
            strict=True,
        )
        first = self.first.t().contiguous()
        for (sums, number, gate, mask, signs), inputs in zip(outputs, self.inputs(), strict=True):
            _, u = self.ungated(*inputs)
            n, channels = u.shape
            torch.mv(u, self.gate, out=gate).sigmoid_().mul_(mask)
            by_receiver = self.scratch(1, u, n // senders, senders, channels)
            sums.unsqueeze(1).copy_(gate.view(-1, 1, senders) @ by_receiver)
            if not self.has_phi_x:
                continue
            # relu(W g u + b) = g relu(W u + b / g)
            torch.reciprocal(_above_zero(gate), out=u[:, -1])
            hidden = row_product(u, first, self.scratch(2, u, n, len(self.last))).relu_()
            torch.mv(hidden, self.last, out=number)
            if signs is not None:
                signs.copy_(hidden.sign_())
        numbers.mul_(_above_zero(gates)).mul_(block.mask)

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
        block, senders = self.block, self.block.mask.shape[2]
        d_receiver, d_pairs = torch.empty_like(self.receiver), torch.empty_like(self.pairs)
        d_sender, d_weight = torch.zeros_like(self.sender), torch.zeros_like(self.weight)
        d_message = torch.zeros_like(self.message)
        # Gate and phi_x are one matrix: the gradients of their outputs stand side by side.
        to_message = F.pad(self.first[:, :-1], (0, 1)) * self.last.unsqueeze(-1)
        to_message[-1] = self.gate
        d_both = torch.zeros_like(to_message)
        bias, to_pairs = self.first[:, -1] * self.last, self.weight.t().contiguous()
        safe, d_gate_bias = _above_zero(gates), self.gate.new_zeros(())
        given = zip(
            block.by_receiver(d_total.unsqueeze(2)),
            block.by_pair(d_numbers),
            block.by_pair(numbers),
            block.by_pair((d_numbers * safe).unsqueeze(-1)),
            block.by_receiver(gates.unsqueeze(-1)),
            block.by_pair(safe.reciprocal()),
            block.by_pair(1 - gates),
            block.by_pair(active),
            strict=True,
        )
        wanted = zip(
            block.by_receiver(d_receiver),
            block.by_jet(d_sender),
            block.by_pair(d_pairs),
            strict=True,
        )
        for inputs, values, out in zip(self.inputs(), given, wanted, strict=True):
            d_sum, d_number, number, d_scaled, gate, inverse, closed, signs = values
            z, u = self.ungated(*inputs)
            n, channels = u.shape
            by_receiver = self.scratch(1, u, n // senders, senders, channels)

            # The logit of the gate acts on the message and, in an active unit of phi_x, which is
            # linear, on all but the bias of the number.
            both = self.scratch(2, u, n, len(self.last)).copy_(signs)
            from_sum = (d_sum.to(u.dtype) @ by_receiver.mT).view(n).mul_(gate.flatten())
            from_number = torch.addmv(number, both, bias, alpha=-1).mul_(d_number)
            d_logit = from_sum.add_(from_number).mul_(closed)
            both.mul_(d_scaled)[:, -1] = d_logit
            if weighed:
                d_gate_bias += d_logit.sum()
                u[:, -1] = inverse
                add_row_product(d_both, both, u)

            d = row_product(both, to_message, self.scratch(3, u, n, channels))
            self.scratch(3, u, n // senders, senders, channels).addcmul_(gate, d_sum)
            d = _through_relu(d, u)
            if weighed:
                add_row_product(d_message, d, z)
            d = _through_relu(row_product(d, self.message, self.scratch(4, u, n, channels)), z)

            d = d.to(self.weight.dtype)
            if weighed:
                add_row_product(d_weight, inputs[2], d)
            torch.mm(d, to_pairs, out=out[2])
            d = d.view(*inputs[0].shape[:2], senders, channels)
            torch.sum(d, 2, out=out[0].view(d.shape[0], d.shape[1], channels))
            out[1].add_(d.sum(1))
        if not weighed:
            return d_receiver, d_sender, d_pairs, None, None, None, None, None
        d_first, d_gate = d_both[:-1], d_both[-1]
        d_gate[-1] = d_gate_bias
        d_last = (self.first[:-1] * d_first).sum(1)
        d_first = d_first * self.last[:-1].unsqueeze(-1)
        return d_receiver, d_sender, d_pairs, d_weight, d_message, d_gate, d_first, d_last


def _above_zero(gate: Tensor) -> Tensor:
    """The gate, but so large that one can divide by it; the difference is that of rounding."""
    return gate.clamp(min=torch.finfo(gate.dtype).eps)


def _through_relu(d: Tensor, out: Tensor) -> Tensor:
    """`d`, in place, from behind a ReLU that gave `out` to before it."""
    return torch.ops.aten.threshold_backward.grad_input(d, out, 0, grad_input=d)
