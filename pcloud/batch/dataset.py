"""Data set of jets for PyTorch Geometric."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import awkward as ak
import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from pcloud.batch.rows import JET_TENSORS, ROW_TENSORS, particles_and_layout, rows_of
from pcloud.collection_features import CollectionsLike, collections_in
from pcloud.entries import (
    Entries,
    collection_of_rows,
    column_of,
    num_entries,
    rows_of_collections,
)
from pcloud.errors import InputError
from pcloud.features import Feature, FeatureSet, feature_set, features_of_collections
from pcloud.io.jets import as_offsets, column_names
from pcloud.nn.graph.coordinates import eta_phi
from pcloud.nn.layout import RaggedLayout
from pcloud.nn.pooling import sum_by_index
from pcloud.order import canonical_order
from pcloud.particle_types import with_particle_types
from pcloud.python_jets import as_jets, components_of, refuse_bad_jets
from pcloud.storage import MEMORY, Storage
from pcloud.text import for_terminal
from pcloud.text_tables import html_table

_CHUNK_JETS = 5_000  # sorted and turned into features at a time: 2 MB of float64 per column

__all__ = ["JetDataset"]


class JetDataset(InMemoryDataset):
    """Jets with their features, as an in-memory data set of PyG.

    ``data[i]`` is a PyG ``Data`` with ``x (P, F)``, ``p4 (P, 4)`` and ``y (1,)``. The flat tensors
    of all jets are attributes. The ``DataLoader`` of PyG can be used, but :class:`JetLoader` is
    about a hundred times faster.

    The particles of each jet are sorted into the canonical order (:mod:`pcloud.order`: by decreasing
    pT), so that scores are bit-equal for every order of the input.

    With further collections, such as secondary vertices, the rows of a jet are its particles and then
    the entries of each collection, each in canonical order.

    Parameters
    ----------
    jets : awkward.Array
        Jets as from :func:`pcloud.read_jets`: ``p4`` in GeV, extra columns, and ``label`` if known.
        The coordinates of ``p4`` can be others, see :func:`pcloud.python_jets.with_momenta`.
    features : str, sequence, or FeatureSet
        Inputs of the network, see :func:`pcloud.features.feature_set`.
    collections : str, sequence or mapping, optional
        Further collections of the jets, ``"all"`` or by name, with the features of each; see
        :func:`pcloud.collection_features.collection_features`. By default those of `features`, if
        this is a feature set, else none.
    storage : Storage
        Place of the tensors with one row per particle: the memory, or mapped files.
    is_checked : bool
        True for jets that a reader has checked already.

    Attributes
    ----------
    x : Tensor, shape (N, F), float32
        Features of all particles.
    p4 : Tensor, shape (N, 4)
        Four-momenta in GeV, with the precision in which they were stored.
    y : Tensor or None, shape (B,), int64
        Labels.
    weight : Tensor or None, shape (B,), float32
        Weights of the jets; None if the jets have none.
    targets : Tensor or None, shape (B, T), float32
        Quantities that a network can learn, in the order of the fields of ``targets``; NaN where a
        jet has none. None if the jets have no targets.
    ptr : Tensor, shape (B + 1,), int64
        Offsets: jet ``i`` consists of the particles ``ptr[i]:ptr[i + 1]``.
    order : Tensor or None, shape (N,), int64
        Index of each particle in the input; None if the input was in canonical order.
    jet_p4 : Tensor or None, shape (B, 4)
        Stored momenta of the jets in GeV; None if the jets have no ``jet_p4``. With further
        collections, jets without have the sum of their particles.
    u : Tensor or None, shape (B, G), float32
        Features of the jets; None if the feature set has none.
    collection : Tensor or None, shape (N,), int64
        Collection of each row, 0 for particles; None if there are only particles.
    pos : Tensor or None, shape (N, 2)
        Pseudorapidity and azimuth relative to the jet in rad, by which rows without momentum take
        their place; None if all rows have momenta. Momenta of rows without one are zero.
    particle_labels : Tensor or None, shape (N, L), int64
        Labels of the particles that a network learns, see :meth:`set_particle_labels`.
    feature_set : FeatureSet
        Features in `x`, relative to `jet_p4` or to the sum of the particles.
    classes : list of str or None
        Names of the classes, if known.
    teacher : Tensor or None, shape (B, C)
        Logits of a teacher network for distillation, which batches have as ``teacher``.

    Raises
    ------
    InputError
        If there are no jets, if a jet has no particles, if momenta are not finite or not physical, or
        if labels are not whole numbers from 0: what :func:`pcloud.read_jets` refuses, too.
    UnknownNameError
        If the features need a column that the jets do not have.

    Examples
    --------
    >>> data = JetDataset(pcloud.load_dataset("simulated", "test")[:5], features="kin")
    >>> len(data), data.classes
    (5, ['qcd', 'top'])
    >>> data[0].x.shape[1]
    7
    """

    def __init__(
        self,
        jets: ak.Array,
        features: str | Sequence[str | Feature] | FeatureSet = "kin",
        collections: CollectionsLike = None,
        storage: Storage = MEMORY,
        is_checked: bool = False,
    ) -> None:
        super().__init__(None)
        self._storage = storage
        jets = as_jets(jets)
        counts = ak.num(jets.p4, axis=1).to_numpy()
        _refuse_empty(counts)
        self.jet_p4 = _jet_p4(jets) if "jet_p4" in jets.fields else None
        wanted = feature_set(features)
        if collections is not None:
            found = features_of_collections(collections, collections_in(column_names(jets)))
            wanted = replace(wanted, collections=found)
        self.feature_set = wanted.for_jets(stored=self.jet_p4 is not None)
        self.classes: list[str] | None = jets.attrs.get("classes")
        self.teacher: Tensor | None = None
        names = [part.name for part in self.feature_set.collections]
        every = [counts, *(num_entries(jets, name) for name in names)]
        if not is_checked:
            refuse_bad_jets(jets, self.classes, names)
        self._set_rows(every)
        self.y = torch.from_numpy(_labels(jets)) if "label" in jets.fields else None
        self.weight = _weights(jets) if "weight" in jets.fields else None
        self.targets = _targets(jets) if "targets" in jets.fields else None
        of_jets = len(self.feature_set.jet_features)
        self.u = torch.empty(len(jets), of_jets) if of_jets else None
        stored = self.jet_p4
        if names and stored is None:
            self.jet_p4 = torch.empty(len(jets), 4, dtype=torch.float64)
        for first in range(0, max(1, len(jets)), _CHUNK_JETS):
            chunk = slice(first, first + _CHUNK_JETS)
            self._fill(jets[chunk], first, None if stored is None else stored[chunk])
        self._describe_to_pyg()

    def _set_rows(self, counts: Sequence[np.ndarray]) -> None:
        """Make the tensors of all rows, from the numbers (B,) of each collection."""
        total = np.sum(counts, axis=0)
        self.ptr = torch.from_numpy(np.concatenate([[0], np.cumsum(total)]).astype(np.int64))
        self.order: Tensor | None = None
        self.collection: Tensor | None = None
        self.pos: Tensor | None = None
        self.particle_labels: Tensor | None = None
        number, width = int(self.ptr[-1]), len(self.feature_set)
        if len(counts) == 1:
            self.x = self._storage.tensor((number, width), torch.float32)
            return
        self.x = self._storage.tensor((number, width), torch.float32, zero=True)
        self.collection = self._stored(collection_of_rows(counts))
        if any(part.entries != "momenta" for part in self.feature_set.collections):
            self.pos = self._storage.tensor((number, 2), torch.float32, zero=True)

    def _stored(self, values: Tensor) -> Tensor:
        """Values in the storage of this data set."""
        if self._storage is MEMORY:
            return values
        stored = self._storage.tensor(tuple(values.shape), values.dtype)
        return stored.copy_(values)

    def _describe_to_pyg(self) -> None:
        """Set the attributes from which PyG knows the rows of each jet."""
        self._data = Data(x=self.x, p4=self.p4)
        self.slices = {"x": self.ptr, "p4": self.ptr}
        for name in ROW_TENSORS:
            if getattr(self, name) is not None:
                self._data[name] = getattr(self, name)
                self.slices[name] = self.ptr
        for name in JET_TENSORS:
            if getattr(self, name) is not None:
                self._data[name] = getattr(self, name)
                self.slices[name] = torch.arange(len(self.ptr))

    def particles(self) -> tuple[Tensor, RaggedLayout]:
        """Momenta of all particles, without further collections, and their layout."""
        return particles_and_layout(self.p4, RaggedLayout.from_ptr(self.ptr), self.collection)

    def set_weights(self, weights: Tensor) -> None:
        """Replace the weights (B,) of the jets."""
        self.weight = weights
        self._describe_to_pyg()

    def set_targets(self, targets: Tensor) -> None:
        """Replace the targets (B, T) of the jets."""
        self.targets = targets
        self._describe_to_pyg()

    def set_particle_labels(self, labels: Tensor) -> None:
        """Replace the labels (N, L) of the particles, given in the order of the input."""
        self.particle_labels = self.in_order(labels)
        self._describe_to_pyg()

    def __repr__(self) -> str:
        return "\n  ".join(
            ["JetDataset", *(for_terminal(f"{name}: {value}") for name, value in self._summary())]
        )

    def _repr_html_(self) -> str:
        return html_table([["JetDataset", ""], *map(list, self._summary())])

    def _summary(self) -> list[tuple[str, str]]:
        """Names and values that describe the data set."""
        rows = [("jets", f"{len(self):,}, {self._spread(0, 'particles')}")]
        for i, part in enumerate(self.feature_set.collections, 1):
            rows.append((part.name, self._spread(i, "entries")))
        if self.y is not None:
            numbers = torch.bincount(self.y.clamp(min=0)).tolist()
            names = self.classes or [str(label) for label in range(len(numbers))]
            parts = (f"{n:,} {name}" for name, n in zip(names, numbers, strict=False))
            rows.append(("classes", ", ".join(parts)))
        return [*rows, ("features", self.feature_set.describe())]

    def _spread(self, collection: int, noun: str) -> str:
        """Numbers of entries of a collection in a jet."""
        counts = self.ptr.diff()
        if self.collection is not None:
            jet = torch.repeat_interleave(torch.arange(len(counts)), counts)
            counts = torch.bincount(jet[self.collection == collection], minlength=len(counts))
        return f"{counts.min()} to {counts.max()} {noun}, mean {counts.double().mean():.1f}"

    def index_select(self, idx: Any) -> JetDataset:
        """Data set of the jets selected by a slice, by indices or by a mask, with its own tensors."""
        if isinstance(idx, Tensor | np.ndarray):
            idx = np.asarray(idx).reshape(-1)
            indices = np.arange(len(self))[idx if idx.size else idx.astype(np.int64)]
        else:
            indices = super().index_select(idx).indices()
            if isinstance(indices, range):
                indices = np.arange(indices.start, indices.stop, indices.step)
        jets = torch.as_tensor(indices, dtype=torch.long)
        rows, jet, ptr = rows_of(self.ptr, jets)
        part = copy.copy(self)
        part._data_list = None
        part.ptr = ptr
        part.x = self.x.index_select(0, rows)
        part.p4 = self.p4.index_select(0, rows)
        for name in ROW_TENSORS:
            values = getattr(self, name)
            setattr(part, name, None if values is None else values.index_select(0, rows))
        for name in (*JET_TENSORS, "teacher"):
            values = getattr(self, name)
            setattr(part, name, None if values is None else values[jets])
        if self.order is not None:
            part.order = self.order[rows] + (ptr[:-1] - self.ptr[jets])[jet]
        part._describe_to_pyg()
        return part

    def copy(self, idx: Any = None) -> JetDataset:
        """Copy of all jets, or of those selected as in :meth:`index_select`."""
        return self.index_select(slice(None) if idx is None else idx)

    @classmethod
    def concatenate(cls, parts: Sequence[JetDataset]) -> JetDataset:
        """Concatenate several data sets.

        Raises
        ------
        InputError
            If their features, classes or columns differ.
        """
        first = parts[0]
        whole = copy.copy(first)
        whole._data_list = None
        for name in ("feature_set", "classes"):
            if any(getattr(part, name) != getattr(first, name) for part in parts):
                raise InputError(f"data sets with different {name} cannot be concatenated")
        whole.ptr = torch.cat([torch.zeros(1, dtype=torch.long), *(p.ptr.diff() for p in parts)])
        whole.ptr = whole.ptr.cumsum(0)
        for name in ("x", "p4", *ROW_TENSORS, *JET_TENSORS, "teacher"):
            values = [getattr(part, name) for part in parts]
            if any((value is None) != (values[0] is None) for value in values):
                raise InputError(f"only some of the data sets have {name}")
            setattr(whole, name, None if values[0] is None else torch.cat(values))
        starts = [0, *itertools.accumulate(len(part.x) for part in parts)]
        if any(part.order is not None for part in parts):
            orders = [torch.arange(len(p.x)) if p.order is None else p.order for p in parts]
            whole.order = torch.cat([o + start for o, start in zip(orders, starts, strict=False)])
        whole._describe_to_pyg()
        return whole

    def to_bytes(self) -> bytes:
        """Lengths and labels of the jets as bytes, for a checksum."""
        return b"".join(t.numpy().tobytes() for t in (self.ptr, self.y) if t is not None)

    def in_order(self, values: Tensor) -> Tensor:
        """Rows ``values (N, ...)`` of the particles in canonical order, from those in input order."""
        return values if self.order is None else values.index_select(0, self.order)

    def in_input_order(self, values: Tensor) -> Tensor:
        """Rows of the particles in input order, from those in canonical order.

        Parameters
        ----------
        values : Tensor, shape (N, ...)
            One row per particle, for example an attribution.
        """
        if self.order is None:
            return values
        return torch.empty_like(values).index_copy_(0, self.order, values)

    def _fill(self, jets: ak.Array, first: int, stored: Tensor | None) -> None:
        """Set the rows of a chunk of jets, the first of which has the index `first`."""
        particles, u = self._particles(jets, stored)
        if self.u is not None and u is not None:
            self.u[first : first + len(jets)] = u
        start, stop = int(self.ptr[first]), int(self.ptr[first + len(jets)])
        parts = [particles]
        rows: list[slice | Tensor] = [slice(start, stop)]
        further = self.feature_set.collections
        if further:
            counts = [ak.num(jets.p4, axis=1).to_numpy()]
            counts += [num_entries(jets, part.name) for part in further]
            jet = torch.repeat_interleave(torch.arange(len(jets)), torch.from_numpy(counts[0]))
            total = sum_by_index(particles.p4.double(), jet, len(jets))
            axis = total if stored is None else stored
            reference = total if self.feature_set.reference == "particles" else axis
            parts += [Entries.of(jets, part, reference, axis) for part in further]
            rows = [index + start for index in rows_of_collections(counts)]
            if stored is None:
                assert self.jet_p4 is not None
                self.jet_p4[first : first + len(jets)] = total
        if first == 0:
            dtype = reduce(torch.promote_types, [entries.p4.dtype for entries in parts])
            self.p4 = self._storage.tensor((len(self.x), 4), dtype)
        for index, entries in zip(rows, parts, strict=True):
            self._set(index, entries)

    def _set(self, rows: slice | Tensor, entries: Entries) -> None:
        """Set the rows of the entries of one collection of a chunk of jets."""
        self.p4[rows] = entries.p4.to(self.p4.dtype)
        self.x[rows, : entries.x.shape[1]] = entries.x.to(self.x.dtype)
        if self.pos is not None:
            self.pos[rows] = entries.pos.to(self.pos.dtype)
        if entries.order is not None:
            if self.order is None:
                self.order = self._storage.tensor((len(self.x),), torch.int64)
                torch.arange(len(self.x), out=self.order)
            self.order[rows] = self.order[rows][entries.order]

    def _particles(self, jets: ak.Array, jet_p4: Tensor | None) -> tuple[Entries, Tensor | None]:
        """Particles of a chunk of jets in canonical order, and the features of the jets."""
        features = self.feature_set
        counts = ak.num(jets.p4, axis=1).to_numpy()
        ptr = torch.from_numpy(as_offsets(counts))
        p4 = torch.from_numpy(np.stack(components_of(jets), axis=-1))
        p4.add_(0.0)  # -0.0 becomes 0.0: the azimuths of (-1, -0.0) and (-1, 0.0) differ
        jets = with_particle_types(jets, features.particle_columns)
        wanted = {*features.particle_columns, *features.optional_columns}
        extras = {
            name: _particle_column(jets, name, counts) for name in jets.fields if name in wanted
        }
        order = canonical_order(p4, ptr, list(extras.values()))
        if order is not None:
            p4 = p4.index_select(0, order)
            extras = {name: values.index_select(0, order) for name, values in extras.items()}
        jet = torch.repeat_interleave(torch.arange(len(jets)), ptr.diff())
        with torch.no_grad():
            x = features(p4, jet, extras, len(jets), jet_p4)
        u = features.of_jets(p4, jet, extras, len(jets), jet_p4) if self.u is not None else None
        pos = p4.new_zeros(0, 2)
        if self.pos is not None:
            layout = RaggedLayout.from_ptr(ptr).with_jet_p4(jet_p4)
            pos = eta_phi(p4, layout)
        return Entries(x, p4, pos, order), u


def _particle_column(jets: ak.Array, name: str, counts: np.ndarray) -> Tensor:
    """Values (N,) of a column per particle; those of a column per jet are repeated.

    Raises
    ------
    InputError
        If the column holds no numbers, not one for each particle or jet, or is the label.
    """
    if name == "label":
        raise InputError("the label is the true class, and cannot be a feature")
    return column_of(jets[name], name, counts)


def _jet_p4(jets: ak.Array) -> Tensor:
    columns = [np.asarray(jets.jet_p4[name]) for name in ("E", "px", "py", "pz")]
    return torch.from_numpy(np.stack(columns, axis=-1))


def _weights(jets: ak.Array) -> Tensor:
    return torch.from_numpy(np.asarray(jets.weight, dtype=np.float32))


def _targets(jets: ak.Array) -> Tensor | None:
    """Targets (B, T) in the order of their fields, NaN where a jet has none."""
    try:
        columns = [np.asarray(ak.fill_none(jets.targets[n], np.nan)) for n in jets.targets.fields]
        return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32)) if columns else None
    except (TypeError, ValueError):
        raise InputError(
            f"targets must be numbers for each jet, and are {jets.targets.type}"
        ) from None


def _labels(jets: ak.Array) -> np.ndarray:
    return np.asarray(jets.label).astype(np.int64)


def _refuse_empty(counts: np.ndarray) -> None:
    if len(counts) == 0:
        raise InputError("there are no jets in this data set")
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        raise InputError(
            f"{len(empty)} of {len(counts)} jets have no particles, the first is jet {empty[0]}: "
            "read them with on_bad_jet='drop'"
        )
