from __future__ import annotations

import awkward as ak
import h5py
import numpy as np
import pytest

from pcloud.errors import InputError, UnknownNameError
from pcloud.io import JetSchema, hdf5, iter_jets, read_jets
from tests.io.conftest import assert_same_jets, make_flat, padded

X = {"E": "X[0]", "px": "X[1]", "py": "X[2]", "pz": "X[3]"}
FLAT = {"E": "part/E", "px": "part/px", "py": "part/py", "pz": "part/pz"}


def write(path, **columns):
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values
    return path


@pytest.fixture
def flat():
    return make_flat(num_jets=200)


@pytest.fixture
def flat_file(tmp_path, flat):
    """One array per quantity, and offsets, counts."""
    columns = {f"part/{n}": c for n, c in zip(("E", "px", "py", "pz"), flat.p4, strict=True)}
    return write(
        tmp_path / "flat.h5", offsets=flat.offsets, n=flat.counts, y=flat.jet["label"], **columns
    )


def test_padded_arrays_lose_their_zeros(tmp_path, flat):
    path = write(tmp_path / "a.h5", X=padded(flat), y=flat.jet["label"])
    assert_same_jets(read_jets(path, JetSchema(X, label="y")), flat)


def test_padded_arrays_with_a_mask_keep_what_it_says(tmp_path, flat):
    block = padded(flat)
    mask = block[..., 0] != 0
    block[~mask] = -999.0  # padding need not be zero where a mask tells it
    path = write(tmp_path / "a.h5", X=block, valid=mask, y=flat.jet["label"])
    assert_same_jets(read_jets(path, JetSchema(X, label="y", mask="valid")), flat)


def test_padded_arrays_with_counts_keep_the_first(tmp_path, flat):
    block = padded(flat)
    block[block[..., 0] == 0] = np.nan
    path = write(tmp_path / "a.h5", X=block, n=flat.counts, y=flat.jet["label"])
    assert_same_jets(read_jets(path, JetSchema(X, label="y", counts="n")), flat)


def test_separate_padded_arrays_without_energy_lose_their_zeros(tmp_path, flat):
    block = padded(flat)
    path = write(tmp_path / "a.h5", **{n: block[..., i + 1] for i, n in enumerate(("x", "y", "z"))})
    jets = read_jets(path, JetSchema({"px": "x", "py": "y", "pz": "z"}))
    np.testing.assert_array_equal([len(p4) for p4 in jets.p4], flat.counts)
    np.testing.assert_array_equal(np.concatenate([np.asarray(p.pz) for p in jets.p4]), flat.p4[3])


@pytest.mark.parametrize("layout", [{"offsets": "offsets"}, {"counts": "n"}])
def test_flat_arrays_are_cut_into_jets(flat_file, flat, layout):
    schema = JetSchema(FLAT, label="y", **layout)
    assert_same_jets(read_jets(flat_file, schema), flat)
    assert_same_jets(read_jets(flat_file, schema, start=31, stop=77), flat.slice(31, 77))


def test_compound_data_sets_have_a_column_per_field(tmp_path, flat):
    """The layout of flavour-tagging samples: tracks (jets, slots) and jets (jets,)."""
    block = padded(flat)
    fields = [(n, "f4") for n in ("e", "px", "py", "pz")] + [("valid", "?")]
    tracks = np.zeros(block.shape[:2], dtype=fields)
    for i, name in enumerate(("e", "px", "py", "pz")):
        tracks[name] = block[..., i]
    tracks["valid"] = tracks["e"] > 0
    jets = np.zeros(len(flat), dtype=[("flavour", "i4"), ("weight", "f4")])
    jets["flavour"] = flat.jet["label"]
    path = write(tmp_path / "a.h5", tracks=tracks, jets=jets)
    schema = JetSchema(
        {"E": "tracks/e", "px": "tracks/px", "py": "tracks/py", "pz": "tracks/pz"},
        label="jets/flavour",
        mask="tracks/valid",
    )
    assert_same_jets(read_jets(path, schema), flat)


def test_arrays_of_a_group_are_found_by_its_name(tmp_path, flat):
    path = write(tmp_path / "a.h5", **{"val/X": padded(flat), "val/y": flat.jet["label"]})
    assert_same_jets(read_jets(path, JetSchema(X, label="y", tree="val")), flat)


def test_compressed_chunks_of_any_shape_are_read(tmp_path, flat):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", data=padded(flat), chunks=(17, 200, 4), compression="gzip")
        file.create_dataset("y", data=flat.jet["label"], chunks=(23,))
    schema = JetSchema(X, label="y")
    assert_same_jets(read_jets(tmp_path / "a.h5", schema), flat)
    assert_same_jets(read_jets(tmp_path / "a.h5", schema, start=5, stop=150), flat.slice(5, 150))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offsets": lambda o: o[[0, 2, 1, *range(3, 201)]]}, "'offsets' decreases at jet 1"),
        ({"offsets": lambda o: o + 1}, "gives jets 0 to 0 the rows 1 to 1"),
        ({"offsets": lambda o: o // 2}, "gives jets 0 to 200 the rows 0 to .* particles"),
        ({"offsets": lambda o: o + 0.5}, "'offsets' must be whole numbers"),
        ({"offsets": lambda o: o[:-1]}, "'y' has shape .*expected one number for each of 199 jets"),
        ({"offsets": lambda o: o - 5}, "'offsets' is negative at jet 0"),
        ({"offsets": lambda o: o[:0]}, "'offsets' is empty"),
        ({"y": lambda y: y[:-1]}, r"'y' has shape \(199,\), expected one number for each of 200"),
        ({"part/px": lambda x: x[1:]}, r"'part/px' has shape .*, but 'part/E' \("),
        (
            {"part/E": lambda x: x.astype("S5")},
            "'part/E' cannot be read: its type, text, is not a number",
        ),
    ],
)
def test_offsets_and_lengths_that_do_not_fit_are_refused(flat_file, change, message):
    with h5py.File(flat_file, "r+") as file:
        for name, function in change.items():
            values = function(file[name][:])
            del file[name]
            file[name] = values
    with pytest.raises(InputError, match=rf"flat\.h5: .*{message}"):
        read_jets(flat_file, JetSchema(FLAT, label="y", offsets="offsets"))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (lambda n: n - 70, "'n' is negative at jet"),
        (lambda n: n + 1, "gives jets 0 to 200 the rows 0 to"),
        (lambda n: n * 1.5, "'n' must be whole numbers"),
    ],
)
def test_counts_that_do_not_fit_are_refused(flat_file, counts, message):
    with h5py.File(flat_file, "r+") as file:
        values = counts(file["n"][:])
        del file["n"]
        file["n"] = values
    with pytest.raises(InputError, match=message):
        read_jets(flat_file, JetSchema(FLAT, counts="n"))


def test_more_particles_than_slots_are_refused(tmp_path, flat):
    path = write(tmp_path / "a.h5", X=padded(flat), n=flat.counts + 190)
    with pytest.raises(InputError, match=r"'n' ranges from .* but there are 200 slots"):
        read_jets(path, JetSchema(X, counts="n"))


def test_an_absent_data_set_gets_the_nearest_name(flat_file):
    p4 = {**FLAT, "px": "part/p_x"}
    with pytest.raises(UnknownNameError, match=r"no data set named 'part/p_x' in .*'part/px'"):
        read_jets(flat_file, JetSchema(p4, offsets="offsets"))


def test_an_index_beyond_the_last_axis_is_refused(tmp_path, flat):
    path = write(tmp_path / "a.h5", X=padded(flat)[..., :3])
    with pytest.raises(InputError, match=r"'X' has shape \(200, 200, 3\), so there is no X\[3\]"):
        read_jets(path, JetSchema(X))


def test_flat_arrays_need_to_say_where_jets_start(flat_file):
    with pytest.raises(InputError, match="must define where jets start, with offsets or counts"):
        read_jets(flat_file, JetSchema(FLAT))


def test_a_mask_of_another_shape_is_refused(tmp_path, flat):
    path = write(tmp_path / "a.h5", X=padded(flat), m=np.ones((200, 3)), v=np.ones(200))
    with pytest.raises(InputError, match=r"'m' has shape \(200, 3\)"):
        read_jets(path, JetSchema(X, mask="m"))
    with pytest.raises(InputError, match="'v' must be a mask of shape"):
        read_jets(path, JetSchema(X, mask="v"))


def test_unknown_columns_list_what_there_is(flat_file):
    with pytest.raises(InputError, match=r"of no known sample .*there are: n, offsets, part/E"):
        read_jets(flat_file)


# --- what HDF5 leaves out without an error

Y = JetSchema(FLAT, offsets="offsets", label="label")


@pytest.fixture
def virtual_label(flat_file, tmp_path, flat):
    """The flat file with its label as a virtual data set, from ``source.h5``."""
    number = len(flat)
    write(tmp_path / "source.h5", y=flat.jet["label"])
    layout = h5py.VirtualLayout(shape=(number,), dtype=flat.jet["label"].dtype)
    layout[:] = h5py.VirtualSource("source.h5", "y", shape=(number,))
    with h5py.File(flat_file, "a") as file:
        file.create_virtual_dataset("label", layout)
    return flat_file


def test_a_virtual_data_set_is_read_from_its_source_and_never_as_zeros(virtual_label, flat):
    assert_same_jets(read_jets(virtual_label, Y), flat)
    source = virtual_label.parent / "source.h5"
    write(source, other=flat.jet["label"])
    with pytest.raises(InputError, match=r"'label' is virtual, .*'source\.h5' has no data set 'y'"):
        read_jets(virtual_label, Y)
    source.unlink()
    with pytest.raises(InputError, match=r"'label' is virtual, .*'source\.h5' does not exist"):
        read_jets(virtual_label, Y)


def test_rows_without_a_source_are_refused(flat_file, tmp_path, flat):
    number = len(flat)
    write(tmp_path / "source.h5", y=flat.jet["label"][:150])
    layout = h5py.VirtualLayout(shape=(number,), dtype=flat.jet["label"].dtype)
    layout[:150] = h5py.VirtualSource("source.h5", "y", shape=(150,))
    with h5py.File(flat_file, "a") as file:
        file.create_virtual_dataset("label", layout)
    with pytest.raises(InputError, match="50 of its 200 rows have no source, the first is row 150"):
        read_jets(flat_file, Y)


def test_rows_mapped_twice_do_not_stand_for_rows_without_a_source(flat_file, tmp_path, flat):
    write(tmp_path / "source.h5", y=flat.jet["label"])
    layout = h5py.VirtualLayout(shape=(200,), dtype=flat.jet["label"].dtype)
    source = h5py.VirtualSource("source.h5", "y", shape=(200,))
    layout[:150] = source[:150]
    layout[100:150] = source[150:]
    with h5py.File(flat_file, "a") as file:
        file.create_virtual_dataset("label", layout)
    with pytest.raises(InputError, match="50 of its 200 rows have no source"):
        read_jets(flat_file, Y)


def test_a_source_that_has_become_shorter_is_refused(virtual_label, flat):
    write(virtual_label.parent / "source.h5", y=flat.jet["label"][:120])
    with pytest.raises(InputError, match=r"of shape \(120,\), which is shorter than the part"):
        read_jets(virtual_label, Y)


def test_a_source_that_is_virtual_itself_is_followed(virtual_label, tmp_path, flat):
    label = flat.jet["label"]
    write(tmp_path / "first.h5", y=label)
    layout = h5py.VirtualLayout(shape=(len(flat),), dtype=label.dtype)
    layout[:] = h5py.VirtualSource("first.h5", "y", shape=(len(flat),))
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file.create_virtual_dataset("y", layout)
    assert_same_jets(read_jets(virtual_label, Y), flat)
    (tmp_path / "first.h5").unlink()
    with pytest.raises(InputError, match=r"its source 'first\.h5' does not exist"):
        read_jets(virtual_label, Y)


def test_links_that_multiply_names_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "_MAX_NAMES", 500)
    path = tmp_path / "many.h5"
    with h5py.File(path, "w") as file:
        group = file
        for _ in range(20):  # 2^20 names
            inner = group.create_group("a")
            group["b"] = inner
            group = inner
    with pytest.raises(InputError, match="more than 500 names"):
        read_jets(path)


def test_external_raw_files_must_be_there_and_whole(flat_file, tmp_path, flat):
    label = flat.jet["label"].astype(np.int64)
    (tmp_path / "label.bin").write_bytes(label.tobytes())
    raw = [(str(tmp_path / "label.bin"), 0, label.nbytes)]
    with h5py.File(flat_file, "a") as file:
        file.create_dataset("label", label.shape, label.dtype, external=raw)
    assert_same_jets(read_jets(flat_file, Y), flat)
    (tmp_path / "label.bin").write_bytes(label[:7].tobytes())
    with pytest.raises(InputError, match=r"'label' are in the file .*label\.bin'.* too short"):
        read_jets(flat_file, Y)


def test_soft_and_external_links_are_followed(flat_file, tmp_path, flat):
    path = tmp_path / "links.h5"
    with h5py.File(path, "w") as file:
        file["part"] = h5py.ExternalLink("flat.h5", "/part")
        file["offsets"] = h5py.ExternalLink("flat.h5", "/offsets")
        file["truth"] = h5py.ExternalLink("flat.h5", "/y")
        file["label"] = h5py.SoftLink("/truth")
        file["again"] = h5py.SoftLink("/")  # a group that contains itself
        file["lost"] = h5py.SoftLink("/nowhere")
    assert_same_jets(read_jets(path, Y), flat)
    with pytest.raises(
        InputError, match="'lost' cannot be read: it is a link to '/nowhere', which"
    ):
        read_jets(path, JetSchema(FLAT, offsets="offsets", label="lost"))
    flat_file.unlink()
    with pytest.raises(
        InputError, match=r"'part' .* a link to '/part' in 'flat\.h5', which does not"
    ):
        read_jets(path, Y)


def test_a_file_can_be_open_elsewhere_in_the_process(flat_file):
    schema = JetSchema(FLAT, offsets="offsets")
    with h5py.File(flat_file, "r"):
        assert len(read_jets(flat_file, schema)) == 200
    with h5py.File(flat_file, "r", locking=False):
        assert len(read_jets(flat_file, schema)) == 200
    chunks = iter_jets(flat_file, schema, chunk_size=50)
    next(chunks)
    with h5py.File(flat_file, "r") as file:
        assert "offsets" in file
    assert sum(map(len, chunks)) == 150


def test_columns_of_text_are_said_to_be_text(flat_file):
    with h5py.File(flat_file, "a") as file:
        file["names"] = ["a"] * 200
    with pytest.raises(InputError, match="'names' cannot be read: its type, text, is not a number"):
        read_jets(flat_file, JetSchema(FLAT, offsets="offsets", jet={"name": "names"}))
    with pytest.raises(InputError, match=r"the label 'names' holds words \(a\): give .* classes"):
        read_jets(flat_file, JetSchema(FLAT, offsets="offsets", label="names"))
    words = JetSchema(FLAT, offsets="offsets", label="names", classes=("b", "a"))
    assert read_jets(flat_file, words).label.to_list() == [1] * 200


@pytest.mark.parametrize("rows", [10**6, 10**9])
def test_a_data_set_that_was_never_written_takes_no_memory(tmp_path, rows):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", (rows, 30, 4), np.float32, chunks=(100, 30, 4))
        file.create_dataset("y", (rows,), np.int64, chunks=(1000,))
        file["X"][:10] = 1
    schema = JetSchema({"E": "X[0]", "px": "X[1]", "py": "X[2]", "pz": "X[3]"}, label="y")
    for on_bad_jet in ("error", "drop"):
        with pytest.raises(InputError, match=r"a\.h5: data set 'X' of shape .* but only 48,000"):
            read_jets(tmp_path / "a.h5", schema, on_bad_jet=on_bad_jet)


def test_padding_that_was_never_written_is_read_as_zeros(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("X", (2000, 2500, 4), np.float32, chunks=(1000, 100, 4))
        data[:, :3] = 1
        data[:, :3, 0] = 2
    schema = JetSchema({"E": "X[0]", "px": "X[1]", "py": "X[2]", "pz": "X[3]"})
    assert ak.all(ak.num(read_jets(tmp_path / "a.h5", schema, stop=100).p4) == 3)


def test_a_virtual_data_set_of_a_false_size_takes_no_memory(tmp_path):
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["X"] = np.ones((10, 3, 4), dtype=np.float32)
    layout = h5py.VirtualLayout((10**9, 3, 4), np.float32)
    layout[:10] = h5py.VirtualSource(tmp_path / "source.h5", "X", (10, 3, 4))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("X", layout)
    with pytest.raises(InputError, match=r"a\.h5: .*'X' of shape .* is virtual, and some"):
        read_jets(tmp_path / "a.h5", JetSchema(X))
