"""Two representations of jets: flat numpy columns with offsets, and awkward records for users."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import awkward as ak
import numpy as np
import vector

from pcloud.errors import InputError, UnknownNameError

__all__ = [
    "JET_MOMENTUM",
    "MOMENTUM",
    "FlatJets",
    "GrowingJets",
    "as_offsets",
    "momenta",
    "offsets",
]

#: Components of a four-momentum, in the order used everywhere in this package.
MOMENTUM = ("E", "px", "py", "pz")

#: Columns of the stored four-momentum of a jet; in awkward jets the record ``jet_p4``.
JET_MOMENTUM = tuple(f"jet_p4_{name}" for name in MOMENTUM)

#: Largest ratio of the memory reserved for a column to its present size. The first jets of a file can
#: be unlike the others.
_MAX_GROWTH = 100

vector.register_awkward()


def as_offsets(counts: np.ndarray) -> np.ndarray:
    """Offsets (B + 1,) of consecutive jets, int64, from their numbers of particles (B,)."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


@dataclass
class FlatJets:
    """Jets as flat columns, which readers create and writers take.

    Parameters
    ----------
    offsets : array, shape (B + 1,), int64
        Offsets: jet ``i`` consists of the particles ``offsets[i]:offsets[i + 1]``. The first is 0.
    p4 : tuple of arrays, each of shape (N,)
        Components E, px, py, pz in GeV, all float32 or all float64.
    particle : dict of str to array, shape (N,)
        Extra columns per particle.
    jet : dict of str to array, shape (B,)
        Extra columns per jet; ``label`` (int64) if it is known; and the columns `JET_MOMENTUM` in
        GeV if the momentum of the jet is stored.
    """

    offsets: np.ndarray
    p4: tuple[np.ndarray, ...]
    particle: dict[str, np.ndarray] = field(default_factory=dict)
    jet: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> np.ndarray:
        """Number of particles of each jet."""
        return np.diff(self.offsets)

    def slice(self, start: int, stop: int) -> FlatJets:
        """Jets `start` to `stop`, without a copy."""
        offsets = self.offsets[start : stop + 1]
        first = offsets[0]
        last = offsets[-1]
        return self._map(
            offsets - first, lambda values: values[first:last], lambda values: values[start:stop]
        )

    def select(self, keep: np.ndarray) -> FlatJets:
        """Jets for which the boolean array ``keep (B,)`` is True."""
        particles = np.repeat(keep, self.counts)
        return self._map(
            as_offsets(self.counts[keep]),
            lambda values: values[particles],
            lambda values: values[keep],
        )

    def _map(
        self,
        offsets: np.ndarray,
        particle: Callable[[np.ndarray], np.ndarray],
        jet: Callable[[np.ndarray], np.ndarray],
    ) -> FlatJets:
        return FlatJets(
            offsets,
            tuple(particle(component) for component in self.p4),
            {name: particle(values) for name, values in self.particle.items()},
            {name: jet(values) for name, values in self.jet.items()},
        )

    @staticmethod
    def concatenate(parts: Iterable[FlatJets], num_jets: int = 0) -> FlatJets:
        """Concatenate jets with the same columns.

        If `parts` is an iterator, each part is copied and released before the next one is created,
        so that its memory can be used again. The arrays are writeable, as torch requires.

        Parameters
        ----------
        parts : iterable of FlatJets
            At least one part.
        num_jets : int
            Approximate number of jets, for which memory is reserved.

        Returns
        -------
        FlatJets
            Copy of all jets.
        """
        jets = GrowingJets(num_jets)
        for part in parts:
            jets.append(part)
        return jets.finish()

    @property
    def nbytes(self) -> int:
        """Memory of all columns in bytes."""
        return self.offsets.nbytes + sum(values.nbytes for _, values in self._columns())

    def _columns(self) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
        yield from ((("p4", name), c) for name, c in zip(MOMENTUM, self.p4, strict=True))
        yield from ((("particle", name), values) for name, values in self.particle.items())
        yield from ((("jet", name), values) for name, values in self.jet.items())

    def to_awkward(self, classes: Sequence[str] = ()) -> ak.Array:
        """Records with ``p4``, the extra columns, ``label``, and ``jet_p4`` if it is stored.

        The names of the classes are in ``attrs["classes"]``.
        """
        index = ak.index.Index64(self.offsets)

        def ragged(content: ak.contents.Content) -> ak.contents.Content:
            return ak.contents.ListOffsetArray(index, content)

        columns = {"p4": ragged(_momentum_record(self.p4))}
        for name, values in self.particle.items():
            columns[name] = ragged(ak.contents.NumpyArray(values))
        if all(name in self.jet for name in JET_MOMENTUM):
            columns["jet_p4"] = _momentum_record([self.jet[name] for name in JET_MOMENTUM])
        for name, values in self.jet.items():
            if "jet_p4" not in columns or name not in JET_MOMENTUM:
                columns[name] = ak.contents.NumpyArray(values)
        layout = ak.contents.RecordArray(list(columns.values()), list(columns), length=len(self))
        return ak.Array(layout, attrs={"classes": list(classes)} if classes else None)

    @classmethod
    def from_awkward(cls, jets: ak.Array) -> FlatJets:
        """Flat columns from awkward records.

        Raises
        ------
        UnknownNameError
            If there is no ``p4``, or if one of its components is missing.
        InputError
            If a column is neither one number per jet nor one number per particle.
        """
        if "p4" not in jets.fields:
            raise UnknownNameError("field", "p4", jets.fields, where="the jets")
        for name in MOMENTUM:
            if name not in jets.p4.fields:
                raise UnknownNameError("component", name, jets.p4.fields, where="jets.p4")
        bounds = offsets(jets)
        p4 = [_flat(jets.p4[name], name, bounds) for name in MOMENTUM]
        dtype = np.result_type(np.float32, *(c.dtype for c in p4 if c.dtype == np.float64))
        flat = cls(bounds, tuple(component.astype(dtype, copy=False) for component in p4))
        for name in jets.fields:
            if name == "p4":
                continue
            if name == "jet_p4":
                flat.jet |= _jet_momentum(jets.jet_p4)
            elif jets[name].ndim == 1:
                flat.jet[name] = _numbers(jets[name], name)
            else:
                flat.particle[name] = _flat(jets[name], name, bounds)
        return flat


def _momentum_record(components: Sequence[np.ndarray]) -> ak.contents.RecordArray:
    contents = [ak.contents.NumpyArray(component) for component in components]
    return ak.contents.RecordArray(
        contents, list(MOMENTUM), parameters={"__record__": "Momentum4D"}
    )


def _jet_momentum(jet_p4: ak.Array) -> dict[str, np.ndarray]:
    for name in MOMENTUM:
        if name not in jet_p4.fields:
            raise UnknownNameError("component", name, jet_p4.fields, where="jets.jet_p4")
    columns = zip(JET_MOMENTUM, MOMENTUM, strict=True)
    return {column: _numbers(jet_p4[name], f"jet_p4.{name}") for column, name in columns}


class GrowingJets:
    """Jets to which others with the same columns can be appended.

    Parameters
    ----------
    num_jets : int
        Approximate number of jets, for which memory is reserved.
    """

    def __init__(self, num_jets: int = 0) -> None:
        self._num_jets = num_jets
        self._counts = _GrowingColumn()
        self._columns: dict[tuple[str, str], _GrowingColumn] = {}

    def __len__(self) -> int:
        return len(self._counts.values)

    def append(self, jets: FlatJets) -> None:
        """Append a copy of `jets`."""
        num_jets = self._num_jets
        self._counts.append(jets.counts, num_jets)
        num_particles = int(jets.offsets[-1] / max(1, len(jets)) * num_jets * 1.05)
        for key, values in jets._columns():
            room = num_jets if key[0] == "jet" else num_particles
            self._columns.setdefault(key, _GrowingColumn()).append(values, room)

    def finish(self) -> FlatJets:
        """All jets, in writeable arrays; nothing can be appended afterwards."""
        jets = FlatJets(as_offsets(self._counts.values), ())
        for (kind, name), column in self._columns.items():
            if kind == "p4":
                jets.p4 = (*jets.p4, column.values)
            else:
                getattr(jets, kind)[name] = column.values
        return jets


class _GrowingColumn:
    """Array to which values can be appended."""

    def __init__(self) -> None:
        self._memory = np.empty(0)
        self._size = 0

    @property
    def values(self) -> np.ndarray:
        return self._memory[: self._size]

    def append(self, values: np.ndarray, room: int) -> None:
        """Append a copy of `values`; memory is reserved for at least `room` values."""
        size = self._size + len(values)
        room = min(room, _MAX_GROWTH * size)
        dtype = np.result_type(self._memory, values) if self._size else values.dtype
        if size > len(self._memory) or dtype != self._memory.dtype:
            memory = np.empty(max(size, room, len(self._memory) * 3 // 2), dtype)
            memory[: self._size] = self.values
            self._memory = memory
        self._memory[self._size : size] = values
        self._size = size


def _flat(column: ak.Array, name: str, bounds: np.ndarray) -> np.ndarray:
    """Numbers (N,) of a ragged column; an error if its lengths differ from those of the jets."""
    if column.ndim != 2:
        raise InputError(f"column {name!r} has {column.ndim} dimensions; jets have 1 or 2")
    if not np.array_equal(ak.to_numpy(ak.num(column, axis=1)), np.diff(bounds)):
        raise InputError(f"column {name!r} and p4 have different numbers of particles")
    return _numbers(ak.flatten(column, axis=1), name)


def _numbers(column: ak.Array, name: str) -> np.ndarray:
    try:
        values = ak.to_numpy(column, allow_missing=False)
    except ValueError as error:
        raise InputError(f"column {name!r} has missing or irregular values") from error
    if values.dtype.kind not in "biuf":
        raise InputError(f"column {name!r} must be numbers, got {values.dtype}")
    return values


def offsets(jets: ak.Array) -> np.ndarray:
    """Offsets of the particles of jets.

    Parameters
    ----------
    jets : awkward.Array
        Jets with ragged ``p4``.

    Returns
    -------
    array, shape (B + 1,), int64
        Offsets: jet ``i`` consists of the rows ``offsets[i]:offsets[i + 1]`` of `momenta`.
    """
    return as_offsets(ak.to_numpy(ak.num(jets.p4, axis=1)))


def momenta(jets: ak.Array) -> np.ndarray:
    """Four-momenta of the particles of all jets.

    Parameters
    ----------
    jets : awkward.Array
        Jets with ragged ``p4``.

    Returns
    -------
    array, shape (N, 4)
        Four-momenta ``(E, px, py, pz)`` in GeV, with the precision of the jets.
    """
    flat = ak.flatten(jets.p4, axis=1)
    return np.stack([ak.to_numpy(flat[name]) for name in MOMENTUM], axis=-1)
