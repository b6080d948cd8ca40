from __future__ import annotations

import awkward as ak
import numpy as np

import pcloud
from pcloud.evaluation.observables import jet_observables
from pcloud.io.jets import FlatJets


def test_observables_are_those_of_vector():
    jets = pcloud.load_dataset("simulated", "test")[:50]
    p4 = ak.values_astype(jets.p4, np.float64)
    axis = ak.sum(p4, axis=1)
    found = jet_observables(FlatJets.from_awkward(ak.with_field(jets, p4, "p4")))
    expected = {
        "pt": axis.pt,
        "eta": axis.eta,
        "mass": axis.mass,
        "multiplicity": ak.num(p4),
        "width": ak.sum(p4.pt * p4.deltaR(axis), axis=1) / ak.sum(p4.pt, axis=1),
        "pt_dispersion": np.sqrt(ak.sum(p4.pt**2, axis=1)) / ak.sum(p4.pt, axis=1),
        "leading_share": ak.max(p4.pt, axis=1) / ak.sum(p4.pt, axis=1),
    }
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], ak.to_numpy(values), rtol=1e-9, err_msg=name)
