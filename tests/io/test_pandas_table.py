from __future__ import annotations

import pickle
import time
import tracemalloc

import h5py
import hdf5plugin  # noqa: F401  (registers blosc)
import numpy as np
import pandas as pd
import pytest

from pcloud.errors import InputError
from pcloud.io import FlatJets, JetSchema, read_jets, write_jets
from tests.io.conftest import assert_same_jets, landscape_frame, make_flat, padded


def with_truth(flat: FlatJets) -> FlatJets:
    truth = np.arange(4 * len(flat), dtype=np.float32).reshape(-1, 4)
    names = ("truth_E", "truth_px", "truth_py", "truth_pz")
    flat.jet |= dict(zip(names, truth.T, strict=True))
    flat.jet["ttv"] = np.full(len(flat), 2)
    return flat


def test_landscape_files_of_pandas_are_read_without_their_padding(landscape):
    path, flat = landscape
    jets = read_jets(path)
    assert_same_jets(jets, with_truth(flat))
    assert jets.attrs["classes"] == ["qcd", "top"]


def test_real_landscape_jets_are_what_they_are_said_to_be(reference_data, tmp_path):
    with np.load(reference_data / "landscape_test_rows_0000_0999.npz") as file:
        p4, counts, label = file["p4"], file["counts"], file["label"].astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    flat = FlatJets(offsets, tuple(np.ascontiguousarray(p4.T)), {}, {"label": label})
    path = tmp_path / "test.h5"
    landscape_frame(flat).to_hdf(path, key="table", format="table", complevel=5, complib="blosc")
    assert_same_jets(read_jets(path), with_truth(flat))


def test_zero_slots_anywhere_are_padding(tmp_path):
    flat = make_flat(num_jets=40, max_particles=200)
    frame = landscape_frame(flat)
    dead = np.random.default_rng(0).random((40, 200)) < 0.3
    dead[:, 3] = False
    block = padded(flat)
    for i, q in enumerate(("E", "PX", "PY", "PZ")):
        block[..., i][dead] = 0
        frame[[f"{q}_{s}" for s in range(200)]] = block[..., i]
    keep = block[..., 0] != 0
    full = keep.any(axis=1)
    frame[full].to_hdf(tmp_path / "full.h5", key="table", format="table")
    jets = read_jets(tmp_path / "full.h5")
    np.testing.assert_array_equal([len(p4) for p4 in jets.p4], keep.sum(axis=1)[full])
    np.testing.assert_array_equal(
        np.concatenate([np.asarray(p4.px) for p4 in jets.p4]), block[..., 1][keep]
    )


@pytest.mark.parametrize(
    "options",
    [
        {"key": "table", "format": "table"},
        {"key": "some/other", "format": "table", "complevel": 9, "complib": "zlib"},
        {"key": "df", "format": "table", "complevel": 5, "complib": "blosc:zstd"},
        {"key": "df", "format": "table", "data_columns": ["is_signal_new", "E_1", "PZ_3"]},
        {"key": "df", "format": "fixed"},
        {"key": "df", "format": "fixed", "complevel": 5, "complib": "blosc"},
    ],
)
def test_whatever_way_pandas_writes_it_the_frame_is_read(tmp_path, options):
    flat = make_flat(num_jets=30)
    landscape_frame(flat).to_hdf(tmp_path / "a.h5", **options)
    assert_same_jets(read_jets(tmp_path / "a.h5"), with_truth(flat))


def test_columns_in_any_order_are_found_by_name(tmp_path):
    flat = make_flat(num_jets=30)
    frame = landscape_frame(flat)
    frame = frame[np.random.default_rng(1).permutation(frame.columns)]
    frame["ttv"] = frame["ttv"].astype(np.float64)
    frame.to_hdf(tmp_path / "a.h5", key="table", format="table")
    jets = read_jets(tmp_path / "a.h5")
    assert_same_jets(jets[["p4", "label"]], flat)


def test_momenta_stored_in_float64_stay_so(tmp_path):
    flat = make_flat(num_jets=10, dtype=np.float64)
    landscape_frame(flat).to_hdf(tmp_path / "a.h5", key="table", format="table")
    assert_same_jets(read_jets(tmp_path / "a.h5")[["p4", "label"]], flat)


def test_any_range_of_jets_can_be_read(landscape):
    path, flat = landscape
    for start, stop in ((0, 1), (79, 81), (123, 300), (299, 300)):
        jets = read_jets(path, start=start, stop=stop)
        assert_same_jets(jets[["p4", "label"]], flat.slice(start, stop))


def test_a_frame_of_ones_own_is_read_by_a_schema(tmp_path):
    flat = make_flat(num_jets=20)
    pt, eta = np.hypot(*flat.p4[1:3]), np.arcsinh(flat.p4[3] / np.hypot(*flat.p4[1:3]))
    columns = {"pt": pt, "eta": eta, "phi": np.arctan2(flat.p4[2], flat.p4[1])}
    frame = pd.DataFrame({"target": flat.jet["label"]})
    for name, values in columns.items():
        block = padded(FlatJets(flat.offsets, (values,) * 4), slots=60)[..., 0]
        frame = frame.join(pd.DataFrame(block, columns=[f"con{i}_{name}" for i in range(60)]))
    frame.to_hdf(tmp_path / "a.h5", key="df", format="table")
    schema = JetSchema({n: f"con{{i}}_{n}" for n in columns}, label="target", classes=("a", "b"))
    jets = read_jets(tmp_path / "a.h5", schema)
    np.testing.assert_array_equal([len(p4) for p4 in jets.p4], flat.counts)
    np.testing.assert_allclose(
        np.concatenate([np.asarray(p4.pz) for p4 in jets.p4]), flat.p4[3], rtol=1e-5, atol=1e-5
    )
    assert jets.attrs["classes"] == ["a", "b"]


def test_the_frame_is_chosen_by_its_key_among_several(tmp_path):
    one, other = make_flat(num_jets=10, seed=1), make_flat(num_jets=10, seed=2)
    for key, flat in (("train", one), ("extra/test", other)):
        landscape_frame(flat).to_hdf(tmp_path / "a.h5", key=key, format="table")
    with pytest.raises(InputError, match=r"several tables \(extra/test, train\); choose one"):
        read_jets(tmp_path / "a.h5")
    schema = JetSchema.from_dict({**_landscape_dict(), "tree": "extra/test"})
    assert_same_jets(read_jets(tmp_path / "a.h5", schema)[["p4", "label"]], other)
    with pytest.raises(InputError, match=r"no group named 'tran' .*did you mean 'train'"):
        read_jets(tmp_path / "a.h5", JetSchema.from_dict({**_landscape_dict(), "tree": "tran"}))


def _landscape_dict():
    from pcloud.io import SCHEMAS

    return SCHEMAS["landscape"].to_dict()


def test_column_names_are_never_executed(landscape, tmp_path):
    """The names are pickled: a foreign file must not run code."""
    path, _ = landscape
    canary = tmp_path / "canary"

    class Attack:
        def __reduce__(self):
            return canary.touch, ()

    with h5py.File(path, "r+") as file:
        file["table/table"].attrs["values_block_0_kind"] = np.bytes_(
            pickle.dumps(Attack(), protocol=0)
        )
    with pytest.raises(InputError, match=r"landscape\.h5: cannot read the pandas table"):
        read_jets(path)
    assert not canary.exists()


def test_the_names_of_python_2_are_read(landscape):
    path, flat = landscape
    with h5py.File(path, "r+") as file:
        attributes = file["table/table"].attrs
        names = pickle.loads(attributes["values_block_1_kind"])
        old = b"(lp0\n" + b"".join(b"S'%s'\na" % name.encode() for name in names) + b"."
        attributes["values_block_1_kind"] = np.bytes_(old)
    assert_same_jets(read_jets(path)[["p4", "label"]], flat)


def test_names_that_do_not_fit_the_block_are_refused(landscape):
    path, _ = landscape
    with h5py.File(path, "r+") as file:
        file["table/table"].attrs["values_block_1_kind"] = np.bytes_(pickle.dumps(["ttv"], 0))
    with pytest.raises(InputError, match="names of values_block_1 is wrong"):
        read_jets(path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pandas_reads_what_is_written(tmp_path, dtype):
    flat = with_truth(make_flat(num_jets=700, dtype=dtype))
    write_jets(flat.to_awkward(("qcd", "top")), tmp_path / "a.h5")
    frame = pd.read_hdf(tmp_path / "a.h5", key="table")
    expected = landscape_frame(flat)
    assert list(frame.columns) == list(expected.columns)
    np.testing.assert_array_equal(frame.to_numpy(), expected.to_numpy())
    assert frame["E_0"].dtype == dtype
    assert frame["is_signal_new"].dtype == np.int64
    part = pd.read_hdf(tmp_path / "a.h5", key="table", start=300, stop=310)
    np.testing.assert_array_equal(part.index, np.arange(300, 310))


def test_unlabelled_jets_are_written_without_a_label(tmp_path):
    jets = make_flat(num_jets=10).to_awkward()[["p4"]]
    write_jets(jets, tmp_path / "a.h5")
    assert "is_signal_new" not in pd.read_hdf(tmp_path / "a.h5", key="table").columns
    assert_same_jets(read_jets(tmp_path / "a.h5"), jets)


def test_what_the_landscape_layout_cannot_hold_is_said(tmp_path):
    path = tmp_path / "a.h5"
    with pytest.warns(UserWarning, match="has no column for charge, d0, is_muon, jet_sdmass, run"):
        write_jets(make_flat(extras=True).to_awkward(), path)
    assert read_jets(path).fields == ["p4", "label"]
    flat = make_flat(num_jets=3)
    with pytest.raises(InputError, match="has two classes, the jets have 3"):
        write_jets(flat.to_awkward(("a", "b", "c")), tmp_path / "b.h5")
    flat.jet["label"][1] = 4
    with pytest.raises(InputError, match="only the labels 0 and 1"):
        write_jets(flat.to_awkward(), tmp_path / "b.h5")
    long = make_flat(num_jets=100, max_particles=230)
    with pytest.raises(InputError, match=r"jet \d+ has 2\d\d particles, the Landscape layout has"):
        write_jets(long.to_awkward(), tmp_path / "b.h5")
    assert not (tmp_path / "b.h5").exists()


def test_damage_of_our_own_file_is_noticed(tmp_path):
    """Blosc itself decompresses many damaged chunks without complaint; the checksum does not."""
    write_jets(make_flat(num_jets=100).to_awkward(), tmp_path / "a.h5")
    good = (tmp_path / "a.h5").read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:
        chunk = file["table/table"].id.get_chunk_info(0)
    for position in np.linspace(0, chunk.size - 1, 25).astype(int) + chunk.byte_offset:
        bad = bytearray(good)
        bad[position] ^= 4
        (tmp_path / "a.h5").write_bytes(bytes(bad))
        with pytest.raises(InputError, match=r"a\.h5: cannot read"):
            read_jets(tmp_path / "a.h5")


def test_landscape_files_are_read_at_a_useful_rate(tmp_path):
    """A guard against a loop over jets: the benchmark measures the rate."""
    flat = make_flat(num_jets=4000)
    write_jets(flat.to_awkward(), tmp_path / "a.h5")
    start = time.process_time()
    read_jets(tmp_path / "a.h5")
    assert 4000 / (time.process_time() - start) > 10_000


def test_slots_with_a_gap_are_refused(tmp_path):
    frame = landscape_frame(make_flat(num_jets=20))
    frame.drop(columns=["E_3"]).to_hdf(tmp_path / "a.h5", key="table", format="fixed")
    with pytest.raises(InputError, match=r"'E_3' is missing or cannot be read, .* is 'E_199'"):
        read_jets(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "names",
    [
        b"]r\xff\xff\xff\x7f.",  # the place of an object, for which 16 GB would be reserved
        b"]p2147483647\n.",
        b"\x96\xff\xff\xff\xff\x03\x00\x00\x00.",  # bytes, of which there are none
        b"X\xff\xff\xff\x7fE_0.",
    ],
)
def test_damaged_names_of_columns_take_no_memory(landscape, names):
    path, _ = landscape
    with h5py.File(path, "a") as file:
        file["table/table"].attrs["values_block_0_kind"] = np.bytes_(names)
    tracemalloc.start()
    with pytest.raises(InputError, match=rf"{path.name}: (cannot read the pandas table|the names)"):
        read_jets(path)
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()
