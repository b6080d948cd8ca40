"""Taylor coefficients of networks on clouds, in features common to all particles of a jet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Batch

from pcloud import kinematics
from pcloud.batch import JetDataset, collate, network_arguments
from pcloud.errors import InputError
from pcloud.interpret.methods import refuse_embedded
from pcloud.interpret.response import check_momenta
from pcloud.interpret.taylor import TaylorCoefficients, halved
from pcloud.nn.graph.coordinates import follow_particles
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import frozen, higher_derivatives
from pcloud.nn.pooling import sum_pool
from pcloud.run_files import Advance, ignore_progress
from pcloud.words import number_of

__all__ = ["CloudTaylor", "cloud_taylor"]

_ETA_MAX = 10.0  # bound on pseudorapidities, which are infinite along the beam

MOMENTA = ("log_pt", "eta", "phi")
"""Variables of networks that use only four-momenta."""


@dataclass(frozen=True)
class CloudTaylor:
    """Taylor coefficients of jets, and the gradients of their particles.

    Parameters
    ----------
    coefficients : TaylorCoefficients
        Coefficients in units of `unit`.
    gradients : ndarray, shape (N, F)
        Gradient ``df / dx_pa`` of each particle, in the same units.
    unit : ndarray, shape (F,)
        Standard deviation of each feature over the particles of the sample.
    jets : ndarray of int, shape (B,)
        Indices of the jets in the data set, in the order of the coefficients and gradients.
    """

    coefficients: TaylorCoefficients
    gradients: NDArray[np.floating]
    unit: NDArray[np.floating]
    jets: NDArray[np.integer]

    def __repr__(self) -> str:
        """Coefficients, and the number of particles with gradients."""
        return f"CloudTaylor with gradients of {number_of(len(self.gradients), 'particle')}: {self.coefficients}"


def cloud_taylor(
    model: nn.Module,
    data: JetDataset,
    *,
    target: int = 1,
    order: int = 2,
    jets: int | None = None,
    pair_jets: int = 0,
    variables: str = "features",
    batch_size: int = 32,
    advance: Advance = ignore_progress,
) -> CloudTaylor:
    """Expand the probability of a class around each jet, in the features of its particles.

    A jet with P particles has P F inputs ``x_pa``. We expand in shifts ``x_pa + d_a`` common to all
    particles of a jet:

    - First order: ``t_a = sum_p df / dx_pa``, and `alone`, ``sum_p |df / dx_pa|``, in which
      gradients of opposite signs do not cancel.
    - Second order: ``t_ab = sum_pq d2f / dx_pa dx_qb``, halved for a = b. For `pair_jets` jets it is
      divided into pairs on the same particle (p = q) and on two different particles.

    The neighbours in a graph network are constant in the differentiation, as in the training. So
    are the order of the particles and the clustering history of networks that use them.

    Parameters
    ----------
    model : torch.nn.Module
        Network ``model(x, p4, batch) -> logits (B, C)``, in evaluation mode.
    data : JetDataset
        Jets with their features.
    target : int
        Class whose softmax probability is expanded.
    order : {1, 2}
        Order of the expansion.
    jets : int, optional
        Number of jets to expand, the first ones of the data set; by default all.
    pair_jets : int
        Number of jets, the first ones, for which pairs on one particle are separated from pairs on
        two. The time per jet is then P times as long.
    variables : {"features", "momenta"}
        Variables of the expansion: the features `x` at constant four-momenta; or, for a network
        that does not use features, log pT, eta and phi of each particle at constant mass.
    batch_size : int
        Number of jets in a forward pass.
    advance : callable
        Progress callback, called with the part of the whole work done.

    Returns
    -------
    CloudTaylor
        Coefficients in units of the standard deviation of each feature over the particles.

    Raises
    ------
    InputError
        If the network does not depend on the variables, or cannot be differentiated twice. For
        momenta also if the network uses features, or if its response is discontinuous in the
        momenta, as for networks on jet images.

    Notes
    -----
    The second order of a batch needs F backward passes through the graph of the first derivative.

    References
    ----------
    Wunsch, Friese, Wolf and Quast, https://arxiv.org/abs/1803.08782 (for dense networks).
    """
    if order not in (1, 2):
        raise InputError(f"order must be 1 or 2, got {order}")
    if variables not in ("features", "momenta"):
        raise InputError(f"variables must be features or momenta, got {variables!r}")
    refuse_embedded(data.feature_set, "Taylor coefficients", categories=variables == "features")
    if variables == "momenta":
        check_momenta(model)
    names = data.feature_set.names if variables == "features" else MOMENTA
    chosen = torch.arange(min(jets or len(data), len(data)))
    unit = _unit(data, chosen, variables)
    parts = _Parts()
    pairs = chosen[:pair_jets] if order == 2 else chosen[:0]
    num_jets = max(len(chosen) + len(pairs), 1)
    with higher_derivatives(), frozen(model):
        for index in chosen.split(batch_size):
            batch = collate(data, index)
            expansion = _Expansion(model, batch, target, variables, unit)
            parts.add(expansion, order)
            advance(len(index) / num_jets)
        for index in _by_length(data, pairs):
            batch = collate(data, index)
            parts.add_pairs(_Expansion(model, batch, target, variables, unit), index)
            advance(len(index) / num_jets)
    return CloudTaylor(parts.coefficients(names), parts.gradients(), unit.numpy(), chosen.numpy())


class _Expansion:
    """Response of a batch and its gradient for every particle, in units of `unit`."""

    def __init__(
        self, model: nn.Module, batch: Batch, target: int, variables: str, unit: Tensor
    ) -> None:
        self.ptr = batch.ptr
        self.layout = RaggedLayout.from_ptr(batch.ptr)
        self.unit = unit
        # in double precision, because sums over particles may cancel, as for a rotated jet
        self.shift = torch.zeros(
            len(batch.batch), len(unit), dtype=torch.float64, requires_grad=True
        )
        x = batch.x
        p4 = batch.p4
        if variables == "features":
            x = (x.double() + self.shift * unit.double()).to(x)
        else:
            x = x.detach().requires_grad_()  # to detect a network that uses it
            p4 = _shifted(p4.double(), self.shift * unit.double())
        # in double precision: the derivatives of a float32 probability close to 1 are rounded to 0
        u = batch.u if "u" in batch else None
        if variables == "momenta" and u is not None:
            raise InputError("the network uses features of jets: use variables='features'")
        arguments = network_arguments(x, p4, batch.batch, _jet_momenta(batch, p4), u)
        response = model(*arguments).double().softmax(-1)[:, target]
        gradient, by_features = _gradients(response, self.shift, x)
        if variables == "momenta" and by_features is not None:
            raise InputError("the network uses features besides momenta: use variables='features'")
        if gradient is None:
            raise InputError(f"the network does not depend on the {variables} of its particles")
        self.gradient = gradient  # (N, F)

    def row(self, particles: Tensor, a: int) -> Tensor:
        """Sum of ``d2f / dx_pa dx_qb`` over some particles p, for each q and b, (N, F)."""
        gradient = self.gradient[particles, a].sum()
        (row,) = torch.autograd.grad(gradient, self.shift, retain_graph=True)
        return row

    def per_jet(self, values: Tensor) -> Tensor:
        """Sums over the particles of each jet, (B, ...)."""
        return sum_pool(values, self.layout)


def _jet_momenta(batch: Batch, p4: Tensor) -> Tensor | None:
    """Stored momenta of the jets, changed with their particles."""
    if "jet_p4" not in batch:
        return None
    layout = RaggedLayout.from_ptr(batch.ptr)
    return follow_particles(batch.jet_p4, batch.p4, p4, layout)


def _gradients(response: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of the sum of `response`; None for an input on which it does not depend."""
    if not response.requires_grad:  # the weights are frozen
        return (None,) * len(inputs)
    return torch.autograd.grad(response.sum(), inputs, create_graph=True, allow_unused=True)


class _Parts:
    """Results of the batches, concatenated."""

    def __init__(self) -> None:
        self._found: dict[str, list[Tensor]] = {}
        self._pair_jets: list[Tensor] = []

    def add(self, expansion: _Expansion, order: int) -> None:
        """Add the first and second order of a batch in common shifts."""
        gradient = expansion.gradient.detach()
        self._keep("gradients", gradient)
        self._keep("first", expansion.per_jet(gradient))
        self._keep("alone", expansion.per_jet(gradient.abs()))
        if order == 2:
            if _has_gaps(expansion.gradient):
                raise InputError(
                    "a layer of this network has only a first derivative (once_differentiable): "
                    "use order 1"
                )
            everywhere = torch.arange(len(gradient))
            rows = (expansion.row(everywhere, a) for a in range(gradient.shape[1]))
            self._keep("second", torch.stack([expansion.per_jet(row) for row in rows], dim=1))

    def add_pairs(self, expansion: _Expansion, jets: Tensor) -> None:
        """Add the second order of `jets` for pairs on the same particle and on different ones."""
        count = expansion.ptr.diff()
        features = expansion.gradient.shape[1]
        same = torch.zeros(len(count), features, features, dtype=torch.float64)
        total = torch.zeros_like(same)
        for position in range(int(count.max())):
            jet = torch.nonzero(count > position).squeeze(1)
            particle = expansion.ptr[jet] + position
            for a in range(features):
                row = expansion.row(particle, a)
                same[jet, a] += row[particle]
                total[:, a] += expansion.per_jet(row)
        self._pair_jets.append(jets)
        self._keep("same", same)
        self._keep("rest", total - same)

    def gradients(self) -> NDArray[np.floating]:
        """Gradient of each particle, (N, F)."""
        return self._array("gradients")

    def coefficients(self, names: Sequence[str]) -> TaylorCoefficients:
        """Coefficients of all jets."""
        arrays = {name: self._array(name) for name in self._found if name != "gradients"}
        for name in ("second", "same", "rest"):
            if name in arrays:
                arrays[name] = halved(arrays[name])
        for name in ("same", "rest"):
            if name in arrays:
                arrays[name] = arrays[name][torch.cat(self._pair_jets).argsort().numpy()]
        return TaylorCoefficients(tuple(names), **arrays)

    def _keep(self, name: str, value: Tensor) -> None:
        self._found.setdefault(name, []).append(value.double())

    def _array(self, name: str) -> NDArray[np.floating]:
        return torch.cat(self._found[name]).numpy()


def _unit(data: JetDataset, jets: Tensor, variables: str) -> Tensor:
    """Standard deviations over the particles; eta and phi are relative to the jet axis."""
    batch = collate(data, jets)
    if variables == "features":
        return batch.x.std(0)
    layout = RaggedLayout.from_ptr(batch.ptr)
    total = sum_pool(batch.p4, layout)[layout.batch]
    relative = (
        kinematics.pt(batch.p4).log(),
        kinematics.eta(batch.p4).clamp(-_ETA_MAX, _ETA_MAX) - kinematics.eta(total),
        kinematics.delta_phi(batch.p4, total),
    )
    return torch.stack([value.std() for value in relative]).float()


def _shifted(p4: Tensor, shift: Tensor) -> Tensor:
    """Momenta (N, 4) with log pT, eta and phi shifted by ``(N, 3)`` at constant mass.

    The energy is computed from the stored energy and the change of the momentum, so that the
    rounding error of a mass does not enter.
    """
    pt = kinematics.pt(p4)
    eta = torch.asinh(p4[:, 3] / pt) + shift[:, 1]
    phi = torch.atan2(p4[:, 2], p4[:, 1]) + shift[:, 2]
    pt = pt * shift[:, 0].exp()
    before = p4[:, 1:].square().sum(-1)
    momentum = torch.stack([pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()], dim=-1)
    energy = (p4[:, 0].square() + momentum.square().sum(-1) - before).sqrt()
    return torch.cat([energy.unsqueeze(-1), momentum], dim=-1)


def _by_length(data: JetDataset, jets: Tensor, size: int = 16) -> Iterator[Tensor]:
    """Yield batches of jets of similar length, since the longest jet sets the number of passes."""
    order = (data.ptr[jets + 1] - data.ptr[jets]).argsort(stable=True)
    return iter(jets[order].split(size)) if len(jets) else iter(())


def _has_gaps(gradient: Tensor) -> bool:
    """Return True if a node of the graph has no second derivative.

    ``torch.autograd.grad`` would omit its contribution without an error.
    """
    seen = set()
    waiting = [gradient.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "Error":
            return True
        waiting += [following for following, _ in node.next_functions]
    return False
