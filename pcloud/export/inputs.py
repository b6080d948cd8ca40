"""Inputs of an exported network: their names, shapes, units and ranges, and values of jets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from pcloud.errors import InputError, UnknownNameError
from pcloud.features import FeatureSet
from pcloud.io.jets import MOMENTUM
from pcloud.particle_types import with_particle_types
from pcloud.typing import Floats

__all__ = ["CloudInputs", "CollectionInputs", "JetArrays", "Range"]

JET_P4 = "jet_p4"
OFFSETS = "offsets"
MASK = "mask"

JetArrays = Mapping[str, np.ndarray]
"""Values of one jet by the name of the input: ``p4 (P, 4)``, columns ``(P,)``, ``jet_p4 (4,)``, and
columns of the jet ``(1,)``."""

_UNITS = {"d0": "mm", "dz": "mm", "stored_deta": "1", "stored_dphi": "rad"}


@dataclass(frozen=True)
class CollectionInputs:
    """Inputs from the particles, or from a further collection.

    Attributes
    ----------
    name : str
        Name of the collection; empty for the particles.
    has_momenta : bool
        True if the entries have four-momenta ``p4``.
    columns : tuple of str
        Further columns.
    """

    name: str
    has_momenta: bool
    columns: tuple[str, ...] = ()

    def input_name(self, column: str) -> str:
        """Name of the input of a column, such as ``p4`` or ``sv.mass``."""
        return f"{self.name}.{column}" if self.name else column

    @property
    def names(self) -> list[str]:
        """Names of all inputs but the mask."""
        momenta = ["p4"] if self.has_momenta else []
        return [self.input_name(column) for column in (*momenta, *self.columns)]


@dataclass(frozen=True)
class Range:
    """Smallest and largest value of an input in the jets with which the graph was checked."""

    low: float
    high: float


@dataclass(frozen=True)
class CloudInputs:
    """Inputs of a network on clouds, by name.

    Attributes
    ----------
    collections : tuple of CollectionInputs
        Inputs of the particles, then those of each further collection.
    has_jet_p4 : bool
        True if the jets have momenta of their own, ``jet_p4``.
    jet_columns : tuple of str
        Columns with one value per jet.
    """

    collections: tuple[CollectionInputs, ...]
    has_jet_p4: bool = False
    jet_columns: tuple[str, ...] = ()
    ranges: Mapping[str, Range] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, features: FeatureSet, jets: ak.Array) -> CloudInputs:
        """Inputs that a feature set needs of jets; those per jet are known by the jets.

        Parameters
        ----------
        features : FeatureSet
            Features of the network, with its reference resolved.
        jets : awkward.Array
            Jets that it was trained for.

        Raises
        ------
        UnknownNameError
            If the jets lack a column.
        """
        jets = with_particle_types(jets, features.particle_columns)
        wanted = {*features.particle_columns, *features.optional_columns}
        for column in features.particle_columns:
            if column not in jets.fields:
                raise UnknownNameError("column", column, jets.fields, "these jets")
        columns = [name for name in jets.fields if name in wanted]
        of_jets = tuple(name for name in columns if jets[name].ndim == 1)
        particles = tuple(name for name in columns if jets[name].ndim > 1)
        parts = [
            CollectionInputs(part.name, part.entries == "momenta", part.own_columns)
            for part in features.collections
        ]
        has_jet_p4 = JET_P4 in jets.fields
        if features.reference == "stored" and not has_jet_p4:
            raise InputError("these jets have no stored momentum jet_p4, which the features need")
        return cls((CollectionInputs("", True, particles), *parts), has_jet_p4, of_jets)

    @property
    def per_jet(self) -> list[str]:
        """Names of the inputs with one value per jet."""
        return [*([JET_P4] if self.has_jet_p4 else []), *self.jet_columns]

    def names(self, *, padded: bool) -> list[str]:
        """Names of all inputs, in order."""
        names = []
        for part in self.collections:
            names += part.names
            if padded:
                names.append(part.input_name(MASK))
        return [*names, *self.per_jet]

    def axes(self, name: str) -> str:
        """Letter of the axis of the particles or entries of an input; empty for one per jet."""
        if name in self.per_jet:
            return ""
        collection = name.rpartition(".")[0]
        return f"num_{collection}" if self._is_collection(collection) else "num_particles"

    def _is_collection(self, name: str) -> bool:
        return any(part.name == name for part in self.collections[1:])

    def shape(self, name: str, *, padded: bool) -> list[str | int]:
        """Shape of an input; free axes are names."""
        rows = self.axes(name)
        last = 4 if name.rpartition(".")[2] in ("p4", JET_P4) else 0
        shape: list[str | int] = ["num_jets"] if padded else []
        if rows:
            return [*shape, rows, *([last] if last else [])]
        if last:
            return [*shape, last]
        return shape or [1]

    def unit(self, name: str) -> str:
        """Unit of an input, as far as it is known."""
        column = name.rpartition(".")[2]
        if column in ("p4", JET_P4):
            return "GeV"
        return _UNITS.get(column, "as in the training jets")

    @classmethod
    def from_metadata(cls, described: Sequence[Mapping[str, Any]]) -> CloudInputs:
        """Inputs of a file, from their description in its metadata."""
        others = ("bool", "int64")  # masks and offsets
        names = [entry["name"] for entry in described if entry["type"] not in others]
        per_jet = {e["name"] for e in described if e["shape"] in ([1], ["num_jets"])}
        columns: dict[str, list[str]] = {}
        for name in names:
            if name != JET_P4 and name not in per_jet:
                collection, _, column = name.rpartition(".")
                columns.setdefault(collection, []).append(column)
        parts = [
            CollectionInputs(name, "p4" in found, tuple(c for c in found if c != "p4"))
            for name, found in columns.items()
        ]
        of_jets = tuple(name for name in names if name in per_jet)
        return cls(tuple(parts), JET_P4 in names, of_jets)

    def arrays(self, jets: ak.Array) -> list[JetArrays]:
        """Values of each jet, float32.

        Parameters
        ----------
        jets : awkward.Array
            Jets with the columns of the inputs, or with PDG codes from which these follow.

        Raises
        ------
        UnknownNameError
            If they lack a column; the message names it.
        """
        jets = with_particle_types(jets, (*self.collections[0].columns, *self.jet_columns))
        self._check_columns(jets)
        columns: dict[str, list[np.ndarray]] = {}
        for part in self.collections:
            entries = jets
            if part.name:
                entries = with_particle_types(entries[part.name], part.columns)
            if part.has_momenta:
                columns[part.input_name("p4")] = _jet_by_jet(_momenta(entries.p4), entries.p4)
            for name in part.columns:
                values = entries[name]
                columns[part.input_name(name)] = _jet_by_jet(ak.flatten(values, axis=1), values)
        if self.has_jet_p4:
            columns[JET_P4] = list(_momenta(jets.jet_p4))
        for name in self.jet_columns:
            columns[name] = list(np.asarray(jets[name], dtype=np.float32)[:, None])
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _check_columns(self, jets: ak.Array) -> None:
        for name in (*self.collections[0].names, *self.per_jet):
            if name not in jets.fields:
                raise UnknownNameError("column", name, jets.fields, "these jets")
        for part in self.collections[1:]:
            if part.name not in jets.fields:
                raise UnknownNameError("collection", part.name, jets.fields, "these jets")
            entries = with_particle_types(jets[part.name], part.columns)
            for name in (*(["p4"] if part.has_momenta else []), *part.columns):
                if name not in entries.fields:
                    raise UnknownNameError("column", name, entries.fields, f"{part.name}")

    def jets(self, arrays: Sequence[JetArrays]) -> ak.Array:
        """Jets from the values of each, the inverse of :meth:`arrays`."""
        fields: dict[str, Any] = {}
        for part in self.collections:
            columns = {
                name: _joined([a[part.input_name(name)] for a in arrays]) for name in part.columns
            }
            if part.has_momenta:
                columns = {"p4": _with_components(arrays, part.input_name("p4"))} | columns
            if part.name:
                fields[part.name] = ak.zip(columns, depth_limit=2)
            else:
                fields |= columns
        if self.has_jet_p4:
            fields[JET_P4] = _record(np.stack([a[JET_P4] for a in arrays]))
        for name in self.jet_columns:
            fields[name] = np.concatenate([a[name] for a in arrays])
        return ak.zip(fields, depth_limit=1)

    def padded(self, arrays: Sequence[JetArrays]) -> dict[str, np.ndarray]:
        """Batch of several jets, padded with zeros to the longest, with masks."""
        batch: dict[str, np.ndarray] = {}
        for part in self.collections:
            counts = np.array([len(a[part.names[0]]) for a in arrays])
            mask = np.arange(counts.max(initial=0)) < counts[:, None]
            for name in part.names:
                shape = (*mask.shape, *arrays[0][name].shape[1:])
                batch[name] = np.zeros(shape, dtype=np.float32)
                batch[name][mask] = np.concatenate([a[name] for a in arrays])
            batch[part.input_name(MASK)] = mask
        for name in self.per_jet:
            values = np.stack([a[name] for a in arrays])
            batch[name] = values if name == JET_P4 else values[:, 0]
        return batch

    def ragged(self, arrays: Sequence[JetArrays]) -> dict[str, np.ndarray]:
        """Batch of several jets without padding: the rows of all, and where each jet begins."""
        per_jet = {
            name: values for name, values in self.padded(arrays).items() if name in self.per_jet
        }
        rows = {
            name: np.concatenate([a[name] for a in arrays]) for name in self.collections[0].names
        }
        counts = [len(a["p4"]) for a in arrays]
        return rows | per_jet | {OFFSETS: np.cumsum([0, *counts], dtype=np.int64)}

    def example(self, *, padded: bool) -> list[Tensor]:
        """Values with which the graph is recorded: jets of several particles, none special."""
        generator = torch.Generator().manual_seed(0)
        length = {part.name: 11 + 2 * i for i, part in enumerate(self.collections)}
        tensors = []
        for name in self.names(padded=padded):
            rows = length.get(name.rpartition(".")[0], length[""])
            sizes = [
                {"num_jets": 5}.get(str(n), n if isinstance(n, int) else rows)
                for n in self.shape(name, padded=padded)
            ]
            if name.rpartition(".")[2] == MASK:
                tensors.append(torch.arange(rows) < rows - 1 - torch.arange(5).unsqueeze(1))
                continue
            values = torch.rand(sizes, generator=generator)
            if sizes[-1] == 4:
                values = values + 1
                values[..., 0] = values[..., 1:].square().sum(-1).sqrt() + 0.1
            tensors.append(values)
        return tensors


def _momenta(p4: ak.Array) -> Floats:
    """Components (N, 4) of all momenta, float32."""
    flat = ak.flatten(p4, axis=None) if p4.ndim == 0 else p4
    while flat.ndim > 1:
        flat = ak.flatten(flat, axis=1)
    return np.stack([np.asarray(flat[name], dtype=np.float32) for name in MOMENTUM], axis=-1)


def _jet_by_jet(flat: Any, like: ak.Array) -> list[np.ndarray]:
    counts = ak.to_numpy(ak.num(like, axis=1))
    values = np.asarray(flat, dtype=np.float32)
    return np.split(values, np.cumsum(counts)[:-1]) if len(counts) else []


def _joined(rows: Sequence[np.ndarray]) -> ak.Array:
    return ak.unflatten(np.concatenate(rows), [len(row) for row in rows])


def _record(p4: np.ndarray) -> ak.Array:
    return ak.zip(dict(zip(MOMENTUM, p4.T, strict=True)))


def _with_components(arrays: Sequence[JetArrays], name: str) -> ak.Array:
    rows = [a[name] for a in arrays]
    return ak.unflatten(_record(np.concatenate(rows)), [len(row) for row in rows])
