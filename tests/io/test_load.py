from __future__ import annotations

import threading

import numpy as np
import pytest

from pcloud.errors import InputError, UnknownNameError
from pcloud.io import SCHEMAS, JetSchema
from pcloud.io.detect import detect_schema
from pcloud.io.load import JetReader, _in_order
from pcloud.io.table import Ragged, Table


class Memory(Table):
    """A file that is a dict of arrays."""

    def __init__(self, **arrays):
        super().__init__("memory")
        self.arrays = arrays
        self.columns = {
            n: (len(a.offsets) - 1, None) if isinstance(a, Ragged) else a.shape
            for n, a in arrays.items()
        }

    def read_columns(self, names, start, stop):
        assert (start, stop) in ((0, 0), (0, self.columns[names[0]][0]))
        whole = {name: self.arrays[name] for name in names}
        if stop:
            return whole
        return {
            n: Ragged(np.zeros(1, int), a.content[:0]) if isinstance(a, Ragged) else a[:0]
            for n, a in whole.items()
        }

    def close(self):
        pass


def lists(values):
    counts = [len(v) for v in values]
    return Ragged(np.concatenate([[0], np.cumsum(counts)]), np.concatenate(values).astype(float))


JETCLASS = {
    "part_energy": lists([[5, 5], [13]]),
    "part_px": lists([[3, 4], [5]]),
    "part_py": lists([[4, 3], [12]]),
    "part_pz": lists([[0, 0], [0]]),
}
P4 = SCHEMAS["jetclass"].p4


def test_optional_columns_may_be_absent():
    binding = JetReader(Memory(**JETCLASS, part_charge=lists([[1, 0], [1]])), SCHEMAS["jetclass"])
    assert binding.names == ({"charge"}, set())
    ((jets, bad),) = binding.pieces(0, 2, "error")
    assert not bad
    assert jets.particle["charge"].tolist() == [1, 0, 1]


def test_columns_that_are_not_optional_may_not():
    with pytest.raises(UnknownNameError, match=r"no column named 'charg'"):
        JetReader(Memory(**JETCLASS), JetSchema(P4, particle={"charge": "charg"}))


def test_samples_are_told_by_most_of_their_columns():
    assert detect_schema(Memory(**JETCLASS)) == SCHEMAS["jetclass"]
    assert detect_schema(Memory(**JETCLASS, jet_label=np.zeros(2))) == SCHEMAS["jetclass2"]
    wide = {f"{q}_{i}": np.ones(2) for q in ("E", "PX", "PY", "PZ") for i in range(3)}
    assert detect_schema(Memory(**wide)) == SCHEMAS["landscape"]
    assert detect_schema(Memory(X=np.ones((2, 3, 4)), y=np.ones(2))) == SCHEMAS["energyflow"]


def test_almost_a_sample_names_what_is_missing():
    broken = {n: c for n, c in JETCLASS.items() if n != "part_pz"}
    with pytest.raises(UnknownNameError, match=r"no column named 'part_pz'"):
        detect_schema(Memory(**broken, part_pzz=JETCLASS["part_pz"]))


def test_nothing_alike_lists_the_columns():
    with pytest.raises(InputError, match=r"no known sample .*there are: a0, a1, .*\(20 in all\)"):
        detect_schema(Memory(**{f"a{i}": np.ones(2) for i in range(20)}))
    with pytest.raises(InputError, match="there are: none"):
        detect_schema(Memory())


def test_slots_must_be_as_many_for_all_quantities():
    wide = {f"{q}_{i}": np.ones(2) for q in ("E", "PX", "PY", "PZ") for i in range(3)}
    del wide["PY_2"]
    with pytest.raises(InputError, match=r"'PY_\{i\}' has shape \(2, 2\), but 'E_\{i\}' \(2, 3\)"):
        JetReader(Memory(**wide), SCHEMAS["landscape"])


def test_lists_need_no_offsets():
    with pytest.raises(InputError, match="'part_energy' is ragged and needs no 'n'"):
        JetReader(Memory(**JETCLASS, n=np.ones(2)), JetSchema(P4, offsets="n"))


def test_extras_in_energy_units_are_converted_and_no_others():
    table = Memory(**JETCLASS, jet_pt=np.array([5e5, 6e5]), jet_tau1=np.array([0.1, 0.2]))
    schema = JetSchema(P4, jet={"jet_pt": "jet_pt", "jet_tau1": "jet_tau1"}, unit="MeV")
    ((jets, _),) = JetReader(table, schema).pieces(0, 2, "error")
    np.testing.assert_allclose(jets.jet["jet_pt"], [500, 600])
    np.testing.assert_array_equal(jets.jet["jet_tau1"], [0.1, 0.2])
    np.testing.assert_allclose(jets.p4[0], [0.005, 0.005, 0.013])


def test_bad_jets_are_named_or_dropped():
    columns = {**JETCLASS, "part_energy": lists([[5, np.nan], [13]])}
    binding = JetReader(Memory(**columns), JetSchema(P4))
    with pytest.raises(
        InputError, match=r"NaN or infinity in part_energy \(jet 0\); on_bad_jet='drop'"
    ):
        list(binding.pieces(0, 2, "error"))
    ((jets, bad),) = binding.pieces(0, 2, "drop")
    assert jets.p4[1].tolist() == [5]
    assert {reason: index.tolist() for reason, index in bad.items()} == {
        "NaN or infinity in part_energy": [0]
    }


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_pieces_come_in_order_from_any_number_of_threads(threads):
    found = list(_in_order(threads, lambda a, b: (a, b), [(i, i + 1) for i in range(20)]))
    assert found == [(i, i + 1) for i in range(20)]


def test_threads_end_with_the_iteration():
    before = threading.active_count()
    pieces = _in_order(2, lambda a, b: a, ((i, i) for i in range(1000)))
    next(pieces)
    pieces.close()
    assert threading.active_count() == before


def test_an_error_in_a_thread_reaches_the_caller():
    def load(a, b):
        if a == 3:
            raise InputError("piece 3")
        return a

    pieces = _in_order(2, load, ((i, i) for i in range(1000)))
    with pytest.raises(InputError, match="piece 3"):
        list(pieces)
