from __future__ import annotations

import subprocess
import sys
import tracemalloc
import warnings

import awkward as ak
import numpy as np
import pytest

from pcloud.errors import InputError, UnknownNameError
from pcloud.io import (
    BadJetWarning,
    FlatJets,
    JetSchema,
    column_names,
    count_jets,
    iter_jets,
    read_jets,
    write_jets,
)
from pcloud.io.parquet import ParquetTable
from pcloud.io.write import write_chunks
from pcloud.keys import keys_of
from pcloud.memory import LowMemoryWarning
from tests.io.conftest import assert_same_jets, make_flat

SUFFIXES = [".parquet", ".npz", ".h5"]


@pytest.fixture
def files(tmp_path):
    """Three files of 40, 25 and 60 jets, and all their jets."""
    whole = make_flat(num_jets=125).to_awkward(("qcd", "top"))
    for name, part in (("a", whole[:40]), ("b", whole[40:65]), ("c", whole[65:])):
        write_jets(part, tmp_path / f"{name}.parquet")
    return tmp_path, whole


def test_files_are_read_one_after_the_other(files):
    folder, whole = files
    paths = [folder / f"{name}.parquet" for name in "abc"]
    for path in (folder, str(folder / "*.parquet"), paths, list(map(str, paths))):
        assert_same_jets(read_jets(path), whole)
        assert count_jets(path) == 125
    assert_same_jets(read_jets(paths[::-1]), ak.concatenate([whole[65:], whole[40:65], whole[:40]]))


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 10), (39, 41), (40, 65), (60, 66), (124, None), (125, None), (30, 500), (7, 7)],
)
def test_ranges_count_over_all_files(files, start, stop):
    folder, whole = files
    assert_same_jets(read_jets(folder, start=start, stop=stop), whole[start:stop])


@pytest.mark.parametrize("chunk_size", [1, 7, 40, 64, 125, 1000])
def test_chunks_have_the_size_asked_for_across_files(files, chunk_size):
    folder, whole = files
    chunks = list(iter_jets(folder, chunk_size=chunk_size, start=3, stop=120))
    assert all(len(chunk) == chunk_size for chunk in chunks[:-1])
    assert all(chunk.attrs["classes"] == ["qcd", "top"] for chunk in chunks)
    assert_same_jets(ak.concatenate(chunks), whole[3:120])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_jets_have_the_types_of_some(tmp_path, suffix):
    jets = make_flat(num_jets=5).to_awkward(("qcd", "top"))
    write_jets(jets, tmp_path / f"a{suffix}")
    none = read_jets(tmp_path / f"a{suffix}", stop=0)
    some = jets if suffix == ".h5" else ak.with_field(jets, keys_of(jets), "split_key")
    assert str(none.type) == str(some[:0].type)
    assert none.attrs["classes"] == ["qcd", "top"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": -1}, "start=-1 and stop=None are not a range"),
        ({"start": 5, "stop": 4}, "start=5 and stop=4 are not a range"),
        ({"start": 126}, "start=126 is beyond the 125 jets"),
        ({"on_bad_jet": "dorp"}, "no value of on_bad_jet named 'dorp'; did you mean 'drop'"),
        ({"schema": "jetclas"}, "no schema named 'jetclas'; did you mean 'jetclass'"),
        ({"schema": {"p4": {}}}, "p4 needs px, py, pz"),
    ],
)
def test_wrong_arguments_are_refused(files, options, message):
    with pytest.raises(InputError, match=message):
        read_jets(files[0], **options)


def test_chunks_must_have_jets(files):
    with pytest.raises(InputError, match="chunk_size must be at least 1, got 0"):
        iter_jets(files[0], chunk_size=0)


def test_a_stream_fails_before_it_starts(files):
    with pytest.raises(UnknownNameError, match="no column named 'part_energy'"):
        iter_jets(files[0], "jetclass")
    with pytest.raises(FileNotFoundError):
        iter_jets(files[0] / "d.parquet")


def test_our_schema_by_name_is_that_of_the_file(tmp_path):
    jets = make_flat(extras=True).to_awkward()
    for suffix in (".parquet", ".npz"):
        write_jets(jets, tmp_path / f"a{suffix}")
        assert_same_jets(read_jets(tmp_path / f"a{suffix}", "pcloud"), jets)


def test_files_must_agree_on_columns_and_classes(tmp_path):
    one = make_flat().to_awkward(("qcd", "top"))
    write_jets(one, tmp_path / "a.parquet")
    write_jets(make_flat(extras=True).to_awkward(("qcd", "top")), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"b\.parquet has 'charge', but .*a\.parquet does not"):
        read_jets(tmp_path)
    write_jets(one[["p4"]], tmp_path / "b.parquet", overwrite=True)
    with pytest.raises(InputError, match=r"a\.parquet has 'label', but .*b\.parquet does not"):
        read_jets(tmp_path)
    write_jets(make_flat().to_awkward(("g", "q")), tmp_path / "b.parquet", overwrite=True)
    with pytest.raises(
        InputError, match=r"b\.parquet has the classes g, q, but .*a\.parquet qcd, top"
    ):
        read_jets(tmp_path)


def broken(flat: FlatJets, suffix: str) -> FlatJets:
    """Jet 3 has a NaN and jet 7 a negative energy; written past our own checks."""
    px, energy = flat.p4[1], flat.p4[0]
    px[flat.offsets[3]] = np.nan
    energy[flat.offsets[7]] = -1
    return flat


def write_unchecked(flat, path):
    write_chunks([flat], path, ("qcd", "top"), overwrite=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bad_jets_are_named_in_every_format(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_unchecked(broken(make_flat(), suffix), path)
    message = r"a\.[a-z0-9]+: bad jets: NaN or infinity in .*(px|PX|p4\[1\]).* \(jet 3\); negative energy in .* \(jet 7\)"
    with pytest.raises(InputError, match=message):
        read_jets(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bad_jets_are_dropped_with_a_count(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_unchecked(broken(make_flat(), suffix), path)
    with pytest.warns(BadJetWarning, match=r"dropped 2 of 50 jets: NaN .* \(1 jets\); negative"):
        jets = read_jets(path, on_bad_jet="drop")
    keep = np.delete(np.arange(50), [3, 7])
    assert_same_jets(jets, make_flat().to_awkward()[keep])
    with pytest.warns(BadJetWarning, match="dropped 1 of 5 jets"):
        assert len(read_jets(path, on_bad_jet="drop", start=5, stop=10)) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_jets(path, on_bad_jet="drop", start=10)) == 40


def test_chunks_stay_full_when_jets_are_dropped(tmp_path):
    write_unchecked(broken(make_flat(), ""), tmp_path / "a.parquet")
    with pytest.warns(BadJetWarning):
        sizes = [len(c) for c in iter_jets(tmp_path / "a.parquet", chunk_size=8, on_bad_jet="drop")]
    assert sizes == [8] * 6


def test_a_file_without_jets_is_refused(tmp_path):
    p4 = np.zeros((0, 4))
    np.savez(tmp_path / "a.npz", p4=p4, offsets=[0])
    with pytest.raises(InputError, match=r"a\.npz: contains no jets"):
        read_jets(tmp_path / "a.npz")
    assert count_jets(tmp_path / "a.npz") == 0


def test_momenta_in_mev_are_suspected_and_may_be_insisted_on(tmp_path):
    flat = make_flat(num_jets=30, dtype=np.float64)
    mev = FlatJets(flat.offsets, tuple(1e3 * c for c in flat.p4))
    write_jets(mev.to_awkward(), tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"a\.npz: the median jet pt is .*unit='MeV'"):
        read_jets(tmp_path / "a.npz")
    assert ak.max(read_jets(tmp_path / "a.npz", check_units=False).p4.E) == max(mev.p4[0])
    schema = JetSchema(
        {n: f"p4[{i}]" for i, n in enumerate(("E", "px", "py", "pz"))},
        offsets="offsets",
        unit="MeV",
    )
    jets = read_jets(tmp_path / "a.npz", schema)
    np.testing.assert_allclose(ak.flatten(jets.p4.E), flat.p4[0], rtol=1e-14)


def test_memory_is_reserved_for_the_jets_there_are(tmp_path):
    """The first file is the largest: its size is not that of the others."""
    flat = make_flat(num_jets=2000)
    write_chunks([flat], tmp_path / "a.parquet", (), False)
    for i in range(30):
        write_chunks([flat.slice(2 * i, 2 * i + 2)], tmp_path / f"b{i}.parquet", (), False)
    tracemalloc.start()
    try:
        jets = read_jets(tmp_path)
        reserved = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(jets) == 2060
    assert reserved < 3 * flat.nbytes + 1e6


def test_only_the_columns_asked_for_are_read(tmp_path, monkeypatch):
    flat = make_flat(num_jets=30)
    flat.particle["charge"] = np.ones(flat.offsets[-1], dtype=np.int32)
    flat.particle["d0"] = np.full(flat.offsets[-1], np.nan, dtype=np.float32)
    flat.jet["jet_pt"] = np.ones(30, dtype=np.float32)
    write_chunks([flat], tmp_path / "a.parquet", ("qcd", "top"), False)
    names = set()
    read = ParquetTable.read_columns

    def spy(table, columns, start, stop):
        names.update(columns)
        return read(table, columns, start, stop)

    monkeypatch.setattr(ParquetTable, "read_columns", spy)
    jets = read_jets(tmp_path / "a.parquet", columns=["charge"])
    assert jets.fields == ["p4", "charge", "label", "split_key"]
    assert names == {"p4.E", "p4.px", "p4.py", "p4.pz", "charge", "label", "split_key"}
    assert column_names(tmp_path / "a.parquet") == jets.attrs["columns"]
    assert set(jets.attrs["columns"]) == {*jets.fields, "d0", "jet_pt"} | set(flat.particle)
    (chunk,) = iter_jets(tmp_path / "a.parquet", columns=["charge"])
    assert_same_jets(chunk, jets)
    with pytest.raises(InputError, match="NaN or infinity in d0"):
        read_jets(tmp_path / "a.parquet", columns=["d0"])
    assert np.isnan(read_jets(tmp_path / "a.parquet").d0).to_list()[0][0]
    with pytest.raises(UnknownNameError, match="did you mean 'charge'"):
        read_jets(tmp_path / "a.parquet", columns=["chrage"])


def test_a_missing_column_that_is_not_read_is_not_missed(tmp_path):
    write_jets(make_flat(num_jets=20).to_awkward(), tmp_path / "a.npz")
    p4 = {n: f"p4[{i}]" for i, n in enumerate(("E", "px", "py", "pz"))}
    schema = JetSchema(p4, particle={"d0": "there_is_none"}, offsets="offsets")
    with pytest.raises(UnknownNameError, match="there_is_none"):
        read_jets(tmp_path / "a.npz", schema)
    assert read_jets(tmp_path / "a.npz", schema, columns=()).fields == ["p4", "split_key"]


def test_jets_that_do_not_fit_into_the_memory_are_refused(files, monkeypatch):
    folder, whole = files
    need = read_flat(folder).nbytes
    monkeypatch.setattr("pcloud.memory.free_memory", lambda: need // 2)
    with pytest.raises(InputError, match=r"125 jets need about .* GB of memory, and .* are free"):
        read_jets(folder)
    assert len(read_jets(folder, stop=20)) == 20
    assert sum(map(len, iter_jets(folder))) == 125
    monkeypatch.setattr("pcloud.memory.free_memory", lambda: int(need / 1.1))
    with pytest.warns(LowMemoryWarning, match="125 jets need"):
        read_jets(folder)
    monkeypatch.setattr("pcloud.memory.free_memory", lambda: 0)
    monkeypatch.setenv("PCLOUD_CHECK_MEMORY", "0")
    assert_same_jets(read_jets(folder), whole)


def read_flat(path):
    return FlatJets.from_awkward(read_jets(path))


@pytest.mark.parametrize("chunk_size", [2000, 20_000])
def test_one_chunk_is_held_and_what_is_decoded(tmp_path, long_jets, chunk_size, monkeypatch):
    """Decoded are 1000 jets at a time, once as they are stored and once as columns."""
    monkeypatch.setattr("pcloud.io.layouts._RANGE_JETS", 1000)
    path = tmp_path / "a.npz"
    write_jets(long_jets, path)
    jet_bytes = read_flat(path).nbytes / 20_000
    tracemalloc.start()
    try:
        for jets in iter_jets(path, chunk_size=chunk_size):
            del jets
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held < (1.1 * chunk_size + 3 * 1000) * jet_bytes


MEMORY = """
import resource, sys
import numpy as np
from pcloud.io import iter_jets, parquet
if sys.argv[2] == "large groups":
    parquet._MAX_GROUP_BYTES = 0
chunks = iter_jets(sys.argv[1], chunk_size=2000)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
total = sum(len(next(chunks)) for _ in range(3))
before = peak()
total += sum(len(jets) for jets in chunks)
print(total, peak() - before)
"""


@pytest.fixture(scope="module")
def long_jets():
    """20 000 jets of 150 particles: 48 MB of momenta, 65 MB as rows of Landscape."""
    num, counts = 20_000 * 150, np.full(20_000, 150)
    pz = np.random.default_rng(0).normal(0, 10, num).astype(np.float32)
    one = np.ones(num, dtype=np.float32)
    p4 = (np.sqrt(pz**2 + 2), one, one, pz)
    return FlatJets(np.concatenate([[0], np.cumsum(counts)]), p4).to_awkward()


@pytest.mark.once
@pytest.mark.parametrize("kind", [".parquet", ".npz", ".h5", "large groups"])
def test_chunks_keep_the_memory_bounded(tmp_path, long_jets, kind):
    """The resident memory of a fresh process may grow by a piece or two, not with the file."""
    path = tmp_path / f"a{kind if kind.startswith('.') else '.parquet'}"
    write_jets(long_jets, path)
    command = [sys.executable, "-c", MEMORY, str(path), kind]
    total, growth = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()
    assert int(total) == 20_000
    assert float(growth) < 15  # MB


def test_one_file_is_opened_once_and_closed(tmp_path, monkeypatch):
    from pcloud.io import read as module

    path = tmp_path / "jets.parquet"
    write_jets(make_flat(num_jets=30).to_awkward(), path)
    opened, closed = [], []
    open_table = module.open_table

    def counted(*arguments):
        table = open_table(*arguments)
        close = table.close
        monkeypatch.setattr(table, "close", lambda: (closed.append(path), close()))
        opened.append(path)
        return table

    monkeypatch.setattr(module, "open_table", counted)
    assert len(read_jets(path)) == 30
    assert (len(opened), len(closed)) == (1, 1)
    stream = module.JetFiles(path)
    assert stream.num_jets == 30
    del stream  # nothing was read from it
    assert (len(opened), len(closed)) == (2, 2)
    stream = module.JetFiles(path)
    assert [len(stream.read()) for _ in range(2)] == [30, 30]
    assert (len(opened), len(closed)) == (4, 4)
