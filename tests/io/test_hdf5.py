from __future__ import annotations

import h5py
import numpy as np
import pytest

from pcloud.errors import InputError, UnknownNameError
from pcloud.io import JetSchema, read_jets
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
        ({"part/E": lambda x: x.astype("S5")}, "'part/E' must be numbers"),
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
