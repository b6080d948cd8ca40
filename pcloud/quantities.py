"""Quantities of particles and jets from four-momenta, in torch and differentiable.

Features are quantities by name, and expressions of them and of columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from pcloud import kinematics
from pcloud.errors import InputError
from pcloud.expressions import Expression
from pcloud.expressions.evaluate import Values
from pcloud.expressions.tensors import TensorEvaluator
from pcloud.expressions.tree import Column
from pcloud.expressions.vocabulary import CONSTANTS
from pcloud.nn.pooling import sum_by_index

__all__ = [
    "COMPONENTS",
    "FROM_MOMENTA",
    "OF_ENTRIES",
    "OF_JETS",
    "STORED_ANGLES",
    "FeatureFunction",
    "Particles",
    "columns_of",
    "evaluate",
    "expression_of",
    "value_of",
]

STORED_ANGLES = ("stored_deta", "stored_dphi")
"""Columns with angles of particles relative to the jet, which are used as they are stored."""


@dataclass(frozen=True)
class Particles:
    """Particles of a batch, with the quantities that several features need, in float64.

    Attributes
    ----------
    p4 : Tensor, shape (N, 4)
        Four-momenta (E, px, py, pz) in GeV.
    batch : Tensor, shape (N,)
        Jet of each particle.
    num_jets : int
        Number of jets B.
    extras : mapping of str to Tensor, shape (N,)
        Further columns of the particles. ``stored_deta`` and ``stored_dphi`` are used in the place
        of angles computed from the momenta.
    jet_p4 : Tensor, shape (B, 4), optional
        Stored four-momenta of the jets in GeV.
    columns_first : bool
        True if a name alone, such as ``eta``, is that of a column where there is one, as in feature
        sets of older versions.
    entries : {"momenta", "positions", "columns"}
        Kind of the entries of a further collection, see :data:`OF_ENTRIES`: with ``"positions"``,
        eta and phi are columns, and `p4` is not read; with ``"columns"`` there are only these.
    """

    p4: Tensor
    batch: Tensor
    num_jets: int
    extras: Mapping[str, Tensor]
    jet_p4: Tensor | None = None
    columns_first: bool = False
    entries: str = "momenta"

    @cached_property
    def jets(self) -> Tensor:
        """Momenta of the jets (B, 4): the stored ones, else the sums of their particles."""
        if self.jet_p4 is not None:
            return self.jet_p4
        return sum_by_index(self.p4, self.batch, self.num_jets)

    @cached_property
    def jet(self) -> Tensor:
        """Momentum of the jet of each particle (N, 4)."""
        return self.for_particles(self.jets)

    def for_particles(self, of_jets: Tensor) -> Tensor:
        """Values (B, ...) of the jets, repeated for each of their particles (N, ...)."""
        return of_jets.index_select(0, self.batch)

    @cached_property
    def pt(self) -> Tensor:
        """Transverse momenta in GeV."""
        return kinematics.pt(self.p4)

    @cached_property
    def log_pt(self) -> Tensor:
        """Logarithms of the transverse momenta in GeV."""
        return kinematics.safe_log(self.pt)

    @cached_property
    def log_energy(self) -> Tensor:
        """Logarithms of the energies in GeV."""
        return kinematics.safe_log(self.p4[:, 0])

    @cached_property
    def eta(self) -> Tensor:
        """Pseudorapidities."""
        if self.entries == "positions":
            return self.extras["eta"]
        return kinematics.finite_eta(self.p4, self.pt)

    @cached_property
    def deta(self) -> Tensor:
        """Pseudorapidity relative to the axis; the sign is positive towards larger abs(eta)."""
        if "stored_deta" in self.extras:
            return self.extras["stored_deta"]
        axis = kinematics.eta(self.jets)
        sign = torch.where(axis < 0, -1.0, 1.0).to(axis)
        return (self.eta - self.for_particles(axis)) * self.for_particles(sign)

    @cached_property
    def dphi(self) -> Tensor:
        """Azimuth relative to the axis in rad."""
        if "stored_dphi" in self.extras:
            return self.extras["stored_dphi"]
        if self.entries == "positions":
            return kinematics.wrap_phi(
                self.extras["phi"] - self.for_particles(kinematics.phi(self.jets))
            )
        axis = kinematics.transverse(self.jets)
        of_jet = self.for_particles(axis[0]), self.for_particles(axis[1])
        return kinematics.angle_between(kinematics.transverse(self.p4), of_jet)


FeatureFunction = Callable[[Particles], Tensor]
"""Values (N,) of a feature."""

FROM_MOMENTA: dict[str, FeatureFunction] = {
    "log_pt": lambda c: c.log_pt,
    "log_energy": lambda c: c.log_energy,
    "log_pt_rel": lambda c: c.log_pt - c.for_particles(kinematics.safe_log(kinematics.pt(c.jets))),
    "log_energy_rel": lambda c: c.log_energy - c.for_particles(kinematics.safe_log(c.jets[:, 0])),
    "delta_r": lambda c: kinematics.safe_sqrt(c.deta**2 + c.dphi**2),
    "deta": lambda c: c.deta,
    "dphi": lambda c: c.dphi,
    "pt": lambda c: c.pt,
    "pt_rel": lambda c: c.pt / c.for_particles(kinematics.pt(c.jets).clamp(min=kinematics.MIN_GEV)),
    "energy": lambda c: c.p4[:, 0],
}
"""Features of particles by name."""

COMPONENTS: dict[str, FeatureFunction] = {
    "eta": lambda c: kinematics.finite_eta(c.p4, c.pt),
    "phi": lambda c: kinematics.phi(c.p4),
    "mass": lambda c: kinematics.mass(c.p4),
    "E": lambda c: c.p4[:, 0],
    "px": lambda c: c.p4[:, 1],
    "py": lambda c: c.p4[:, 2],
    "pz": lambda c: c.p4[:, 3],
}
"""Components of the momenta of particles, in GeV and rad."""

OF_JETS: dict[str, Callable[[Tensor], Tensor]] = {
    "jet_pt": kinematics.pt,
    "jet_eta": kinematics.finite_eta,
    "jet_phi": kinematics.phi,
    "jet_energy": lambda p4: p4[:, 0],
    "jet_mass": kinematics.mass,
}
"""Quantities (B,) of jets, from their stored momenta. Without these a column of this name is used, and
without it the sum of the particles."""

_FROM_POSITIONS: dict[str, FeatureFunction] = {
    "eta": lambda c: c.eta,
    "phi": lambda c: c.extras["phi"],
    **{name: FROM_MOMENTA[name] for name in ("deta", "dphi", "delta_r")},
}

OF_ENTRIES: dict[str, dict[str, FeatureFunction]] = {
    "momenta": FROM_MOMENTA | COMPONENTS,
    "positions": _FROM_POSITIONS,
    "columns": {},
}
"""Quantities of the entries of a collection by name, of entries with momenta, with positions (eta,
phi), and with neither."""


@lru_cache(maxsize=1024)
def expression_of(name: str) -> Expression | None:
    """Expression that the name of a feature is; None for the name of a column or quantity.

    Raises
    ------
    InputError
        If the name is neither a name nor an expression.
    """
    if name.isidentifier():
        return None
    expression = Expression(name)
    return None if expression.tree == Column(name) else expression


def columns_of(expression: Expression, entries: str = "momenta") -> tuple[str, ...]:
    """Columns of the jets that an expression needs besides the momenta or positions of entries."""
    computed = {*OF_ENTRIES[entries], *OF_JETS, *CONSTANTS}
    return tuple(name for name in expression.columns if name not in computed)


def evaluate(expression: Expression, particles: Particles) -> Tensor:
    """Values (N,) of an expression for each particle; one value per jet is repeated.

    Raises
    ------
    InputError
        If the expression is a constant, or combines what it cannot.
    """
    columns = {
        name: _values(name, particles) for name in expression.columns if name not in CONSTANTS
    }
    evaluator = TensorEvaluator(columns, particles.batch, particles.num_jets)
    values = evaluator(expression)
    if not isinstance(values.data, Tensor):
        raise InputError(f"expression {expression.text!r} is a constant, and no feature")
    data = values.data.to(particles.p4)
    return data if values.collection else data.index_select(0, particles.batch)


def value_of(name: str, particles: Particles) -> Tensor:
    """Values (N,) of a component or of a quantity of the jet."""
    if particles.columns_first and name in particles.extras:
        return particles.extras[name]
    values = _values(name, particles)
    assert isinstance(values.data, Tensor)
    return values.data if values.collection else values.data.index_select(0, particles.batch)


def _values(name: str, particles: Particles) -> Values[Tensor]:
    """Values of a column or quantity in an expression."""
    if name in OF_JETS and (particles.jet_p4 is not None or name not in particles.extras):
        return Values(OF_JETS[name](particles.jets))
    compute = OF_ENTRIES[particles.entries].get(name)
    return Values(compute(particles) if compute else particles.extras[name], "particles")
