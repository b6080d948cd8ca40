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
    harder = momenta(shifted(jets, "pT x 1.5"))
    np.testing.assert_allclose(np.sort(harder, axis=0), np.sort(1.5 * before, axis=0), rtol=1e-6)
    soft = shifted(jets, "soft pile-up")
    added = ak.num(soft.p4) - ak.num(jets.p4)
    assert np.mean(added) == pytest.approx(30, abs=1.5)
    jet = soft.p4[0]
    is_old = np.isin(jet.px.to_numpy(), jets.p4[0].px.to_numpy())
    assert is_old.sum() == ak.num(jets.p4)[0]  # the others stay
    total = ak.sum(jets.p4.px[0]), ak.sum(jets.p4.py[0])
    new = jet[~is_old]
    phi = np.arctan2(new.py, new.px) - np.arctan2(total[1], total[0])
    assert np.abs((phi.to_numpy() + np.pi) % (2 * np.pi) - np.pi).max() < 0.81
    assert np.mean(np.hypot(new.px, new.py)) == pytest.approx(1, abs=0.6)


def test_smearing_leaves_the_mean_energy_and_the_directions():
    jets = pcloud.load_dataset("simulated", "test")[:2000]
    before, after = (
        ak.sum(j.p4.E, axis=1).to_numpy() for j in (jets, shifted(jets, "smeared 30 %"))
    )
    ratio = after / before
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / 2000**0.5
    assert ratio.mean() == pytest.approx(1, abs=0.02)  # exp(0.3 N) would give 1.046
    one = jets[:1]
    cosines = [
        np.sort((j.p4.pz / j.p4.E)[0].to_numpy()) for j in (one, shifted(one, "smeared 30 %"))
    ]
    np.testing.assert_allclose(cosines[0], cosines[1], atol=1e-5)


def test_an_unknown_shift_is_named(jets):
    with pytest.raises(UnknownNameError, match=r"did you mean 'pT x 1\.5'"):
        shifted(jets, "pT x 1.6")
