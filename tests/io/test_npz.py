from __future__ import annotations

import zipfile

import awkward as ak
import numpy as np
import pytest

from pcloud.errors import InputError
from pcloud.io import iter_jets, read_jets, write_jets
from tests.io.conftest import assert_same_jets, make_flat, padded


def energyflow(flat, columns=4):
    """(pt, rapidity, phi, pid) of massless particles, float64, padded."""
    pt = np.hypot(flat.p4[1], flat.p4[2])
    quantities = [pt, np.arcsinh(flat.p4[3] / pt), np.arctan2(flat.p4[2], flat.p4[1]), 211 + 0 * pt]
    wide = type(flat)(flat.offsets, tuple(q.astype(np.float64) for q in quantities))
    return padded(wide, slots=60)[..., :columns]


@pytest.fixture
def flat():
    return make_flat(num_jets=120)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("columns", [3, 4])
def test_energyflow_files_are_recognised(tmp_path, flat, save, columns):
    save(tmp_path / "a.npz", X=energyflow(flat, columns), y=flat.jet["label"].astype(float))
    jets = read_jets(tmp_path / "a.npz")
    assert jets.attrs["classes"] == ["gluon", "quark"]
    np.testing.assert_array_equal(jets.label, flat.jet["label"])
    np.testing.assert_array_equal(ak.num(jets.p4), flat.counts)
    np.testing.assert_allclose(ak.flatten(jets.p4.pz), flat.p4[3], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ak.flatten(jets.p4.mass2), 0, atol=1e-6)
    assert str(jets.p4.E.type) == "120 * var * float64"  # as stored
    if columns == 4:
        assert str(jets.pid.type) == "120 * var * int32"
        assert ak.all(jets.pid == 211)
    else:
        assert "pid" not in jets.fields


def test_the_quark_gluon_jets_are_read_as_they_are(reference_data, tmp_path):
    with np.load(reference_data / "quarkgluon_test_rows_0000_0999.npz") as file:
        p4, counts, label = file["p4"].astype(np.float64), file["counts"], file["label"]
    flat = make_flat(num_jets=1)
    flat = type(flat)(np.concatenate([[0], np.cumsum(counts)]), tuple(p4.T))
    massless = flat.to_awkward().p4
    X = np.zeros((1000, counts.max(), 4))
    X[np.arange(counts.max()) < counts[:, None], :3] = np.stack(
        [
            np.hypot(*p4.T[1:3]),
            np.arcsinh(p4[:, 3] / np.hypot(*p4.T[1:3])),
            np.arctan2(p4[:, 2], p4[:, 1]),
        ],
        -1,
    )
    np.savez_compressed(tmp_path / "QG_jets.npz", X=X, y=label)
    jets = read_jets(tmp_path / "QG_jets.npz")
    np.testing.assert_array_equal(jets.label, label)
    for name in ("E", "px", "py", "pz"):
        np.testing.assert_allclose(
            ak.flatten(jets.p4[name]), ak.flatten(massless[name]), rtol=2e-6, atol=1e-5
        )


def test_numpy_reads_what_is_written(tmp_path):
    flat = make_flat(extras=True)
    write_jets(flat.to_awkward(("qcd", "top")), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["offsets"], flat.offsets)
        np.testing.assert_array_equal(file["p4"], np.stack(flat.p4, -1))
        np.testing.assert_array_equal(file["particle.d0"], flat.particle["d0"])
        np.testing.assert_array_equal(file["jet.run"], flat.jet["run"])
        np.testing.assert_array_equal(file["label"], flat.jet["label"])
        assert file["classes"].tolist() == ["qcd", "top"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_range_and_chunk_is_read_from_the_stream(tmp_path, flat, save):
    save(tmp_path / "a.npz", X=energyflow(flat), y=flat.jet["label"])
    whole = read_jets(tmp_path / "a.npz")
    for start, stop in ((0, 3), (50, 51), (7, 120)):
        assert_same_jets(read_jets(tmp_path / "a.npz", start=start, stop=stop), whole[start:stop])
    chunks = list(iter_jets(tmp_path / "a.npz", chunk_size=17))
    assert [len(chunk) for chunk in chunks] == [17] * 7 + [1]
    assert_same_jets(ak.concatenate(chunks), whole)


def test_column_major_arrays_are_read(tmp_path, flat):
    X = energyflow(flat)
    np.savez(tmp_path / "c.npz", X=X, y=flat.jet["label"])
    np.savez(tmp_path / "f.npz", X=np.asfortranarray(X), y=flat.jet["label"])
    assert_same_jets(read_jets(tmp_path / "f.npz"), read_jets(tmp_path / "c.npz"))


def test_big_endian_arrays_are_read(tmp_path, flat):
    X = energyflow(flat)
    np.savez(tmp_path / "c.npz", X=X, y=flat.jet["label"])
    np.savez(tmp_path / "b.npz", X=X.astype(">f8"), y=flat.jet["label"].astype(">i4"))
    assert_same_jets(read_jets(tmp_path / "b.npz"), read_jets(tmp_path / "c.npz"))


def test_pickled_arrays_are_refused(tmp_path):
    ragged = np.array([[1.0], [1.0, 2.0]], dtype=object)
    np.savez(tmp_path / "a.npz", X=ragged, y=[0, 1])
    with pytest.raises(InputError, match=r"X\.npy contains pickled Python objects"):
        read_jets(tmp_path / "a.npz")


def test_damage_is_noticed_by_the_checksum(tmp_path, flat):
    write_jets(flat.to_awkward(), tmp_path / "a.npz")
    good = (tmp_path / "a.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        members = [i for i in archive.infolist() if i.filename != "classes.npy"]
    for info in members:
        for position in np.linspace(200, info.file_size, 12).astype(int):
            bad = bytearray(good)
            bad[info.header_offset + position] ^= 1
            (tmp_path / "a.npz").write_bytes(bytes(bad))
            with pytest.raises(InputError, match=r"a\.npz: "):
                read_jets(tmp_path / "a.npz")


def test_an_encrypted_archive_is_refused(tmp_path, flat):
    np.savez(tmp_path / "a.npz", X=energyflow(flat))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 8] |= 1  # the flag in the central directory
    (tmp_path / "a.npz").write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"X\.npy is encrypted"):
        read_jets(tmp_path / "a.npz")


def test_offsets_of_our_own_are_checked(tmp_path):
    p4 = np.tile([5.0, 3.0, 0.0, 4.0], (4, 1))
    np.savez(tmp_path / "a.npz", p4=p4, offsets=[0, 3, 2, 4])
    with pytest.raises(InputError, match="'offsets' decreases at jet 1"):
        read_jets(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", p4=p4, offsets=[0, 2, 2, 4])
    with pytest.raises(InputError, match=r"no particles \(jet 1\)"):
        read_jets(tmp_path / "b.npz")


def test_four_momenta_are_not_taken_for_the_quantities_of_energyflow(tmp_path):
    flat = make_flat(num_jets=30)
    for scale in (1.0, 1e-3):  # in GeV and in TeV: then all are small
        np.savez(tmp_path / "x.npz", X=padded(flat) * scale, y=flat.jet["label"])
        with pytest.raises(InputError, match=r"X\[[023]\] is .*define the columns with a schema"):
            read_jets(tmp_path / "x.npz")
    pt, eta, phi = np.ones((3, 30, 4))
    pid = np.full((30, 4), 211.0)
    np.savez(tmp_path / "x.npz", X=np.stack([pt, eta, phi, pid], -1), y=flat.jet["label"])
    assert len(read_jets(tmp_path / "x.npz")) == 30
