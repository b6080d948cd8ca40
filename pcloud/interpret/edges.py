"""Neighbour graph of networks with EdgeConv: edge importance, and a fixed graph.

Both use forward hooks on the blocks and do not change the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.errors import InputError
from pcloud.interpret.response import log_odds
from pcloud.nn.graph.edge_conv import EdgeBlock, EdgeConv
from pcloud.words import number_of

__all__ = ["EdgeImportance", "edge_importance", "fixed_graph", "record_graph"]


@dataclass(frozen=True)
class EdgeImportance:
    """Importance of each message of a block for the response.

    Parameters
    ----------
    neighbors : Tensor, shape (N, k)
        Sources of the messages to each particle; `N` for a missing neighbour.
    importance : Tensor, shape (N, k)
        Derivative of the response with respect to a factor on the message, at 1. To first order
        it is the contribution of the message to the response. It is 0 for a missing neighbour.
    """

    neighbors: Tensor
    importance: Tensor

    def __repr__(self) -> str:
        """Numbers of particles and neighbours."""
        particles, k = self.importance.shape
        return f"EdgeImportance of {k} messages to each of {number_of(particles, 'particle')}"


def edge_importance(
    model: nn.Module,
    x: Tensor,
    p4: Tensor,
    batch: Tensor,
    target: int = 1,
    others: Sequence[Any] = (),
) -> list[EdgeImportance]:
    """Importance of all edges of the neighbour graph, block by block.

    Every message ``m_ij`` gets a factor ``w_ij``, and the importance is ``d(response)/d(w_ij)`` at
    ``w_ij = 1``: gradient times message, summed over channels. It is the first step of the
    optimisation of edge masks in GNNExplainer, and needs one backward pass.

    Parameters
    ----------
    model : torch.nn.Module
        Network with :class:`~pcloud.nn.graph.edge_conv.EdgeBlock`, such as ParticleNet, in
        evaluation mode.
    x, p4, batch : Tensor
        Inputs of the model.
    target : int
        Class whose log-odds against all others is the response.
    others : sequence
        Further arguments of the model, such as a layout.

    Returns
    -------
    list of EdgeImportance
        Importance for each block. The neighbours of later blocks depend on the features and are
        those of the original network.

    Raises
    ------
    InputError
        If the model has no such block.

    References
    ----------
    Ying et al., GNNExplainer, https://arxiv.org/abs/1903.03894;
    Pope et al., Explainability Methods for Graph Convolutional Neural Networks, CVPR 2019.
    """
    blocks = [module for module in model.modules() if isinstance(module, EdgeBlock)]
    if not blocks:
        raise InputError(
            "edge importance needs a network with EdgeConv blocks, such as ParticleNet"
        )
    factors: list[Tensor] = []
    sources: list[Tensor] = []

    def weigh(block: EdgeBlock, given: tuple[Tensor, Tensor], out: Tensor) -> Tensor:
        features, neighbors = given
        factor = torch.ones(neighbors.shape, device=out.device, requires_grad=True)
        factors.append(factor)
        sources.append(neighbors)
        messages = factor.unsqueeze(-1) * block.messages(features, neighbors)
        return F.relu(messages.mean(1) + block.shortcut(features))

    with _hooked([block.register_forward_hook(weigh) for block in blocks]), torch.enable_grad():
        response = log_odds(model(x, p4, batch, *others), target).sum()
    gradients = torch.autograd.grad(response, factors)
    return [
        EdgeImportance(neighbors, gradient.masked_fill(neighbors == len(neighbors), 0.0))
        for neighbors, gradient in zip(sources, gradients, strict=True)
    ]


@torch.no_grad()
def record_graph(
    model: nn.Module, x: Tensor, p4: Tensor, batch: Tensor, *others: Any
) -> list[Tensor]:
    """Record the neighbours ``(N, k)`` that each block finds; an empty list without such blocks.

    `others` are the further arguments of the network.
    """
    found: list[Tensor] = []

    def record(block: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append(given[1])

    with _hooked([block.register_forward_pre_hook(record) for block in _blocks(model)]):
        model(x, p4, batch, *others)
    return found


@contextmanager
def fixed_graph(model: nn.Module, graph: Sequence[Tensor]) -> Iterator[None]:
    """Make the blocks of a network use the neighbours of `graph` for any input.

    The network is then a continuous function of its features. Otherwise it is discontinuous where
    neighbours change. The batch may contain several copies of the original batch, one after the
    other.

    Parameters
    ----------
    model : torch.nn.Module
        Network with EdgeConv blocks.
    graph : sequence of Tensor, shape (N, k)
        Neighbours of each block, as from :func:`record_graph`.
    """
    blocks = _blocks(model)

    def hold(at: int) -> Any:
        def replace(block: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return given[0], _copies(graph[at], len(given[0]))

        return replace

    with _hooked([block.register_forward_pre_hook(hold(i)) for i, block in enumerate(blocks)]):
        yield


def _blocks(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, EdgeBlock | EdgeConv)]


def _copies(neighbors: Tensor, size: int) -> Tensor:
    """Neighbours in a batch of `size` particles that repeats the batch of `neighbors`."""
    n, k = neighbors.shape
    shift = n * torch.arange(size // max(n, 1), device=neighbors.device).view(-1, 1, 1)
    return torch.where(neighbors < n, neighbors + shift, size).view(-1, k)


@contextmanager
def _hooked(handles: Sequence[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
