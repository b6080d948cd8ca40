"""Recurrent layers over packed sequences by their formulas, where the layers of torch cannot run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import InputError

__all__ = ["last_packed_state", "last_padded_state"]

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


def last_padded_state(network: nn.RNNBase, x: Tensor, counts: Tensor) -> Tensor:
    """Last state (B, D) of the top layer for padded sequences, as in an exported graph.

    Padding follows the entries, so that no state that is read depends on it.

    Parameters
    ----------
    network : torch.nn.RNN, GRU or LSTM
        Layers in one direction.
    x : Tensor, shape (B, P, F)
        Entries, then padding.
    counts : Tensor, shape (B,)
        Number of entries of each sequence; the state of an empty one is 0.

    Raises
    ------
    InputError
        In a graph that is compiled, which has no loop over a free number of steps.
    """
    entries = x.transpose(0, 1)  # (P, B, F)
    if torch.onnx.is_in_onnx_export():
        found = _last_state_in_onnx(network, entries, counts)
    elif torch.compiler.is_compiling():
        raise InputError(
            "AOTInductor has no recurrent layer over a free number of particles: export the network "
            "to ONNX (.onnx)"
        )
    else:
        states, _ = network(entries)  # (P, B, D)
        last = (counts - 1).clamp(min=0).view(1, -1, 1).expand(1, -1, network.hidden_size)
        found = states.gather(0, last).squeeze(0)
    return torch.where(counts.unsqueeze(1) > 0, found, 0.0)


def _last_state_in_onnx(network: nn.RNNBase, x: Tensor, counts: Tensor) -> Tensor:
    """Last state (B, D) of ``x (P, B, F)`` by the operators RNN, GRU and LSTM of ONNX.

    The exporter of PyTorch makes the number of steps that it has seen a constant.
    """
    if not hasattr(torch.onnx, "ops"):
        raise InputError("the export of recurrent networks needs torch 2.8 or later")
    operator, order = _IN_ONNX[network.mode]
    width = network.hidden_size
    lengths = counts.clamp(min=1).int()
    attributes: dict[str, Any] = {"hidden_size": width}
    if operator == "GRU":
        attributes["linear_before_reset"] = 1  # the formula of PyTorch
    last = x
    for layer in range(network.num_layers):
        w, u, b, c = (
            torch.cat([getattr(network, f"{name}_l{layer}").chunk(len(order))[i] for i in order])
            for name in _WEIGHTS
        )
        inputs = (x, w[None], u[None], torch.cat([b, c])[None], lengths)
        states, last = torch.onnx.ops.symbolic_multi_out(
            operator,
            inputs,
            attributes,
            dtypes=(x.dtype, x.dtype),
            shapes=((x.shape[0], 1, x.shape[1], width), (1, x.shape[1], width)),
        )
        x = states.squeeze(1)
    return last.squeeze(0)


_IN_ONNX = {"RNN_TANH": ("RNN", (0,)), "GRU": ("GRU", (1, 0, 2)), "LSTM": ("LSTM", (0, 3, 1, 2))}
"""Operator of ONNX, and the order of its gates among those of PyTorch."""
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
