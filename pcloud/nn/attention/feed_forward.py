"""Feed-forward networks of a transformer block."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from pcloud.nn.attention.random_mask import Dropout

__all__ = ["FeedForward", "GatedFeedForward"]


class FeedForward(nn.Module):
    """Normalise, expand, GELU, normalise, contract: the feed-forward network of NormFormer.

    Parameters
    ----------
    channels : int
        Features of input and output.
    hidden : int
        Features of the hidden layer.
    dropout : float
        Dropout probability after the activation function and after the last layer.

    References
    ----------
    Shleifer, Weston and Ott, NormFormer, https://arxiv.org/abs/2110.09456.

    Examples
    --------
    >>> FeedForward(channels=8, hidden=32)(torch.randn(5, 8)).shape
    torch.Size([5, 8])
    """

    def __init__(self, channels: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, hidden)
        self.inner_norm = nn.LayerNorm(hidden)
        self.contract = nn.Linear(hidden, channels)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, C) from ``x (N, C)``."""
        x = self.dropout(F.gelu(self.expand(self.norm(x))))
        return self.dropout(self.contract(self.inner_norm(x)))


class GatedFeedForward(nn.Module):
    """Normalise, expand, multiply by the SiLU of a second map, contract: SwiGLU.

    Parameters
    ----------
    channels : int
        Features of input and output.
    hidden : int
        Features of the hidden layer.
    dropout : float
        Dropout probability of the hidden layer and after the last layer.
    norm : callable
        Normalisation of the input: a function of its width that returns a module.
    bias : bool
        Linear maps with a constant term.

    References
    ----------
    Shazeer, GLU Variants Improve Transformer, https://arxiv.org/abs/2002.05202.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        dropout: float = 0.0,
        *,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.gate = nn.Linear(channels, hidden, bias)
        self.expand = nn.Linear(channels, hidden, bias)
        self.contract = nn.Linear(hidden, channels, bias)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, C) from ``x (N, C)``."""
        x = self.norm(x)
        x = self.dropout(F.silu(self.gate(x)) * self.expand(x))
        return self.dropout(self.contract(x))
