"""Taylor coefficients of networks on clouds: features of all particles, pairs on one and on two."""

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
from pcloud.interpret.response import check_momenta
from pcloud.interpret.taylor import TaylorCoefficients, halved
from pcloud.nn.graph.coordinates import follow_particles
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.numerics.derivatives import frozen, higher_derivatives
from pcloud.run_files import Advance, ignore_progress

__all__ = ["CloudTaylor", "cloud_taylor"]

MOMENTA = ("log_pt", "eta", "phi")
"""What is varied in networks that see four-momenta alone."""


@dataclass(frozen=True)
class CloudTaylor:
    """Coefficients of jets, and the gradients at their particles.

    Parameters
    ----------
    coefficients : TaylorCoefficients
        In units of `unit`.
    gradients : ndarray, shape (N, F)
        ``df / dx_pa`` of each particle, in these units.
    unit : ndarray, shape (F,)
        Standard deviation of each feature over the particles of the sample.
    jets : ndarray of int, shape (B,)
        Which jets of the data set, in the order of the coefficients and gradients.
    """

    coefficients: TaylorCoefficients
    gradients: NDArray[np.floating]
    unit: NDArray[np.floating]
    jets: NDArray[np.integer]


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

    A jet with P particles has P F inputs ``x_pa``. Reported is the expansion in shifts common to
    all its particles, ``x_pa + d_a``:

    - first order: ``t_a = sum_p df / dx_pa``, and beside it `alone`, ``sum_p |df / dx_pa|``, in
      which particles that pull in opposite directions do not cancel;
    - second order: ``t_ab = sum_pq d2f / dx_pa dx_qb``, halved for a = b; for `pair_jets` jets it is
      told apart into pairs on the same particle (p = q) and on two different ones.

    Neighbours in a graph network are constants of the differentiation, as in training, and so are
    the order of particles and the history of mergings where a network has them.

    Parameters
    ----------
    model : torch.nn.Module
        ``model(x, p4, batch) -> logits (B, C)``, in evaluation mode.
    data : JetDataset
        The jets, and the names of their features.
    target : int
        Class whose softmax probability is expanded.
    order : {1, 2}
        Of the expansion.
    jets : int, optional
        How many, the first ones; by default all.
    pair_jets : int
        For how many of them, the first ones, to tell one-particle pairs from the others. It costs
        P times as much as everything else.
    variables : {"features", "momenta"}
        What is varied: the features `x`, four-momenta kept, or for a network that sees no features
        log pT, eta and phi of each particle at constant mass.
    batch_size : int
        Jets at a time.
    advance : callable
        Progress callback, called with the part of the whole work done.

    Returns
    -------
    CloudTaylor
        In units of the standard deviation of each feature over the particles.

    Raises
    ------
    InputError
        If the network does not depend on the variables, or cannot be differentiated twice; if
        momenta are to be varied, and it sees features beside them, or jumps with them as networks
        on jet images do.

    Notes
    -----
    Two derivatives of a batch cost 1 + F backward passes through the first one.

    References
    ----------
    Wunsch, Friese, Wolf and Quast, https://arxiv.org/abs/1803.08782 (for dense networks).
    """
    if order not in (1, 2):
        raise InputError(f"order must be 1 or 2, got {order}")
    if variables not in ("features", "momenta"):
        raise InputError(f"variables must be features or momenta, got {variables!r}")
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
    """The response of a batch and its gradient at every particle, in units of `unit`."""

    def __init__(
        self, model: nn.Module, batch: Batch, target: int, variables: str, unit: Tensor
    ) -> None:
        self.batch = batch.batch
        self.ptr = batch.ptr
        self.unit = unit
        # sums over particles cancel, as for a turn of the jet about the beam
        self.shift = torch.zeros(
            len(batch.batch), len(unit), dtype=torch.float64, requires_grad=True
        )
        x, p4 = batch.x, batch.p4
        if variables == "features":
            x = (x.double() + self.shift * unit.double()).to(x)
        else:
            x = x.detach().requires_grad_()  # to know whether it is seen
            p4 = _moved(p4.double(), self.shift * unit.double())
        # in double precision: a float32 probability close to 1 has lost its derivatives
        arguments = network_arguments(x, p4, batch.batch, _jet_momenta(batch, p4))
        response = model(*arguments).double().softmax(-1)[:, target]
        gradient, by_features = _gradients(response, self.shift, x)
        if variables == "momenta" and by_features is not None:
            raise InputError("the network sees features beside momenta: vary the features")
        if gradient is None:
            raise InputError(f"the network does not depend on the {variables} of its particles")
        self.gradient = gradient  # (N, F)

    def row(self, particles: Tensor, a: int) -> Tensor:
        """``sum_p d2f / dx_pa dx_qb`` over some particles p, for each q and b, (N, F)."""
        gradient = self.gradient[particles, a].sum()
        (row,) = torch.autograd.grad(gradient, self.shift, retain_graph=True)
        return row

    def per_jet(self, values: Tensor) -> Tensor:
        """Sums over the particles of each jet, (B, ...)."""
        zeros = values.new_zeros(len(self.ptr) - 1, *values.shape[1:])
        return zeros.index_add(0, self.batch, values)


def _jet_momenta(batch: Batch, p4: Tensor) -> Tensor | None:
    """Stored momenta of the jets, which follow their particles."""
    if "jet_p4" not in batch:
        return None
    layout = RaggedLayout.from_ptr(batch.ptr)
    return follow_particles(batch.jet_p4, batch.p4, p4, layout)


def _gradients(response: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of the sum of `response`, None by what it does not depend on."""
    if not response.requires_grad:  # the weights are held
        return (None,) * len(inputs)
    return torch.autograd.grad(response.sum(), inputs, create_graph=True, allow_unused=True)


class _Parts:
    """What the batches gave."""

    def __init__(self) -> None:
        self._found: dict[str, list[Tensor]] = {}
        self._pair_jets: list[Tensor] = []

    def add(self, expansion: _Expansion, order: int) -> None:
        """First and second order in common shifts."""
        gradient = expansion.gradient.detach()
        self._keep("gradients", gradient)
        self._keep("first", expansion.per_jet(gradient))
        self._keep("alone", expansion.per_jet(gradient.abs()))
        if order == 2:
            if _has_gaps(expansion.gradient):
                raise InputError(
                    "a layer of this network has a first derivative only (once_differentiable): "
                    "ask for order 1"
                )
            everywhere = torch.arange(len(gradient))
            rows = (expansion.row(everywhere, a) for a in range(gradient.shape[1]))
            self._keep("second", torch.stack([expansion.per_jet(row) for row in rows], dim=1))

    def add_pairs(self, expansion: _Expansion, jets: Tensor) -> None:
        """Second order of `jets`, pairs on the same particle and on different ones."""
        count, features = expansion.ptr.diff(), expansion.gradient.shape[1]
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
        """Gradient at each particle, (N, F)."""
        return self._array("gradients")

    def coefficients(self, names: Sequence[str]) -> TaylorCoefficients:
        """All jets together."""
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
    """Standard deviations over the particles; of eta and phi those about the jet axis."""
    batch = collate(data, jets)
    if variables == "features":
        return batch.x.std(0)
    total = batch.p4.new_zeros(len(jets), 4).index_add(0, batch.batch, batch.p4)[batch.batch]
    relative = (
        kinematics.pt(batch.p4).log(),
        kinematics.eta(batch.p4).clamp(-10, 10) - kinematics.eta(total),
        kinematics.delta_phi(batch.p4, total),
    )
    return torch.stack([value.std() for value in relative]).float()


def _moved(p4: Tensor, shift: Tensor) -> Tensor:
    """Momenta (N, 4) with log pT, eta and phi shifted by ``(N, 3)``, masses kept.

    ``E`` follows from the stored energy, so that no rounding of a mass enters.
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
    """Batches of jets of similar length: each takes as many passes as its longest jet."""
    order = (data.ptr[jets + 1] - data.ptr[jets]).argsort(stable=True)
    return iter(jets[order].split(size)) if len(jets) else iter(())


def _has_gaps(gradient: Tensor) -> bool:
    """Whether a node of the graph stands for a derivative that does not exist.

    ``torch.autograd.grad`` would walk around it without a word.
    """
    seen, waiting = set(), [gradient.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "Error":
            return True
        waiting += [following for following, _ in node.next_functions]
    return False
