"""One input of a network: its name, its function and its standardisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Annotated, Any

import torch
from annotated_types import Interval, Len
from torch import Tensor

from pcloud.errors import InputError
from pcloud.plugins import is_same_function
from pcloud.quantities import (
    COMPONENTS,
    FROM_MOMENTA,
    OF_ENTRIES,
    OF_JETS,
    FeatureFunction,
    Particles,
    columns_of,
    evaluate,
    expression_of,
    value_of,
)
from pcloud.stored_values import Name

__all__ = [
    "STANDARD",
    "Feature",
    "columns_of_feature",
    "is_flag",
    "is_official",
    "list_features",
    "one_hot_features",
    "optional_columns_of_feature",
    "register_feature",
    "repeated_names",
]


def _extra(name: str) -> FeatureFunction:
    return lambda particles: particles.extras[name]


FLAGS = ("is_charged_hadron", "is_neutral_hadron", "is_photon", "is_electron", "is_muon")
_FROM_EXTRAS: dict[str, FeatureFunction] = {
    **{name: _extra(name) for name in ("charge", *FLAGS, "d0_err", "dz_err")},
    "tanh_d0": lambda c: c.extras["d0"].tanh(),
    "tanh_dz": lambda c: c.extras["dz"].tanh(),
}
_COLUMN = {"tanh_d0": "d0", "tanh_dz": "dz"}
_REGISTERED: dict[str, tuple[FeatureFunction, tuple[str, ...]]] = {}


def register_feature(
    name: str, *, columns: Sequence[str] = (), **standardisation: float | None
) -> Callable[[FeatureFunction], FeatureFunction]:
    """Function decorator that makes a feature of particles known by `name`.

    The function takes :class:`Particles` and returns one value per particle, shape (N,). It is
    computed in torch, in float64, and must be differentiable in the momenta if gradients in them
    are wanted.

    Parameters
    ----------
    name : str
        Name of the feature.
    columns : sequence of str
        Extra columns of the particles that the function reads from ``particles.extras``.
    **standardisation
        ``shift``, ``scale``, ``low``, ``high`` of the :class:`Feature` that the name stands for.

    Raises
    ------
    ValueError
        If the name is taken by another function.

    Examples
    --------
    >>> @register_feature("log_transverse_mass", shift=1.7, scale=0.7)
    ... def log_transverse_mass(particles):
    ...     e, pz = particles.p4[:, 0], particles.p4[:, 3]
    ...     return (e**2 - pz**2).clamp(min=1e-12).log() / 2
    """

    def register(function: FeatureFunction) -> FeatureFunction:
        taken = name in FROM_MOMENTA or name in _FROM_EXTRAS
        if taken or not is_same_function(function, _REGISTERED.get(name, (function,))[0]):
            raise ValueError(f"a feature named {name!r} exists already")
        _REGISTERED[name] = (function, tuple(columns))
        STANDARD[name] = Feature(name, **standardisation)  # type: ignore[arg-type]
        return function

    return register


def _function(name: str, entries: str = "momenta") -> FeatureFunction:
    """Return the function of a feature: of a quantity, an expression, or an extra column."""
    if name in _REGISTERED and entries == "momenta":
        return _REGISTERED[name][0]
    known = OF_ENTRIES[entries].get(name) if name not in COMPONENTS else None
    known = known or _FROM_EXTRAS.get(name)
    if known is not None:
        return known
    if name in OF_ENTRIES[entries] or name in OF_JETS:
        return lambda particles: value_of(name, particles)
    expression = expression_of(name)
    return _extra(name) if expression is None else partial(evaluate, expression)


def columns_of_feature(name: str, entries: str = "momenta") -> tuple[str, ...]:
    """Extra columns that a feature needs.

    Parameters
    ----------
    name : str
        Name of the feature, or an expression.
    entries : {"momenta", "positions", "columns"}
        Kind of the entries of the collection, see :data:`pcloud.quantities.OF_ENTRIES`.
    """
    if name in _REGISTERED and entries == "momenta":
        return _REGISTERED[name][1]
    if name in OF_ENTRIES[entries] or name in OF_JETS:
        return ()
    if name in _COLUMN:
        return (_COLUMN[name],)
    expression = expression_of(name)
    return (name,) if expression is None else columns_of(expression, entries)


def optional_columns_of_feature(name: str) -> tuple[str, ...]:
    """Extra columns of jet quantities, which a feature uses where jets have no stored momentum."""
    if name in _REGISTERED or name in _FROM_EXTRAS:
        return ()
    if name in OF_JETS:
        return (name,)
    expression = expression_of(name)
    return () if expression is None else tuple(c for c in expression.columns if c in OF_JETS)


_Number = Annotated[float, Interval(ge=-1e30, le=1e30)]


@dataclass(frozen=True)
class Feature:
    """One input: ``clip((value - shift) * scale, low, high)``, or the number of a category.

    Attributes
    ----------
    name : str
        Name of the quantity, see :func:`list_features`; an expression of such quantities and of
        columns, such as ``"log(pt / jet_pt)"``; any other name is an extra column of the jets.
    shift, scale : float
        Parameters of the standardisation.
    low, high : float or None
        Bounds of the standardised value; None for no clipping.
    embed : int
        Width of a vector that the network learns for each category; 0 for a feature that is no
        category. The value is the number of the category from 1, and 0 for any other.
    one_hot : bool
        True for a column of categories that becomes one feature per category as soon as the
        categories are known, see :func:`one_hot_features`.
    categories : tuple of float
        Values of the column that are categories; if there are none, those of the training jets.
    """

    name: Name
    shift: _Number = 0.0
    scale: _Number = 1.0
    low: _Number | None = None
    high: _Number | None = None
    embed: Annotated[int, Interval(ge=0, le=1000)] = 0
    one_hot: bool = False
    categories: Annotated[tuple[_Number, ...], Len(0, 1000)] = ()

    def __post_init__(self) -> None:
        if self.scale == 0:
            raise InputError(f"feature {self.name!r} has scale 0: it would be constant")
        if self.embed and self.one_hot:
            raise InputError(f"feature {self.name!r} has both embed and one_hot: take one of them")
        if not self.is_category:
            if self.categories:
                raise InputError(f"categories of {self.name!r} need embed, such as 8, or one_hot")
            return
        if (self.shift, self.scale, self.low, self.high) != (0.0, 1.0, None, None):
            raise InputError(f"feature {self.name!r} is a category, which has no shift and scale")
        if len(set(self.categories)) < len(self.categories):
            raise InputError(f"categories of {self.name!r} are given twice: {self.categories}")

    @property
    def is_category(self) -> bool:
        """True for the number of a category, False for a quantity."""
        return bool(self.embed) or self.one_hot

    def compute(self, particles: Particles) -> Tensor:
        """Standardised values (N,), or numbers of categories.

        Raises
        ------
        InputError
            If it is a category, and the categories are not known.
        """
        values = _function(self.name, particles.entries)(particles)
        if self.is_category:
            return self._category(values)
        value = (values - self.shift).mul_(self.scale)
        return (
            value if self.low is None and self.high is None else value.clamp_(self.low, self.high)
        )

    def _category(self, values: Tensor) -> Tensor:
        """Number of the category of each value from 1, 0 for any other; NaN for NaN."""
        if not self.categories or self.one_hot:
            kind = "embed: 8, categories" if self.embed else "one_hot"
            raise InputError(
                f"the categories of {self.name!r} are those of the training jets, and not known "
                f"here: name them, such as {{column: {self.name}, {kind}: [211, -211]}}"
            )
        known = torch.tensor(self.categories, dtype=values.dtype, device=values.device)
        if torch.compiler.is_compiling():  # ONNX has no search in a sorted list
            place = torch.arange(1, len(known) + 1, dtype=values.dtype, device=values.device)
            return ((values.unsqueeze(-1) == known) * place).sum(-1)
        ordered, order = known.sort()
        place = torch.searchsorted(ordered, values.contiguous()).clamp(max=len(ordered) - 1)
        number = torch.where(ordered[place] == values, order[place] + 1, 0).to(values.dtype)
        return torch.where(values.isnan(), values.detach(), number)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; those of categories only where they are."""
        plain = asdict(self)
        if not self.is_category:
            del plain["embed"], plain["one_hot"], plain["categories"]
        return plain


def one_hot_features(column: str, categories: Sequence[float]) -> tuple[Feature, ...]:
    """Features that are 1 for one category of a column each, and 0 for the others."""
    expression = column if column.isidentifier() else f"({column})"
    names = (f"{expression} == {value:.17g}" for value in categories)
    return tuple(Feature(name, low=0.0, high=1.0) for name in names)


def repeated_names(features: Sequence[Feature]) -> list[str]:
    """Names of the features that are given twice, sorted; a column may also be one-hot."""
    names = [(feature.name, feature.one_hot) for feature in features]
    return sorted({name for name, one_hot in names if names.count((name, one_hot)) > 1})


def is_flag(feature: Feature) -> bool:
    """True for one of :func:`one_hot_features`."""
    return " == " in feature.name and feature == Feature(feature.name, low=0.0, high=1.0)


STANDARD: dict[str, Feature] = {
    feature.name: feature
    for feature in (
        Feature("log_pt", 1.7, 0.7, -5.0, 5.0),
        Feature("log_energy", 2.0, 0.7, -5.0, 5.0),
        Feature("log_pt_rel", -4.7, 0.7, -5.0, 5.0),
        Feature("log_energy_rel", -4.7, 0.7, -5.0, 5.0),
        Feature("delta_r", 0.2, 4.0, -5.0, 5.0),
        Feature("deta"),
        Feature("dphi"),
        Feature("charge"),
        *(Feature(flag) for flag in FLAGS),
        Feature("tanh_d0"),
        Feature("d0_err", low=0.0, high=1.0),
        Feature("tanh_dz"),
        Feature("dz_err", low=0.0, high=1.0),
    )
}
"""Features with the standardisation of the official sets, or with the registered one."""


def is_official(feature: Feature) -> bool:
    """Return True for a feature with the standardisation that its name stands for."""
    return STANDARD.get(feature.name) == feature


def list_features() -> list[str]:
    """Names of all features that can be computed.

    Examples
    --------
    >>> "log_pt" in list_features()
    True
    """
    return sorted({*FROM_MOMENTA, *COMPONENTS, *OF_JETS, *_FROM_EXTRAS, *_REGISTERED})


FEATURE_FIELDS = tuple(field.name for field in fields(Feature))
