"""Attribution to the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pcloud.errors import InputError
from pcloud.interpret.methods import as_array, check_method, evaluation_mode
from pcloud.interpret.response import CompletenessMixin, log_odds
from pcloud.nn.numerics.derivatives import frozen
from pcloud.words import number_of

__all__ = ["RowAttribution", "attribute_rows"]


@dataclass(frozen=True)
class RowAttribution(CompletenessMixin):
    """Contributions of the columns to the response of their events.

    Parameters
    ----------
    method : str
        Name of the method in :data:`~pcloud.interpret.methods.METHODS`.
    values : ndarray, shape (B, F)
        Contribution of each column. For integrated gradients and occlusion it has a sign, positive
        in favour of the class. For saliency and SmoothGrad it is the magnitude of the gradient.
    columns : tuple of str
        Names of the columns.
    response : ndarray, shape (B,)
        Log-odds of the class.
    baseline : ndarray, shape (B,), optional
        Log-odds at the baseline of integrated gradients.
    """

    method: str
    values: NDArray[np.floating]
    columns: tuple[str, ...]
    response: NDArray[np.floating]
    baseline: NDArray[np.floating] | None = None

    def __repr__(self) -> str:
        """Method, number of events and columns."""
        events = number_of(len(self.values), "event")
        return f"RowAttribution by {self.method} of {events} to {', '.join(self.columns)}"

    @property
    def total(self) -> NDArray[np.floating]:
        """Sum over the columns of each event, (B,)."""
        return self.values.sum(axis=1)


def attribute_rows(
    model: nn.Module,
    rows: Tensor,
    names: Sequence[str],
    method: str = "saliency",
    *,
    target: int = 1,
    steps: int = 32,
    samples: int = 16,
    noise: float = 0.1,
    seed: int = 0,
) -> RowAttribution:
    """Attribute the log-odds of a class to the columns of each event.

    Parameters
    ----------
    model : torch.nn.Module
        Network ``model(rows) -> logits (B, C)``. It is used in evaluation mode.
    rows : Tensor, shape (B, F)
        Standardised columns.
    names : sequence of str
        Names of the columns.
    method : str
        ``"saliency"``, the magnitude of the gradient per standard deviation of the column;
        ``"smoothgrad"``, that of its mean over noisy copies; ``"integrated_gradients"`` along the straight
        line from the mean event; ``"occlusion"``, the response minus that with the column at its
        mean.
    target : int
        Index of the class.
    steps : int
        Number of points on the path of integrated gradients.
    samples : int
        Number of noisy copies for SmoothGrad.
    noise : float
        Standard deviation of the noise, in standard deviations of the columns.
    seed : int
        Seed of the noise.

    Returns
    -------
    RowAttribution

    Raises
    ------
    UnknownNameError
        If there is no such method.
    InputError
        If the names are not one per column.
    """
    check_method(method)
    if rows.ndim != 2 or len(names) != rows.shape[1]:
        raise InputError(f"{number_of(len(names), 'name')} for rows of shape {tuple(rows.shape)}")

    def response(x: Tensor) -> Tensor:
        return log_odds(model(x), target)

    def gradient(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(response(x).sum(), x)[0]

    baseline = None
    with evaluation_mode(model), frozen(model):
        if method == "saliency":
            values = gradient(rows).abs()
        elif method == "smoothgrad":
            random = torch.Generator().manual_seed(seed)
            noisy = (torch.randn(rows.shape, generator=random) * noise for _ in range(samples))
            values = torch.stack([gradient(rows + part) for part in noisy]).mean(0).abs()
        elif method == "integrated_gradients":
            nodes, weights = np.polynomial.legendre.leggauss(steps)
            parts = zip((nodes + 1) / 2, weights / 2, strict=True)
            values = rows * torch.stack([w * gradient(t * rows) for t, w in parts]).sum(0)
            baseline = as_array([response(0 * rows)])
        else:
            values = torch.stack(
                [response(rows) - response(_without(rows, i)) for i in range(len(names))], dim=1
            )
        whole = as_array([response(rows)])
    return RowAttribution(method, as_array([values]), tuple(names), whole, baseline)


def _without(rows: Tensor, column: int) -> Tensor:
    """Copy of the rows with a column at its mean, 0."""
    rows = rows.clone()
    rows[:, column] = 0
    return rows
