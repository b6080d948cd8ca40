from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pcloud.errors import InputError
from pcloud.io import BadJetWarning, FlatJets, convert, iter_jets, parquet, read_jets, write_jets
from pcloud.io.jets import as_offsets
from pcloud.keys import keys_of
from tests.io.conftest import MakeJets, assert_same_jets, landscape_frame, make_flat, names_in

ROUND_TRIP = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def ragged_jets(draw, extras=True):
    """Any number of particles in 1 to 8 jets; any finite three-momenta; extras of any type."""
    counts = np.array(draw(st.lists(st.integers(1, 12), min_size=1, max_size=8)))
    num, dtype = int(counts.sum()), draw(st.sampled_from([np.float32, np.float64]))
    finite = st.floats(-500, 500, width=32)
    p = [draw(hnp.arrays(dtype, num, elements=finite)) for _ in range(3)]
    mass = draw(hnp.arrays(np.float64, num, elements=st.floats(0.125, 100)))
    energy = np.sqrt(sum(c.astype(np.float64) ** 2 for c in p) + mass**2).astype(dtype)
    particle, jet = {}, {}
    if extras:
        kinds = st.sampled_from([np.int8, np.uint16, np.int64, np.float32, np.float64, np.bool_])
        for columns, size in ((particle, num), (jet, len(counts))):
            for name in draw(
                st.sets(st.sampled_from(["charge", "d0", "w", "is_muon"]), max_size=3)
            ):
                values = hnp.arrays(draw(kinds), size)
                columns[f"{name}_{size == num}"] = np.nan_to_num(draw(values), posinf=1, neginf=1)
    if draw(st.booleans()):
        jet["label"] = draw(hnp.arrays(np.int64, len(counts), elements=st.integers(0, 1)))
    return FlatJets(as_offsets(counts), (energy, *p), particle, jet).to_awkward(("a", "b"))


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
@given(jets=ragged_jets())
@ROUND_TRIP
def test_what_is_written_is_read(tmp_path, suffix, jets):
    path = tmp_path / f"a{suffix}"
    write_jets(jets, path, overwrite=True)
    back = read_jets(path, check_units=False)
    assert_same_jets(back, jets)
    assert back.attrs["classes"] == ["a", "b"]


@given(jets=ragged_jets(extras=False))
@ROUND_TRIP
def test_what_is_written_as_landscape_is_read(tmp_path, jets):
    write_jets(jets, tmp_path / "a.h5", overwrite=True)
    assert_same_jets(read_jets(tmp_path / "a.h5", check_units=False), jets)


@pytest.mark.parametrize("target", [".parquet", ".npz", ".h5"])
@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_a_landscape_file_is_converted(landscape, tmp_path, target, chunk_size, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP", 1500)
    path, flat = landscape
    out = tmp_path / f"out{target}"
    if chunk_size == 1:
        flat = flat.slice(0, 20)
        path = tmp_path / "short.h5"
        landscape_frame(flat).to_hdf(path, key="table", format="table")
    assert convert(path, out, chunk_size=chunk_size) == len(flat)
    assert_same_jets(read_jets(out), read_jets(path))
    assert read_jets(out).attrs["classes"] == ["qcd", "top"]


def test_several_files_become_one(tmp_path):
    whole = make_flat(num_jets=90, extras=True).to_awkward()
    for i in range(3):
        write_jets(whole[30 * i : 30 * i + 30], tmp_path / f"{i}.npz")
    assert convert(str(tmp_path / "*.npz"), tmp_path / "all.parquet", chunk_size=20) == 90
    assert_same_jets(read_jets(tmp_path / "all.parquet"), whole)


def test_a_conversion_shows_its_progress(tmp_path, capfd):
    write_jets(make_flat().to_awkward(), tmp_path / "a.npz")
    convert(tmp_path / "a.npz", tmp_path / "b.parquet", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "b.parquet" in err
    assert "50/50" in err
    convert(tmp_path / "a.npz", tmp_path / "c.parquet")
    assert capfd.readouterr() == ("", "")


def test_nothing_is_left_of_a_failed_conversion(tmp_path):
    flat = make_flat(num_jets=400)
    frame = landscape_frame(flat)
    frame.loc[399, "E_0"] = np.nan
    frame.to_hdf(tmp_path / "a.h5", key="table", format="table")
    for suffix in (".parquet", ".npz", ".h5"):
        with pytest.raises(InputError, match=r"NaN or infinity in E_\{i\} \(jet 399\)"):
            convert(tmp_path / "a.h5", tmp_path / f"out{suffix}", chunk_size=100)
    assert names_in(tmp_path) == ["a.h5"]
    with pytest.warns(BadJetWarning, match="dropped 1 of 400"):
        assert convert(tmp_path / "a.h5", tmp_path / "out.npz", on_bad_jet="drop") == 399


def test_files_are_not_replaced_by_accident(tmp_path):
    jets = make_flat().to_awkward()
    write_jets(jets, tmp_path / "a.npz")
    write_jets(jets[:10], tmp_path / "b.npz")
    for write in (
        lambda **o: write_jets(jets, tmp_path / "b.npz", **o),
        lambda **o: convert(tmp_path / "a.npz", tmp_path / "b.npz", **o),
    ):
        with pytest.raises(FileExistsError, match="exists already"):
            write()
        assert len(read_jets(tmp_path / "b.npz")) == 10
        write(overwrite=True)
        assert len(read_jets(tmp_path / "b.npz")) == 50
        write_jets(jets[:10], tmp_path / "b.npz", overwrite=True)
    with pytest.raises(InputError, match="cannot be converted into itself"):
        convert(tmp_path / "a.npz", tmp_path / "a.npz", overwrite=True)
    assert len(read_jets(tmp_path / "a.npz")) == 50


def test_an_existing_target_is_refused_before_the_work(tmp_path):
    (tmp_path / "b.npz").write_bytes(b"x")
    (tmp_path / "a.h5").write_bytes(b"no jets at all")
    write_jets(make_flat().to_awkward(), tmp_path / "c.npz")
    with pytest.raises(FileExistsError):
        convert(tmp_path / "c.npz", tmp_path / "b.npz")
    with pytest.raises(InputError, match=r"written to \.parquet, \.npz or \.h5, not '\.root'"):
        convert(tmp_path / "c.npz", tmp_path / "b.root")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda j: j[:0], "there are no jets to write"),
        (lambda j: ak.with_field(j, j.label + 5, "label"), "label above 1, the last class"),
        (lambda j: ak.with_field(j, j.p4[:, :0], "p4"), "no particles"),
        (lambda j: ak.with_field(j, -j.p4.E, ("p4", "E")), "negative energy"),
    ],
)
def test_bad_jets_are_not_written(tmp_path, change, message):
    jets = change(make_flat().to_awkward(("qcd", "top")))
    with pytest.raises(InputError, match=message):
        write_jets(jets, tmp_path / "a.parquet")
    assert names_in(tmp_path) == []


def test_types_that_change_between_files_are_refused(tmp_path):
    write_jets(make_flat(dtype=np.float32).to_awkward(), tmp_path / "a.npz")
    write_jets(make_flat(dtype=np.float64).to_awkward(), tmp_path / "b.npz")
    with pytest.raises(InputError, match="the types of the columns differ"):
        convert(tmp_path / "?.npz", tmp_path / "out.parquet", chunk_size=50)
    assert names_in(tmp_path) == ["a.npz", "b.npz"]


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_files_have_the_keys_of_their_jets(
    suffix: str, make_jets: MakeJets, tmp_path: Path
) -> None:
    jets = make_jets(dtype=np.float64)
    write_jets(jets, tmp_path / f"a{suffix}")
    back = read_jets(tmp_path / f"a{suffix}")
    assert back.split_key.type.content.primitive == "uint64"
    np.testing.assert_array_equal(back.split_key, keys_of(jets))


def test_conversion_keeps_the_keys_of_the_source(make_jets: MakeJets, tmp_path: Path) -> None:
    """Momenta of another unit or precision would have other keys."""
    jets = make_jets()
    jets["split_key"] = np.arange(len(jets), dtype=np.int64)[::-1] - 3
    write_jets(jets, tmp_path / "a.parquet")
    convert(tmp_path / "a.parquet", tmp_path / "b.npz")
    convert(tmp_path / "b.npz", tmp_path / "c.parquet")
    keys = np.asarray(read_jets(tmp_path / "c.parquet").split_key)
    assert keys.dtype == np.uint64
    np.testing.assert_array_equal(keys.astype(np.int64), jets.split_key)
    with pytest.warns(UserWarning, match="no column for split_key"):
        convert(tmp_path / "c.parquet", tmp_path / "d.h5")


def test_keys_that_momenta_give_again_are_left_out_without_a_warning(
    make_jets: MakeJets, tmp_path: Path
) -> None:
    write_jets(make_jets(), tmp_path / "a.parquet")
    convert(tmp_path / "a.parquet", tmp_path / "b.h5")
    np.testing.assert_array_equal(
        keys_of(read_jets(tmp_path / "b.h5")), read_jets(tmp_path / "a.parquet").split_key
    )


def test_files_with_and_without_keys_are_read_together(make_jets: MakeJets, tmp_path: Path) -> None:
    for name, suffix in (("a", ".h5"), ("b", ".parquet")):
        write_jets(make_jets(), tmp_path / f"{name}{suffix}")
    files = [tmp_path / "a.h5", tmp_path / "b.parquet"]
    assert "split_key" not in read_jets(files).fields
    assert "split_key" in read_jets(files[::-1]).fields
    for order in (files, files[::-1]):
        (chunk,) = iter_jets(order, keys=True)
        assert len(np.unique(chunk.split_key)) == len(chunk) / 2
        (without,) = iter_jets(order, keys=False)
        assert "split_key" not in without.fields


def test_keys_that_are_no_integers_are_refused(make_jets: MakeJets, tmp_path: Path) -> None:
    jets = make_jets()
    jets["split_key"] = np.linspace(0, 1, len(jets))
    with pytest.raises(InputError, match="holds keys of jets, not float64"):
        write_jets(jets, tmp_path / "a.parquet")
    table = pq.read_table(_written(make_jets(), tmp_path / "b.parquet"))
    keys = pa.array(np.linspace(0, 1, len(table)))
    place = table.column_names.index("split_key")
    pq.write_table(table.set_column(place, "split_key", keys), tmp_path / "c.parquet")
    with pytest.raises(InputError, match="must be whole numbers"):
        read_jets(tmp_path / "c.parquet")


def _written(jets: ak.Array, path: Path) -> Path:
    write_jets(jets, path)
    return path
