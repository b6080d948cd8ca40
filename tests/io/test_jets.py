from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
import torch

from pcloud.errors import InputError, UnknownNameError
from pcloud.io import FlatJets, momenta, offsets
from tests.io.conftest import make_flat


def test_awkward_and_back_changes_nothing():
    flat = make_flat(extras=True)
    back = FlatJets.from_awkward(flat.to_awkward())
    np.testing.assert_array_equal(back.offsets, flat.offsets)
    for ours, theirs in zip(back.p4, flat.p4, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert back.particle.keys() == flat.particle.keys()
    assert back.jet.keys() == flat.jet.keys()
    assert all(back.particle[n].dtype == flat.particle[n].dtype for n in flat.particle)


def test_jets_have_the_behaviour_of_vector():
    jets = make_flat().to_awkward(("qcd", "top"))
    p4 = jets.p4[0]
    np.testing.assert_allclose(p4.pt, np.hypot(p4.px, p4.py), rtol=1e-6)
    assert jets.attrs["classes"] == ["qcd", "top"]
    assert ak.sum(jets.p4, axis=1).mass.ndim == 1


def test_momenta_and_offsets_follow_a_selection_of_jets():
    flat = make_flat(num_jets=20)
    jets = flat.to_awkward()[[5, 3, 11]]
    expected = [
        np.stack([c[flat.offsets[i] : flat.offsets[i + 1]] for c in flat.p4], -1)
        for i in (5, 3, 11)
    ]
    np.testing.assert_array_equal(momenta(jets), np.concatenate(expected))
    np.testing.assert_array_equal(np.diff(offsets(jets)), [len(e) for e in expected])
    assert offsets(jets).dtype == np.int64


def test_slices_and_selections_agree_with_awkward():
    flat = make_flat(num_jets=30, extras=True)
    jets = flat.to_awkward()
    keep = np.arange(30) % 3 == 0
    assert ak.array_equal(flat.slice(7, 12).to_awkward().d0, jets.d0[7:12])
    assert ak.array_equal(flat.select(keep).to_awkward().charge, jets.charge[keep])
    joined = FlatJets.concatenate(iter([flat.slice(0, 7), flat.slice(7, 7), flat.slice(7, 30)]))
    assert ak.array_equal(joined.to_awkward().p4.E, jets.p4.E)
    assert ak.array_equal(joined.to_awkward().run, jets.run)


def test_concatenated_arrays_can_be_given_to_torch():
    flat = make_flat(num_jets=3)
    for component in flat.p4:
        component.setflags(write=False)
    joined = FlatJets.concatenate([flat])
    torch.from_numpy(joined.p4[0])  # warns, an error here, if it may not be written to


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"charge": [[1], [1, 1]]}, "and p4 have different numbers of particles"),
        ({"name": ["a", "b"]}, "must be numbers"),
        ({"weight": [1.0, None]}, "missing or irregular values"),
        ({"deep": [[[1]], [[2]]]}, "has 3 dimensions"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change, message):
    jets = make_flat(num_jets=2, max_particles=1).to_awkward()
    for name, column in change.items():
        jets[name] = column
    with pytest.raises(InputError, match=message):
        FlatJets.from_awkward(jets)


def test_jets_without_momenta_are_refused():
    with pytest.raises(UnknownNameError, match="no field named 'p4'"):
        FlatJets.from_awkward(ak.Array([{"P4": 1}]))
    with pytest.raises(UnknownNameError, match="no component named 'E'"):
        FlatJets.from_awkward(ak.Array([{"p4": [{"px": 1.0}]}]))


def test_a_false_number_of_jets_is_no_reason_to_run_out_of_memory():
    flat = make_flat(num_jets=20)
    jets = FlatJets.concatenate(iter([flat, flat]), num_jets=10**15)
    np.testing.assert_array_equal(jets.counts, np.tile(flat.counts, 2))
    np.testing.assert_array_equal(jets.p4[0], np.tile(flat.p4[0], 2))
