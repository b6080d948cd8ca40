"""Blocks of versions 2 and 3 of the Particle Transformer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pcloud.errors import InputError, UnknownNameError
from pcloud.nn.attention.attention import ClassAttention, SelfAttention
from pcloud.nn.attention.feed_forward import GatedFeedForward
from pcloud.nn.attention.head_slots import HeadSlots
from pcloud.nn.attention.random_mask import Dropout
from pcloud.nn.attention.rms_norm import RMSNorm
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.stochastic_depth import StochasticDepth

__all__ = [
    "VERSIONS",
    "GatedBlock",
    "GatedClassBlock",
    "PartVersion",
    "attention_options",
    "part_version",
]


@dataclass(frozen=True)
class PartVersion:
    """Normalisation, constant terms and regularisation of a version of the Particle Transformer.

    Attributes
    ----------
    norm : callable
        Normalisation: a function of the width that returns a module.
    bias : bool
        Linear maps with a constant term, except in the particle embedding and the last map.
    dropout, drop_path : float
        Default probabilities of dropout, and of a jet to lose a branch.
    """

    norm: Callable[[int], nn.Module] = nn.LayerNorm
    bias: bool = True
    dropout: float = 0.1
    drop_path: float = 0.0


VERSIONS = {
    1: PartVersion(),
    2: PartVersion(),
    3: PartVersion(RMSNorm, bias=False, dropout=0.0, drop_path=0.1),
}
"""The versions of weaver-core by number."""


def part_version(version: int) -> PartVersion:
    """Return the description of a version.

    Raises
    ------
    InputError
        If there is no such version.
    """
    if version not in VERSIONS:
        raise InputError(
            f"the version of the Particle Transformer must be 1, 2 or 3, got {version}"
        )
    return VERSIONS[version]


def attention_options(
    version: PartVersion, width: int, num_heads: int, qk_norm: bool, gate: str
) -> dict[str, Any]:
    """Return the options of attention layers that the options of the network select.

    Raises
    ------
    UnknownNameError
        If there is no gate of that name.
    """
    gates = {"none": None, "heads": num_heads, "channels": width}
    if gate not in gates:
        raise UnknownNameError("gate", gate, gates)
    return {"qk_norm": version.norm if qk_norm else None, "gate": gates[gate]}


class GatedBlock(nn.Module):
    """Attention among particles and SwiGLU, each normalised before only.

    Parameters
    ----------
    width : int
        Features per particle C.
    num_heads : int
        Number of heads.
    version : PartVersion
        Normalisation, and constant terms of the linear maps.
    layer : type
        Attention layer.
    dropout : float
        Dropout probability.
    drop_path : float
        Probability that a jet loses one of the two branches while training.
    attention : mapping
        Further options of the attention, see :func:`attention_options`.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        version: PartVersion,
        layer: type[SelfAttention] = SelfAttention,
        *,
        dropout: float,
        drop_path: float,
        attention: dict[str, Any],
    ) -> None:
        super().__init__()
        attend = partial(layer, width, num_heads, dropout)
        self.norm = version.norm(width)
        self.attention = attend(bias=version.bias, head_scale=False, **attention)
        self.dropout = Dropout(dropout)
        self.feed_forward = GatedFeedForward(
            width, 4 * width, dropout, norm=version.norm, bias=version.bias
        )
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, x: Tensor, slots: HeadSlots, bias: Sequence[Tensor]) -> Tensor:
        """Features (N, C) from ``x (N, C)`` and the attention bias of each block of `slots`."""
        jets = (slots.layout.batch, slots.layout.num_jets)
        x = x + self.drop_path(self.dropout(self.attention(self.norm(x), slots, bias)), *jets)
        return x + self.drop_path(self.feed_forward(x), *jets)

    @torch.no_grad()
    def shrink(self, factor: float) -> None:
        """Multiply the last map of each branch by `factor`, the authors' initialisation."""
        self.attention.out.weight *= factor
        self.feed_forward.contract.weight *= factor


class GatedClassBlock(nn.Module):
    """Block of the class token, which attends to itself and to the particles.

    The parameters are those of :class:`GatedBlock`.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        version: PartVersion,
        *,
        drop_path: float,
        attention: dict[str, Any],
    ) -> None:
        super().__init__()
        attend = partial(ClassAttention, width, num_heads)
        self.norm = version.norm(width)
        self.attention = attend(bias=version.bias, head_scale=False, **attention)
        self.feed_forward = GatedFeedForward(width, 4 * width, norm=version.norm, bias=version.bias)
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, token: Tensor, x: Tensor, layout: RaggedLayout) -> Tensor:
        """Tokens (B, C) from ``token (B, C)`` and ``x (N, C)``; the query is not normalised."""
        jets = (torch.arange(len(token), device=token.device), len(token))
        attended = self.attention(token, self.norm(token), self.norm(x), layout)
        token = token + self.drop_path(attended, *jets)
        return token + self.drop_path(self.feed_forward(token), *jets)
