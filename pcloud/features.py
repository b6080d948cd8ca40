"""Features of particles: the inputs of a network from four-momenta and extra columns.

Features are computed in torch and are differentiable, so that the output of a network can be
differentiated with respect to the momenta. The standardisation is part of the :class:`FeatureSet`,
which is stored with every trained model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Interval, Len
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

from pcloud.errors import InputError, UnknownNameError
from pcloud.plugins import is_same_function
from pcloud.quantities import (
    COMPONENTS,
    FROM_MOMENTA,
    OF_JETS,
    STORED_ANGLES,
    FeatureFunction,
    Particles,
    columns_of,
    evaluate,
    expression_of,
    value_of,
)
from pcloud.stored_values import Name
from pcloud.tables import html_table
from pcloud.validation import checked

__all__ = [
    "FEATURE_SETS",
    "STORED_ANGLES",
    "Feature",
    "FeatureSet",
    "Particles",
    "feature_set",
    "list_features",
    "register_feature",
]

_REFERENCES = {
    "auto": "relative to the stored momentum of the jet, or else to the sum of its particles",
    "stored": "relative to the stored momentum of the jet",
    "particles": "relative to the sum of the particles of the jet",
}


def _extra(name: str) -> FeatureFunction:
    return lambda particles: particles.extras[name]


_FLAGS = ("is_charged_hadron", "is_neutral_hadron", "is_photon", "is_electron", "is_muon")
_FROM_EXTRAS: dict[str, FeatureFunction] = {
    **{name: _extra(name) for name in ("charge", *_FLAGS, "d0_err", "dz_err")},
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
    >>> @register_feature("log_mt", shift=1.7, scale=0.7)
    ... def log_mt(particles):
    ...     e, pz = particles.p4[:, 0], particles.p4[:, 3]
    ...     return (e**2 - pz**2).clamp(min=1e-12).log() / 2
    """

    def register(function: FeatureFunction) -> FeatureFunction:
        taken = name in FROM_MOMENTA or name in _FROM_EXTRAS
        if taken or not is_same_function(function, _REGISTERED.get(name, (function,))[0]):
            raise ValueError(f"a feature named {name!r} exists already")
        _REGISTERED[name] = (function, tuple(columns))
        _STANDARD[name] = Feature(name, **standardisation)  # type: ignore[arg-type]
        return function

    return register


def _function(name: str) -> FeatureFunction:
    """Return the function of a feature: of a quantity, an expression, or an extra column."""
    if name in _REGISTERED:
        return _REGISTERED[name][0]
    known = FROM_MOMENTA.get(name) or _FROM_EXTRAS.get(name)
    if known is not None:
        return known
    if name in COMPONENTS or name in OF_JETS:
        return lambda particles: value_of(name, particles)
    expression = expression_of(name)
    return _extra(name) if expression is None else partial(evaluate, expression)


def _columns(name: str) -> tuple[str, ...]:
    """Extra columns that a feature needs."""
    if name in _REGISTERED:
        return _REGISTERED[name][1]
    if name in FROM_MOMENTA or name in COMPONENTS or name in OF_JETS:
        return ()
    if name in _COLUMN:
        return (_COLUMN[name],)
    expression = expression_of(name)
    return (name,) if expression is None else columns_of(expression)


def _optional_columns(name: str) -> tuple[str, ...]:
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
    """One input: ``clip((value - shift) * scale, low, high)``.

    Attributes
    ----------
    name : str
        Name of the quantity, see :func:`list_features`; an expression of such quantities and of
        columns, such as ``"log(pt / jet_pt)"``; any other name is an extra column of the jets.
    shift, scale : float
        Parameters of the standardisation.
    low, high : float or None
        Bounds of the standardised value; None for no clipping.
    """

    name: Name
    shift: _Number = 0.0
    scale: _Number = 1.0
    low: _Number | None = None
    high: _Number | None = None

    def __post_init__(self) -> None:
        if self.scale == 0:
            raise InputError(f"feature {self.name!r} has scale 0: it would be constant")

    def compute(self, particles: Particles) -> Tensor:
        """Standardised values (N,)."""
        value = (_function(self.name)(particles) - self.shift) * self.scale
        return value if self.low is None and self.high is None else value.clamp(self.low, self.high)


class _StoredFeatures(TypedDict):
    """Plain values of a feature set; those of older versions have no reference or no angles."""

    features: Annotated[tuple[Feature, ...], Len(1, 10_000)]
    reference: NotRequired[Name]
    angles: NotRequired[Name]
    jet_features: NotRequired[Annotated[tuple[Feature, ...], Len(0, 10_000)]]


@dataclass(frozen=True, repr=False)
class FeatureSet:
    """Inputs of a network, in order, with their standardisation.

    Parameters
    ----------
    features : tuple of Feature
        One feature for each column of ``x``.
    reference : {"auto", "stored", "particles"}
        Momentum of a jet to which features are relative: the one stored in its file, or the sum of
        its particles. ``"auto"`` is the stored one if the jets have it, else the sum. A trained
        network stores which of the two was used.
    angles : {"stored", "columns"}
        Columns that are used for the features ``deta`` and ``dphi``, where the jets have them, in the
        place of angles computed from the momenta: ``stored_deta`` and ``stored_dphi``, as which a
        schema names them; ``"columns"``: also columns called ``deta`` and ``dphi``, as in older
        versions.
    jet_features : tuple of Feature
        One feature for each column of ``u``, with one value per jet. Networks without ``u`` get them
        as features of each particle, see :meth:`for_network`.

    Raises
    ------
    InputError
        If there are no features, or if a feature is given twice.
    UnknownNameError
        If the reference or the angles are unknown.
    """

    kind: ClassVar[str] = "cloud"

    features: tuple[Feature, ...]
    reference: str = "auto"
    angles: str = "stored"
    jet_features: tuple[Feature, ...] = ()

    def __post_init__(self) -> None:
        if self.angles not in ("stored", "columns"):
            raise UnknownNameError("kind of angles", self.angles, ["stored", "columns"])
        if self.reference not in _REFERENCES:
            raise UnknownNameError("reference", self.reference, _REFERENCES)
        if not self.features:
            raise InputError("a feature set needs at least one feature")
        names = [feature.name for feature in self._all]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise InputError(f"features given twice: {', '.join(sorted(repeated))}")

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        return f"FeatureSet({self.describe()})"

    def _repr_html_(self) -> str:
        header = ["feature", "shift", "scale", "low", "high"]
        rows = [
            [f.name, *("" if v is None else f"{v:g}" for v in (f.shift, f.scale, f.low, f.high))]
            for f in self._all
        ]
        return html_table([header, *rows], caption=_REFERENCES[self.reference])

    def describe(self) -> str:
        """Names of the features, and the momentum to which they are relative, in one line."""
        jets = ", ".join(self.jet_names)
        of_jets = f"; of jets {jets}" if jets else ""
        return f"{', '.join(self.names)}{of_jets}; {_REFERENCES[self.reference]}"

    @property
    def _all(self) -> tuple[Feature, ...]:
        return (*self.features, *self.jet_features)

    @property
    def jet_names(self) -> tuple[str, ...]:
        """Names of the features of jets, in the order of the columns of ``u``."""
        return tuple(feature.name for feature in self.jet_features)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in the order of the columns."""
        return tuple(feature.name for feature in self.features)

    @property
    def standardisation(self) -> tuple[Feature, ...]:
        """The features, which set the standardisation of each input."""
        return self.features

    @property
    def columns(self) -> tuple[str, ...]:
        """Extra columns that the jets must have, in addition to the four-momenta."""
        needed = (_columns(feature.name) for feature in self._all)
        return tuple(dict.fromkeys(column for columns in needed for column in columns))

    @property
    def optional_columns(self) -> tuple[str, ...]:
        """Extra columns that are used where the jets have them.

        They are stored angles, and quantities of jets without a stored momentum; in feature sets of
        older versions all columns that have the name of a computed angle or a feature.
        """
        names = [feature.name for feature in self._all]
        columns = {column for name in names for column in _optional_columns(name)}
        if self.angles == "columns":
            columns |= {"deta", "dphi", *(set(names) & COMPONENTS.keys())}
        return (*STORED_ANGLES, *sorted(columns))

    @property
    def jet_columns(self) -> tuple[str, ...]:
        """Columns per jet that the jets must have: ``jet_p4`` for features relative to it."""
        return ("jet_p4",) if self.reference == "stored" else ()

    def for_jets(self, stored: bool) -> FeatureSet:
        """Feature set with ``"auto"`` resolved: ``"stored"`` if the jets have a `stored` momentum."""
        if self.reference != "auto":
            return self
        return replace(self, reference="stored" if stored else "particles")

    def for_network(self, takes_u: bool) -> FeatureSet:
        """Feature set of a network; one without ``u`` gets features of jets for each particle."""
        if takes_u or not self.jet_features:
            return self
        return replace(self, features=self._all, jet_features=())

    def subset(self, names: Sequence[str]) -> FeatureSet:
        """Feature set with the given `names`, in this order, with the same standardisation.

        Raises
        ------
        UnknownNameError
            If a name is not in the set.
        """
        known = dict(zip(self.names, self.features, strict=True))
        for name in names:
            if name not in known:
                raise UnknownNameError("feature", name, known)
        return replace(self, features=tuple(known[name] for name in names))

    def __call__(
        self,
        p4: Tensor,
        batch: Tensor,
        extras: Mapping[str, Tensor] | None = None,
        num_jets: int | None = None,
        jet_p4: Tensor | None = None,
    ) -> Tensor:
        """Features of all particles.

        Parameters
        ----------
        p4 : Tensor, shape (N, 4)
            Four-momenta (E, px, py, pz) in GeV.
        batch : Tensor, shape (N,)
            Jet of each particle.
        extras : mapping of str to Tensor, shape (N,), optional
            Extra columns. If they include ``stored_deta`` and ``stored_dphi``, or ``deta`` and
            ``dphi``, these are used instead of values computed from the momenta.
        num_jets : int, optional
            Number of jets; without it, `batch` is read, which synchronises a GPU.
        jet_p4 : Tensor, shape (B, 4), optional
            Stored momenta of the jets in GeV; not used if the reference is the sum of the particles.

        Returns
        -------
        Tensor, shape (N, F)
            Computed in float64 and rounded once to the precision of `p4`; differentiable with
            respect to `p4` and `extras`.

        Raises
        ------
        UnknownNameError
            If an extra column is missing.
        InputError
            If the features are relative to a stored momentum and `jet_p4` is missing.
        """
        return _stack(self.features, self._particles(p4, batch, extras, num_jets, jet_p4), p4.dtype)

    def of_jets(
        self,
        p4: Tensor,
        batch: Tensor,
        extras: Mapping[str, Tensor] | None = None,
        num_jets: int | None = None,
        jet_p4: Tensor | None = None,
    ) -> Tensor:
        """Features of all jets (B, G), none of which may be empty; arguments as for features (N, F).

        Raises
        ------
        InputError
            If a feature differs between the particles of a jet.
        """
        particles = self._particles(p4, batch, extras, num_jets, jet_p4)
        values = _stack(self.jet_features, particles, p4.dtype)
        counts = torch.bincount(batch, minlength=particles.num_jets)
        rows = values.index_select(0, counts.cumsum(0) - counts)
        differ = (values.detach() != rows.detach()[batch]) & ~values.detach().isnan()
        for name, differs in zip(self.jet_names, differ.any(0).tolist(), strict=True):
            if differs:
                raise InputError(
                    f"feature {name!r} of jets has one value per particle: sum(), mean() or max() "
                    "make one of it"
                )
        return rows

    def _particles(
        self,
        p4: Tensor,
        batch: Tensor,
        extras: Mapping[str, Tensor] | None,
        num_jets: int | None,
        jet_p4: Tensor | None,
    ) -> Particles:
        """Particles whose features are computed."""
        extras = extras or {}
        if self.reference == "stored" and jet_p4 is None:
            raise InputError(
                "these features are relative to the stored momentum of the jet, jet_p4, which the "
                "jets do not have: name its columns as jet_p4 of the schema"
            )
        for column in self.columns:
            if column not in extras:
                usable = [name for name in list_features() if extras.keys() >= {*_columns(name)}]
                known = {*usable, *extras}
                raise UnknownNameError("feature or column", column, known, "these jets")
        if num_jets is None:
            num_jets = int(batch.max()) + 1 if len(batch) else 0
        momenta = p4.double()
        jet = jet_p4.double() if jet_p4 is not None and self.reference != "particles" else None
        columns = {name: values.to(momenta) for name, values in extras.items()}
        for angle in ("deta", "dphi"):
            if angle in columns:
                columns.setdefault(f"stored_{angle}", columns[angle])
        return Particles(momenta, batch, num_jets, columns, jet, self.angles == "columns")

    def to_dict(self) -> dict[str, Any]:
        """Dictionary of plain values, for a configuration or a checkpoint."""
        features = [asdict(feature) for feature in self.features]
        plain = {"features": features, "reference": self.reference, "angles": self.angles}
        if self.jet_features:
            plain["jet_features"] = [asdict(feature) for feature in self.jet_features]
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FeatureSet:
        """Feature set from :meth:`to_dict`.

        That of older versions without a reference has that of the particles; without angles,
        columns called ``deta`` and ``dphi`` are used.
        """
        found = checked(_StoredFeatures, values)
        reference = found.get("reference", "particles")
        angles = found.get("angles", "columns")
        return cls(found["features"], reference, angles, found.get("jet_features", ()))


def _stack(features: Sequence[Feature], particles: Particles, dtype: torch.dtype) -> Tensor:
    """Values (N, F) of features."""
    # Each feature is rounded before the next is computed: only one is in memory in float64.
    values = [feature.compute(particles).to(dtype) for feature in features]
    return torch.stack(values, dim=-1)


_STANDARD = {
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
        *(Feature(flag) for flag in _FLAGS),
        Feature("tanh_d0"),
        Feature("d0_err", low=0.0, high=1.0),
        Feature("tanh_dz"),
        Feature("dz_err", low=0.0, high=1.0),
    )
}
_KIN = ("log_pt", "log_energy", "log_pt_rel", "log_energy_rel", "delta_r")
_DISPLACEMENT = ("tanh_d0", "d0_err", "tanh_dz", "dz_err")


def _standard(*names: str) -> FeatureSet:
    return FeatureSet(tuple(_STANDARD[name] for name in names))


FEATURE_SETS: dict[str, FeatureSet] = {
    "kin": _standard(*_KIN, "deta", "dphi"),
    "kinpid": _standard(*_KIN, "charge", *_FLAGS, "deta", "dphi"),
    "full": _standard(*_KIN, "charge", *_FLAGS, *_DISPLACEMENT, "deta", "dphi"),
}
"""The official sets: 7 inputs for top tagging, 13 for quark/gluon, 17 for JetClass."""


def is_official(feature: Feature) -> bool:
    """Return True for a feature with the standardisation that its name stands for."""
    return _STANDARD.get(feature.name) == feature


def list_features() -> list[str]:
    """Names of all features that can be computed."""
    return sorted({*FROM_MOMENTA, *COMPONENTS, *OF_JETS, *_FROM_EXTRAS, *_REGISTERED})


FeatureLike = str | Mapping[str, Any] | Feature
"""A name or expression, the fields of a :class:`Feature`, or one."""


def feature_set(
    features: str | Sequence[FeatureLike] | FeatureSet, jet_features: Sequence[FeatureLike] = ()
) -> FeatureSet:
    """Return the feature set of a name, or make one from names of features.

    Parameters
    ----------
    features : str, sequence of str, dict or Feature, or FeatureSet
        ``"kin"``, ``"kinpid"`` or ``"full"``; or a list of features in order, in which such a name
        stands for its features. A name has the standardisation of the official sets, if it is part
        of one; a :class:`Feature`, or a mapping with its fields, sets another one. Other names are
        expressions, such as ``"log(pt / jet_pt)"``, or extra columns of the jets.
    jet_features : sequence of str, dict or Feature
        Features with one value per jet, such as ``"jet_mass"`` or ``"max(pt)"``.

    Raises
    ------
    UnknownNameError
        If there is no set, feature or field of this name.
    InputError
        If a text is not an expression, or a field has a wrong value.
    """
    of_jets = tuple(one for feature in jet_features for one in _features(feature))
    if isinstance(features, FeatureSet):
        return replace(features, jet_features=of_jets) if of_jets else features
    if isinstance(features, str):
        if features in FEATURE_SETS:
            return feature_set(FEATURE_SETS[features], jet_features)
        if expression_of(features) is None and features not in list_features():
            raise UnknownNameError("feature set", features, FEATURE_SETS)
        features = [features]
    particles = tuple(one for feature in features for one in _features(feature))
    return FeatureSet(particles, jet_features=of_jets)


def _features(feature: FeatureLike) -> Sequence[Feature]:
    """Features of one entry of a list."""
    if isinstance(feature, Feature):
        return [feature]
    if isinstance(feature, Mapping):
        known = [field.name for field in fields(Feature)]
        for key in feature:
            if key not in known:
                raise UnknownNameError("field of a feature", str(key), known)
        if set(feature) == {"name"}:
            return _features(feature["name"])
        return [checked(Feature, dict(feature))]
    if feature in FEATURE_SETS:
        return FEATURE_SETS[feature].features
    if feature not in _STANDARD:
        expression_of(feature)  # raises where it is neither a name nor an expression
    return [_STANDARD.get(feature, Feature(feature))]
