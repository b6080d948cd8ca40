"""Taylor coefficients of the response of a network in its inputs and in pairs of inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor
from torch.func import hessian, jacrev, vmap

from pcloud.errors import InputError, UnknownNameError
from pcloud.evaluation.measured import Measured
from pcloud.typing import Floats
from pcloud.words import number_of

__all__ = ["TaylorCoefficients", "mean_in_plane", "taylor_coefficients"]


@dataclass(frozen=True)
class TaylorCoefficients:
    """Coefficients of the expansion of a response around each jet of a sample.

    ``f(x + d) = f(x) + sum_a t_a d_a + sum_(a <= b) t_ab d_a d_b + ...``. Thus ``t_aa`` is half of
    a second derivative, and ``t_ab`` with a < b is a mixed second derivative.

    Parameters
    ----------
    names : tuple of str
        Names of the inputs.
    first : ndarray, shape (B, F)
        ``t_a``.
    second : ndarray, shape (B, F, F), optional
        ``t_ab``, symmetric.
    same : ndarray, shape (B', F, F), optional
        For clouds: the part of ``t_ab`` from pairs of features of one particle, for some jets.
    rest : ndarray, shape (B', F, F), optional
        For the same jets, the part from pairs of features of two particles. Both add up to
        `second`.
    alone : ndarray, shape (B, F), optional
        For clouds: ``sum_p |df / dx_pa|``, a first order in which particles do not cancel.
    """

    names: tuple[str, ...]
    first: Floats
    second: Floats | None = None
    same: Floats | None = None
    rest: Floats | None = None
    alone: Floats | None = None

    def __repr__(self) -> str:
        """Number of jets, inputs and order."""
        order = 1 if self.second is None else 2
        return (
            f"TaylorCoefficients to order {order} of {number_of(len(self.first), 'jet')} in "
            f"{', '.join(self.names)}"
        )

    def scaled(self, unit: ArrayLike) -> TaylorCoefficients:
        """Convert to units ``(F,)`` of the inputs, such as their standard deviations."""
        u = np.asarray(unit, dtype=float)
        if u.shape != (len(self.names),):
            raise InputError(f"{len(self.names)} inputs need as many units, not {u.shape}")
        once = {n: v * u for n in ("first", "alone") if (v := getattr(self, n)) is not None}
        uu = np.outer(u, u)
        twice = {
            n: v * uu for n in ("second", "same", "rest") if (v := getattr(self, n)) is not None
        }
        return replace(self, **once, **twice)

    def of(self, *inputs: str) -> Floats:
        """Coefficients ``t_a`` of one input or ``t_ab`` of two, by name, (B,)."""
        at = [self._index(name) for name in inputs]
        if len(at) == 1:
            return self.first[:, at[0]]
        if len(at) != 2:
            raise InputError(f"name one input or two, not {len(at)}")
        if self.second is None:
            raise InputError("the second order was not computed: use order=2")
        return self.second[:, at[0], at[1]]

    def mean_absolute(self, part: str = "all") -> dict[str, Measured]:
        """Mean absolute value of every coefficient over the jets, largest first.

        Parameters
        ----------
        part : {"all", "same", "rest", "alone"}
            All coefficients of both orders, or one of the parts for clouds.

        Returns
        -------
        dict of str to Measured
            Means with their standard errors, by ``"a"`` or ``"a, b"``.
        """
        found: dict[str, Measured] = {}
        single = {"all": self.first, "alone": self.alone}.get(part)
        pairs = {"all": self.second, "same": self.same, "rest": self.rest}.get(part)
        if single is None and pairs is None:
            raise InputError(f"these coefficients have no part {part!r}")
        if single is not None:
            found |= {name: _mean_absolute(single[:, a]) for a, name in enumerate(self.names)}
        if pairs is not None:
            for a, b in combinations_with_replacement(range(len(self.names)), 2):
                found[f"{self.names[a]}, {self.names[b]}"] = _mean_absolute(pairs[:, a, b])
        return dict(sorted(found.items(), key=lambda item: -item[1].value))

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise UnknownNameError("input", name, self.names)
        return self.names.index(name)


def taylor_coefficients(
    response: Callable[[Tensor], Tensor],
    inputs: Tensor,
    *,
    names: Sequence[str] | None = None,
    order: int = 2,
    chunk_size: int = 1000,
) -> TaylorCoefficients:
    """Expand the response of a dense network, such as one on high-level features, around each jet.

    The inputs should be standardised, or the result :meth:`~TaylorCoefficients.scaled`, because
    only coefficients in the same unit can be compared.

    Parameters
    ----------
    response : callable
        Function ``response(inputs (B, F)) -> (B,)``, such as the probability of a class. The
        response of a jet must not depend on other jets; a network with batch normalisation must be
        in evaluation mode.
    inputs : Tensor, shape (B, F)
        The sample.
    names : sequence of str, optional
        Names of the inputs; by default x1, x2, ...
    order : {1, 2}
        Order of the expansion.
    chunk_size : int
        Number of jets that are expanded at a time.

    Returns
    -------
    TaylorCoefficients

    Raises
    ------
    InputError
        If shapes or order cannot be used.

    Notes
    -----
    The logits of a network with ReLU activations are piecewise linear. Its second order is due to
    the softmax alone, since the derivatives do not include the kinks. Smooth activations have a
    second order of their own.

    References
    ----------
    Wunsch, Friese, Wolf and Quast, Identifying the relevant dependencies of the neural network
    response on characteristics of the input space, https://arxiv.org/abs/1803.08782.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    >>> print(taylor_coefficients(lambda x: x[:, 0] * x[:, 1], x).second[0])
    [[0. 1.]
     [1. 0.]]
    """
    if order not in (1, 2):
        raise InputError(f"order must be 1 or 2, got {order}")
    if inputs.ndim != 2:
        raise InputError(f"inputs must have shape (B, F), not {tuple(inputs.shape)}")
    labels = tuple(names or (f"x{i + 1}" for i in range(inputs.shape[1])))
    if len(labels) != inputs.shape[1]:
        raise InputError(
            f"{number_of(len(labels), 'name')} for {number_of(inputs.shape[1], 'input')}"
        )

    def of_one(x: Tensor) -> Tensor:
        return response(x.unsqueeze(0)).squeeze(0)

    first = vmap(jacrev(of_one), chunk_size=chunk_size)(inputs)
    second = None
    if order == 2:
        second = halved(_array(vmap(hessian(of_one), chunk_size=chunk_size)(inputs)))
    return TaylorCoefficients(labels, _array(first), second)


def mean_in_plane(
    x: Floats, y: Floats, values: Floats, edges: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Mean of `values` and number of entries in the cells of the plane of two inputs.

    Parameters
    ----------
    x, y, values : ndarray, shape (B,)
        Two inputs, and the values to average, such as a coefficient.
    edges : tuple of ndarray, shapes (K + 1,) and (L + 1,)
        Edges of the cells.

    Returns
    -------
    mean, number : ndarray, shape (K, L)
        Mean, which is NaN in an empty cell, and number of entries.
    """
    bins = [np.asarray(edge) for edge in edges]
    number = np.histogram2d(x, y, bins)[0]
    total = np.histogram2d(x, y, bins, weights=values)[0]
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0), number


def halved(second: Floats) -> Floats:
    """Second derivatives (B, F, F) as coefficients: halved on the diagonal."""
    return second * (1 - 0.5 * np.eye(second.shape[-1]))


def _array(x: Tensor) -> Floats:
    return x.detach().double().cpu().numpy()


def _mean_absolute(values: Floats) -> Measured:
    return Measured.mean(np.abs(values))
