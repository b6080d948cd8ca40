"""Dropout of whole branches of a network, jet by jet."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["StochasticDepth"]


class StochasticDepth(nn.Module):
    """Set the output of a branch to 0 for random jets while training, and scale that of the others.

    All particles of a jet keep or lose the branch together.

    Parameters
    ----------
    p : float
        Probability that a jet loses the branch.

    Raises
    ------
    ValueError
        If `p` is not in [0, 1).

    References
    ----------
    Huang et al., Deep Networks with Stochastic Depth, https://arxiv.org/abs/1603.09382.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"the probability of losing a branch must be in [0, 1), got {p}")
        self.dropout = p

    def forward(self, x: Tensor, jet: Tensor, num_jets: int) -> Tensor:
        """Rows (N, C) from ``x (N, C)`` and the index of the jet of each row, ``jet (N,)``."""
        if not self.training or self.dropout == 0:
            return x
        keep = x.new_empty(num_jets, 1).bernoulli_(1 - self.dropout).div_(1 - self.dropout)
        return x * keep.index_select(0, jet)
