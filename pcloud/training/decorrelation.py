"""A penalty on scores that know the mass of the jet: distance correlation (DisCo)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from pcloud.errors import InputError, UnknownNameError
from pcloud.observables import OBSERVABLES, compute_observables

__all__ = ["Decorrelation", "distance_correlation"]

_TINY = 1e-12


def distance_correlation(x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """Squared distance correlation of two samples of pairs, ().

    0 in the limit of many pairs if and only if `x` and `y` are independent, 1 if one is a linear
    function of the other. Between a few pairs that are independent it is positive by chance, about
    1 / B for B pairs. Differentiable; B x B numbers are held.

    Parameters
    ----------
    x, y : Tensor, shape (B,)
        The pairs.
    weights : Tensor, shape (B,), optional
        Of the pairs, not negative; a pair of weight 0 is as if it were not there.

    Raises
    ------
    ValueError
        If `x` and `y` are not vectors of one length.

    References
    ----------
    Szekely, Rizzo and Bakirov, https://arxiv.org/abs/0803.4101;
    Kasieczka and Shih (DisCo), https://arxiv.org/abs/2001.05310.
    """
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"x and y must both have shape (B,), got {(*x.shape,)} and {(*y.shape,)}")
    w = torch.ones_like(x) if weights is None else weights.to(x)
    w = w / w.sum().clamp(min=_TINY)
    a, b = (_centred(values, w) for values in (x, y))
    pairs = w.unsqueeze(1) * w
    covariance, a2, b2 = ((pairs * p).sum() for p in (a * b, a * a, b * b))
    return covariance / (a2 * b2).clamp(min=_TINY**2).sqrt()


def _centred(values: Tensor, w: Tensor) -> Tensor:
    """Distances (B, B) less their means over rows and columns."""
    distance = (values.unsqueeze(1) - values).abs()
    rows = distance @ w
    return distance - rows.unsqueeze(1) - rows + w @ rows


class Decorrelation(nn.Module):
    """Squared distance correlation of the score and a variable over background jets.

    Parameters
    ----------
    variable : str
        Name in :data:`pcloud.observables.OBSERVABLES`.
    weight : float
        Factor on it, beside the loss of the labels.
    background : int
        Class over whose jets it is taken; the score is the probability of not being one.

    References
    ----------
    Kasieczka and Shih, https://arxiv.org/abs/2001.05310.
    """

    def __init__(self, variable: str, weight: float, background: int = 0) -> None:
        super().__init__()
        if variable not in OBSERVABLES:
            raise UnknownNameError("variable to decorrelate from", variable, OBSERVABLES)
        if not weight >= 0:
            raise InputError(f"the weight of the decorrelation must be at least 0, got {weight}")
        self.variable, self.weight, self.background = variable, weight, background

    def forward(self, loss: Tensor, logits: Tensor, batch: Batch) -> Tensor:
        """Loss () with the penalty, from the loss of the labels () and ``logits (B, C)``.

        The batch has its layout with it.
        """
        score = 1 - logits.softmax(dim=-1)[:, self.background]
        values = compute_observables(batch.p4, batch.layout, [self.variable])[:, 0].to(score)
        # as weights, so that nothing depends on a count that a GPU would have to tell first
        jets = (batch.y == self.background).to(score)
        return loss + self.weight * distance_correlation(score, values, jets)
