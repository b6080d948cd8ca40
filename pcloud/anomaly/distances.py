"""Distances between two weighted sets of points: Chamfer, and the energy mover's."""

from __future__ import annotations

import torch
from torch import Tensor

from pcloud.kinematics import safe_sqrt

__all__ = ["chamfer_distance", "energy_mover_distance"]

_FAR = 1e6  # squared distance of an empty slot
_TINY = 1e-30


def chamfer_distance(x: Tensor, y: Tensor, x_weight: Tensor, y_weight: Tensor) -> Tensor:
    """Weighted mean of the squared distance of each point to the nearest of the other set.

    ``sum_i w_i min_j |x_i - y_j|^2 + sum_j v_j min_i |x_i - y_j|^2``. It ignores the order of the
    points, and is 0 for two equal sets. Slots of weight 0 are empty.

    Parameters
    ----------
    x : Tensor, shape (B, P, D)
        Points of the first sets.
    y : Tensor, shape (B, M, D)
        Points of the second sets.
    x_weight : Tensor, shape (B, P)
        Weights w; their sum is 1, or 0 for an empty set.
    y_weight : Tensor, shape (B, M)
        Weights v.

    Returns
    -------
    Tensor, shape (B,)

    References
    ----------
    Fan, Su and Guibas, A Point Set Generation Network for 3D Object Reconstruction from a Single
    Image, https://arxiv.org/abs/1612.00603.

    Examples
    --------
    >>> x = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])
    >>> half = torch.full((1, 2), 0.5)
    >>> chamfer_distance(x, x.flip(1), half, half), chamfer_distance(x, x + 3.0, half, half)
    (tensor([0.]), tensor([31.]))
    """
    square = _squares(x, y)
    x_empty, y_empty = x_weight <= 0, y_weight <= 0
    to_y = square.masked_fill(y_empty.unsqueeze(1), _FAR).amin(2).masked_fill(x_empty, 0.0)
    to_x = square.masked_fill(x_empty.unsqueeze(2), _FAR).amin(1).masked_fill(y_empty, 0.0)
    found = (x_weight * to_y).sum(-1) + (y_weight * to_x).sum(-1)
    return found.where(~(x_empty.all(-1) | y_empty.all(-1)), torch.zeros_like(found))


def energy_mover_distance(
    x: Tensor,
    y: Tensor,
    x_weight: Tensor,
    y_weight: Tensor,
    *,
    epsilon: float = 0.02,
    iterations: int = 30,
) -> Tensor:
    """Least work that moves the weights of one set to the other, by Sinkhorn's iteration.

    The work is ``sum_ij f_ij |x_i - y_j|`` with a plan f whose sums are the weights. The entropy of
    strength `epsilon` makes the result larger than the minimum; the plan is rounded to the weights, so
    that the result is never smaller. Gradients hold the plan fixed, as they may at the optimum.

    Parameters
    ----------
    x : Tensor, shape (B, P, D)
        Points of the first sets.
    y : Tensor, shape (B, M, D)
        Points of the second sets.
    x_weight : Tensor, shape (B, P)
        Weights; their sum is 1, or 0 for an empty set. Slots of weight 0 are empty.
    y_weight : Tensor, shape (B, M)
        Weights; their sum is 1.
    epsilon : float
        Strength of the entropy, in the unit of the points; the iteration begins with 1 and lowers it.
    iterations : int
        Number of iterations.

    Returns
    -------
    Tensor, shape (B,)
        Work in the unit of the points; 0 for an empty set.

    References
    ----------
    Komiske, Metodiev and Thaler, Metric Space of Collider Events, https://arxiv.org/abs/1902.02346;
    Cuturi, Sinkhorn Distances, https://arxiv.org/abs/1306.0895; Altschuler, Weed and Rigollet,
    https://arxiv.org/abs/1705.09634, for the rounding.

    Examples
    --------
    >>> x = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])
    >>> half = torch.full((1, 2), 0.5)
    >>> energy_mover_distance(x, x + torch.tensor([0.0, 0.5]), half, half).round(decimals=4)
    tensor([0.5000])
    """
    cost = safe_sqrt(_squares(x, y))  # (B, P, M)
    plan, f, g = _plan(cost.detach(), x_weight.detach(), y_weight.detach(), epsilon, iterations)
    work = (plan * cost).sum((1, 2))
    # weights move the optimum by their potentials; the value of these terms is 0
    by_weight = (f * x_weight).sum(-1) + (g * y_weight).sum(-1)
    return work + by_weight - by_weight.detach()


@torch.no_grad()
def _plan(
    cost: Tensor, x_weight: Tensor, y_weight: Tensor, epsilon: float, iterations: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Plan (B, P, M) of least work, and its potentials (B, P) and (B, M)."""
    log_x = x_weight.clamp(min=_TINY).log()
    log_y = y_weight.clamp(min=_TINY).log()
    f, g = torch.zeros_like(log_x), torch.zeros_like(log_y)
    for i in range(iterations):
        e = max(epsilon, 0.7**i)
        f = -e * torch.logsumexp((g.unsqueeze(1) - cost) / e + log_y.unsqueeze(1), dim=2)
        g = -e * torch.logsumexp((f.unsqueeze(2) - cost) / e + log_x.unsqueeze(2), dim=1)
    e = max(epsilon, 0.7 ** (iterations - 1))
    exponent = (f.unsqueeze(2) + g.unsqueeze(1) - cost) / e
    plan = (exponent + log_x.unsqueeze(2) + log_y.unsqueeze(1)).exp()
    plan = _rounded(plan, x_weight, y_weight)
    is_empty = (x_weight <= 0).all(-1) | (y_weight <= 0).all(-1)
    keep = (~is_empty).to(cost)[:, None]
    return plan * keep.unsqueeze(-1), f * keep, g * keep


def _rounded(plan: Tensor, x_weight: Tensor, y_weight: Tensor) -> Tensor:
    """Plan (B, P, M) with exactly the wanted sums, near one that has them nearly."""
    plan = plan * (x_weight / plan.sum(2).clamp(min=_TINY)).clamp(max=1).unsqueeze(2)
    plan = plan * (y_weight / plan.sum(1).clamp(min=_TINY)).clamp(max=1).unsqueeze(1)
    left = (x_weight - plan.sum(2)).clamp(min=0)  # negative only by rounding
    missing = (y_weight - plan.sum(1)).clamp(min=0)
    total = left.sum(-1).clamp(min=_TINY)[:, None, None]
    return plan + left.unsqueeze(2) * missing.unsqueeze(1) / total


def _squares(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances (B, P, M); differences, since equal points have exactly 0."""
    return (x.unsqueeze(2) - y.unsqueeze(1)).square().sum(-1)
