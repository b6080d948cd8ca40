"""Gated messages between all pairs of particles of a jet, summed over the senders.

A jet of P particles has P (P - 1) messages, so this is where the time and the memory of a fully
connected graph network go. Here messages exist only for some thousand pairs at a time, which stay
in the cache, and nothing of them is kept for the backward pass: it computes them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.layout import RaggedLayout
from pcloud.nn.pair_blocks import Chunk, PairBlock

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
        with torch.autocast(receiver.device.type, enabled=False):
            sums, numbers = zip(
                *(
                    messages_of_block(
                        pair,
                        pair.block.gather(receiver),
                        pair.block.gather(sender),
                        e,
                        weight,
                        *matrices,
                    )
                    for pair, e in zip(blocks, pairs, strict=True)
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
        device = self.gate.weight.device.type
        if torch.is_autocast_enabled(device):
            matrices = [matrix.to(torch.get_autocast_dtype(device)) for matrix in matrices]
        return matrices


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


class _Tensors(NamedTuple):
    """The arguments of :func:`plain_messages`, or gradients with respect to them."""

    receiver: Tensor
    sender: Tensor
    pairs: Tensor
    weight: Tensor
    message: Tensor
    gate: Tensor
    first: Tensor
    last: Tensor


class _Messages(torch.autograd.Function):
    """:func:`plain_messages`, chunk by chunk.

    For the backward pass a pair keeps its gate and the signs in the hidden layer of ``phi_x``,
    4 + C bytes; one matrix product gives the rest back.
    """

    @staticmethod
    def forward(ctx: Any, block: PairBlock, keep: bool, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        t = _Tensors(*tensors)
        work = _Work(block, t)
        total, numbers = torch.zeros_like(t.receiver), torch.zeros_like(t.pairs[..., 0])
        gates, active = work.kept() if keep else (None, None)
        for chunk in block.chunks:
            mask = block.mask[chunk.index].flatten()
            _, u = work.ungated(chunk)
            gate = torch.mv(u, t.gate).sigmoid_().mul_(mask)
            m = torch.mul(u, gate.unsqueeze(-1), out=work.product(chunk))
            total[chunk.jets, chunk.receivers] = chunk.unflatten(m).sum(2, dtype=total.dtype)
            m[:, -1] = 1.0
            hidden = torch.mm(m, t.first.t(), out=work.of_phi_x(chunk)).relu_()
            number = torch.mv(hidden, t.last).mul_(mask)
            numbers[chunk.index] = chunk.unflatten(number).to(numbers.dtype)
            if gates is not None and active is not None:
                gates[chunk.pairs], active[chunk.pairs] = gate, hidden.sign_()
        ctx.block = block
        ctx.save_for_backward(gates, active, *tensors)
        return total, numbers

    @staticmethod
    def backward(ctx: Any, d_total: Tensor, d_numbers: Tensor) -> tuple[Tensor | None, ...]:
        gates, active, *tensors = ctx.saved_tensors
        block, needed = ctx.block, ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():  # somebody wants to differentiate again
            return None, None, *_plain_gradients(block.mask, tensors, needed, d_total, d_numbers)
        work = _Work(block, _Tensors(*tensors))
        sums = _Tensors(*(torch.zeros_like(t, dtype=d_total.dtype) for t in tensors))
        for chunk in block.chunks:
            gate = gates[chunk.pairs]
            z, u = work.ungated(chunk)
            d_number = (d_numbers[chunk.index] * block.mask[chunk.index]).flatten().to(u.dtype)
            d = work.through_phi_x(sums, chunk, d_number, gate, active[chunk.pairs], u)
            d_sum = d_total[chunk.jets, chunk.receivers].unsqueeze(2).to(d.dtype)
            chunk.unflatten(d).addcmul_(chunk.unflatten(gate).unsqueeze(-1), d_sum)
            work.through_message(sums, chunk, gate, z, u, d)
        return None, None, *(d.to(t.dtype) for d, t in zip(sums, tensors, strict=True))


def _plain_gradients(
    mask: Tensor,
    tensors: Sequence[Tensor],
    needed: Sequence[bool],
    d_total: Tensor,
    d_numbers: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients that can be differentiated again."""
    wanted = [t for t, need in zip(tensors, needed, strict=True) if need]
    outputs = plain_messages(mask, *tensors)
    gradients = iter(torch.autograd.grad(outputs, wanted, (d_total, d_numbers), create_graph=True))
    return tuple(next(gradients) if need else None for need in needed)


class _Work:
    """The tensors of a block, and memory that its chunks use in turn."""

    def __init__(self, block: PairBlock, tensors: _Tensors) -> None:
        self.block, self.tensors = block, tensors
        pairs, channels = max(len(chunk) for chunk in block.chunks), len(tensors.gate)
        self._z = tensors.receiver.new_empty(pairs, channels)
        self._u, self._product, self._gradient = (
            tensors.gate.new_empty(pairs, channels) for _ in range(3)
        )
        self._of_phi_x = tensors.gate.new_empty(pairs, len(tensors.last))

    def product(self, chunk: Chunk) -> Tensor:
        return self._product[: len(chunk)]

    def of_phi_x(self, chunk: Chunk) -> Tensor:
        return self._of_phi_x[: len(chunk)]

    def kept(self) -> tuple[Tensor, Tensor]:
        """Memory for the gates of all pairs, and for the signs in their hidden layer."""
        pairs, t = self.block.chunks[-1].pairs.stop, self.tensors
        # Converting int8 to float is six times faster than bool to float.
        signs = t.last.new_empty(pairs, len(t.last), dtype=torch.int8)
        return t.gate.new_empty(pairs), signs

    def ungated(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """``relu(z)`` and the messages before the gate, (pairs, C + 1) each."""
        t, z = self.tensors, self._z[: len(chunk)]
        receiver = t.receiver[chunk.jets, chunk.receivers].unsqueeze(2)
        sender = t.sender[chunk.jets, chunk.senders].unsqueeze(1)
        torch.add(receiver, sender, out=chunk.unflatten(z))
        z.addmm_(t.pairs[chunk.index].flatten(0, 2), t.weight).relu_()
        z = z.to(t.message.dtype)
        return z, torch.mm(z, t.message.t(), out=self._u[: len(chunk)]).relu_()

    def through_phi_x(
        self,
        sums: _Tensors,
        chunk: Chunk,
        d_number: Tensor,
        gate: Tensor,
        active: Tensor,
        u: Tensor,
    ) -> Tensor:
        """The gradient of the gated messages, times the gate."""
        first, last = self.tensors.first, self.tensors.last
        hidden = self.of_phi_x(chunk).copy_(active)
        d_bias = torch.mv(hidden.t(), d_number)
        hidden.mul_((d_number * gate).unsqueeze(-1))
        d_first = torch.cat([hidden.t() @ u[:, :-1], d_bias.unsqueeze(-1)], dim=1)
        sums.first.add_(last.unsqueeze(-1) * d_first)
        sums.last.add_((first * d_first).sum(1))  # an active unit is linear in `first`
        matrix = last.unsqueeze(-1) * F.pad(first[:, :-1], (0, 1))
        return torch.mm(hidden, matrix, out=self._gradient[: len(chunk)])

    def through_message(
        self, sums: _Tensors, chunk: Chunk, gate: Tensor, z: Tensor, u: Tensor, d: Tensor
    ) -> None:
        """From `d`, the gradient of the gated messages times the gate, to all that was before."""
        t = self.tensors
        d_logit = torch.mul(u, d, out=self.product(chunk)).sum(-1).mul_(1 - gate)
        sums.gate.add_(torch.mv(u.t(), d_logit))
        d = _through_relu(d.addmm_(d_logit.unsqueeze(-1), t.gate.unsqueeze(0)), u)
        sums.message.add_(d.t() @ z)
        d = _through_relu(torch.mm(d, t.message, out=self.product(chunk)), z).to(t.weight.dtype)
        sums.weight.add_(t.pairs[chunk.index].flatten(0, 2).t() @ d)
        sums.pairs[chunk.index] = chunk.unflatten(d @ t.weight.t())
        d = chunk.unflatten(d)
        sums.receiver[chunk.jets, chunk.receivers] = d.sum(2)
        sums.sender[chunk.jets, chunk.senders] += d.sum(1)


def _through_relu(d: Tensor, out: Tensor) -> Tensor:
    """`d`, in place, from behind a ReLU that gave `out` to before it."""
    return torch.ops.aten.threshold_backward.grad_input(d, out, 0, grad_input=d)
