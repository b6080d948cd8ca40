"""Attention weights of the Particle Transformer against the pair features of the particles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.nn.attention.attention import SelfAttention
from pcloud.nn.attention.pair_bias import interactions
from pcloud.nn.attention.unordered_pairs import UnorderedPairs

__all__ = ["PAIR_FEATURES", "AttentionMaps", "attention_maps"]

PAIR_FEATURES = ("ln kT", "ln z", "ln delta", "ln m2")
"""Results of :func:`~pcloud.nn.attention.pair_bias.interactions`, kT in GeV and m2 in GeV^2."""


@dataclass(frozen=True)
class AttentionMaps:
    """Attention weights of all ordered pairs of particles of the same jet.

    Attributes
    ----------
    query, key : Tensor, shape (M,)
        Indices of the particle that attends and of the particle attended to.
    features : Tensor, shape (M, 4)
        :data:`PAIR_FEATURES` of the pair.
    weights : Tensor, shape (L, M, heads)
        Attention weights of each of the L layers. Those of a query add up to 1 over the keys.
    size : Tensor, shape (M,)
        Number of particles of the jet.
    """

    query: Tensor
    key: Tensor
    features: Tensor
    weights: Tensor
    size: Tensor

    def __repr__(self) -> str:
        """Numbers of layers, heads and pairs."""
        num_layers, pairs, heads = self.weights.shape
        return f"AttentionMaps of {num_layers} layers with {heads} heads on {pairs:,} pairs"

    def profile(
        self, feature: int, bins: int = 12
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Attention relative to uniform attention in bins of a pair feature.

        It is 1 where the weights of a layer do not depend on the feature. It is a mean over heads.
        Pairs of a particle with itself are left out.

        Parameters
        ----------
        feature : int
            Index of the pair feature in :data:`PAIR_FEATURES`.
        bins : int
            Number of bins, which hold equal numbers of pairs.

        Returns
        -------
        edges : ndarray, shape (bins + 1,)
            Edges of the bins.
        profile : ndarray, shape (L, bins)
            Relative attention of each layer.
        """
        others = (self.query != self.key).cpu().numpy()
        x = self.features[:, feature].double().cpu().numpy()[others]
        relative = (self.weights.mean(2) * self.size).double().cpu().numpy()[:, others]
        edges = np.quantile(x, np.linspace(0, 1, bins + 1))
        place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, bins - 1)
        counts = np.maximum(np.bincount(place, minlength=bins), 1)
        return edges, np.stack([np.bincount(place, r, bins) / counts for r in relative])


@torch.no_grad()
def attention_maps(
    model: nn.Module, x: Tensor, p4: Tensor, batch: Tensor, *others: Any
) -> AttentionMaps:
    """Attention weights of the particle blocks of a transformer.

    They are computed again from the inputs of
    :class:`~pcloud.nn.attention.attention.SelfAttention`, recorded by forward hooks, since the
    network does not store them.

    Parameters
    ----------
    model : torch.nn.Module
        Transformer, such as the Particle Transformer, in evaluation mode.
    x, p4, batch : Tensor
        Inputs of the model.
    *others
        Further arguments of the model, such as a layout.

    Raises
    ------
    InputError
        If the model has no such attention.
    """
    layers = [module for module in model.modules() if isinstance(module, SelfAttention)]
    if not layers:
        raise InputError("this network has no attention between particles, unlike ParT")
    found: list[Tensor] = []
    slots: list[Any] = []

    def record(layer: SelfAttention, given: tuple[Any, ...], out: Tensor) -> None:
        slots.append(given[1])
        found.append(_weights(layer, *given))

    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        model(x, p4, batch, *others)
    finally:
        for handle in handles:
            handle.remove()
    layout = slots[0].layout
    query, key = _pairs(layout)
    features = interactions(p4, UnorderedPairs(query, key, ()))
    return AttentionMaps(
        query, key, features, torch.stack(found), layout.counts[layout.batch[query]]
    )


def _weights(layer: SelfAttention, x: Tensor, slots: Any, bias: Any) -> Tensor:
    """Attention weights (M, heads) in the order of :func:`_pairs`."""
    qkv = layer.queries_keys_values(x, slots)
    parts = []
    for block, b in zip(slots.layout.blocks, bias, strict=True):
        q, k, _ = block.gather(qkv).permute(2, 0, 3, 1, 4)  # (b, heads, P, d)
        weights = (q @ k.mT * q.shape[-1] ** -0.5 + b).softmax(-1)
        parts.append(weights.permute(0, 2, 3, 1)[_real(block)])
    return torch.cat(parts)


def _pairs(layout: Any) -> tuple[Tensor, Tensor]:
    queries = []
    keys = []
    for block in layout.blocks:
        real = _real(block)
        queries.append(block.index.unsqueeze(2).expand_as(real)[real])
        keys.append(block.index.unsqueeze(1).expand_as(real)[real])
    return torch.cat(queries), torch.cat(keys)


def _real(block: Any) -> Tensor:
    return block.mask.unsqueeze(2) & block.mask.unsqueeze(1)
