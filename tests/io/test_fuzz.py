"""Damaged files give one clear error or the right jets: no hang, no crash, no wrong numbers.

Files of ours carry checksums, so whatever is read must be what was written. Formats without
checksums cannot tell a changed number from a right one; their jets must be physical all the same.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pcloud.errors import InputError
from pcloud.io import JetSchema, read_jets, write_jets
from tests.io.conftest import assert_same_jets, landscape_frame, make_flat, padded
from tests.io.test_npz import energyflow

X = {"E": "X[0]", "px": "X[1]", "py": "X[2]", "pz": "X[3]"}
FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FLAT = make_flat(num_jets=40, extras=True)
OURS = [".parquet", ".npz", ".h5"]


def write_ours(path: Path) -> None:
    jets = FLAT.to_awkward(("qcd", "top"))
    write_jets(jets[["p4", "label"]] if path.suffix == ".h5" else jets, path)


def write_pandas(path: Path) -> None:
    landscape_frame(FLAT).to_hdf(path, key="table", format="table", complevel=5, complib="blosc")


def write_plain(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["X"], file["y"] = padded(FLAT, 60), FLAT.jet["label"]


def write_energyflow(path: Path) -> None:
    np.savez_compressed(path, X=energyflow(FLAT), y=FLAT.jet["label"])


def write_root(path: Path) -> None:
    p4 = FLAT.to_awkward().p4
    names = {"E": "part_energy", "px": "part_px", "py": "part_py", "pz": "part_pz"}
    branches = {column: p4[name] for name, column in names.items()}
    with uproot.recreate(path) as file:
        file.mktree("tree", {name: ak.type(column).content for name, column in branches.items()})
        file["tree"].extend(branches)


def write_lists(path: Path) -> None:
    ak.to_parquet(FLAT.to_awkward(), path)


#: How each kind of file is made, and its schema where it is not recognised.
KINDS: dict[str, tuple[Callable[[Path], None], JetSchema | None]] = {
    "ours.parquet": (write_ours, None),
    "ours.npz": (write_ours, None),
    "ours.h5": (write_ours, None),
    "pandas.h5": (write_pandas, None),
    "plain.h5": (write_plain, JetSchema(X, label="y", classes=("qcd", "top"))),
    "energyflow.npz": (write_energyflow, None),
    "jetclass.root": (write_root, None),
    "lists.parquet": (write_lists, None),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("good")
    for name, (write, _) in KINDS.items():
        write(folder / name)
    return {name: (folder / name).read_bytes() for name in KINDS}


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """Ten minutes are for all the examples of a test."""

    def stop(*_: object) -> None:
        raise TimeoutError("a reader hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(600)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def read_or_raise(path: Path, schema: JetSchema | None) -> ak.Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what libraries say of damage
        return read_jets(path, schema)


def read_or_refuse(path: Path, schema: JetSchema | None) -> ak.Array | None:
    """Jets, or None where they were refused with one line that names the file."""
    try:
        return read_or_raise(path, schema)
    except InputError as error:
        message = str(error)
    assert str(path) in message
    assert "\n" not in message
    return None


def assert_physical(jets: ak.Array) -> None:
    assert len(jets) > 0
    assert ak.all(ak.num(jets.p4) > 0)
    for component in (jets.p4.E, jets.p4.px, jets.p4.py, jets.p4.pz):
        assert np.isfinite(ak.to_numpy(ak.flatten(component))).all()
    assert ak.all(jets.p4.E > 0)
    if "label" in jets.fields and "classes" in jets.attrs:
        assert set(np.unique(jets.label)) <= set(range(len(jets.attrs["classes"])))


@dataclass(frozen=True)
class Damage:
    """Bits flipped, bytes overwritten, inserted or left out, or the end cut off."""

    kind: str
    places: list[float]
    bit: int
    noise: bytes

    def __call__(self, data: bytes) -> bytes:
        for place in self.places:
            i = int(place * len(data))
            before, after = data[:i], data[i:]
            changed = {
                "flip": bytes([after[0] ^ (1 << self.bit)]) + after[1:],
                "overwrite": self.noise + after[len(self.noise) :],
                "insert": self.noise + after,
                "omit": after[len(self.noise) :],
                "cut": b"",
            }
            data = before + changed[self.kind]
        return data


def damage() -> st.SearchStrategy[Damage]:
    where = st.floats(0, 0.9999)
    # Most of the metadata lies at the start and the end of a file.
    where = st.one_of(where, where.map(lambda x: x**6), where.map(lambda x: 0.99999 - x**6))
    return st.one_of(
        st.builds(
            Damage,
            st.just(kind),
            st.lists(where, min_size=1, max_size=4 if kind == "flip" else 1),
            st.integers(0, 7),
            st.binary(min_size=1, max_size=40),
        )
        for kind in ("flip", "overwrite", "insert", "omit", "cut")
    )


@pytest.mark.parametrize("name", KINDS)
@given(change=damage())
@FUZZ
def test_damaged_files_are_refused_or_read_right(tmp_path, good, name, change):
    path = tmp_path / name
    path.write_bytes(change(good[name]))
    jets = read_or_refuse(path, KINDS[name][1])
    if jets is None:
        return
    assert_physical(jets)
    if name.startswith("ours"):
        expected = FLAT.to_awkward()
        # Names of columns stand in the metadata, which no checksum covers: a column may be lost.
        known = [field for field in jets.fields if field in expected.fields]
        assert_same_jets(jets[known], expected[known])


@pytest.mark.parametrize("suffix", [".h5", ".root", ".parquet", ".npz"])
@given(
    head=st.sampled_from(
        [b"", b"\x89HDF\r\n\x1a\n", b"root", b"PAR1", b"PK\x03\x04", b"PK\x05\x06"]
    ),
    body=st.binary(max_size=400),
    tail=st.sampled_from([b"", b"PAR1", b"\x10\0\0\0PAR1", b"PK\x05\x06" + bytes(18)]),
)
@example(head=b"", body=b"", tail=b"")
@FUZZ
def test_garbage_is_refused(tmp_path, suffix, head, body, tail):
    path = tmp_path / f"garbage{suffix}"
    path.write_bytes(head + body + tail)
    assert read_or_refuse(path, None) is None


@pytest.mark.parametrize("name", KINDS)
def test_a_file_cut_anywhere_is_refused(tmp_path, good, name):
    path, data = tmp_path / name, good[name]
    for size in [0, 1, 8, 100, *np.linspace(0, len(data) - 1, 40).astype(int)]:
        path.write_bytes(data[:size])
        assert read_or_refuse(path, KINDS[name][1]) is None, size


def is_open(path: Path) -> bool:
    """Whether this process holds the file, as Linux tells it."""
    held = (Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
    return any(os.path.realpath(descriptor) == str(path) for descriptor in held)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no list of open files")
@pytest.mark.parametrize("name", KINDS)
def test_a_refused_file_is_closed_while_the_error_is_kept(tmp_path, good, name):
    path, data = tmp_path.resolve() / name, good[name]
    flips = np.linspace(0.97 * len(data), len(data), 40, endpoint=False).astype(int)
    damaged = [data[:i] + bytes([data[i] ^ 16]) + data[i + 1 :] for i in flips]
    damaged += [data[:size] for size in np.linspace(8, len(data) - 1, 10).astype(int)]
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            read_or_raise(path, KINDS[name][1])
        except InputError:
            refused += 1
            assert not is_open(path)  # though the frames of the traceback still exist
    assert refused >= 10
