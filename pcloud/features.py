"""Features of particles: the inputs of a network from four-momenta and extra columns.

Features are computed in torch and are differentiable, so that the output of a network can be
differentiated with respect to the momenta. The standardisation is part of the :class:`FeatureSet`,
which is stored with every trained model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Len
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

from pcloud.collection_features import CollectionFeatures, CollectionsLike, collection_features
from pcloud.errors import InputError, UnknownNameError
from pcloud.feature import (
    FEATURE_FIELDS,
    FLAGS,
    STANDARD,
    Feature,
    columns_of_feature,
    is_official,
    list_features,
    one_hot_features,
    optional_columns_of_feature,
    register_feature,
    repeated_names,
)
from pcloud.nn.pooling import max_by_index
from pcloud.quantities import COMPONENTS, STORED_ANGLES, Particles, expression_of
from pcloud.stored_values import Name
from pcloud.text_tables import html_table
from pcloud.validation import checked

__all__ = [
    "FEATURE_SETS",
    "STORED_ANGLES",
    "Feature",
    "FeatureSet",
    "Particles",
    "feature_set",
    "features_of_collections",
    "is_official",
    "list_features",
    "register_feature",
]

_REFERENCES = {
    "auto": "relative to the stored momentum of the jet, or else to the sum of its particles",
    "stored": "relative to the stored momentum of the jet",
    "particles": "relative to the sum of the particles of the jet",
}


class _StoredFeatures(TypedDict):
    """Plain values of a feature set; those of older versions have no reference or no angles."""

    features: Annotated[tuple[Feature, ...], Len(1, 10_000)]
    reference: NotRequired[Name]
    angles: NotRequired[Name]
    jet_features: NotRequired[Annotated[tuple[Feature, ...], Len(0, 10_000)]]
    collections: NotRequired[Annotated[tuple[CollectionFeatures, ...], Len(0, 100)]]


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
    collections : tuple of CollectionFeatures
        Features of further collections of the jets. The rows of `x` are then the particles and the
        entries of the collections, of the width of the widest; narrower rows end in zeros.

    Raises
    ------
    InputError
        If there are no features, or if a feature is given twice.
    UnknownNameError
        If the reference or the angles are unknown.

    Examples
    --------
    >>> jets = pcloud.JetDataset(pcloud.load_dataset("simulated", "test")[:4], features="kin")
    >>> len(jets.feature_set.features)
    7
    """

    kind: ClassVar[str] = "cloud"

    features: tuple[Feature, ...]
    reference: str = "auto"
    angles: str = "stored"
    jet_features: tuple[Feature, ...] = ()
    collections: tuple[CollectionFeatures, ...] = ()

    def __post_init__(self) -> None:
        if self.angles not in ("stored", "columns"):
            raise UnknownNameError("kind of angles", self.angles, ["stored", "columns"])
        if self.reference not in _REFERENCES:
            raise UnknownNameError("reference", self.reference, _REFERENCES)
        if not self.features:
            raise InputError("a feature set needs at least one feature")
        if repeated := repeated_names(self._all):
            raise InputError(f"features given twice: {', '.join(repeated)}")
        for feature in self.jet_features:
            if feature.embed:
                raise InputError(
                    f"feature {feature.name!r} of jets cannot be embedded: use one_hot"
                )

    def __len__(self) -> int:
        return max(self.widths)

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of features of the particles, and of each further collection."""
        return (len(self.features), *map(len, self.collections))

    @property
    def parts(self) -> tuple[tuple[Feature, ...], ...]:
        """Features of the particles, and of each further collection."""
        return (self.features, *(part.features for part in self.collections))

    def __repr__(self) -> str:
        return f"FeatureSet({self.describe()})"

    def _repr_html_(self) -> str:
        header = ["feature", "shift", "scale", "low", "high"]
        rows = [
            [f.name, *("" if v is None else f"{v:g}" for v in (f.shift, f.scale, f.low, f.high))]
            for f in (*self._all, *(f for part in self.collections for f in part.features))
        ]
        return html_table([header, *rows], caption=_REFERENCES[self.reference])

    def describe(self) -> str:
        """Names of the features, and the momentum to which they are relative, in one line."""
        jets = ", ".join(self.jet_names)
        of_jets = f"; of jets {jets}" if jets else ""
        further = "".join(f"; of {part.name} {', '.join(part.names)}" for part in self.collections)
        return f"{', '.join(self.names)}{of_jets}{further}; {_REFERENCES[self.reference]}"

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
        """Extra columns that the jets must have, in addition to the four-momenta.

        Those of further collections have names such as ``sv.p4`` and ``sv.mass``.
        """
        further = (column for part in self.collections for column in part.columns)
        return (*self.particle_columns, *further)

    @property
    def particle_columns(self) -> tuple[str, ...]:
        """Extra columns of particles and jets that the features need."""
        needed = (columns_of_feature(feature.name) for feature in self._all)
        return tuple(dict.fromkeys(column for columns in needed for column in columns))

    @property
    def optional_columns(self) -> tuple[str, ...]:
        """Extra columns that are used where the jets have them.

        They are stored angles, and quantities of jets without a stored momentum; in feature sets of
        older versions all columns that have the name of a computed angle or a feature.
        """
        names = [feature.name for feature in self._all]
        columns = {column for name in names for column in optional_columns_of_feature(name)}
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
        *,
        is_sorted: bool = True,
    ) -> Tensor:
        """Features of all jets (B, G), none of which may be empty; arguments as for features (N, F).

        With ``is_sorted=False``, `batch` need not be sorted, jets can be empty, and nothing is
        checked: it is the form for exported graphs.

        Raises
        ------
        InputError
            If a feature differs between the particles of a jet.
        """
        particles = self._particles(p4, batch, extras, num_jets, jet_p4)
        values = _stack(self.jet_features, particles, p4.dtype)
        if not is_sorted:
            return max_by_index(values, batch, particles.num_jets)
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
        for column in self.particle_columns:
            if column not in extras:
                usable = [
                    name for name in list_features() if extras.keys() >= {*columns_of_feature(name)}
                ]
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
        features = [feature.to_dict() for feature in self.features]
        plain = {"features": features, "reference": self.reference, "angles": self.angles}
        if self.jet_features:
            plain["jet_features"] = [feature.to_dict() for feature in self.jet_features]
        if self.collections:
            plain["collections"] = [part.to_dict() for part in self.collections]
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
        further = found.get("jet_features", ()), found.get("collections", ())
        return cls(found["features"], reference, angles, *further)


def _stack(features: Sequence[Feature], particles: Particles, dtype: torch.dtype) -> Tensor:
    """Values (N, F) of features."""
    # Each feature is rounded before the next is computed: only one is in memory in float64.
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return torch.stack([feature.compute(particles).to(dtype) for feature in features], dim=-1)
    values = particles.p4.new_empty(len(particles.batch), len(features), dtype=dtype)
    for column, feature in zip(values.unbind(-1), features, strict=True):
        column.copy_(feature.compute(particles))
    return values


_KIN = ("log_pt", "log_energy", "log_pt_rel", "log_energy_rel", "delta_r")
_DISPLACEMENT = ("tanh_d0", "d0_err", "tanh_dz", "dz_err")


def _standard(*names: str) -> FeatureSet:
    return FeatureSet(tuple(STANDARD[name] for name in names))


FEATURE_SETS: dict[str, FeatureSet] = {
    "kin": _standard(*_KIN, "deta", "dphi"),
    "kinpid": _standard(*_KIN, "charge", *FLAGS, "deta", "dphi"),
    "full": _standard(*_KIN, "charge", *FLAGS, *_DISPLACEMENT, "deta", "dphi"),
}
"""The official sets: 7 inputs for top tagging, 13 for quark/gluon, 17 for JetClass."""


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

    Examples
    --------
    >>> feature_set("kin").names
    ('log_pt', 'log_energy', 'log_pt_rel', 'log_energy_rel', 'delta_r', 'deta', 'dphi')
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
        return _from_mapping(feature)
    if feature in FEATURE_SETS:
        return FEATURE_SETS[feature].features
    if feature not in STANDARD:
        expression_of(feature)  # raises where it is neither a name nor an expression
    return [STANDARD.get(feature, Feature(feature))]


def _from_mapping(values: Mapping[str, Any]) -> Sequence[Feature]:
    """Features of a mapping with the fields of a feature, ``column`` being another ``name``."""
    for key in values:
        if key not in (*FEATURE_FIELDS, "column"):
            raise UnknownNameError("field of a feature", str(key), [*FEATURE_FIELDS, "column"])
    plain = {"name" if key == "column" else key: value for key, value in values.items()}
    if set(plain) == {"name"}:
        return _features(plain["name"])
    if isinstance(plain.get("one_hot"), list | tuple):
        plain |= {"one_hot": True, "categories": plain["one_hot"]}
    if plain.get("one_hot") == "auto":
        plain["one_hot"] = True
    feature = checked(Feature, plain)
    if feature.one_hot and feature.categories:
        return one_hot_features(feature.name, feature.categories)
    return [feature]


def features_of_collections(
    wanted: CollectionsLike, available: Mapping[str, Sequence[str]]
) -> tuple[CollectionFeatures, ...]:
    """Features of further collections, without the standardisation of the official sets.

    Parameters
    ----------
    wanted, available
        As for :func:`pcloud.collection_features.collection_features`.
    """
    return collection_features(wanted, available, _without_standard)


def _without_standard(feature: FeatureLike) -> Sequence[Feature]:
    """Features of an entry; those with the standardisation of particles get none."""
    return [Feature(f.name) if is_official(f) else f for f in _features(feature)]
