from __future__ import annotations

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pcloud.errors import InputError
from pcloud.io import read_jets

P4 = {"px": "px", "py": "py", "pz": "pz", "E": "E"}
PX = [[3.0, 4.0, 0.0], [5.0, 0.0, 0.0]]
E = [[5.0, 5.0, 0.0], [13.0, 0.0, 0.0]]


def write_lists(path, **columns):
    values = {"px": PX, "py": [[4.0, 3.0, 0.0], [12.0, 0.0, 0.0]], "pz": [[0.0] * 3] * 2, "E": E}
    pq.write_table(pa.table({**values, **columns}), path)
    return path


@pytest.mark.parametrize(
    ("column", "schema"),
    [
        ({"valid": [[True, True, False], [True, False, False]]}, {"mask": "valid"}),
        ({"n": [2, 1]}, {"counts": "n"}),
    ],
)
def test_padded_lists_with_a_mask_or_counts(tmp_path, column, schema):
    file = write_lists(tmp_path / "a.parquet", **column)
    assert read_jets(file, {"p4": P4, **schema}).p4.E.to_list() == [[5, 5], [13]]


def test_a_mask_may_choose_any_entries_and_none(tmp_path):
    file = write_lists(tmp_path / "a.parquet", valid=[[False, True, False], [False] * 3])
    with pytest.warns(UserWarning, match="no particles"):
        jets = read_jets(file, {"p4": P4, "mask": "valid"}, on_bad_jet="drop")
    assert jets.p4.px.to_list() == [[4]]


@pytest.mark.parametrize("counts", [[2, 4], [-1, 1]])
def test_counts_beyond_a_list_are_refused(tmp_path, counts):
    file = write_lists(tmp_path / "a.parquet", n=counts)
    with pytest.raises(InputError, match=r"'n' is (4|-1) in jet ., whose lists have 3 entries"):
        read_jets(file, {"p4": P4, "counts": "n"})


def test_slots_of_nan_are_padding_and_a_single_nan_is_not(tmp_path):
    values = {"px": PX, "py": [[4.0, 3.0, 0.0], [12.0, 0.0, 0.0]], "pz": [[0.0] * 3] * 2, "E": E}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, column in values.items():
            array = np.array(column, dtype=np.float32)
            array[np.array(E) == 0] = np.nan
            file[name] = array
    assert read_jets(tmp_path / "a.h5", {"p4": P4}).p4.E.to_list() == [[5, 5], [13]]
    massless = {name: name for name in ("px", "py", "pz")}
    assert read_jets(tmp_path / "a.h5", {"p4": massless}).p4.px.to_list() == [[3, 4], [5]]
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["E"][0, 1] = np.nan
    with pytest.raises(InputError, match=r"NaN or infinity in E \(jet 0\)"):
        read_jets(tmp_path / "a.h5", {"p4": P4})
