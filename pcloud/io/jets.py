"""Jets as flat numpy columns with offsets, and as the awkward records that users see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import awkward as ak
import numpy as np
import vector

from pcloud.errors import InputError, UnknownNameError

__all__ = ["JET_MOMENTUM", "MOMENTUM", "FlatJets", "as_offsets", "momenta", "offsets"]

#: Components of a four-momentum, in the order of the project.
MOMENTUM = ("E", "px", "py", "pz")

#: Columns per jet that hold its own four-momentum; in awkward jets the record ``jet_p4``.
JET_MOMENTUM = tuple(f"jet_p4_{name}" for name in MOMENTUM)

vector.register_awkward()


def as_offsets(counts: np.ndarray) -> np.ndarray:
    """Offsets of consecutive jets from their numbers of particles, shape (B + 1,), int64."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


@dataclass
class FlatJets:
    """Columns of some jets: what readers make and writers take.

    Parameters
    ----------
    offsets : array, shape (B + 1,), int64
        Jet ``i`` is particles ``offsets[i]:offsets[i + 1]``; the first offset is 0.
    p4 : tuple of arrays, each of shape (N,)
        E, px, py, pz in GeV, all float32 or all float64.
    particle : dict of str to array, shape (N,)
        Extra columns per particle.
    jet : dict of str to array, shape (B,)
        Extra columns per jet, and ``label`` (int64) where it is known; the momentum of the jet
        itself, where it is stored, as the columns `JET_MOMENTUM` in GeV.
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
        """Jets `start` to `stop`, without copying."""
        offsets = self.offsets[start : stop + 1]
        first, last = offsets[0], offsets[-1]
        return self._map(
            offsets - first, lambda values: values[first:last], lambda values: values[start:stop]
        )

    def select(self, keep: np.ndarray) -> FlatJets:
        """Jets where the boolean array `keep` is true."""
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
        """One after the other; the parts have the same columns.

        Of an iterator, each part is copied and let go before the next is taken, so that its
        memory serves the next. The arrays are writeable, as torch wants them.

        Parameters
        ----------
        parts : iterable of FlatJets
            At least one.
        num_jets : int
            About how many jets there will be, to reserve room; memory that is not used is
            never touched.

        Returns
        -------
        FlatJets
            A copy.
        """
        counts = _Growing()
        columns: dict[tuple[str, str], _Growing] = {}
        for part in parts:
            counts.append(part.counts, num_jets)
            num_particles = int(part.offsets[-1] / max(1, len(part)) * num_jets * 1.05)
            for key, values in part._columns():
                room = num_jets if key[0] == "jet" else num_particles
                columns.setdefault(key, _Growing()).append(values, room)
        jets = FlatJets(as_offsets(counts.values), ())
        for (kind, name), column in columns.items():
            if kind == "p4":
                jets.p4 = (*jets.p4, column.values)
            else:
                getattr(jets, kind)[name] = column.values
        return jets

    def _columns(self) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
        yield from ((("p4", name), c) for name, c in zip(MOMENTUM, self.p4, strict=True))
        yield from ((("particle", name), values) for name, values in self.particle.items())
        yield from ((("jet", name), values) for name, values in self.jet.items())

    def to_awkward(self, classes: Sequence[str] = ()) -> ak.Array:
        """Records with ``p4``, the extras, ``jet_p4`` where it is stored, and ``label``.

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
        """Take jets apart.

        Raises
        ------
        UnknownNameError
            If there is no ``p4`` or it lacks a component.
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


class _Growing:
    """A column that grows at its end."""

    def __init__(self) -> None:
        self._room, self._size = np.empty(0), 0

    @property
    def values(self) -> np.ndarray:
        return self._room[: self._size]

    def append(self, values: np.ndarray, room: int) -> None:
        """Copy `values`; the first time make at least `room` for more."""
        size = self._size + len(values)
        dtype = np.result_type(self._room, values) if self._size else values.dtype
        if size > len(self._room) or dtype != self._room.dtype:
            grown = np.empty(max(size, room, len(self._room) * 3 // 2), dtype)
            grown[: self._size] = self.values
            self._room = grown
        self._room[self._size : size] = values
        self._size = size


def _flat(column: ak.Array, name: str, bounds: np.ndarray) -> np.ndarray:
    """Numbers of a ragged column, refusing other lengths than those of the jets."""
    if column.ndim != 2:
        raise InputError(f"column {name!r} has {column.ndim} dimensions; jets have 1 or 2")
    if not np.array_equal(ak.to_numpy(ak.num(column, axis=1)), np.diff(bounds)):
        raise InputError(f"column {name!r} has another number of particles than p4")
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
        Jet ``i`` is rows ``offsets[i]:offsets[i + 1]`` of `momenta`.
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
        ``(E, px, py, pz)`` in GeV, in the precision of the jets.
    """
    flat = ak.flatten(jets.p4, axis=1)
    return np.stack([ak.to_numpy(flat[name]) for name in MOMENTUM], axis=-1)
