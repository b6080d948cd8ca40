"""Keys of jets and images: 64-bit hashes that decide splits, draws and fingerprints.

The key of a jet depends on nothing but its momenta, rounded to float32: not on the order of its
particles, its file, its row, or the precision of the file. A jet belongs to a split by its key, so
that no jet moves when files are added, renamed or reordered, and equal jets are in one split.

The hashes of the particles are added modulo 2^64, which is independent of their order. Sorting the
particles instead gives keys with the same properties and takes longer than reading the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import awkward as ak
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "COLLECTIONS",
    "SPLIT_KEY",
    "Fingerprint",
    "event_keys",
    "fingerprint_hashes",
    "in_split",
    "jet_keys",
    "keys_of",
    "labelled",
    "momentum_keys",
    "row_keys",
    "shuffled",
    "smallest",
]

SPLIT_KEY = "split_key"
"""Column of the keys in files and in jets; where it is present, keys are not computed."""

COLLECTIONS = "collections.*"
"""Name that stands for the columns of all further collections in :func:`fingerprint_hashes`."""

Keys = NDArray[np.uint64]

_MOMENTUM = ("E", "px", "py", "pz")
_MASK = 2**64 - 1
_CHUNK_PARTICLES = 1 << 15  # hashes of a chunk stay in the second-level cache
_CHUNK_VALUES = 1 << 18


def jet_keys(offsets: NDArray[np.int64], p4: Sequence[NDArray[np.floating]]) -> Keys:
    """Keys of jets.

    Parameters
    ----------
    offsets : array, shape (B + 1,), int64
        Offsets: jet ``i`` consists of the particles ``offsets[i]:offsets[i + 1]``. The first is 0.
    p4 : sequence of four arrays, each of shape (N,)
        Components E, px, py, pz in GeV, of any precision.

    Returns
    -------
    array, shape (B,), uint64
    """
    return _mix(_sums(offsets, lambda rows: _momentum_hashes([c[rows] for c in p4])))


def keys_of(jets: ak.Array) -> Keys:
    """Keys of jets, from their column ``split_key`` if they have it.

    Parameters
    ----------
    jets : awkward.Array
        Jets as from :func:`pcloud.read_jets`.

    Returns
    -------
    array, shape (B,), uint64
    """
    if SPLIT_KEY in jets.fields:
        return ak.to_numpy(jets[SPLIT_KEY]).astype(np.uint64)
    return momentum_keys(jets)


def momentum_keys(jets: ak.Array) -> Keys:
    """Keys of jets from their momenta, whether or not they have a column ``split_key``.

    Parameters
    ----------
    jets : awkward.Array
        Jets as from :func:`pcloud.read_jets`.

    Returns
    -------
    array, shape (B,), uint64
    """
    return jet_keys(_offsets(jets), _components(jets))


def event_keys(event: NDArray[np.integer], run: NDArray[np.integer] | None = None) -> Keys:
    """Keys of jets from the numbers of their events, so that the jets of an event stay together.

    Parameters
    ----------
    event, run : array, shape (B,)
        Numbers of event and run; without `run` it is 0.

    Returns
    -------
    array, shape (B,), uint64
    """
    keys = np.zeros(len(event), dtype=np.uint64) if run is None else run.astype(np.uint64)
    return _mix(_mix(keys + np.uint64(_salt("event"))) + event.astype(np.uint64))


def row_keys(values: NDArray[np.generic]) -> Keys:
    """Keys of images, rows of a table, or other arrays of one size.

    Parameters
    ----------
    values : array, shape (B, ...)
        Numbers of any type, such as pixels, which are rounded to float32.

    Returns
    -------
    array, shape (B,), uint64
    """
    size = max(1, int(np.prod(values.shape[1:])))
    weights = _mix(np.arange(1, size + 1, dtype=np.uint64)) | np.uint64(1)
    sums = np.empty(len(values), dtype=np.uint64)
    step = max(1, _CHUNK_VALUES // size)
    for start in range(0, len(values), step):
        bits = _bits(np.ascontiguousarray(values[start : start + step]).reshape(-1))
        hashes = _mix(bits.reshape(-1, size) + weights)
        hashes *= weights
        sums[start : start + step] = hashes.sum(axis=1, dtype=np.uint64)
    return _mix(sums)


def labelled(keys: Keys, labels: NDArray[np.integer]) -> Keys:
    """Hashes of entries with their labels (B,), for a fingerprint, from their keys."""
    return _mix(keys + _column_hashes("label", labels))


def shuffled(keys: Keys, purpose: str, seed: int = 0) -> Keys:
    """Random numbers, uniform in 0 to 2^64 - 1, from keys.

    Parameters
    ----------
    keys : array, shape (B,), uint64
        Keys.
    purpose : str
        Name of the use: the numbers for different purposes are independent.
    seed : int
        Seed of the numbers.

    Returns
    -------
    array, shape (B,), uint64
    """
    return _mix(keys + np.uint64(_salt(f"{purpose} {seed}")))


def in_split(
    keys: Keys,
    split: str,
    fractions: Mapping[str, float],
    seed: int = 0,
    test: tuple[int, int] | None = None,
) -> NDArray[np.bool_]:
    """Mask of the jets that belong to a split.

    A random number from the key of a jet is compared with thresholds: validation has the lowest
    numbers, testing the highest and training those between. A change of one fraction moves jets
    between that split and training only.

    Parameters
    ----------
    keys : array, shape (B,), uint64
        Keys.
    split : {"train", "val", "test"}
        Name of the split.
    fractions : mapping of str to float
        Fractions of the splits that are drawn, which add up to 1.
    seed : int
        Seed of the split.
    test : tuple of int, optional
        Range of the random numbers for testing, in the place of the highest. Validation has the
        numbers that follow, and 0 follows 2^64 - 1.

    Returns
    -------
    array of bool, shape (B,)
    """
    numbers = shuffled(keys, "split", seed)
    low = _threshold(fractions.get("val", 0.0))
    high = 2**64 - _threshold(fractions.get("test", 0.0))
    if test is not None:
        numbers -= np.uint64(test[1] % 2**64)  # modulo 2^64: the range gets the highest numbers
        high = 2**64 - (test[1] - test[0])
    first, last = {"val": (0, low), "train": (low, high), "test": (high, 2**64)}[split]
    if first >= last:
        return np.zeros(len(keys), dtype=bool)
    return (numbers >= np.uint64(first)) & (numbers <= np.uint64(last - 1))


def smallest(
    numbers: Keys, number: int, ties: Callable[[NDArray[np.intp]], Keys]
) -> NDArray[np.intp]:
    """Indices of the smallest numbers, in increasing order of the index.

    Parameters
    ----------
    numbers : array, shape (B,), uint64
        Numbers, as from :func:`shuffled`.
    number : int
        Number of indices.
    ties : callable
        Function of indices of equal numbers, some of which are chosen: it returns other numbers for
        them, the smallest of which are chosen.

    Returns
    -------
    array of int, shape (min(B, number),)
    """
    if number >= len(numbers):
        return np.arange(len(numbers))
    last = np.partition(numbers, number - 1)[number - 1]
    below = np.flatnonzero(numbers < last)
    tied = np.flatnonzero(numbers == last)
    missing = number - len(below)
    if missing < len(tied):
        tied = tied[np.argsort(ties(tied), kind="stable")[:missing]]
    return np.sort(np.concatenate([below, tied]))


def fingerprint_hashes(jets: ak.Array, columns: Sequence[str] = ()) -> Keys:
    """Hashes of the content of jets: momenta, some columns, labels and stored momenta of the jets.

    Values are rounded to float32. The hash of a jet does not depend on the order of its particles.

    Parameters
    ----------
    jets : awkward.Array
        Jets as from :func:`pcloud.read_jets`.
    columns : sequence of str
        Columns per particle or per jet that are used besides the momenta, and targets as
        ``targets.mass``, labels of particles as ``particle_labels.origin``; columns that the jets do
        not have are left out. A further collection is
        hashed whole if it is named, or if `COLLECTIONS` is.

    Returns
    -------
    array, shape (B,), uint64
    """
    used = [name for name in sorted(set(columns)) if name in jets.fields and name != SPLIT_KEY]
    named = [n for n in jets.fields if n in used or COLLECTIONS in columns]
    named = [n for n in named if n not in ("p4", "particle_labels")]
    further = [n for n in named if jets[n].fields and jets[n].ndim == 2]
    used = [name for name in used if name not in (*further, "particle_labels")]
    learned = jets.targets.fields if "targets" in jets.fields else ()
    targets = [name for name in learned if f"targets.{name}" in columns]
    particle = {n: ak.to_numpy(ak.flatten(jets[n], axis=1)) for n in used if jets[n].ndim == 2}
    jet = {n: ak.to_numpy(jets[n]) for n in used if jets[n].ndim == 1 and not jets[n].fields}
    if "label" in jets.fields:
        jet["label"] = ak.to_numpy(jets.label)
    jet |= {f"targets.{n}": ak.to_numpy(ak.fill_none(jets.targets[n], np.nan)) for n in targets}
    if "jet_p4" in jets.fields:
        jet |= {f"jet_p4_{n}": ak.to_numpy(jets.jet_p4[n]) for n in _MOMENTUM}
    p4 = _components(jets)

    def hashes(rows: slice) -> Keys:
        found = _momentum_hashes([component[rows] for component in p4])
        for name, values in particle.items():
            found = _mix(found + _column_hashes(name, values[rows]))
        return found

    found = _sums(_offsets(jets), hashes)
    for name, values in jet.items():
        found += _column_hashes(name, values)
    for name in further:
        found += _collection_hashes(jets[name], name)
    for name in jets.particle_labels.fields if "particle_labels" in jets.fields else ():
        if f"particle_labels.{name}" in columns:
            entries = ak.zip({name: jets.particle_labels[name]})
            found += _collection_hashes(entries, "particle_labels")
    return _mix(found)


def _collection_hashes(entries: ak.Array, name: str) -> Keys:
    """Hash (B,) of the entries of a collection of each jet, independent of their order."""
    counts = ak.to_numpy(ak.num(entries, axis=1))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    flat = ak.flatten(entries, axis=1)
    columns = {n: ak.to_numpy(flat[n]) for n in flat.fields if n != "p4"}
    if "p4" in flat.fields:
        columns |= {f"p4.{n}": ak.to_numpy(flat.p4[n]) for n in _MOMENTUM}

    def hashes(rows: slice) -> Keys:
        found = np.zeros(rows.stop - rows.start, dtype=np.uint64)
        for column, values in columns.items():
            found = _mix(found + _column_hashes(f"{name}.{column}", values[rows]))
        return found

    return _mix(_sums(offsets, hashes))


@dataclass(frozen=True)
class Fingerprint:
    """Numbers that identify a sample of jets.

    Parameters
    ----------
    jets : int
        Number of jets.
    content : str
        Sum modulo 2^64 of one hash per jet, as 16 hexadecimal digits: independent of the order of
        the jets and of the names of files.
    order : str
        Sum of hashes of each jet with its position, which depends on the order of the jets.
    """

    jets: int
    content: str
    order: str

    @classmethod
    def of(cls, hashes: Keys) -> Fingerprint:
        """Fingerprint of the jets with the given hashes (B,), in their order."""
        places = _mix(np.arange(1, len(hashes) + 1, dtype=np.uint64))
        placed = _mix(hashes ^ places)
        return cls(len(hashes), _hexadecimal(hashes), _hexadecimal(placed))

    def same_jets(self, other: Fingerprint) -> bool:
        """Return True if the jets are the same, in any order."""
        return (self.jets, self.content) == (other.jets, other.content)


def _hexadecimal(hashes: Keys) -> str:
    return f"{int(hashes.sum(dtype=np.uint64)):016x}"


def _offsets(jets: ak.Array) -> NDArray[np.int64]:
    counts = ak.to_numpy(ak.num(jets.p4, axis=1))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _components(jets: ak.Array) -> list[NDArray[np.floating]]:
    flat = ak.flatten(jets.p4, axis=1)
    return [ak.to_numpy(flat[name]) for name in _MOMENTUM]


def _sums(offsets: NDArray[np.int64], hashes: Callable[[slice], Keys]) -> Keys:
    """Sum modulo 2^64 of the hashes of the particles of each jet, shape (B,).

    Parameters
    ----------
    offsets : array, shape (B + 1,), int64
        Offsets of the jets.
    hashes : callable
        ``hashes(rows)``, the hashes of a range of particles.
    """
    sums = np.empty(len(offsets) - 1, dtype=np.uint64)
    first = 0
    while first < len(sums):
        limit = offsets[first] + _CHUNK_PARTICLES
        last = max(first + 1, int(np.searchsorted(offsets, limit, side="right")) - 1)
        rows = slice(int(offsets[first]), int(offsets[last]))
        total = np.zeros(rows.stop - rows.start + 1, dtype=np.uint64)
        np.cumsum(hashes(rows), out=total[1:])
        ends = total[offsets[first : last + 1] - rows.start]
        np.subtract(ends[1:], ends[:-1], out=sums[first:last])
        first = last
    return sums


def _momentum_hashes(p4: Sequence[NDArray[np.floating]]) -> Keys:
    """Hashes (N,) of four-momenta; that of a zero momentum, as in padding, is zero."""
    rows = np.empty((len(p4[0]), 4), dtype="<f4")
    with np.errstate(over="ignore"):
        for i, component in enumerate(p4):
            np.add(component, 0, out=rows[:, i], casting="same_kind")  # -0.0 becomes 0.0
    pairs = rows.view("<u8")  # E and px in one number, py and pz in the other
    hashes = _mix(np.ascontiguousarray(pairs[:, 0], dtype=np.uint64))
    hashes += pairs[:, 1]
    return _mix(hashes)


def _column_hashes(name: str, values: NDArray[np.generic]) -> Keys:
    """Hashes of the values of a column."""
    return _mix(_bits(values) + np.uint64(_salt(name)))


def _bits(values: NDArray[np.generic]) -> Keys:
    """Bits of the values rounded to float32, as uint64; -0.0 counts as 0.0."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = values.astype(np.float32)
    rounded += np.float32(0)
    return rounded.view(np.uint32).astype(np.uint64)


def _mix(numbers: Keys) -> Keys:
    """Finaliser of splitmix64, in place: a bijection of which each bit depends on all bits.

    References
    ----------
    Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators,
    https://doi.org/10.1145/2660193.2660195.
    """
    shifted = numbers >> np.uint64(30)
    numbers ^= shifted
    numbers *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(numbers, np.uint64(27), out=shifted)
    numbers ^= shifted
    numbers *= np.uint64(0x94D049BB133111EB)
    np.right_shift(numbers, np.uint64(31), out=shifted)
    numbers ^= shifted
    return numbers


def _salt(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _threshold(fraction: float) -> int:
    return min(max(round(fraction * 2**64), 0), 2**64)
