from __future__ import annotations

import awkward as ak
import numpy as np
import pytest

import pcloud
from pcloud import JetDataset
from pcloud.errors import UnknownNameError
from pcloud.io import momenta
from pcloud.uncertainty import SHIFTS, shifted


@pytest.fixture(scope="module")
def jets():
    return pcloud.load_dataset("simulated", "test")[:200]


@pytest.mark.parametrize("shift", list(SHIFTS))
def test_changed_jets_are_jets_with_the_same_labels(jets, shift):
    changed = shifted(jets, shift, seed=1)
    assert changed.label.tolist() == jets.label.tolist()
    assert changed.attrs["classes"] == jets.attrs["classes"]
    assert JetDataset(changed).x.isfinite().all()
    again = momenta(shifted(jets, shift, seed=1))
    np.testing.assert_array_equal(momenta(changed), again)


def test_each_shift_does_what_it_says(jets):
    before = momenta(jets)
    np.testing.assert_allclose(momenta(shifted(jets, "pT x 1.5")), 1.5 * before, rtol=1e-6)
    ratio = momenta(shifted(jets, "smeared 30 %")) / np.where(before == 0, 1, before)
    assert np.log(ratio[:, 0]).std() == pytest.approx(0.3, rel=0.05)
    np.testing.assert_allclose(ratio[:, 1], ratio[:, 0], rtol=1e-4)
    soft = shifted(jets, "soft pile-up")
    added = ak.num(soft.p4) - ak.num(jets.p4)
    assert np.mean(added) == pytest.approx(30, abs=1.5)
    jet = soft.p4[0]
    np.testing.assert_allclose(jet.px[: ak.num(jets.p4)[0]], jets.p4[0].px)  # the others stay
    total = ak.sum(jets.p4.px[0]), ak.sum(jets.p4.py[0])
    new = jet[ak.num(jets.p4)[0] :]
    phi = np.arctan2(new.py, new.px) - np.arctan2(total[1], total[0])
    assert np.abs((phi.to_numpy() + np.pi) % (2 * np.pi) - np.pi).max() < 0.81
    assert np.mean(np.hypot(new.px, new.py)) == pytest.approx(1, abs=0.6)


def test_an_unknown_shift_is_named(jets):
    with pytest.raises(UnknownNameError, match=r"did you mean 'pT x 1\.5'"):
        shifted(jets, "pT x 1.6")
