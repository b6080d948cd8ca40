"""Small files of every format that pcloud reads, random changes of them, and reading them.

The files are written by pandas, PyTables, uproot, pyarrow, awkward, h5py, numpy and Pillow as well as
by pcloud. `benchmarks/faults.py` and the tests change them and read them.
"""

from __future__ import annotations

import gzip
import signal
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from pcloud.errors import InputError
from pcloud.io import JetSchema, read_jets, write_jets

NUM_JETS = 24
NUM_SLOTS = 20
NUM_IMAGES = 12
MAX_SECONDS = 10

Values = dict[str, np.ndarray]

KINDS = ("bits", "bytes", "zeros", "cut", "insert", "remove", "number")
#: Numbers that replace counts, sizes and positions.
NUMBERS = (0, 1, 2, 255, 10**4, 10**6, 10**9, 2**31 - 1, 2**32 - 1, 10**12, 2**63 - 1, 2**64 - 1)


@dataclass(frozen=True)
class Format:
    """Kind of file.

    Parameters
    ----------
    file : str
        Path of the file that is changed, relative to a folder.
    write : callable
        ``write(path)`` writes the good file, and others that belong to it.
    read : callable
        ``read(path)`` returns the numbers of the file.
    checksums : bool
        True if the format has checksums of all numbers, so that no changed number may be returned.
    """

    file: str
    write: Callable[[Path], None]
    read: Callable[[Path], Values]
    checksums: bool


@dataclass(frozen=True)
class Outcome:
    """What happened when a changed file was read.

    Parameters
    ----------
    kind : str
        ``"refused"``, ``"same"`` (the numbers of the good file), ``"other"`` (other numbers, which
        the format cannot detect), or one of the faults: ``"wrong"`` (other numbers despite
        checksums), ``"exception"``, ``"hang"``.
    message : str
        Message of the error.
    """

    kind: str
    message: str = ""


class TooLongError(BaseException):
    """Raised by the alarm; not an Exception, which readers convert."""


def jets() -> ak.Array:
    """Jets with a label, an extra column per particle and one per jet."""
    rng = np.random.default_rng(1)
    counts = rng.integers(1, NUM_SLOTS + 1, NUM_JETS)
    num = int(counts.sum())
    pt, eta, phi = 20 * rng.pareto(2, num) + 1, rng.normal(0, 0.3, num), rng.uniform(-3, 3, num)
    p4 = {"E": 1.01 * pt * np.cosh(eta), "px": pt * np.cos(phi)}
    p4 |= {"py": pt * np.sin(phi), "pz": pt * np.sinh(eta)}
    # With few bits, so that the compressions of ROOT do compress the small baskets.
    columns = {name: p4[name].astype(np.float16).astype(np.float32) for name in p4}
    array = ak.zip({name: ak.unflatten(column, counts) for name, column in columns.items()})
    charge = ak.unflatten(rng.integers(-1, 2, num).astype(np.int32), counts)
    fields = {"p4": array, "charge": charge, "label": rng.integers(0, 2, NUM_JETS)}
    return ak.Array(ak.zip(fields, depth_limit=1).layout, attrs={"classes": ["qcd", "top"]})


def padded() -> np.ndarray:
    """Four-momenta of the jets, shape (jets, slots, 4), zero in empty slots."""
    p4 = jets().p4
    columns = [ak.fill_none(ak.pad_none(p4[name], NUM_SLOTS), 0) for name in p4.fields]
    return np.stack([ak.to_numpy(column) for column in columns], axis=-1)


def frame() -> Any:
    """Data frame of the Landscape sample."""
    import pandas as pd

    names = [f"{quantity}_{i}" for i in range(NUM_SLOTS) for quantity in ("E", "PX", "PY", "PZ")]
    table = pd.DataFrame(padded().reshape(NUM_JETS, -1), columns=names)
    table["is_signal_new"] = ak.to_numpy(jets().label)
    return table


def jetclass() -> dict[str, ak.Array]:
    """Branches of the JetClass sample."""
    p4 = jets().p4
    names = {"E": "part_energy", "px": "part_px", "py": "part_py", "pz": "part_pz"}
    return {name: p4[column] for column, name in names.items()} | {
        "label_QCD": jets().label == 0,
        "label_Top": jets().label == 1,
    }


X = {"E": "X[0]", "px": "X[1]", "py": "X[2]", "pz": "X[3]"}
PADDED = JetSchema(X, label="y", classes=("qcd", "top"))
FLAT = JetSchema(
    {name: name for name in ("E", "px", "py", "pz")},
    offsets="offsets",
    label="label",
    classes=("qcd", "top"),
)
COUNTS = replace(FLAT, offsets=None, counts="counts")
TRACKS = JetSchema(
    {"pt": "tracks/pt", "eta": "tracks/eta", "phi": "tracks/phi"},
    mask="tracks/valid",
    label="jets/flavour",
    classes=("qcd", "top"),
)
BRANCHES = JetSchema(
    {"E": "part_energy", "px": "part_px", "py": "part_py", "pz": "part_pz"},
    label=("label_QCD", "label_Top"),
    classes=("qcd", "top"),
)

EVENTS = JetSchema(
    {name: f"jet_const_{name}" for name in ("E", "px", "py", "pz")},
    jet={"entry": "entry", "index": "index"},
    label="label",
    classes=("qcd", "top"),
)
LINKS = replace(
    EVENTS,
    p4={name: f"C_{name}" for name in ("E", "px", "py", "pz")},
    index=({"jet": "Link_jetIdx", "particle": "Link_cIdx"},),
)


def write_ours(path: Path) -> None:
    """Write a file of pcloud."""
    columns = ["p4", "label"] if path.suffix == ".h5" else ["p4", "charge", "label"]
    write_jets(jets()[columns], path)


def events() -> dict[str, ak.Array]:
    """Columns of events with 0 to 3 jets: lists of lists, and candidates with indices."""
    sample = jets()
    counts = np.array([0, 3, 1, 2, 2, 0, 1, 3] * NUM_JETS)
    counts = counts[: np.searchsorted(np.cumsum(counts), NUM_JETS) + 1]
    counts[-1] -= counts.sum() - NUM_JETS
    nested = {f"jet_const_{n}": ak.unflatten(sample.p4[n], counts) for n in sample.p4.fields}
    found = {"label": ak.unflatten(ak.values_astype(sample.label, np.int32), counts), **nested}
    for name, column in nested.items():
        found[f"C_{name[-2:].strip('_')}"] = ak.flatten(column, axis=2)
    number = ak.local_index(nested["jet_const_E"], axis=1)
    jet = ak.flatten(ak.broadcast_arrays(number, nested["jet_const_E"])[0], axis=2)
    found["Link_jetIdx"] = ak.values_astype(jet, np.int32)
    found["Link_cIdx"] = ak.values_astype(ak.local_index(jet, axis=1), np.int32)
    return found


def write_events(path: Path) -> None:
    """Write events as an RNTuple, a TTree without lists of lists, or Parquet."""
    import uproot

    columns = events()
    if path.suffix == ".parquet":
        ak.to_parquet(ak.Array(columns), path)
        return
    with uproot.recreate(path) as file:
        if path.stem.startswith("rntuple"):
            file.mkrntuple("tree", columns)
            return
        flat = {name: column for name, column in columns.items() if column.ndim < 3}
        file.mktree("tree", {name: ak.type(column).content for name, column in flat.items()})
        file["tree"].extend(flat)


def write_pandas(path: Path) -> None:
    """Write a data frame in the format of the name of the file."""
    if path.stem.startswith("fixed"):
        frame().to_hdf(path, key="table", format="fixed")
    else:
        frame().to_hdf(path, key="table", format="table", complevel=5, complib="blosc")


def write_padded(path: Path) -> None:
    """Write a padded array with h5py: contiguous, or with chunks, compression and checksums."""
    import h5py

    options: dict[str, Any] = {}
    if path.stem.startswith("chunks"):
        options = {"chunks": True, "compression": "gzip", "shuffle": True}
    if path.stem.endswith("checksums"):
        options["fletcher32"] = True
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=padded(), **options)
        file.create_dataset("y", data=ak.to_numpy(jets().label), **options)


def write_virtual(path: Path) -> None:
    """Write a virtual data set of two files with half of the jets each."""
    import h5py

    half = NUM_JETS // 2
    columns = {"X": padded(), "y": ak.to_numpy(jets().label)}
    for i in range(2):
        with h5py.File(path.with_name(f"source{i}.h5"), "w") as file:
            for name, values in columns.items():
                file[name] = values[i * half : (i + 1) * half]
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            layout = h5py.VirtualLayout((2 * half, *values.shape[1:]), values.dtype)
            for i in range(2):
                shape = (half, *values.shape[1:])
                source = h5py.VirtualSource(f"source{i}.h5", name, shape)
                layout[i * half : (i + 1) * half] = source
            file.create_virtual_dataset(name, layout)


def write_flat(path: Path) -> None:
    """Write flat arrays with offsets, or with the numbers of particles."""
    import h5py

    sample = jets()
    counts = ak.to_numpy(ak.num(sample.p4))
    with h5py.File(path, "w") as file:
        for name in sample.p4.fields:
            file[name] = ak.to_numpy(ak.flatten(sample.p4[name]))
        file["offsets"] = np.concatenate([[0], np.cumsum(counts)])
        file["counts"] = counts
        file["label"] = ak.to_numpy(sample.label)


def write_tracks(path: Path) -> None:
    """Write two compound data sets, as the ATLAS flavour-tagging group does."""
    import h5py

    block = padded().astype(np.float64)
    pt = np.hypot(block[..., 1], block[..., 2])
    names = [("pt", "f4"), ("eta", "f4"), ("phi", "f4"), ("d0", "f2"), ("valid", "?")]
    tracks = np.zeros(block.shape[:2], names)
    tracks["valid"] = pt > 0
    tracks["pt"] = pt
    tracks["eta"] = np.arcsinh(block[..., 3] / np.where(pt > 0, pt, 1))
    tracks["phi"] = np.arctan2(block[..., 2], block[..., 1])
    per_jet = np.zeros(NUM_JETS, [("pt", "f4"), ("flavour", "i4"), ("eventNumber", "i8")])
    per_jet["flavour"] = jets().label
    with h5py.File(path, "w") as file:
        file.create_dataset("jets", data=per_jet, compression="gzip")
        file.create_dataset("tracks", data=tracks, compression="gzip")


def write_root(path: Path) -> None:
    """Write a TTree or an RNTuple with the compression of the name of the file."""
    import uproot

    kind, _, name = path.stem.partition("_")
    algorithms = {"zlib": uproot.ZLIB, "lzma": uproot.LZMA, "lz4": uproot.LZ4, "zstd": uproot.ZSTD}
    branches = jetclass()
    with uproot.recreate(
        path, compression=algorithms[name](4) if name in algorithms else None
    ) as f:
        if kind == "rntuple":
            ntuple = f.mkrntuple("tree", {n: column[:16] for n, column in branches.items()})
            ntuple.extend({n: column[16:] for n, column in branches.items()})
            return
        tree = f.mktree("tree", {n: ak.type(column).content for n, column in branches.items()})
        tree.extend({n: column[:16] for n, column in branches.items()})
        tree.extend({n: column[16:] for n, column in branches.items()})


def write_lists(path: Path) -> None:
    """Write Parquet with awkward, or with pyarrow in row groups with dictionaries."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.stem.startswith("awkward"):
        ak.to_parquet(ak.Array(jets().layout), path)
        return
    sample = jets()
    columns = {name: sample.p4[name].to_list() for name in sample.p4.fields}
    table = pa.table(columns | {"label": sample.label.to_list()})
    pq.write_table(table, path, row_group_size=max(10, NUM_JETS // 4), compression="snappy")


def write_energyflow(path: Path) -> None:
    """Write pt, rapidity, phi and particle type, compressed, as EnergyFlow does."""
    block = padded().astype(np.float64)
    pt = np.hypot(block[..., 1], block[..., 2])
    rapidity = np.arcsinh(block[..., 3] / np.where(pt > 0, pt, 1))
    phi = np.arctan2(block[..., 2], block[..., 1])
    columns = [pt, rapidity, phi, np.where(pt > 0, 211.0, 0.0)]
    np.savez_compressed(path, X=np.stack(columns, axis=-1), y=ak.to_numpy(jets().label))


def images() -> tuple[np.ndarray, np.ndarray]:
    """Images (12, 8, 8) of bytes, and their labels."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (NUM_IMAGES, 8, 8), dtype=np.uint8), np.arange(NUM_IMAGES) % 3


def write_image_arrays(path: Path) -> None:
    """Write images and labels as npz or HDF5."""
    import h5py

    values, labels = images()
    if path.suffix == ".npz":
        save = np.savez_compressed if path.stem == "packed" else np.savez
        save(path, images=values, labels=labels)
        return
    packing = {"compression": "gzip", "chunks": (4, 8, 8)} if path.stem == "packed" else {}
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=values, **packing)
        file.create_dataset("labels", data=labels)


def write_idx(path: Path) -> None:
    """Write the images as an idx file, beside the labels."""
    values, labels = images()
    other = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    for file, array in ((path, values), (other, labels)):
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        raw = head + array.astype(np.uint8).tobytes()
        file.write_bytes(gzip.compress(raw, mtime=0) if file.suffix == ".gz" else raw)


def write_pictures(path: Path) -> None:
    """Write two pictures in a folder."""
    from PIL import Image

    values = images()[0].reshape(2, 24, 16)
    options = {"compression": "tiff_deflate"} if path.stem == "1_deflate" else {}
    for name, array in (("0", values[0]), (path.stem, values[1])):
        colours = np.stack([array, array // 2, array // 3], axis=-1)
        Image.fromarray(colours).save(path.with_name(f"{name}{path.suffix}"), **options)


def values_of(sample: ak.Array) -> Values:
    """Numbers of jets as flat arrays."""
    found = {name: ak.to_numpy(ak.flatten(sample.p4[name])) for name in sample.p4.fields}
    found["counts"] = ak.to_numpy(ak.num(sample.p4))
    for name in sample.fields:
        if name != "p4":
            column = sample[name]
            found[name] = ak.to_numpy(ak.flatten(column) if column.ndim > 1 else column)
    return found


def reader(schema: JetSchema | None) -> Callable[[Path], Values]:
    """Reader of jets with a schema."""
    return lambda path: values_of(read_jets(path, schema))


def read_pictures(path: Path) -> Values:
    """Read the folder of a picture."""
    return read_image_file(path.parent)


def read_image_file(path: Path) -> Values:
    """Read images and labels."""
    from pcloud.images import read_images

    sample = read_images(path)
    labels = {} if sample.labels is None else {"labels": sample.labels.numpy()}
    return {"images": sample.images.numpy()} | labels


FORMATS: dict[str, Format] = {
    "Parquet, pcloud": Format("ours.parquet", write_ours, reader(None), True),
    "Parquet, pyarrow": Format(
        "pyarrow.parquet", write_lists, reader(replace(FLAT, offsets=None)), False
    ),
    "Parquet, awkward": Format("awkward.parquet", write_lists, reader(None), False),
    "npz, pcloud": Format("ours.npz", write_ours, reader(None), True),
    "npz, EnergyFlow": Format("energyflow.npz", write_energyflow, reader(None), True),
    "HDF5, pcloud": Format("ours.h5", write_ours, reader(None), True),
    "HDF5, pandas table": Format("table.h5", write_pandas, reader(None), False),
    "HDF5, pandas fixed": Format("fixed.h5", write_pandas, reader(None), False),
    "HDF5, padded": Format("padded.h5", write_padded, reader(PADDED), False),
    "HDF5, gzip": Format("chunks.h5", write_padded, reader(PADDED), False),
    "HDF5, fletcher32": Format("chunks_checksums.h5", write_padded, reader(PADDED), True),
    "HDF5, virtual": Format("virtual.h5", write_virtual, reader(PADDED), False),
    "HDF5, offsets": Format("offsets.h5", write_flat, reader(FLAT), False),
    "HDF5, counts": Format("counts.h5", write_flat, reader(COUNTS), False),
    "HDF5, compound": Format("tracks.h5", write_tracks, reader(TRACKS), False),
    "TTree": Format("ttree_none.root", write_root, reader(BRANCHES), False),
    "TTree, zlib": Format("ttree_zlib.root", write_root, reader(BRANCHES), False),
    "TTree, LZMA": Format("ttree_lzma.root", write_root, reader(BRANCHES), False),
    "TTree, LZ4": Format("ttree_lz4.root", write_root, reader(BRANCHES), False),
    "TTree, zstd": Format("ttree_zstd.root", write_root, reader(BRANCHES), False),
    "RNTuple": Format("rntuple_none.root", write_root, reader(BRANCHES), False),
    "RNTuple, zlib": Format("rntuple_zlib.root", write_root, reader(BRANCHES), False),
    "RNTuple, LZ4": Format("rntuple_lz4.root", write_root, reader(BRANCHES), False),
    "RNTuple, zstd": Format("rntuple_zstd.root", write_root, reader(BRANCHES), False),
    "RNTuple, events": Format("rntuple_events.root", write_events, reader(EVENTS), False),
    "Parquet, events": Format("events.parquet", write_events, reader(EVENTS), False),
    "TTree, indices": Format("ttree_events.root", write_events, reader(LINKS), False),
    "Parquet, indices": Format("indices.parquet", write_events, reader(LINKS), False),
    "images, npz": Format("plain.npz", write_image_arrays, read_image_file, True),
    "images, packed npz": Format("packed.npz", write_image_arrays, read_image_file, True),
    "images, HDF5": Format("plain.h5", write_image_arrays, read_image_file, False),
    "images, packed HDF5": Format("packed.h5", write_image_arrays, read_image_file, False),
    "images, idx": Format("t-images-idx3-ubyte", write_idx, read_image_file, False),
    "images, idx.gz": Format("t-images-idx3-ubyte.gz", write_idx, read_image_file, True),
    "images, PNG": Format("1.png", write_pictures, read_pictures, True),
    "images, JPEG": Format("1.jpg", write_pictures, read_pictures, False),
    "images, TIFF": Format("1.tiff", write_pictures, read_pictures, False),
    "images, packed TIFF": Format("1_deflate.tiff", write_pictures, read_pictures, False),
    "images, BMP": Format("1.bmp", write_pictures, read_pictures, False),
}


def change(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a file at one random place, at times at two to four; the result always differs."""
    while True:
        changed = data
        for _ in range(min(4, rng.geometric(0.6))):
            changed = _change_once(changed, rng)
        if changed != data:
            return changed


def _change_once(data: bytes, rng: np.random.Generator) -> bytes:
    if not data:
        return b"\0"
    kind = KINDS[rng.integers(len(KINDS))]
    place = _place(len(data), rng)
    length = int(rng.integers(1, 33))
    before, after = data[:place], data[place:]
    if kind == "bits":
        return before + bytes([after[0] ^ (1 << rng.integers(8))]) + after[1:]
    if kind == "bytes":
        return before + rng.bytes(length) + after[length:]
    if kind == "zeros":
        return before + bytes(min(length, len(after))) + after[length:]
    if kind == "cut":
        return before
    if kind == "insert":
        return before + rng.bytes(length) + after
    if kind == "remove":
        return before + after[length:]
    size = (1, 2, 4, 8)[rng.integers(4)]
    number = NUMBERS[rng.integers(len(NUMBERS))] % (1 << 8 * size)
    return before + number.to_bytes(size, ("little", "big")[rng.integers(2)]) + after[size:]


def _place(size: int, rng: np.random.Generator) -> int:
    """Random position, in half of the cases in the first or last 512 bytes: most metadata is there."""
    region = rng.integers(4)
    near = int(rng.integers(min(size, 512)))
    return (near, size - 1 - near, *rng.integers(size, size=2).tolist())[region]


def changed_file(name: str, good: bytes, seed: int, number: int) -> bytes:
    """Content of the changed file of a format with a number, always the same for one seed."""
    return change(good, np.random.default_rng([seed, zlib.crc32(name.encode()), number]))


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Context that raises `TooLongError` after some seconds of this process on the processor."""

    def stop(*_: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def try_reading(name: str, path: Path, expected: Values) -> Outcome:
    """Read a changed file and compare its numbers with those of the good one.

    Parameters
    ----------
    name : str
        Name of the format.
    path : Path
        Changed file.
    expected : dict of str to array
        Numbers of the good file.
    """
    start = time.process_time()
    try:
        with warnings.catch_warnings(), time_limit(MAX_SECONDS):
            warnings.simplefilter("ignore")  # of libraries, about the damage
            found = FORMATS[name].read(path)
    except TooLongError:
        return Outcome("hang", f"more than {MAX_SECONDS} s")
    except InputError as error:
        message = str(error)
        named = str(path) in message or str(path.parent) in message
        if "\n" in message or not named:
            return Outcome("exception", f"message without the file or of several lines: {message}")
        return Outcome("refused", message)
    except Exception as error:
        return Outcome("exception", f"{type(error).__name__}: {error}")
    if time.process_time() - start > MAX_SECONDS:
        return Outcome("hang", f"{time.process_time() - start:.0f} s")
    if _equal(found, expected):
        return Outcome("same")
    known = {n: values for n, values in found.items() if n in expected}
    if FORMATS[name].checksums and not _equal(known, {n: expected[n] for n in known}):
        return Outcome("wrong", "other numbers despite checksums")
    return Outcome("other")


def _equal(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(
        np.array_equal(found[name], expected[name]) for name in expected
    )
