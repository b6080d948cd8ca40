"""Gated messages between all pairs of particles of a jet, summed over the senders."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.numerics.derivatives import kernel_allowed
from pcloud.nn.numerics.precision import product_dtype, without_autocast
from pcloud.nn.pairs.blocks import PairBlocks
from pcloud.nn.pairs.messages_kernel import messages

__all__ = ["PairMessages", "plain_messages"]

_VECTOR_LENGTH = 16  # numbers in a vector register: compiled loops over other widths end slowly


class PairMessages(nn.Module):
    """Messages ``m_ij = w_ij relu(W relu(z_ij) + b)`` with a gate ``w_ij``, and their weights.

    Parameters
    ----------
    channels : int
        Width of ``z_ij`` and of the messages.
    weigh : bool
        If True, a network ``phi_x`` computes a number from each message.
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
            Terms of the receiving and of the sending particles.
        weight : Tensor, shape (E, C)
            Weights of the features of a pair.
        products : Tensor, shape (M, E)
            Features ``e_ij`` of the pairs.
        pairs : PairBlocks
            Pairs of the particles.

        Returns
        -------
        Tensor, shape (N, C)
            Sum of the messages to each particle.
        Tensor, shape (M,), or None
            ``phi_x(m_ij)``, zero for empty slots; None without ``phi_x``.
        """
        # The biases are weights of one more channel, which is 1 everywhere.
        receiver = F.pad(receiver, (0, 1), value=1.0)
        sender = F.pad(sender, (0, 1))
        weight = F.pad(weight, (0, 1))
        matrices = self._matrices()
        with without_autocast(receiver):
            terms = pairs.gather(receiver), pairs.gather(sender), products, weight
            if _use_kernel(*terms):
                sums, numbers = messages(plain_messages, pairs, *terms, *matrices)
            else:
                sums, numbers = plain_messages(pairs, *terms, *matrices)
        return pairs.flatten(sums)[:, :-1], None if self.phi_x is None else numbers

    def _matrices(self) -> list[Tensor]:
        """Weights of the message (C + 1, C + 1), its gate (C + 1,), phi_x (C', C + 1) and (C',)."""
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
    nn.init.xavier_uniform_(last.weight, gain=1e-3)  # at first, momenta hardly change
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), last)


def _with_bias(linear: nn.Linear) -> Tensor:
    return torch.cat([linear.weight, linear.bias.unsqueeze(-1)], dim=1)


@torch.compiler.disable  # a graph break: the kernel runs between two compiled parts
def _use_kernel(*tensors: Tensor) -> bool:
    return kernel_allowed(*tensors)


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
    """Sums of messages and numbers from them, for all pairs of a block at once.

    The code is written for compilers. The number of channels is a multiple of the length of a
    vector register. All terms of a pair are computed in one matrix product: a compiler would fuse a
    sum with the computation of its terms, and repeat this for every channel.

    Parameters
    ----------
    pairs : PairBlocks
        Pairs of the particles.
    receiver, sender : Tensor, shape (S, C + 1)
        Terms of the slots; the last channel is 1 and 0.
    products : Tensor, shape (M, E)
        Features of the pairs.
    weight : Tensor, shape (E, C + 1)
        Weights of these features.
    message : Tensor, shape (C + 1, C + 1)
        Weights of the message.
    gate : Tensor, shape (C + 1,)
        Weights of its gate.
    first : Tensor, shape (C', C + 1)
        Weights of the first layer of ``phi_x``.
    last : Tensor, shape (C',)
        Weights of the last layer of ``phi_x``.

    Returns
    -------
    Tensor, shape (S, C + 1)
        Sums of the messages; the last channel has no meaning.
    Tensor, shape (M,)
        Results of ``phi_x``.
    """
    channels = len(gate)
    spare = -channels % _VECTOR_LENGTH
    spare_units = -len(last) % _VECTOR_LENGTH
    receiver, sender, weight, gate = (
        F.pad(x, (0, spare)) for x in (receiver, sender, weight, gate)
    )
    message = F.pad(message, (0, spare, 0, spare))
    first = F.pad(first, (0, spare, 0, spare_units))
    last = F.pad(last, (0, spare_units))
    ones = F.pad(torch.ones_like(gate[:1]), (channels - 1, spare))

    sums = [receiver[:0]]
    numbers = [products[:0, 0]]
    slots = pairs.by_block(receiver), pairs.by_block(sender)
    features = pairs.pairs_by_block(products), pairs.pairs_by_block(pairs.mask)
    for r, s, e, mask in zip(*slots, *features, strict=True):
        # A receiver with all its senders: [1, e_ij] @ [r_i, weight] + s_j
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
