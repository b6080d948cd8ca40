"""Entries of the further collections of jets as rows beside the particles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from pcloud import kinematics
from pcloud.collection_features import CollectionFeatures
from pcloud.errors import InputError, UnknownNameError
from pcloud.io.jets import as_offsets
from pcloud.order import canonical_order
from pcloud.particle_types import with_particle_types
from pcloud.python_jets import components_of

__all__ = [
    "Entries",
    "collection_of_rows",
    "column_of",
    "num_entries",
    "positions",
    "rows_of_collections",
]


@dataclass(frozen=True)
class Entries:
    """Entries of a collection of some jets, in canonical order.

    Attributes
    ----------
    x : Tensor, shape (M, F)
        Features.
    p4 : Tensor, shape (M, 4)
        Four-momenta in GeV; zero for entries without momenta.
    pos : Tensor, shape (M, 2)
        Pseudorapidity and azimuth relative to the jet in rad; zero for entries without position.
    order : Tensor, shape (M,), or None
        Index of each entry in the input; None if the input was in canonical order.
    """

    x: Tensor
    p4: Tensor
    pos: Tensor
    order: Tensor | None

    @classmethod
    def of(cls, jets: ak.Array, part: CollectionFeatures, jet_p4: Tensor, axis: Tensor) -> Entries:
        """Entries of a collection.

        Parameters
        ----------
        jets : awkward.Array
            Jets.
        part : CollectionFeatures
            Collection and its features.
        jet_p4 : Tensor, shape (B, 4)
            Momenta of the jets in GeV, to which features are relative.
        axis : Tensor, shape (B, 4)
            Momenta of the jets to which positions are relative.

        Raises
        ------
        UnknownNameError
            If the collection has no column that the features need.
        InputError
            If a column does not hold one number for each entry.
        """
        entries = with_particle_types(jets[part.name], part.own_columns)
        counts = num_entries(jets, part.name)
        ptr = torch.from_numpy(as_offsets(counts))
        columns = {name: _column(entries, part.name, name, counts) for name in part.own_columns}
        p4 = torch.zeros(int(ptr[-1]), 4, dtype=torch.float32)
        if part.entries == "momenta":
            p4 = torch.from_numpy(np.stack(components_of(entries), axis=-1)).add_(0.0)
        order = canonical_order(p4, ptr, list(columns.values()))
        if order is not None:
            p4 = p4.index_select(0, order)
            columns = {name: values.index_select(0, order) for name, values in columns.items()}
        jet = torch.repeat_interleave(torch.arange(len(jets)), ptr.diff())
        x = part.compute(p4, jet, columns, len(jets), jet_p4)
        return cls(x, p4, positions(part, p4, columns, axis.double()[jet]), order)


def positions(
    part: CollectionFeatures, p4: Tensor, columns: dict[str, Tensor], axis: Tensor
) -> Tensor:
    """Positions (M, 2) relative to the axes ``axis (M, 4)`` of the jets."""
    if part.entries == "columns":
        return p4.new_zeros(p4.shape[0], 2)  # `len` would be a constant of a recorded graph
    if part.entries == "momenta":
        eta, dphi = kinematics.eta(p4.double()), kinematics.delta_phi(p4.double(), axis)
    else:
        eta = columns["eta"].double()
        dphi = kinematics.wrap_phi(columns["phi"].double() - kinematics.phi(axis))
    return torch.stack([eta - kinematics.eta(axis), dphi], dim=-1)


def num_entries(jets: ak.Array, name: str) -> np.ndarray:
    """Number (B,) of the entries of a collection of each jet.

    Raises
    ------
    UnknownNameError
        If the jets have no such collection.
    InputError
        If it is not a list of records for each jet.
    """
    if name not in jets.fields:
        raise UnknownNameError("collection", name, jets.fields, "these jets")
    entries = jets[name]
    try:
        if entries.ndim == 2 and entries.fields:
            return ak.to_numpy(ak.num(entries, axis=1), allow_missing=False)
    except ValueError:
        pass
    raise InputError(f"collection {name!r} must be a list of records for each jet")


def _column(entries: ak.Array, collection: str, name: str, counts: np.ndarray) -> Tensor:
    """Values (M,) of a column of a collection."""
    if name not in entries.fields:
        raise UnknownNameError("column", name, entries.fields, f"collection {collection!r}")
    return column_of(entries[name], f"{collection}.{name}", counts, "entry")


def column_of(column: ak.Array, name: str, counts: np.ndarray, noun: str = "particle") -> Tensor:
    """Values (N,) of a column with a number per particle; a number per jet is repeated.

    Raises
    ------
    InputError
        If the column holds no numbers, or not one for each particle or jet.
    """
    try:
        if column.ndim == 1:
            values = np.repeat(ak.to_numpy(column, allow_missing=False), counts)
        else:
            values = ak.to_numpy(ak.flatten(column, axis=1), allow_missing=False)
    except (TypeError, ValueError):
        values = np.empty(0, dtype=object)
    if values.ndim != 1 or values.dtype.kind not in "biuf" or len(values) != counts.sum():
        raise InputError(f"column {name!r} does not hold one number for each {noun} or jet")
    return torch.from_numpy(np.array(values))


def collection_of_rows(counts: Sequence[np.ndarray]) -> Tensor:
    """Index (N,) of the collection of each row.

    Parameters
    ----------
    counts : sequence of array, shape (B,)
        Numbers of the particles, and of the entries of each further collection.

    Returns
    -------
    Tensor, shape (N,), int64
        0 for particles, 1 for the first further collection, jet by jet.
    """
    table = np.stack(counts, axis=1)  # (B, C)
    number = np.tile(np.arange(table.shape[1]), len(table))
    return torch.from_numpy(np.repeat(number, table.reshape(-1)))


def rows_of_collections(counts: Sequence[np.ndarray]) -> list[Tensor]:
    """Rows of the entries of each collection in the cloud of all of them, jet by jet.

    Parameters
    ----------
    counts : sequence of array, shape (B,)
        As for :func:`collection_of_rows`.

    Returns
    -------
    list of Tensor, each of shape (M,)
    """
    collection = collection_of_rows(counts)
    return [(collection == i).nonzero().flatten() for i in range(len(counts))]
