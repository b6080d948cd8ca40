"""Features of a further collection of the jets, such as secondary vertices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import torch
from annotated_types import Len
from torch import Tensor

from pcloud.errors import InputError, UnknownNameError
from pcloud.feature import Feature, columns_of_feature, repeated_names
from pcloud.particle_types import PARTICLE_TYPES, available_columns
from pcloud.quantities import OF_ENTRIES, Particles
from pcloud.stored_values import Name

__all__ = [
    "ALL",
    "CollectionFeatures",
    "CollectionsLike",
    "collection_features",
    "collections_in",
]

ALL = "all"
"""All collections of the jets, with their default features."""

NONE = "none"
"""No collection besides the particles."""

CollectionsLike: TypeAlias = str | Sequence[str | Mapping[str, Any]] | Mapping[str, Any] | None
"""``"all"``, ``"none"``, names of collections, or the features of each by its name."""

_KINEMATICS = ("log_pt", "log_energy", "log_pt_rel", "log_energy_rel", "delta_r", "deta", "dphi")
_ANGLES = ("deta", "dphi", "delta_r")
_POSITION = ("eta", "phi")


@dataclass(frozen=True)
class CollectionFeatures:
    """Inputs of a network from the entries of a further collection.

    Attributes
    ----------
    name : str
        Name of the collection.
    features : tuple of Feature
        One feature for each input.
    entries : {"momenta", "positions", "columns"}
        Kind of the entries: with four-momenta ``p4``; with positions, the columns ``eta`` and
        ``phi``; with neither.
    """

    name: Name
    features: Annotated[tuple[Feature, ...], Len(1, 10_000)]
    entries: Literal["momenta", "positions", "columns"] = "momenta"

    def __post_init__(self) -> None:
        if not self.features:
            raise InputError(f"collection {self.name!r} needs at least one feature")
        if repeated := repeated_names(self.features):
            raise InputError(
                f"features of collection {self.name!r} given twice: {', '.join(repeated)}"
            )

    def __len__(self) -> int:
        return len(self.features)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(feature.name for feature in self.features)

    @property
    def own_columns(self) -> tuple[str, ...]:
        """Columns of the collection that are needed besides ``p4``."""
        position = _POSITION if self.entries == "positions" else ()
        needed = [columns_of_feature(name, self.entries) for name in self.names]
        return tuple(dict.fromkeys(c for columns in (position, *needed) for c in columns))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the jets must have, such as ``sv.p4`` and ``sv.mass``."""
        momenta = ("p4",) if self.entries == "momenta" else ()
        return tuple(f"{self.name}.{column}" for column in (*momenta, *self.own_columns))

    @property
    def columns_to_read(self) -> tuple[str, ...]:
        """Columns that are read from files: also the PDG codes from which flags can follow."""
        codes = (f"{self.name}.pid",) if set(self.own_columns) & set(PARTICLE_TYPES) else ()
        return (*self.columns, *codes)

    def compute(
        self,
        p4: Tensor,
        batch: Tensor,
        extras: Mapping[str, Tensor],
        num_jets: int,
        jet_p4: Tensor,
    ) -> Tensor:
        """Features of all entries.

        Parameters
        ----------
        p4 : Tensor, shape (M, 4)
            Four-momenta in GeV; not read if the entries have none.
        batch : Tensor, shape (M,)
            Jet of each entry.
        extras : mapping of str to Tensor, shape (M,)
            Columns of the collection.
        num_jets : int
            Number of jets B.
        jet_p4 : Tensor, shape (B, 4)
            Momenta of the jets in GeV, to which features are relative.

        Returns
        -------
        Tensor, shape (M, F), float64
        """
        columns = {name: values.double() for name, values in extras.items()}
        particles = Particles(
            p4.double(), batch, num_jets, columns, jet_p4.double(), entries=self.entries
        )
        return torch.stack([feature.compute(particles) for feature in self.features], dim=-1)

    def to_dict(self) -> dict[str, Any]:
        """Dictionary of plain values."""
        features = [feature.to_dict() for feature in self.features]
        return {"name": self.name, "features": features, "entries": self.entries}


def collections_in(names: Iterable[str]) -> dict[str, list[str]]:
    """Columns of each collection, from names of columns such as ``sv``, ``sv.p4``, ``sv.mass``."""
    names = list(names)
    found: dict[str, list[str]] = {}
    for name in names:
        collection, _, column = name.partition(".")
        if column and collection in names:
            found.setdefault(collection, []).append(column)
    return found


def collection_features(
    wanted: CollectionsLike,
    available: Mapping[str, Sequence[str]],
    parse: Callable[[Any], Sequence[Feature]],
) -> tuple[CollectionFeatures, ...]:
    """Features of the collections of some jets, in the order of the jets.

    Entries with momenta have the kinematic features of the particles by default, those with
    positions their columns and the angles relative to the jet, others their columns.

    Parameters
    ----------
    wanted : str, sequence or mapping
        ``"all"``, ``"none"``, names of collections, which have their default features, or a list of
        features for each name, in which ``"default"`` stands for these.
    available : mapping of str to sequence of str
        Columns of each collection of the jets, with ``p4`` if it has momenta.
    parse : callable
        Function of an entry of such a list that returns its features.

    Raises
    ------
    UnknownNameError
        If there is no such collection or column.
    InputError
        If a feature needs momenta that the collection does not have.
    """
    lists = _lists(wanted, list(available))
    for name in lists:
        if not available:
            raise InputError(
                f"there is no collection {name!r}: the schema names none besides the particles, "
                f"such as collections: {{{name}: {{columns: {{mass: {name}_mass}}}}}}"
            )
        if name not in available:
            raise UnknownNameError("collection", name, available)
    return tuple(
        _of_collection(name, lists[name], columns, parse)
        for name, columns in available.items()
        if name in lists
    )


def _lists(wanted: CollectionsLike, available: Sequence[str]) -> dict[str, Any]:
    """List of features for each wanted collection; None for its default features."""
    if wanted is None or wanted == NONE:
        return {}
    if wanted == ALL:
        return dict.fromkeys(available)
    if isinstance(wanted, str):
        wanted = [wanted]
    if not isinstance(wanted, Sequence | Mapping):
        raise InputError(f"collections are all, none, names or lists of features, got {wanted!r}")
    lists: dict[str, Any] = {}
    for item in [wanted] if isinstance(wanted, Mapping) else wanted:
        part = item if isinstance(item, Mapping) else {item: None}
        for name, features in part.items():
            if name in lists:
                raise InputError(f"collection {name!r} is given twice")
            lists[name] = _listed(name, features)
    return lists


def _listed(name: str, features: Any) -> list[Any] | None:
    """List of the features of a collection; None for the default ones."""
    if features is None:
        return None
    listed = [features] if isinstance(features, str | Mapping | Feature) else features
    if not isinstance(listed, list | tuple) or not all(
        isinstance(feature, str | Mapping | Feature) for feature in listed
    ):
        raise InputError(f"features of collection {name!r} are a list of names, got {features!r}")
    if not listed:
        raise InputError(
            f"collection {name!r} needs at least one feature: leave it out, or add some"
        )
    return list(listed)


def _of_collection(
    name: str,
    wanted: list[Any] | None,
    columns: Sequence[str],
    parse: Callable[[Any], Sequence[Feature]],
) -> CollectionFeatures:
    """Features of a collection with the given columns."""
    entries: Literal["momenta", "positions", "columns"] = "columns"
    if "p4" in columns:
        entries = "momenta"
    elif set(columns) >= set(_POSITION):
        entries = "positions"
    default = _default(entries, columns)
    found: list[Feature] = []
    for feature in [_DEFAULT] if wanted is None else wanted:
        if feature == _DEFAULT:
            found += [Feature(one) for one in default]
        else:
            found += parse(feature)
    features = CollectionFeatures(name, tuple(found), entries)
    _check_columns(features, columns)
    return features


_DEFAULT = "default"


def _default(entries: str, columns: Sequence[str]) -> Sequence[str]:
    if entries == "momenta":
        return _KINEMATICS
    angles = _ANGLES if entries == "positions" else ()
    others = [column for column in columns if entries == "columns" or column not in _POSITION]
    return [*angles, *(c if c.isidentifier() else f"column({c!r})" for c in others)]


def _check_columns(features: CollectionFeatures, columns: Sequence[str]) -> None:
    """Check that a collection has the columns of its features."""
    known = available_columns(columns)
    for feature in features.names:
        for column in columns_of_feature(feature, features.entries):
            if column in known:
                continue
            if column in OF_ENTRIES["momenta"]:
                raise InputError(
                    f"feature {feature!r} of collection {features.name!r} needs its momenta, and it "
                    f"has only {features.entries}: name p4 of the collection in the schema, or a "
                    f"column {column}"
                )
            usable = [*known, *OF_ENTRIES[features.entries]]
            raise UnknownNameError("column", column, usable, f"collection {features.name!r}")
