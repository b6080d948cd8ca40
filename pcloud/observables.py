"""High-level observables of jets, such as mass and N-subjettiness.

The functions take flat momenta ``p4 (N, 4)`` in GeV and a layout, and return one value per jet;
:func:`jet_observables` takes arrays. Angles are distances in rapidity and azimuth. The value of an
empty jet is 0.

The observables can be differentiated twice with respect to the momenta. For the axes of subjets, the
sequence of mergings and the nearest axis of each particle are fixed. A distance is not
differentiable at zero: there its derivatives are set to zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pcloud import kinematics
from pcloud.errors import UnknownNameError
from pcloud.io.jets import JET_MOMENTUM, FlatJets
from pcloud.nn.clustering import Recombination, exclusive_axes, winner_take_all
from pcloud.nn.clustering_fastjet import can_use_fastjet, fastjet_axes
from pcloud.nn.graph.coordinates import jet_momenta
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.pooling import max_pool, sum_pool
from pcloud.typing import Floats

__all__ = [
    "OBSERVABLES",
    "compute_observables",
    "correlators",
    "girth",
    "jet_observables",
    "leading_share",
    "momenta_and_layout",
    "n_subjettiness",
    "ptd",
]

_MIN_DISTANCE = 1e-7  # smaller distances are set to 0: they are rounding errors of float32
_MIN_DENOMINATOR = 1e-7  # smaller denominators are treated as 0
_MAX_RAPIDITY = 10.0  # of a particle along the beam


def n_subjettiness(
    p4: Tensor,
    layout: RaggedLayout,
    max_axes: int = 4,
    *,
    beta: float = 1.0,
    radius: float = 0.8,
    algorithm: str = "kt",
    recombine: Recombination = winner_take_all,
) -> Tensor:
    """N-subjettiness tau_1 to tau_max_axes, shape (B, max_axes).

    Without gradients, on a CPU, the axes are found by FastJet if it is installed (extra ``sim``),
    nine times as fast and equal to rounding.

    ``tau_N = sum_i pT_i min_a dR(i, a)^beta / (R^beta sum_i pT_i)``, with the minimum over the axes
    a of N exclusive subjets. tau_N is 0 for a jet of at most N particles.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV.
    layout : RaggedLayout
        Jets of the batch.
    max_axes : int
        Largest N.
    beta : float
        Power of the angle.
    radius : float
        Radius R of the jets.
    algorithm, recombine
        Options of the exclusive clustering that gives the axes, see
        :func:`~pcloud.nn.clustering.exclusive_axes`. The defaults are the "winner-take-all kT axes"
        of FastJet contrib, without minimisation of tau_N.

    References
    ----------
    Thaler and Van Tilburg, Identifying Boosted Objects with N-subjettiness,
    https://arxiv.org/abs/1011.2268.

    Examples
    --------
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 4.0], [5.0, 0.0, 4.0, 3.0]])
    >>> layout = RaggedLayout.from_batch(torch.tensor([0, 0]))
    >>> n_subjettiness(p4, layout, 2)[0, 1]  # two particles have two axes
    tensor(0.)
    """
    pt = kinematics.pt(p4)
    plane = _plane(p4)
    tau = []
    for axes in _axes(p4, layout, max_axes, algorithm, recombine):
        to_axes = _distance2(plane.unsqueeze(1), _plane(axes).to(plane)[layout.batch])  # (N, n)
        weighted = pt * _power(to_axes.amin(-1), beta)
        value = _ratio(sum_pool(weighted, layout), sum_pool(pt, layout) * radius**beta, empty=0.0)
        tau.append(torch.where(layout.counts > axes.shape[1], value, 0.0))
    return torch.stack(tau, dim=-1)


def _axes(
    p4: Tensor, layout: RaggedLayout, max_axes: int, algorithm: str, recombine: Recombination
) -> list[Tensor]:
    """Axes (B, n, 4) for n = 1, 2, ... of each jet, by FastJet where it can be used."""
    if not can_use_fastjet(p4, layout, algorithm, recombine):
        return exclusive_axes(p4, layout, max_axes, algorithm=algorithm, recombine=recombine)
    jets, found = fastjet_axes(p4, layout, max_axes, algorithm, recombine)
    short = torch.ones(layout.num_jets, dtype=torch.bool)
    short[jets] = False
    counts = layout.counts[short]
    part = RaggedLayout.from_ptr(torch.cat([counts.new_zeros(1), counts.cumsum(0)]))
    rows = p4[short[layout.batch]]
    rest = exclusive_axes(rows, part, max_axes, algorithm=algorithm, recombine=recombine)
    joined = []
    for a, b in zip(found, rest, strict=True):
        axes = a.new_empty(layout.num_jets, *a.shape[1:])
        axes[jets] = a
        axes[short] = b
        joined.append(axes)
    return joined


def girth(p4: Tensor, layout: RaggedLayout) -> Tensor:
    """Width ``sum_i pT_i dR(i, jet) / sum_i pT_i``, shape (B,), relative to the jet momentum.

    References
    ----------
    Gallicchio and Schwartz, Quark and Gluon Tagging at the LHC, https://arxiv.org/abs/1106.3076.

    Examples
    --------
    >>> p4 = torch.tensor([[2.0, 1.0, 0.0, 0.0], [2.0, 1.0, 0.0, 0.0]])
    >>> girth(p4, RaggedLayout.from_batch(torch.tensor([0, 0])))
    tensor([0.])
    """
    pt = kinematics.pt(p4)
    jet = _plane(jet_momenta(p4, layout).to(p4))[layout.batch]
    distance = _power(_distance2(_plane(p4), jet), 1.0)
    return _ratio(sum_pool(pt * distance, layout), sum_pool(pt, layout), empty=0.0)


def ptd(p4: Tensor, layout: RaggedLayout) -> Tensor:
    """Fragmentation ``sqrt(sum_i pT_i^2) / sum_i pT_i``, shape (B,); 1 for a single particle.

    References
    ----------
    CMS, Performance of quark/gluon discrimination, https://cds.cern.ch/record/1599732.

    Examples
    --------
    >>> p4 = torch.tensor([[3.0, 3.0, 0.0, 0.0], [3.0, 0.0, 3.0, 0.0]])
    >>> ptd(p4, RaggedLayout.from_batch(torch.tensor([0, 0])))
    tensor([0.7071])
    """
    total = sum_pool(kinematics.pt(p4), layout)
    return _ratio(kinematics.safe_sqrt(sum_pool(kinematics.pt2(p4), layout)), total, empty=0.0)


def leading_share(p4: Tensor, layout: RaggedLayout) -> Tensor:
    """Largest pT of a particle divided by the sum of pT, shape (B,).

    Examples
    --------
    >>> p4 = torch.tensor([[3.0, 3.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]])
    >>> leading_share(p4, RaggedLayout.from_batch(torch.tensor([0, 0])))
    tensor([0.7500])
    """
    pt = kinematics.pt(p4)
    return _ratio(max_pool(pt.unsqueeze(-1), layout)[:, 0], sum_pool(pt, layout), empty=0.0)


def correlators(p4: Tensor, layout: RaggedLayout, beta: float = 1.0) -> tuple[Tensor, Tensor]:
    """Energy correlation functions e_2 and e_3 with pT fractions z, shapes (B,).

    ``e_2 = sum_{i<j} z_i z_j dR_ij^beta`` and
    ``e_3 = sum_{i<j<k} z_i z_j z_k (dR_ij dR_jk dR_ik)^beta``. From them follow
    ``C_2 = e_3 / e_2^2`` and ``D_2 = e_3 / e_2^3``.

    References
    ----------
    Larkoski, Salam and Thaler, Energy Correlation Functions for Jet Substructure,
    https://arxiv.org/abs/1305.0007; Larkoski, Moult and Neill, Power Counting to Better Jet
    Observables, https://arxiv.org/abs/1409.6298.
    """
    pt = kinematics.pt(p4)
    plane = _plane(p4)
    z = _ratio(pt, sum_pool(pt, layout)[layout.batch], empty=0.0)
    e2 = z.new_zeros(layout.num_jets)
    e3 = z.new_zeros(layout.num_jets)
    for block in layout.blocks:
        weight = block.gather(z) * block.mask  # (b, P)
        slots = block.gather(plane)
        angle = _power(_distance2(slots.unsqueeze(2), slots.unsqueeze(1)), beta)  # (b, P, P)
        pairs = angle * weight.unsqueeze(1) * weight.unsqueeze(2)
        paths = (angle * weight.unsqueeze(1)) @ angle  # sum over the middle particle
        e2 = e2.index_add(0, block.jets, pairs.sum((1, 2)) / 2)
        e3 = e3.index_add(0, block.jets, (pairs * paths).sum((1, 2)) / 6)
    return e2, e3


class _Jets:
    """Momenta, layout, and quantities that several observables use, computed once."""

    def __init__(self, p4: Tensor, layout: RaggedLayout, radius: float) -> None:
        self.p4 = p4
        self.layout = layout
        self.radius = radius

    @cached_property
    def jet(self) -> Tensor:
        """Momenta of the jets (B, 4): the stored ones, else the sums of the particles."""
        return jet_momenta(self.p4, self.layout)

    @cached_property
    def tau(self) -> Tensor:
        """N-subjettiness (B, 4)."""
        return n_subjettiness(self.p4, self.layout, radius=self.radius)

    @cached_property
    def correlators(self) -> tuple[Tensor, Tensor]:
        """Energy correlation functions (B,)."""
        return correlators(self.p4, self.layout)


def _tau(n: int) -> Callable[[_Jets], Tensor]:
    return lambda jets: jets.tau[:, n - 1]


def _tau_ratio(n: int) -> Callable[[_Jets], Tensor]:
    # If tau_(N-1) is 0, another axis does not reduce it: the ratio is 1.
    return lambda jets: _ratio(jets.tau[:, n - 1], jets.tau[:, n - 2], empty=1.0)


def _correlator_ratio(power: int) -> Callable[[_Jets], Tensor]:
    def ratio(jets: _Jets) -> Tensor:
        e2, e3 = jets.correlators
        return _ratio(e3 / e2.clamp(min=_MIN_DENOMINATOR) ** (power - 1), e2, empty=0.0)

    return ratio


OBSERVABLES: dict[str, Callable[[_Jets], Tensor]] = {
    "pt": lambda jets: kinematics.pt(jets.jet),
    "eta": lambda jets: kinematics.eta(jets.jet),
    "mass": lambda jets: kinematics.safe_sqrt(kinematics.mass2(jets.jet)),
    "multiplicity": lambda jets: jets.layout.counts.to(jets.p4.dtype),
    **{f"tau{n}": _tau(n) for n in (1, 2, 3, 4)},
    **{f"tau{n}{n - 1}": _tau_ratio(n) for n in (2, 3, 4)},
    "girth": lambda jets: girth(jets.p4, jets.layout),
    "ptd": lambda jets: ptd(jets.p4, jets.layout),
    "leading_share": lambda jets: leading_share(jets.p4, jets.layout),
    "c2": _correlator_ratio(2),
    "d2": _correlator_ratio(3),
}
"""Observables by name; momenta and masses are in GeV."""


@torch.compiler.disable  # compilation takes half a minute and does not make it faster
def compute_observables(
    p4: Tensor,
    layout: RaggedLayout,
    names: Sequence[str] = tuple(OBSERVABLES),
    *,
    radius: float = 0.8,
) -> Tensor:
    """Observables of all jets.

    Parameters
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV; the observables are computed in float64.
    layout : RaggedLayout
        Jets of the batch.
    names : sequence of str
        Names of the observables, see `OBSERVABLES`.
    radius : float
        Radius R of the jets in the definition of N-subjettiness.

    Returns
    -------
    Tensor, shape (B, len(names)), float64

    Raises
    ------
    UnknownNameError
        If there is no such observable.

    Examples
    --------
    >>> p4 = torch.tensor([[5.0, 3.0, 0.0, 0.0], [5.0, 0.0, 4.0, 0.0]])
    >>> layout = RaggedLayout.from_batch(torch.tensor([0, 0]))
    >>> compute_observables(p4, layout, ["pt", "multiplicity"])
    tensor([[5., 2.]], dtype=torch.float64)
    """
    jets = _Jets(p4.double(), layout, radius)
    return torch.stack([_named(name)(jets) for name in names], dim=-1)


_DEFAULT_NAMES = ("pt", "eta", "mass", "multiplicity", "girth", "ptd", "leading_share")


@torch.no_grad()
def jet_observables(jets: FlatJets, names: Sequence[str] = _DEFAULT_NAMES) -> dict[str, Floats]:
    """Observables of all jets by name, as float64 arrays of shape (B,).

    Parameters
    ----------
    jets : FlatJets
        Momenta in GeV; those of the jets are the stored ones, if there are any.
    names : sequence of str
        Names of the observables; the default is those that are fast to compute.

    Raises
    ------
    UnknownNameError
        If there is no such observable.
    """
    p4, layout = momenta_and_layout(jets)
    return dict(zip(names, compute_observables(p4, layout, names).T.numpy(), strict=True))


def momenta_and_layout(jets: FlatJets) -> tuple[Tensor, RaggedLayout]:
    """Momenta (N, 4) of the particles in GeV and float64, and layout with the stored ones of the jets."""
    p4 = torch.from_numpy(np.stack(jets.p4, axis=-1).astype(np.float64))
    layout = RaggedLayout.from_ptr(torch.from_numpy(np.asarray(jets.offsets, dtype=np.int64)))
    if not all(name in jets.jet for name in JET_MOMENTUM):
        return p4, layout
    stored = np.stack([jets.jet[name] for name in JET_MOMENTUM], axis=-1).astype(np.float64)
    return p4, layout.with_jet_p4(torch.from_numpy(stored))


def _named(name: str) -> Callable[[_Jets], Tensor]:
    if name not in OBSERVABLES:
        raise UnknownNameError("observable", name, OBSERVABLES)
    return OBSERVABLES[name]


def _plane(p4: Tensor) -> Tensor:
    """Rapidity and azimuth (..., 2)."""
    rapidity = kinematics.rapidity(p4).clamp(-_MAX_RAPIDITY, _MAX_RAPIDITY)
    return torch.stack([rapidity, kinematics.phi(p4)], dim=-1)


def _distance2(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance (...) of points (..., 2)."""
    dphi = kinematics.wrap_phi(a[..., 1] - b[..., 1])
    return (a[..., 0] - b[..., 0]) ** 2 + dphi**2


def _power(distance2: Tensor, exponent: float) -> Tensor:
    """Power of a distance from its square; distances below the rounding error are set to zero.

    The derivatives are zero there, too. An axis can coincide with a particle up to rounding errors.
    At such a distance the second derivative would be of the order of 1e16.
    """
    if exponent == 2:
        return distance2  # differentiable at zero
    apart = distance2 > _MIN_DISTANCE**2
    return torch.where(apart, torch.where(apart, distance2, 1.0) ** (exponent / 2), 0.0)


def _ratio(numerator: Tensor, denominator: Tensor, *, empty: float) -> Tensor:
    """Quotient, or `empty` where the denominator is zero."""
    is_positive = denominator > _MIN_DENOMINATOR
    return torch.where(is_positive, numerator / torch.where(is_positive, denominator, 1.0), empty)
