"""Recurrent layers over packed sequences by their formulas, where the layers of torch cannot run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["last_packed_state"]

State = tuple[Tensor, ...]
Cell = Callable[[Tensor, State, tuple[Tensor, ...]], State]


def last_packed_state(network: nn.RNNBase, x: Tensor, sizes: Iterable[int]) -> Tensor:
    """Last state (B, D) of the top layer, the plain formula of ``network(PackedSequence(...))``.

    Parameters
    ----------
    network : torch.nn.RNN, GRU or LSTM
        Layers in one direction.
    x : Tensor, shape (N, F)
        Packed rows: the first entries of all sequences, then the second ones, ...
    sizes : iterable of int
        Number of sequences that have a first, a second, ... entry.
    """
    step, num_states = _CELLS[network.mode]
    steps = x.split(list(sizes))
    state: State = ()
    for layer in range(network.num_layers):
        weights = tuple(getattr(network, f"{name}_l{layer}") for name in _WEIGHTS)
        zeros = x.new_zeros(len(steps[0]), network.hidden_size)
        state = (zeros,) * num_states
        outputs = []
        for entries in steps:
            number = len(entries)
            new = step(entries, tuple(s[:number] for s in state), weights)
            state = tuple(torch.cat([n, s[number:]]) for n, s in zip(new, state, strict=True))
            outputs.append(new[0])
        if layer < network.num_layers - 1:
            joined = F.dropout(torch.cat(outputs), network.dropout, network.training)
            steps = joined.split([len(part) for part in outputs])
    return state[0]


_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _rnn(x: Tensor, state: State, weights: tuple[Tensor, ...]) -> State:
    """``h' = tanh(W x + b + U h + c)``."""
    w, u, b, c = weights
    return (torch.tanh(F.linear(x, w, b) + F.linear(state[0], u, c)),)


def _gru(x: Tensor, state: State, weights: tuple[Tensor, ...]) -> State:
    """``h' = (1 - z) n + z h`` with reset gate r, update gate z and candidate n."""
    w, u, b, c = weights
    (h,) = state
    r, z, n = F.linear(x, w, b).chunk(3, dim=-1)
    r_h, z_h, n_h = F.linear(h, u, c).chunk(3, dim=-1)
    update = torch.sigmoid(z + z_h)
    candidate = torch.tanh(n + torch.sigmoid(r + r_h) * n_h)
    return ((1 - update) * candidate + update * h,)


def _lstm(x: Tensor, state: State, weights: tuple[Tensor, ...]) -> State:
    """``c' = f c + i g``, ``h' = o tanh(c')`` with gates i, f, o and candidate g."""
    w, u, b, c = weights
    h, memory = state
    i, f, g, o = (F.linear(x, w, b) + F.linear(h, u, c)).chunk(4, dim=-1)
    memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(memory), memory


_CELLS: dict[str, tuple[Cell, int]] = {
    "RNN_TANH": (_rnn, 1),
    "GRU": (_gru, 1),
    "LSTM": (_lstm, 2),
}
